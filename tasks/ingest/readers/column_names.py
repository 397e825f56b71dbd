"""Column names: how those of two files are compared, and how they may be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_SHOWN = 30
NUMBER = re.compile(r"\s*[+-]?\d+[.,]\d+\s*")
UNSHOWN = r"[^\x20-\x7e\xa1-\ud7ff\ue000-\ufffd]"


def plain_name(name: str) -> str:
    """A column's name without what people write differently: case, spaces, a leading #."""
    return re.sub(r"[\s.\-]+", "_", name.strip("# \t\ufeff").casefold())


def shown(names: Sequence[str]) -> str:
    """The names of columns in one line. A missing header must not tell where someone was."""
    some = [
        "(a number)" if NUMBER.fullmatch(name) else re.sub(UNSHOWN, "?", name[:60])
        for name in names[:MAX_SHOWN]
    ]
    return ", ".join(some) + (", ..." if len(names) > MAX_SHOWN else "")
