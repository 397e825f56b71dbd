"""TrajFM: one model for many tasks, each a way of hiding; after Lin et al. 2024.

A point is the sum of its modalities, place and time, each told as learnable waves (`waves.py`) of
where it lies relative to the window, and marked as shown or hidden. Attention reads both
directions, with its heads turned by east, north and time. A hidden place has nothing to tell, so no
other point reads it: a forecast of ten steps begins with the forecast of five. What is hidden
enters nowhere: waves and turns use a guess from what is shown. The heads are p(time) and p(place |
time), mixtures, so the same weights forecast, recover and tell travel times, with and without
timestamps.

Shapes: B windows, T points, N scored points, D model width, M mixture components, P pairs of a
head, S samples, H points of the horizon, C coordinates (east, north), W ways to move on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...earth.geometry import step_between, step_from
from ...features.normaliser import Normaliser
from ...interface.answers import Durations, Forecast, Recovered, mean_hidden_state
from ...interface.asked_journeys import asked_journeys
from ...interface.batch import Batch, first_of_sequence, index_of
from ...interface.contexts import Context, Partial
from ...interface.family import Family, Model
from ...interface.journey_rows import JourneyRows
from ...interface.masked_input import MaskedInput, masked_input_of
from ...interface.masking import Loss, any_task, mixed, shares_of
from ...layers.attention_masks import bidirectional_mask
from ...layers.distributions import Noise, StepMixture, told_number, told_step_m
from ...layers.position_encodings import angles_of, sinusoidal_positions
from ...layers.transformer import Transformer
from .config import PRESETS, TrajFmConfig
from .journeys import DurationDensity, UsualDuration, drawn_views, shown_of
from .motion_candidates import (
    PlaceHead,
    TimeHead,
    ascending,
    code_of_time,
    time_of_code,
    ways_of,
)
from .surroundings import (
    NUM_AROUND,
    InitialGuess,
    Surroundings,
    features_around,
    guess_of,
    surroundings_of,
)
from .waves import clock_waves, num_clock_waves, place_waves, time_waves, turns_of


class TrajFm(Model):
    """The network: `encode` reads what is shown, the heads tell what is hidden, `loss` scores."""

    family = "trajfm"
    position_ND: Tensor
    frequency_CP: Tensor
    log_faster_P: Tensor

    def __init__(self, config: TrajFmConfig, normaliser: Normaliser) -> None:
        super().__init__(config, normaliser)
        width = config.width
        self.place_waves, self.time_waves = place_waves(config), time_waves(config)
        self.place = nn.Linear(2 * config.num_waves, width)
        self.time = nn.Linear(config.num_waves + num_clock_waves(config), width)
        self.kind = nn.Parameter(0.1 * torch.randn(2, 2, width))  # (place, time) by (hidden, shown)
        self.usual = UsualDuration(normaliser)
        self.whole = nn.Parameter(torch.zeros(width))  # of journeys that are no parts of one
        self.surroundings = nn.Linear(NUM_AROUND, width)
        table_ND = sinusoidal_positions(config.max_points, width)
        self.register_buffer("position_ND", table_ND, persistent=False)
        frequency_CP = turns_of(config, normaliser)
        self.register_buffer("frequency_CP", frequency_CP, persistent=False)
        log_faster_P = torch.zeros(frequency_CP.shape[1])
        if config.learns_turns:
            self.log_faster_P = nn.Parameter(log_faster_P)
        else:
            self.register_buffer("log_faster_P", log_faster_P, persistent=False)
        self.transformer = Transformer(width, config.num_layers, config.num_heads, config.dropout)
        self.time_head = TimeHead(width, config.num_components, normaliser)
        self.place_head = PlaceHead(width, config.num_components, config.has_tails)

    def fit_inputs(self, batches: Iterable[Batch]) -> None:
        """How the durations of journeys go with their lengths."""
        self.usual.fit([one.journeys for one in batches if one.journeys is not None])

    def encode(self, shown: MaskedInput) -> tuple[Tensor, Surroundings]:
        """Hidden state (B, T, D) of each point, and what lies around it."""
        guess = guess_of(shown, self.normaliser)
        near = surroundings_of(shown, guess, self.normaliser)
        index_BT = index_of(shown.is_pad_BT)
        place_BT = index_BT - first_of_sequence(index_BT, shown.sequence_BT)
        x_BTD = torch.stack(self.modalities(shown, guess)).sum(0)
        x_BTD = x_BTD + self.surroundings(features_around(shown, near, guess, self.normaliser))
        x_BTD = x_BTD + self.position_ND[place_BT.clamp(max=self.config.max_points - 1)]
        is_readable_BT = shown.shows_place_BT & ~shown.is_pad_BT
        mask_BTT = bidirectional_mask(is_readable_BT, shown.sequence_BT)
        where_BTC = torch.cat([guess.place_m_BTC, guess.time_s_BT.unsqueeze(-1)], dim=-1)
        turns_CP = self.frequency_CP * self.log_faster_P.double().exp()
        angle_BTP = angles_of(where_BTC, turns_CP)
        return self.transformer(x_BTD, index_BT, mask_BTT, angle_BQP=angle_BTP), near

    def modalities(self, shown: MaskedInput, guess: InitialGuess) -> list[Tensor]:
        """What each modality adds to a point, (B, T, D) each; another would stand here too."""
        kind = self.kind.dtype
        place_BTC = (guess.place_m_BTC / self.normaliser.extent_scale_m).to(kind)
        time_BT1 = (guess.time_s_BT / self.normaliser.typical_step_s).to(kind).unsqueeze(-1)
        clock_BTV = clock_waves(shown.calendar_BTK.to(kind), self.config)
        waves_BTV = torch.cat([self.time_waves(time_BT1), clock_BTV], dim=-1)
        return [
            self.place(self.place_waves(place_BTC)) + self.kind[0][shown.shows_place_BT.long()],
            self.time(waves_BTV) + self.kind[1][shown.shows_time_BT.long()],
        ]

    # ------------------------------------------------------------------ training

    def loss(self, batch: Batch) -> Loss:
        """Loss of what is hidden of the targets, given all that is shown.

        A hidden time costs its surprise in nats of a log-odds or of a log second, a place, given
        its time, that in nats of metres and `mean_weight` times the miss of the mean. All windows
        count alike, however many points of them are hidden. The mean surprise of the journeys
        beside them counts `journey_weight` times as much.
        """
        told = {"points": self._loss(batch), "journeys": self._journey_loss(batch.journeys)}
        return mixed(told, journeys=self.config.journey_weight)

    def _journey_loss(self, journeys: JourneyRows | None) -> Loss:
        """Surprise of how long journeys take, half of them told by their ends alone."""
        if journeys is None:
            nothing = self.kind.new_zeros(())
            return Loss.of(nothing.long(), {"journey_nll": nothing})
        total, views = self.kind.new_zeros(()), drawn_views(journeys)
        for view in views:
            density = self._journey_density(view)
            total = total - density.log_density_of_code(view.duration_s_BG[:, 0]).sum()
        count = torch.tensor(sum(len(view.duration_s_BG) for view in views), device=total.device)
        return Loss.of(count, {"journey_nll": total})

    def _journey_density(self, journeys: JourneyRows) -> DurationDensity:
        """Of flat journeys."""
        shown = shown_of(journeys)
        hidden_BTD, near = self.encode(shown)
        is_whole_N1 = journeys.is_whole_BG.to(hidden_BTD)
        state_ND = hidden_BTD[shown.is_asked_BT] + is_whole_N1 * self.whole
        ahead = near.at(shown.is_asked_BT)
        return DurationDensity(self.time_head(state_ND, ahead, self.usual(journeys)))

    def _loss(self, batch: Batch) -> Loss:
        shown = masked_input_of(batch)
        hidden_BTD, near = self.encode(shown)
        asks_time_BT, asks_place_BT = answerable_targets(shown, near)
        share_BT = shares_of(asks_time_BT | asks_place_BT, shown.sequence_BT)
        time_N = self.log_density_of_time(batch, hidden_BTD, near, asks_time_BT)
        place = self.place_at(hidden_BTD, near, asks_place_BT, batch.time_s_BT)
        step_m_NC, share_N = self._step_m(batch, near, asks_place_BT), share_BT[asks_place_BT]
        parts = {
            "time_nll": -(time_N * share_BT[asks_time_BT]).sum(),
            "place_nll": -(place.log_density(step_m_NC) * share_N).sum(),
            "miss": (place.miss(step_m_NC) * share_N).sum(),
        }
        return Loss.of(share_BT.sum().round().long(), parts, miss=self.config.mean_weight)

    def _step_m(self, batch: Batch, near: Surroundings, is_asked_BT: Tensor) -> Tensor:
        """The true step (N, C) from the anchor to each asked point."""
        starts = near.lon_deg_BT[is_asked_BT], near.lat_deg_BT[is_asked_BT]
        ends = batch.lon_deg_BT[is_asked_BT], batch.lat_deg_BT[is_asked_BT]
        return torch.stack(step_between(*starts, *ends), dim=-1).float()

    def log_density_of_time(
        self, batch: Batch, hidden_BTD: Tensor, near: Surroundings, is_asked_BT: Tensor
    ) -> Tensor:
        """Of the true times of the asked points, (N)."""
        ahead = near.at(is_asked_BT)
        time_s_N = batch.time_s_BT[is_asked_BT] - ahead.started_s_BT
        density = self.time_head(hidden_BTD[is_asked_BT], ahead)
        return density.log_density(code_of_time(time_s_N, ahead).float())

    def place_at(
        self, hidden_BTD: Tensor, near: Surroundings, is_asked_BT: Tensor, time_s_BT: Tensor
    ) -> StepMixture:
        """p(place) of the asked points (N), given their times."""
        ahead = near.at(is_asked_BT)
        time_s_N = time_s_BT[is_asked_BT] - ahead.started_s_BT
        return self.place_head(hidden_BTD[is_asked_BT], ways_of(ahead, time_s_N, self.normaliser))

    # ------------------------------------------------------------------ tasks

    def recover(self, batch: Batch) -> Recovered:
        """The batch with what is hidden filled in: median times, and mean places given these."""
        return next(self.filled(masked_input_of(batch), Noise.shared(0, 0)))

    def filled(self, shown: MaskedInput, noises: Noise) -> Iterator[Recovered]:
        """The medians and means of what is hidden, then a sample of it for each of the draws."""
        hidden_BTD, near = self.encode(shown)
        asks_time_BT, asks_place_BT = answerable_targets(shown, near)
        ahead, around_place = near.at(asks_time_BT), near.at(asks_place_BT)
        time = self.time_head(hidden_BTD[asks_time_BT], ahead)
        is_timed = not bool(asks_time_BT.any())
        place = None
        for number in range(-1, len(noises.uniform_SHE)):
            noise = None if number < 0 else noises.at(slice(number, number + 1))
            time_s_BT, lon_deg_BT, lat_deg_BT = (
                value.clone() for value in (shown.time_s_BT, shown.lon_deg_BT, shown.lat_deg_BT)
            )
            code_N = told_number(time, noise).double()
            time_s_BT[asks_time_BT] = time_of_code(code_N, ahead) + ahead.started_s_BT
            time_s_BT = ascending(time_s_BT, asks_time_BT, shown)
            if place is None or not is_timed:
                place = self.place_at(hidden_BTD, near, asks_place_BT, time_s_BT)
            step_m_NC = told_step_m(place, noise).double()
            lon_deg_BT[asks_place_BT], lat_deg_BT[asks_place_BT] = step_from(
                around_place.lon_deg_BT, around_place.lat_deg_BT, *step_m_NC.unbind(-1)
            )
            yield Recovered(lon_deg_BT, lat_deg_BT, time_s_BT, asks_time_BT | asks_place_BT)

    def forecast(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        num_samples: int,
        seed: int,
    ) -> Forecast:
        """The points that follow each context, all in one pass; half the window is context.

        The points of one sample share their draws: each is a smooth path that keeps to its side.
        """
        kept = context.latest(self.config.max_points // 2)
        ahead_H = torch.arange(num_horizon, device=kept.is_pad_BT.device)
        slot_BH = kept.num_points_B.unsqueeze(1) + ahead_H
        noises = Noise.shared(num_samples, seed)
        shown = masked_input_of(Partial.of(kept, num_horizon, target_time_s_BH).batch())
        told = [
            (one.lon_deg_BT, one.lat_deg_BT, one.time_s_BT) for one in self.filled(shown, noises)
        ]
        return Forecast.of(
            [
                torch.stack([value_BT.gather(1, slot_BH) for value_BT in values], dim=1)
                for values in zip(*told, strict=True)
            ]
        )

    def travel_time(self, partial: Partial) -> Durations:
        """Seconds from the first point to the last, whose place is known and whose time is not."""
        density = self.duration_density(partial)
        return Durations(*(density.quantile(share) for share in (0.5, 0.1, 0.9)))

    def duration_density(self, partial: Partial) -> DurationDensity:
        """The density of the same."""
        return self._journey_density(asked_journeys(partial).flat())

    def embed(self, context: Context) -> Tensor:
        """The mean hidden state (B, D) of the points of each trajectory."""
        hidden_BTD, _ = self.encode(masked_input_of(context.batch()))
        return mean_hidden_state(hidden_BTD, context.is_pad_BT)

    def score(self, context: Context) -> Tensor:
        """Mean surprise (B) of a step, each told from the points before it: nats, as in chemin.

        Each point is hidden once, behind its own past alone; NaN where there is no step.
        """
        count_B, total_B = context.num_points_B, torch.zeros(len(context.started_us_B)).double()
        for end in range(1, context.is_pad_BT.shape[1]):
            is_row_B = count_B > end
            past = context.at(is_row_B).part(0, None, end + 1)
            total_B[is_row_B] += self._surprise_of_last(past.latest(self.config.max_points))
        return total_B / (count_B - 1).double().where(count_B > 1, torch.nan)

    def _surprise_of_last(self, context: Context) -> Tensor:
        truth = context.batch()
        hides_BT = torch.zeros_like(truth.is_pad_BT)
        hides_BT[:, -1] = True
        shows: dict[str, Any] = {"shows_place_BT": ~hides_BT, "shows_time_BT": ~hides_BT}
        batch = replace(truth, **shows, is_target_BT=hides_BT)
        hidden_BTD, near = self.encode(masked_input_of(batch))
        time_B = self.log_density_of_time(batch, hidden_BTD, near, hides_BT)
        place = self.place_at(hidden_BTD, near, hides_BT, batch.time_s_BT)
        return -(time_B + place.log_density(self._step_m(batch, near, hides_BT))).double()


def answerable_targets(shown: MaskedInput, near: Surroundings) -> tuple[Tensor, Tensor]:
    """Points (B, T) whose time, and whose place, is asked for and can be told.

    A time needs a known one before it, a place a known one on either side. A target that shows all
    is asked for its place: what stands there may be another's.
    """
    asks_time_BT = shown.is_asked_BT & ~shown.shows_time_BT
    can_tell_time_BT = near.before.num_clock_BT > 0
    asks_place_BT = shown.is_asked_BT & ~(asks_time_BT & shown.shows_place_BT) & near.has_place_BT
    is_timed_BT = shown.shows_time_BT | can_tell_time_BT
    return asks_time_BT & can_tell_time_BT, asks_place_BT & is_timed_BT


FAMILY = Family(
    TrajFm,
    TrajFmConfig,
    PRESETS,
    ("forecast", "recover", "travel_time", "embed", "score"),
    any_task,
    learns_journeys=True,
)
