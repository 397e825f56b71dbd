"""The project itself: its layers, its style, its files, and that nothing strange is in them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from textwrap import indent

import pytest
from helpers.places import PROJECT

CODE = ("flows", "tasks", "model", "sql")
FOLDERS = (*CODE, "notebooks")
MLFLOW_MODULES = (
    *("registry/client", "registry/models"),
    *("release/benchmark_runs", "release/pyfunc_entry", "release/register"),
)


def ran(command: str, *arguments: str, folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in a folder whose packages go first."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(command)), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def outline(tmp_path_factory) -> Path:
    """All modules, empty but for what the contracts allow: they hold."""
    folder = tmp_path_factory.mktemp("outline")
    for path in sources():
        copy = folder / path.relative_to(PROJECT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
    (folder / "tasks" / "database.py").write_text("import duckdb\n")
    for name in MLFLOW_MODULES:
        (folder / "tasks" / f"{name}.py").write_text("import mlflow\n")
    for name in ("frames", "place_frames", "point_frames", "visit_frames"):
        (folder / "model" / "inference" / f"{name}.py").write_text("import pandas\n")
    (folder / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text())
    assert ran("lint-imports", "--no-cache", folder=folder).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("place", "planted", "contract"),
    [
        ("model/earth/geometry.py", "import tasks", "flows use tasks"),
        ("tasks/prepare/clean.py", "import flows", "flows use tasks"),
        ("flows/cli.py", "import notebooks.pictures", "flows use tasks"),
        ("model/earth/geometry.py", "import mlflow", "the model package knows no orchestrator"),
        ("tasks/prepare/clean.py", "import duckdb", "only the database module imports duckdb"),
        ("flows/cli.py", "import mlflow", "only the registry modules import mlflow"),
        ("tasks/runtime/store.py", "import tasks.config.pipeline", "rooms of tasks"),
        ("tasks/ingest/ingest.py", "import tasks.prepare.clean", "rooms of tasks"),
        ("tasks/serve/batch_predict.py", "import tasks.release.register", "rooms of tasks"),
        ("model/layers/heads.py", "import model.evaluation.metrics", "rooms of model"),
        ("model/layers/heads.py", "import model.data.shards", "rooms of model"),
        ("model/training/fit.py", "import model.inference.api", "rooms of model"),
        ("model/families/patch/network.py", "import model.families.chemin", "a family imports"),
    ],
)
def test_the_contracts_catch_a_planted_import(place, planted, contract, outline):
    before = (outline / place).read_text()
    (outline / place).write_text(f"{planted}\n")
    done = ran("lint-imports", "--no-cache", folder=outline)
    (outline / place).write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if " BROKEN" in line]
    assert [line.startswith(contract) for line in broken] == [True]


def imports() -> dict[str, set[str]]:
    """Every first-party module with the first-party modules that it imports."""
    import grimp

    graph = grimp.build_graph(*CODE, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def test_no_modules_import_each_other_in_a_circle():
    found = imports()
    list(TopologicalSorter(found).static_order())
    planted = found | {"model.earth.arrays": {"model.data.loader"}}  # the lowest room looks up
    with pytest.raises(CycleError):
        list(TopologicalSorter(planted).static_order())


@pytest.mark.parametrize(("package", "most"), [("tasks", 7), ("model", 5)])
def test_rooms_stand_on_few_floors(package, most):
    """The longest chain of rooms, each of which imports the next."""
    assert floors(package, imports()) <= most


def floors(package: str, found: dict[str, set[str]]) -> int:
    rooms: dict[str, set[str]] = {}
    for name, imported in found.items():
        here = room_of(name, package)
        if here:
            behind = {room for other in imported if (room := room_of(other, package))}
            rooms.setdefault(here, set()).update(behind - {here})
    height: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        height[room] = 1 + max((height[other] for other in rooms[room]), default=0)
    return max(height.values())


def room_of(module: str, package: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == package and len(parts) > 1 else ""


def test_the_tests_are_run_behind_all_checks():
    """Of style, types, contracts and SQL, which take a minute: once, and not in a test again."""
    done = subprocess.run(
        ["make", "--dry-run", "test"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    before, tests, _ = done.stdout.partition("-m pytest")
    assert tests
    for command in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "sqlfluff"):
        assert f"/{command}" in before


def sources() -> list[Path]:
    """The modules; notebooks, whose names begin with a number, are none."""
    return [path for name in FOLDERS for path in sorted((PROJECT / name).rglob("[!0-9]*.py"))]


def test_every_folder_of_code_is_a_package():
    folders = {path.parent for path in sources()}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_top_level_holds_what_the_readme_names():
    readme = (PROJECT / "README.md").read_text()
    for name in (*FOLDERS, "tests"):
        assert (PROJECT / name).is_dir()
        assert f"`{name}/`" in readme
    for name in ("Makefile", "LICENSE", "CHANGELOG.md", "constraints.txt", "prefect.yaml"):
        assert (PROJECT / name).is_file()
    assert not (PROJECT / "flows" / "tasks.py").exists()


FORBIDDEN = {"eval", "exec", "compile", "pickle", "cloudpickle", "marshal", "shelve"}
SLOW = {"torch", "mlflow", "matplotlib", "numba"}


def forbidden_in(text: str) -> set[str]:
    """What a source text does that none here may: pickles, texts run as code, and shells."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            found.add("exec")
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        found |= imported_by(node)
    return found & FORBIDDEN


def slow_in(path: str, text: str) -> set[str]:
    """The slow libraries that a module of tasks or flows loads whenever it is imported."""
    # What MLflow runs is no start of a command.
    if path.partition("/")[0] not in ("tasks", "flows") or path.endswith("/pyfunc_entry.py"):
        return set()
    found: set[str] = set()
    for node in run_on_import(ast.parse(text)):
        found |= imported_by(node)
    return found & SLOW


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those in functions and below `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_for_types and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from run_on_import(child)


def imported_by(node: ast.AST) -> set[str]:
    """The packages that an import statement names."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return set()


def test_no_pickle_no_eval_and_no_shell():
    found = [(path, word) for path in sources() for word in forbidden_in(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "import json, pickle",
        "from cloudpickle import dumps",
        "from builtins import exec",
        "def f():\n    import marshal.x",
        "x = eval('1')",
        "class A:\n    def f(self):\n        exec('1')",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_a_planted_pickle_eval_or_shell_is_caught(planted):
    text = (PROJECT / "tasks" / "prepare" / "clean.py").read_text()
    assert forbidden_in(text) == set()
    assert forbidden_in(f"{text}\n{planted}\n") != set()


def test_torch_mlflow_and_matplotlib_stay_out_of_the_top_of_tasks_and_flows():
    places = {path: path.relative_to(PROJECT).as_posix() for path in sources()}
    found = [place for path, place in places.items() if slow_in(place, path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "import torch",
        "import os, mlflow",
        "from numba import njit",
        "try:\n    import torch.nn\nfinally:\n    pass",
    ],
)
@pytest.mark.parametrize(
    "place", ["tasks/ingest/readers/gpx.py", "tasks/report/quality.py", "flows/local/child.py"]
)
def test_a_planted_slow_import_is_caught_in_any_room(place, planted):
    text = (PROJECT / place).read_text()
    assert slow_in(place, text) == set()
    assert slow_in(place, f"{text}\n{planted}\n") != set()
    late = f"def late():\n{indent(planted, '    ')}\nif TYPE_CHECKING:\n{indent(planted, '    ')}"
    assert slow_in(place, f"{text}\n{late}\n") == set()
    assert slow_in("model/earth/geometry.py", planted) == set()


def test_the_make_file_lists_what_it_can_do():
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for name in ("run", "ui", "check", "test", "test-slow", "notebooks", "tutorial", "bench"):
        assert f"make {name} " in done.stdout


def test_constraints_pin_every_direct_requirement():
    import tomllib

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [*chain(*project["optional-dependencies"].values())]
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    names = {text.replace(">", " ").replace("<", " ").split()[0] for text in wanted}
    assert names - pinned == set()
    assert not any("+" in line for line in lines), "a local build tag installs nowhere else"


# Nouns ------------------------------------------------------------------------------------------


def begins_with_its_noun(path: Path, text: str) -> bool:
    """Whether the first words of a module say a word of its own name, or of its folder's."""
    first = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    said = [word.lower() for word in re.findall(r"\w+", first.replace("-", ""))[:6]]
    names = {word[:4] for word in re.split(r"\W|_", f"{path.parent.name}_{path.stem}") if word}
    return any(word.startswith(name) for word in said for name in names)


def test_each_file_begins_with_the_noun_of_its_name():
    named = [path for path in sources() if path.name != "__init__.py"]
    riddles = [path for path in named if not begins_with_its_noun(path, path.read_text())]
    assert riddles == []


@pytest.mark.parametrize(
    ("path", "text", "begins"),
    [
        ("model/layers/attention_masks.py", '"""Attention masks: who reads whom."""', True),
        ("model/layers/attention_masks.py", '"""Who may read whom."""', False),
        ("tasks/runtime/progress.py", '"""How far a long step has come."""', False),
        ("model/families/trajfm/network.py", '"""TrajFM: one model."""', True),
    ],
)
def test_a_riddle_is_seen(path, text, begins):
    assert begins_with_its_noun(Path(path), text) == begins


# Readers of Parquet -----------------------------------------------------------------------------

# Left to themselves they take a folder named `lat_deg=1` for a column of that name.
READERS = {"pq.read_table(": "partitioning=None", "read_parquet(": "hive_partitioning"}


def naive_readers(texts: dict[str, str]) -> set[str]:
    """The files that open Parquet more often than they say what a folder's name is not."""
    return {
        place
        for place, text in texts.items()
        for opening, needed in READERS.items()
        if text.count(opening) - text.count(f"def {opening}") > text.count(needed)
    }


def test_no_reader_takes_a_folder_for_a_column():
    paths = [path for name in CODE for path in (PROJECT / name).rglob("*") if path.is_file()]
    texts = {
        str(path.relative_to(PROJECT)): path.read_text()
        for path in paths
        if path.suffix in (".py", ".sql")
    }
    assert sum(opening in text for text in texts.values() for opening in READERS) > 10
    assert naive_readers(texts) == set()
    planted = texts["tasks/database.py"] + "\npq.read_table(path)\n"
    assert naive_readers({"tasks/database.py": planted}) == {"tasks/database.py"}
