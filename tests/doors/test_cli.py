"""The command line: flags, errors in one line, exit codes, and nothing else on standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_settings import CliApp, get_subcommand

from flows import cli
from flows.local.environment import DEFAULTS, set_environment
from tasks.config.datasets import DATASETS
from tasks.config.pipeline import PipelineConfig
from tasks.runtime.errors import ConfigError, DataError, Stopped, StorageError, Unavailable

SET_ALWAYS = ("TRAJFOUNDRY_STORE", "PYTHONSAFEPATH")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """Keep what a command sets in the environment from the tests that follow."""
    for name in (*DEFAULTS, *SET_ALWAYS, "PREFECT_HOME", "PREFECT_API_URL"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def parsed(*arguments: str) -> cli.Run:
    command = get_subcommand(CliApp.run(cli.Commands, cli_args=["run", *arguments]))
    assert isinstance(command, cli.Run)
    return command


def test_flags_are_the_fields_of_the_configuration():
    command = parsed(
        *("--dataset", "geolife", "--source", "x.zip", "--store", "here"),
        *("--model.family", "chemin", "--model.preset", "tiny"),
        *("--train.max_steps", "7", "--seed", "3"),
    )
    expected = PipelineConfig(
        dataset="geolife", model={"preset": "tiny"}, train={"max_steps": 7}, seed=3
    )
    assert command.config == expected
    assert (command.source, command.store) == ("x.zip", Path("here"))


def test_the_columns_of_your_own_files_are_flags():
    command = parsed(
        *("--dataset", "own", "--columns.lon", "x", "--columns.decimal", "comma"),
        *("--columns.time_form", "pattern", "--columns.time_pattern", "%d/%m/%Y %H:%M"),
        *("--columns.missing", "511,NA", "--columns.is_headerless"),
    )
    columns = command.config.columns
    assert (columns.lon, columns.decimal, columns.zone) == ("x", "comma", "UTC")
    assert columns.time_pattern == "%d/%m/%Y %H:%M"
    assert columns.missing == ("511", "NA")
    assert columns.is_headerless


def test_without_flags_the_defaults_hold():
    assert parsed().config == PipelineConfig()


def test_no_variable_of_the_environment_changes_the_configuration(monkeypatch):
    for name in ("dataset", "DATASET", "run", "RUN", "seed", "SEED", "train", "TRAIN"):
        monkeypatch.setenv(name, "9")
    assert parsed().config == PipelineConfig()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--train.max_steps", "0"], "trajfoundry: --train.max_steps: "),
        (["run", "--dataset", "nowhere"], "--dataset: unknown dataset 'nowhere'; choose one of: "),
        (["run", "--model.preset", "vast"], "--model.preset: "),
        (
            ["run", "--model.preset", "base"],
            "--model: chemin has no preset base: choose of tiny, small",
        ),
        (
            ["run", "--model.inputs", "plain", "--model.family", "masked_chemin"],
            "--model: inputs plain is for the family chemin alone; leave it out with masked_chemin",
        ),
        (
            ["run", "--model.family", "trajgpt", "--train.batching", "packed"],
            "train.batching packed is for families of points; trajgpt reads visits: leave it out",
        ),
        (
            ["run", "--model.family", "trajgpt", "--train.finer", "0.2"],
            "train.finer is for families of points; trajgpt reads visits: leave it out",
        ),
        (
            ["run", "--train.finer", "0.8", "--train.short", "0.3"],
            "train.thinned, train.finer and train.short add up to more than 1",
        ),
        (["run", "--columns.zone", "Mars"], "--columns.zone: unknown zone 'Mars'"),
        (
            ["run", "--window.num_horizon", "5", "--assess.gate_horizon", "6"],
            "windows end at window.num_horizon = 5",
        ),
        (
            [],
            "say what to do, one of: run, register, assess, watch, benchmark, forecast, weights, ",
        ),
        (["cache"], "say what to do, one of: rebuild"),
    ],
)
def test_a_wrong_request_is_one_line_that_names_the_flag(arguments, said, capsys):
    assert cli.main(arguments) == ConfigError.exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_two_wrong_flags_are_two_lines(capsys):
    assert cli.main(["run", "--train.max_steps", "0", "--seed", "-1"]) == ConfigError.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["trajfoundry", "--train.max_steps"]


def test_an_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--no_such_flag", "1"])
    assert ended.value.code == ConfigError.exit_code
    assert "--no_such_flag" in capsys.readouterr().err


def test_an_unknown_dataset_lists_the_known_ones(capsys):
    cli.main(["run", "--dataset", "nowhere"])
    said = capsys.readouterr().err
    assert all(name in said for name in DATASETS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a; do b"), 2),
        (DataError("a; do b"), 3),
        (StorageError("a; do b"), 4),
        (Unavailable("a; do b"), 5),
        (Stopped("a; do b"), 130),
    ],
)
def test_an_expected_error_is_its_own_line_and_code(error, code, capsys):
    assert cli.execute(Failing(error), with_trace=False) == code
    assert capsys.readouterr().err == "trajfoundry: a; do b\n"


def test_an_unexpected_error_says_where_its_traceback_is(capsys):
    assert cli.execute(Failing(ValueError("odd\nand more")), with_trace=False) == 1
    said = capsys.readouterr().err
    assert said.startswith("trajfoundry: unexpected ValueError: odd; the traceback is in ")
    assert said.count("\n") == 1


def test_debug_shows_the_traceback(capsys):
    cli.execute(Failing(ValueError("odd")), with_trace=True)
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_ctrl_c_ends_with_its_own_code(capsys):
    assert cli.execute(Failing(KeyboardInterrupt()), with_trace=False) == 130
    assert "Traceback" not in capsys.readouterr().err


class Failing:
    """A command that ends with an error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def execute(self) -> None:
        raise self.error


def test_a_store_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    code = cli.main(["run", "--store", str(tmp_path / "file" / "store")])
    said = capsys.readouterr().err
    assert code == StorageError.exit_code
    assert said.startswith("trajfoundry: cannot write to the store ")
    assert said.count("\n") == 1


def test_datasets_tells_what_a_person_needs(capsys):
    assert cli.main(["datasets"]) == 0
    said = capsys.readouterr().out
    for row in DATASETS.values():
        assert row.title in said
        assert row.licence in said
    assert "embedded sample" in said
    assert "needs --source PATH" in said


def test_datasets_as_json_is_json(capsys):
    assert cli.main(["datasets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(DATASETS)


def test_cache_rebuild_makes_the_warehouse(tmp_path, capsys):
    assert cli.main(["cache", "rebuild", "--store", str(tmp_path / "store")]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_the_environment_of_the_user_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "own"))
    set_environment(tmp_path / "store")
    assert os.environ["DO_NOT_TRACK"] == "0"
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "own")
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert os.environ["TRAJFOUNDRY_STORE"] == str(tmp_path / "store")


def test_prefect_keeps_to_the_store_unless_told_otherwise(tmp_path):
    set_environment(tmp_path / "store")
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "store" / ".prefect")
    assert "PREFECT_API_URL" not in os.environ


def test_an_address_left_by_a_dead_server_is_passed_over(tmp_path):
    home = tmp_path / "store" / ".prefect"
    home.mkdir(parents=True)
    (home / "served-at").write_text("http://127.0.0.1:9\n")
    set_environment(tmp_path / "store")
    assert "PREFECT_API_URL" not in os.environ


def test_help_and_errors_need_no_heavy_import():
    script = (
        "import sys; from flows.cli import main; main(['datasets', '--json']);"
        "heavy = {'torch', 'mlflow', 'prefect', 'matplotlib', 'duckdb'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def help_of(capsys, command: str) -> str:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_help_tells_ranges_and_what_holds_if_nothing_is_given(capsys):
    told = help_of(capsys, "run")
    assert "(default: 10) Range: from 1 to 45." in told
    assert "(default: the dataset's own, 60.0 for hurdat2) Range: above 0." in told
    assert "(default: the dataset's own, 3 for hurdat2) Range: from 0 to 15." in told
    assert "(default: the dataset's own, 8 for hurdat2) Range: from 2 to 1,000." in told
    assert "(default: the dataset's own, (2, 4, 6, 8, 12, 16, 20) for hurdat2)" in told
    assert "if empty TRAJFOUNDRY_STORE, or else ./store." in told
    assert "(default: None)" not in told
    assert "(default: )" not in told
    assert "(default: 20) Range: from 1 to 1,000." in help_of(capsys, "forecast")


def test_a_value_out_of_range_is_shown(capsys):
    assert cli.main(["run", "--split.validation_percent", "99"]) == ConfigError.exit_code
    told = capsys.readouterr().err
    assert told.strip().endswith("less than or equal to 45, not 99")


def test_settings_that_do_not_fit_together_name_no_empty_flag(capsys):
    asked = ["--window.num_horizon", "5", "--assess.horizons", "[1,20]"]
    assert cli.main(["run", *asked]) == ConfigError.exit_code
    assert capsys.readouterr().err.startswith("trajfoundry: assess asks for step 20, but windows")


def test_a_file_to_forecast_is_looked_at_before_a_server_starts(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("id,t,lon_deg,lat_deg\na,2024-05-01,1,2\n")
    for name, words in (
        ("absent.csv", "no file absent.csv"),
        ("x.csv", "x.csv: column trajectory_id is missing; a file of points has: trajectory_id"),
    ):
        arguments = ["--input", name, "--output", "y.csv", "--store", str(tmp_path / "store")]
        assert cli.main(["forecast", *arguments]) in (ConfigError.exit_code, DataError.exit_code)
        assert words in capsys.readouterr().err
    assert not (tmp_path / "store" / "logs").exists()


def test_ui_says_at_once_what_it_does(tmp_path, monkeypatch, capsys):
    said = []
    monkeypatch.setattr(cli, "serve", lambda *_: said.append(capsys.readouterr().out))
    assert cli.main(["ui", "--store", str(tmp_path)]) == 0
    assert said[0].startswith(f"Starting Prefect and MLflow for {tmp_path}")
