"""A stored model of visits as a service: the same answers as its own, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from helpers.served import served_from
from helpers.visit_served import frame_of_law, stored_visit_model
from helpers.visit_worlds import LAW, places_of, write_shards_of_law

from model.data.reading import read_windows
from model.data.visits import VisitShards
from model.earth.cells import cells_of
from model.features.places import NUM_SPECIAL
from model.inference import api
from model.inference.frames import as_column
from model.inference.serving import load_trained
from model.interface.next_visit import parted
from tasks.release import bundle as bundles
from tasks.release.bundle import ANSWERS, example_visits, served_source, write_bundle

SEED, NUM_ROWS, NUM_VISITS = 900_000, 4, 7
DEFAULTS = {
    "task": "next_visit", "top_k": 3, "num_samples": 2, "controls": "", "seed": 3, "zone": "UTC",
}  # fmt: skip
REGIONS = {f"{cell:x}" for cell in places_of().cells}


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_visit_model(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def bundle(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("served") / "bundle", trained_folder, DEFAULTS)


@pytest.fixture(scope="module")
def served(bundle: Path):
    return served_from(bundle)


@pytest.fixture(scope="module")
def stored_batch(tmp_path_factory: pytest.TempPathFactory):
    """The visits of the frame as the loader reads them."""
    folder = tmp_path_factory.mktemp("shards")
    spans = {"train": (0, 3), "validation": (SEED, SEED + NUM_ROWS)}
    write_shards_of_law(folder, spans, NUM_VISITS)
    [windows] = read_windows(VisitShards.open(folder), "validation", 9, task="next_visit")
    return windows.batch


@pytest.fixture
def frame() -> pd.DataFrame:
    return frame_of_law(SEED, NUM_ROWS, NUM_VISITS)


def without_last(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame.groupby("entity_id").cumcount(ascending=False) > 0]


def assert_alike(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The same but for rounding, which other shapes of a batch may do otherwise."""
    times = [name for name in expected if name.endswith("_at")]
    for name in times:
        away_s = (found[name].array - expected[name].array).total_seconds()
        assert np.nanmax(np.abs(away_s)) < 0.01
    rest = [frame.drop(columns=times).reset_index(drop=True) for frame in (found, expected)]
    pd.testing.assert_frame_equal(*rest, rtol=1e-5)


# The same answer --------------------------------------------------------------------------------


def test_it_answers_what_inference_tells(served, trained_folder, stored_batch, frame):
    history, _ = parted(stored_batch)
    told = api.next_visit(load_trained(trained_folder).model, history)
    found = served.next_visit(without_last(frame))
    assert list(found) == list(ANSWERS["next_visit"])
    assert found["entity_id"].tolist() == [f"row-{9 - n}" for n in range(NUM_ROWS) for _ in "123"]
    assert found["rank"].tolist() == [1, 2, 3] * NUM_ROWS
    chance_RN = told.log_region_NR.double().exp()[:, NUM_SPECIAL:]
    sorted_RN, order_RN = chance_RN.sort(descending=True)
    np.testing.assert_allclose(found["probability"], sorted_RN[:, :3].ravel(), rtol=1e-5)
    cells = [f"{places_of().cells[place]:x}" for place in order_RN[:, :3].ravel()]
    assert found["cell"].tolist() == cells
    first = found[found["rank"] == 1]
    region_R = order_RN[:, 0] + NUM_SPECIAL
    for name, share in (("travel_p10_s", 0.1), ("travel_s", 0.5), ("travel_p90_s", 0.9)):
        np.testing.assert_allclose(first[name], told.travel(region_R).quantile(share), rtol=1e-4)
    last_at = without_last(frame).groupby("entity_id", sort=False)["left_at"].last()
    assert first["left_before_at"].tolist() == last_at.tolist()
    way_s = (first["arrived_at"] - first["left_before_at"]).dt.total_seconds()
    np.testing.assert_allclose(way_s, first["travel_s"], atol=1e-5)
    assert (found["stay_p10_s"] >= LAW.least_stay_s - 1e-6).all()
    assert (found["num_unknown"] == 0).all()


def test_a_surprise_is_that_of_the_stored_window(served, trained_folder, stored_batch, frame):
    history, asked = parted(stored_batch)
    told = api.next_visit(load_trained(trained_folder).model, history)
    found = served.surprise(frame)
    region_R = told.log_region_NR.gather(1, asked.region_N.unsqueeze(1))[:, 0]
    np.testing.assert_allclose(found["region_nats"], -region_R, rtol=1e-5)
    travel_R = told.travel(asked.region_N).log_density(asked.travel_s_N)
    np.testing.assert_allclose(found["travel_nats"], -travel_R, rtol=1e-5)
    stay_R = told.stay(asked).log_density(asked.duration_s_N)
    np.testing.assert_allclose(found["stay_nats"], -stay_R, rtol=1e-5)
    is_last = frame.groupby("entity_id").cumcount(ascending=False) == 0
    unseen = served.surprise(frame.assign(is_way_seen=~is_last, is_censored=is_last))
    assert unseen["travel_nats"].isna().all()
    survived_R = told.stay(asked).log_survival(asked.duration_s_N)
    np.testing.assert_allclose(unseen["stay_nats"], -survived_R, rtol=1e-5)


def test_what_a_record_tells_of_the_history_is_read(served, trained_folder, stored_batch, frame):
    """Ways that nobody saw and stays whose end nobody saw are no habits, as in a stored window."""
    is_shown_BV = ~stored_batch.is_pad_BV
    generator = torch.Generator().manual_seed(0)
    flags = {
        f"{name}_BV": (torch.rand(is_shown_BV.shape, generator=generator) < share) & is_shown_BV
        for name, share in (("is_censored", 0.4), ("is_way_seen", 0.6))
    }
    told_of = {name[:-3]: flag_BV[is_shown_BV].numpy() for name, flag_BV in flags.items()}
    history, asked = parted(replace(stored_batch, **flags))
    told = api.next_visit(load_trained(trained_folder).model, history)
    found = served.surprise(frame.assign(**told_of))
    travel_R = told.travel(asked.region_N).log_density(asked.travel_s_N)
    is_known_R = asked.is_travel_known_N.numpy()
    assert found["travel_nats"].notna().tolist() == is_known_R.tolist()
    np.testing.assert_allclose(found["travel_nats"][is_known_R], -travel_R[is_known_R], rtol=1e-5)
    stay = told.stay(asked)
    log_stay_R = torch.where(
        asked.is_censored_N,
        stay.log_survival(asked.duration_s_N),
        stay.log_density(asked.duration_s_N),
    )
    np.testing.assert_allclose(found["stay_nats"], -log_stay_R, rtol=1e-5)
    blind = served.surprise(frame)["stay_nats"]
    assert not np.allclose(found["stay_nats"], blind)


def test_who_else_is_asked_about_changes_nothing(served, frame):
    together = served.next_visit(frame)
    for name, own in frame.groupby("entity_id", sort=False):
        alone = served.next_visit(own.sample(frac=1.0, random_state=1))
        assert_alike(alone, together[together["entity_id"] == name])


def test_a_long_history_is_read_from_its_end(served):
    frame = frame_of_law(SEED, 1, 140)
    pd.testing.assert_frame_equal(served.next_visit(frame), served.next_visit(frame.tail(128)))


def test_a_place_that_train_does_not_know_is_counted(served, frame):
    frame.loc[1, ["lon_deg", "lat_deg"]] = [9.0, 9.0]
    found = served.next_visit(frame)
    assert found.groupby("entity_id", sort=False)["num_unknown"].first().tolist() == [1, 0, 0, 0]
    assert {*found["cell"]} <= REGIONS


def test_a_stay_that_goes_on_ends_where_half_of_such_stays_do(
    served, trained_folder, stored_batch, frame
):
    is_last = frame.groupby("entity_id").cumcount(ascending=False) == 0
    frame["left_at"] = frame["left_at"].mask(is_last)
    found = served.next_visit(frame)
    history, asked = parted(stored_batch)
    told = api.next_visit(load_trained(trained_folder).model, history)
    arrived_at = frame[is_last]["arrived_at"].array
    stay_s_R = (found["left_before_at"][::3].array - arrived_at).total_seconds()
    np.testing.assert_allclose(stay_s_R, told.stay(asked).quantile(0.5), rtol=1e-5)
    alone = served.next_visit(frame[is_last])  # nothing is known before it
    stay_s_R = (alone["left_before_at"][::3].array - arrived_at).total_seconds()
    assert stay_s_R.tolist() == [places_of().duration_s.p50] * NUM_ROWS


def test_frames_of_other_kinds_say_the_same(served, frame):
    expected = served.next_visit(frame)
    renamed = frame.rename(columns={"entity_id": "trajectory_id"})
    columns = {name: as_column(renamed[name]) for name in renamed}
    found = served.next_visit(pa.table(columns))
    pd.testing.assert_frame_equal(found.rename(columns={"trajectory_id": "entity_id"}), expected)
    spelt = frame.assign(
        arrived_at=[at.tz_localize(None).isoformat() for at in frame["arrived_at"]],
        note="left alone",
    )
    pd.testing.assert_frame_equal(served.predict(None, spelt), expected)
    repeated = pd.concat([frame, frame.head(3)], ignore_index=True)
    pd.testing.assert_frame_equal(served.next_visit(repeated), expected)


def test_the_example_is_answered(served):
    found = served.predict(None, example_visits().to_pandas(), {"top_k": 5})
    assert len(found) == 5
    assert found.notna().all(axis=None)
    assert (found["num_unknown"] == 3).all()


# Infilling --------------------------------------------------------------------------------------


def gapped(frame: pd.DataFrame, *rows: int) -> pd.DataFrame:
    """Visits of which some are blanks."""
    frame = frame.copy()
    frame.loc[list(rows), ["arrived_at", "left_at", "lon_deg", "lat_deg"]] = None
    return frame


def test_blanks_are_filled_in_time(served, trained_folder, stored_batch, frame):
    found = served.infill(gapped(frame, 2, 3, 10), num_samples=4)
    kept = frame.drop([2, 3, 10])
    for _, own in found.groupby("sample"):
        known = own[~own["is_filled"]]
        assert known["arrived_at"].tolist() == kept["arrived_at"].tolist()
        assert own[own["is_filled"]]["entity_id"].unique().tolist() == ["row-9", "row-8"]
        for _, one in own.groupby("entity_id"):
            assert (one["left_at"] >= one["arrived_at"]).all()
            assert (one["arrived_at"].to_numpy()[1:] >= one["left_at"].to_numpy()[:-1]).all()
    assert {*found[found["is_filled"]]["cell"]} <= REGIONS
    # As the API fills the same.
    is_kept_V = torch.tensor([True, True, False, False, True, True, True])
    first = stored_batch.part(0, 1)
    shown = {
        name: getattr(first, name)[:, is_kept_V]
        for name in first.__dataclass_fields__
        if name.endswith(("_BV", "_BVK"))
    }
    shown = type(first)(**shown, window_id_B=torch.zeros(1, dtype=torch.long))
    is_gap_BV = torch.tensor([[False, True, False, False, False]])
    started_us_B = torch.tensor([int(frame["arrived_at"][0].value // 1_000)])
    model = load_trained(trained_folder).model
    [[gap]] = api.infill(model, shown, is_gap_BV, started_us_B, num_samples=4, seed=3)
    theirs = [visit.arrived_s for visits in gap.visits for visit in visits]
    own = found[found["is_filled"] & (found["entity_id"] == "row-9")]
    elapsed_s = (own["arrived_at"] - frame["arrived_at"][0]).dt.total_seconds()
    np.testing.assert_allclose(elapsed_s, theirs, rtol=1e-5)


def test_what_is_filled_depends_on_its_entity_and_the_seed_alone(served, frame):
    whole = served.infill(gapped(frame, 2, 10))
    own = gapped(frame, 2, 10)[7:14].reset_index(drop=True)
    alone = served.infill(own)
    assert_alike(alone, whole[whole["entity_id"] == "row-8"])
    assert not served.infill(own, seed=4).equals(alone)


# Generation -------------------------------------------------------------------------------------


def starts(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(
        {"entity_id": ["a", "b"], "arrived_at": ["2024-01-01T09:00Z", "2024-01-02T10:00Z"]}
        | columns
    )


def test_made_up_days_keep_what_is_wanted(served, frame):
    place = frame.loc[0, ["lon_deg", "lat_deg"]].tolist()
    own = f"{cells_of(*np.array([place]).T, places_of().resolution)[0]:x}"
    [cell, other] = sorted(REGIONS - {own})[:2]
    controls = {
        "num_visits": 5,
        "end": cell,
        "visits": [{"number": 2, "place": place, "earliest_s": 3_600, "latest_s": 200_000}],
        "forbidden": [other],
        "top_p": 0.9,
    }
    asked = starts(lon_deg=[place[0], None], lat_deg=[place[1], None])
    found = served.generate(asked, controls=controls, num_samples=20)
    assert found.groupby(["entity_id", "sample"]).size().tolist() == [5] * 40
    by_number = found.groupby(["entity_id", "sample"], sort=False)
    assert {*by_number.nth(4)["cell"]} == {cell}
    first = found[found["entity_id"] == "a"].groupby("sample").nth(0)["cell"]
    assert {*by_number.nth(2)["cell"]} == {*first} == {own}
    assert other not in {*found["cell"]}
    assert by_number.nth(0)["arrived_at"].unique().tolist() == [
        pd.Timestamp(text) for text in asked["arrived_at"]
    ]
    later_s = by_number["arrived_at"].transform(lambda at: (at - at.iloc[0]).dt.total_seconds())
    assert later_s[by_number.cumcount() == 2].between(3_600, 200_000).all()
    spelt = served.predict(
        None,
        asked[asked["entity_id"] == "b"],
        {"task": "generate", "controls": json.dumps(controls), "num_samples": 20},
    )
    theirs = found[found["entity_id"] == "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(spelt, theirs)


def test_hours_and_an_instant_at_the_end_are_kept(served):
    asked = {"until_s": 90_000, "hours": list(range(6, 23)), "temperature": 1.2}
    found = served.generate(starts(), controls=asked, num_samples=5)
    assert found["arrived_at"].dt.hour.between(6, 22).all()
    first = found.groupby(["entity_id", "sample"])["arrived_at"].transform("first")
    assert ((found["arrived_at"] - first).dt.total_seconds() <= 90_000).all()


BAD_CONTROLS = (
    ({}, "give num_visits or until_s"),
    ("{", "controls are no JSON"),
    ([1], "controls must be names with values"),
    ({"length": 3}, "controls: unknown 'length'; the known ones are: num_visits"),
    ({"num_visits": "3"}, "num_visits must be a whole number, not '3'"),
    ({"num_visits": 3, "forbidden": "x"}, "forbidden must be a list"),
    ({"num_visits": 3, "forbidden": ["x"]}, "forbidden: a place outside the 16 regions"),
    ({"num_visits": 3, "end": [9.0, 9.0]}, "end: a place outside the 16 regions"),
    ({"num_visits": 3, "end": 5}, "end: a place is the name of a cell, or a pair"),
    ({"until_s": 9e4, "end": min(REGIONS)}, "end needs num_visits"),
    ({"num_visits": 3, "hours": [24]}, "must be from 0 to 23, not 24"),
    ({"num_visits": 3, "hours": [3]}, "the first visit begins at 9 h, which is no wanted hour"),
    ({"num_visits": 3, "visits": [{"number": 7}]}, "there is no visit 7"),
    ({"num_visits": 3, "visits": [{"when": 7}]}, "a visit of controls: unknown 'when'"),
    ({"num_visits": 3, "visits": [{"number": 2, "latest_s": 5}]}, "cannot begin by 5 s"),
    (
        {"num_visits": 3, "end": min(REGIONS), "forbidden": [min(REGIONS)]},
        "a place is wanted and forbidden",
    ),
)


@pytest.mark.parametrize(("controls", "message"), BAD_CONTROLS)
def test_a_control_that_cannot_be_met_is_refused_with_its_reason(served, controls, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        served.generate(starts(), controls=controls)


def test_bad_starts_are_refused(served):
    with pytest.raises(ValueError, match=r"outside the 16 regions .* first in row 1"):
        served.generate(starts(lon_deg=[None, 9.0], lat_deg=[None, 9.0]), controls='{"until_s": 9}')
    with pytest.raises(ValueError, match="entity_id is there twice"):
        served.generate(pd.concat([starts(), starts()]), controls='{"until_s": 9}')


# Refusals ---------------------------------------------------------------------------------------


def changed(row: int, **values: object):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        for name, value in values.items():
            frame[name] = frame[name].astype(object)
            frame.at[row, name] = value
        return frame

    return change


EARLY, LATE = "2024-01-01T00:00Z", "2025-01-01T00:00Z"
BAD_FRAMES = {
    "ends before it begins": (
        changed(2, left_at="2023-01-01T00:00Z"),
        "left_at lies before arrived_at: so in 1 of the rows, first in row 2",
    ),
    "overlap": (changed(6, left_at=LATE, arrived_at=EARLY), "overlaps the one before it"),
    "goes on and is not the last": (
        changed(3, left_at=None),
        "left_at is missing, and the entity has a later visit",
    ),
    "no beginning": (changed(3, arrived_at=None), "arrived_at is missing in 1 of 28 rows"),
    "a number for a time": (changed(3, arrived_at=1.7e9), "arrived_at must be a date and time"),
    "no time at all": (changed(3, left_at="noon"), "left_at holds 'noon', which is not a date"),
    "no place": (changed(3, lon_deg=None, lat_deg=None), "a visit lacks arrived_at, or lon_deg"),
    "half a place": (changed(3, lon_deg=None), "one of lon_deg and lat_deg is missing in 1 of 28"),
    "infinite": (changed(3, lon_deg=float("inf")), "lon_deg must be finite and from -180 to 180"),
    "no id": (changed(3, entity_id=None), "entity_id is missing in 1 row"),
    "no ids": (lambda frame: frame.drop(columns="entity_id"), "a frame of visits has: entity_id"),
    "no end": (lambda frame: frame.drop(columns="left_at"), "column left_at is missing"),
    "empty": (lambda frame: frame.head(0), "no visits were given"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_refused_in_plain_words(served, frame, name):
    change, message = BAD_FRAMES[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        served.next_visit(change(frame))


def test_bad_blanks_are_refused(served, frame):
    for rows in ((0,), (6,)):
        with pytest.raises(ValueError, match=f"a blank stands .* first in row {rows[0]}"):
            served.infill(gapped(frame, *rows))
    mixed = gapped(frame, 3).iloc[[0, 2, 3, 1, 4, 5, 6]].reset_index(drop=True)
    with pytest.raises(ValueError, match="count in the order given"):
        served.infill(mixed)
    with pytest.raises(ValueError, match="reads at most 128"):
        served.infill(gapped(frame_of_law(SEED, 1, 140), 3))


BAD_CHOICES = (
    ({"top_k": 0}, "top_k must be from 1 to 1000"),
    ({"num_samples": 0}, "num_samples must be from 1 to 1000"),
    ({"zone": "Mars/Olympus"}, "unknown time zone"),
    ({"task": "forecast"}, "trajgpt does not serve 'forecast'; it serves: next_visit, infill"),
    ({"horizon": 3}, "unknown parameter 'horizon'; the known ones are: task"),
)


@pytest.mark.parametrize(("choices", "message"), BAD_CHOICES)
def test_a_bad_choice_is_refused_in_plain_words(served, frame, choices, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        served.predict(None, frame, choices)


# The bundle -------------------------------------------------------------------------------------

CLEAN = """
import json, sys
sys.modules.update(dict.fromkeys(("model", "tasks", "sql", "flows")))
import importlib.util as iu, types
import pandas as pd
spec = iu.spec_from_file_location("entry", sys.argv[1])
entry = iu.module_from_spec(spec)
spec.loader.exec_module(entry)
model = entry.TrajectoryModel()
model.load_context(types.SimpleNamespace(artifacts={"bundle": sys.argv[2]}))
frame = pd.read_parquet(sys.argv[3])
model.predict(None, frame).to_parquet(sys.argv[4])
loaded = {"numba", "duckdb", "prefect"} & set(sys.modules)
print(json.dumps(sorted(loaded)))
"""


def test_a_bundle_answers_alone(served, bundle, frame, tmp_path):
    frame.to_parquet(tmp_path / "visits.parquet")
    answer = tmp_path / "answer.parquet"
    arguments = [bundles.ENTRY, bundle, tmp_path / "visits.parquet", answer]
    done = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert_alike(pd.read_parquet(answer), served.next_visit(frame))
    assert not list(bundle.rglob("__pycache__"))


def test_a_bundle_of_visits_holds_their_modules_and_no_others():
    modules = {*served_source("trajgpt")}
    assert {"model.inference.visit_frames", "model.families.trajgpt.filling"} <= modules
    assert {"model.families.trajgpt.generation", "model.features.places"} <= modules
    others = {"model.inference.visit_frames", "model.earth.cells", "model.interface.controls"}
    assert not others & {*served_source("chemin")}
    assert "model.inference.point_frames" not in modules
    families = {name.split(".")[2] for name in modules if name.startswith("model.families.")}
    assert families == {"trajgpt"}
