"""Charts as SVG in HTML, with a text alternative: true to any width, since places are shares of it.

Text keeps its size on a phone and on a desk, as no chart is scaled as a whole.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LEFT, ACROSS = 11.0, 87.0  # percent of the width: where the plot of lines begins, and its width
ROOM = 78  # percent of the width that marks may take, for what is said of them stands on the right
WORST = 0.5  # skills beyond this stand at the edge of a chart
ROW, TOP, FOOT = 56, 24, 24  # pixels
PLOT = 230
STROKE = ("95 % interval", "span alike")
SKILL_KINDS = (
    ("ahead", "ahead"),
    ("behind", "behind"),
    ("cannot be told apart, or too few to judge", "alike"),
    STROKE,
)
DASHES = ("", "d1", "d2", "d3", "d4")


@dataclass(frozen=True)
class Mark:
    """A value and its interval; `kind` is its colour."""

    value: float
    low: float
    high: float
    kind: str


@dataclass(frozen=True)
class ChartRow:
    """A line of a chart of intervals: what it is about, what is said of it, and its marks."""

    label: str
    note: str
    below: str
    marks: Sequence[Mark]
    verdict: str = ""  # in colours for most readers, in words for the others

    @property
    def words(self) -> str:
        told = (f"{self.note} {self.verdict}".strip(), self.below)
        return f"{self.label}: {'; '.join(filter(None, told))}."


@dataclass(frozen=True)
class Axis:
    """The part of a scale that is shown, and texts at some of its places."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1; what is outside lies at the end."""
        value = min(max(value, self.low), self.high)
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        return f"{2 + ROOM * self.share(value):.2f}%"


@dataclass(frozen=True)
class Second:
    """A second unit of an axis: its sign, and how many of it make one of the first."""

    sign: str
    factor: float


@dataclass(frozen=True)
class Series:
    """A line of a chart; the first is ours."""

    name: str
    points: Sequence[tuple[float, float]]


def figure(name: str, title: str, described: str, drawn: str, height: int, after: str = "") -> str:
    """A chart under its title; who cannot see it is told what it shows."""
    about = f'role="img" aria-labelledby="{name}-title {name}-text"'
    return (
        f'<figure><figcaption id="{name}-title">{html.escape(title)}</figcaption>'
        f'<svg class="chart" {about} height="{height}">'
        f'<desc id="{name}-text">{html.escape(described)}</desc>{drawn}</svg>{after}</figure>'
    )


def text(x: str, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{html.escape(words)}</text>'
    )


# Intervals --------------------------------------------------------------------------------------


def interval_chart(
    name: str,
    title: str,
    rows: Sequence[ChartRow],
    axis: Axis,
    ends: tuple[str, str] = ("", ""),
    legend: str = "",
) -> str:
    """Values with their intervals, a row each, against the ticks of an axis."""
    height = TOP + ROW * len(rows) + FOOT
    drawn = [text("0", 12, ends[0], "muted"), text(f"{2 + ROOM}%", 12, ends[1], "muted", "end")]
    for value, words in axis.ticks:
        x = axis.percent(value)
        foot = TOP + ROW * len(rows)
        drawn.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{foot}"/>')
        drawn.append(text(x, foot + 15, words, "muted", "middle"))
    for number, row in enumerate(rows):
        drawn += row_drawn(row, axis, TOP + ROW * number)
    described = " ".join(row.words for row in rows)
    return figure(name, title, described, "".join(drawn), height, legend)


def row_drawn(row: ChartRow, axis: Axis, top: float) -> Iterator[str]:
    yield text("0", top + 13, row.label, "strong")
    yield text("100%", top + 13, row.note, "", "end")
    for mark in row.marks:
        if math.isfinite(mark.value):
            yield mark_drawn(mark, axis, top + 24)
    yield text("0", top + 42, row.below, "muted")


def mark_drawn(mark: Mark, axis: Axis, y: float) -> str:
    low, high = (
        axis.percent(value if math.isfinite(value) else mark.value)
        for value in (mark.low, mark.high)
    )
    return (
        f'<line class="span {mark.kind}" x1="{low}" x2="{high}" y1="{y:g}" y2="{y:g}"/>'
        f'<circle class="{mark.kind}" cx="{axis.percent(mark.value)}" cy="{y:g}" r="5"/>'
    )


def skill_chart(name: str, title: str, rows: Sequence[ChartRow], bar: str) -> str:
    """Skills with their intervals, to the right of a bar where they are better than it."""
    marks = [mark for row in rows for mark in row.marks]
    is_cut = any(mark.value < -WORST for mark in marks)
    ends = (f"← worse{f', cut at {-WORST:.0%}' if is_cut else ''}", "better →")
    return interval_chart(name, title, rows, skill_axis(marks, bar), ends, legend_of(SKILL_KINDS))


def skill_axis(marks: Sequence[Mark], bar: str) -> Axis:
    """From the worst to the best of some skills, at least a tenth to both sides of none."""
    found = [value for one in marks for value in (one.low, one.value, one.high)]
    found = [min(max(value, -WORST), WORST) for value in found if not math.isnan(value)]
    low, high = min([-0.1, *found]), max([0.1, *found])
    return Axis(low, high, [(0.0, bar)])


# Lines and bars ---------------------------------------------------------------------------------


def steps_between(low: float, high: float, number: int = 4) -> list[float]:
    """Round values that part a scale into about as many pieces."""
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * size for size in (1, 2, 2.5, 5, 10) if rough <= power * size * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [step * count for count in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    name: str,
    title: str,
    series: Sequence[Series],
    x_ticks: Sequence[tuple[float, str]],
    labels: tuple[str, str],
    described: str,
    second: Second | None = None,
) -> str:
    """Lines from the origin up, with a legend; the first is ours.

    With a second unit, what the ticks are in it stands on the right.
    """
    points = [point for one in series for point in one.points]
    high = max(y for _, y in points) * 1.05 or 1.0
    places = [x for x, _ in (*points, *x_ticks)]
    x_axis = Axis(min(places), max(places) + 1e-9, x_ticks)
    y_axis = Axis(min(0.0, min(y for _, y in points)), high, [])
    across = ACROSS - (10 if second else 0)
    drawn = [
        text("0", 12, labels[1], "muted"),
        text("100%", 12, second.sign if second else "", "muted", "end"),
        text("99%", TOP + PLOT + 36, labels[0], "muted", "end"),
    ]
    for value in steps_between(y_axis.low, y_axis.high):
        y = TOP + PLOT * (1 - y_axis.share(value))
        end = LEFT + across
        drawn.append(f'<line class="axis" x1="{LEFT}%" x2="{end}%" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(text(f"{LEFT - 1}%", y + 4, f"{value:,g}", "muted", "end"))
        if second:
            drawn.append(text("100%", y + 4, f"{value * second.factor:,.3g}", "muted", "end"))
    for value, words in x_ticks:
        x = f"{LEFT + across * x_axis.share(value):.2f}%"
        drawn.append(text(x, TOP + PLOT + 18, words, "muted", "middle"))
    kinds = kinds_of(len(series))
    lines = "".join(
        polyline(one, kind, x_axis, y_axis) for one, kind in zip(series, kinds, strict=True)
    )
    drawn.append(
        f'<svg x="{LEFT}%" y="{TOP}" width="{across}%" height="{PLOT}" viewBox="0 0 1000 1000" '
        f'preserveAspectRatio="none" overflow="visible">{lines}</svg>'
    )
    legend = legend_of([(one.name, kind) for one, kind in zip(series, kinds, strict=True)])
    return figure(name, title, described, "".join(drawn), TOP + PLOT + 44, legend)


def kinds_of(number: int) -> list[str]:
    """The looks of lines: ours, then others by their dashes."""
    others = [f"line {colour} {dash}" for dash in DASHES for colour in ("rival", "grey")]
    return ["line ours", *itertools.islice(itertools.cycle(others), number - 1)]


def polyline(series: Series, kind: str, x_axis: Axis, y_axis: Axis) -> str:
    places = " ".join(
        f"{1_000 * x_axis.share(x):.1f},{1_000 * (1 - y_axis.share(y)):.1f}"
        for x, y in series.points
    )
    return f'<polyline class="{kind}" points="{places}"/>'


def legend_of(kinds: Sequence[tuple[str, str]]) -> str:
    """Names beside a piece of each line, or beside a mark."""
    items = "".join(
        f'<li><svg class="chart" aria-hidden="true">{sample_of(kind)}</svg>{html.escape(name)}</li>'
        for name, kind in kinds
    )
    return f'<ul class="legend">{items}</ul>'


def sample_of(kind: str) -> str:
    """A piece of a line, or a mark."""
    if kind.startswith(("line", "span")):
        return f'<line class="{kind}" x1="1" x2="29" y1="5" y2="5"/>'
    return f'<circle class="{kind}" cx="22" cy="5" r="4"/>'


def bar_chart(
    name: str,
    title: str,
    bars: Sequence[tuple[str, float]],
    expected: float,
    across: str,
    words: str,
) -> str:
    """Shares as bars, what they are of below them, and a line where all of them should end."""
    height, wide = 130, 100 / len(bars)
    high = max(expected * 1.5, *(value for _, value in bars))
    drawn = [
        text("0", 12, "share of windows", "muted"),
        text("100%", 12, f"dashed: {expected:.0%}, as it should be", "muted", "end"),
        text("100%", TOP + height + 33, across, "muted", "end"),
    ]
    for number, (label, value) in enumerate(bars):
        tall = height * value / high
        x, middle = wide * number + 0.8, wide * (number + 0.5)
        drawn.append(
            f'<rect class="bar ours" x="{x:.2f}%" width="{wide - 1.6:.2f}%" '
            f'y="{TOP + height - tall:.1f}" height="{tall:.1f}"/>'
        )
        drawn.append(text(f"{middle:.2f}%", TOP + height + 15, label, "muted", "middle"))
    y = TOP + height * (1 - expected / high)
    drawn.append(f'<line class="mark" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
    return figure(name, title, words, "".join(drawn), TOP + height + 40)
