"""Copies of the notebooks for readers: answers become exercises, and nothing has run yet.

A source, `NN_name.py` in jupytext's percent format, holds both. A cell tagged `exercise` has its
answer between `# BEGIN SOLUTION: a hint` and `# END SOLUTION`, a cell tagged `check` follows, and
then cells tagged `wrong`, answers that the check must refuse and that no copy shows. A copy has a
stub instead, and behind the check the answer, folded. `make notebooks` writes them all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext

HERE = Path(__file__).parent
PROJECT = HERE.parent
COPIES = HERE / "colab"
PAGES = (PROJECT / "README.md", HERE / "README.md")  # the table stands where they have its marks
TABLE = re.compile(r"(<!-- notebooks -->\n).*?(<!-- end of notebooks -->)", re.DOTALL)
ANSWER = re.compile(
    r"^(?P<indent> *)# BEGIN SOLUTION: (?P<hint>[^\n]+)\n(?P<lines>.*?)\n? *# END SOLUTION$",
    re.MULTILINE | re.DOTALL,
)
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github/{repository}/blob/main/notebooks/colab/{name}"
SET_UP = """\
# @title Set up: installs the project where it is missing, as on Colab, and does nothing elsewhere
from importlib.util import find_spec

if find_spec("model") is None or find_spec("notebooks") is None:
    {missing}
"""
INSTALL = """\
# Colab keeps its torch if that is 2.13 or newer. Otherwise pip replaces it: choose then
    # "Restart session" in the menu "Runtime", and run this cell again.
    import subprocess, sys

    command = [sys.executable, "-m", "pip", "install", "--quiet", "trajfoundry @ git+{address}"]
    subprocess.run(command, check=True)"""
REFUSE = 'raise ImportError("install the project first: `pip install .` in its folder")'
Cell = Any  # a cell of jupytext: attributes `cell_type`, `source` and `metadata`


@dataclass(frozen=True)
class Exercise:
    """A cell with its answer, the check of it, and answers that the check must refuse."""

    answered: str
    check: str
    wrong: tuple[str, ...]

    @property
    def stub(self) -> str:
        """The cell as a reader finds it."""
        return ANSWER.sub(_your_turn, self.answered)

    @property
    def answer(self) -> str:
        """The cell with its answer, without the marks around it."""
        return ANSWER.sub(r"\g<lines>", self.answered)


def _your_turn(answer: re.Match[str]) -> str:
    words = json.dumps(f"your turn: {answer['hint']}", ensure_ascii=False)
    return f"{answer['indent']}raise NotImplementedError({words})"


def sources() -> list[Path]:
    """The notebooks, in their order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def cells_of(source: Path) -> list[Cell]:
    return list(jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent").cells)


def has_tag(cell: Cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", ())


def question_of(cells: Sequence[Cell]) -> str:
    """The heading of the first cell."""
    return str(cells[0].source).splitlines()[0].removeprefix("# ")


def exercises_of(cells: Sequence[Cell]) -> list[Exercise]:
    """The exercises in their order; each is a cell, its check, and the wrong answers."""
    found = []
    for place, cell in enumerate(cells):
        if has_tag(cell, "exercise"):
            rest = cells[place + 1 :]
            if not ANSWER.search(cell.source) or not rest or not has_tag(rest[0], "check"):
                raise ValueError(f"no answer in it or no check after it:\n{cell.source}")
            found.append(Exercise(cell.source, rest[0].source, tuple(_wrong_after(rest))))
    return found


def _wrong_after(check: Sequence[Cell]) -> Iterator[str]:
    for cell in check[1:]:
        if not has_tag(cell, "wrong"):
            return
        yield cell.source


# Copies -----------------------------------------------------------------------------------------


def repository(project: Path = PROJECT) -> str:
    """The address of the repository, empty while none is set."""
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    urls = tomllib.loads(text)["project"].get("urls", {})
    return str(urls.get("Repository", "")).removesuffix(".git")


def copy_of(source: Path, address: str = "") -> str:
    """The text of the reader's notebook."""
    cells = cells_of(source)
    made = [_text(badge(source.stem, address))] if address else []
    missing = INSTALL.format(address=address) if address else REFUSE
    made.append(_code(SET_UP.format(missing=missing).rstrip(), folded=True))
    answers = iter(exercises_of(cells))
    for cell in cells:
        if cell.cell_type == "markdown":
            made.append(_text(cell.source))
        elif has_tag(cell, "exercise"):
            exercise = next(answers)
            made.append(_code(exercise.stub, "exercise"))
        elif has_tag(cell, "check"):
            made.append(_code(cell.source, "check"))
            shown = f"# @title Show a solution\n{exercise.answer}"
            made.append(_code(shown, "solution", folded=True))
        elif not has_tag(cell, "wrong"):
            made.append(_code(cell.source, *cell.metadata.get("tags", ())))
    return _notebook(made)


def badge(name: str, address: str) -> str:
    """The mark that opens a copy in Colab; nothing while the repository has no address."""
    place = address.removeprefix("https://github.com/")
    link = COLAB.format(repository=place, name=f"{name}.ipynb")
    return f"[![Open in Colab]({BADGE})]({link})" if address else ""


def _text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str, *tags: str, folded: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": list(tags)} if tags else {}
    if folded:  # as Colab says it, and as Jupyter does
        metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
    unrun: dict[str, Any] = {"execution_count": None, "outputs": []}
    return {"cell_type": "code", "metadata": metadata, "source": source, **unrun}


def _notebook(cells: Sequence[dict[str, Any]]) -> str:
    """A notebook as text; the name of a cell comes from what it says, so that equal is equal."""
    seen: dict[str, int] = {}
    for cell in cells:
        name = hashlib.sha256(cell["source"].encode()).hexdigest()[:12]
        seen[name] = seen.get(name, 0) + 1
        cell["id"] = name if seen[name] == 1 else f"{name}-{seen[name]}"
        cell["source"] = cell["source"].splitlines(keepends=True)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


# Table ------------------------------------------------------------------------------------------


def with_table(page: Path, text: str, address: str) -> str:
    """The text of a page, with the table of the notebooks between its marks, if it has any."""
    rows = ["| notebook | question |", "|---|---|"]
    for source in sources():
        link = os.path.relpath(COPIES / f"{source.stem}.ipynb", page.parent)
        row = f"| [{source.stem}]({link}) | {question_of(cells_of(source))} |"
        rows.append(f"{row[:-2]} {badge(source.stem, address)} |" if address else row)
    return TABLE.sub(lambda found: f"{found[1]}\n" + "\n".join(rows) + f"\n\n{found[2]}", text)


def files() -> dict[Path, str]:
    """Every file that is made, with its text."""
    address = repository()
    made = {COPIES / f"{source.stem}.ipynb": copy_of(source, address) for source in sources()}
    pages = {page: page.read_text(encoding="utf-8") for page in PAGES if page.is_file()}
    return made | {page: with_table(page, text, address) for page, text in pages.items()}


def main() -> None:
    made = files()
    for stale in set(COPIES.glob("*.ipynb")) - set(made):
        stale.unlink()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
