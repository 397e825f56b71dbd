"""Pictures of the tutorial: attention maps, masks, forecasts, histograms, tracks.

Each is an image that a notebook shows by itself, with words for those who cannot see it. Colours
are those of the report, and text stays readable on a phone.

Shapes: M maps, Q queries, T points, H steps ahead, S samples, N things.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model.earth.arrays import Floats
from model.earth.frame import Frame
from tasks.report.figures import DASHES, INK, MODEL, RIVALS, TRUTH, new_figure, png, titled, unit_of

WIDTH = 5.0  # inches; text of 10 points is then 10 pixels high on a phone of 360
PAPER, FAINT = "#eef2f5", "#b8c2cc"
COLOURS = (MODEL, TRUTH, "#457b9d", "#e9a03b", "#7b5ea7", "#4d4d4d")
SHARES = (0.95, 0.8, 0.5)
Values = Any  # numbers: a list, an array or a tensor


@dataclass(frozen=True)
class Picture:
    """An image and what it says in words."""

    png: bytes = field(repr=False)
    alt: str

    def _repr_html_(self) -> str:
        width = int.from_bytes(self.png[16:20], "big") * 100 // 144
        data = base64.b64encode(self.png).decode()
        style = f"width: 100%; max-width: {width}px; background: #fff"
        alt = html.escape(self.alt)
        return f'<img alt="{alt}" style="{style}" src="data:image/png;base64,{data}">'


@dataclass(frozen=True)
class Several:
    """Pictures or views below each other, where one cell shows more than one."""

    parts: Sequence[Any]

    def _repr_html_(self) -> str:
        return "\n".join(f"<div>{part._repr_html_()}</div>" for part in self.parts)


@dataclass(frozen=True)
class Text:
    """A text in markdown, such as a table, which a notebook sets as it sets its own texts."""

    markdown: str

    def _repr_markdown_(self) -> str:
        return self.markdown


def array(values: Values) -> Floats:
    """Numbers as an array, also those that a network is still learning from."""
    plain = values.detach().cpu() if hasattr(values, "detach") else values
    return np.asarray(plain, dtype=np.float64)


def drawn(figure: Any, alt: str) -> Picture:
    return Picture(png(figure), alt)


# Tables of numbers ------------------------------------------------------------------------------


def attention_map(
    weight_MQT: Values,
    title: str,
    labels: Sequence[str] = (),
    names: Sequence[str] = (),
    is_allowed_QT: Values | None = None,
) -> Picture:
    """How much each point (a row) reads of each other (a column); several maps stand in a row.

    Cells that are not allowed are hatched.
    """
    weight_MQT = array(weight_MQT)
    weight_MQT = weight_MQT[None] if weight_MQT.ndim == 2 else weight_MQT
    names = names or [""] * len(weight_MQT)
    size = (WIDTH, 3.6 if len(names) == 1 else 2.6)
    figure, axes = new_figure(columns=len(names), size=size)
    axes = np.atleast_1d(axes)
    for ax, weight_QT, name in zip(axes, weight_MQT, names, strict=True):
        image = ax.imshow(weight_QT, cmap="viridis", vmin=0, vmax=max(weight_MQT.max(), 1e-9))
        if is_allowed_QT is not None:
            _hatch(ax, array(is_allowed_QT) == 0)
        _label(ax, labels)
        ax.set_xlabel(f"is read ({name})" if name else "is read")
    axes[0].set_ylabel("reads")
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    titled(axes[0], title)
    told = zip(names, weight_MQT, strict=True)
    largest = [f"{name or 'map'}: {_largest(weight_QT, labels)}" for name, weight_QT in told]
    return drawn(figure, f"{title}. Each row reads most of, in {'; in '.join(largest)}.")


def _largest(weight_QT: Floats, labels: Sequence[str]) -> str:
    said = labels or [str(place) for place in range(weight_QT.shape[1])]
    return ", ".join(said[place] for place in weight_QT.argmax(axis=1))


def _label(ax: Any, labels: Sequence[str]) -> None:
    ax.grid(False)
    if labels:
        ax.set_xticks(range(len(labels)), labels, rotation=90)
        ax.set_yticks(range(len(labels)), labels)


def _hatch(ax: Any, is_closed_QT: Any) -> None:
    for row, column in zip(*np.nonzero(is_closed_QT), strict=True):
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(_rectangle(corner, 1, 1, facecolor=PAPER, edgecolor=FAINT, hatch="///"))


def _rectangle(corner: tuple[float, float], width: float, height: float, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, **style)


def heat_map(value_RC: Values, title: str, rows: str, columns: str, label: str) -> Picture:
    """A table of numbers as colours, around zero where some are negative."""
    value_RC = array(value_RC)
    figure, ax = new_figure(size=(WIDTH, 3.2))
    is_signed, largest = bool((value_RC < 0).any()), float(np.abs(value_RC).max())
    style = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest} if is_signed else {}
    image = ax.imshow(value_RC, aspect="auto", interpolation="nearest", **style)
    figure.colorbar(image, ax=ax, label=label)
    ax.grid(False)
    _count(ax.xaxis, ax.yaxis)
    ax.set(xlabel=columns, ylabel=rows)
    titled(ax, title)
    size = f"{value_RC.shape[0]} by {value_RC.shape[1]}, a row is a {rows}, a column a {columns}"
    span = f"{value_RC.min():.3g} to {value_RC.max():.3g}"
    return drawn(figure, f"{title}. A table, {size}: {label} from {span}.")


def _count(*axes: Any) -> None:
    """Mark an axis at whole numbers only."""
    for axis in axes:
        axis.get_major_locator().set_params(integer=True)


def mask_bars(
    is_known: Mapping[str, Values], title: str, words: tuple[str, str] = ("known", "hidden")
) -> Picture:
    """Bars of points, one for each name: known ones are full, hidden ones are hatched."""
    figure, ax = new_figure(size=(WIDTH, 0.9 + 0.36 * len(is_known)))
    style = {
        True: {"facecolor": TRUTH, "edgecolor": "white"},
        False: {"facecolor": "#f8d7da", "edgecolor": MODEL, "hatch": "////"},
    }
    for row, known_T in enumerate(is_known.values()):
        for place, known in enumerate(array(known_T) > 0):
            ax.add_patch(_rectangle((place - 0.5, row - 0.4), 1, 0.8, **style[bool(known)]))
    ax.set_yticks(range(len(is_known)), list(is_known))
    longest = max(len(known_T) for known_T in is_known.values())
    ax.set(xlim=(-0.5, longest - 0.5), ylim=(len(is_known) - 0.5, -0.5), xlabel="point")
    _count(ax.xaxis)
    ax.grid(False)
    ax.legend(
        handles=[_rectangle((0, 0), 1, 1, **style[known]) for known in (True, False)],
        labels=words,
        ncols=2,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        frameon=False,
    )
    titled(ax, title)
    places = [f"{name}: {_hidden(known_T)}" for name, known_T in is_known.items()]
    return drawn(figure, f"{title}. Points marked as {words[1]} are, of {'; of '.join(places)}.")


def _hidden(known_T: Values) -> str:
    places = np.flatnonzero(array(known_T) == 0)
    return ", ".join(str(place) for place in places) if len(places) else "none"


# Lines ------------------------------------------------------------------------------------------


def lines(
    series: Mapping[str, tuple[Values, Values]],
    title: str,
    labels: tuple[str, str],
    is_log: bool = False,
    is_log_x: bool = False,
) -> Picture:
    """Lines over a common axis, told apart by colour and by dashes."""
    figure, ax = new_figure(size=(WIDTH, 3.0))
    for number, (name, (x_N, y_N)) in enumerate(series.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "ls": DASHES[number % len(DASHES)]}
        ax.plot(array(x_N), array(y_N), label=name, lw=2, **style)
    scales = ["log" if is_scaled else "linear" for is_scaled in (is_log_x, is_log)]
    ax.set(xlabel=labels[0], ylabel=labels[1], xscale=scales[0], yscale=scales[1])
    for axis, is_scaled in ((ax.xaxis, is_log_x), (ax.yaxis, is_log)):
        if is_scaled:
            _plain_numbers(axis)
    ax.legend(framealpha=0.85, edgecolor="none")  # the names stay readable over a line
    titled(ax, title)
    ends = [f"{name} goes from {_ends(y_N)}" for name, (_, y_N) in series.items()]
    return drawn(figure, f"{title}. {labels[1]} by {labels[0]}: {'; '.join(ends)}.")


def intervals(told: Mapping[str, Values], title: str, label: str, ours: str = "") -> Picture:
    """A value with its interval for each name, (value, low, high), the first name above.

    One of them may be ours: it is a square and has the colour of models.
    """
    figure, ax = new_figure(size=(WIDTH, 1.0 + 0.3 * len(told)))
    value_N, low_N, high_N = np.stack([array(one) for one in told.values()], axis=1)
    place_N, ends_2N = np.arange(len(told)), np.abs([value_N - low_N, high_N - value_N])
    ax.axvline(0, color=INK, lw=1)
    is_ours_N = np.array([name == ours for name in told])
    for is_in_N, mark, colour in ((~is_ours_N, "o", COLOURS[2]), (is_ours_N, "s", MODEL)):
        spots = (value_N[is_in_N], place_N[is_in_N])
        ax.errorbar(*spots, xerr=ends_2N[:, is_in_N], fmt=mark, color=colour, ms=6, lw=2, capsize=3)
    ax.set_yticks(place_N, [name.replace("_", " ") for name in told])
    ax.set(xlabel=label, ylim=(len(told) - 0.5, -0.5))
    titled(ax, title)
    rows = zip(told, value_N, low_N, high_N, strict=True)
    words = [f"{name} {value:.3g} from {low:.3g} to {high:.3g}" for name, value, low, high in rows]
    return drawn(figure, f"{title}. {label}, with intervals: {'; '.join(words)}.")


def _plain_numbers(axis: Any) -> None:
    """Name the ticks of a logarithmic axis 0.3 or 20, and not by powers of ten."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(labelOnlyBase=False))


def _ends(y_N: Values) -> str:
    values_N = array(y_N)
    return f"{values_N[0]:.3g} to {values_N[-1]:.3g}"


def loss_curve(losses: Mapping[str, Values], title: str, every: int = 1) -> Picture:
    """Losses by training step, on a logarithmic scale where none is below zero."""
    series = {name: (np.arange(len(loss)) * every, loss) for name, loss in losses.items()}
    is_log = all((array(loss) > 0).all() for loss in losses.values())
    return lines(series, title, ("training step", "loss"), is_log)


def histogram_pair(
    values: Mapping[str, Values], title: str, label: str, num_bins: int = 40
) -> Picture:
    """How often values occur, as shares, in the same bins for each name."""
    figure, ax = new_figure(size=(WIDTH, 2.8))
    plain = {name: array(values_N).ravel() for name, values_N in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(plain.values())), num_bins)
    for number, (name, values_N) in enumerate(plain.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "ls": DASHES[number % len(DASHES)]}
        share_N = np.full(len(values_N), 1 / len(values_N))
        ax.hist(values_N, edges, weights=share_N, histtype="step", label=name, lw=2, **style)
    ax.set(xlabel=label, ylabel="share")
    ax.legend(frameon=False)
    titled(ax, title)
    told = [f"{name}: mean {one.mean():.3g}, spread {one.std():.3g}" for name, one in plain.items()]
    return drawn(figure, f"{title}. {label}, {'; '.join(told)}.")


def fan(
    known: tuple[Values, Values],
    time_H: Values,
    sample_SH: Values,
    title: str,
    labels: tuple[str, str],
    truth_H: Values | None = None,
) -> Picture:
    """A forecast as bands that hold 50, 80 and 95 % of the samples, behind what was known."""
    figure, ax = new_figure(size=(WIDTH, 3.0))
    sample_SH, ahead_H = array(sample_SH), array(time_H)
    for share in SHARES:
        low_H, high_H = np.quantile(sample_SH, [0.5 - share / 2, 0.5 + share / 2], axis=0)
        ax.fill_between(ahead_H, low_H, high_H, color=MODEL, alpha=0.2, lw=0)
    middle_H = np.median(sample_SH, axis=0)
    ax.plot(ahead_H, middle_H, color=MODEL, lw=2, label="middle of the samples")
    ax.plot([], [], color=MODEL, alpha=0.4, lw=8, label="50, 80 and 95 % of them")
    ax.plot(array(known[0]), array(known[1]), color=INK, lw=2, label="known")
    if truth_H is not None:
        ax.plot(ahead_H, array(truth_H), color=TRUTH, ls="--", lw=2, label="truth")
    ax.set(xlabel=labels[0], ylabel=labels[1])
    ax.legend(frameon=False, fontsize=8)
    titled(ax, title)
    last = np.quantile(sample_SH[:, -1], [0.1, 0.9])
    width = f"80 % of the samples end between {last[0]:.3g} and {last[1]:.3g}"
    return drawn(figure, f"{title}. {labels[1]} by {labels[0]}: {width}.")


# Maps -------------------------------------------------------------------------------------------


def track_map(
    tracks: Mapping[str, tuple[Values, Values]],
    title: str,
    samples: tuple[Values, Values] | None = None,
) -> Picture:
    """Tracks (longitudes, latitudes) in metres around their middle, with a bar of scale.

    Samples (S, H) are drawn thinly below them.
    """
    plain = {name: (array(lon_T), array(lat_T)) for name, (lon_T, lat_T) in tracks.items()}
    thin = list(zip(*map(array, samples), strict=True)) if samples else []
    every = [*plain.values(), *thin]
    frame = Frame.around(*(np.concatenate(axis) for axis in zip(*every, strict=True)))
    figure, ax = new_figure(size=(WIDTH, 4.0))
    for track in thin:
        ax.plot(*frame.metres(*track), color=MODEL, lw=0.8, alpha=0.35)
    for number, (name, track) in enumerate(plain.items()):
        style = {"color": (INK, TRUTH, MODEL, *RIVALS)[number % 7], "ls": DASHES[number % 4]}
        east_m_T, north_m_T = frame.metres(*track)
        ax.plot(east_m_T, north_m_T, marker="o", ms=3, lw=2, label=name, **style)
        ax.plot(east_m_T[:1], north_m_T[:1], marker="s", ms=7, color=style["color"])
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend(frameon=False, loc="upper right" if thin else "best")  # to search takes long then
    length_m = _scale_bar(figure, ax)
    titled(ax, title)
    size, unit = unit_of(length_m)
    bar = f"the bar is {length_m / size:g} {unit}"
    return drawn(figure, f"{title}. A map of {', '.join(plain)}, north is up; {bar}.")


def _scale_bar(figure: Any, ax: Any) -> float:
    """Draw a bar of a round length in place of the axes, and tell the length."""
    ax.set_axis_off()
    figure.draw_without_rendering()
    ax.autoscale(False)
    ax.set_adjustable("box")  # the limits are right now
    (west_m, east_m), (south_m, north_m) = ax.get_xlim(), ax.get_ylim()
    rough_m = (east_m - west_m) / 4
    power_m = 10 ** math.floor(math.log10(rough_m))
    length_m = float(max(size * power_m for size in (1, 2, 5) if size * power_m <= rough_m))
    divisor, unit = unit_of(length_m)
    foot_m = south_m + 0.03 * (north_m - south_m)
    ax.plot([west_m, west_m + length_m], [foot_m] * 2, color=INK, lw=3, solid_capstyle="butt")
    ax.annotate(
        f"{length_m / divisor:g} {unit}",
        (west_m + length_m, foot_m),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
    )
    return length_m
