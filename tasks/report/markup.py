"""Markup of tables and numbers: HTML and markdown that no text can break."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def spoken(name: str) -> str:
    return name.replace("_", " ")


def metres(value_m: float) -> str:
    """Metres with as many digits as a reader can use."""
    return f"{value_m:,.0f}" if abs(value_m) >= 100 else f"{value_m:,.1f}"


seconds = metres  # which are told with the same digits


def percent(value: float) -> str:
    """A skill, with its sign."""
    return f"{value:+.1%}"


def share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def bold(text: str) -> str:
    return f"**{plain(text)}**" if text else ""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)


def plain(text: str) -> str:
    """Text that cannot end a markdown cell or start markup."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")


def html_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose rows begin with a name that is written once; each new name gets a line."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in header)}</tr>"]
    before = ""
    for name, *cells in rows:
        kind = "" if name == before else ' class="first"'
        shown = ["" if name == before else name, *cells]
        before = name
        lines.append(f"<tr{kind}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in shown)}</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def html_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    lines = [
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in pairs
    ]
    return '<div class="scroll"><table class="pairs">\n' + "\n".join(lines) + "\n</table></div>"
