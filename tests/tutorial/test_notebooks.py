"""Notebooks of the tutorial: their parts, and that they run, for readers and from their sources."""

from __future__ import annotations

import ast
import json
import sys
from importlib import import_module

import pytest
from helpers.kernels import kernel
from nbclient.exceptions import CellExecutionError

from notebooks.copies import COPIES, cells_of, exercises_of, has_tag, question_of, sources

EVERY = pytest.mark.parametrize("source", sources(), ids=lambda source: source.stem)
QUICK = [source for source in sources() if source.stem[:2] in ("01", "02", "05")]
MAX_CELLS, MAX_LINES, MAX_BYTES = 40, 25, 2e9
PRODUCT = {"model", "tasks", "flows", "notebooks"}
LIBRARIES = PRODUCT | {"numpy", "torch", "pandas", "matplotlib", "mlflow"}  # of the core
MEMORY = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"


def code_of(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def shown(cells):
    return [cell for cell in cells if not has_tag(cell, "wrong")]


# Parts ------------------------------------------------------------------------------------------


@EVERY
def test_a_notebook_has_its_parts(source):
    cells = cells_of(source)
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert question_of(cells).endswith("?")
    assert "you will be able to" in texts[0]
    assert sum("## What can go wrong" in text for text in texts) == 1
    assert "## Summary\n" in texts[-1]
    assert len(exercises_of(cells)) >= 2
    assert all(exercise.wrong for exercise in exercises_of(cells))
    assert any(has_tag(cell, "claim") for cell in cells)


@EVERY
def test_cells_are_short(source):
    cells = shown(cells_of(source))
    assert len(cells) <= MAX_CELLS
    for cell in code_of(cells):
        lines = [line for line in cell.source.splitlines() if line.strip(" ")]
        assert len(lines) <= MAX_LINES, cell.source


def imported(source) -> list[tuple[str, list[str]]]:
    """(module, names) of each import."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [alias.name for alias in node.names]))
    return found


@EVERY
def test_a_notebook_imports_what_a_reader_has(source):
    packages = {module.partition(".")[0] for module, _ in imported(source)}
    assert packages <= LIBRARIES | sys.stdlib_module_names


@EVERY
def test_what_a_notebook_imports_of_the_product_is_there(source):
    for module, names in imported(source):
        if module.partition(".")[0] in PRODUCT:
            assert [name for name in names if not hasattr(import_module(module), name)] == []


# Runs -------------------------------------------------------------------------------------------


def run(source) -> float:
    """Run a notebook from its source; the bytes that it took at most."""
    with kernel() as running:
        for cell in shown(code_of(cells_of(source))):
            running.run(cell.source)
        return float(running.run(MEMORY)[0].text)


@pytest.mark.parametrize("source", QUICK, ids=lambda source: source.stem)
def test_a_quick_notebook_runs(source):
    assert run(source) < MAX_BYTES


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", [one for one in sources() if one not in QUICK], ids=lambda source: source.stem
)
def test_a_notebook_runs(source):
    assert run(source) < MAX_BYTES


@pytest.mark.slow
@EVERY
def test_a_reader_is_stopped_at_each_exercise_until_it_is_right(source):
    """Stubs stop with `NotImplementedError`, wrong answers at the check, and answers go on."""
    copy = json.loads((COPIES / f"{source.stem}.ipynb").read_text(encoding="utf-8"))
    exercises = exercises_of(cells_of(source))
    with kernel() as running:
        for cell in copy["cells"]:
            text, tags = "".join(cell["source"]), cell["metadata"].get("tags", [])
            if "exercise" in tags:
                exercise = exercises.pop(0)
                assert text == exercise.stub
                assert stopped(running, text, exercise.check) == "NotImplementedError"
                for wrong in exercise.wrong:
                    assert stopped(running, wrong, exercise.check) == "AssertionError", wrong
                running.run(exercise.answer)
            elif cell["cell_type"] == "code":
                running.run(text)
            if "solution" in tags and not exercises:
                return


def stopped(running, *sources: str) -> str:
    """The name of the error at which some cells stop."""
    with pytest.raises(CellExecutionError) as caught:
        running.run("\n".join(sources))
    return str(caught.value.ename)


def test_the_kernel_has_no_network():
    with kernel() as running:
        asked = "import socket; socket.create_connection(('example.org', 80))"
        with pytest.raises(CellExecutionError, match="asks the network for example"):
            running.run(asked)
        assert running.run("1 + 1")[0].data["text/plain"] == "2"


def test_what_a_notebook_starts_has_no_network_either():
    with kernel() as running:
        asked = "import socket; socket.create_connection(('example.org', 80))"
        start = "import subprocess, sys; command = [sys.executable, '-c', {!r}]; "
        start += "print(subprocess.run(command, capture_output=True, text=True).stderr)"
        said = running.run(start.format(asked))[0].text
        assert "asks the network for example.org" in said
        here = "import socket; print(socket.create_server(('127.0.0.1', 0)).getsockname()[0])"
        assert running.run(here)[0].text.strip() == "127.0.0.1"
