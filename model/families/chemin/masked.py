"""Chemin, masked: recovers hidden points from the known ones on both sides.

The causal family's embedding, positions and blocks, with attention in both directions: what is
hidden is told by its place in the row, by its time where that is shown, and by what lies around it.
The heads are p(time) and p(place | time), so the same weights recover points with and without
their timestamps. A target without a known point on each side is not scored: for what lies ahead
there is the causal family.

Shapes: B windows, T points, N scored points, D model width, C coordinates (east, north).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...earth.geometry import step_between, step_from
from ...features.normaliser import Normaliser
from ...interface.answers import Recovered, mean_hidden_state
from ...interface.batch import Batch, first_of_sequence, index_of
from ...interface.contexts import Context
from ...interface.family import Family
from ...interface.masked_input import MaskedInput, masked_input_of
from ...interface.masking import (
    Draw,
    Loss,
    Mask,
    dimensions,
    judged_or,
    places_of_middles,
    random_points,
    segments,
    shares_of,
)
from ...layers.attention_masks import bidirectional_mask
from .gap import (
    NUM_SPATIAL,
    NUM_TEMPORAL,
    Gap,
    PlaceBetweenHead,
    TimeBetweenHead,
    features_between,
    gap_around,
    log_odds_of,
    time_s_of,
)
from .network import PRESETS, CheminConfig, PointEncoder


class MaskedChemin(PointEncoder):
    """The network: `encode` reads what is shown, `loss` scores and `recover` fills what is not."""

    family = "masked_chemin"

    def __init__(self, config: CheminConfig, normaliser: Normaliser) -> None:
        if config.inputs != "kinematic":
            raise ValueError(f"masked_chemin has no {config.inputs} inputs")
        super().__init__(config, normaliser, NUM_SPATIAL, NUM_TEMPORAL)
        width, num_components = config.width, config.num_components
        self.time_head = TimeBetweenHead(width, num_components)
        self.place_head = PlaceBetweenHead(width, num_components, normaliser, config.has_tails)

    def encode(self, shown: MaskedInput) -> tuple[Tensor, Gap]:
        """Hidden state (B, T, D) of each point, and the gap that it lies in."""
        gap = gap_around(shown, self.normaliser)
        spatial_BTS, temporal_BTU = features_between(shown, gap, self.normaliser)
        index_BT = index_of(shown.is_pad_BT)
        place_BT = index_BT - first_of_sequence(index_BT, shown.sequence_BT)
        x_BTD = self.embedded(spatial_BTS, temporal_BTU, place_BT)
        mask_BTT = bidirectional_mask(~shown.is_pad_BT, shown.sequence_BT)
        return self.transformer(x_BTD, index_BT, mask_BTT), gap

    def loss(self, batch: Batch) -> Loss:
        """Loss of what is hidden of the targets, given all that is shown.

        A hidden time costs its surprise in nats of the log-odds; a place, given its time, costs its
        surprise in nats of metres and `mean_weight` times the miss of the mean. It is a mean over
        the targets of each window, as recovery is judged: a short gap counts as much as a wide one.
        """
        shown = masked_input_of(batch)
        hidden_BTD, gap = self.encode(shown)
        asks_time_BT, asks_place_BT = imputation_targets(shown, gap)
        asked_BT = asks_time_BT | asks_place_BT
        share_BT = shares_of(asked_BT, shown.sequence_BT)
        ahead = gap.at(asks_time_BT)
        log_odds_N = log_odds_of(batch.time_s_BT[asks_time_BT], ahead).float()
        time = self.time_head(hidden_BTD[asks_time_BT], ahead)
        ahead = gap.at(asks_place_BT)
        place = self.place_head(hidden_BTD[asks_place_BT], ahead, batch.time_s_BT[asks_place_BT])
        ends = batch.lon_deg_BT[asks_place_BT], batch.lat_deg_BT[asks_place_BT]
        step_m_NC = torch.stack(step_between(ahead.lon_deg_BT, ahead.lat_deg_BT, *ends), -1).float()
        share_N = share_BT[asks_place_BT]
        parts = {
            "time_nll": -(time.log_density(log_odds_N) * share_BT[asks_time_BT]).sum(),
            "place_nll": -(place.log_density(step_m_NC) * share_N).sum(),
            "miss": (place.miss(step_m_NC) * share_N).sum(),
        }
        return Loss.of(share_BT.sum().round().long(), parts, miss=self.config.mean_weight)

    def recover(self, batch: Batch) -> Recovered:
        """The batch with what is hidden filled in: median times, and mean places given these."""
        shown = masked_input_of(batch)
        hidden_BTD, gap = self.encode(shown)
        asks_time_BT, asks_place_BT = imputation_targets(shown, gap)
        time_s_BT, lon_deg_BT, lat_deg_BT = (
            value_BT.clone() for value_BT in (shown.time_s_BT, shown.lon_deg_BT, shown.lat_deg_BT)
        )
        ahead = gap.at(asks_time_BT)
        log_odds_N = self.time_head(hidden_BTD[asks_time_BT], ahead).median().double()
        time_s_BT[asks_time_BT] = time_s_of(log_odds_N, ahead)
        ahead = gap.at(asks_place_BT)
        place = self.place_head(hidden_BTD[asks_place_BT], ahead, time_s_BT[asks_place_BT])
        lon_deg_BT[asks_place_BT], lat_deg_BT[asks_place_BT] = step_from(
            ahead.lon_deg_BT, ahead.lat_deg_BT, *place.mean().double().unbind(-1)
        )
        return Recovered(lon_deg_BT, lat_deg_BT, time_s_BT, asks_time_BT | asks_place_BT)

    def embed(self, context: Context) -> Tensor:
        """The mean hidden state (B, D) of the points of each trajectory, all of them shown."""
        hidden_BTD, _ = self.encode(masked_input_of(context.batch()))
        return mean_hidden_state(hidden_BTD, context.is_pad_BT)


def imputation_targets(shown: MaskedInput, gap: Gap) -> tuple[Tensor, Tensor]:
    """Points (B, T) whose time, and whose place, is asked for.

    Where the time alone is hidden the place is given. A target that shows all is asked for its
    place: what stands there may be another's.
    """
    is_asked_BT = shown.is_asked_BT & gap.has_both_BT
    asks_time_BT = is_asked_BT & ~shown.shows_time_BT
    return asks_time_BT, is_asked_BT & ~(asks_time_BT & shown.shows_place_BT)


# Beside blocks and sparse points as they are judged.
OTHERS: tuple[Draw, ...] = (segments, random_points, dimensions, places_of_middles)


def any_recovery(generator: np.random.Generator, num_points: int) -> Mask:
    """The mask of a gap as it is judged, or one of the others."""
    return judged_or(OTHERS, generator, num_points)


FAMILY = Family(MaskedChemin, CheminConfig, PRESETS, ("recover", "embed"), any_recovery)
