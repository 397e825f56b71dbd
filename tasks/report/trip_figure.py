"""Trip figure: a map that is true to scale anywhere on Earth, and speed over time below.

The map is drawn in metres around the middle of the trip (azimuthal equidistant), so that the date
line and the poles are places like any other. Lines of longitude and latitude tell where it lies.

Shapes: N points or rows; a leading 2 is east and north in metres.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.report.figures import INK, MODEL, RIVALS, TRUTH, Table, new_figure, png, titled, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
TRACK, STAY, GAP, NET = RIVALS[1], RIVALS[3], "#c3ccd5", "#dfe5ea"
DEGREE_M = 111_195.0
RULE_COLOURS = {
    "impossible_speed": MODEL,
    "same_instant": "#7b2cbf",
    "exact_duplicate": "#5f0f40",
    "null_island": "#6a994e",
    "out_of_range": "#bc6c25",
    "short_trip": "#b5179e",
}
WIDTH_TO_HEIGHT = 1.5
MIN_WIDTH_M = 50.0
LONG_STEPS = 10  # a step of that many typical ones is drawn as a gap
MAX_NUMBERED, MAX_DOTTED = 12, 500
UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))


@dataclass(frozen=True)
class Shown:
    """What is drawn of a trip: published rows in the order of time; points tell their steps."""

    title: str
    points: Table
    stays: Table
    rejects: Table
    forecasts: Table

    @property
    def started_at(self) -> datetime:
        return self.points.tracked_at.iloc[0]

    @property
    def steps(self) -> Table:
        return self.points[1:]

    @property
    def gap_s(self) -> float:
        """A step of more seconds is drawn as a gap: several typical ones."""
        return LONG_STEPS * float(self.steps.step_s.median())

    @property
    def is_gap_N(self) -> NDArray[np.bool_]:
        """Whether the step that arrives at each point but the first is long."""
        return (self.steps.step_s > self.gap_s).to_numpy()

    @property
    def splits(self) -> str:
        return ", ".join(sorted(set(self.forecasts.split)))

    @property
    def unit(self) -> tuple[str, float]:
        """The unit in which the trip's time is easiest to read, and its seconds."""
        total_s = (self.points.tracked_at.iloc[-1] - self.started_at).total_seconds()
        return next((unit for unit in UNITS[:-1] if total_s > 2 * unit[1]), UNITS[-1])

    def since_start(self, instants: Table) -> Array:
        """Time since the start of the trip, in its unit."""
        return ((instants - self.started_at).dt.total_seconds() / self.unit[1]).to_numpy()


class Frame:
    """Metres east and north of the middle of a trip, and the part of them that a map shows."""

    def __init__(self, lon_deg_N: Array, lat_deg_N: Array) -> None:
        lon_N, lat_N = np.radians(lon_deg_N), np.radians(lat_deg_N)
        outward = [np.cos(lat_N) * np.cos(lon_N), np.cos(lat_N) * np.sin(lon_N), np.sin(lat_N)]
        x, y, z = (float(part.mean()) for part in outward)
        self.lon_deg = math.degrees(math.atan2(y, x))
        self.lat_deg = math.degrees(math.atan2(z, math.hypot(x, y)))
        place_2N = self.of(lon_deg_N, lat_deg_N)
        low_2, high_2 = place_2N.min(1), place_2N.max(1)
        self.middle_2 = (low_2 + high_2) / 2
        half_east_m, half_north_m = (high_2 - low_2) / 2
        half_m = 1.15 * max(half_north_m, half_east_m / WIDTH_TO_HEIGHT, MIN_WIDTH_M / 2)
        self.half_2 = half_m * np.array([WIDTH_TO_HEIGHT, 1.0])

    def of(self, lon_deg_N: Any, lat_deg_N: Any) -> Array:
        import torch

        from model.earth.geometry import step_between

        places = (self.lon_deg, self.lat_deg, lon_deg_N, lat_deg_N)
        tensors = (torch.from_numpy(np.array(value, float)) for value in places)
        return torch.stack(step_between(*tensors)).numpy()

    def of_rows(self, rows: Table) -> Array:
        return self.of(rows.lon_deg, rows.lat_deg)

    def is_inside(self, place_2N: Array) -> NDArray[np.bool_]:
        return (np.abs(place_2N.T - self.middle_2) <= self.half_2).all(1)


def trip_figure(shown: Shown) -> bytes:
    """The picture as PNG."""
    ratios = [6.4, 2.2] if shown.forecasts.empty else [6.4, 2.2, 0.7]
    figure, axes = new_figure(rows=len(ratios), size=(10, 9.2))
    axes[0].get_gridspec().set_height_ratios(ratios)
    ax_map, ax_speed, *more = axes
    draw_map(ax_map, shown)
    figure.legend(loc="outside right upper", frameon=False)
    draw_speed(ax_speed, shown)
    for ax in more:
        draw_windows(ax, shown)
        ax.sharex(ax_speed)
        ax_speed.tick_params(labelbottom=False)
    axes[-1].set_xlabel(f"{shown.unit[0]} since {shown.started_at:%Y-%m-%d %H:%M:%S} UTC")
    return png(figure)


def draw_map(ax: Axes, shown: Shown) -> None:
    places = [rows[["lon_deg", "lat_deg"]].to_numpy(float) for rows in (shown.points, shown.stays)]
    frame = Frame(*np.concatenate(places).T)
    draw_net(ax, frame)
    draw_track(ax, shown, frame)
    draw_stays(ax, shown, frame)
    draw_rejects(ax, shown, frame)
    for name, colour, shape, row in (("start", TRUTH, "o", 0), ("end", INK, "s", -1)):
        style: Any = {"color": colour, "edgecolor": "white", "s": 70, "zorder": 6}
        ax.scatter(*frame.of_rows(shown.points)[:, row], marker=shape, label=name, **style)
    draw_scale(ax, frame)
    titled(ax, shown.title)


def draw_track(ax: Axes, shown: Shown, frame: Frame) -> None:
    """The line of a trip; a gap breaks it and is drawn beside it."""
    place_2N = frame.of_rows(shown.points)
    after = np.flatnonzero(shown.is_gap_N) + 1
    label = f"track, {len(shown.points):,} points"
    style: Any = {"marker": "." if len(shown.points) <= MAX_DOTTED else None, "markersize": 4}
    track_2N = np.insert(place_2N, after, np.nan, 1)
    ax.plot(*track_2N, color=TRACK, linewidth=1.4, label=label, **style)
    if after.size:
        ends = place_2N[:, after - 1], place_2N[:, after], np.full((2, after.size), np.nan)
        label = f"gap, over {spelt_s(shown.gap_s)} ({after.size:,})"
        style = {"linewidth": 1.2, "linestyle": (0, (2, 2)), "alpha": 0.6}
        ax.plot(*np.stack(ends, 2).reshape(2, -1), color=TRACK, label=label, **style)


def draw_stays(ax: Axes, shown: Shown, frame: Frame) -> None:
    if shown.stays.empty:
        return
    place_2N = frame.of_rows(shown.stays)
    style: Any = {"s": 130, "color": STAY, "edgecolor": "white", "alpha": 0.9, "zorder": 5}
    ax.scatter(*place_2N, label=f"stay ({len(shown.stays):,})", **style)
    if len(shown.stays) <= MAX_NUMBERED:
        for number, (east_m, north_m) in enumerate(place_2N.T, 1):
            style = {"ha": "center", "va": "center", "size": 7, "zorder": 5.5}
            ax.text(east_m, north_m, str(number), **style)


def draw_rejects(ax: Axes, shown: Shown, frame: Frame) -> None:
    """A cross for each rejected point; the legend tells how many are not on the map."""
    for rule, colour in RULE_COLOURS.items():
        rows = shown.rejects[shown.rejects.rule == rule]
        if rows.empty:
            continue
        is_on_earth_N = (rows.lon_deg.abs() <= 360) & (rows.lat_deg.abs() <= 90)
        place_2N = frame.of_rows(rows[is_on_earth_N])
        cross_2N = place_2N[:, frame.is_inside(place_2N)]
        num_outside = len(rows) - cross_2N.shape[1]
        outside = f", {num_outside:,} off the map" if num_outside else ""
        label = f"{rule.replace('_', ' ')} ({len(rows):,}{outside})"
        # Many crosses lie small and below the track, or they would hide it.
        size, layer = (6, 4.0) if len(rows) <= MAX_DOTTED else (3, 1.5)
        ax.plot(*cross_2N, "x", markersize=size, color=colour, zorder=layer, label=label)


def draw_scale(ax: Axes, frame: Frame) -> None:
    """A bar of a round length in the lower left corner."""
    length_m = round_down(frame.half_2[0] / 2)
    scale, unit = unit_of(length_m)
    west_m, south_m = frame.middle_2 - np.array([0.95, 0.92]) * frame.half_2
    ax.plot([west_m, west_m + length_m], [south_m, south_m], color=INK, linewidth=3, zorder=7)
    style: Any = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "size": 9}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
    middle = west_m + length_m / 2, south_m
    ax.annotate(f"{length_m / scale:g} {unit}", middle, zorder=7, bbox=box, **style)


def round_down(value: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... that is not above a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))


def draw_net(ax: Axes, frame: Frame) -> None:
    """Lines of longitude and latitude, named where they leave the map on the left and below."""
    low_2, high_2 = frame.middle_2 - frame.half_2, frame.middle_2 + frame.half_2
    ax.set(xlim=(low_2[0], high_2[0]), ylim=(low_2[1], high_2[1]), aspect="equal")
    ticks: tuple[dict[float, str], dict[float, str]] = ({}, {})
    for side, name, line_2N in net_lines(frame):
        ax.plot(*line_2N, color=NET, linewidth=0.8, zorder=0)
        found = crossings(line_2N[1 - side], line_2N[side], low_2[1 - side])
        ticks[side].update({at: name for at in found if low_2[side] <= at <= high_2[side]})
    for axis, named_at in zip((ax.xaxis, ax.yaxis), ticks, strict=True):
        axis.set_ticks(list(named_at), list(named_at.values()))
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=8)


def net_lines(frame: Frame) -> Iterator[tuple[int, str, Array]]:
    """The latitudes and longitudes that the map may show: side of the name, name, and line."""
    half_lon_deg, low_deg, high_deg = extent_deg(frame)
    lon_deg_N = frame.lon_deg + np.linspace(-half_lon_deg, half_lon_deg, 361)
    lat_deg_N = np.linspace(low_deg, high_deg, 361)
    shrunk = math.cos(math.radians(min(abs(frame.lat_deg), 85.0)))
    span_deg_2 = 2 * frame.half_2 / (DEGREE_M * np.array([shrunk, 1.0]))
    lon_step_deg, lat_step_deg = (min(round_down(span / 3), 20.0) for span in span_deg_2)
    for lat_deg in multiples(low_deg, high_deg, lat_step_deg):
        yield 1, named(lat_deg, lat_step_deg, "N", "S"), frame.of(lon_deg_N, lat_deg)
    # Half open: a map around a pole shows each meridian once.
    for lon_deg in multiples(lon_deg_N[0], lon_deg_N[-1] - 1e-9, lon_step_deg):
        name = named((lon_deg + 180) % 360 - 180, lon_step_deg, "E", "W")
        yield 0, name, frame.of(lon_deg, lat_deg_N)


def extent_deg(frame: Frame) -> tuple[float, float, float]:
    """Half the longitudes, and the lowest and highest latitude, of a circle around the map."""
    reach_deg = min(180.0, math.hypot(*(np.abs(frame.middle_2) + frame.half_2)) / DEGREE_M)
    low_deg, high_deg = frame.lat_deg - reach_deg, frame.lat_deg + reach_deg
    if low_deg <= -90 or high_deg >= 90:
        return 180.0, max(low_deg, -90.0), min(high_deg, 90.0)
    sine = math.sin(math.radians(reach_deg)) / math.cos(math.radians(frame.lat_deg))
    return math.degrees(math.asin(sine)), low_deg, high_deg


def multiples(low: float, high: float, step: float) -> list[float]:
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def named(value_deg: float, step_deg: float, positive: str, negative: str) -> str:
    """A longitude or latitude with as many digits as its step needs: 179.5°W."""
    digits = max(0, -math.floor(math.log10(step_deg) + 1e-9))
    side = positive if value_deg > 0 else negative
    is_seam = math.isclose(abs(value_deg), 180) or math.isclose(value_deg, 0, abs_tol=1e-9)
    return f"{abs(value_deg):.{digits}f}°{'' if is_seam else side}"


def crossings(across_N: Array, along_N: Array, level: float) -> list[float]:
    """Where along an edge a line comes across its `level`."""
    over_N = across_N - level
    before = np.flatnonzero(np.sign(over_N[:-1]) != np.sign(over_N[1:]))
    share = over_N[before] / (over_N[before] - over_N[before + 1])
    return (along_N[before] + share * (along_N[before + 1] - along_N[before])).tolist()


def draw_speed(ax: Axes, shown: Shown) -> None:
    """Speed of each step over its time; bands are stays and gaps, crosses are rejected points."""
    at_N, is_gap_N = shown.since_start(shown.points.tracked_at), shown.is_gap_N
    for start, end in zip(at_N[:-1][is_gap_N], at_N[1:][is_gap_N], strict=True):
        ax.axvspan(start, end, color=GAP, alpha=0.5, linewidth=0)
    spans = (shown.since_start(shown.stays[name]) for name in ("started_at", "finished_at"))
    for number, span in enumerate(zip(*spans, strict=True), 1):
        start, end = np.clip(span, at_N[0], at_N[-1])
        ax.axvspan(start, end, color=STAY, alpha=0.25, linewidth=0)
        if len(shown.stays) <= MAX_NUMBERED:
            style: Any = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            ax.text((start + end) / 2, 1.0, str(number), size=7, **style)
    ax.stairs(shown.steps.speed_mps.mask(is_gap_N), at_N, baseline=None, color=TRACK)
    for rule, colour in RULE_COLOURS.items():
        cross_N = shown.since_start(shown.rejects.tracked_at[shown.rejects.rule == rule])
        if cross_N.size:
            ax.plot(cross_N, np.zeros(cross_N.size), "x", color=colour, clip_on=False)
    ax.set_axisbelow(True)
    ax.set(xlim=(at_N[0], at_N[-1]), ylim=(0, None))
    ax.set_title("speed of each step (m/s)", loc="left", fontsize=9, color=INK, pad=12)


def draw_windows(ax: Axes, shown: Shown) -> None:
    """The stored windows, each from its first point to its last: what is known, what is asked."""
    at_N = shown.since_start(shown.points.tracked_at)
    ends: list[int] = []  # the last point of each lane so far
    bars: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for window in shown.forecasts.itertuples():
        first, last = window.start, window.start + window.num_points - 1
        origin = min(first + window.num_context - 1, last)
        lane = next((n for n, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        for start, end, colour in ((first, origin, INK), (origin, last, TRUTH)):
            bars.setdefault((lane, colour), []).append((at_N[start], at_N[end] - at_N[start]))
    for (lane, colour), spans in bars.items():
        ax.broken_barh(spans, (lane - 0.35, 0.7), color=colour, linewidth=0)
    ax.set(ylim=(len(ends) - 0.4, -0.6), yticks=[])
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    told = f"{len(shown.forecasts):,} stored forecast windows ({shown.splits}): "
    told += "known points (dark), then those asked for (green)"
    ax.set_title(told, loc="left", fontsize=9, color=INK)


def spelt_s(duration_s: float) -> str:
    """A duration in the largest two units that it fills."""
    left = round(duration_s)
    parts = []
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        number, left = divmod(left, size)
        parts += [f"{number} {name}"] if number else []
    return " ".join(parts[:2]) or "0 s"
