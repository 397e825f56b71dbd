"""GRU: the ordinary network, which an expert would train first and others have to beat.

A gated recurrent unit (Cho et al. 2014) reads the point features that chemin reads, and tells any
point ahead at once, from its state at the present point and the seconds until then: no rollout.
Its densities are those of chemin's head, so that the two differ in what reads and in how far ahead
is told. Where times are not given, they are told from how many points ahead is asked.

Shapes: B rows, R sequences, T points, N presents, P pairs of a present and a point ahead, J points
ahead that training asks, H points of the horizon, S samples, D model width, L lags,
C coordinates (east, north).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from ...earth.geometry import step_from
from ...features.normaliser import MIN_STEP_S, Normaliser
from ...features.point_features import NUM_SPATIAL, NUM_TEMPORAL, point_features
from ...interface.answers import Forecast
from ...interface.batch import Batch, index_of
from ...interface.contexts import Context
from ...interface.family import Family, Model
from ...interface.masking import Loss
from ...interface.sequence_rows import SequenceRows, ahead_of, rows_of_batch, sequence_rows
from ...layers.distributions import Noise, StepMixture, told_number, told_step_m
from ...layers.elapsed import ElapsedHead
from ...layers.heads import StepHead

AHEAD = (1, 2, 4, 8, 16, 32)  # points ahead that training asks; those between are told alike


@dataclass(frozen=True)
class GruConfig:
    """Shape of the network, and weight of its second loss, as in chemin."""

    width: int = 96
    num_layers: int = 2
    num_components: int = 4
    max_points: int = 64
    mean_weight: float = 5.0

    def __post_init__(self) -> None:
        lowest = {"max_points": 4, "mean_weight": 0}
        for name in (field.name for field in fields(self)):
            if getattr(self, name) < (low := lowest.get(name, 1)):
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")


PRESETS: Mapping[str, GruConfig] = {
    "tiny": GruConfig(width=32, num_layers=1),
    "small": GruConfig(),
}


class Gru(Model):
    """The network: `encode` reads points, the heads say what lies ahead, `loss` scores them."""

    family = "gru"

    def __init__(self, config: GruConfig, normaliser: Normaliser) -> None:
        super().__init__(config, normaliser)
        width, num_components = config.width, config.num_components
        num_features = NUM_SPATIAL + NUM_TEMPORAL
        self.recurrent = nn.GRU(num_features, width, config.num_layers, batch_first=True)
        self.elapsed_head = ElapsedHead(width, num_components, normaliser)
        self.mix = nn.Sequential(nn.Linear(width + 1, width), nn.GELU())
        self.step_head = StepHead(width, num_components, normaliser, has_tails=False)

    def encode(self, rows: SequenceRows) -> tuple[Tensor, Tensor]:
        """State (R, T, D) and recent velocities (R, T, L, C) of each point, from its past.

        What may not be read is zero, and stands behind all that may.
        """
        index_RT = index_of(rows.time_s_RT)
        is_hidden_RT = index_RT >= rows.num_readable_R.unsqueeze(1)
        lon_deg_RT, lat_deg_RT, time_s_RT = (
            value_RT.masked_fill(is_hidden_RT, 0)
            for value_RT in (rows.lon_deg_RT, rows.lat_deg_RT, rows.time_s_RT)
        )
        calendar_RTU = rows.calendar_RTU.masked_fill(is_hidden_RT.unsqueeze(-1), 0)
        first_RT = torch.zeros_like(index_RT)
        seen = point_features(
            lon_deg_RT, lat_deg_RT, time_s_RT, calendar_RTU, index_RT, first_RT, self.normaliser
        )
        hidden_RTD, _ = self.recurrent(torch.cat([seen.spatial_BQS, seen.temporal_BQM], dim=-1))
        return hidden_RTD, seen.velocity_mps_BQLC

    def place(self, hidden_ND: Tensor, velocity_NLC: Tensor, elapsed_s_N: Tensor) -> StepMixture:
        """Where the object will be by then, as a displacement from the present point.

        The head alone is too shallow to tell by the seconds how far to doubt: mixed into the state
        before it, they bring coverage far ahead nearer to its share.
        """
        code_N1 = torch.asinh(self.normaliser.encode_step_s(elapsed_s_N)).unsqueeze(-1)
        hidden_ND = hidden_ND + self.mix(torch.cat([hidden_ND, code_N1], dim=-1))
        return self.step_head(hidden_ND, velocity_NLC, elapsed_s_N)

    def loss(self, batch: Batch) -> Loss:
        """Loss of some of the targets behind each point that may be read, each told at once.

        Negative log-likelihood in nats of a pair of points, plus `mean_weight` times the miss of
        the mean displacement; `parts` holds the three sums unweighted.
        """
        rows = rows_of_batch(batch)
        hidden_RTD, velocity_RTLC = self.encode(rows)
        is_present_RT = index_of(rows.time_s_RT) < rows.num_readable_R.unsqueeze(1)
        row_N, now_N = is_present_RT.nonzero(as_tuple=True)
        ahead_J = torch.tensor(AHEAD, device=row_N.device)
        moved_m_NJC, elapsed_s_NJ, is_target_NJ = ahead_of(rows, row_N, now_N, ahead_J)
        present_P, ahead_P = is_target_NJ.nonzero(as_tuple=True)
        at_P = row_N[present_P], now_N[present_P]
        elapsed_s_P = elapsed_s_NJ[is_target_NJ].clamp(min=0).float()
        elapsed = self.elapsed_head(hidden_RTD[at_P], ahead_J[ahead_P])
        step = self.place(hidden_RTD[at_P], velocity_RTLC[at_P], elapsed_s_P)
        step_m_PC = moved_m_NJC[is_target_NJ].float()
        parts = {
            "elapsed_nll": -elapsed.log_density(torch.log(elapsed_s_P + MIN_STEP_S)).sum(),
            "step_nll": -step.log_density(step_m_PC).sum(),
            "miss": step.miss(step_m_PC).sum(),
        }
        return Loss.of(is_target_NJ.sum(), parts, miss=self.config.mean_weight)

    def forecast(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        num_samples: int,
        seed: int,
    ) -> Forecast:
        """The points that follow each context: medians of the time, means of the place.

        The points of one sample share their draws, so each is a path that keeps to its side.
        """
        context = context.latest(self.config.max_points)
        paths = self._told(context, num_horizon, target_time_s_BH, None)
        if num_samples:
            noise = Noise.shared(num_samples, seed)
            samples = self._told(context, num_horizon, target_time_s_BH, noise)
            paths = [torch.cat(both, dim=1) for both in zip(paths, samples, strict=True)]
        return Forecast.of(paths)

    def _told(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        noise: Noise | None,
    ) -> list[Tensor]:
        """Longitudes, latitudes and times (B, S, H): of draws, or one of medians and means."""
        hidden_BTD, velocity_BTLC = self.encode(sequence_rows(context))
        shape = num_horizon, len(hidden_BTD), 1 if noise is None else len(noise.uniform_SHE)
        grids = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
        ahead_N, row_N, _ = (grid.flatten() for grid in grids)
        last_N = context.num_points_B[row_N] - 1
        hidden_ND, velocity_NLC = hidden_BTD[row_N, last_N], velocity_BTLC[row_N, last_N]
        lon_deg_N, lat_deg_N, now_s_N = (value_B1[row_N, 0] for value_B1 in context.last_B1())
        if target_time_s_BH is None:
            log_s_N = told_number(self.elapsed_head(hidden_ND, ahead_N + 1), noise)
            elapsed_s_N = (log_s_N.double().exp() - MIN_STEP_S).clamp(min=0)
            time_s_N = now_s_N + elapsed_s_N.view(shape).cummax(0).values.flatten()
        else:
            time_s_N = target_time_s_BH[row_N, ahead_N]
        step = self.place(hidden_ND, velocity_NLC, (time_s_N - now_s_N).float())
        step_m_NC = told_step_m(step, noise).double()
        ends = step_from(lon_deg_N, lat_deg_N, *step_m_NC.unbind(-1))
        return [value_N.view(shape).permute(1, 2, 0) for value_N in (*ends, time_s_N)]


FAMILY = Family(Gru, GruConfig, PRESETS, ("forecast",))
