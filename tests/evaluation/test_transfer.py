"""Transfer: a registered model on other data, by the same ruler, nothing of it fitted there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers import ships

from flows.steps import assess
from model.data.seen_points import seen_points
from model.data.shards import Shards
from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import current_receipts
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.seen import SEEN_SHARE
from tasks.evaluate.transfer import TRANSFER, title_of, transfer
from tasks.prepare.conventions import CALIBRATION_FILE
from tasks.release.champion_gate import leak_refusal
from tasks.report.error_tables import read_scores
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.run_records import read_records
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """A store with shards alone, other ones than the model was trained on."""
    return Store(tmp_path_factory.mktemp("transfer") / "store")


@pytest.fixture(scope="module")
def model() -> Path:
    good = ships.good()
    return good.store.folder(good.trained)


def judged(store: Store, model: Path, seed: int = 0) -> Receipt:
    with without_orchestrator(), recorded_run(store, "assess", "hurdat2"):
        shards = ships.stored_shards(store, seed=seed)
        return transfer(ships.config_of(max_steps=40), str(model), shards, store)


def rows_of(folder: Path, model: str) -> list[dict[str, object]]:
    scores = read_scores(folder)
    return scores.filter(pc.equal(scores["model"], model)).drop_columns("model").to_pylist()


def test_on_its_own_data_it_errs_as_where_it_was_trained(store, model, tmp_path):
    evaluated = ships.good().evaluation
    carried = shutil.copytree(model, tmp_path / "carried")
    shutil.copy(evaluated / CALIBRATION_FILE, carried)
    scores = judged(store, carried)

    def errors(folder: Path, split: str) -> list[dict[str, object]]:
        return [row for row in rows_of(folder, "chemin") if row["split"] == split]

    assert errors(store.folder(scores), "test") == errors(evaluated, "test") != []
    assert scores.counts[SEEN_SHARE] == 0 == ships.good().evaluated.counts[SEEN_SHARE]
    for baseline in ("damped_velocity", "last_position"):
        assert rows_of(store.folder(scores), baseline) == rows_of(evaluated, baseline) != []


def test_on_other_data_nothing_of_it_changes_and_everything_is_judged_again(store, model):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    own, other = judged(store, model), judged(store, model, seed=1)
    assert own.recipe != other.recipe
    assert rows_of(store.folder(own), "chemin") != rows_of(store.folder(other), "chemin")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_a_model_that_was_trained_on_the_test_is_labelled_and_no_champion(
    store, model, tmp_path, caplog
):
    """The fault: what is test here was train under the split that it was trained by."""
    with without_orchestrator():
        shards = ships.stored_shards(store)
        folder = tmp_path / "other"
        shutil.copytree(store.folder(shards), folder)
    given = Shards.open(folder)
    swapped = replace(
        given, files={"train": given.files["test"], "validation": given.files["validation"]}
    )
    cheat = shutil.copytree(model, tmp_path / "cheat")
    seen_points(swapped).write(cheat)
    with caplog.at_level("INFO"):
        found = judged(store, cheat)
    assert found.counts[SEEN_SHARE] == 1
    assert "No test: the model was trained on 100.0% of the points of test" in caplog.text
    decision = leak_refusal(shards, found)
    assert decision is not None
    assert not decision.is_promoted
    assert leak_refusal(shards, judged(store, model)) is None


def test_the_same_weights_are_judged_once(store, model, tmp_path):
    shutil.copytree(model, tmp_path / "copy")
    assert judged(store, tmp_path / "copy").recipe == judged(store, model).recipe
    told = [run.is_cached for record in read_records(store)[-1:] for run in record.stages]
    assert told == [True]


def test_a_model_that_is_none_is_refused_by_its_flag(store, model, tmp_path):
    with pytest.raises(ConfigError, match=r"^model: no weights\.safetensors in"):
        judged(store, tmp_path)
    shutil.copytree(model, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match="is damaged: weights"):
        judged(store, tmp_path / "damaged")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("bad", r"^model: bad is no model; .*models:/NAME@champion, .*my_module:MyModel, .*folder"),
        ("not_there:Mine", "^model: there is no module not_there"),
    ],
)
def test_an_address_that_is_no_model_is_refused_before_any_data_are_read(
    address, said, tmp_path, monkeypatch
):
    monkeypatch.setenv("TRAJFOUNDRY_STORE", str(tmp_path / "store"))
    with pytest.raises(ConfigError, match=said):
        assess(PipelineConfig(), address)
    assert not (tmp_path / "store").exists()


def test_tables_call_it_by_what_it_was_trained_on():
    assert title_of("models:/trajfoundry-chemin-porto@champion", "chemin") == "chemin-porto"
    assert title_of("models:/trajfoundry-chemin-porto/3", "chemin") == "chemin-porto 3"
    assert title_of("some/folder", "chemin") == "chemin"


def test_the_warehouse_tells_the_newest_of_each_model(store, model):
    newest = judged(store, model)
    current = current_receipts(store, read_records(store))["hurdat2"]["transfer"]
    assert [one.recipe for one in current] == [newest.recipe]
    scores = read_scores(store.folder(newest))
    assert isinstance(scores, pa.Table)
    assert TRANSFER.name == "transfer"
