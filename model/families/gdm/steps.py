"""Steps of a window as a diffusion sees them: codes of unit variance, and what of them is known.

A step is three numbers: metres east and north from the point before, and its place on the clock.
It is known where both of its ends show what it tells. Of one that is hidden the points around tell
something nevertheless: the way between two known places is gone somehow, so the first guess of a
step between them is its even share; of one that nothing follows, it is the mean step of train.

Shapes: B windows, T points, F numbers of a step, C coordinates (east, north), U features, W ways.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.calendar import NUM_CALENDAR
from ...earth.columns import Columns
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...features.point_features import step_m_between, steps_of
from ...interface.batch import Batch, first_of_sequence, index_of
from ...interface.masked_input import MaskedInput, neighbours
from .clock import Clock
from .diffusion import shares_at
from .ways import Span, ways_m

NUM_STEP = 3
NUM_AROUND = 9 + NUM_CALENDAR
MIN_SPREAD_M, MIN_SPREAD = 0.1, 0.01  # of steps that are all alike: of ways, of deviates
LINEAR = 8.0  # deviations: inputs far beyond them are compressed

logger = logging.getLogger(__name__)


class StepCode(nn.Module):
    """Steps as numbers of mean 0 and variance 1 over the steps of train, and back.

    Mean and deviation are kept with the weights; before they are fitted, typical sizes stand in.
    """

    center_F: Tensor
    spread_F: Tensor

    def __init__(self, normaliser: Normaliser) -> None:
        super().__init__()
        extent_m = normaliser.extent_scale_m
        self.clock = Clock(normaliser.log_step_center, normaliser.log_step_scale)
        self.register_buffer("center_F", torch.zeros(NUM_STEP, dtype=torch.float64))
        self.register_buffer("spread_F", torch.tensor([extent_m, extent_m, 1.0]).double())

    def fit(self, step_NF: Tensor) -> None:
        """Take clock, mean and deviation of train; the variance that comes of it is logged."""
        self.clock.fit(_log_s(step_NF.double()))
        raw_NF = self._raw(step_NF)
        least_F = raw_NF.new_tensor([MIN_SPREAD_M, MIN_SPREAD_M, MIN_SPREAD])
        self.center_F.copy_(raw_NF.mean(0))
        self.spread_F.copy_(torch.maximum(raw_NF.std(0, correction=0), least_F))
        variance = self.encode(step_NF).var(0, correction=0).tolist()
        logger.info("variance of steps: east %.3f, north %.3f, clock %.3f", *variance)

    def encode(self, step_BTF: Tensor) -> Tensor:
        """Codes, in float64, of metres and seconds."""
        return (self._raw(step_BTF) - self.center_F) / self.spread_F

    def decode(self, code_BTF: Tensor) -> Tensor:
        """The inverse of `encode`; no step goes back in time."""
        raw_BTF = code_BTF.double() * self.spread_F + self.center_F
        log_s_BT1 = self.clock.log_seconds(raw_BTF[..., 2:])
        return torch.cat([raw_BTF[..., :2], (log_s_BT1.exp() - MIN_STEP_S).clamp(min=0)], dim=-1)

    def _raw(self, step_BTF: Tensor) -> Tensor:
        """Metres, and the deviate of the seconds."""
        step_BTF = step_BTF.double()
        deviate_BT1 = self.clock.deviates(_log_s(step_BTF)).unsqueeze(-1)
        return torch.cat([step_BTF[..., :2], deviate_BT1], dim=-1)


def _log_s(step_BTF: Tensor) -> Tensor:
    return torch.log(step_BTF[..., 2].clamp(min=0) + MIN_STEP_S)


def steps_of_batches(batches: Iterable[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """The steps (N, F) of batches of train, and the first places of their rows, (B) each."""
    steps, lons, lats = [], [], []
    for batch in batches:
        index_BT = index_of(batch.is_pad_BT)
        is_first_BT = index_BT == first_of_sequence(index_BT, batch.sequence_BT)
        steps.append(batch.step_BTF[~batch.is_pad_BT & ~is_first_BT])
        lons.append(batch.lon_deg_BT[:, 0])
        lats.append(batch.lat_deg_BT[:, 0])
    return torch.cat(steps), torch.cat(lons), torch.cat(lats)


# ---------------------------------------------------------------------------------- known steps


@dataclass(frozen=True)
class KnownSteps(Columns):
    """What a window tells of its steps.

    `told_BTF` are the codes of what is known and first guesses of what is hidden; `hides_BTF` are
    the hidden numbers, neither of pads nor of first points, which have no step.
    """

    told_BTF: Tensor
    hides_BTF: Tensor
    around_BTU: Tensor
    way_BTWF: Tensor  # codes of steps as known motion goes, without their center and without time
    place: Span
    time: Span
    position_BT: Tensor  # place in its sequence
    sequence_BT: Tensor
    is_pad_BT: Tensor
    control_BQD: Tensor | None = None  # what controls tell, if any are told

    def freed(self, code_BTF: Tensor) -> Tensor:
        """Codes less what the known places settle of them: their mean between two of these."""
        free_BTC = self.place.less_mean(code_BTF[..., :2])
        return torch.cat([free_BTC, code_BTF[..., 2:]], dim=-1)

    def painted(self, x_BTF: Tensor, time: float, noise_BTF: Tensor) -> Tensor:
        """x_t with all that is known in its place, as noised as the rest."""
        signal, share = shares_at(time)
        known_BTF = signal * self.told_BTF + share * noise_BTF
        between_BTF = self.freed(x_BTF) + known_BTF - self.freed(known_BTF)
        return torch.where(self.hides_BTF, between_BTF, known_BTF)


def start_alone(shown: MaskedInput) -> MaskedInput:
    """The same with nothing but the first points shown: what a generation knows."""
    index_BT = index_of(shown.is_pad_BT)
    is_first_BT = index_BT == first_of_sequence(index_BT, shown.sequence_BT)
    return replace(
        shown,
        shows_place_BT=shown.shows_place_BT & is_first_BT,
        shows_time_BT=shown.shows_time_BT & is_first_BT,
    )


def known_steps(shown: MaskedInput, code: StepCode) -> KnownSteps:
    """What is shown of a batch, as steps; nothing that is hidden enters."""
    place = Span.of(shown.shows_place_BT, shown.sequence_BT)
    time = Span.of(shown.shows_time_BT, shown.sequence_BT)
    index_BT = index_of(shown.is_pad_BT)
    position_BT = index_BT - first_of_sequence(index_BT, shown.sequence_BT)
    has_step_BT = ~shown.is_pad_BT & (position_BT > 0)
    knows_BTF = torch.stack([place.is_known_BT, place.is_known_BT, time.is_known_BT], dim=-1)
    tells_BTF = torch.stack([place.has_both_BT, place.has_both_BT, time.has_both_BT], dim=-1)
    told_BTF = code.encode(_even_steps(shown, place, time))
    told_BTF = told_BTF.masked_fill(~(tells_BTF & has_step_BT.unsqueeze(-1)), 0)
    return KnownSteps(
        told_BTF=told_BTF.float(),
        hides_BTF=~knows_BTF & has_step_BT.unsqueeze(-1),
        around_BTU=_around(shown, place, time, position_BT),
        way_BTWF=_ways(shown, place, time, code),
        place=place,
        time=time,
        position_BT=position_BT,
        sequence_BT=shown.sequence_BT,
        is_pad_BT=shown.is_pad_BT,
    )


def _even_steps(shown: MaskedInput, place: Span, time: Span) -> Tensor:
    """Steps (B, T, F) that go from one known point to the next evenly; known ones as they are."""
    chord_m_BTC = step_m_between(
        shown.lon_deg_BT, shown.lat_deg_BT, place.start_BT, place.end_BT
    ) * _share_of_way(shown, place, time).unsqueeze(-1)
    return torch.cat([chord_m_BTC, (time.elapsed_s(shown) / time.num_steps_BT)[..., None]], -1)


def _share_of_way(shown: MaskedInput, place: Span, time: Span) -> Tensor:
    """A step's share of the way, by time where all of it is known, else by their number."""
    whole_s_BT, own_s_BT = place.elapsed_s(shown), time.elapsed_s(shown)
    shows_BT = shown.shows_time_BT
    is_timed_BT = time.is_known_BT & (whole_s_BT > 0)
    is_timed_BT &= shows_BT.gather(1, place.start_BT) & shows_BT.gather(1, place.end_BT)
    share_BT = own_s_BT / torch.where(is_timed_BT, whole_s_BT, 1.0)
    return torch.where(is_timed_BT, share_BT, 1 / place.num_steps_BT)


def _ways(shown: MaskedInput, place: Span, time: Span, code: StepCode) -> Tensor:
    """What `ways_m` tells, as codes."""
    way_BTWC = ways_m(shown, place, time) / code.spread_F[:2]
    return functional.pad(way_BTWC, (0, NUM_STEP - 2)).float()


def _around(shown: MaskedInput, place: Span, time: Span, position_BT: Tensor) -> Tensor:
    """Features of what is known around each point.

    Where nothing but one point is shown its clock is not read, so that generation needs none.
    """
    index_BT = index_of(position_BT)
    shows_any_BT = shown.shows_place_BT | shown.shows_time_BT
    before_BT, after_BT = neighbours(shows_any_BT, shown.sequence_BT)
    is_alone_BT = (before_BT < 0) & (after_BT < 0)
    numbers = [position_BT == 0, shown.shows_place_BT, shown.shows_time_BT]
    for span in (place, time):
        back_BT, ahead_BT = index_BT - span.start_BT, span.end_BT - index_BT
        numbers += [
            span.has_both_BT,
            torch.log1p(torch.where(span.has_start_BT, back_BT, 0)),
            torch.log1p(torch.where(span.has_both_BT, ahead_BT, 0)),
        ]
    around_BTU = torch.stack([value_BT.float() for value_BT in numbers], dim=-1)
    calendar_BTK = shown.calendar_BTK.float().masked_fill(is_alone_BT.unsqueeze(-1), 0)
    return torch.cat([around_BTU, calendar_BTK], dim=-1)


# ---------------------------------------------------------------------------------- truth


def true_steps(batch: Batch, shown: MaskedInput) -> tuple[Tensor, Tensor]:
    """All steps (B, T, F) whose ends are shown or asked for, and which these are."""
    reads_place_BT, reads_time_BT = (
        shows_BT | shown.is_asked_BT for shows_BT in (shown.shows_place_BT, shown.shows_time_BT)
    )
    points = (
        value_BT.masked_fill(~reads_BT, 0)
        for value_BT, reads_BT in (
            (batch.lon_deg_BT, reads_place_BT),
            (batch.lat_deg_BT, reads_place_BT),
            (batch.time_s_BT, reads_time_BT),
        )
    )
    has_BTF = torch.stack([reads_place_BT, reads_place_BT, reads_time_BT], dim=-1)
    has_BTF[:, 1:] &= has_BTF[:, :-1].clone()
    return steps_of(*points), has_BTF


def compressed(code: Tensor) -> Tensor:
    """Codes as inputs: as they are within some deviations, logarithmic far beyond them."""
    return LINEAR * torch.asinh(code / LINEAR)
