"""Figures of the report: matplotlib without a display, and bytes that depend on the data alone.

Shapes: N points.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import TIMES_GIVEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MODEL, TRUTH = "#22313f", "#d1495b", "#2a9d8f"
RIVALS = ("#8d99ae", "#457b9d", "#a8b5c2", "#e9a03b")
DASHES = ("-", "--", ":", "-.")
MIN_ENTITIES = 5
CELLS_ACROSS = 60
Table = Any  # a data frame of pandas, or a column of one
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b8c2cc",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6ebef",
    "xtick.color": INK,
    "ytick.color": INK,
}


def png(figure: Figure) -> bytes:
    """A figure as PNG without date or software; equal figures are equal bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=144, metadata={"Software": None})
    return out.getvalue()


def new_figure(columns: int = 1, rows: int = 1, size: tuple[float, float] = (7.2, 3.8)) -> Any:
    """An empty figure and its axes, one or an array of them, in our style."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns)
    return figure, axes


def titled(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=11, weight="bold", color=INK)


def unit_of(largest_m: float) -> tuple[float, str]:
    """Metres or kilometres, whichever is easier to read: the divisor and the name."""
    return (1_000.0, "km") if largest_m >= 2_000 else (1.0, "m")


def error_figure(scores: pa.Table, family: str, split: str) -> bytes:
    """How the mean displacement grows with the horizon, model and baselines."""
    wanted = {"split": split, "track": TIMES_GIVEN, "metric": "displacement_m"}
    # The quality report runs this file too: it should not rest on all that scores.
    table = scores.to_pandas().sort_values("horizon")
    rows = table[(table[list(wanted)] == list(wanted.values())).all(axis=1)]
    scale, unit = unit_of(rows["value"].max())
    figure, ax = new_figure()
    looks = cycle(product(DASHES, RIVALS))  # colours come again with another dash
    for model in sorted(set(rows["model"]), key=lambda name: (name == family, name)):
        is_ours = model == family
        line = rows[rows["model"] == model]
        dash, colour = (DASHES[0], MODEL) if is_ours else next(looks)
        ax.plot(
            line["horizon"],
            line["value"] / scale,
            color=colour,
            linestyle=dash,
            linewidth=2.6 if is_ours else 1.6,
            marker="o" if len(line) == 1 else None,
            label=model.replace("_", " "),
        )
    ax.set(xlabel="steps ahead", ylabel=f"displacement ({unit})")
    titled(ax, f"Mean displacement by horizon, {split} windows, times given")
    ax.set_ylim(bottom=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="upper left", frameon=False)
    return png(figure)


def training_figure(course: Path) -> bytes:
    """Training and validation loss by step."""
    lines = [json.loads(line) for line in course.read_text().splitlines()]
    figure, ax = new_figure()
    for name, label, style in (
        ("loss", "training", {"color": RIVALS[0], "linewidth": 1.2}),
        ("validation_loss", "validation", {"color": MODEL, "linewidth": 2.2, "marker": "o"}),
    ):
        points = [(line["step"], line[name]) for line in lines if name in line]
        if points:
            steps, losses = zip(*points, strict=True)
            ax.plot(steps, losses, label=label, markersize=4, **style)
    titled(ax, "Loss while training")
    ax.set(xlabel="optimiser step", ylabel="nats per target point")
    ax.legend(loc="upper right", frameon=False)
    return png(figure)


def histogram_figure(bins: Sequence[tuple[float, float, int]], title: str, label: str) -> bytes:
    """How often values occur, in bins (from, to, number) that are equal on a logarithmic scale."""
    figure, ax = new_figure(size=(7.2, 2.8))
    starts, ends, numbers = zip(*bins, strict=True)
    widths = [end - start for start, end in zip(starts, ends, strict=True)]
    ax.bar(starts, numbers, width=widths, align="edge", color=RIVALS[1], edgecolor="white")
    ax.set_xscale("log")
    ax.set(xlabel=label, ylabel="steps")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    titled(ax, title)
    return png(figure)


# Maps -------------------------------------------------------------------------------------------


def example_map(examples: Path, family: str) -> bytes | None:
    """A few test windows: what was known, what came, and what was forecast."""
    windows = pq.read_table(examples, partitioning=None).to_pandas().groupby("window_id")
    if not len(windows):
        return None
    across = min(3, len(windows))
    down = -(-len(windows) // across)
    figure, _ = new_figure(across, down, (3.1 * across, 2.9 * down + 0.5))
    for ax in figure.axes[len(windows) :]:
        ax.set_visible(False)
    for ax, (_, points) in zip(figure.axes, windows, strict=False):
        draw_window(ax, points, family)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        "Forecasts of test windows, times given (degrees east and north)",
        fontsize=11,
        weight="bold",
        color=INK,
        x=0.01,
        ha="left",
    )
    return png(figure)


def draw_window(ax: Axes, points: Table, family: str) -> None:
    """One window; every line starts at the last known point."""
    lines = dict(list(points.sort_values("step").groupby("kind")[["lon_deg", "lat_deg"]]))
    known = lines["context"]
    lon_deg, lat_deg = known.iloc[-1]
    for kind, label, style in (
        ("context", "known", {"color": INK, "linewidth": 1.6, "marker": "."}),
        ("truth", "what came", {"color": TRUTH, "linewidth": 1.8, "marker": "."}),
        ("damped_velocity", "damped velocity", {"color": RIVALS[3], "linestyle": "--"}),
        (family, family, {"color": MODEL, "linewidth": 1.8, "marker": "."}),
    ):
        line = lines[kind] if kind == "context" else pd.concat([known[-1:], lines[kind]])
        line_lon_deg = unwrapped(line["lon_deg"], lon_deg)
        ax.plot(line_lon_deg, line["lat_deg"], label=label, markersize=4, **style)
    equal_metres(ax, lat_deg)
    ax.tick_params(labelsize=7)
    ax.ticklabel_format(useOffset=False)
    ax.locator_params(nbins=4)


def unwrapped(lon_deg: Any, near_deg: float) -> Any:
    """The same meridian or meridians, written within half a turn of another."""
    return near_deg + (lon_deg - near_deg + 180) % 360 - 180


def equal_metres(ax: Axes, lat_deg: float) -> None:
    """As many metres to an inch east as north, at a latitude."""
    ax.set_aspect(1 / max(math.cos(math.radians(lat_deg)), 0.05), adjustable="datalim")


def cell_figure(cells: Table, lat_deg: float, min_entities: int) -> bytes:
    """A map of cells and their number of entities, true to scale at a latitude."""
    import numpy as np

    west_deg, south_deg, east_deg, north_deg = bounds_deg(cells)
    size_deg = cells["size_deg"].max()
    figure, ax = new_figure(size=(7.2, 5.2))
    columns = np.rint((cells["west_deg"] - west_deg) / size_deg).astype(int)
    rows = np.rint((cells["south_deg"] - south_deg) / size_deg).astype(int)
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    grid[rows, columns] = cells["num_entities"]
    extent = (west_deg, east_deg, south_deg, north_deg)
    image = ax.imshow(grid, origin="lower", extent=extent, cmap="viridis", aspect="auto")
    figure.colorbar(image, ax=ax, label="entities")
    ax.set_axisbelow(True)
    equal_metres(ax, lat_deg)
    crowd = f" with at least {min_entities} entities" if min_entities > 1 else ""
    titled(ax, f"Cells of {size_deg:g} degrees{crowd}")
    ax.set(xlabel="longitude (degrees)", ylabel="latitude (degrees)")
    return png(figure)


def bounds_deg(cells: Table) -> tuple[float, float, float, float]:
    """West, south, east and north of all cells together."""
    west_deg, south_deg, size_deg = (cells[name] for name in ("west_deg", "south_deg", "size_deg"))
    east_deg, north_deg = west_deg + size_deg, south_deg + size_deg
    return west_deg.min(), south_deg.min(), east_deg.max(), north_deg.max()


def near_busiest(cells: Table) -> tuple[Table, float]:
    """The cells around the one with most entities, as far as a map reaches, and its latitude."""
    busiest = cells.loc[cells["num_entities"].idxmax()]
    away_deg = (cells[["west_deg", "south_deg"]] - busiest[["west_deg", "south_deg"]]).abs()
    is_near = (away_deg <= busiest["size_deg"] * CELLS_ACROSS / 2).all(axis=1)
    return cells[is_near], busiest["south_deg"]
