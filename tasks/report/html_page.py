"""A page of HTML in our style that needs no other file, loads nothing and runs nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root { --ink: #22313f; --line: #e1e7ec; --soft: #f6f8fa; --ours: #d1495b; }
body { margin: 0; color: var(--ink); background: #fff;
       font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p.lead { margin: 0; color: #5b6b7a; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .82rem;
        font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
th { background: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
table.pairs td { text-align: left; white-space: normal; }
table.pairs td:first-child { width: 12rem; color: #5b6b7a; }
tr.ours td { color: var(--ours); font-weight: 600; }
tr.first td { border-top: 2px solid #b8c2cc; }
img { max-width: 100%; height: auto; }
code { font-size: .82rem; word-break: break-all; }
"""


def document(title: str, sections: Sequence[str]) -> str:
    """A page in our style that may load and run nothing."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def picture(content: bytes, name: str) -> str:
    encoded = base64.b64encode(content).decode()
    return (
        f'<img alt="{html.escape(name.replace("_", " "))}" src="data:image/png;base64,{encoded}">'
    )
