"""A local model: a class of one's own is judged as families are, and learns without any of test."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers import ships

from flows.steps import transferred
from model.data.shards import Shards, window_index
from tasks.catalog.run import recorded_run
from tasks.evaluate.local_model import is_local, local_model, source_digest
from tasks.prepare.learning_shards import learning_shards
from tasks.pretrain.fine_tuning import COURSE
from tasks.report.error_tables import read_scores
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

LINE = """
    from model.baselines.forecast import damped_velocity

    class Mine:
        name, tasks, is_baseline = "mine", ("forecast",), False

        def __init__(self, shards):
            self.files, self.fitted = shards.files, damped_velocity(tau_s=1e9)

        def forecast(self, context, num_horizon, target_time_s_BH):
            return self.fitted.forecast(context, num_horizon, target_time_s_BH)
"""

FLAT = LINE.replace("return ", "return Forecast.of([target_time_s_BH] * 3)  # ").replace(
    "baselines.forecast import damped_velocity",
    "interface.answers import Forecast; from model.baselines.forecast import damped_velocity",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("local") / "store")


@pytest.fixture(scope="module")
def shards(store) -> Receipt:
    return ships.stored_shards(store)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str = LINE, name: str = "my_models") -> str:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return f"{name}:Mine"


def judged(store: Store, shards: Receipt, address: str, few_shot=()) -> Receipt:
    config = ships.config_of(max_steps=40)
    with without_orchestrator(), recorded_run(store, "assess", "hurdat2"):
        return transferred(config, address, shards, store, few_shot)


def learning_of(store: Store, shards: Receipt, percent: float) -> Receipt:
    with without_orchestrator():
        return learning_shards(ships.config_of(), shards, percent, store)


def entities(store: Store, receipt: Receipt, split: str) -> set[str]:
    folder = store.folder(receipt)
    rows = [pq.read_table(path)["entity_id"] for path in folder.glob(f"{split}-*.parquet")]
    return {entity for column in rows for entity in column.to_pylist()}


def test_a_class_of_ones_own_stands_in_the_table_beside_the_baselines(store, shards, folder):
    scores = read_scores(store.folder(judged(store, shards, written(folder))))
    told = set(scores["model"].to_pylist())
    assert {"mine", "damped_velocity"} <= told
    mine, constant = (
        scores.filter(pc.equal(scores["model"], name)).drop_columns(["model", "is_baseline"])
        for name in ("mine", "constant_velocity")
    )
    chosen = [
        {(row["split"], row["mask"], row["horizon"]): row["value"] for row in table.to_pylist()
         if row["metric"] == "ade_m" and row["track"] == "times_given" and row["stratum"] == "all"}
        for table in (mine, constant)
    ]  # fmt: skip
    assert chosen[0].keys() == chosen[1].keys() != set()
    assert list(chosen[0].values()) == pytest.approx(list(chosen[1].values()), rel=1e-3)


def test_an_edit_of_the_class_is_judged_again_and_no_edit_is_not(store, shards, folder):
    first = judged(store, shards, written(folder))
    assert judged(store, shards, written(folder)).recipe == first.recipe
    other = judged(store, shards, written(folder, LINE.replace("1e9", "1.0")))
    assert other.recipe != first.recipe
    assert other.content != first.content


def test_what_it_learns_from_holds_nothing_of_test(store, shards):
    learning = learning_of(store, shards, 100)
    opened = Shards.open(store.folder(learning))
    assert set(opened.files) == {"train", "validation"}
    whole = Shards.open(store.folder(shards))
    for split in ("train", "validation"):
        assert window_index(opened, split).equals(window_index(whole, split))
    assert len(window_index(opened, "test")) == 0


def test_few_entities_are_part_of_more_and_are_whole(store, shards):
    few, more = (learning_of(store, shards, percent) for percent in (4, 20))
    for split in ("train", "validation"):
        small, large = (entities(store, one, split) for one in (few, more))
        assert small < large < entities(store, shards, split)
    assert few.counts["entities_train"] == 2  # of 30
    assert few.counts["trips_train"] == 4
    assert few.counts["windows_train"] == 4 * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no class Mine"),
        ("def Mine(shards): return 1 / 0", r"ZeroDivisionError: division by zero \(nowhere.py"),
        ("import torch\ndef Mine(shards): return torch.zeros(2).view(3)", r"\(nowhere.py, line 2"),
        ("class Mine: pass", "called with the shards as its one argument"),
        (LINE.replace("return", "return None  #"), "an answer of it was read"),
        (FLAT, r"\(80, 4\)\]: each must be \(windows, 1 \+ samples, steps\)"),
        ("class Mine:\n    def __init__(self, shards): pass", "needs a name"),
        (LINE.replace('("forecast",)', '("guess",)'), "must be a tuple of some of forecast"),
        (LINE.replace('("forecast",)', '("recover",)'), "has no method recover"),
        (
            LINE.replace('"mine"', '"last_position"'),
            "of forecast is called last_position",
        ),
    ],
)
def test_a_class_that_is_none_is_refused_by_what_it_lacks(store, shards, folder, text, said):
    with pytest.raises((ConfigError, DataError), match=said):
        judged(store, shards, written(folder, text, "nowhere"))


def test_a_module_that_is_not_there_is_named(folder):
    with pytest.raises(ConfigError, match="no module not_there_at_all"):
        source_digest("not_there_at_all.part:Mine")


def test_a_file_is_named_as_a_module(folder):
    written(folder)
    with pytest.raises(ConfigError, match=r"without \.py"):
        source_digest("my_models.py:Mine")


def test_addresses_of_registered_models_and_folders_are_none_of_modules():
    assert is_local("my_package.my_module:Mine")
    for address in ("models:/name@champion", "some/folder", "C:/folder", "name", "a-b:C"):
        assert not is_local(address)


DRAWN = """
    import torch
    from model.baselines.forecast import LAST_POSITION

    class Mine:
        name, tasks, is_baseline = "mine", ("forecast",), False

        def __init__(self, shards):
            self.drawn, self.forecast = torch.rand(3), LAST_POSITION.forecast
"""


def test_a_seed_makes_a_training_of_ones_own_repeatable(store, shards, folder):
    opened = Shards.open(store.folder(shards))
    address = written(folder, DRAWN)
    one, same, other = (local_model(address, opened, seed) for seed in (0, 0, 1))
    assert one.drawn.equal(same.drawn)
    assert not one.drawn.equal(other.drawn)


def test_few_shot_models_stand_beside_the_zero_shot_one(store, shards, monkeypatch):
    good = ships.good()
    address = str(good.store.folder(good.trained))
    monkeypatch.setitem(COURSE, "max_steps", 2)
    scores = read_scores(store.folder(judged(store, shards, address, few_shot=(5, 50))))
    told = set(scores.filter(pc.invert(scores["is_baseline"]))["model"].to_pylist())
    assert told == {"chemin", "chemin 5 %", "chemin 50 %"}
    with pytest.raises(ConfigError, match="learns from all of train"):
        judged(store, shards, "my_models:Mine", few_shot=(5,))


def test_the_network_of_the_docs_learns_to_turn_in_one_command(store, shards, folder):
    page = (Path(__file__).parents[2] / "docs" / "own-models.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    (folder / "my_models.py").write_text(code)
    scores = read_scores(store.folder(judged(store, shards, "my_models:Gru")))
    [skill] = [
        row["value"]
        for row in scores.to_pylist()
        if (row["model"], row["metric"], row["horizon"]) == ("my_gru", "skill", 4)
        and (row["split"], row["track"], row["stratum"]) == ("test", "times_given", "all")
        and row["mask"] == "all"
    ]
    assert skill > 0.1
