"""Inputs named by content: a stage runs again for what its inputs hold, not for how they came."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tasks.catalog.warehouse import current_receipts
from tasks.config.pipeline import PipelineConfig
from tasks.release.model_card import recipes
from tasks.report.facts import RunSteps
from tasks.runtime.errors import StorageError
from tasks.runtime.frozen import Frozen
from tasks.runtime.manifest import LIBRARIES
from tasks.runtime.run_records import RunRecord, StageRun, read_records, write_record
from tasks.runtime.stage import Input, Job, NamedInput, Stage
from tasks.runtime.store import MANIFEST, Counts, Receipt, Store, read_manifest


class Rules(Frozen):
    """`edition` makes another recipe of the same content, `told` other counts of the same file."""

    rows: int = 3
    edition: int = 0
    told: int = 0


@dataclass
class Toy:
    """Two stages in a store: rows, and their sum. `built` names those that really ran."""

    store: Store
    built: list[str] = field(default_factory=list)

    def stage(self, name: str) -> Stage[Rules]:
        def build(draft: Path, job: Job[Rules]) -> Counts:
            self.built.append(name)
            return {"rows": rows, "sum": total}[name](draft, job)

        build.__module__ = "tasks.runtime.frozen"  # a stage is a part of the project
        return Stage(name, build)

    def made(self, name: str, settings: Rules, inputs: dict[str, Input]) -> Receipt:
        stage = self.stage(name)
        return stage.plain(stage.job("toy", settings, inputs, self.store, licence="ours"))

    def rows(self, **settings: int) -> Receipt:
        return self.made("rows", Rules(**settings), {})

    def sum(self, given: Input) -> Receipt:
        return self.made("sum", Rules(), {"rows": given})

    def ran(self) -> list[str]:
        """What ran since this was last asked."""
        built, self.built = self.built, []
        return built

    def lineage(self, receipt: Receipt) -> Any:
        return self.store.manifest(receipt).lineage["rows"]


def rows(draft: Path, job: Job[Rules]) -> Counts:
    (draft / "rows.txt").write_text("\n".join(map(str, range(job.settings.rows))))
    return {"rows": job.settings.rows + job.settings.told}


def total(draft: Path, job: Job[Rules]) -> Counts:
    numbers = map(int, (job.folder("rows") / "rows.txt").read_text().split())
    (draft / "sum.txt").write_text(str(found := sum(numbers)))
    return {"sum": found, "rows": job.receipt("rows").counts["rows"]}


@pytest.fixture
def toy(store: Store) -> Toy:
    return Toy(store)


# Recipe and content ------------------------------------------------------------------------------


def test_equal_content_of_another_recipe_is_taken_for_the_same(toy: Toy):
    first = toy.rows()
    summed = toy.sum(first)
    twin = toy.rows(edition=1)
    assert (twin.recipe != first.recipe, twin.content) == (True, first.content)
    assert toy.ran() == ["rows", "sum", "rows"]
    assert toy.sum(twin) == summed
    assert toy.ran() == []
    assert summed.counts == {"sum": 3, "rows": 3}
    assert toy.lineage(summed) == first.recipe, "the recipe that it was really made of"


def test_there_and_back(toy: Toy):
    before = toy.sum(toy.rows())
    changed = toy.sum(toy.rows(rows=5))
    assert changed.counts["sum"] == 10
    assert toy.ran() == ["rows", "sum"] * 2
    assert toy.sum(toy.rows()) == before
    assert toy.ran() == []


def test_a_lost_input_is_made_again_for_itself_alone(toy: Toy):
    first = toy.rows()
    summed = toy.sum(first)
    shutil.rmtree(toy.store.folder(first))
    toy.ran()
    assert toy.rows() == first
    assert toy.sum(first) == summed
    assert toy.ran() == ["rows"]


def test_a_lost_result_is_made_again_of_a_twin_of_what_it_was_made_of(toy: Toy):
    first = toy.rows()
    summed = toy.sum(first)
    twin = toy.rows(edition=1)
    for receipt in (first, summed):
        shutil.rmtree(toy.store.folder(receipt))
    assert toy.sum(twin) == summed
    assert toy.lineage(summed) == twin.recipe


def test_equal_files_with_other_counts_are_other_content(toy: Toy):
    first, other = toy.rows(), toy.rows(told=1)
    files = [toy.store.manifest(receipt).files for receipt in (first, other)]
    assert files[0] == files[1]
    assert toy.sum(first).counts["rows"] == 3
    assert toy.sum(other).counts["rows"] == 4
    assert toy.ran() == ["rows", "rows", "sum", "sum"]


def test_a_part_may_stand_for_the_whole(toy: Toy):
    first, other = toy.rows(), toy.rows(rows=5)
    summed = toy.sum(NamedInput(receipt=first, name="part"))
    assert toy.sum(NamedInput(receipt=other, name="part")) == summed
    assert toy.lineage(summed) == first.recipe
    assert toy.sum(NamedInput(receipt=other, name="another part")).counts["sum"] == 10


def test_each_of_many_inputs_counts_in_its_place(toy: Toy):
    first, other = toy.rows(), toy.rows(rows=5)
    twin = toy.rows(edition=1)
    stage = toy.stage("sum")
    named = [
        stage.recipe("toy", Rules(), {"rows": given}).digest
        for given in ([first, other], [twin, other], [other, first], [first])
    ]
    assert named[0] == named[1]
    assert len(set(named)) == 3


# Libraries --------------------------------------------------------------------------------------

SETTING = "TRAJFOUNDRY_LIBRARIES_IN_RECIPES"


def upgrade(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Let a library have another version than the installed one."""
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == library else known(name))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_versions_of_libraries_stand_in_the_manifest(toy: Toy, monkeypatch, library):
    first = toy.rows()
    upgrade(monkeypatch, library)
    assert (toy.rows(), toy.ran()) == (first, ["rows"]), "by itself an upgrade makes nothing again"
    upgraded = toy.rows(rows=5)
    versions = [toy.store.manifest(receipt).versions[library] for receipt in (first, upgraded)]
    assert versions[1] == "99" != versions[0]


def test_by_choice_an_upgrade_makes_everything_again(toy: Toy, monkeypatch):
    before = toy.sum(toy.rows())
    monkeypatch.setenv(SETTING, "true")
    chosen = toy.sum(toy.rows())
    assert chosen.recipe != before.recipe
    assert set(toy.store.manifest(chosen).recipe.libraries) == set(LIBRARIES)
    toy.ran()
    assert (toy.sum(toy.rows()), toy.ran()) == (chosen, [])
    upgrade(monkeypatch, "duckdb")
    upgraded = toy.sum(toy.rows())
    assert toy.ran() == ["rows", "sum"]
    assert upgraded.content == chosen.content
    monkeypatch.delenv(SETTING)
    assert (toy.sum(toy.rows()), toy.ran()) == (before, [])


# What was published before -----------------------------------------------------------------------


def edit_manifest(folder: Path, changes: dict[str, Any]) -> None:
    told = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(told | changes))


def test_a_receipt_of_an_old_record_says_again_what_it_holds(toy: Toy):
    first = toy.rows()
    old = first.model_copy(update={"content": ""})
    with pytest.raises(ValueError, match="does not say what it holds"):
        toy.sum(old)
    now = datetime.now(UTC)
    run = StageRun(receipt=old, is_cached=False, wall_s=0.0, peak_memory_mb=0.0)
    record = RunRecord(
        run_id="old", flow="ingest", dataset="toy", started_at=now, finished_at=now,
        outcome="completed", stages=(run,),
    )  # fmt: skip
    write_record(toy.store, record)
    [path] = toy.store.runs.glob("*.json")
    told = json.loads(path.read_text())
    del told["stages"][0]["receipt"]["content"]
    path.write_text(json.dumps(told))
    [found] = current_receipts(toy.store, read_records(toy.store))["toy"]["rows"]
    assert found == first
    assert toy.sum(found).counts["sum"] == 3


def test_a_manifest_without_a_lineage_is_complete(toy: Toy):
    first = toy.rows()
    folder = toy.store.folder(first)
    told = json.loads((folder / MANIFEST).read_text())
    assert told.pop("lineage") == {}
    (folder / MANIFEST).write_text(json.dumps(told))
    assert toy.store.receipt(first) == first
    toy.ran()
    assert (toy.rows(), toy.ran()) == (first, [])


@pytest.mark.parametrize(
    "changes", [{"counts": {"sum": 4, "rows": 3}}, {"lineage": {"rows": "0" * 32}}, {"lineage": {}}]
)
def test_an_edited_manifest_is_not_believed(changes, toy: Toy):
    first = toy.rows()
    summed = toy.sum(first)
    folder = toy.store.folder(summed)
    edit_manifest(folder, changes)
    assert read_manifest(folder) is None
    with pytest.raises(StorageError, match="run the pipeline again"):
        toy.store.receipt(summed)
    toy.ran()
    assert toy.sum(first) == summed
    assert toy.ran() == ["sum"]
    assert toy.lineage(summed) == first.recipe


# What people are told ----------------------------------------------------------------------------


def test_reports_and_cards_name_what_the_shards_were_really_made_of(toy: Toy):
    """The split is made anew with equal content, so that the shards of the old one are kept."""

    def shards(split: Receipt) -> Receipt:
        return toy.made("sum", Rules(), {"rows": split, "split": split, "cleaned": [split]})

    first = toy.rows()
    before = shards(first)
    trained = toy.sum(first)
    after = shards(toy.rows(edition=1))
    assert after == before
    steps = RunSteps(PipelineConfig(), toy.store, after, trained, trained)
    told = steps.recipes
    assert told["split"] == first.recipe
    assert "cleaned" not in told
    assert {told["shards"], told["trained"]} == {before.recipe, trained.recipe}
    card = recipes(steps, trained)
    assert f"| split | {first.recipe} |" in card


def test_a_step_made_anew_is_told_by_its_new_recipe(toy: Toy):
    """Equal shards by another recipe: what shows recipes must not be kept for its equal content."""
    first, twin = toy.rows(), toy.rows(edition=1)
    trained = toy.sum(first)
    told = [
        RunSteps(PipelineConfig(), toy.store, shards, trained, trained).recipes
        for shards in (first, twin)
    ]
    assert [one["shards"] for one in told] == [first.recipe, twin.recipe]
    assert told[0] != told[1], "by value in the settings of the report, it runs again"
