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

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from ...earth.geometry import step_from
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...interface.answers import Durations, Forecast, Recovered, mean_hidden_state
from ...interface.asked_journeys import asked_journeys
from ...interface.batch import Batch, index_of
from ...interface.contexts import Context, Partial
from ...interface.evaluating import evaluating
from ...interface.family import Family
from ...interface.journey_rows import JourneyRows
from ...interface.masking import Loss, as_judged_often, masked, mixed, unmasked
from ...interface.memory.memory import nobody
from ...interface.sequence_rows import SequenceRows, ahead_of, rows_of_batch, sequence_rows
from ...layers.distributions import GaussianMixture, Noise, told_number, told_step_m
from .between import Asked, GapHead
from .config import PRESETS, FoundryConfig
from .familiar import LEAST_POINTS, signs_of
from .journeys import JourneyDensity, JourneyHead
from .presents import Presents, grid, is_present
from .reader import Reader
from .strides import Readings
from .units import by_member, own_units_m, unit_m_of

AHEAD = (1, 2, 3, 5, 8, 12, 16, 20, 26, 32)  # points ahead that training asks
BASE_WEIGHT = 0.2  # of the miss of the base alone
NO_KINK_M = 0.1  # the gradient of a distance has no value at zero


class Foundry(Reader):
    """The network: what its reader tells is learnt, and answers every task."""

    family = "foundry"
    unit_m_MJ: Tensor

    def __init__(self, config: FoundryConfig, normaliser: Normaliser) -> None:
        super().__init__(config, normaliser)
        self.register_buffer("unit_m_MJ", torch.ones(1, len(AHEAD)), persistent=False)
        self.journey_head = JourneyHead(config, normaliser)
        self.gap_head = GapHead(config, normaliser)

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

        Beside it that of the base alone, which moves its own few parameters, and the negative
        log-likelihoods of where and when, in nats, which move the heads of the densities.
        """
        rows = rows_of_batch(batch)
        seen, (moved_m_NJC, elapsed_s_NJ, is_target_NJ) = self._presents(rows, batch)
        elapsed_s_NJ = elapsed_s_NJ.clamp(min=0).float()
        center = self.center(seen, elapsed_s_NJ)
        away_m_NJC = center.moved_m_NJC - moved_m_NJC.float()
        away_m_NJ = torch.sqrt(away_m_NJC.square().sum(-1) + NO_KINK_M**2) - NO_KINK_M
        simple_m_NJ = self._base_miss_m(seen, elapsed_s_NJ, moved_m_NJC)
        unit_m_NJ = self.unit_m_MJ[batch.cursor.last].expand_as(away_m_NJ).clone()
        is_drawn_N = seen.is_drawn_N
        if bool(is_drawn_N.any()):
            self.envelope.is_any_rate.fill_(1)
            told = simple_m_NJ.detach(), center.reach_m_NJ, is_target_NJ, seen.row_N
            unit_m_NJ[is_drawn_N] = own_units_m(*(value[is_drawn_N] for value in told))
        miss_NJ = away_m_NJ / unit_m_NJ
        present_P, ahead_P = at_P = is_target_NJ.nonzero(as_tuple=True)
        step = self.density(seen, center, at_P)
        ahead_J = torch.tensor(AHEAD, device=ahead_P.device)
        elapsed = self.elapsed(seen, present_P, ahead_J[ahead_P])
        log_s_P = torch.log(elapsed_s_NJ[at_P] + MIN_STEP_S)
        elapsed_nll_P = -elapsed.log_density(log_s_P).masked_fill(is_drawn_N[present_P], 0)
        parts = {
            "miss": miss_NJ[at_P].sum(),
            "base_miss": (simple_m_NJ / unit_m_NJ)[at_P].sum(),
            "step_nll": -step.log_density(moved_m_NJC[at_P].float()).sum(),
            "elapsed_nll": elapsed_nll_P.sum(),
        }
        weights = {"base_miss": BASE_WEIGHT, "step_nll": 0.1, "elapsed_nll": 0.1}
        return Loss.of(is_target_NJ.sum(), parts, **weights)

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

    def new_journey_head(self) -> JourneyHead:
        """A head of journeys before its first step, to be trained alone."""
        return JourneyHead(self.config, self.normaliser)

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
    return [[masked(batch, as_judged_often, 0) for batch in batches] for batches in members]


TASKS = ("forecast", "recover", "travel_time", "embed", "score")
FAMILY = Family(Foundry, FoundryConfig, PRESETS, TASKS, as_judged_often, learns_journeys=True)
