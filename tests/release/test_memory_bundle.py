"""What a version carries of a memory: past trips of things, and none of people."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers.past import flat
from helpers.served import frame_of, served_from, stored
from helpers.walks import STARTED_US, walk

from model.families import FAMILIES, MODULES, build, remembers
from model.inference.serving import Trained, load_trained
from model.interface.memory.fitting import fitted_memory
from model.interface.memory.joint import write_memory
from model.interface.memory.memory import MEMORY_FILE
from model.interface.memory.paths import PastPaths
from tasks.evaluate.evaluate import as_served
from tasks.prepare import conventions
from tasks.release.bundle import requirements_of, write_bundle
from tasks.release.corpus_card import privacy

PARAMS = {"task": "forecast", "horizon": 4, "num_samples": 8, "seed": 3, "zone": "UTC"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Random weights of foundry that look at what they recall, and a memory of eight walks."""
    folder = stored(tmp_path_factory.mktemp("trained"), "foundry", is_shaken=True)
    lon_deg_BT, lat_deg_BT, time_s_BT = (value.numpy() for value in walk(8, 24, seed=4))
    trips = list(zip(time_s_BT, lon_deg_BT, lat_deg_BT, strict=True))
    memory = fitted_memory(PastPaths.of(flat(trips, STARTED_US), np.arange(8)))
    write_memory(folder, replace(memory, is_personal=False))
    return folder


def asked_frame() -> pd.DataFrame:
    return frame_of(*walk(2, 12, seed=9), (12, 12))


def past_frame() -> pd.DataFrame:
    return frame_of(*walk(6, 24, seed=11), (24,) * 6)


def places(found: pd.DataFrame) -> np.ndarray:
    return found[["lon_deg", "lat_deg"]].to_numpy()


def test_a_version_carries_the_trips_of_things_and_none_of_people(trained, tmp_path):
    ships = write_bundle(tmp_path / "ships", trained, PARAMS)
    shutil.copytree(trained, tmp_path / "trained")
    of_people = replace(load_trained(trained).model.memory, is_personal=True)
    write_memory(tmp_path / "trained", of_people)
    people = write_bundle(tmp_path / "people", tmp_path / "trained", PARAMS)
    assert (ships / MEMORY_FILE).read_bytes() == (trained / MEMORY_FILE).read_bytes()
    assert any(line.startswith("scipy") for line in requirements_of(ships))
    assert not any(line.startswith("scipy") for line in requirements_of(people))
    # Under whatever name: no file of the version holds a longitude of the memory.
    lon_deg = load_trained(trained).model.memory.paths.points.lon_deg_N
    assert any(map(holds(lon_deg), ships.rglob("*")))
    assert not any(map(holds(lon_deg), people.rglob("*")))
    assert load_trained(people).model.memory is None


def holds(lon_deg: np.ndarray):
    needle = lon_deg[5:9].tobytes()
    return lambda path: path.is_file() and needle in path.read_bytes()


def test_what_is_judged_is_what_a_version_answers(trained):
    """And beside it what a memory adds, or would add; families without one stand alone."""
    model = load_trained(trained)
    with_it, without = as_served(model)
    assert (with_it.name, without.name) == ("foundry", "foundry_without_memory")
    assert with_it.model.memory is not None
    assert without.model.memory is None
    of_people = replace(model.model.memory, is_personal=True)
    served, would = as_served(replace(model.remembering(of_people), asked=()))
    assert (served.name, would.name) == ("foundry", "foundry_with_memory")
    assert served.model.memory is None
    assert would.model.memory is not None
    assert served.tasks == FAMILIES["foundry"].tasks
    assert without.tasks == would.tasks == ("forecast", "recover")
    assert model.model.memory is not None  # nothing of the model itself was changed
    chemin = Trained(build("chemin", "tiny", model.model.normaliser))
    assert as_served(chemin) == as_served(chemin, reports_motion=True) == [chemin]
    *_, deaf = as_served(model, reports_motion=True)
    assert (deaf.name, deaf.tasks) == ("foundry_without_reported_motion", ("forecast",))
    assert deaf.model.memory is not None
    served, _, deaf = as_served(replace(model.remembering(of_people), asked=()), True)
    assert deaf.model.memory is served.model.memory is None


def test_a_version_recalls_what_it_is_given(trained, tmp_path):
    model = served_from(write_bundle(tmp_path / "bundle", trained, PARAMS))
    asked, past = asked_frame(), past_frame()
    own, given = model.forecast(asked), model.forecast(asked, memory=past)
    assert np.abs(places(own) - places(given)).max() > 1e-7
    here = model.remembering(past)
    pd.testing.assert_frame_equal(here.forecast(asked), given)
    pd.testing.assert_frame_equal(model.forecast(asked, memory=here), given)
    pd.testing.assert_frame_equal(model.forecast(asked), own)  # and nothing of it is kept
    with pytest.raises(ValueError, match="a past trip of three points or more"):
        model.forecast(asked, memory=past.groupby("trajectory_id").head(2))


def test_nothing_of_an_asked_trip_is_recalled_nor_of_its_entity(trained, tmp_path):
    """Of so few crops all are found, so that no slack of the search matters."""
    model = served_from(write_bundle(tmp_path / "bundle", trained, PARAMS))
    # All walks begin at one place and instant, which would make them copies of each other.
    past = frame_of(*(value[:, 1:] for value in walk(3, 8, seed=11)), (7,) * 3)
    past["tracked_at"] = pd.to_datetime(past["tracked_at"])
    later = past.assign(
        trajectory_id="later" + past["trajectory_id"].astype(str),
        tracked_at=past["tracked_at"] + pd.Timedelta(days=1),
    )
    both = pd.concat([past, later])
    both["entity_id"] = both["trajectory_id"].astype(str).str.removeprefix("later")
    own_id = str(past["trajectory_id"].iloc[0])
    asked = past[past["trajectory_id"].astype(str) == own_id].iloc[:5]
    here, rest = (model.remembering(one) for one in (both, both[both["entity_id"] != own_id]))
    scales = {name: getattr(memory_of(here), name) for name in ("motion_s", "spread_m")}
    alone = with_memory(rest, replace(memory_of(rest), **scales)).forecast(asked)
    np.testing.assert_allclose(places(here.forecast(asked)), places(alone), atol=1e-6)
    # The control: who is not named is taken for another, and followed.
    unnamed = model.remembering(both.drop(columns="entity_id"))
    other = with_memory(unnamed, replace(memory_of(unnamed), **scales)).forecast(asked)
    assert np.abs(places(other) - places(alone)).max() > 1e-4


def test_a_memory_that_forgets_somebody_is_that_of_all_others(trained, tmp_path):
    model = served_from(write_bundle(tmp_path / "bundle", trained, PARAMS))
    asked = asked_frame()
    # All walks begin at one place and instant, which would make them copies of each other.
    begun = past_frame().groupby("trajectory_id").nth(slice(1, None)).reset_index(drop=True)
    number_N = pd.factorize(begun["trajectory_id"])[0]
    past = begun.assign(entity_id=number_N // 2)  # two trips each
    is_own = past["entity_id"] == 0
    whole, others = model.remembering(past), model.remembering(past[~is_own])
    before = places(whole.forecast(asked))
    one_point = past[is_own].drop(columns="entity_id").iloc[[2]]
    left = whole.forgetting(one_point)
    pd.testing.assert_frame_equal(left.forecast(asked), others.forecast(asked))
    for name, value in memory_of(left).tensors().items():
        if name != "kin_R":  # numbers of nobody by name
            np.testing.assert_array_equal(value, memory_of(others).tensors()[name])
    assert np.abs(places(left.forecast(asked)) - before).max() > 1e-7
    # The control: with the other trip of the same entity it would answer otherwise.
    half = model.remembering(past[number_N > 0])
    assert np.abs(places(left.forecast(asked)) - places(half.forecast(asked))).max() > 1e-7
    np.testing.assert_array_equal(places(whole.forecast(asked)), before)  # the first one stays
    with pytest.raises(ValueError, match="nobody in the memory was at these places"):
        left.forgetting(one_point)
    with pytest.raises(ValueError, match="nobody in the memory was at these places"):
        whole.forgetting(one_point.assign(lon_deg=one_point["lon_deg"] + 1e-9))
    assert memory_of(whole.forgetting(past.drop(columns="entity_id"))) is None
    assert memory_of(left).is_personal == memory_of(whole).is_personal


def memory_of(frames):
    return frames.trained.model.memory


def with_memory(frames, memory):
    return replace(frames, trained=frames.trained.remembering(memory))


def test_families_without_a_memory_refuse_one(tmp_path):
    folder = stored(tmp_path, "chemin")
    model = served_from(write_bundle(tmp_path / "bundle", folder, PARAMS))
    with pytest.raises(ValueError, match="chemin makes no use of a memory of past trips"):
        model.forecast(asked_frame(), memory=past_frame())


def test_lists_agree_with_the_models(trained):
    assert conventions.MEMORY_FILE == MEMORY_FILE
    normaliser = load_trained(trained).model.normaliser
    for name, row in MODULES.items():
        if row.get("reads", "points") == "points":
            model = build(name, "tiny", normaliser)
            assert remembers(name) == model.remembers, name


@pytest.mark.parametrize(
    ("is_personal", "is_carried"), [((False,), True), ((False, True), True), ((True,), False)]
)
def test_the_card_of_a_corpus_says_whether_places_go_along(is_personal, is_carried):
    def row(one):
        return SimpleNamespace(source_row=SimpleNamespace(is_personal=one))

    learned = [
        SimpleNamespace(title="a", steps=SimpleNamespace(config=row(one))) for one in is_personal
    ]
    said = privacy(SimpleNamespace(learned=learned, family="foundry"))
    assert ("carries a memory" in said) == is_carried
    assert ("holds a coordinate of theirs" in said) == any(is_personal)
