"""Page of HTML in our style, from markdown: it needs no other file, loads nothing, runs nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root { --ink: #22313f; --line: #e1e7ec; --soft: #f6f8fa; --ours: #d1495b; }
body { margin: 0; color: var(--ink); background: #fff;
       font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
h1 + p { margin: 0; color: #5b6b7a; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .82rem;
        font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: left; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
th { background: var(--soft); font-weight: 600; }
td[style="text-align:left"] { white-space: normal; }
td strong { color: var(--ours); font-weight: 600; }
table:has(td:first-child:empty) tr:has(td:first-child:not(:empty)) td
    { border-top: 2px solid #b8c2cc; }
img { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True)
class Picture:
    """A figure of a page, as PNG; markdown goes without it."""

    name: str
    png: bytes

    @property
    def html(self) -> str:
        encoded = base64.b64encode(self.png).decode()
        name = html.escape(self.name.replace("_", " "))
        return f'<img alt="{name}" src="data:image/png;base64,{encoded}">'


def markdown_text(parts: Sequence[str | Picture]) -> str:
    """The parts that are text, as one markdown document."""
    return "\n\n".join(part for part in parts if isinstance(part, str)) + "\n"


def page(title: str, parts: Sequence[str | Picture]) -> str:
    """All parts as one page that may load and run nothing."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    told = [
        part.html if isinstance(part, Picture) else markdown.render(part).strip() for part in parts
    ]
    body = "\n".join(told)
    body = body.replace("<table>", '<div class="scroll"><table>')
    body = body.replace("</table>", "</table></div>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )
