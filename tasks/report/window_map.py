"""Window map: typical and worst windows, each drawn step by step, with samples and areas.

A map is in kilometres around the last known point (azimuthal equidistant), so that the date line
and the poles are places like any other, and needs no tiles: lines of longitude and latitude tell
where it lies. The page's script pans, zooms and steps; without it a map stands at its last step.
Only data that follow no people are drawn.

Shapes: N points.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.report.charts import legend_of, steps_between
from tasks.report.markup import spoken
from tasks.report.page_parts import Folded, Html, Part, Table
from tasks.report.units import distance, horizon

DEGREE_KM = 111.195
REACH = 2.5  # how much more than the lines a net of degrees covers, to either side
MIN_KM = 0.05
NUM_PIECES = 12  # of a line of the net, where it is bent
Km = tuple[float, float]  # east and north
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Window:
    """One test window: everyone's points by kind, in the order of their steps."""

    number: int
    rows: Rows
    model: str
    bar: str
    is_nautical: bool

    def line(self, kind: str, sample: int | None = None) -> Rows:
        return [row for row in self.rows if row["kind"] == kind and row["sample"] == sample]

    @property
    def samples(self) -> list[Rows]:
        found: dict[int, Rows] = {}
        for row in self.rows:
            if row["sample"] is not None:
                found.setdefault(row["sample"], []).append(row)
        return [found[number] for number in sorted(found)]

    @property
    def origin(self) -> dict[str, Any]:
        return self.line("context")[-1]

    @property
    def title(self) -> str:
        role, entity = self.origin["role"], self.origin["entity_id"]
        return f"{role}: {entity} from {self.origin['at']:%Y-%m-%d %H:%M} UTC"

    @property
    def told(self) -> tuple[str, str]:
        return self.model, self.bar

    @property
    def last_words(self) -> str:
        """How long after the last known point a window ends."""
        last_at = self.line("truth")[-1]["at"]
        return horizon((last_at - self.origin["at"]).total_seconds())

    def km_of(self, rows: Rows) -> list[Km]:
        return places_km(self.origin, [(row["lon_deg"], row["lat_deg"]) for row in rows])

    def away_m(self, kind: str) -> list[float]:
        """How far a forecast is from what came, at each step."""
        import torch

        from model.earth.geometry import haversine_m

        lines = (self.line("truth"), self.line(kind))
        columns = [[row[name] for row in line] for line in lines for name in ("lon_deg", "lat_deg")]
        away_m: list[float] = haversine_m(*(torch.tensor(one).double() for one in columns)).tolist()
        return away_m


def places_km(origin: dict[str, Any], lon_lat_deg: Sequence[tuple[float, float]]) -> list[Km]:
    """Kilometres east and north of an origin."""
    import torch

    from model.earth.geometry import step_between

    lon_deg_N, lat_deg_N = torch.tensor(lon_lat_deg, dtype=torch.float64).reshape(-1, 2).T
    from_lon_deg, from_lat_deg = (
        torch.full_like(lon_deg_N, origin[name]) for name in ("lon_deg", "lat_deg")
    )
    east_m_N, north_m_N = step_between(from_lon_deg, from_lat_deg, lon_deg_N, lat_deg_N)
    return list(zip((east_m_N / 1e3).tolist(), (north_m_N / 1e3).tolist(), strict=True))


def read_windows(examples: Path, model: str, bar: str, is_nautical: bool) -> list[Window]:
    """The stored examples, typical ones first."""
    rows = pq.read_table(examples, partitioning=None).sort_by([("step", "ascending")]).to_pylist()
    by_id: dict[tuple[str, int], Rows] = {}
    for row in rows:
        by_id.setdefault((row["role"], row["window_id"]), []).append(row)
    numbers = count()
    return [Window(next(numbers), by_id[key], model, bar, is_nautical) for key in sorted(by_id)]


# The page ---------------------------------------------------------------------------------------


def map_parts(windows: Sequence[Window]) -> list[str | Part]:
    """One map with a choice of windows, and what it shows as tables."""
    if not windows:
        return []
    options = "".join(
        f'<option value="{one.number}">{html.escape(one.title)}</option>' for one in windows
    )
    views = "".join(map(view_of, windows))
    tables = Folded("Steps of these windows as tables", [steps_table(one) for one in windows]).html
    drawn = (
        '<div class="map" id="map"><div class="controls" hidden>'
        f"<label>Window <select>{options}</select></label></div>{views}{CONTROLS}"
        f"{legend_of(legend_kinds(windows[0]))}"
        '<output aria-live="polite"></output>'
        f'<p class="hint" hidden>{HINT}</p>{tables}</div>'
    )
    return [EXPLAINED, Html(drawn), Folded("Windows of the map", [windows_table(windows)])]


def windows_table(windows: Sequence[Window]) -> Table:
    """Each window, and how far everyone is off at its end."""
    model, bar = spoken(windows[0].model), spoken(windows[0].bar)
    cells = [
        (
            window.title,
            window.last_words,
            *(distance(window.away_m(kind)[-1], window.is_nautical) for kind in window.told),
        )
        for window in windows
    ]
    return Table(
        "Errors at the end of the windows of the map", ("window", "after", model, bar), cells
    )


EXPLAINED = (
    "Typical windows are those whose error is nearest to the median of all test windows; the worst "
    "are of different entities. Samples are futures that the model thinks possible. The dashed "
    "circle should hold what came in four cases of five; it is calibrated, the samples are not."
)
HINT = (
    "Drag to move. On a touch screen tap the map first; two fingers zoom. With keys, once the map "
    "is in focus: arrows move, + and - zoom, 0 shows all, comma and full stop step."
)
CONTROLS = (
    '<div class="controls" hidden><label for="step">Step</label>'
    '<button type="button" data-step="-1" aria-label="One step back">◀</button>'
    '<input id="step" type="range" min="0" step="1">'
    '<button type="button" data-step="1" aria-label="One step on">▶</button>'
    '<button type="button" data-zoom="0.7" aria-label="Zoom in">+</button>'
    '<button type="button" data-zoom="1.43" aria-label="Zoom out">−</button>'
    '<button type="button" data-zoom="0">Show all</button>'
    '<label><input type="checkbox" data-shows="sample" checked> samples</label>'
    '<label><input type="checkbox" data-shows="area" checked> 80 % area</label>'
    '<span class="scale" aria-hidden="true"></span></div>'
)


def legend_kinds(window: Window) -> list[tuple[str, str]]:
    kinds = [
        ("known", "line known"),
        ("what came", "line truth"),
        (spoken(window.model), "line ours"),
        (spoken(window.bar), "line rival d1"),
    ]
    told = [("samples", "line ours sample"), ("80 % area", "line ours d2")]
    return kinds + (told if window.samples else [])


def steps_table(window: Window) -> Table:
    """What a map shows, in numbers: where a step is, and how far everyone is off."""
    ours, bar = window.away_m(window.model), window.away_m(window.bar)
    origin_at = window.origin["at"]
    rows = []
    for place, row in enumerate(window.line(window.model)):
        elapsed_s, radius_m = (row["at"] - origin_at).total_seconds(), row["radius_p80_m"]
        area = "" if radius_m is None else distance(radius_m, window.is_nautical)
        lies = "" if radius_m is None else "inside" if ours[place] <= radius_m else "outside"
        errors = (distance(one[place], window.is_nautical) for one in (ours, bar))
        rows.append((str(row["step"]), horizon(elapsed_s), *errors, area, lies))
    columns = (
        *("step", "after", f"{spoken(window.model)} is off by", f"{spoken(window.bar)} by"),
        *("80 % radius", "what came is"),
    )
    return Table(window.title, columns, rows)


# The map ----------------------------------------------------------------------------------------


def view_of(window: Window) -> str:
    """The drawing of a window; its lines begin at the last known point."""
    origin = window.origin
    known = window.km_of(window.line("context"))
    kinds = {"truth": "line truth", window.bar: "line rival d1", window.model: "line ours"}
    lines = {kind: window.km_of([origin, *window.line(kind)]) for kind in kinds}
    samples = [window.km_of([origin, *rows]) for rows in window.samples]
    west, south, wide, tall = box_of([*known, *(place for one in lines.values() for place in one)])
    areas = [
        f'<circle class="area" data-step="{row["step"]}" cx="{east:.4g}" cy="{-north:.4g}" '
        f'r="{row["radius_p80_m"] / 1e3:.4g}"/>'
        for row, (east, north) in zip(
            window.line(window.model), lines[window.model][1:], strict=True
        )
        if row["radius_p80_m"] is not None
    ]
    drawn = [
        net_of(origin, west, south, wide, tall),
        *areas,
        *(polyline(place, "line ours sample", "sample") for place in samples),
        polyline(known, "line known"),
        *(polyline(place, kinds[kind], "path") for kind, place in lines.items()),
        *(dot(place[-1], kinds[kind], kind) for kind, place in lines.items()),
    ]
    words = html.escape(f"Map of {window.title}. {summary(window)}")
    view = f"{west:.6g} {-south - tall:.6g} {wide:.6g} {tall:.6g}"
    return (
        f'<svg class="view" data-window="{window.number}" viewBox="{view}" role="img" '
        f'tabindex="0" aria-label="{words}" style="--unit:{wide / 600:.4g}">'
        f"{''.join(drawn)}</svg>"
    )


def summary(window: Window) -> str:
    """The end of a window in words."""
    ours, bar = (distance(window.away_m(kind)[-1], window.is_nautical) for kind in window.told)
    model, rival = map(spoken, window.told)
    return f"After {window.last_words}, {model} is off by {ours} and {rival} by {bar}."


def box_of(places: Sequence[Km]) -> tuple[float, float, float, float]:
    """West, south, width and height of a view that holds all places with a margin, in km."""
    easts, norths = zip(*places, strict=True)
    middle = (max(easts) + min(easts)) / 2, (max(norths) + min(norths)) / 2
    half = 0.6 * max(max(easts) - min(easts), max(norths) - min(norths), MIN_KM)
    return middle[0] - half, middle[1] - half, 2 * half, 2 * half


def polyline(places: Sequence[Km], kind: str, role: str = "") -> str:
    """A line of a map; those with a role are cut at the step that is shown."""
    points = " ".join(f"{east:.5g},{-north:.5g}" for east, north in places)
    told = f' data-role="{role}"' if role else ""
    return f'<polyline class="{kind}"{told} points="{points}"/>'


def dot(place: Km, kind: str, of: str) -> str:
    """A point where a line ends: as wide at every zoom."""
    looks = kind.replace("line ", "dot ")
    return f'<path class="{looks}" data-role="dot" d="M{place[0]:.5g} {-place[1]:.5g}h0"/>'


# The net of degrees -----------------------------------------------------------------------------


def net_of(origin: dict[str, Any], west: float, south: float, wide: float, tall: float) -> str:
    """Lines of longitude and latitude around a view, some of them in it, with their degrees."""
    lat_deg = origin["lat_deg"] + (south + tall / 2) / DEGREE_KM
    per_degree_km = DEGREE_KM * max(math.cos(math.radians(lat_deg)), 0.1)
    lon_deg = origin["lon_deg"] + (west + wide / 2) / per_degree_km
    half_lat_deg, half_lon_deg = tall / 2 / DEGREE_KM, wide / 2 / per_degree_km
    step_deg = net_step(half_lat_deg)
    lats = between(lat_deg - REACH * half_lat_deg, lat_deg + REACH * half_lat_deg, step_deg, 90)
    lons = between(lon_deg - REACH * half_lon_deg, lon_deg + REACH * half_lon_deg, step_deg, 1e9)
    lons = [lon for lon in lons if abs(lon - lon_deg) <= 180]
    return "".join(net_lines(origin, lons, lats, step_deg))


def net_step(half_deg: float) -> float:
    """A round number of degrees of which a view shows a few."""
    found = steps_between(0, max(2 * half_deg, 1e-4))
    return found[1] - found[0]


def between(low: float, high: float, step: float, limit: float) -> list[float]:
    first, last = math.ceil(max(low, -limit) / step), math.floor(min(high, limit) / step)
    return [step * number for number in range(first, last + 1)]


def net_lines(
    origin: dict[str, Any], lons: Sequence[float], lats: Sequence[float], step_deg: float
) -> Iterator[str]:
    """Each line, and the name that the script keeps at the edge of the view."""
    if len(lons) < 2 or len(lats) < 2:
        return
    pieces = NUM_PIECES if step_deg > 0.2 else 2
    for lat in lats:
        ends = spread(lons[0], lons[-1], pieces)
        yield named(origin, [(lon, lat) for lon in ends], degrees(lat, "NS"), "lat")
    for lon in lons:
        ends = spread(lats[0], lats[-1], pieces)
        wrapped = (lon + 180) % 360 - 180
        yield named(origin, [(lon, lat) for lat in ends], degrees(wrapped, "EW"), "lon")


def spread(low: float, high: float, pieces: int) -> list[float]:
    return [low + (high - low) * place / pieces for place in range(pieces + 1)]


def degrees(value: float, letters: str) -> str:
    return f"{abs(value):.6g}°{letters[value < 0] if value else ''}"


def named(
    origin: dict[str, Any], line: Sequence[tuple[float, float]], words: str, axis: str
) -> str:
    places = places_km(origin, line)
    east, north = places[len(places) // 2]
    return (
        f"{polyline(places, 'net', axis)}"
        f'<text x="{east:.5g}" y="{-north:.5g}" data-axis="{axis}">{words}</text>'
    )
