"""Figures of the report: matplotlib without a display, and bytes that depend on the data alone.

Shapes: N points.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
