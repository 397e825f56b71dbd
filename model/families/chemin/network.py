"""Chemin: the educational family, a causal transformer over points that predicts the next step.

Linear projections of spatial and temporal features side by side, sinusoidal positions, pre-norm
blocks, and two heads: p(log dt) and p(east, north | dt). After CheminTF by Merten, Sakr and
Dejaegere, with metres instead of degrees, no statistics of the batch, and densities instead of a
squared error. With plain inputs it reads longitude, latitude and calendar instead of motion, as
`plain.py` says.

Shapes: B windows, T points, Q queried points, D model width, L lags, C coordinates (east, north),
S spatial and M temporal features, K calendar features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ...features.normaliser import MIN_STEP_S, Normaliser
from ...features.point_features import NUM_SPATIAL, NUM_TEMPORAL, point_features
from ...interface.answers import mean_hidden_state
from ...interface.batch import Batch, first_of_sequence, index_of, scored_targets
from ...interface.contexts import Context
from ...interface.family import Family, Model
from ...interface.masking import Loss
from ...layers.attention_masks import causal_mask
from ...layers.heads import DurationHead, StepHead
from ...layers.position_encodings import sinusoidal_positions
from ...layers.transformer import KeyValueCache, Transformer, check_shape
from . import plain
from .rollout import rolled_out

Inputs = Literal["kinematic", "plain"]


@dataclass(frozen=True)
class CheminConfig:
    """Shape of the network and weight of its second loss.

    `max_points` is the longest window it is trained on. `mean_weight` scales the distance from the
    mean step to the truth, in units of the reach, beside the negative log-likelihood: forecasts
    roll out that mean and are judged by its distance. `has_tails` gives steps Student's densities.
    `inputs` are what the causal family sees of points: their motion, or plain places and instants.
    """

    width: int = 96
    num_layers: int = 2
    num_heads: int = 4
    num_components: int = 4
    max_points: int = 64
    dropout: float = 0.0
    mean_weight: float = 5.0
    has_tails: bool = False
    inputs: Inputs = "kinematic"

    def __post_init__(self) -> None:
        check_shape(self, num_components=1, max_points=4, mean_weight=0)
        if self.inputs not in get_args(Inputs):
            raise ValueError(f"inputs must be one of: {', '.join(get_args(Inputs))}")


PRESETS: Mapping[str, CheminConfig] = {
    "tiny": CheminConfig(width=32, num_layers=1, num_heads=2),
    "small": CheminConfig(),
}


class PointEncoder(Model):
    """Embedding, positions and blocks, which the masked family shares."""

    position_ND: Tensor

    def __init__(
        self, config: CheminConfig, normaliser: Normaliser, num_spatial: int, num_temporal: int
    ) -> None:
        super().__init__(config, normaliser)
        width = config.width
        self.spatial = nn.Linear(num_spatial, width // 2)
        self.temporal = nn.Linear(num_temporal, width - width // 2)
        table_ND = sinusoidal_positions(config.max_points, width)
        self.register_buffer("position_ND", table_ND, persistent=False)
        self.transformer = Transformer(width, config.num_layers, config.num_heads, config.dropout)

    def embedded(self, spatial_BQS: Tensor, temporal_BQM: Tensor, place_BQ: Tensor) -> Tensor:
        """Points (B, Q, D) as the blocks read them, from their features and places in the window.

        Past the longest window of training a point counts as the last of one.
        """
        kind = self.spatial.weight.dtype
        parts = [self.spatial(spatial_BQS.to(kind)), self.temporal(temporal_BQM.to(kind))]
        longest = self.config.max_points
        return torch.cat(parts, dim=-1) + self.position_ND[place_BQ.clamp(max=longest - 1)]


class Chemin(PointEncoder):
    """The network: `encode` reads points, the heads say what comes next, `loss` scores them."""

    family = "chemin"

    def __init__(self, config: CheminConfig, normaliser: Normaliser) -> None:
        is_plain = config.inputs == "plain"
        sizes = (plain.NUM_SPATIAL, plain.NUM_TEMPORAL) if is_plain else (NUM_SPATIAL, NUM_TEMPORAL)
        super().__init__(config, normaliser, *sizes)
        self.plain = plain.PlainInputs(normaliser) if is_plain else None
        width, num_components = config.width, config.num_components
        self.duration_head = DurationHead(width, num_components, normaliser)
        self.step_head = StepHead(width, num_components, normaliser, config.has_tails)

    def fit_inputs(self, batches: Iterable[Batch]) -> None:
        if self.plain is not None:
            self.plain.fit(batches)

    def encode(
        self,
        lon_deg_BT: Tensor,
        lat_deg_BT: Tensor,
        time_s_BT: Tensor,
        calendar_BQK: Tensor,
        index_BQ: Tensor,
        sequence_BT: Tensor | None = None,
        caches: list[KeyValueCache] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden state (B, Q, D) and recent velocities (B, Q, L, C) of points, from their past."""
        first_BQ = first_of_sequence(index_BQ, sequence_BT)
        if self.plain is not None:
            seen = self.plain(lon_deg_BT, lat_deg_BT, calendar_BQK, index_BQ)
        else:
            seen = point_features(
                lon_deg_BT, lat_deg_BT, time_s_BT, calendar_BQK, index_BQ, first_BQ, self.normaliser
            )
        x_BQD = self.embedded(seen.spatial_BQS, seen.temporal_BQM, index_BQ - first_BQ)
        mask_BQT = causal_mask(sequence_BT) if caches is None else None
        hidden_BQD = self.transformer(x_BQD, index_BQ, mask_BQT, caches)
        return hidden_BQD, seen.velocity_mps_BQLC

    def loss(self, batch: Batch) -> Loss:
        """Loss of the targets, each given the points before it.

        Negative log-likelihood in nats a point, plus `mean_weight` times the miss
        of the mean step; `parts` holds the three sums unweighted.
        """
        hidden_BTD, velocity_BTLC = self._read(batch)
        is_scored_BT = scored_targets(batch)
        hidden_ND, velocity_NLC = (
            before[:, :-1][is_scored_BT[:, 1:]] for before in (hidden_BTD, velocity_BTLC)
        )
        step_NF = batch.step_BTF[is_scored_BT]
        step_m_NC, step_s_N = step_NF[:, :2], step_NF[:, 2]
        duration = self.duration_head(hidden_ND)
        step = self.step_head(hidden_ND, velocity_NLC, step_s_N)
        duration_nll = -duration.log_density(torch.log(step_s_N + MIN_STEP_S)).sum()
        step_nll = -step.log_density(step_m_NC).sum()
        miss = step.miss(step_m_NC).sum()
        parts = {"duration_nll": duration_nll, "step_nll": step_nll, "miss": miss}
        return Loss.of(is_scored_BT.sum(), parts, miss=self.config.mean_weight)

    forecast = rolled_out  # one step at a time

    def embed(self, context: Context) -> Tensor:
        """The mean hidden state (B, D) of the points of each trajectory."""
        hidden_BTD, _ = self._read(context.batch())
        return mean_hidden_state(hidden_BTD, context.is_pad_BT)

    def score(self, context: Context) -> Tensor:
        """Mean surprise (B) of a step given those before it, in nats; NaN where there is none."""
        batch = context.batch()
        hidden_BTD, velocity_BTLC = self._read(batch)
        step_BTF, has_step_BT = batch.step_BTF[:, 1:], ~batch.is_pad_BT[:, 1:]
        duration = self.duration_head(hidden_BTD[:, :-1])
        step = self.step_head(hidden_BTD[:, :-1], velocity_BTLC[:, :-1], step_BTF[..., 2])
        surprise_BT = -duration.log_density(torch.log(step_BTF[..., 2] + MIN_STEP_S))
        surprise_BT = surprise_BT - step.log_density(step_BTF[..., :2])
        num_steps_B = has_step_BT.sum(1).double()
        total_B = torch.where(has_step_BT, surprise_BT, 0.0).double().sum(1)
        return total_B / num_steps_B.where(num_steps_B > 0, torch.nan)

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`encode` of whole sequences; a point that may not be read is zero."""
        is_readable_BT = batch.is_observed_BT & ~batch.is_pad_BT
        lon_deg_BT, lat_deg_BT, time_s_BT = (
            value_BT.masked_fill(~is_readable_BT, 0)
            for value_BT in (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT)
        )
        calendar_BTK = batch.calendar_BTK.masked_fill(~is_readable_BT.unsqueeze(-1), 0)
        index_BT = index_of(is_readable_BT)
        return self.encode(
            lon_deg_BT, lat_deg_BT, time_s_BT, calendar_BTK, index_BT, batch.sequence_BT
        )


FAMILY = Family(Chemin, CheminConfig, PRESETS, ("forecast", "embed", "score"))
