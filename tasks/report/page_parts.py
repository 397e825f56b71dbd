"""Parts of a page: each tells itself twice, as HTML for the page and as markdown for elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from markdown_it import MarkdownIt

from tasks.report.markup import escaped, markdown_table


class Part(Protocol):
    """What a page is made of."""

    @property
    def html(self) -> str: ...

    @property
    def markdown(self) -> str: ...


Parts = Sequence["str | Part"]


def html_of(part: str | Part) -> str:
    """A part as HTML; a text is markdown that may hold no HTML of its own."""
    if not isinstance(part, str):
        return part.html
    rendered: str = renderer().render(part).strip()
    rendered = rendered.replace("<th>", '<th scope="col">').replace("<th ", '<th scope="col" ')
    rendered = rendered.replace("<table>", '<div class="scroll" tabindex="0"><table>')
    return rendered.replace("</table>", "</table></div>")


@cache
def renderer() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def markdown_of(parts: Parts) -> str:
    """The parts as markdown; pictures are left out."""
    texts = [part if isinstance(part, str) else part.markdown for part in parts]
    return "\n\n".join(text for text in texts if text)


@dataclass(frozen=True)
class Html:
    """What only a page shows: a chart, a map. Its text must be escaped already."""

    html: str
    markdown: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of a page, as PNG; markdown goes without it."""

    name: str
    png: bytes
    markdown: str = ""

    @property
    def html(self) -> str:
        encoded = base64.b64encode(self.png).decode()
        name = html.escape(self.name.replace("_", " "))
        return f'<img alt="{name}" src="data:image/png;base64,{encoded}">'


@dataclass(frozen=True)
class Table:
    """A table under its caption: names, which head their rows, then numbers.

    A page lets its reader sort it where it is sortable.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    are_strong: Sequence[bool] = ()
    num_names: int = 1
    is_sortable: bool = False

    @property
    def markdown(self) -> str:
        cells = markdown_table(self.columns, self.rows, self.are_strong, self.num_names)
        return f"### {escaped(self.caption)}\n\n{cells}"

    @property
    def html(self) -> str:
        caption = html.escape(self.caption)
        head = "".join(
            f'<th scope="col"{self._numeric(place)}>{html.escape(name)}</th>'
            for place, name in enumerate(self.columns)
        )
        strong = self.are_strong or [False] * len(self.rows)
        rows = "".join(map(self._row, self.rows, strong))
        sortable = " data-sortable" if self.is_sortable else ""
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
            f"<table{sortable}><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows}</tbody></table></div>"
        )

    def _numeric(self, place: int) -> str:
        return "" if place < self.num_names else ' class="number"'

    def _row(self, cells: Sequence[str], is_strong: bool) -> str:
        told = [
            f'<th scope="row">{html.escape(cell)}</th>'
            if place < self.num_names and cell
            else f"<td{self._numeric(place)}>{html.escape(cell)}</td>"
            for place, cell in enumerate(cells)
        ]
        kind = ' class="ours"' if is_strong else ""
        return f"<tr{kind}>{''.join(told)}</tr>"


@dataclass(frozen=True)
class Folded:
    """Parts that a page shows when asked to, under a summary; markdown shows them at once."""

    summary: str
    parts: Parts = field(default_factory=tuple)
    is_open: bool = False

    @property
    def html(self) -> str:
        opened = " open" if self.is_open else ""
        inner = "\n".join(map(html_of, self.parts))
        summary = f"<summary>{html.escape(self.summary)}</summary>"
        return f"<details{opened}>{summary}\n{inner}\n</details>"

    @property
    def markdown(self) -> str:
        return markdown_of(self.parts)
