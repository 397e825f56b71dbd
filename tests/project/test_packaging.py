"""The wheel: built, installed elsewhere, and complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import PROJECT


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the built wheel and nothing else of the project."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("flows", "tasks", "model", "sql", "notebooks"):
        unmade = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, copy / name, symlinks=True, ignore=unmade)
    for name in ("pyproject.toml", "README.md", "LICENSE", "prefect.yaml"):
        (copy / name).write_bytes((PROJECT / name).read_bytes())
    wheels = tmp_path_factory.mktemp("wheels")
    call("-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(copy))
    (wheel,) = wheels.glob("trajfoundry-*.whl")
    place = tmp_path_factory.mktemp("installed")
    call("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), str(wheel))
    return place


def call(*command: str) -> None:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_sql_file_table_sample_and_script_is_inside(installed):
    kinds = (
        *(("sql", "*.sql"), ("tasks", "*.toml"), ("tasks", "samples/*.xz"), ("tasks", "*.js")),
        *(("notebooks", "*.js"), ("notebooks", "*.html")),
    )
    for folder, pattern in kinds:
        expected = {path.relative_to(PROJECT) for path in (PROJECT / folder).rglob(pattern)}
        found = {path.relative_to(installed) for path in (installed / folder).rglob(pattern)}
        assert expected
        assert found == expected


def test_the_deployments_and_the_licence_are_inside(installed):
    packaged = installed / "flows" / "local" / "prefect.yaml"
    assert packaged.read_text() == (PROJECT / "prefect.yaml").read_text()
    assert not packaged.is_symlink()
    assert list(installed.glob("trajfoundry-*.dist-info/licenses/LICENSE"))


def test_tests_and_other_folders_stay_outside(installed):
    packages = {path.parent.name for path in installed.glob("*/__init__.py")}
    assert packages == {"flows", "tasks", "model", "sql", "notebooks"}


def test_the_installed_command_works_from_another_folder(installed, tmp_path):
    script = (
        "import sys, sql, flows.cli; print(sql.__file__); sys.exit(flows.cli.main(['datasets']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    place, _, said = done.stdout.partition("\n")
    assert Path(place).is_relative_to(installed)
    assert "hurdat2" in said
