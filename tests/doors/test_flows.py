"""The flows: light to import, a form that explains itself, and deployments that fit it."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from helpers.places import PROJECT
from prefect.utilities.callables import parameter_schema

from tasks.config.datasets import DATASETS
from tasks.runtime.run_records import read_records
from tasks.runtime.store import Store

FLOWS = (
    *(
        "pipeline",
        "ingest",
        "prepare",
        "pretrain",
        "assess",
        "watch",
        "benchmark",
        "register",
        "forecast",
    ),
)
PREFECT_YAML = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
DEPLOYMENTS = PREFECT_YAML["deployments"]


def schema_of(name: str) -> dict[str, Any]:
    return parameter_schema(getattr(import_module(f"flows.{name}"), name).fn).model_dump()


def defaults_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        name: given["default"] for name, given in schema["properties"].items() if "default" in given
    }


@pytest.mark.parametrize("name", FLOWS)
def test_the_defaults_of_a_form_pass_its_own_checks(name):
    schema = schema_of(name)
    files = {need: "x.parquet" for need in schema["required"]}
    jsonschema.validate(defaults_of(schema) | files, schema)


def test_a_value_out_of_range_does_not_pass():
    schema = schema_of("pipeline")
    wrong = defaults_of(schema)
    wrong["config"]["train"]["max_steps"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minimum"):
        jsonschema.validate(wrong, schema)


def test_the_form_of_the_pipeline_has_sections_choices_ranges_and_help():
    schema = schema_of("pipeline")
    sections = schema["definitions"]
    assert set(schema["properties"]) == {"config", "source", "corpus", "source_folder"}
    assert "open or world" in schema["properties"]["corpus"]["description"]
    assert {"CleanConfig", "SplitConfig", "WindowConfig", "ModelConfig", "TrainConfig"} < set(
        sections
    )
    assert sections["PipelineConfig"]["properties"]["dataset"]["enum"] == sorted(DATASETS)
    assert sections["ModelConfig"]["properties"]["preset"]["enum"] == ["tiny", "small", "base"]
    steps = sections["TrainConfig"]["properties"]["max_steps"]
    assert (steps["minimum"], steps["maximum"]) == (1, 10_000_000)
    assert steps["description"].endswith("Range: from 1 to 10,000,000.")


def test_the_form_asks_how_your_own_files_are_written():
    sections = schema_of("ingest")["definitions"]
    assert sections["PipelineConfig"]["properties"]["columns"]["$ref"].endswith("/ColumnsConfig")
    fields = sections["ColumnsConfig"]["properties"]
    assert {name: field["enum"] for name, field in fields.items() if "enum" in field} == {
        "form": ["csv", "tsv", "jsonl", "json", "parquet", "geojson", "kml"],
        "delimiter": ["auto", "comma", "semicolon", "tab", "pipe"],
        "decimal": ["point", "comma"],
        "encoding": ["utf-8", "latin-1"],
        "time_form": ["iso", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "pattern"],
        "repeated_hour": ["recorded", "first", "second"],
        "skipped_hour": ["reject", "before"],
        "coordinates": ["degrees", "degrees_e7"],
        "altitude_unit": ["m", "ft"],
        "speed_unit": ["mps", "kmh", "knots"],
    }
    names = ("entity", "tracked_at", "lon", "lat", "altitude", "speed", "course", "trip")
    assert all(fields[name]["type"] == "string" for name in (*names, "received_at"))


def test_a_form_filled_in_for_your_own_files_passes():
    schema = schema_of("ingest")
    filled = defaults_of(schema) | {"source": "feed.csv"}
    filled["config"]["dataset"] = "own"
    filled["config"]["columns"] |= {"lon": "x", "decimal": "comma", "zone": "Europe/Oslo"}
    jsonschema.validate(filled, schema)
    filled["config"]["columns"]["decimal"] = "dot"
    with pytest.raises(jsonschema.ValidationError, match="is not one of"):
        jsonschema.validate(filled, schema)


@pytest.mark.parametrize("name", FLOWS)
def test_every_field_of_a_form_has_a_title_and_help(name):
    schema = schema_of(name)
    shown = list(schema["properties"].items())
    for section in schema["definitions"].values():
        assert section["description"]
        shown += [item for item in section["properties"].items() if "$ref" not in item[1]]
    untold = [field for field, told in shown if not told.get("description") or not told["title"]]
    assert untold == []


@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_has_a_deployment(name):
    entrypoints = [row["entrypoint"] for row in DEPLOYMENTS]
    assert f"flows.{name}.{name}" in entrypoints


def test_deployments_have_their_own_names_and_wait_for_each_other():
    names = [(row["entrypoint"], row["name"]) for row in DEPLOYMENTS]
    assert len(set(names)) == len(names)
    assert all(row["concurrency_limit"] == 1 for row in DEPLOYMENTS)
    assert all(row["work_pool"]["name"] == "trajfoundry" for row in DEPLOYMENTS)
    assert "pull" not in PREFECT_YAML


def test_three_deployments_have_a_schedule_and_parameters_that_pass():
    scheduled = [row for row in DEPLOYMENTS if row.get("schedules")]
    assert [row["name"] for row in scheduled] == [
        "hurdat2-weekly",
        "hurdat2-watch",
        "geolife-daily",
    ]
    for row in scheduled:
        name = row["entrypoint"].rpartition(".")[2]
        jsonschema.validate(row["parameters"], schema_of(name))


def test_a_schedule_that_needs_a_source_or_a_champion_waits_for_a_person():
    active = {
        row["name"]: schedule["active"]
        for row in DEPLOYMENTS
        for schedule in row.get("schedules", [])
    }
    assert active == {"hurdat2-weekly": True, "hurdat2-watch": False, "geolife-daily": False}


def test_flows_are_imported_without_the_heavy_libraries():
    """All of them in one process: what none of them has loaded, each goes without."""
    names = ", ".join(f"flows.{name}" for name in FLOWS)
    script = (
        f"import sys, {names};"
        "heavy = {'torch', 'mlflow', 'matplotlib', 'numba'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def functions(file: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((PROJECT / "flows" / file).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_is_a_door_to_its_steps(name):
    assert list(functions(f"{name}.py")) == [name]
    *_, last = functions(f"{name}.py")[name].body
    assert isinstance(last, ast.Return)
    assert ast.unparse(last).startswith(f"return steps.{name}(")
    assert name in functions("steps.py")


def test_steps_are_a_table_of_contents():
    logic = (ast.For, ast.While, ast.Try, ast.Lambda)
    for step in functions("steps.py").values():
        assert (step.end_lineno or 0) - step.lineno <= 25
        assert [node for node in ast.walk(step) if isinstance(node, logic)] == []


def trajfoundry(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would, on the embedded storms."""
    free = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "--store", str(store)],
        cwd=PROJECT,
        env=free,
        capture_output=True,
        text=True,
        check=False,
    )


QUICK = ("run", "--model.preset", "tiny", "--train.max_steps", "5", "--assess.num_bootstrap", "100")


@pytest.mark.slow
def test_a_run_ends_with_a_candidate_and_the_next_one_computes_nothing(tmp_path):
    store = tmp_path / "store"
    first = trajfoundry(store, *QUICK)
    assert first.returncode == 0, first.stderr
    assert (
        "candidate  models:/trajfoundry-chemin-hurdat2@candidate, version 1 (new)" in first.stdout
    )
    assert "champion   " in first.stdout
    assert "damped velocity" in first.stdout

    again = trajfoundry(store, *QUICK, "--json")
    outcome = json.loads(again.stdout)
    assert all(stage["is_cached"] for stage in outcome["stages"])
    assert not outcome["registration"]["is_new"]
    assert not outcome["promotion"]["is_new"]

    longer = trajfoundry(store, *QUICK, "--train.max_steps", "6", "--json")
    computed = {
        stage["receipt"]["stage"]
        for stage in json.loads(longer.stdout)["stages"]
        if not stage["is_cached"]
    }
    assert computed == {"train", "evaluate", "report"}


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(tmp_path):
    store, said = tmp_path / "store", tmp_path / "said.txt"
    free = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    long = ("run", "--model.preset", "tiny", "--train.max_steps", "100000")
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *long, "--store", str(store)],
            cwd=PROJECT,
            env=free,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while "shards of hurdat2" not in said.read_text():
        assert process.poll() is None, said.read_text()
        time.sleep(0.5)
    time.sleep(10)  # well into training
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    assert process.wait(60) == 130
    lines = said.read_text().splitlines()
    assert lines[-1].startswith("trajfoundry: ")
    assert "stopped" in lines[-1]
    assert "Traceback" not in said.read_text()


@pytest.mark.slow
def test_a_failing_run_is_one_line_and_leaves_a_record_and_a_valid_store(tmp_path):
    store, page = tmp_path / "store", tmp_path / "hurdat2.txt"
    page.write_text("<!DOCTYPE html><html><body>not here</body></html>\n")
    failed = trajfoundry(store, *QUICK, "--source", str(page))
    said = [line for line in failed.stderr.splitlines() if line.startswith("trajfoundry: ")]
    assert failed.returncode == 3, failed.stderr
    assert len(said) == 1
    assert "Traceback" not in failed.stderr
    (record,) = read_records(Store(store))
    assert record.outcome == "failed"
    assert "Traceback" in record.trace
    assert list((store / ".tmp").glob("[0-9a-f]*/")) == []
