"""Foundry: one network for all that moves, which tells any later instant at once.

It corrects a simple forecast that is blended by what worked inside the window (`base.py`), reads
velocities over lags in the window's own units (`motion.py`), and learns the distance in metres by
which it is judged, in one unit for each data set and number of points ahead. What it would need of
a data set, where on Earth a point lies, is an input that may be absent (`place.py`).

Shapes: B rows, R sequences, T points, N presents, J points ahead that training asks, H points of
the horizon, S samples, D model width, C coordinates (east, north), P pairs of a present and an
instant, A leads and K candidates of the base, M members of a corpus.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.columns import Columns
from ...earth.geometry import from_heading, step_from
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...interface.answers import Forecast, mean_hidden_state
from ...interface.batch import Batch, index_of
from ...interface.contexts import Context
from ...interface.family import Family, Model
from ...interface.masking import Loss
from ...interface.sequence_rows import SequenceRows, ahead_of, rows_of_batch, sequence_rows
from ...layers.distributions import Noise, StepMixture, told_number, told_step_m
from ...layers.elapsed import ElapsedHead
from ...layers.heads import ladder, steer, steps_around
from . import base, motion, place
from .base import Base, hats
from .motion import LAGS, LEAST_M, Motion
from .place import PlaceCode
from .strides import STRIDES, Readings

AHEAD = (1, 2, 3, 5, 8, 12, 16, 20, 26, 32)  # points ahead that training asks
KNOTS = (0.5, 1, 2, 3, 5, 8, 12, 16, 20)  # intervals ahead at which answers are told
LOG_LOST = math.log(80)  # intervals ahead from which on the base alone tells where
STEERED = [LAGS.index(lag) for lag in (1, 2, 4, 8, 16)]  # velocities that are damped and turned
NO_KINK_M = 0.1  # the gradient of a distance has no value at zero


@dataclass(frozen=True)
class FoundryConfig:
    """Shape of the network; `share_placeless` of the rows of training are told no place."""

    width: int = 96
    num_layers: int = 3
    num_components: int = 4
    max_points: int = 64
    dropout: float = 0.1
    has_place: bool = True
    share_placeless: float = 0.1

    def __post_init__(self) -> None:
        lowest = {"max_points": 4, "dropout": 0, "has_place": 0, "share_placeless": 0}
        for name in (field.name for field in fields(self)):
            if getattr(self, name) < (low := lowest.get(name, 1)):
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        for name in ("dropout", "share_placeless"):
            if getattr(self, name) >= 1:
                raise ValueError(f"{name} must be below 1, not {getattr(self, name)}")


PRESETS: Mapping[str, FoundryConfig] = {
    "tiny": FoundryConfig(width=48, num_layers=2, dropout=0.0),
    "small": FoundryConfig(),
}


@dataclass(frozen=True)
class Presents(Columns):
    """What is known of presents: their state, motion and what the base learnt in their window."""

    hidden_ND: Tensor
    motion: Motion
    told_NAK: Tensor


@dataclass(frozen=True)
class Center:
    """Where the presents will be: displacements, their reach, and the knots that told them."""

    moved_m_NJC: Tensor
    reach_m_NJ: Tensor
    near_NJK: Tensor


class Foundry(Model):
    """The network: `encode` reads points, `center` corrects the base, `density` says how surely."""

    family = "foundry"
    unit_m_MJ: Tensor
    log_knot_K: Tensor

    def __init__(self, config: FoundryConfig, normaliser: Normaliser) -> None:
        super().__init__(config, normaliser)
        width = config.width
        num_seen = motion.NUM_SEEN + base.NUM_SEEN + 1 + (place.NUM_SEEN + 1) * config.has_place
        self.base = Base()
        self.place = PlaceCode() if config.has_place else None
        self.embed_point = nn.Linear(num_seen, width)
        self.layers = nn.ModuleList(
            Residual(width, config.dropout) for _ in range(config.num_layers)
        )
        self.correct = nn.Linear(width, 2 * len(KNOTS))
        self.blend = nn.Linear(width, base.NUM_SEEN)
        self.steer = nn.Linear(width, 2 * len(STEERED) * len(KNOTS))
        for last in (self.correct, self.blend, self.steer):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("log_knot_K", torch.tensor(KNOTS).log(), persistent=False)
        self.density_head = DensityHead(width, config.num_components)
        self.elapsed_head = ElapsedHead(width, config.num_components, normaliser)
        self.register_buffer("unit_m_MJ", torch.ones(1, len(AHEAD)), persistent=False)

    @property
    def max_known(self) -> int:
        """A long context is read with a stride for what lies far ahead."""
        return int(self.config.max_points) * STRIDES[-1]

    @torch.no_grad()
    def fit_inputs(self, batches: Iterable[Batch]) -> None:
        """The middle and extent of train; of several members there are none."""
        batches = list(batches)
        if self.place is None:
            return
        if len({batch.cursor.last for batch in batches}) > 1:
            self.place.fit_globe()
            return
        rows = [rows_of_batch(batch) for batch in batches]
        places = [
            torch.cat([getattr(one, name)[_is_present(one)] for one in rows])
            for name in ("lon_deg_RT", "lat_deg_RT")
        ]
        self.place.fit(*places)

    @torch.no_grad()
    def fit_loss(self, batches: Iterable[Batch]) -> None:
        """How far the base is off at each number of points ahead, in each member of train.

        In this unit an error counts alike, whether storms or people make it.
        """
        found = defaultdict(list)
        for batch in batches:
            found[batch.cursor.last].append(rows_of_batch(batch))
        units = [self._unit_m_J(rows) for _, rows in sorted(found.items())]
        self.unit_m_MJ = torch.stack(units).to(self.unit_m_MJ.device)

    def _unit_m_J(self, rows: Sequence[SequenceRows]) -> Tensor:
        """The mean error of the base over some rows, with a floor of 1 % of their mean step."""
        total_2J, count_J = torch.zeros(2, len(AHEAD)), torch.zeros(len(AHEAD))
        for one in rows:
            seen, (moved_m_NJC, elapsed_s_NJ, is_target_NJ) = self._presents(one)
            base_m_NJC = self.base(seen.motion, seen.told_NAK, elapsed_s_NJ.float())
            for at, away_m_NJC in enumerate((base_m_NJC - moved_m_NJC, moved_m_NJC)):
                total_2J[at] += (away_m_NJC.norm(dim=-1) * is_target_NJ).sum(0).float()
            count_J += is_target_NJ.sum(0)
        off_m_J, step_m_J = total_2J / count_J.clamp(min=1)
        least_m = max(LEAST_M, float(step_m_J[0]) / 100)
        return off_m_J.cummax(0).values.clamp(min=least_m)

    # ------------------------------------------------------------------ reading

    def encode(self, rows: SequenceRows) -> Presents:
        """State, motion and base of each point (R, T), from its past.

        What may not be read is zero, and stands behind all that may.
        """
        is_hidden_RT = index_of(rows.time_s_RT) >= rows.num_readable_R.unsqueeze(1)
        lon_deg_RT, lat_deg_RT, time_s_RT = (
            value_RT.masked_fill(is_hidden_RT, 0)
            for value_RT in (rows.lon_deg_RT, rows.lat_deg_RT, rows.time_s_RT)
        )
        usual = self.normaliser.typical_step_s, self.normaliser.speed_scale_mps
        moved = Motion.of(lon_deg_RT, lat_deg_RT, time_s_RT, *usual)
        told_RTAK = self.base.told(lon_deg_RT, lat_deg_RT, time_s_RT, moved)
        is_told_RT1 = (told_RTAK[..., 0, :].abs().sum(-1, keepdim=True) > 0).float()
        seen = [moved.seen(), told_RTAK.flatten(-2), is_told_RT1]
        if self.place is not None:
            code_RTK = self.place(lon_deg_RT, lat_deg_RT, moved.heading_RTC)
            seen += self._placed(code_RTK)
        x_RTD = self.embed_point(torch.cat(seen, dim=-1).to(self.embed_point.weight.dtype))
        for layer in self.layers:
            x_RTD = layer(x_RTD)
        return Presents(x_RTD, moved, told_RTAK)

    def _placed(self, code_RTK: Tensor) -> list[Tensor]:
        """The numbers of places, and whether they are told: not in some rows of training."""
        is_told_R11 = torch.ones_like(code_RTK[:, :1, :1])
        if self.training:
            is_told_R11 = (torch.rand_like(is_told_R11) >= self.config.share_placeless).float()
        is_told_RT1 = is_told_R11.expand(-1, code_RTK.shape[1], -1)
        return [code_RTK * is_told_RT1, is_told_RT1]

    def center(self, seen: Presents, elapsed_s_NJ: Tensor) -> Center:
        """Displacement after so long: the base, and what the network adds to it."""
        moving = seen.motion
        steps_NJ = elapsed_s_NJ / moving.pace_s_RT.unsqueeze(-1)
        log_steps_NJ = torch.log(steps_NJ.clamp(min=1e-6))
        near_NJK = hats(log_steps_NJ, self.log_knot_K)
        trust_NJ = ((LOG_LOST - log_steps_NJ) / (LOG_LOST - self.log_knot_K[-1])).clamp(0, 1)
        led_NJK = trust_NJ.unsqueeze(-1) * near_NJK
        off_NKC = self.correct(seen.hidden_ND).unflatten(-1, (len(KNOTS), 2))
        reach_m_NJ = moving.speed_mps_RT.unsqueeze(-1) * elapsed_s_NJ + LEAST_M
        turned_NJC = from_heading(led_NJK @ off_NKC, moving.heading_RTC.unsqueeze(-2))
        more_NAK = self.blend(seen.hidden_ND).view_as(seen.told_NAK)
        base_m_NJC = self.base(moving, seen.told_NAK, elapsed_s_NJ, more_NAK, trust_NJ)
        way_mps_N1WC = moving.velocity_mps_RTLC[:, None, STEERED]
        numbers_NKW = self.steer(seen.hidden_ND).unflatten(-1, (len(KNOTS), 2 * len(STEERED)))
        steered_mps_NJC = steer(way_mps_N1WC, *(led_NJK @ numbers_NKW).chunk(2, dim=-1))
        base_m_NJC = base_m_NJC + elapsed_s_NJ.unsqueeze(-1) * steered_mps_NJC
        return Center(base_m_NJC + reach_m_NJ.unsqueeze(-1) * turned_NJC, reach_m_NJ, near_NJK)

    def density(self, seen: Presents, center: Center, at_P: tuple[Tensor, ...]) -> StepMixture:
        """How displacements of pairs spread around the center, which they leave where it is."""
        numbers_NKU = self.density_head(seen.hidden_ND.detach())
        present_P = at_P[0]
        numbers_PU = (center.near_NJK[at_P].unsqueeze(1) @ numbers_NKU[present_P]).squeeze(1)
        return self.density_head.around(
            center.moved_m_NJC[at_P].detach(),
            center.reach_m_NJ[at_P],
            seen.motion.heading_RTC[present_P],
            numbers_PU,
        )

    # ------------------------------------------------------------------ training

    def _presents(self, rows: SequenceRows) -> tuple[Presents, tuple[Tensor, Tensor, Tensor]]:
        """Points that may be read, and what lies ahead of each."""
        row_N, now_N = _is_present(rows).nonzero(as_tuple=True)
        ahead_J = torch.tensor(AHEAD, device=row_N.device)
        return self.encode(rows).at(row_N, now_N), ahead_of(rows, row_N, now_N, ahead_J)

    def loss(self, batch: Batch) -> Loss:
        """Mean distance of the centers from the truth, each in the unit of its points ahead.

        Beside it the negative log-likelihoods of where and when, in nats, which move the heads of
        the densities alone.
        """
        seen, (moved_m_NJC, elapsed_s_NJ, is_target_NJ) = self._presents(rows_of_batch(batch))
        elapsed_s_NJ = elapsed_s_NJ.clamp(min=0).float()
        center = self.center(seen, elapsed_s_NJ)
        away_m_NJC = center.moved_m_NJC - moved_m_NJC.float()
        away_m_NJ = torch.sqrt(away_m_NJC.square().sum(-1) + NO_KINK_M**2) - NO_KINK_M
        miss_NJ = away_m_NJ / self.unit_m_MJ[batch.cursor.last]
        present_P, ahead_P = at_P = is_target_NJ.nonzero(as_tuple=True)
        step = self.density(seen, center, at_P)
        ahead_J = torch.tensor(AHEAD, device=ahead_P.device)
        elapsed = self.elapsed_head(seen.hidden_ND[present_P].detach(), ahead_J[ahead_P])
        log_s_P = torch.log(elapsed_s_NJ[at_P] + MIN_STEP_S)
        parts = {
            "miss": miss_NJ[at_P].sum(),
            "step_nll": -step.log_density(moved_m_NJC[at_P].float()).sum(),
            "elapsed_nll": -elapsed.log_density(log_s_P).sum(),
        }
        return Loss.of(is_target_NJ.sum(), parts, step_nll=0.1, elapsed_nll=0.1)

    # ------------------------------------------------------------------ tasks

    def last(self, context: Context) -> Presents:
        """What is known of the last point of each context."""
        row_B = torch.arange(len(context.num_points_B))
        return self.encode(sequence_rows(context)).at(row_B, context.num_points_B - 1)

    def forecast(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        num_samples: int,
        seed: int,
    ) -> Forecast:
        """The points that follow each context, all at once: the centers, and samples around them.

        The points of one sample share their draws, so each is a path that keeps to its side.
        """
        noise = Noise.shared(num_samples, seed) if num_samples else None
        readings = Readings(self.last, context, self.config.max_points)
        paths = [self._path(readings, num_horizon, target_time_s_BH, None)]
        if noise is not None:
            paths.append(self._path(readings, num_horizon, target_time_s_BH, noise))
        return Forecast.of([torch.cat(parts, dim=1) for parts in zip(*paths, strict=True)])

    def _path(
        self,
        readings: Readings[Presents],
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        noise: Noise | None,
    ) -> list[Tensor]:
        """Longitudes, latitudes and times (B, S, H): of draws, or one of centers and medians."""
        num_draws = 1 if noise is None else len(noise.uniform_SHE)
        lon_deg_B1, lat_deg_B1, now_s_B1 = readings.context.last_B1()
        if target_time_s_BH is None:
            elapsed_s_BSH = self._elapsed_s(readings.at(0), num_horizon, noise)
        else:
            elapsed_s_BSH = (target_time_s_BH - now_s_B1).unsqueeze(1).expand(-1, num_draws, -1)
        asked_s_BSH, pace_s_B = elapsed_s_BSH.float(), readings.at(0).motion.pace_s_RT
        moved_m_BSHC = readings.told(
            asked_s_BSH, pace_s_B, lambda seen: self._moved_m(seen, asked_s_BSH, noise)
        )
        starts = lon_deg_B1.unsqueeze(-1), lat_deg_B1.unsqueeze(-1)
        ends = step_from(*starts, *moved_m_BSHC.double().unbind(-1))
        return [*ends, (now_s_B1.unsqueeze(-1) + elapsed_s_BSH).double()]

    def _moved_m(self, seen: Presents, elapsed_s_BSH: Tensor, noise: Noise | None) -> Tensor:
        """Displacements (B, S, H, C): of draws, or one of centers."""
        center = self.center(seen, elapsed_s_BSH.flatten(1))
        if noise is None:
            return center.moved_m_NJC.unsqueeze(1)
        num_rows, num_draws, num_horizon = elapsed_s_BSH.shape
        ahead_P, row_P, draw_P = _grid(num_horizon, num_rows, num_draws)
        step = self.density(seen, center, (row_P, draw_P * num_horizon + ahead_P))
        drawn_m_HBSC = told_step_m(step, noise).view(num_horizon, num_rows, num_draws, -1)
        return drawn_m_HBSC.permute(1, 2, 0, 3)

    def _elapsed_s(self, seen: Presents, num_horizon: int, noise: Noise | None) -> Tensor:
        """Seconds (B, S, H) until points that are counted, not timed."""
        num_rows, num_draws = len(seen.hidden_ND), 1 if noise is None else len(noise.uniform_SHE)
        ahead_P, row_P, _ = _grid(num_horizon, num_rows, num_draws)
        log_s_P = told_number(self.elapsed_head(seen.hidden_ND[row_P], ahead_P + 1), noise)
        elapsed_s_P = (log_s_P.double().exp() - MIN_STEP_S).clamp(min=0)
        elapsed_s_HBS = elapsed_s_P.view(num_horizon, num_rows, num_draws).cummax(0).values
        return elapsed_s_HBS.permute(1, 2, 0)

    def embed(self, context: Context) -> Tensor:
        """The mean state (B, D) of the points of each trajectory."""
        hidden_BTD = self.encode(sequence_rows(context)).hidden_ND
        return mean_hidden_state(hidden_BTD, context.is_pad_BT[:, : hidden_BTD.shape[1]])

    def score(self, context: Context) -> Tensor:
        """Mean surprise (B) of a step, told from the points before it: nats, as in chemin.

        The first step has no motion before it: its spread is that of the usual speed of train. NaN
        where there is no step.
        """
        rows = sequence_rows(context)
        row_N, now_N = (index_of(rows.time_s_RT) < rows.num_points_R.unsqueeze(1) - 1).nonzero(
            as_tuple=True
        )
        seen, next_J = self.encode(rows).at(row_N, now_N), torch.ones(1, dtype=torch.long)
        moved_m_N1C, elapsed_s_N1, _ = ahead_of(
            replace(rows, is_target_RT=torch.ones_like(rows.is_target_RT)), row_N, now_N, next_J
        )
        elapsed_s_N1 = elapsed_s_N1.clamp(min=0).float()
        at_N = torch.arange(len(row_N)), torch.zeros_like(row_N)
        step = self.density(seen, self.center(seen, elapsed_s_N1), at_N)
        elapsed = self.elapsed_head(seen.hidden_ND, torch.ones_like(row_N))
        surprise_N = -step.log_density(moved_m_N1C[:, 0].float())
        surprise_N = surprise_N - elapsed.log_density(torch.log(elapsed_s_N1[:, 0] + MIN_STEP_S))
        total_B = torch.zeros(len(rows.num_points_R), dtype=torch.float64)
        total_B.index_add_(0, row_N, surprise_N.double())
        num_steps_B = rows.num_points_R - 1
        return total_B / num_steps_B.double().where(num_steps_B > 0, torch.nan)


class Residual(nn.Module):
    """A layer of two maps beside which its input goes on, normalised before."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_D: Tensor) -> Tensor:
        wide = functional.gelu(self.widen(self.norm(x_D)))
        narrow: Tensor = self.narrow(self.dropout(wide))
        return x_D + narrow


class DensityHead(nn.Module):
    """p(east, north) around a center: components in the reach, along and across the heading."""

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__()
        self.sizes = [num_components, num_components, 2 * num_components, 2 * num_components]
        scales = ladder(num_components, 0.02, 1.0).repeat_interleave(2)
        self.project = nn.Linear(width, len(KNOTS) * sum(self.sizes))
        with torch.no_grad():
            self.project.weight.mul_(0.1)
            self.project.bias.zero_()
            self.project.bias.view(len(KNOTS), -1)[:, -len(scales) :] = scales

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """The numbers (N, K, U) of a mixture at each knot."""
        numbers_NKU: Tensor = self.project(hidden_ND).unflatten(-1, (len(KNOTS), -1))
        return numbers_NKU

    def around(
        self, center_m_PC: Tensor, reach_m_P: Tensor, heading_PC: Tensor, numbers_PU: Tensor
    ) -> StepMixture:
        numbers = numbers_PU.split(self.sizes, dim=-1)
        return steps_around(center_m_PC, reach_m_P, heading_PC, numbers)


def _grid(*sizes: int) -> list[Tensor]:
    """The indices of all places of a grid, one tensor for each axis, the last one fastest."""
    return [axis.flatten() for axis in torch.meshgrid(*map(torch.arange, sizes), indexing="ij")]


def _is_present(rows: SequenceRows) -> Tensor:
    """Points that may be read, but the first of each: it shows no motion."""
    index_RT = index_of(rows.time_s_RT)
    return (index_RT < rows.num_readable_R.unsqueeze(1)) & (index_RT > 0)


FAMILY = Family(Foundry, FoundryConfig, PRESETS, ("forecast", "embed", "score"))
