"""The rollout of chemin's next step on the sphere, with a key-value cache.

Times given: the instants of the horizon are known and only positions are forecast. Times predicted:
each duration is the median of p(log dt), unless it is sampled. The point forecast rolls out the
mean of p(east, north | dt); samples roll out draws. A row that has reached the longest window of
training goes on with the latest half of it, read again as a window of its own.

Shapes: B contexts, T points of the context, H points of the horizon, N rows rolled out (contexts
times samples), F full rows, Q queried points, D model width, L lags, C coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ...earth.geometry import step_from
from ...features.normaliser import MIN_STEP_S
from ...interface.answers import Forecast, Noise
from ...interface.contexts import Context, calendar_at
from ...layers.heads import DurationHead, StepHead
from ...layers.transformer import KeyValueCache, Transformer


class StepModel(Protocol):
    """A network that reads points with caches and says how the next step is distributed."""

    config: Any
    transformer: Transformer
    duration_head: DurationHead
    step_head: StepHead

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
        ...


@dataclass(frozen=True)
class _State:
    """What a rollout knows: all points so far, with room for the horizon, and the caches."""

    lon_deg_NT: Tensor
    lat_deg_NT: Tensor
    time_s_NT: Tensor
    started_us_N: Tensor
    zone: str
    num_points_N: Tensor
    hidden_ND: Tensor
    velocity_mps_NLC: Tensor
    caches: list[KeyValueCache]

    def repeat_rows(self, times: int) -> _State:
        tensors = {
            field.name: getattr(self, field.name).repeat_interleave(times, 0)
            for field in fields(self)
            if field.name not in ("zone", "caches")
        }
        return replace(self, caches=[cache.repeat_rows(times) for cache in self.caches], **tensors)


def rolled_out(
    model: StepModel,
    context: Context,
    num_horizon: int,
    target_time_s_BH: Tensor | None,
    num_samples: int,
    seed: int,
) -> Forecast:
    """The points that follow each context, at given times or at predicted ones."""
    longest = model.config.max_points
    context = context.latest(max(longest - num_horizon, longest // 2))
    state = _read(model, context, num_horizon)
    repeated = state.repeat_rows(num_samples) if num_samples else None
    lon_deg_BH, lat_deg_BH, time_s_BH = _roll(model, state, num_horizon, target_time_s_BH, None)
    points = lon_deg_BH, lat_deg_BH, time_s_BH
    if repeated is None:
        return Forecast.of(points, None)
    times = None if target_time_s_BH is None else target_time_s_BH.repeat_interleave(num_samples, 0)
    noise = Noise.drawn(num_samples, num_horizon, seed)
    lon_deg_BSH, lat_deg_BSH, time_s_BSH = (
        part.unflatten(0, (len(lon_deg_BH), num_samples))
        for part in _roll(model, repeated, num_horizon, times, noise)
    )
    return Forecast.of(points, (lon_deg_BSH, lat_deg_BSH, time_s_BSH))


def _read(model: StepModel, context: Context, num_horizon: int) -> _State:
    """The state after the context: its points with room for more, and filled caches."""
    num_rows, num_context = context.is_pad_BT.shape
    num_slots = min(num_context + num_horizon, model.config.max_points)
    lon_deg_BT, lat_deg_BT, time_s_BT = (
        _with_room(value_BT, context.is_pad_BT, num_slots)
        for value_BT in (context.lon_deg_BT, context.lat_deg_BT, context.time_s_BT)
    )
    index_BQ = torch.arange(num_context, device=lon_deg_BT.device).expand(num_rows, num_context)
    calendar_BQK = calendar_at(context.started_us_B, time_s_BT[:, :num_context], context.zone)
    caches = model.transformer.empty_caches(num_rows, num_slots)
    hidden_BQD, velocity_BQLC = model.encode(
        lon_deg_BT, lat_deg_BT, time_s_BT, calendar_BQK, index_BQ, caches=caches
    )
    row_B, last_B = torch.arange(num_rows, device=index_BQ.device), context.num_points_B - 1
    return _State(
        lon_deg_BT,
        lat_deg_BT,
        time_s_BT,
        context.started_us_B,
        context.zone,
        context.num_points_B,
        hidden_BQD[row_B, last_B],
        velocity_BQLC[row_B, last_B],
        caches,
    )


def _roll(
    model: StepModel,
    state: _State,
    num_horizon: int,
    target_time_s_NH: Tensor | None,
    noise: Noise | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Longitudes, latitudes and times (N, H) of the rollout; writes into the state's tensors."""
    hidden_ND, velocity_NLC = state.hidden_ND, state.velocity_mps_NLC
    row_N = torch.arange(len(hidden_ND), device=hidden_ND.device)
    last_N = state.num_points_N - 1
    places = state.lon_deg_NT, state.lat_deg_NT, state.time_s_NT
    num_kept = model.config.max_points // 2
    found = []
    for step in range(num_horizon):
        given_s_N = None if target_time_s_NH is None else target_time_s_NH[:, step]
        now = [value_NT[row_N, last_N] for value_NT in places]
        next_s_N = given_s_N
        if next_s_N is None:
            next_s_N = now[2] + _next_duration_s(model, hidden_ND, noise, step)
        step_m_NC = _next_step_m(model, hidden_ND, velocity_NLC, next_s_N - now[2], noise, step)
        new = (*step_from(now[0], now[1], *step_m_NC.double().unbind(-1)), next_s_N)
        found.append(new)
        if step + 1 == num_horizon:
            break
        is_full_N = last_N + 1 == model.config.max_points
        has_full = bool(is_full_N.any())
        if has_full:
            _forget(state, is_full_N, num_kept - 1)
        last_N = torch.where(is_full_N, num_kept - 1, last_N + 1)
        for value_NT, value_N in zip(places, new, strict=True):
            value_NT[row_N, last_N] = value_N
        hidden_ND, velocity_NLC = _read_one(model, state, last_N)
        if has_full:
            again_ND, again_NLC = _read_again(model, state, is_full_N, num_kept)
            hidden_ND[is_full_N], velocity_NLC[is_full_N] = again_ND, again_NLC
    lon_deg_NH, lat_deg_NH, time_s_NH = (
        torch.stack(column, dim=1) for column in zip(*found, strict=True)
    )
    return lon_deg_NH, lat_deg_NH, time_s_NH


def _forget(state: _State, is_full_N: Tensor, num_kept: int) -> None:
    """Move the latest points of full rows to the front."""
    for value_NT in (state.lon_deg_NT, state.lat_deg_NT, state.time_s_NT):
        full_NT = value_NT[is_full_N]
        full_NT[:, :num_kept] = full_NT[:, full_NT.shape[1] - num_kept :].clone()
        value_NT[is_full_N] = full_NT


def _read_again(
    model: StepModel, state: _State, is_full_N: Tensor, num_kept: int
) -> tuple[Tensor, Tensor]:
    """State and velocities at the last of the kept points of full rows, with fresh caches."""
    places = (state.lon_deg_NT, state.lat_deg_NT, state.time_s_NT)
    lon_deg_FT, lat_deg_FT, time_s_FT = (value_NT[is_full_N] for value_NT in places)
    index_FQ = torch.arange(num_kept, device=time_s_FT.device).expand(len(time_s_FT), num_kept)
    caches = model.transformer.empty_caches(*time_s_FT.shape)
    started_us_F = state.started_us_N[is_full_N]
    hidden_FQD, velocity_FQLC = model.encode(
        lon_deg_FT,
        lat_deg_FT,
        time_s_FT,
        calendar_at(started_us_F, time_s_FT[:, :num_kept], state.zone),
        index_FQ,
        caches=caches,
    )
    for cache, fresh in zip(state.caches, caches, strict=True):
        cache.key_BHTK[is_full_N] = fresh.key_BHTK
        cache.value_BHTK[is_full_N] = fresh.value_BHTK
    return hidden_FQD[:, -1], velocity_FQLC[:, -1]


def _read_one(model: StepModel, state: _State, index_N: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden state and recent velocities of one new point of each row."""
    index_NQ = index_N.unsqueeze(1)
    calendar_NQK = calendar_at(state.started_us_N, state.time_s_NT.gather(1, index_NQ), state.zone)
    hidden_NQD, velocity_NQLC = model.encode(
        state.lon_deg_NT,
        state.lat_deg_NT,
        state.time_s_NT,
        calendar_NQK,
        index_NQ,
        caches=state.caches,
    )
    return hidden_NQD[:, 0], velocity_NQLC[:, 0]


def _next_duration_s(model: StepModel, hidden_ND: Tensor, noise: Noise | None, step: int) -> Tensor:
    """Seconds to the next point: the median, or a draw."""
    density = model.duration_head(hidden_ND)
    if noise is None:
        log_step_N = density.median()
    else:
        log_step_N = density.sample(
            _draw(noise.uniform_SHE[:, step, 0], hidden_ND),
            _draw(noise.normal_SHE[:, step, 0], hidden_ND),
        )
    return (torch.exp(log_step_N.double()) - MIN_STEP_S).clamp(min=0)


def _next_step_m(
    model: StepModel,
    hidden_ND: Tensor,
    velocity_mps_NLC: Tensor,
    step_s_N: Tensor,
    noise: Noise | None,
    step: int,
) -> Tensor:
    """Metres east and north to the next point: the mean, or a draw."""
    density = model.step_head(hidden_ND, velocity_mps_NLC, step_s_N.float())
    if noise is None:
        return density.mean()
    return density.sample(
        _draw(noise.uniform_SHE[:, step, 1], hidden_ND),
        _draw(noise.normal_SHE[:, step, 1:], hidden_ND),
    )


def _draw(value_SE: Tensor, hidden_ND: Tensor) -> Tensor:
    """The draws of each sample, for rows in which the samples of a context stand together."""
    repeats = [len(hidden_ND) // len(value_SE)] + [1] * (value_SE.ndim - 1)
    return value_SE.repeat(repeats).to(hidden_ND)


def _with_room(value_BT: Tensor, is_pad_BT: Tensor, num_slots: int) -> Tensor:
    """Values followed by free slots; whatever a pad held is gone."""
    room = (0, num_slots - value_BT.shape[1])
    return torch.nn.functional.pad(value_BT.double().masked_fill(is_pad_BT, 0.0), room)
