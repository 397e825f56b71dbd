"""Draws: rows of training that are thinned, made finer or cut short, so that more is learnt.

A model that saw one sampling interval alone answers about no other. So some crops are thinned, some
are made finer along a curve through their points, as if a receiver had told them more often, with
its noise and its stale fixes, and some are short. What a row becomes is drawn by a generator of its
own, seeded by the run, the epoch and the window, as masks are; nothing outside of its crop is read.

Shapes: B rows, T points, N points of one sequence, M of what is drawn of it, C coordinates (east,
north), K calendar features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..earth.arrays import Floats
from ..earth.geometry import step_between, step_from
from ..features.point_features import steps_of
from ..interface.batch import Batch
from .options import Draws

MAX_THINNING = 16
FINER = (2, 8)  # points in place of one
NOISE = (0.01, 1.0)  # of the mean step
MAX_STALE = 0.3  # share of the points that repeat the place before
LEAST_POINTS = 11  # of what is drawn: 8 known and 3 to come
KEY = 6  # of these draws, beside those of masks
POINTS = ("lon_deg_BT", "lat_deg_BT", "time_s_BT", "calendar_BTK")
REPORTED = "reported_mps_BTC"

Columns = Mapping[str, np.ndarray]


def drawn(batch: Batch, draws: Draws, max_points: int, seed: int) -> Batch:
    """The batch with a draw for each of its sequences, none longer than `max_points`.

    `stands_for_BT` says how many points of the data a step stands for.
    """
    is_point_BT, sequence_BT = ~batch.is_pad_BT.numpy(), batch.sequence_BT.numpy()
    rows: list[list[Columns]] = []
    told = _told(batch)
    for row in range(len(is_point_BT)):
        parts = []
        for sequence, window_id in enumerate(batch.window_ids(row)):
            place_N = np.flatnonzero(is_point_BT[row] & (sequence_BT[row] == sequence))
            if len(place_N) == 0:  # a row of pads
                continue
            own = {name: getattr(batch, name)[row, place_N].numpy() for name in told}
            generator = np.random.default_rng((seed, batch.cursor.epoch_before, window_id, KEY))
            parts.append(drawn_sequence(own, draws, max_points, generator))
        rows.append(parts)
    return _batched(batch, rows)


def _told(batch: Batch) -> tuple[str, ...]:
    """The columns of points that a batch has."""
    return POINTS if batch.reported_mps_BTC is None else (*POINTS, REPORTED)


def drawn_sequence(
    own: Columns, draws: Draws, max_points: int, generator: np.random.Generator
) -> Columns:
    """What becomes of one sequence."""
    fate, num_points = generator.random(), len(own["time_s_BT"])
    most = min(MAX_THINNING, (num_points - 1) // (LEAST_POINTS - 1))
    if num_points < LEAST_POINTS:
        return _marked(own, 1.0)
    if fate < draws.thinned:
        stride = int(np.exp2(generator.uniform(0, np.log2(most + 1))))
        first = int(generator.integers(stride))
        thin = {name: value[first::stride] for name, value in own.items()}
        return _marked(_cropped(thin, max_points, generator), float(stride))
    if fate < draws.thinned + draws.finer:
        times = int(generator.integers(FINER[0], FINER[1] + 1))
        few = _cropped(own, 2 + (max_points - 1) // times, generator)
        return _marked(_cropped(finer(few, times, generator), max_points, generator), 1 / times)
    if fate < draws.thinned + draws.finer + draws.short:
        most = int(generator.integers(LEAST_POINTS, min(num_points, max_points) + 1))
        return _marked(_cropped(own, most, generator), 1.0)
    return _marked(_cropped(own, max_points, generator), 1.0)


def _cropped(own: Columns, max_points: int, generator: np.random.Generator) -> Columns:
    """A stretch of so many points, or all."""
    spare = max(0, len(own["time_s_BT"]) - max_points)
    first = int(generator.integers(spare + 1))
    return {name: value[first : first + max_points] for name, value in own.items()}


def _marked(own: Columns, stands_for: float) -> Columns:
    time_s_M = own["time_s_BT"] - own["time_s_BT"][0]
    return {**own, "time_s_BT": time_s_M, "stands_for_BT": np.full(len(time_s_M), stands_for)}


def finer(own: Columns, times: int, generator: np.random.Generator) -> Columns:
    """So many points in place of each, on a curve through them, with noise and stale fixes.

    The curve is a cubic between two points, whose velocities there are those from the point before
    to the point after. Between two points the calendar and the reported motion are those of the
    earlier one.
    """
    time_s_N = own["time_s_BT"]
    middle = len(time_s_N) // 2
    places = [torch.from_numpy(own[name]) for name in ("lon_deg_BT", "lat_deg_BT")]
    center = [value_N[middle].expand_as(value_N) for value_N in places]
    away_m_NC = torch.stack(step_between(*center, *places), dim=-1).numpy()
    place_M = np.arange((len(time_s_N) - 1) * times + 1) / times
    before_M = np.minimum(place_M.astype(np.int64), len(time_s_N) - 2)
    moved_m_MC, time_s_M = _curve(away_m_NC, time_s_N, before_M, place_M - before_M)
    step_m = np.linalg.norm(np.diff(moved_m_MC, axis=0), axis=-1).mean()
    share = np.exp(generator.uniform(*np.log(NOISE)))
    moved_m_MC = moved_m_MC + share * step_m * generator.standard_normal(moved_m_MC.shape)
    is_stale_M = generator.random(len(place_M)) < generator.uniform(0, MAX_STALE)
    is_stale_M[0] = False
    fresh_M = np.maximum.accumulate(np.where(is_stale_M, 0, np.arange(len(place_M))))
    ends = step_from(
        *(value_N[:1].expand(len(place_M)) for value_N in center),
        *torch.from_numpy(moved_m_MC[fresh_M]).unbind(-1),
    )
    return {
        "lon_deg_BT": ends[0].numpy(),
        "lat_deg_BT": ends[1].numpy(),
        "time_s_BT": np.round(time_s_M, 6),
        **{name: own[name][before_M] for name in ("calendar_BTK", REPORTED) if name in own},
    }


def _curve(away_m_NC: Floats, time_s_N: Floats, before_M: Any, share_M: Floats) -> tuple[Any, Any]:
    """Places (M, C) and times (M) on a cubic Hermite spline, a share of the way behind points."""
    gap_s_N = np.diff(time_s_N)
    span_s_N = np.maximum(np.concatenate([gap_s_N, [0]]) + np.concatenate([[0], gap_s_N]), 1e-6)
    around_NC = np.concatenate([away_m_NC[:1], away_m_NC, away_m_NC[-1:]])
    velocity_NC = (around_NC[2:] - around_NC[:-2]) / span_s_N[:, None]
    u_M1, gap_s_M1 = share_M[:, None], gap_s_N[before_M][:, None]
    curve_m_MC = (
        (1 + 2 * u_M1) * (1 - u_M1) ** 2 * away_m_NC[before_M]
        + u_M1**2 * (3 - 2 * u_M1) * away_m_NC[before_M + 1]
        + gap_s_M1 * u_M1 * (1 - u_M1) ** 2 * velocity_NC[before_M]
        - gap_s_M1 * u_M1**2 * (1 - u_M1) * velocity_NC[before_M + 1]
    )
    return curve_m_MC, time_s_N[before_M] + share_M * gap_s_N[before_M]


def _batched(batch: Batch, rows: list[list[Columns]]) -> Batch:
    """Rows of sequences one behind the other; pads repeat the last point of their row."""
    num_points = max((sum(len(part["time_s_BT"]) for part in parts) for parts in rows), default=1)
    names = _told(batch)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "stands_for_BT")}
    others: dict[str, list[np.ndarray]] = {"is_pad": [], "is_target": [], "sequence": []}
    for row, parts in enumerate(rows):
        if not parts:  # a row of pads alone
            parts = [_marked({name: getattr(batch, name)[row, :1].numpy() for name in names}, 1.0)]
        sizes = [len(part["time_s_BT"]) for part in parts]
        pads = num_points - sum(sizes)
        for name, column in columns.items():
            whole = np.concatenate([part[name] for part in parts])
            room = [(0, pads)] + [(0, 0)] * (whole.ndim - 1)
            column.append(np.pad(whole, room, mode="edge"))
        is_none = not rows[row]
        slot_T = np.arange(num_points)
        firsts = np.cumsum([0, *sizes[:-1]])
        others["is_pad"].append((slot_T >= sum(sizes)) | is_none)
        others["is_target"].append(~others["is_pad"][-1] & ~np.isin(slot_T, firsts))
        others["sequence"].append(np.searchsorted(firsts, slot_T, side="right") - 1)
    told: dict[str, Any] = {
        name: torch.from_numpy(np.stack(value)) for name, value in columns.items()
    }
    is_pad_BT, is_target_BT, sequence_BT = (
        torch.from_numpy(np.stack(others[name])) for name in ("is_pad", "is_target", "sequence")
    )
    step_BTF = steps_of(*(told[name] for name in POINTS[:3]))
    return replace(
        batch,
        **told,
        step_BTF=step_BTF.masked_fill(~is_target_BT.unsqueeze(-1), 0).float(),
        is_pad_BT=is_pad_BT,
        is_observed_BT=~is_pad_BT,
        is_target_BT=is_target_BT,
        sequence_BT=sequence_BT,
    )
