"""Page of HTML in our style, from its parts: it needs no other file and loads nothing.

It runs nothing, or one script, which the page names by its hash: no other can run there.
"""

from __future__ import annotations

import base64
import hashlib
import html
from pathlib import Path

from tasks.report.page_parts import Parts, html_of, markdown_of
from tasks.report.page_style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
SCRIPT = Path(__file__).parent / "assets" / "page.js"
THEME_BUTTON = (
    '<button id="theme" type="button" hidden aria-label="Switch between light and dark">'
    "Light or dark</button>"
)


def markdown_text(parts: Parts) -> str:
    """The parts that are text, as one markdown document."""
    return markdown_of(parts) + "\n"


def script_text() -> str:
    """What a page runs: sorting, folding and the map; it has no other input than the page."""
    return SCRIPT.read_text(encoding="utf-8")


def page(title: str, parts: Parts, script: str = "") -> str:
    """All parts as one page that may load nothing, and run the script alone."""
    policy, button, run = POLICY, "", ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        button, run = f"{THEME_BUTTON}\n", f"<script>{script}</script>\n"
    body = "\n".join(map(html_of, parts))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{button}{body}\n</main>\n{run}</body>\n</html>\n"
    )
