"""Patch: k points in one token, and quantiles of where the next ones lie, many at once.

After TimesFM and PatchTST, on steps over the sphere. A sequence is cut from its end, so that the
last patch is whole and the first may be incomplete on its left: a context of any length fits. Each
patch is scaled by the steps up to its own end, never by later ones. Attention is causal over
patches and turned by their index, so a patch is the unit of causality: what is told behind it
depends on nothing after it. The head tells several output patches in one pass: quantiles of the
displacement since the patch, with times given or without, and of the seconds.

All is seen and told along and across the recent heading, none by the compass: turn a trajectory
about any point, and its forecast and its samples turn with it.

Shapes: R sequences, P patches, K points of a patch, S = P * K slots, N ends of patches, J points
told behind one, Q levels of quantiles, D model width, E wider, L lags, W ways, G paths of a row,
C coordinates (east, north; or along, across), F features of a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.calendar import NUM_CALENDAR
from ...earth.geometry import from_heading, step_from, to_heading
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...features.point_features import LAGS
from ...interface.answers import Forecast, mean_hidden_state
from ...interface.batch import Batch
from ...interface.contexts import Context
from ...interface.family import Family, Model
from ...interface.masking import Loss
from ...interface.sequence_rows import SequenceRows, ahead_of, rows_of_batch, sequence_rows
from ...layers.distributions import MIN_LOG_STEP_SCALE, MIN_STEP_SCALE_M, Noise
from ...layers.heads import DECILES, QuantileHead, log_density_at, pinball, steer, value_at
from ...layers.position_encodings import angles_of, index_frequencies
from ...layers.transformer import GATED, Transformer, check_shape
from .patching import Moved, Patches, cut, moved_until, origins_of, steps_in, steps_seen


@dataclass(frozen=True)
class PatchConfig:
    """Shape of the network: `num_patch` points in a token, `num_output` patches told in one pass.

    `max_points` is the longest context that is read; `time_weight` scales the loss of log seconds,
    whose unit is not that of displacements.
    """

    width: int = 96
    num_layers: int = 3
    num_heads: int = 4
    num_patch: int = 4
    num_output: int = 5
    max_points: int = 128
    dropout: float = 0.0
    time_weight: float = 1.0

    def __post_init__(self) -> None:
        check_shape(self, num_patch=1, num_output=1, max_points=self.num_patch, time_weight=0)

    @property
    def num_told(self) -> int:
        """Points told in one pass."""
        return self.num_patch * self.num_output


PRESETS: Mapping[str, PatchConfig] = {
    "tiny": PatchConfig(width=32, num_layers=1, num_heads=2),
    "small": PatchConfig(),
}


class Patch(Model):
    """The network: `encode` reads patches, the heads tell what follows each, `loss` scores them."""

    family = "patch"
    frequency_CP: Tensor
    level_Q: Tensor

    def __init__(self, config: PatchConfig, normaliser: Normaliser) -> None:
        super().__init__(config, normaliser)
        width = config.width
        num_inputs = 4 * config.num_patch + 1 + 2 * len(LAGS) + NUM_CALENDAR
        self.skip = nn.Linear(num_inputs, width)
        self.widen = nn.Linear(num_inputs, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        frequency_CP = index_frequencies(width // config.num_heads // 2)
        self.register_buffer("frequency_CP", frequency_CP, persistent=False)
        self.register_buffer("level_Q", torch.tensor(DECILES), persistent=False)
        self.transformer = Transformer(
            width, config.num_layers, config.num_heads, config.dropout, GATED
        )
        self.place_head = DisplacementHead(config, normaliser)
        self.time_head = ElapsedHead(config, normaliser)

    def encode(self, patches: Patches) -> tuple[Tensor, Moved]:
        """State (R, P, D) at the end of each patch, and the motion until there."""
        step_RSF = steps_in(patches)
        moved = moved_until(patches, step_RSF, self.normaliser)
        scale_m_RP1, heading_RP1C = moved.scale_m_RP.unsqueeze(-1), moved.heading.unsqueeze(-2)
        in_patches = (-1, self.config.num_patch)
        has_RPK = patches.has_step_RS.unflatten(1, in_patches)
        pace_RS = torch.asinh(self.normaliser.encode_step_s(step_RSF[..., 2]))
        parts = [
            to_heading(steps_seen(patches), heading_RP1C).flatten(-2) / scale_m_RP1,
            pace_RS.unflatten(1, in_patches).masked_fill(~has_RPK, 0),
            has_RPK,
            torch.log(scale_m_RP1 / self.normaliser.extent_scale_m),
            to_heading(moved.per_point_m, heading_RP1C).flatten(-2) / scale_m_RP1,
            patches.calendar_RPU,
        ]
        seen = torch.cat([part.to(self.skip.weight) for part in parts], dim=-1)
        x_RPD = self.skip(seen) + self.narrow(functional.silu(self.widen(seen)))
        index_RP = torch.arange(x_RPD.shape[1], device=x_RPD.device).expand(x_RPD.shape[:2])
        angle_RPP = angles_of(index_RP.unsqueeze(-1).double(), self.frequency_CP)
        return self.transformer(x_RPD, index_RP, angle_BQP=angle_RPP), moved

    # ------------------------------------------------------------------ training

    def loss(self, batch: Batch) -> Loss:
        """Pinball loss of all that follows each patch, as far as it is told in one pass.

        Displacements count in running scales for each point ahead, with the times given and
        without, seconds by their logarithm. Where a sequence is cut depends on its window, so that
        in training patches end at every point.
        """
        rows = rows_of_batch(batch)
        ahead_J = torch.arange(1, self.config.num_told + 1, device=rows.window_R.device)
        lead_R = rows.window_R % self.config.num_patch
        _, hidden_ND, moved, ahead = self._origins(rows, lead_R, rows.num_readable_R, ahead_J)
        moved_m_NJC, elapsed_s_NJ, is_target_NJ = ahead
        unit_m_NJ = moved.scale_m_RP.unsqueeze(-1) * ahead_J
        given, blind = (
            pinball(found.away_m_NJCQ, found.away_m(moved_m_NJC), self.level_Q).mean(-1) / unit_m_NJ
            for found in (
                self.place_head(hidden_ND, moved, elapsed_s_NJ),
                self.place_head(hidden_ND, moved, None),
            )
        )
        log_s_NJ = torch.log(elapsed_s_NJ.clamp(min=0) + MIN_STEP_S).float()
        time = pinball(self.time_head(hidden_ND), log_s_NJ, self.level_Q)
        given, blind, time = (part[is_target_NJ].sum().float() for part in (given, blind, time))
        parts = {"given": given, "blind": blind, "time": time}
        return Loss.of(is_target_NJ.sum(), parts, time=self.config.time_weight)

    def _origins(
        self, rows: SequenceRows, num_lead_R: Tensor, num_readable_R: Tensor, ahead_J: Tensor
    ) -> tuple[Tensor, Tensor, Moved, tuple[Tensor, Tensor, Tensor]]:
        """Rows, states and motion (N) at the ends of patches, and what lies ahead of these."""
        patches = cut(rows, self.config.num_patch, num_lead_R)
        row_N, patch_N, end_N = origins_of(patches, num_readable_R)
        hidden_RPD, moved = self.encode(patches)
        ahead = ahead_of(rows, row_N, end_N, ahead_J)
        return row_N, hidden_RPD[row_N, patch_N], moved.at(row_N, patch_N), ahead

    # ------------------------------------------------------------------ tasks

    def forecast(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        num_samples: int,
        seed: int,
    ) -> Forecast:
        """The points that follow each context: medians, as many in one pass as the heads tell.

        Beyond that the told points are read as a context in turn, path by path. The points of one
        sample share their draws, so each is a path that keeps to its side.
        """
        context = context.latest(self.config.max_points)
        num_rows, num_paths = len(context.started_us_B), 1 + num_samples  # the first: the median
        normal_SE = Noise.shared(num_samples, seed).normal_SHE[:, 0]
        normal_NE = functional.pad(normal_SE, (0, 0, 1, 0)).repeat(num_rows, 1)
        row_N = torch.arange(num_rows).repeat_interleave(num_paths)
        hidden_BD, moved = self.read_last(context)
        hidden_ND, moved, grown = hidden_BD[row_N], moved.at(row_N), context.at(row_N)
        told = []
        for start in range(0, num_horizon, self.config.num_told):
            stop = min(num_horizon, start + self.config.num_told)
            if start:
                hidden_ND, moved = self.read_last(grown)
            given_s_NJ = None if target_time_s_BH is None else target_time_s_BH[row_N, start:stop]
            told.append(self._told(hidden_ND, moved, grown, given_s_NJ, normal_NE, stop - start))
            grown = grown.extended(*told[-1]).latest(self.config.max_points)
        paths = (torch.cat(parts, 1) for parts in zip(*told, strict=True))
        return Forecast.of([path_NH.unflatten(0, (num_rows, num_paths)) for path_NH in paths])

    def read_last(self, context: Context) -> tuple[Tensor, Moved]:
        """State (B, D) at the end of each context, and the motion until there."""
        patches = cut(sequence_rows(context), self.config.num_patch)
        last_B = -(-context.num_points_B // self.config.num_patch) - 1
        row_B = torch.arange(len(last_B))
        hidden_BPD, moved = self.encode(patches)
        return hidden_BPD[row_B, last_B], moved.at(row_B, last_B)

    def _told(
        self,
        hidden_ND: Tensor,
        moved: Moved,
        context: Context,
        target_time_s_NJ: Tensor | None,
        normal_NE: Tensor,
        num_told: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Longitudes, latitudes and times of the next points, for a draw of each row."""
        lon_deg_N1, lat_deg_N1, now_s_N1 = context.last_B1()
        if target_time_s_NJ is None:
            code_NJQ = self.time_head(hidden_ND)[:, :num_told]
            normal_NJ = normal_NE[:, :1].expand(-1, num_told)
            code_NJ = value_at(code_NJQ, self.level_Q, normal_NJ, MIN_LOG_STEP_SCALE)
            elapsed_s_NJ = (code_NJ.exp() - MIN_STEP_S).clamp(min=0).cummax(1).values
            target_time_s_NJ = now_s_N1 + elapsed_s_NJ
        place = self.place_head(hidden_ND, moved, target_time_s_NJ - now_s_N1)
        normal_NJC = normal_NE[:, None, 1:].expand(-1, num_told, -1)
        away_m_NJC = value_at(place.away_m_NJCQ, self.level_Q, normal_NJC, MIN_STEP_SCALE_M)
        step_m_NJC = place.moved_m(away_m_NJC)
        ends = step_from(lon_deg_N1, lat_deg_N1, *step_m_NJC.unbind(-1))
        return *ends, target_time_s_NJ

    def embed(self, context: Context) -> Tensor:
        """The mean state (B, D) at the ends of the patches of each trajectory."""
        patches = cut(sequence_rows(context), self.config.num_patch)
        hidden_BPD, _ = self.encode(patches)
        return mean_hidden_state(hidden_BPD, ~patches.ends(patches.is_point_RS))

    def score(self, context: Context) -> Tensor:
        """Mean surprise (B) of a step, each told from the points before it: nats, as in chemin.

        Sequences are cut in every way, so that each point is once the first behind a patch. NaN
        where there is no step.
        """
        rows = sequence_rows(context)
        total_B = torch.zeros(len(rows.num_points_R), dtype=torch.float64)
        for lead in range(self.config.num_patch):
            lead_R, next_J = torch.full_like(rows.window_R, lead), torch.ones(1, dtype=torch.long)
            row_N, hidden_ND, moved, ahead = self._origins(
                rows, lead_R, rows.num_points_R - 1, next_J
            )
            total_B.index_add_(0, row_N, self._surprise(hidden_ND, moved, *ahead[:2]))
        num_steps_B = rows.num_points_R - 1
        return total_B / num_steps_B.double().where(num_steps_B > 0, torch.nan)

    def _surprise(
        self, hidden_ND: Tensor, moved: Moved, moved_m_N1C: Tensor, elapsed_s_N1: Tensor
    ) -> Tensor:
        """Of the very next point (N), in nats."""
        place = self.place_head(hidden_ND, moved, elapsed_s_N1)
        away_m_NC = place.away_m(moved_m_N1C)[:, 0]
        place_NC = log_density_at(
            place.away_m_NJCQ[:, 0], self.level_Q, away_m_NC, MIN_STEP_SCALE_M
        )
        log_s_N = torch.log(elapsed_s_N1[:, 0].clamp(min=0) + MIN_STEP_S).float()
        code_NQ = self.time_head(hidden_ND)[:, 0]
        time_N = log_density_at(code_NQ, self.level_Q, log_s_N, MIN_LOG_STEP_SCALE)
        return -(place_NC.sum(-1) + time_N)


# ---------------------------------------------------------------------------------- heads


@dataclass(frozen=True)
class PlaceQuantiles:
    """Quantiles of how far points ahead lie from motion carried on, along and across a heading."""

    center_m_NJC: Tensor  # east and north of the end of the patch
    away_m_NJCQ: Tensor  # along, across
    heading_N1C: Tensor  # unit vector: east, north

    def away_m(self, moved_m_NJC: Tensor) -> Tensor:
        """Displacements east and north as metres along and across, from the center on."""
        away_m_NJC = moved_m_NJC - self.center_m_NJC.double()
        return to_heading(away_m_NJC, self.heading_N1C).to(self.center_m_NJC)

    def moved_m(self, away_m_NJC: Tensor) -> Tensor:
        """The inverse of `away_m`."""
        return self.center_m_NJC + from_heading(away_m_NJC, self.heading_N1C)


class DisplacementHead(nn.Module):
    """Quantiles of the displacement to each point ahead, around motion carried on.

    The center is a sum of recent displacements, carried on by points and, where times are given,
    by seconds, each damped and turned by numbers that the network chooses.
    """

    def __init__(self, config: PatchConfig, normaliser: Normaliser) -> None:
        super().__init__()
        self.normaliser = normaliser
        width, num_lags = config.width, len(LAGS)
        self.ahead = nn.Embedding(config.num_told, width)
        self.blind = nn.Parameter(torch.zeros(width))
        self.timed = nn.Linear(2, width)
        self.widen = nn.Linear(width, 2 * width)
        self.ways = nn.Linear(2 * width, 4 * num_lags)
        self.quantiles = QuantileHead(2 * width, 2)
        with torch.no_grad():
            self.ways.weight.mul_(0.1)
            self.ways.bias.zero_()
            self.ways.bias[num_lags : 2 * num_lags] = 1 / num_lags

    def forward(
        self, hidden_ND: Tensor, moved: Moved, elapsed_s_NJ: Tensor | None
    ) -> PlaceQuantiles:
        """Of the points at these seconds, or of all that are told at once where none are given."""
        num_told = self.ahead.num_embeddings if elapsed_s_NJ is None else elapsed_s_NJ.shape[1]
        index_J = torch.arange(num_told, device=hidden_ND.device)
        x_NJD = hidden_ND.unsqueeze(1) + self.ahead(index_J)
        ahead_J = index_J + 1.0
        by_points_NJLC = moved.per_point_m.unsqueeze(1) * ahead_J[:, None, None]
        by_time_NJLC = by_points_NJLC
        if elapsed_s_NJ is None:
            x_NJD = x_NJD + self.blind
        else:
            by_time_NJLC = moved.velocity_mps.unsqueeze(1) * elapsed_s_NJ[..., None, None]
            x_NJD = x_NJD + self.timed(self._paces(moved, elapsed_s_NJ / ahead_J).to(x_NJD))
        wide_NJE = functional.gelu(self.widen(x_NJD))
        damp_NJW, turn_NJW = self.ways(wide_NJE).chunk(2, dim=-1)
        way_NJWC = torch.cat([by_points_NJLC, by_time_NJLC], dim=-2).to(wide_NJE)
        reach_NJ = (moved.scale_m_RP.unsqueeze(-1) * ahead_J).to(wide_NJE)
        return PlaceQuantiles(
            steer(way_NJWC, damp_NJW, turn_NJW),
            reach_NJ[..., None, None] * self.quantiles(wide_NJE),
            moved.heading.unsqueeze(-2),
        )

    def _paces(self, moved: Moved, pace_s_NJ: Tensor) -> Tensor:
        """Seconds per point ahead: beside the typical ones, and beside the context's own."""
        own_s_N1 = moved.elapsed_s_RPL[:, -1:] / moved.num_RPL[:, -1:]
        log_ratio_NJ = torch.log((pace_s_NJ.clamp(min=0) + MIN_STEP_S) / own_s_N1)
        typical_NJ = self.normaliser.encode_step_s(pace_s_NJ)
        return torch.stack([torch.asinh(typical_NJ), torch.asinh(log_ratio_NJ)], dim=-1)


class ElapsedHead(nn.Module):
    """Quantiles of the logarithm of seconds to each point ahead, around typical steps."""

    def __init__(self, config: PatchConfig, normaliser: Normaliser) -> None:
        super().__init__()
        self.normaliser = normaliser
        self.ahead = nn.Embedding(config.num_told, config.width)
        self.widen = nn.Linear(config.width, config.width)
        self.quantiles = QuantileHead(config.width, 1)

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Logarithms (N, J, Q) of seconds since the end of the patch."""
        wide_NJD = functional.gelu(self.widen(hidden_ND.unsqueeze(1) + self.ahead.weight))
        ahead_J1 = torch.arange(1, self.ahead.num_embeddings + 1, device=hidden_ND.device)[:, None]
        center_J1 = torch.log(ahead_J1) + self.normaliser.log_step_center
        scale = self.normaliser.log_step_scale
        return center_J1 + scale * self.quantiles(wide_NJD).squeeze(-2)


FAMILY = Family(Patch, PatchConfig, PRESETS, ("forecast", "embed", "score"))
