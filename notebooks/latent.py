"""Latent view: a cloud of points that a reader turns by hand, and that plays how it moved.

One page without a library and without a request, and below it three fixed sights of it, for those
who cannot run it or see it.

Shapes: F frames, N points.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.earth.arrays import Floats
from notebooks.pictures import COLOURS, WIDTH, Picture, Values, array, drawn
from tasks.report.figures import new_figure, titled

ASSETS = Path(__file__).parent / "assets"
ANGLES_DEG = ((35.0, 20.0), (125.0, 20.0), (35.0, 90.0))  # turn and tilt


@dataclass(frozen=True)
class LatentView:
    """A cloud of points to turn by hand, and below it three fixed sights of it."""

    page: str = field(repr=False)
    sights: Picture

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 26rem; border: 0; color-scheme: light dark"
        about = f'title="{html.escape(self.sights.alt)}" sandbox="allow-scripts"'
        frame = f'<iframe {about} style="{style}" srcdoc="{html.escape(self.page)}"></iframe>'
        return f"{frame}\n{self.sights._repr_html_()}"


def latent_view(
    points_FN3: Values,
    colour_N: Sequence[Any],
    label_N: Sequence[str],
    title: str = "Latent space",
    frame_names: Sequence[str] = (),
) -> LatentView:
    """Points in three dimensions, (N, 3), or how they move, (F, N, 3), in one page without network.

    Colours are numbers, from dark to bright, or names, which get a colour each. Points of one label
    are joined when one of them is chosen.
    """
    points_FN3 = array(points_FN3)
    points_FN3 = points_FN3[None] if points_FN3.ndim == 2 else points_FN3
    points_FN3 = points_FN3 - points_FN3[-1].mean(axis=0)
    points_FN3 = points_FN3 / max(np.linalg.norm(points_FN3[-1], axis=-1).max(), 1e-12)
    colours, legend = _colours(colour_N)
    shown = {
        "frames": points_FN3.round(3).tolist(),
        "names": list(frame_names) or [f"frame {count + 1}" for count in range(len(points_FN3))],
        "colours": colours,
        "labels": list(label_N),
    }
    page = (ASSETS / "latent_view.html").read_text(encoding="utf-8")
    script = (ASSETS / "latent_view.js").read_text(encoding="utf-8")
    points = json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")
    texts = {"TITLE": html.escape(title), "LEGEND": legend, "POINTS": points, "SCRIPT": script}
    for mark, text in texts.items():
        page = page.replace(f"<!--{mark}-->", text)
    return LatentView(page, _sights(points_FN3[-1], colours, title))


def _colours(colour_N: Sequence[Any]) -> tuple[list[str], str]:
    """A colour for each point, and the legend."""
    if all(isinstance(colour, str) for colour in colour_N):
        names = sorted(set(colour_N))
        of = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
        spots = [f'<span style="--c: {of[name]}">{html.escape(name)}</span>' for name in names]
        return [of[name] for name in colour_N], " ".join(spots)
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    value_N = array(colour_N)
    low, high = value_N.min(), value_N.max()
    share_N = 0.9 * (value_N - low) / max(high - low, 1e-12)
    ends = ((low, to_hex(colormaps["viridis"](0.0))), (high, to_hex(colormaps["viridis"](0.9))))
    spots = [f'<span style="--c: {colour}">{value:.3g}</span>' for value, colour in ends]
    return [to_hex(colormaps["viridis"](share)) for share in share_N], " to ".join(spots)


def _sights(points_N3: Floats, colours: Sequence[str], title: str) -> Picture:
    figure, axes = new_figure(columns=len(ANGLES_DEG), size=(WIDTH, 2.0))
    for ax, (turn_deg, tilt_deg) in zip(axes, ANGLES_DEG, strict=True):
        turn, tilt = math.radians(turn_deg), math.radians(tilt_deg)
        right_N = points_N3 @ [math.cos(turn), -math.sin(turn), 0]
        away_N = points_N3 @ [math.sin(turn), math.cos(turn), 0]
        up_N = math.sin(tilt) * away_N + math.cos(tilt) * points_N3[:, 2]
        ax.scatter(right_N, up_N, c=colours, s=8, lw=0)
        ax.set(xticks=[], yticks=[], xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
        ax.set_xlabel(f"turned {turn_deg:g}°, tilted {tilt_deg:g}°", fontsize=8)
    titled(axes[0], title)
    return drawn(figure, f"{title}: {len(points_N3)} points in three dimensions, from three sides")
