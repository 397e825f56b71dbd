"""Suites of benchmarks: those that are shipped, one's own, and wrong ones, told by their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import cli
from model.families import FAMILIES_OF_POINTS
from tasks.config.datasets import DATASETS
from tasks.config.suite import FAMILIES, OF_POINTS, SHIPPED, Suite, file_of, merged, suite_named
from tasks.ingest.suite_sources import source_of
from tasks.runtime.errors import ConfigError

GOOD = 'title = "Mine"\n[[datasets]]\ndataset = "hurdat2"\n'
MORE = '[[datasets]]\ndataset = "synthetic"\n'
SHARED = "rows = ['own', 'joint']\nfamilies = ['foundry', 'chemin']\n"


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_suite_can_be_configured_and_has_a_control_beside_its_data(name):
    suite = suite_named(name)
    assert suite.name == name
    assert set(suite.families) == set(FAMILIES_OF_POINTS) & set(FAMILIES)
    judged = {family for data in suite.datasets for family in suite.families_of(data)}
    assert judged == set(FAMILIES)
    leaky = [
        suite.config_of(data, split, "chemin").split_rules.is_leaky
        for data in suite.datasets
        for split in suite.splits_of(data)
    ]
    assert any(leaky)
    assert not all(leaky)


def test_the_full_suite_has_all_public_data():
    found = {data.dataset for data in suite_named("full").datasets}
    assert found == {name for name in DATASETS if name != "own"}


def test_a_suite_of_your_own(tmp_path):
    suite = suite_named(written(tmp_path, GOOD))
    assert (suite.name, suite.families, suite.seeds) == ("mine", OF_POINTS, (0,))


def test_data_may_be_of_other_families_than_the_suite(tmp_path):
    suite = suite_named(written(tmp_path, f"{GOOD}families = ['trajgpt']\n"))
    [data] = suite.datasets
    assert [cell.family for cell in suite.cells_of(data, "time")] == ["trajgpt"]
    assert suite.config_of(data, "entity", "trajgpt").evaluate_rules.tasks[0] == "next_region"


def test_shared_rows_are_of_families_with_their_own_scale_and_of_the_first_split(tmp_path):
    given = f"splits = ['entity', 'time']\n{SHARED}{GOOD}{MORE}[shared_train]\nmax_steps = 7\n"
    suite = suite_named(written(tmp_path, given))
    [data, _] = suite.datasets
    rows = [[(one.family, one.row) for one in suite.cells_of(data, kind)] for kind in suite.splits]
    own = [("foundry", "own"), ("chemin", "own")]
    assert rows == [[*own, ("foundry", "joint")], own]
    assert suite.shared_config("foundry", 3).training.fit.max_steps == 7
    assert suite.config_of(data, "entity", "foundry", 3).training.fit.max_steps == 600


def test_settings_of_the_data_go_before_those_of_the_suite_and_the_cell_before_both(tmp_path):
    settings = "[settings]\nseed = 9\n[settings.train]\nmax_steps = 5\nbatch_size = 8\n"
    data = "[[datasets]]\ndataset = 'hurdat2'\n[datasets.settings.train]\nmax_steps = 7\n"
    suite = suite_named(written(tmp_path, f"title = 'x'\nseeds = [3, 4]\n{settings}{data}"))
    [data] = suite.datasets
    cells = suite.cells_of(data, "time")
    assert [cell.seed for cell in cells if cell.family == "patch"] == [3, 4]
    trained = suite.config_of(*cells[0][:4])
    assert (trained.train.max_steps, trained.train.batch_size) == (7, 8)
    assert (trained.split.kind, trained.model.family) == ("time", cells[0].family)
    judged = suite.config_of(*cells[0][:3])
    assert trained.training.fit.seed == 3
    assert judged.evaluate_rules.seed == judged.split_rules.seed == 9


def test_what_is_merged_keeps_the_rest():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 'x", "this is no TOML"),
        ("title = 'x'\n", "datasets: Field required"),
        (f"families = ['chemim']\n{GOOD}", "families: no family 'chemim'; choose of chemin,"),
        (f"{GOOD}families = ['trajgbt']\n", "datasets.0.families: no family 'trajgbt'; choose of"),
        (f"families = []\n{GOOD}", "families: must name at least one"),
        (f"seeds = [1, 1]\n{GOOD}", "seeds: names 1 twice"),
        (f"seeds = [-1]\n{GOOD}", "seeds.0: Input should be greater than or equal to 0, not -1"),
        (f"splits = ['user']\n{GOOD}", "splits.0: Input should be 'entity', 'time', 'region' or"),
        (f"tasks = ['recover']\n{GOOD}", "tasks: forecast must be among the tasks"),
        (f"colour = 1\n{GOOD}", "colour: Extra inputs are not permitted, not 1"),
        (f"{GOOD}[[datasets]]\ndataset = 'hurdat2'\n", "datasets: names 'hurdat2' twice"),
        (GOOD.replace("hurdat2", "hurdat3"), "datasets.0.dataset: unknown dataset 'hurdat3'"),
        (
            f"{GOOD}[datasets.settings.train]\nmax_steps = 0\n",
            "settings of hurdat2: train.max_steps: Input should be greater than or equal to 1, "
            "not 0",
        ),
        (
            f"{GOOD}[datasets.settings.trian]\nmax_steps = 1\n",
            "settings of hurdat2: trian: Extra inputs are not permitted",
        ),
        (
            f"{GOOD}[datasets.settings.window]\nnum_horizon = 5\n"
            "[datasets.settings.assess]\ngate_horizon = 9\n",
            "settings of hurdat2: assess asks for step 9, but windows end at window.num_horizon",
        ),
        (
            f"{GOOD}[datasets.settings.model]\nfamily = 'patch'\n",
            "settings.model.family is told by 'families' alone",
        ),
        (f"rows = ['joined']\n{GOOD}", "rows.0: Input should be 'own', 'joint' or 'held_out'"),
        (f"{SHARED}{GOOD}", "rows: joint need two data sets at least for a family that can learn"),
        (
            f"{SHARED.replace('foundry', 'gru')}{GOOD}{MORE}",
            "rows: joint need two data sets at least for a family that can learn from several "
            "(foundry)",
        ),
        (f"{SHARED}few_shot = [1]\n{GOOD}{MORE}", "few_shot goes on from held-out weights: name"),
        (f"few_shot = [1]\n{GOOD}", "few_shot goes on from held-out weights: name"),
        (f"{GOOD}[few_shot_train]\ninit = 'x'\n", "few_shot_train.init: it begins with held-out"),
        (f"{GOOD}[shared_train]\nmax_stops = 1\n", "shared_train: max_stops: Extra inputs are"),
        (f"{SHARED}few_shot = [0]\n{GOOD}{MORE}", "few_shot.0: Input should be greater than 0"),
        (
            f"{SHARED}{GOOD}{MORE}[shared_train]\nmax_stops = 1\n",
            "shared_train: train.max_stops: Extra inputs are not permitted",
        ),
        (
            f"{SHARED}{GOOD}{MORE}[few_shot_train]\nmax_steps = 0\n",
            "few_shot_train: max_steps: Input should be greater than or equal to 1",
        ),
        (
            f"{SHARED}splits = ['random_window', 'entity']\n{GOOD}{MORE}",
            "splits of hurdat2: shared weights learn by the first of them, and random_window",
        ),
    ],
)
def test_a_wrong_suite_is_refused_by_the_value_that_is_wrong(tmp_path, capsys, text, said):
    path = written(tmp_path, text)
    assert cli.main(["benchmark", "--suite", path, "--store", str(tmp_path / "store")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"trajfoundry: {path}: ")
    assert said in told
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("given", ["smok", "nowhere.toml", "Mine Own.toml"])
def test_a_suite_that_is_none_is_refused_by_its_name(given):
    with pytest.raises(ConfigError, match=rf"^{given}: "):
        suite_named(given)


def test_a_folder_of_sources_that_is_none_is_refused(tmp_path, capsys):
    assert cli.main(["benchmark", "--source-folder", str(tmp_path / "away")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_where_the_files_of_a_suite_are(tmp_path):
    (tmp_path / "ships.zip").touch()

    def found(dataset: str, source: str, folder: str = str(tmp_path)) -> str | None:
        given = {"title": "x", "name": "x", "datasets": [{"dataset": dataset, "source": source}]}
        return source_of(Suite.model_validate(given).datasets[0], folder)

    assert found("ais_noaa", "ships.zip") == str(tmp_path / "ships.zip")
    assert found("ais_noaa", "boats.zip") is None
    assert found("ais_noaa", "") is None
    assert (found("hurdat2", ""), found("synthetic", "", "")) == ("", "")
    assert found("ais_noaa", "https://example.org/ships.zip", "") == "https://example.org/ships.zip"
    assert found("ais_noaa", str(tmp_path / "ships.zip"), "") == str(tmp_path / "ships.zip")


def test_each_shipped_suite_has_its_file():
    assert set(SHIPPED) == {"full", "smoke"}
    assert all(file_of(name).is_file() for name in SHIPPED)
