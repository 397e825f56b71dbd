"""One trip as a picture: a map that is true to scale anywhere on Earth, and speed over time below.

The map is drawn in metres around the middle of the trip (azimuthal equidistant), so that the date
line and the poles are places like any other. Lines of longitude and latitude tell where it lies.

Shapes: N points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.report.figures import INK, MODEL, RIVALS, TRUTH, new_figure, png, titled, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Row = dict[str, Any]
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


@dataclass(frozen=True)
class Shown:
    """What is drawn of a trip: rows of the published tables, in the order of time."""

    title: str
    points: Sequence[Row]
    steps: Sequence[Row]
    stays: Sequence[Row]
    rejects: Sequence[Row]
    windows: Sequence[Row]

    @property
    def started_at(self) -> datetime:
        return self.points[0]["tracked_at"]

    @property
    def gap_s(self) -> float:
        """A step of more seconds is drawn as a gap: several typical ones."""
        return LONG_STEPS * float(np.median([row["step_s"] for row in self.steps]))

    @property
    def is_gap_N(self) -> NDArray[np.bool_]:
        """Whether the step that arrives at each point but the first is long."""
        return np.array([row["step_s"] for row in self.steps]) > self.gap_s

    @property
    def num_gaps(self) -> int:
        return int(self.is_gap_N.sum())

    @property
    def places(self) -> list[Row]:
        """The rejected points that have a place on Earth."""
        return [
            row
            for row in self.rejects
            if row["lon_deg"] is not None
            and row["lat_deg"] is not None
            and abs(row["lon_deg"]) <= 360
            and abs(row["lat_deg"]) <= 90
        ]


class Frame:
    """Metres east and north of the middle of a trip, and the part of them that a map shows."""

    def __init__(self, rows: Sequence[Row]) -> None:
        lon_N, lat_N = (np.radians([row[name] for row in rows]) for name in ("lon_deg", "lat_deg"))
        outward = [np.cos(lat_N) * np.cos(lon_N), np.cos(lat_N) * np.sin(lon_N), np.sin(lat_N)]
        x, y, z = (float(part.mean()) for part in outward)
        self.lon_deg = math.degrees(math.atan2(y, x))
        self.lat_deg = math.degrees(math.atan2(z, math.hypot(x, y)))
        east_m_N, north_m_N = self.of_rows(rows)
        self.east_m, half_east_m = middle_and_half(east_m_N)
        self.north_m, half_north_m = middle_and_half(north_m_N)
        self.half_height_m = 1.15 * max(
            half_north_m, half_east_m / WIDTH_TO_HEIGHT, MIN_WIDTH_M / 2
        )
        self.half_width_m = self.half_height_m * WIDTH_TO_HEIGHT

    def of(self, lon_deg_N: Array, lat_deg_N: Array) -> tuple[Array, Array]:
        import torch

        from model.earth.geometry import step_between

        start = (torch.tensor(value, dtype=torch.float64) for value in (self.lon_deg, self.lat_deg))
        ends = (torch.from_numpy(np.asarray(value, float)) for value in (lon_deg_N, lat_deg_N))
        east_m_N, north_m_N = step_between(*start, *ends)
        return east_m_N.numpy(), north_m_N.numpy()

    def of_rows(self, rows: Sequence[Row]) -> tuple[Array, Array]:
        lon_deg_N, lat_deg_N = (
            np.array([row[name] for row in rows], float) for name in ("lon_deg", "lat_deg")
        )
        return self.of(lon_deg_N, lat_deg_N)

    def is_inside(self, east_m_N: Array, north_m_N: Array) -> NDArray[np.bool_]:
        is_near_east = np.abs(east_m_N - self.east_m) <= self.half_width_m
        return is_near_east & (np.abs(north_m_N - self.north_m) <= self.half_height_m)


def middle_and_half(value_N: Array) -> tuple[float, float]:
    low, high = float(value_N.min()), float(value_N.max())
    return (low + high) / 2, (high - low) / 2


def trip_figure(shown: Shown) -> bytes:
    """The picture as PNG."""
    figure, axes = new_figure(rows=3 if shown.windows else 2, size=(10, 9.2))
    ax_map, ax_speed, *more = axes[:, 0]
    ratios = [6.4, 2.2, 0.7] if shown.windows else [6.4, 2.2]
    axes[0][0].get_gridspec().set_height_ratios(ratios)
    draw_map(ax_map, shown)
    figure.legend(loc="outside right upper", frameon=False)
    draw_speed(ax_speed, shown)
    for ax in more:
        draw_windows(ax, shown)
        ax.sharex(ax_speed)
        ax_speed.tick_params(labelbottom=False)
    last = (more or [ax_speed])[-1]
    _, unit = time_unit(shown)
    last.set_xlabel(f"{unit} since {shown.started_at:%Y-%m-%d %H:%M:%S} UTC")
    return png(figure)


# Map ----------------------------------------------------------------------------------------------


def draw_map(ax: Axes, shown: Shown) -> None:
    frame = Frame([*shown.points, *shown.stays])
    east_m_N, north_m_N = frame.of_rows(shown.points)
    draw_net(ax, frame)
    # A gap breaks the line of the track and is drawn beside it.
    is_gap_N = shown.is_gap_N
    after = np.flatnonzero(is_gap_N) + 1
    track = (np.insert(value_N, after, np.nan) for value_N in (east_m_N, north_m_N))
    label = f"track, {len(shown.points):,} points"
    marker = "." if len(shown.points) <= MAX_DOTTED else None
    ax.plot(*track, color=TRACK, linewidth=1.4, marker=marker, markersize=4, label=label)
    if after.size:
        pairs = (
            np.stack([value_N[after - 1], value_N[after], np.full(after.size, np.nan)], 1).ravel()
            for value_N in (east_m_N, north_m_N)
        )
        label = f"gap, over {spelt_s(shown.gap_s)} ({after.size:,})"
        ax.plot(*pairs, color=TRACK, linewidth=1.2, linestyle=(0, (2, 2)), alpha=0.6, label=label)
    draw_stays(ax, shown, frame)
    draw_rejects(ax, shown, frame)
    for name, colour, shape, place in (("start", TRUTH, "o", 0), ("end", INK, "s", -1)):
        end = east_m_N[place], north_m_N[place]
        style: Row = {"color": colour, "edgecolor": "white", "s": 70, "zorder": 6}
        ax.scatter(*end, marker=shape, label=name, **style)
    draw_scale(ax, frame)
    titled(ax, shown.title)


def draw_stays(ax: Axes, shown: Shown, frame: Frame) -> None:
    if not shown.stays:
        return
    east_m_N, north_m_N = frame.of_rows(shown.stays)
    label = f"stay ({len(shown.stays):,})"
    style: Row = {"s": 130, "color": STAY, "edgecolor": "white", "alpha": 0.9, "zorder": 5}
    ax.scatter(east_m_N, north_m_N, label=label, **style)
    if len(shown.stays) > MAX_NUMBERED:
        return
    for number, place in enumerate(zip(east_m_N, north_m_N, strict=True), 1):
        ax.text(*place, str(number), ha="center", va="center", size=7, zorder=5.5)


def draw_rejects(ax: Axes, shown: Shown, frame: Frame) -> None:
    """A cross for each rejected point; the legend tells how many are not on the map."""
    totals = Counter(row["rule"] for row in shown.rejects)
    for rule, colour in RULE_COLOURS.items():
        if not totals[rule]:
            continue
        rows = [row for row in shown.places if row["rule"] == rule]
        east_m_N, north_m_N = frame.of_rows(rows)
        is_inside_N = frame.is_inside(east_m_N, north_m_N)
        num_outside = totals[rule] - int(is_inside_N.sum())
        outside = f", {num_outside:,} off the map" if num_outside else ""
        label = f"{rule.replace('_', ' ')} ({totals[rule]:,}{outside})"
        crosses = east_m_N[is_inside_N], north_m_N[is_inside_N]
        # Many crosses lie small and below the track, or they would hide it.
        size, layer = (6, 4.0) if totals[rule] <= MAX_DOTTED else (3, 1.5)
        ax.plot(*crosses, "x", markersize=size, color=colour, zorder=layer, label=label)


def draw_scale(ax: Axes, frame: Frame) -> None:
    """A bar of a round length in the lower left corner."""
    length_m = round_down(frame.half_width_m / 2)
    scale, unit = unit_of(length_m)
    west_m = frame.east_m - 0.95 * frame.half_width_m
    south_m = frame.north_m - 0.92 * frame.half_height_m
    ax.plot([west_m, west_m + length_m], [south_m, south_m], color=INK, linewidth=3, zorder=7)
    ax.annotate(
        f"{length_m / scale:g} {unit}",
        (west_m + length_m / 2, south_m),
        xytext=(0, 5),
        textcoords="offset points",
        ha="center",
        zorder=7,
        size=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1},
    )


def round_down(value: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... that is not above a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))


# Lines of longitude and latitude ------------------------------------------------------------------


def draw_net(ax: Axes, frame: Frame) -> None:
    """Lines of longitude and latitude, named where they leave the map on the left and below."""
    west_m, east_m = frame.east_m - frame.half_width_m, frame.east_m + frame.half_width_m
    south_m, north_m = frame.north_m - frame.half_height_m, frame.north_m + frame.half_height_m
    ax.set(xlim=(west_m, east_m), ylim=(south_m, north_m), aspect="equal")
    ax.grid(visible=False)
    left: list[tuple[float, str]] = []
    below: list[tuple[float, str]] = []
    for name, east_m_N, north_m_N in parallels(frame):
        ax.plot(east_m_N, north_m_N, color=NET, linewidth=0.8, zorder=0)
        left += [(at, name) for at in crossings(east_m_N, north_m_N, west_m, south_m, north_m)]
    for name, east_m_N, north_m_N in meridians(frame):
        ax.plot(east_m_N, north_m_N, color=NET, linewidth=0.8, zorder=0)
        below += [(at, name) for at in crossings(north_m_N, east_m_N, south_m, west_m, east_m)]
    ax.set_yticks([at for at, _ in left], [name for _, name in left])
    ax.set_xticks([at for at, _ in below], [name for _, name in below])
    ax.tick_params(length=0, labelsize=8)


def parallels(frame: Frame) -> Iterator[tuple[str, Array, Array]]:
    """The name and the line in metres of each latitude that the map may show."""
    half_lon_deg, low_deg, high_deg = extent_deg(frame)
    lon_deg_N = frame.lon_deg + np.linspace(-half_lon_deg, half_lon_deg, 361)
    step_deg = net_step_deg(2 * frame.half_height_m / DEGREE_M)
    for lat_deg in multiples(low_deg, high_deg, step_deg):
        name = named(lat_deg, step_deg, "N", "S")
        yield name, *frame.of(lon_deg_N, np.full(lon_deg_N.size, lat_deg))


def meridians(frame: Frame) -> Iterator[tuple[str, Array, Array]]:
    """The name and the line in metres of each longitude that the map may show."""
    half_lon_deg, low_deg, high_deg = extent_deg(frame)
    lat_deg_N = np.linspace(low_deg, high_deg, 361)
    degree_m = DEGREE_M * math.cos(math.radians(min(abs(frame.lat_deg), 85.0)))
    step_deg = net_step_deg(2 * frame.half_width_m / degree_m)
    # Half open: a map around a pole shows each meridian once.
    first_deg, last_deg = frame.lon_deg - half_lon_deg, frame.lon_deg + half_lon_deg - 1e-9
    for lon_deg in multiples(first_deg, last_deg, step_deg):
        name = named((lon_deg + 180) % 360 - 180, step_deg, "E", "W")
        yield name, *frame.of(np.full(lat_deg_N.size, lon_deg), lat_deg_N)


def extent_deg(frame: Frame) -> tuple[float, float, float]:
    """Half the longitudes, and the lowest and highest latitude, of a circle around the map."""
    reach_m = math.hypot(
        abs(frame.east_m) + frame.half_width_m, abs(frame.north_m) + frame.half_height_m
    )
    reach_deg = min(180.0, reach_m / DEGREE_M)
    low_deg, high_deg = frame.lat_deg - reach_deg, frame.lat_deg + reach_deg
    if low_deg <= -90 or high_deg >= 90:
        return 180.0, max(low_deg, -90.0), min(high_deg, 90.0)
    sine = math.sin(math.radians(reach_deg)) / math.cos(math.radians(frame.lat_deg))
    return math.degrees(math.asin(sine)), low_deg, high_deg


def net_step_deg(span_deg: float) -> float:
    return min(round_down(span_deg / 3), 20.0)


def multiples(low: float, high: float, step: float) -> list[float]:
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def named(value_deg: float, step_deg: float, positive: str, negative: str) -> str:
    """A longitude or latitude with as many digits as its step needs: 179.5°W."""
    digits = max(0, -math.floor(math.log10(step_deg) + 1e-9))
    side = positive if value_deg > 0 else negative
    is_seam = math.isclose(abs(value_deg), 180) or math.isclose(value_deg, 0, abs_tol=1e-9)
    return f"{abs(value_deg):.{digits}f}°{'' if is_seam else side}"


def crossings(
    across_N: Array, along_N: Array, level: float, low: float, high: float
) -> list[float]:
    """Where along an edge, between `low` and `high`, a line comes across its `level`."""
    over_N = across_N - level
    before = np.flatnonzero(np.sign(over_N[:-1]) != np.sign(over_N[1:]))
    share = over_N[before] / (over_N[before] - over_N[before + 1])
    found = along_N[before] + share * (along_N[before + 1] - along_N[before])
    return [float(at) for at in found if low <= at <= high]


# Speed and windows --------------------------------------------------------------------------------


def draw_speed(ax: Axes, shown: Shown) -> None:
    """Speed of each step over its time; bands are stays and gaps, crosses are rejected points."""
    scale_s, _ = time_unit(shown)
    at_N = elapsed_s(shown, [row["tracked_at"] for row in shown.points]) / scale_s
    for is_start, (start, end) in zip(shown.is_gap_N, pairs_of(at_N), strict=True):
        if is_start:
            ax.axvspan(start, end, color=GAP, alpha=0.5, linewidth=0)
    for number, stay in enumerate(shown.stays, 1):
        span = elapsed_s(shown, [stay["started_at"], stay["finished_at"]]) / scale_s
        start, end = np.clip(span, at_N[0], at_N[-1])
        ax.axvspan(start, end, color=STAY, alpha=0.25, linewidth=0)
        if len(shown.stays) <= MAX_NUMBERED:
            top = (start + end) / 2, 1.0
            where = ax.get_xaxis_transform()
            ax.text(*top, str(number), transform=where, ha="center", va="bottom", size=7)
    speed_mps = np.array([row["speed_mps"] for row in shown.steps])
    ax.stairs(np.where(shown.is_gap_N, np.nan, speed_mps), at_N, baseline=None, color=TRACK)
    for rule, colour in RULE_COLOURS.items():
        times = [row["tracked_at"] for row in shown.rejects if row["rule"] == rule]
        if times:
            rug = np.zeros(len(times))
            ax.plot(elapsed_s(shown, times) / scale_s, rug, "x", color=colour, clip_on=False)
    ax.set_axisbelow(True)
    ax.set_xlim(at_N[0], at_N[-1])
    ax.set_ylim(bottom=0)
    subtitled(ax, "speed of each step (m/s)", pad=12)


def subtitled(ax: Axes, text: str, pad: float = 6) -> None:
    ax.set_title(text, loc="left", fontsize=9, color=INK, pad=pad)


def draw_windows(ax: Axes, shown: Shown) -> None:
    """The stored windows, each from its first point to its last: what is known, what is asked."""
    scale_s, _ = time_unit(shown)
    at_N = elapsed_s(shown, [row["tracked_at"] for row in shown.points]) / scale_s
    ends: list[int] = []  # the last point of each lane so far
    bars: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for window in sorted(shown.windows, key=lambda row: row["start"]):
        first, last = window["start"], window["start"] + window["num_points"] - 1
        origin = min(first + window["num_context"] - 1, last)
        lane = next((n for n, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        for start, end, colour in ((first, origin, INK), (origin, last, TRUTH)):
            span = float(at_N[start]), float(at_N[end] - at_N[start])
            bars.setdefault((lane, colour), []).append(span)
    for (lane, colour), spans in bars.items():
        ax.broken_barh(spans, (lane - 0.35, 0.7), color=colour, linewidth=0)
    ax.set_ylim(len(ends) - 0.4, -0.6)
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    names = ", ".join(sorted({row["split"] for row in shown.windows}))
    subtitled(
        ax,
        f"{len(shown.windows):,} stored forecast windows ({names}): "
        "known points (dark), then those asked for (green)",
    )


def pairs_of(value_N: Array) -> Iterator[tuple[float, float]]:
    return zip(value_N[:-1].tolist(), value_N[1:].tolist(), strict=True)


def elapsed_s(shown: Shown, instants: Sequence[datetime]) -> Array:
    return np.array([(at - shown.started_at).total_seconds() for at in instants])


def time_unit(shown: Shown) -> tuple[float, str]:
    """Seconds in the unit in which the trip is easiest to read, and its name."""
    total_s = (shown.points[-1]["tracked_at"] - shown.started_at).total_seconds()
    units = ((172_800, 86_400.0, "days"), (7_200, 3_600.0, "hours"), (120, 60.0, "minutes"))
    return next(((size, name) for least, size, name in units if total_s > least), (1.0, "seconds"))


def spelt_s(duration_s: float) -> str:
    """A duration in the largest two units that it fills."""
    left = round(duration_s)
    parts = []
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        number, left = divmod(left, size)
        parts += [f"{number} {name}"] if number else []
    return " ".join(parts[:2]) or "0 s"
