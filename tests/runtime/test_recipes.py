"""The table of edits: which stages of the pipeline run again after each, and which are kept.

The storms of the embedded sample, thinned, go through the whole pipeline once. Each edit is then
made in memory, the pipeline runs on the same store, and the folders that are new are the stages
that ran. Undoing the edit must find everything done.
"""

from __future__ import annotations

import lzma
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from helpers.places import PROJECT

import sql
from flows.steps import points_of, prepared, pretrained
from model.evaluation import encoding_probe
from model.families import MODULES
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.evaluate import evaluate
from tasks.ingest.readers import hurdat2
from tasks.pretrain import encoding_check as probe_stage
from tasks.release.outcome import data_counts
from tasks.report.facts import RunSteps
from tasks.report.report import report
from tasks.runtime import code_closure
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

SAMPLE = PROJECT / "tasks" / "ingest" / "samples" / "hurdat2-atlantic.txt.xz"
STORMS_BETWEEN = 10
SETTINGS: Mapping[str, Any] = {
    "dataset": "hurdat2",
    "window": {"num_context": 6, "num_horizon": 4, "stride": 10},
    "model": {"preset": "tiny"},
    "train": {"max_steps": 2},
    "assess": {"horizons": [1, 4], "gate_horizon": 4, "num_bootstrap": 100},
}

NOTHING: tuple[str, ...] = ()
JUDGED = ("evaluate", "report")
LEARNT = ("train", *JUDGED)
READ = ("part", "snapshot")
BEHIND_CLEAN = ("split", "features", "regions", "quality", "shards", "probe", *LEARNT)
CLEANED = ("clean", *BEHIND_CLEAN)
ALL = (*READ, *CLEANED)

Change = Callable[[str], str]


def remarked(text: str) -> str:
    """The same module with another docstring, a comment, and a text that stands for itself."""
    described = re.sub(r'\A"""', '"""Otherwise said. ', text)
    return described + '\n# A remark.\n\n"""And another."""\n'


def spaced(text: str) -> str:
    """The same query with other comments and another layout."""
    return f"-- A remark.\n{text}".replace("\n    ", "\n\n  ") + "/* And another. */\n"


def longer(text: str) -> str:
    """A module with a name that nothing uses."""
    return f"{text}\nADDED = 1\n"


def replaced(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def sifted(table: str) -> Change:
    """The same query with a condition that always holds."""
    return replaced(f"from {table}", f"from {table} where 1 = 1")


def further_north(patch: pytest.MonkeyPatch) -> None:
    """Let the reader of storms move every tenth place by a tenth of a degree."""
    read = hurdat2.hurdat2_fields

    def fields(text: str) -> list[str] | None:
        found = read(text)
        return found and [*found[:4], found[4].replace(".0N", ".1N"), *found[5:]]

    patch.setattr(hurdat2, "hurdat2_fields", fields)


@dataclass(frozen=True)
class Edit:
    """A change of the files that match, by their path in the project, or of the settings.

    `acts` changes what the code does, where its text alone would change no result.
    """

    files: str = ""
    change: Change = longer
    settings: Mapping[str, Mapping[str, Any]] | None = None
    acts: Callable[[pytest.MonkeyPatch], None] | None = None


def another_name(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(MODULES, "another", MODULES["patch"])


def another_script(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("tasks.report.report.script_text", lambda: "0;")


# What each edit makes run again, and nothing else.
TABLE: dict[str, tuple[Edit, Sequence[str]]] = {
    # What changes no result
    "remarks everywhere": (Edit("*.py", remarked), NOTHING),
    "layout of all SQL": (Edit("*.sql", spaced), NOTHING),
    "reader of other data": (Edit("tasks/ingest/readers/gpx.py"), NOTHING),
    "another family": (Edit("model/families/trajfm/*.py"), NOTHING),
    "judgement of made-up trips": (Edit("tasks/evaluate/generation.py"), NOTHING),
    "name of another family": (Edit(acts=another_name), NOTHING),
    "generator": (Edit("model/synthetic/*.py"), NOTHING),
    "reader of made-up data": (Edit("tasks/ingest/readers/synthetic.py"), NOTHING),
    "configuration": (Edit("tasks/config/*.py"), NOTHING),
    "runtime": (Edit("tasks/runtime/*.py"), NOTHING),
    "registry and release": (Edit("tasks/re[gl]*/*.py"), NOTHING),
    "catalogue": (Edit("tasks/catalog/*.py"), NOTHING),
    "download": (Edit("tasks/ingest/[di]*[dt].py"), NOTHING),
    # Code, with equal results
    "own reader": (Edit("tasks/ingest/readers/hurdat2.py"), READ),
    "digests of rows": (Edit("tasks/ingest/row_digests.py"), READ),
    "files in force": (Edit("tasks/ingest/files_in_force.py"), ("snapshot",)),
    "cleaning": (Edit("tasks/prepare/clean.py"), ("clean",)),
    "split": (Edit("tasks/prepare/split.py"), ("split",)),
    "regions": (Edit("tasks/prepare/regions.py"), ("regions",)),
    "shards": (Edit("tasks/prepare/shards.py"), ("shards", "report")),
    "features of points": (Edit("model/features/point_features.py"), ("probe", *LEARNT)),
    "own family": (Edit("model/families/chemin/network.py"), LEARNT),
    "training": (Edit("model/training/fit.py"), ("train", "report")),
    "probe": (Edit("model/evaluation/encoding_probe.py"), ("probe",)),
    "evaluation": (Edit("tasks/evaluate/evaluate.py"), JUDGED),
    "baseline": (Edit("model/baselines/forecast.py"), JUDGED),
    "figures": (Edit("tasks/report/figures.py"), ("quality", "report")),
    "first screen": (Edit("tasks/report/first_screen.py"), ("report",)),
    "window map": (Edit("tasks/report/window_map.py"), ("report",)),
    "script of the page": (Edit(acts=another_script), ("report",)),
    "quality report": (Edit("tasks/report/quality.py"), ("quality",)),
    # SQL, with equal results
    "query of trips": (Edit("sql/marts/trips.sql", sifted("int_trips")), ("clean",)),
    "query of steps": (Edit("sql/marts/steps.sql", sifted("compared")), ("features",)),
    "query of silences": (Edit("sql/reports/quality_gaps.sql", sifted("paired")), ("quality",)),
    "query of regions": (
        Edit("sql/marts/regions.sql", replaced("where num", "where 1 = 1 and num")),
        ("regions",),
    ),
    "query of a shard": (
        Edit("sql/marts/shard_trips.sql", sifted("int_points_parted")),
        ("shards", "report"),
    ),
    "macro": (Edit("sql/macros/wrapped_rad.sql", replaced("pi()", "(pi() + 0)")), ("features",)),
    # Other results
    "own reader reads otherwise": (
        Edit("tasks/ingest/readers/hurdat2.py", acts=further_north),
        ALL,
    ),
    "other trips": (
        Edit("sql/intermediate/int_trips.sql", replaced("$min_points", "$min_points + 8")),
        CLEANED,
    ),
    "other turns": (
        Edit("sql/marts/steps.sql", replaced("wrapped_rad(start_rad - before_rad)", "0.5")),
        ("features", "quality", "shards", "probe", *LEARNT),
    ),
    # Settings
    "resamples": (Edit(settings={"assess": {"num_bootstrap": 101}}), JUDGED),
    "gate": (Edit(settings={"assess": {"gate_horizon": 1}}), JUDGED),
    "learning rate": (Edit(settings={"train": {"learning_rate": 0.01}}), LEARNT),
    "family": (Edit(settings={"model": {"family": "patch"}}), LEARNT),
    "shortest trip": (Edit(settings={"clean": {"min_points": 12}}), CLEANED),
}


# The pipeline ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipeline:
    """A store in which everything is done, and what it was made of."""

    store: Store
    source: Path

    def run(self, settings: Mapping[str, Mapping[str, Any]] | None = None) -> set[Path]:
        """The folders that a run adds to the store."""
        before = self.folders()
        merged = {
            name: {**SETTINGS.get(name, {}), **given} for name, given in (settings or {}).items()
        }
        config = PipelineConfig.model_validate({**SETTINGS, **merged})
        with without_orchestrator():
            points = points_of(config, str(self.source), self.store)
            data = prepared(config, points, self.store)
            trained = pretrained(config, data.shards, self.store)
            evaluated = evaluate(config, data.shards, trained.model, self.store)
            counts = data_counts([points, *data.cleaned, data.regions])
            models = (data.shards, trained.model, evaluated)
            steps = RunSteps(config, self.store, *models, data.quality)
            report(steps, trained.probe, counts)
        return self.folders() - before

    def folders(self) -> set[Path]:
        return {path.parent for path in self.store.root.glob("*/*/*/manifest.json")}

    def stages(self, folders: set[Path]) -> list[str]:
        return sorted({folder.relative_to(self.store.root).parts[0] for folder in folders})


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("recipes")
    source = folder / "hurdat2-thinned.txt"
    source.write_text(thinned(lzma.open(SAMPLE, "rt").read()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAJFOUNDRY_NUM_THREADS", "1")
        # A probe that learns nothing and refuses nothing: it must only run.
        patch.setattr(probe_stage, "NUM_BATCHES", 1)
        patch.setattr(probe_stage, "BATCH_SIZE", 8)
        patch.setattr(encoding_probe, "NUM_STEPS", 2)
        patch.setattr(encoding_probe, "refusals", lambda _found: [])
        made = Pipeline(Store(folder / "store"), source)
        assert made.stages(made.run()) == sorted(ALL)
        yield made


def thinned(text: str) -> str:
    storms = re.split(r"(?m)^(?=[A-Z]{2}\d{6},)", text)[1:]
    return "".join(storms[::STORMS_BETWEEN])


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Callable[[Edit], None]:
    """Make an edit in memory; it is undone after the test, or by undoing the patch."""

    def make(edit: Edit) -> None:
        if not edit.files:
            return
        touched = [
            path
            for room in ("model", "sql", "tasks")
            for path in (PROJECT / room).rglob("*.*")
            if fnmatch(path.relative_to(PROJECT).as_posix(), edit.files)
        ]
        assert touched
        read_python, read_sql = code_closure.source_text, sql.read

        def source_text(path: Path) -> str:
            text = read_python(path)
            return edit.change(text) if path in touched else text

        def read(name: str) -> str:
            text = read_sql(name)
            return edit.change(text) if PROJECT / "sql" / f"{name}.sql" in touched else text

        monkeypatch.setattr(code_closure, "source_text", source_text)
        monkeypatch.setattr(sql, "read", read)

    return make


@pytest.mark.parametrize("name", TABLE)
def test_an_edit_runs_what_rests_on_it_and_nothing_else(name, pipeline, edited, monkeypatch):
    edit, expected = TABLE[name]
    edited(edit)
    if edit.acts:
        edit.acts(monkeypatch)
    added = pipeline.run(edit.settings)
    assert pipeline.stages(added) == sorted(expected)
    monkeypatch.undo()
    assert pipeline.run() == set(), "undone, everything is found done"
    for folder in added:
        shutil.rmtree(folder)
