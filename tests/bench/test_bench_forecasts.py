"""Series models beside the baselines on the stored windows of storms; run with `make bench`.

The peers know one value after another and nothing of the sphere, of time or of what moves. They are
asked about velocities, the fair way, and about positions, which is what many try first. Whoever
names a folder of weights by `TRAJFOUNDRY_CHRONOS` or `TRAJFOUNDRY_TIMESFM` has these judged too.
Of a store named by `TRAJFOUNDRY_BENCH_STORE` each model of `foundry` stands beside them, on the
windows of the data that it was trained on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_forecast_peers import FORMS, MIN_VALUES, long_enough
from bench_rounds import PEERS, RESULTS, machine
from forecast_peers import Peer
from helpers.walks import context_of, walk

from flows.steps import points_of, prepared
from model.baselines.forecast import CONSTANT_VELOCITY, LAST_POSITION
from model.data.shards import Shards
from model.earth.geometry import haversine_m
from model.evaluation.fitted_baselines import fitted_baselines
from model.evaluation.judged_tasks import FORECAST, TIMES_GIVEN
from model.evaluation.question import Judging
from model.evaluation.score_table import ALL, wide_rows
from model.evaluation.scores import scored
from model.inference.serving import Trained, load_trained
from tasks.config.pipeline import PipelineConfig
from tasks.report.error_columns import skill_verdict
from tasks.report.markup import markdown_table, percent
from tasks.report.units import digits
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

FLOOR = ("fracast", "auto_theta")
GIVEN = ("chronos", "timesfm")
CONFIG = PipelineConfig()
PLACES = ("lon_deg_BH", "lat_deg_BH")
HORIZONS = (1, 5, 10, 20)


@pytest.mark.parametrize(
    ("form", "baseline"), [("velocities", CONSTANT_VELOCITY), ("positions", LAST_POSITION)]
)
def test_what_goes_through_arrow_comes_back_to_the_sphere(form, baseline):
    """The last velocity that goes on is the constant one, also over the date line."""
    context = context_of(*walk(3, 12, lon_deg=179.9999, lat_deg=-40.0), [12, 9, 12])
    target_s_BH = context.last_B1()[2] + torch.tensor([7.0, 7.0, 30.0])
    peer = Peer("last_value", form, python=sys.executable)
    found, expected = (one.forecast(context, 3, target_s_BH) for one in (peer, baseline))
    places = [getattr(one, name) for one in (found, expected) for name in PLACES]
    assert float(haversine_m(*places).max()) < 1e-3
    assert torch.equal(found.time_s_BH, expected.time_s_BH)


def test_whoever_is_asked_for_times_too_goes_on_with_the_median_step():
    context = context_of(*walk(2, 9))
    peer = Peer("last_value", python=sys.executable)
    found, expected = (one.forecast(context, 4) for one in (peer, CONSTANT_VELOCITY))
    assert torch.equal(found.time_s_BH, expected.time_s_BH)


def test_a_short_series_begins_with_its_first_value_again():
    short_NT = torch.tensor([[1.0, 2.0, 3.0]]).numpy()
    assert long_enough(short_NT).tolist() == [[1.0] * (MIN_VALUES - 3) + [1.0, 2.0, 3.0]]


# The bench --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """The stored windows of the embedded storms."""
    store = Store(tmp_path_factory.mktemp("peers") / "store")
    store.prepare()
    with without_orchestrator():
        made = prepared(CONFIG, points_of(CONFIG, "", store), store).shards
    return Shards.open(store.folder(made), CONFIG.source_row.zone)


def peers() -> list[Peer]:
    """Those that bring their weights, and those whose weights are here."""
    weights = {name: os.environ.get(f"TRAJFOUNDRY_{name.upper()}", "") for name in GIVEN}
    named = dict.fromkeys(FLOOR, "") | {name: own for name, own in weights.items() if own}
    return [Peer(name, form, own) for name, own in named.items() for form in FORMS]


def told(rows: list[dict[str, Any]], names: Sequence[str], request: pytest.FixtureRequest) -> None:
    """Prints a table of scores, and keeps it."""
    cells = [
        (
            *(str(row[name]) for name in names),
            row["model"],
            digits(row["ade_m"]),
            percent(row["skill"]),
            f"{percent(row['skill_low'])} to {percent(row['skill_high'])}",
            skill_verdict(row),
        )
        for row in rows
    ]
    header = (*names, "model", "ADE, m", "skill", "its interval", "verdict")
    table = markdown_table(header, cells, num_names=len(names) + 1)
    text = f"{machine()}\n\n{table}\n"
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = Path(RESULTS / f"forecasts-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.md")
    path.write_text(text)
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{text}\nKept in {path}")


@pytest.mark.benchmark
@pytest.mark.timeout(4 * 3_600)
def test_series_models_beside_the_baselines(shards: Shards, request: pytest.FixtureRequest) -> None:
    if not PEERS.is_file():
        pytest.skip("the environment of the peers is not here; make bench makes it")
    rules = CONFIG.evaluate_rules
    judging = Judging(horizons=rules.horizons, tasks=(FORECAST,), windows_at_once=1_000_000)
    answerers = [*fitted_baselines(shards, [FORECAST]), *peers()]
    table = scored(shards, answerers, "test", judging).table
    rows = wide_rows(table, split="test", track=TIMES_GIVEN, mask=ALL, stratum=ALL)
    assert {row["model"] for row in rows} == {one.name for one in answerers}
    told(rows, ["horizon"], request)


def trained_in(store: Path) -> Iterator[tuple[Path, list[Trained]]]:
    """Shards of a store, and the models of `foundry` that were trained on them."""
    models: dict[Path, list[Trained]] = {}
    for manifest in sorted(store.glob("train/*/*/manifest.json")):
        written = json.loads(manifest.read_text())
        dataset, settings = (written["recipe"][name] for name in ("dataset", "settings"))
        folder = store / "shards" / dataset / str(written["lineage"].get("shards"))
        if settings["model"]["family"] == "foundry" and folder.is_dir():
            own, seed = load_trained(manifest.parent), settings["fit"]["seed"]
            models.setdefault(folder, []).append(replace(own, title=f"foundry, seed {seed}"))
    yield from models.items()


@pytest.mark.benchmark
@pytest.mark.timeout(4 * 3_600)
def test_trained_models_beside_series_models(request: pytest.FixtureRequest) -> None:
    """Skill is over the best peer of each step; a model is never the bar of another."""
    store = os.environ.get("TRAJFOUNDRY_BENCH_STORE", "")
    if not (PEERS.is_file() and store):
        pytest.skip("no store named by TRAJFOUNDRY_BENCH_STORE, or no environment of the peers")
    found = []
    for folder, models in trained_in(Path(store)):
        bars = [replace(peer, is_baseline=True) for peer in peers()]
        judging = Judging(HORIZONS, tasks=(FORECAST,), windows_at_once=1_000_000)
        table = scored(Shards.open(folder), [*bars, *models], "test", judging).table
        rows = wide_rows(table, split="test", track=TIMES_GIVEN, mask=ALL, stratum=ALL)
        found += [{**row, "data": folder.parent.name} for row in rows]
    assert found, f"no foundry was trained in {store}"
    told(found, ["data", "horizon"], request)
