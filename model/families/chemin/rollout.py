"""The rollout of chemin's next step on the sphere, with a key-value cache.

Times given: the instants of the horizon are known and only positions are forecast. Times predicted:
each duration is the median of p(log dt), unless it is sampled. The point forecast rolls out the
mean of p(east, north | dt); samples roll out draws. A row that has reached the longest window of
training goes on with the latest half of it, read again as a window of its own.

Shapes: B contexts, T points of the context, H points of the horizon, S samples, N rows rolled out
(contexts times samples), Q queried points, D model width, L lags.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...earth.geometry import step_from
from ...features.normaliser import MIN_STEP_S
from ...interface.answers import Forecast
from ...interface.batch import index_of
from ...interface.contexts import Context, calendar_at
from ...layers.distributions import Noise, told_number, told_step_m
from ...layers.transformer import KeyValueCache

Chemin = Any  # the network of `network.py`, which imports this file


def rolled_out(
    model: Chemin,
    context: Context,
    num_horizon: int,
    target_time_s_BH: Tensor | None,
    num_samples: int,
    seed: int,
) -> Forecast:
    """The points that follow each context, at given times or at predicted ones."""
    longest = model.config.max_points
    context = context.latest(max(longest - num_horizon, longest // 2))
    rows = _Rows.of(model, context, num_horizon)
    num_rows = len(rows.last_N)
    row_N = torch.arange(num_rows, device=rows.last_N.device).repeat_interleave(num_samples)
    sampled = rows.picked(row_N)
    paths = [value.unsqueeze(1) for value in _roll(rows, num_horizon, target_time_s_BH, None)]
    if num_samples:
        times = None if target_time_s_BH is None else target_time_s_BH[row_N]
        others = _roll(sampled, num_horizon, times, Noise.drawn(num_samples, num_horizon, seed))
        paths = [
            torch.cat([value_B1H, other_NH.unflatten(0, (num_rows, num_samples))], dim=1)
            for value_B1H, other_NH in zip(paths, others, strict=True)
        ]
    return Forecast.of(paths)


def _roll(
    rows: _Rows, num_horizon: int, target_time_s_NH: Tensor | None, noise: Noise | None
) -> list[Tensor]:
    """Longitudes, latitudes and times (N, H) of the rollout: medians and means, or draws."""
    model = rows.model
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for step in range(num_horizon):
        if step:
            rows.append(*found[-1])
        lon_deg_N, lat_deg_N, now_s_N = (
            value_NT.gather(1, rows.last_N.unsqueeze(1)).squeeze(1) for value_NT in rows.places
        )
        if target_time_s_NH is not None:
            next_s_N = target_time_s_NH[:, step]
        else:
            log_step_N = told_number(model.duration_head(rows.hidden_ND), noise, step)
            next_s_N = now_s_N + (torch.exp(log_step_N.double()) - MIN_STEP_S).clamp(min=0)
        step_s_N = (next_s_N - now_s_N).float()
        density = model.step_head(rows.hidden_ND, rows.velocity_mps_NLC, step_s_N)
        step_m_NC = told_step_m(density, noise, step).double()
        found.append((*step_from(lon_deg_N, lat_deg_N, *step_m_NC.unbind(-1)), next_s_N))
    return [torch.stack(column, dim=1) for column in zip(*found, strict=True)]


@dataclass
class _Rows:
    """What a rollout knows: all points so far, with room for the horizon, and what is read."""

    model: Chemin
    places: tuple[Tensor, ...]  # longitudes, latitudes and times, (N, T) each
    started_us_N: Tensor
    zone: str
    caches: list[KeyValueCache]
    last_N: Tensor  # index of the last point, as is the next
    hidden_ND: Tensor
    velocity_mps_NLC: Tensor

    @classmethod
    def of(cls, model: Chemin, context: Context, num_horizon: int) -> _Rows:
        """Contexts with free slots behind them; whatever a pad held is gone."""
        num_rows, num_context = context.is_pad_BT.shape
        num_slots = min(num_context + num_horizon, model.config.max_points)
        places = tuple(
            functional.pad(
                value_BT.double().masked_fill(context.is_pad_BT, 0.0), (0, num_slots - num_context)
            )
            for value_BT in (context.lon_deg_BT, context.lat_deg_BT, context.time_s_BT)
        )
        caches = model.transformer.empty_caches(num_rows, num_slots)
        last_N, none = context.num_points_B - 1, places[0]
        rows = cls(model, places, context.started_us_B, context.zone, caches, last_N, none, none)
        hidden_NTD, velocity_NTLC = rows.read(index_of(context.is_pad_BT))
        row_N = torch.arange(num_rows, device=last_N.device)
        rows.hidden_ND = hidden_NTD[row_N, last_N]
        rows.velocity_mps_NLC = velocity_NTLC[row_N, last_N]
        return rows

    def picked(self, chosen_N: Tensor) -> _Rows:
        """Copies of some of the rows."""
        return replace(
            self,
            places=tuple(value_NT[chosen_N] for value_NT in self.places),
            started_us_N=self.started_us_N[chosen_N],
            caches=[cache.at(chosen_N) for cache in self.caches],
            last_N=self.last_N[chosen_N],
            hidden_ND=self.hidden_ND[chosen_N],
            velocity_mps_NLC=self.velocity_mps_NLC[chosen_N],
        )

    def read(self, index_NQ: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states and recent velocities of points, which the caches then hold."""
        time_s_NQ = self.places[2].gather(1, index_NQ)
        calendar_NQK = calendar_at(self.started_us_N, time_s_NQ, self.zone)
        lon_deg_NT, lat_deg_NT, time_s_NT = self.places
        return self.model.encode(
            lon_deg_NT, lat_deg_NT, time_s_NT, calendar_NQK, index_NQ, caches=self.caches
        )

    def append(self, *new: Tensor) -> None:
        """Read a new point of each row; full rows keep the latest half, read as a window."""
        longest = self.model.config.max_points
        num_kept, is_full_N = longest // 2, self.last_N + 1 == longest
        row_N = torch.arange(len(is_full_N), device=is_full_N.device)
        self.last_N = torch.where(is_full_N, num_kept - 1, self.last_N + 1)
        for value_NT, value_N in zip(self.places, new, strict=True):
            value_NT[is_full_N, : num_kept - 1] = value_NT[is_full_N, 1 - num_kept :]
            value_NT[row_N, self.last_N] = value_N
        hidden_N1D, velocity_N1LC = self.read(self.last_N.unsqueeze(1))
        self.hidden_ND, self.velocity_mps_NLC = hidden_N1D[:, 0], velocity_N1LC[:, 0]
        if bool(is_full_N.any()):
            full = self.picked(is_full_N)
            index_Q = torch.arange(num_kept, device=is_full_N.device)
            hidden_NQD, velocity_NQLC = full.read(index_Q.expand(len(full.last_N), -1))
            self.hidden_ND[is_full_N] = hidden_NQD[:, -1]
            self.velocity_mps_NLC[is_full_N] = velocity_NQLC[:, -1]
            for cache, full_cache in zip(self.caches, full.caches, strict=True):
                cache.key_BHTK[is_full_N] = full_cache.key_BHTK
                cache.value_BHTK[is_full_N] = full_cache.value_BHTK
