"""Foundry: one network for all that moves, which tells any later instant at once.

It corrects a simple forecast that is blended by what worked inside the window (`base.py`), reads
velocities over lags in the window's own units (`motion.py`), and learns the distance in metres by
which it is judged, in one unit for each data set and number of points ahead. What it would need of
a data set are inputs that may be absent: where on Earth a point lies (`place.py`), and what past
trips did next that were near in place and in motion (`recall.py`).

Shapes: B rows, R sequences, T points, N presents, J points ahead that training asks, H points of
the horizon, S samples, D model width, C coordinates (east, north), P pairs of a present and an
instant, A leads and K candidates of the base, M members of a corpus.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ...earth.arrays import Ints
from ...earth.geometry import from_heading, step_from
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...interface.answers import Durations, Forecast, Recovered, mean_hidden_state
from ...interface.asked_journeys import asked_journeys
from ...interface.batch import Batch, index_of
from ...interface.contexts import Context, Partial
from ...interface.evaluating import evaluating
from ...interface.family import Family, Model
from ...interface.flat_points import FlatPoints
from ...interface.journey_rows import JourneyRows
from ...interface.masking import Loss, as_judged, masked, mixed, unmasked
from ...interface.memory.crops import LAGS as REMEMBERED
from ...interface.memory.fitting import fitted_memory
from ...interface.memory.joint import JointMemory, read_memory
from ...interface.memory.memory import MEMORY_FILE, Memory, nobody
from ...interface.memory.paths import PastPaths
from ...interface.sequence_rows import SequenceRows, ahead_of, rows_of_batch, sequence_rows
from ...layers.distributions import GaussianMixture, Noise, StepMixture, told_number, told_step_m
from ...layers.elapsed import ElapsedHead
from ...layers.heads import steer
from . import base, motion, place
from .base import Base, hats
from .between import Asked, GapHead
from .blocks import Residual
from .config import PRESETS, FoundryConfig
from .density import KNOTS, DensityHead
from .familiar import LEAST_POINTS, Envelope, signs_of
from .journeys import JourneyDensity, JourneyHead
from .motion import LAGS, LEAST_M, Motion
from .place import PlaceCode
from .presents import Center, Presents, grid, is_present
from .recall import Recall
from .strides import STRIDES, Readings
from .units import by_member, own_units_m, unit_m_of

AHEAD = (1, 2, 3, 5, 8, 12, 16, 20, 26, 32)  # points ahead that training asks
LOG_LOST = math.log(80)  # intervals ahead from which on the base alone tells where
STEERED = [LAGS.index(lag) for lag in (1, 2, 4, 8, 16)]  # velocities that are damped and turned
NO_KINK_M = 0.1  # the gradient of a distance has no value at zero


class Foundry(Model):
    """The network: `encode` reads points, `center` corrects the base, `density` says how surely."""

    family = "foundry"
    unit_m_MJ: Tensor
    log_knot_K: Tensor
    memory: Memory | JointMemory | None = None

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
        self.recall = Recall(config) if config.has_memory else None
        for last in (self.correct, self.blend, self.steer):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("log_knot_K", torch.tensor(KNOTS).log(), persistent=False)
        self.density_head = DensityHead(width, config.num_components)
        self.elapsed_head = ElapsedHead(width, config.num_components, normaliser)
        self.register_buffer("unit_m_MJ", torch.ones(1, len(AHEAD)), persistent=False)
        self.journey_head = JourneyHead(config, normaliser)
        self.gap_head = GapHead(config, normaliser)
        self.envelope = Envelope()

    def memory_of(self, points: FlatPoints, entity_R: Ints) -> Memory:
        """A memory of trips, and whose each is."""
        if not self.remembers:
            return cast(Memory, super().memory_of(points, entity_R))
        return fitted_memory(PastPaths.of(points, entity_R))

    @property
    def max_known(self) -> int:
        """A long context is read with a stride for what lies far ahead."""
        return int(self.config.max_points) * STRIDES[-1]

    @property
    def remembers(self) -> bool:
        """Whether it can be given a memory of past trips."""
        return self.recall is not None

    def read_memory(self, folder: Path) -> None:
        """Take up the memory that a folder holds, if it holds one."""
        if self.remembers and (folder / MEMORY_FILE).exists():
            self.memory = read_memory(folder)

    @torch.no_grad()
    def fit_inputs(self, batches: Iterable[Batch]) -> None:
        """The middle and extent of train, of several members none; how long journeys take; what is
        familiar.
        """
        with evaluating(self):  # nothing is left out by chance
            self._fit_inputs(list(batches))

    def _fit_inputs(self, batches: list[Batch]) -> None:
        self.gap_head.fit_paths(with_gaps(by_member(batches)), self.memory)
        self.journey_head.fit([one.journeys for one in batches if one.journeys is not None])
        rows = [rows_of_batch(batch) for batch in batches]
        if self.place is not None:
            lon_deg_N, lat_deg_N = (
                torch.cat([getattr(one, name)[is_present(one)] for one in rows])
                for name in ("lon_deg_RT", "lat_deg_RT")
            )
            num_members = len({batch.cursor.last for batch in batches})
            self.place.fit_members(lon_deg_N, lat_deg_N, num_members)
        motions = [self._presents(one)[0].motion for one in rows]
        told = [signs_of(one.at(one.index_RT >= LEAST_POINTS)) for one in motions]
        self.envelope.fit(torch.cat(told))

    @torch.no_grad()
    def fit_loss(self, batches: Iterable[Batch]) -> None:
        """How far the base is off at each number of points ahead, in each member of train."""
        members = by_member(batches)
        self.gap_head.fit(with_gaps(members))
        units = torch.stack([unit_m_of(map(self._base_misses, each)) for each in members])
        self.unit_m_MJ = units.to(self.unit_m_MJ.device)

    def _base_misses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """How far the base is off, how far it goes, and what is asked, (N, J) each."""
        seen, (moved_m_NJC, elapsed_s_NJ, is_target_NJ) = self._presents(rows_of_batch(batch))
        miss_m_NJ = self._base_miss_m(seen, elapsed_s_NJ.float(), moved_m_NJC)
        return miss_m_NJ, moved_m_NJC.norm(dim=-1).float(), is_target_NJ

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
        is_drawn_RT = (rows.stands_for_R != 1).unsqueeze(1).expand_as(time_s_RT)
        seen = [moved.seen(), told_RTAK.flatten(-2), is_told_RT1]
        if self.place is not None:
            code_RTK = self.place(lon_deg_RT, lat_deg_RT, moved.heading_RTC)
            is_known_RT = self.place.knows(lon_deg_RT, lat_deg_RT)
            # What comes in so many intervals, a place says of intervals like those of train alone.
            is_known_RT &= ~is_drawn_RT & self.envelope.knows_interval(moved)
            seen += self._placed(code_RTK, is_known_RT)
        x_RTD = self.embed_point(torch.cat(seen, dim=-1).to(self.embed_point.weight.dtype))
        for layer in self.layers:
            x_RTD = layer(x_RTD)
        row_RT = index_of(rows.time_s_RT.T).T
        return Presents(x_RTD, moved, told_RTAK, row_RT, is_drawn_RT)

    def _placed(self, code_RTK: Tensor, is_known_RT: Tensor) -> list[Tensor]:
        """The numbers of places, and whether they are told: not in some rows of training."""
        is_told_RT1 = is_known_RT.unsqueeze(-1).to(code_RTK.dtype)
        if self.training:
            kept_R11 = torch.rand_like(code_RTK[:, :1, :1]) >= self.config.share_placeless
            is_told_RT1 = is_told_RT1 * kept_R11
        return [code_RTK * is_told_RT1, is_told_RT1]

    def recollected(
        self, seen: Presents, lon_deg_N: Tensor, lat_deg_N: Tensor, kin_N: Ints
    ) -> Presents:
        """Presents that are told what past trips did next, none of their own kin."""
        if self.recall is None:
            return seen
        recalled, moving = None, seen.motion
        if self.memory is not None:
            velocity_mps_NLC = moving.velocity_mps_RTLC[:, [LAGS.index(lag) for lag in REMEMBERED]]
            asked = lon_deg_N, lat_deg_N, velocity_mps_NLC, moving.pace_s_RT, kin_N
            recalled = self.memory.recall(*asked)
        hidden_ND, followed = self.recall(seen.hidden_ND, moving, recalled)
        return replace(seen, hidden_ND=hidden_ND, followed=followed)

    def center(self, seen: Presents, elapsed_s_NJ: Tensor) -> Center:
        """Displacement after so long: the base, and what the network adds to it."""
        moving = seen.motion
        steps_NJ = elapsed_s_NJ / moving.pace_s_RT.unsqueeze(-1)
        log_steps_NJ = torch.log(steps_NJ.clamp(min=1e-6))
        near_NJK = hats(log_steps_NJ, self.log_knot_K)
        trust_NJ = ((LOG_LOST - log_steps_NJ) / (LOG_LOST - self.log_knot_K[-1])).clamp(0, 1)
        if not self.training:
            trust_NJ = trust_NJ * self.envelope.trusts(moving).unsqueeze(-1)
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
        if self.recall is not None and seen.followed is not None:
            asked = seen.hidden_ND, seen.followed, moving, elapsed_s_NJ, led_NJK
            base_m_NJC = self.recall.led_m(base_m_NJC, *asked)
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

    def elapsed(self, seen: Presents, present_P: Tensor, ahead_P: Tensor) -> GaussianMixture:
        """How long it is from presents to points ahead, around intervals of their own past."""
        hidden_PD, pace_s_P = seen.hidden_ND[present_P], seen.motion.pace_s_RT[present_P]
        return self.elapsed_head(hidden_PD.detach(), ahead_P, pace_s_P)

    # ------------------------------------------------------------------ training

    def _presents(
        self, rows: SequenceRows, batch: Batch | None = None
    ) -> tuple[Presents, tuple[Tensor, Tensor, Tensor]]:
        """Points that may be read, some of them in training, and what lies ahead of each.

        The batch tells whose the rows are, of whom a memory must tell nothing. Without it nothing
        is recalled.
        """
        is_present_RT = is_present(rows)
        if self.training:
            drawn_RT = torch.rand(is_present_RT.shape, device=is_present_RT.device)
            is_present_RT &= drawn_RT < self.config.share_present
        row_N, now_N = at_N = is_present_RT.nonzero(as_tuple=True)
        ahead_J = torch.tensor(AHEAD, device=row_N.device)
        places = rows.lon_deg_RT[at_N], rows.lat_deg_RT[at_N]
        seen, ahead = self.encode(rows).at(*at_N), ahead_of(rows, row_N, now_N, ahead_J)
        if batch is None:
            return seen, ahead
        kin_R = nobody(len(rows.window_R))
        if self.memory is not None:
            kin_R = self.memory.kin_of(batch, rows)
        return self.recollected(seen, *places, kin_R[row_N.cpu().numpy()]), ahead

    def _base_miss_m(self, seen: Presents, elapsed_s_NJ: Tensor, moved_m_NJC: Tensor) -> Tensor:
        """How far the base alone is off (N, J)."""
        away_m_NJC = self.base(seen.motion, seen.told_NAK, elapsed_s_NJ) - moved_m_NJC.float()
        return away_m_NJC.norm(dim=-1)

    def loss(self, batch: Batch) -> Loss:
        """The mean of each task, mixed by the weights of the configuration."""
        told = {
            "forecast": self.forecast_loss(unmasked(batch)),
            "journey": self.journey_head.loss(batch.journeys, self.place),
            "gap": self.gap_head.loss(batch, self.place, self.memory),
        }
        weights = {"journey": self.config.journey_weight, "gap": self.config.gap_weight}
        return mixed(told, **weights)

    def forecast_loss(self, batch: Batch) -> Loss:
        """Mean distance of the centers from the truth, each in the unit of its points ahead.

        Beside it the negative log-likelihoods of where and when, in nats, which move the heads of
        the densities alone.
        """
        rows = rows_of_batch(batch)
        seen, (moved_m_NJC, elapsed_s_NJ, is_target_NJ) = self._presents(rows, batch)
        elapsed_s_NJ = elapsed_s_NJ.clamp(min=0).float()
        center = self.center(seen, elapsed_s_NJ)
        away_m_NJC = center.moved_m_NJC - moved_m_NJC.float()
        away_m_NJ = torch.sqrt(away_m_NJC.square().sum(-1) + NO_KINK_M**2) - NO_KINK_M
        miss_NJ = away_m_NJ / self.unit_m_MJ[batch.cursor.last]
        is_drawn_N = seen.is_drawn_N
        if bool(is_drawn_N.any()):
            self.envelope.is_any_rate.fill_(1)
            few, asked = seen.at(is_drawn_N), (elapsed_s_NJ[is_drawn_N], moved_m_NJC[is_drawn_N])
            simple_m_NJ = self._base_miss_m(few, *asked).detach()
            reach_m_NJ, is_asked_NJ = center.reach_m_NJ[is_drawn_N], is_target_NJ[is_drawn_N]
            unit_m_NJ = own_units_m(simple_m_NJ, reach_m_NJ, is_asked_NJ, few.row_N)
            miss_NJ[is_drawn_N] = away_m_NJ[is_drawn_N] / unit_m_NJ
        present_P, ahead_P = at_P = is_target_NJ.nonzero(as_tuple=True)
        step = self.density(seen, center, at_P)
        ahead_J = torch.tensor(AHEAD, device=ahead_P.device)
        elapsed = self.elapsed(seen, present_P, ahead_J[ahead_P])
        log_s_P = torch.log(elapsed_s_NJ[at_P] + MIN_STEP_S)
        elapsed_nll_P = -elapsed.log_density(log_s_P).masked_fill(is_drawn_N[present_P], 0)
        parts = {
            "miss": miss_NJ[at_P].sum(),
            "step_nll": -step.log_density(moved_m_NJC[at_P].float()).sum(),
            "elapsed_nll": elapsed_nll_P.sum(),
        }
        return Loss.of(is_target_NJ.sum(), parts, step_nll=0.1, elapsed_nll=0.1)

    # ------------------------------------------------------------------ tasks

    def last(self, context: Context) -> Presents:
        """What is known of the last point of each context."""
        row_B = torch.arange(len(context.num_points_B))
        seen = self.encode(sequence_rows(context)).at(row_B, context.num_points_B - 1)
        lon_deg_B1, lat_deg_B1, _ = context.last_B1()
        kin_B = nobody(len(row_B)) if self.memory is None else self.memory.kin_of_context(context)
        return self.recollected(seen, lon_deg_B1[:, 0], lat_deg_B1[:, 0], kin_B)

    def is_familiar(self, context: Context) -> Tensor:
        """Whether the last point of each context (B) is where, and moves as, train did."""
        context = context.latest(self.config.max_points)
        is_like_B = self.envelope.holds(self.last(context).motion)
        if self.place is None:
            return is_like_B
        lon_deg_B1, lat_deg_B1, _ = context.last_B1()
        return is_like_B & self.place.knows(lon_deg_B1, lat_deg_B1)[:, 0]

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
        ahead_P, row_P, draw_P = grid(num_horizon, num_rows, num_draws)
        step = self.density(seen, center, (row_P, draw_P * num_horizon + ahead_P))
        drawn_m_HBSC = told_step_m(step, noise).view(num_horizon, num_rows, num_draws, -1)
        return drawn_m_HBSC.permute(1, 2, 0, 3)

    def _elapsed_s(self, seen: Presents, num_horizon: int, noise: Noise | None) -> Tensor:
        """Seconds (B, S, H) until points that are counted, not timed."""
        num_rows, num_draws = len(seen.hidden_ND), 1 if noise is None else len(noise.uniform_SHE)
        ahead_P, row_P, _ = grid(num_horizon, num_rows, num_draws)
        log_s_P = told_number(self.elapsed(seen, row_P, ahead_P + 1), noise)
        elapsed_s_P = (log_s_P.double().exp() - MIN_STEP_S).clamp(min=0)
        elapsed_s_HBS = elapsed_s_P.view(num_horizon, num_rows, num_draws).cummax(0).values
        return elapsed_s_HBS.permute(1, 2, 0)

    def travel_time(self, partial: Partial) -> Durations:
        """Seconds from the first point to the last, as whole journeys of train take."""
        density = self.duration_density(partial)
        return Durations(*(density.quantile(share) for share in (0.5, 0.1, 0.9)))

    def duration_density(self, partial: Partial) -> JourneyDensity:
        """The density of the same."""
        return JourneyDensity(self._journey(asked_journeys(partial).flat()))

    def _journey(self, ways: JourneyRows) -> GaussianMixture:
        return self.journey_head(ways, self.place)

    def recover(self, batch: Batch) -> Recovered:
        """The batch with what is hidden filled in, where a known point stands on either side."""
        asked = Asked.of(batch, self.memory)
        return asked.recovered(self.gap_head(asked, self.place))

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
        at_N, next_J = (row_N, now_N), torch.ones(1, dtype=torch.long)
        kin_B = (
            nobody(len(rows.window_R))
            if self.memory is None
            else self.memory.kin_of_context(context)
        )
        places = rows.lon_deg_RT[at_N], rows.lat_deg_RT[at_N]
        seen = self.recollected(self.encode(rows).at(*at_N), *places, kin_B[row_N.numpy()])
        moved_m_N1C, elapsed_s_N1, _ = ahead_of(
            replace(rows, is_target_RT=torch.ones_like(rows.is_target_RT)), row_N, now_N, next_J
        )
        elapsed_s_N1 = elapsed_s_N1.clamp(min=0).float()
        each_N = torch.arange(len(row_N)), torch.zeros_like(row_N)
        step = self.density(seen, self.center(seen, elapsed_s_N1), each_N)
        elapsed = self.elapsed(seen, each_N[0], torch.ones_like(row_N))
        surprise_N = -step.log_density(moved_m_N1C[:, 0].float())
        surprise_N = surprise_N - elapsed.log_density(torch.log(elapsed_s_N1[:, 0] + MIN_STEP_S))
        total_B = torch.zeros(len(rows.num_points_R), dtype=torch.float64)
        total_B.index_add_(0, row_N, surprise_N.double())
        num_steps_B = rows.num_points_R - 1
        return total_B / num_steps_B.double().where(num_steps_B > 0, torch.nan)


def with_gaps(members: Iterable[Iterable[Batch]]) -> list[list[Batch]]:
    """Batches of each member of which what is judged is hidden."""
    return [[masked(batch, as_judged, 0) for batch in batches] for batches in members]


TASKS = ("forecast", "recover", "travel_time", "embed", "score")
FAMILY = Family(Foundry, FoundryConfig, PRESETS, TASKS, as_judged, learns_journeys=True)
