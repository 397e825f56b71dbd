"""Markup of tables and numbers: markdown that no text can break."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

# What could start emphasis, code, a link or a cell; an underscore within a word is harmless.
SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")


def spoken(name: str) -> str:
    return name.replace("_", " ")


def percent(value: float) -> str:
    """A skill, with its sign."""
    return f"{value:+.1%}"


def share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def bold(text: str) -> str:
    return f"**{escaped(text)}**" if text else ""


def escaped(text: str) -> str:
    """Text that cannot end a markdown cell or start markup."""
    literal = SPECIAL.sub(lambda found: "\\" + found[0], " ".join(text.split()))
    return html.escape(literal, quote=False)


def markdown_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    are_strong: Sequence[bool] = (),
    num_names: int = 1,
) -> str:
    """A table of names, flush left, then numbers, flush right; some of its rows in bold."""
    rule = ["---"] * num_names + ["---:"] * (len(header) - num_names)
    return _table(header, rule, rows, are_strong)


def pairs_table(header: tuple[str, str], pairs: Sequence[tuple[str, str]]) -> str:
    """A table of names and of what is said of each."""
    return _table(header, [":---", ":---"], pairs)


def _table(
    header: Sequence[str],
    rule: Sequence[str],
    rows: Sequence[Sequence[str]],
    are_strong: Sequence[bool] = (),
) -> str:
    marks = [bold if strong else escaped for strong in are_strong] or [escaped] * len(rows)
    cells = [list(map(mark, row)) for mark, row in zip(marks, rows, strict=True)]
    lines = [f"| {' | '.join(line)} |" for line in (map(escaped, header), rule, *cells)]
    return "\n".join(lines)


def grouped(rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The rows, whose first cell is written once where rows in turn share it."""
    names = [None, *(row[0] for row in rows)]
    return [
        ("", *row[1:]) if row[0] == before else row
        for row, before in zip(rows, names[:-1], strict=True)
    ]
