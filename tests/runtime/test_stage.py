"""Caching: the ten situations in which a cache must do the right thing, and planted records."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.places import PROJECT

from tasks.runtime.code_closure import code_hashes

SQL = "select unnest(range($num)) as n"


@dataclass
class Toy:
    """A copy of the project with a toy stage, and a process that runs it on request."""

    home: Path
    process: subprocess.Popen[str]
    log: Path

    def run(self, root: Path, text: str = "raw", num: int = 3) -> tuple[dict, list[str]]:
        """The answer of one flow run, and the names of the stages that really computed."""
        self.log.write_text("")
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"root": str(root), "text": text, "num": num}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer, self.log.read_text().split()


@pytest.fixture
def toy(tmp_path: Path, prefect_api_url: str) -> Iterator[Toy]:
    home = tmp_path / "project"
    for package in ("model", "sql", "tasks"):
        shutil.copytree(
            PROJECT / package, home / package, ignore=shutil.ignore_patterns("__pycache__", "*.xz")
        )
    shutil.copy(PROJECT / "tests" / "fixtures" / "toy_stage.py", home / "tasks" / "toy_stage.py")
    (home / "model" / "toy_factor.py").write_text("FACTOR = 1\n")
    (home / "sql" / "marts").mkdir(exist_ok=True)
    (home / "sql" / "marts" / "toy_numbers.sql").write_text(SQL)
    log = tmp_path / "built.log"
    environment = os.environ | {"TOY_LOG": str(log), "PREFECT_API_URL": prefect_api_url}
    environment.pop("PYTHONSAFEPATH", None)  # as a command sets it: the copy is in the folder
    process = subprocess.Popen(
        [sys.executable, "-c", "from tasks.toy_stage import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=home,
        env=environment,
    )
    yield Toy(home, process, log)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def test_ten_situations(toy: Toy, tmp_path: Path):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    both = ["double", "triple"]
    sql = toy.home / "sql" / "marts" / "toy_numbers.sql"

    first, built = toy.run(here)
    assert built == both
    assert len(set(first["recipes"])) == 2
    assert first["stages"] == both, "two tasks with equal arguments never share a result"
    assert toy.run(here) == (first, []), "repeat"

    sql.write_text("select unnest(range($num + 1)) as n")
    edited, built = toy.run(here)
    assert (built, edited["rows"]) == (both, 4), "SQL edited"
    sql.write_text(SQL)
    assert toy.run(here) == (first, []), "reverted"

    changed, built = toy.run(here, text="new")
    assert built == both
    assert changed["recipes"] != first["recipes"], "upstream changed"
    assert toy.run(here) == (first, []), "back"

    shutil.rmtree(here / "double" / "toy" / first["recipes"][0])
    assert toy.run(here) == (first, ["double"]), "output deleted"
    assert toy.run(here) == (first, []), "repeat"
    assert toy.run(elsewhere)[1] == both, "other root"
    assert toy.run(elsewhere)[1] == [], "repeat"


def test_an_edited_helper_module_misses_and_infrastructure_does_not(toy: Toy, tmp_path: Path):
    root = tmp_path / "here"
    first, _ = toy.run(root)
    factor = toy.home / "model" / "toy_factor.py"
    factor.write_text("FACTOR = 2\n")
    assert toy.run(root)[1] == ["double", "triple"], "an edited model module misses"
    factor.write_text("FACTOR = 1\n")
    assert toy.run(root)[0] == first
    config = toy.home / "tasks" / "config" / "pipeline.py"
    config.write_text(config.read_text() + "\nADDED = 1\n")
    assert toy.run(root) == (first, [])


def test_a_planted_pickle_is_never_loaded(toy: Toy, tmp_path: Path):
    root = tmp_path / "here"
    first, _ = toy.run(root)
    trap = tmp_path / "sprung"
    bomb = f"cos\nsystem\n(S'touch {trap}'\ntR.".encode()
    record = Path(first["records"][0])
    planted = json.loads(record.read_text())
    planted["metadata"]["serializer"] = {"type": "pickle", "picklelib": "pickle"}
    planted["result"] = base64.b64encode(bomb).decode()
    record.write_text(json.dumps(planted))
    assert toy.run(root) == (first, [])
    assert not trap.exists()

    record.write_bytes(bomb)
    assert toy.run(root) == (first, [])
    assert not trap.exists()


def test_forged_receipts_are_never_believed(toy: Toy, tmp_path: Path):
    root = tmp_path / "here"
    first, _ = toy.run(root)
    record = Path(first["records"][0])
    forged = json.loads(record.read_text())
    result = json.loads(forged["result"])
    result["counts"]["rows"] = 1_000_000
    forged["result"] = json.dumps(result)
    record.write_text(json.dumps(forged))
    assert toy.run(root) == (first, []), "the counts come from the manifest"

    stray = Path(first["records"][1])
    shutil.copy(record, stray)
    assert toy.run(root) == (first, [])
    shutil.rmtree(root / "double")
    assert toy.run(root) == (first, ["double"]), "a record without its folder is worth nothing"


def test_a_stage_outside_the_project_has_no_recipe():
    with pytest.raises(ModuleNotFoundError):
        code_hashes("__main__")


def test_the_closure_of_a_stage_follows_imports_but_not_infrastructure():
    hashes = code_hashes("tasks.database")
    assert "sql" in hashes
    assert "tasks.runtime.store" not in hashes
    assert "tasks.config.pipeline" not in hashes
