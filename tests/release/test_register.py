"""The registry, for real: one version a training, aliases, the gate, and models that load alone."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import ships
from helpers.places import PROJECT

from tasks.config.pipeline import AssessConfig, ForecastConfig
from tasks.evaluate.evaluate import evaluate
from tasks.registry.client import registry, tracking_uri
from tasks.registry.model_code import code_digest
from tasks.registry.models import loaded_model
from tasks.release import bundle, register, version_facts
from tasks.release.champion_gate import Decision, Score, decide, gate_errors, windows_digest
from tasks.release.gate_metrics import RECOVERY_MEASURE, Evidence, NotReproduced, forecast_measure
from tasks.release.promote import Promotion, promote
from tasks.release.register import Registration
from tasks.runtime.code_closure import module_path, python_hash
from tasks.runtime.errors import ConfigError, DataError, Unavailable
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store
from tasks.serve.batch_predict import forecast_file

NAME = "trajfoundry-chemin-hurdat2"
SERVING = "model.inference.serving"
OTHER = "\nOTHER = True\n"  # what makes the source of a version another one


def enrol(made: ships.Assessed, flow_run_id: str | None = "run-7") -> Registration:
    return register.register(made, made.reported, flow_run_id)


def gate(made: ships.Assessed, registration: Registration) -> Promotion:
    return promote(made, registration)


def aliases(store: Store) -> dict[str, str]:
    with registry(store) as client:
        found = client.get_registered_model(NAME).aliases
        return {alias: str(number) for alias, number in found.items()}


def num_runs(store: Store) -> int:
    with registry(store) as client:
        experiments = [item.experiment_id for item in client.search_experiments()]
        return len(client.search_runs(experiments))


@pytest.fixture(scope="module")
def champion() -> tuple[Registration, Promotion]:
    """The good model, registered and promoted first."""
    registration = enrol(ships.good())
    return registration, gate(ships.good(), registration)


# One version a training -------------------------------------------------------------------------


def test_a_good_model_is_candidate_and_champion(champion):
    registration, promotion = champion
    assert registration.is_new
    assert promotion.is_champion
    assert "below" in promotion.reason
    assert "damped velocity, the best simple baseline" in promotion.reason
    assert "a clean process reproduces it" in promotion.reason
    assert aliases(ships.good().store)["champion"] == registration.version


def test_the_same_again_finds_nothing_to_do(champion):
    store = ships.good().store
    before = num_runs(store)
    began_s = time.monotonic()
    again = enrol(ships.good())
    decided = gate(ships.good(), again)
    assert time.monotonic() - began_s < 3
    assert (again.version, again.is_new) == (champion[0].version, False)
    assert (decided.is_champion, decided.is_new) == (True, False)
    assert decided.reason == champion[1].reason
    assert num_runs(store) == before


def test_equal_weights_of_another_recipe_are_no_new_version(champion):
    made, before = ships.good(), num_runs(ships.good().store)
    manifest = made.store.manifest(made.trained)
    renamed = manifest.recipe.model_copy(update={"code": {"model": "written otherwise"}})
    with made.store.draft() as draft:
        for file in manifest.files:
            shutil.copy(made.store.folder(made.trained) / file.name, draft / file.name)
        again = made.store.publish(draft, renamed, dict(manifest.counts), licence=manifest.licence)
    assert (again.content, again.recipe) != (made.trained.content, made.trained.recipe)
    assert again.content == made.trained.content
    found = register.register(replace(made, trained=again), made.reported)
    assert (found.version, found.is_new) == (champion[0].version, False)
    assert num_runs(made.store) == before
    with registry(made.store) as client:
        version = client.get_model_version(NAME, found.version)
    assert version.tags["train_recipe"] == again.recipe
    enrol(made)  # as it was, for the tests to come


def test_a_version_says_what_it_is(champion):
    made, registration = ships.good(), champion[0]
    with registry(made.store) as client:
        version = client.get_model_version(NAME, registration.version)
        run = client.get_run(registration.run_id)
        names = {item.path for item in client.list_artifacts(registration.run_id, "report")}
        curve = client.get_metric_history(registration.run_id, "train/loss")
    assert version.tags["train_recipe"] == made.trained.recipe
    assert version.tags["decision"] == "promoted"
    assert version.tags["decision_reason"] == champion[1].reason
    for words in (
        "public domain",
        "Landsea",
        "damped velocity",
        "## Limits",
        "## Privacy",
        made.trained.recipe,
        "0" * 32,  # the split
    ):
        assert words in version.description
    assert run.data.tags["prefect.flow_run_id"] == "run-7"
    assert run.data.tags[register.DESCRIPTION] in version.description
    report = (made.store.folder(made.reported) / "report.md").read_text()
    assert run.data.tags[register.DESCRIPTION].split("\n\n")[0] in report
    assert run.data.params["train.max_steps"] == "40"
    assert run.data.metrics["validation/chemin/skill_step_4"] > 0.5
    assert run.inputs.dataset_inputs[0].dataset.digest == made.shards.recipe
    assert {f"report/{name}" for name in ("report.html", "report.md")} <= names
    lines = (made.store.folder(made.trained) / "metrics.jsonl").read_text().splitlines()
    assert len(curve) == sum("loss" in json.loads(line) for line in lines)


def test_a_newer_assessment_updates_the_version(champion):
    made = ships.good()
    config = made.config.model_copy(
        update={"assess": AssessConfig(horizons=(1, 2, 4), gate_horizon=4, num_bootstrap=100)}
    )
    with without_orchestrator():
        evaluated = evaluate(config, made.shards, made.trained, made.store)
    updated = register.register(replace(made, config=config, evaluated=evaluated), made.reported)
    assert (updated.version, updated.is_new) == (champion[0].version, False)
    with registry(made.store) as client:
        version = client.get_model_version(NAME, updated.version)
        described = client.get_run(version.run_id).data.tags[register.DESCRIPTION]
    assert version.tags["evaluate_recipe"] == evaluated.recipe
    assert "| **2 (20 min)** | **chemin** |" in version.description
    assert "20 min (2 steps)" in described
    assert enrol(made).version == updated.version


# The gate ---------------------------------------------------------------------------------------


def test_the_gate_compares_with_the_floor_whatever_a_row_names():
    """`test_a_run_may_only_add_baselines` holds that a row's own are never left out."""
    _, baselines_m = gate_errors(ships.good())
    assert ships.good().config.evaluate_rules.baselines == ()
    assert {*baselines_m} == {
        "last_position",
        "constant_velocity",
        "constant_velocity_3",
        "damped_velocity",
    }


def test_a_model_worse_than_the_baselines_is_never_promoted(champion):
    made = ships.bad()
    registration = enrol(made)
    refusal = gate(made, registration)
    assert not refusal.is_champion
    assert "not below" in refusal.reason
    assert aliases(made.store) == {
        "candidate": registration.version,
        "champion": champion[0].version,
    }
    again = gate(made, registration)
    assert again == refusal.model_copy(update={"is_new": False})
    assert enrol(ships.good()).version == champion[0].version
    assert aliases(made.store)["candidate"] == champion[0].version


@pytest.fixture
def rival(champion, monkeypatch):
    """The good weights again, with other source beside them: a second version."""
    copy_source = bundle.copy_source

    def copy_other_source(folder: Path, family: str) -> None:
        copy_source(folder, family)
        with (folder / "inference" / "serving.py").open("a") as file:
            file.write(OTHER)

    monkeypatch.setattr(bundle, "copy_source", copy_other_source)
    modules = bundle.served_source("chemin")
    text = module_path(SERVING).read_text() + OTHER
    modules[SERVING] = python_hash(text)
    monkeypatch.setattr(
        version_facts, "source_digest", lambda _: code_digest(modules, bundle.ENTRY)
    )
    return enrol(ships.good())


def test_an_equal_model_does_not_replace_the_champion(champion, rival):
    assert rival.version != champion[0].version
    refusal = gate(ships.good(), rival)
    assert not refusal.is_champion
    assert f"champion, version {champion[0].version}" in refusal.reason


def test_a_champion_of_other_windows_is_scored_again(champion, rival):
    """Its stored error would lose, but is not of these windows, so it is not believed."""
    store, number = ships.good().store, champion[0].version
    with registry(store) as client:
        tags = client.get_model_version(NAME, number).tags
        client.set_model_version_tag(NAME, number, "score_windows", "others")
        client.set_model_version_tag(NAME, number, "score_ade_m", "1e9")
        client.delete_model_version_tag(NAME, rival.version, "decision_key")
    try:
        refusal = gate(ships.good(), rival)
        assert not refusal.is_champion
        assert f"champion, version {number}" in refusal.reason
    finally:
        with registry(store) as client:
            for key in ("score_windows", "score_ade_m"):
                client.set_model_version_tag(NAME, number, key, tags[key])


def test_a_version_that_does_not_load_alone_is_refused(champion, rival, monkeypatch):
    store = ships.good().store
    with registry(store) as client:
        version = client.get_model_version(NAME, rival.version)
        model_id = version.source.removeprefix("models:/")
        location = unquote(client.get_logged_model(model_id).artifact_location[len("file://") :])
        client.delete_model_version_tag(NAME, rival.version, "decision_key")
        client.delete_registered_model_alias(NAME, "champion")
    weights = Path(location) / "artifacts" / "bundle" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        refusal = gate(ships.good(), rival)
        assert not refusal.is_champion
        assert "does not load in a clean process" in refusal.reason
        assert "champion" not in aliases(store)
    finally:
        weights.write_bytes(content)
        with registry(store) as client:
            client.set_registered_model_alias(NAME, "champion", champion[0].version)


BASELINES = {"last_position": 30.0, "damped_velocity": 20.0}


ENOUGH = Evidence(num_windows=30, num_entities=10, low=0.001, high=0.2)


def judged(
    ade_m: float,
    champion_m: float | None = None,
    again_m: float | None = None,
    **evidence: object,
) -> Decision:
    champion = None if champion_m is None else Score(version="3", error=champion_m)
    candidate = Score(version="4", error=ade_m)

    def reproduced_m() -> float:
        return ade_m if again_m is None else again_m

    found = ENOUGH.model_copy(update=evidence)
    return decide(candidate, BASELINES, found, champion, forecast_measure(8, 10), reproduced_m)


@pytest.mark.parametrize(
    ("decision", "is_promoted", "words"),
    [
        (judged(19.9), True, "below the 20.0 m of damped velocity"),
        (judged(20.0), False, "not below the 20.0 m of damped velocity"),
        (judged(float("nan")), False, "not below"),
        (judged(15.0, 15.1), True, "below the 15.1 m of version 3"),
        (judged(15.0, 15.0), False, "not below the 15.0 m of the present champion, version 3"),
        (judged(15.0, 15.001), False, "not below the 15.0 m of the present champion, version 3"),
        (judged(15.0, None, 15.2), False, "a clean process measures 15.2 m"),
        (judged(15.0, None, 15.001), True, "reproduces"),
        (judged(15.0, None, float("nan")), False, "measures nan"),
        (judged(15.0, num_windows=29), False, "29 windows of 10 entities are too few to judge"),
        (judged(15.0, num_entities=9), False, "needs 30 windows of 10 entities in validation"),
        (judged(15.0, low=-0.01), False, "it cannot be told apart from damped velocity"),
        (judged(15.0, low=0.0), False, "the 95 % interval of its skill is +0.0% to +20.0%"),
        (judged(15.0, low=float("nan")), False, "cannot be told apart"),
        (judged(15.0, low=-0.2, high=-0.1), False, "it is behind the best baselines of the masks"),
        (judged(25.0, num_windows=1), False, "not below the 20.0 m"),
        (judged(15.0, behind=("travel time, ends (skill -238.0%)",)), False, "travel time, ends"),
        (judged(15.0, behind=tuple("abcde")), False, "the best baseline at a; b; c, and 2 more"),
        (judged(15.0, unjudged=("travel time",)), True, "nobody asked it here for its travel time"),
    ],
)
def test_the_gate_compares_before_it_promotes(decision, is_promoted, words):
    assert decision.is_promoted is is_promoted
    assert words in decision.reason


def test_a_failing_reproduction_is_a_reason_and_runs_last():
    def broken() -> float:
        raise NotReproduced("it does not load in a clean process: no torch")

    candidate, measure = Score(version="4", error=10.0), forecast_measure(8, 10)
    assert "no torch" in decide(candidate, BASELINES, ENOUGH, None, measure, broken).reason
    beaten = Score(version="3", error=9.0)
    assert (
        "present champion" in decide(candidate, BASELINES, ENOUGH, beaten, measure, broken).reason
    )


def test_windows_have_the_same_name_only_if_nothing_about_them_changed():
    made = ships.good()
    manifest = made.store.manifest(made.shards)
    other = made.store.manifest(ships.stored_shards(made.store, seed=1))
    asked, shorter, recovered = forecast_measure(8, 4), forecast_measure(8, 3), RECOVERY_MEASURE
    same = windows_digest(manifest, asked.settings)
    assert windows_digest(manifest, forecast_measure(8, 4).settings) == same
    names = {same, windows_digest(other, asked.settings)}
    names |= {windows_digest(manifest, measure.settings) for measure in (shorter, recovered)}
    assert len(names) == 4


# Loading ----------------------------------------------------------------------------------------

STRANGER = """
import json, sys
sys.path.insert(0, "")
import model, tasks
assert model.HOSTILE and tasks.HOSTILE
import mlflow, pandas as pd
frame = pd.read_json(sys.argv[1], dtype={"trajectory_id": str}, convert_dates=False)
answers = []
for number in sys.argv[2:]:
    served = mlflow.pyfunc.load_model(f"models:/trajfoundry-chemin-hurdat2/{number}")
    answers.append(served.predict(frame, params={"horizon": 3}).to_dict("list"))
private = sorted(name for name in sys.modules if name.startswith("trajfoundry_model_")
                 and "." not in name)
others = [hasattr(sys.modules[f"{name}.inference.serving"], "OTHER") for name in private]
print(json.dumps([answers, sorted(others), sys.modules["model"].__file__], default=str))
"""


def test_two_versions_answer_a_stranger_beside_hostile_modules(champion, rival, tmp_path):
    """In a process that lacks the project and has imported other modules of the same names."""
    for name in ("model", "tasks", "serving"):
        (tmp_path / f"{name}.py").write_text(
            "HOSTILE = True\ndef __getattr__(name): raise SystemExit"
        )
    frame = pd.DataFrame(bundle.example_points().to_pydict())
    frame.to_json(tmp_path / "frame.json", orient="records")
    store = ships.good().store
    environment = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    environment["MLFLOW_TRACKING_URI"] = tracking_uri(store)
    numbers = [champion[0].version, rival.version]
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, "frame.json", *numbers],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    answers, others, module = json.loads(done.stdout.splitlines()[-1])
    assert Path(module).parent == tmp_path
    assert others == [False, True]
    with loaded_model(f"models:/{NAME}@candidate", store) as model:
        expected = model.forecast(frame, horizon=3)
    for answer in answers:
        assert len(answer["step"]) == 3
        for column in ("lon_deg", "lat_deg", "horizon_s", "radius_p80_m"):
            np.testing.assert_allclose(answer[column], expected[column], rtol=1e-5)


def test_a_file_of_points_is_forecast(champion, tmp_path):
    store = ships.good().store
    config = ForecastConfig(model=f"models:/{NAME}@champion", horizon=6)
    source, output = tmp_path / "x.parquet", tmp_path / "y.parquet"
    pq.write_table(bundle.example_points(), source)
    found = forecast_file(config, str(source), str(output), store)
    assert (found.num_trajectories, found.num_points) == (1, 6)
    assert pq.read_table(output)["step"].to_pylist() == [1, 2, 3, 4, 5, 6]
    bundle.example_points().to_pandas().to_csv(tmp_path / "x.csv", index=False)
    forecast_file(config, str(tmp_path / "x.csv"), str(tmp_path / "y.csv"), store)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "y.csv", parse_dates=["tracked_at"]),
        pd.read_parquet(output),
        check_dtype=False,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "x.csv",
        "x.parquet",
        "y.csv",
        "y.parquet",
    ]


@pytest.mark.parametrize(
    ("changes", "source", "error", "words"),
    [
        (
            {"model": "models:/nobody@champion"},
            "x.csv",
            ConfigError,
            "nobody.*before a version passes",
        ),
        ({}, "absent.csv", ConfigError, "no file"),
        ({}, "broken.parquet", DataError, "not a readable parquet file"),
        ({}, "columns.csv", DataError, "column tracked_at is missing"),
    ],
)
def test_a_wrong_request_gets_one_clear_line(champion, tmp_path, changes, source, error, words):
    bundle.example_points().to_pandas().to_csv(tmp_path / "x.csv", index=False)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "columns.csv").write_text("trajectory_id,lon_deg,lat_deg\na,1,2\n")
    config = ForecastConfig(**({"model": f"models:/{NAME}@champion"} | changes))
    with pytest.raises(error, match=words) as caught:
        forecast_file(config, str(tmp_path / source), str(tmp_path / "y.csv"), ships.good().store)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "y.csv").exists()


# The registry itself ----------------------------------------------------------------------------


def test_a_registry_that_is_away_is_said_to_be_away(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://reader:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 did not answer; start it") as caught:
        enrol(ships.good())
    assert "secret" not in str(caught.value)
    assert time.monotonic() - began_s < 20


def test_nothing_leaks_between_stores(champion, store):
    given = os.environ.get("MLFLOW_TRACKING_URI")
    assert tracking_uri(store) == f"sqlite:///{quote(str(store.root))}/mlflow.db"
    with registry(ships.good().store):
        pass
    assert os.environ.get("MLFLOW_TRACKING_URI") == given
    assert tracking_uri(store) == f"sqlite:///{quote(str(store.root))}/mlflow.db"


def test_two_processes_may_make_the_registry_at_once(store):
    script = (
        "import sys\nfrom tasks.registry.client import registry\n"
        "from tasks.runtime.store import Store\n"
        "with registry(Store(sys.argv[1])) as client: print(len(client.search_experiments()))"
    )
    command = [sys.executable, "-c", script, str(store.root)]
    project = PROJECT
    twins = [subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE) for _ in range(2)]
    messages = [twin.communicate(timeout=120)[1] for twin in twins]
    assert [twin.returncode for twin in twins] == [0, 0], messages
    assert (store.root / "mlflow.db").stat().st_mode & 0o077 == 0


def test_the_registry_holds_no_coordinate_of_the_data(champion):
    """Digits of real points, looked for in the database and in every stored text."""
    made = ships.good()
    shards = pq.read_table(made.store.folder(made.shards) / "train-000.parquet")
    needles = [
        f"{abs(value):.5f}".encode()
        for name in ("lon_deg", "lat_deg")
        for trip in shards[name].to_pylist()
        for value in trip
    ]
    with sqlite3.connect(made.store.root / "mlflow.db") as database:
        kept = "\n".join(database.iterdump()).encode()
    database.close()
    for path in (made.store.root / "mlflow-artifacts").rglob("*"):
        if path.suffix in (".json", ".md", ".html", ".py", ".yaml", ".txt", ""):
            kept += path.read_bytes() if path.is_file() else b""
    assert b"train_recipe" in kept
    assert not [needle for needle in needles if needle in kept]
