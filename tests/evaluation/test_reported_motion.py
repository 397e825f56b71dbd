"""Reported motion: lines as oracles draw them, nothing where nothing was told, and no peek."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.past import SPHERE, context_of, walks
from helpers.shards import write_shards

from model.baselines.forecast import CONSTANT_VELOCITY, LAST_POSITION
from model.baselines.reported_motion import REPORTED_GREAT_CIRCLE, REPORTED_RHUMB_LINE
from model.data.options import Reading
from model.data.reading import read_batches
from model.data.shards import ShardError, Shards
from model.earth.constants import EARTH_RADIUS_M
from model.evaluation.examples import example_forecasts
from model.evaluation.forecast_scores import read_forecast_windows
from model.evaluation.question import Judging
from model.evaluation.scores import scored
from model.inference.point_frames import reported_mps
from model.interface.contexts import Context, Partial
from model.interface.flat_points import sorted_points

TARGET_S = torch.tensor([[60.0, 1_800.0]], dtype=torch.float64)
BOTH = [REPORTED_RHUMB_LINE, REPORTED_GREAT_CIRCLE]


def told(context: Context, *motion: tuple[float, float]) -> Context:
    """A context with a speed and a course at the last point of each row, and others before it."""
    speed_mps_B, course_deg_B = torch.tensor(motion).double().T
    course_B = torch.deg2rad(course_deg_B)
    reported_mps_BTC = torch.full((*context.lon_deg_BT.shape, 2), 77.0).double()
    last_mps_BC = speed_mps_B[:, None] * torch.stack([course_B.sin(), course_B.cos()], dim=1)
    reported_mps_BTC[:, -1] = last_mps_BC
    return replace(context, reported_mps_BTC=reported_mps_BTC)


def places(baseline, context):
    found = baseline.forecast(context, 2, context.last_B1()[2] + TARGET_S)
    return torch.stack([found.lon_deg_BH, found.lat_deg_BH], dim=-1)


def last_place(context):
    lon_deg_B1, lat_deg_B1, _ = context.last_B1()
    return float(lon_deg_B1), float(lat_deg_B1)


def test_the_great_circle_is_that_of_the_geodesic_library():
    context = context_of(walks(1, [10]), 10)
    found = places(REPORTED_GREAT_CIRCLE, told(context, (250.0, 63.0)))[0]
    lon_deg, lat_deg = last_place(context)
    for place, seconds in zip(found.tolist(), TARGET_S[0].tolist(), strict=True):
        expected = SPHERE.Direct(lat_deg, lon_deg, 63.0, 250.0 * seconds)
        assert place == pytest.approx([expected["lon2"], expected["lat2"]], abs=1e-9)


def test_the_rhumb_line_keeps_its_parallel():
    """By hand: 10 m/s due west for half an hour are 18,000 m on a circle of cos(latitude)."""
    context = context_of(walks(2, [10], lat_deg=60.0), 10)
    found = places(REPORTED_RHUMB_LINE, told(context, (10.0, 270.0)))[0, 1]
    lon_deg, lat_deg = last_place(context)
    turned = 18_000 / (EARTH_RADIUS_M * np.cos(np.radians(lat_deg)))
    assert found.tolist() == pytest.approx([lon_deg - np.degrees(turned), lat_deg], abs=1e-9)


@pytest.mark.parametrize("baseline", BOTH)
def test_where_nothing_was_reported_it_is_constant_velocity(baseline):
    context = context_of(walks(3, [10] * 4), 10)
    nan = float("nan")
    found = places(baseline, told(context, (5.0, 90.0), (nan, nan), (nan, 90.0), (5.0, nan)))
    kept = places(CONSTANT_VELOCITY, context)
    assert torch.equal(found[1:], kept[1:])
    assert not torch.equal(found[0], kept[0])
    assert torch.equal(places(baseline, context), kept)


@pytest.mark.parametrize("baseline", BOTH)
def test_of_the_known_points_the_last_one_counts_alone(baseline):
    """Speed zero stays, and what was before the last point moves nothing."""
    trips = walks(4, [10])
    context = told(context_of(trips, 10), (7.0, 200.0))
    moved = replace(context, lon_deg_BT=context.lon_deg_BT.clone())
    moved.lon_deg_BT[:, :-1] += 1.0
    assert torch.equal(places(baseline, context), places(baseline, moved))
    still = places(baseline, told(context_of(trips, 10), (0.0, 0.0)))
    assert torch.equal(still, places(LAST_POSITION, context_of(trips, 10)))


# In an evaluation -------------------------------------------------------------------------------


def reporting(folder, every: int = 1) -> Shards:
    """Walks whose source reports a motion for one trip in so many."""
    lengths = {"test": [60] * 6, "train": [50], "validation": [50]}
    return write_shards(folder, lengths, reported_every=every)


class Listener:
    """An answerer that stands still and keeps what it was told."""

    tasks = ("forecast",)

    def __init__(self, name: str, is_baseline: bool) -> None:
        self.name, self.is_baseline = name, is_baseline
        self.contexts: list[Context] = []

    def forecast(self, context, num_horizon, target_time_s_BH=None):
        self.contexts.append(context)
        return LAST_POSITION.forecast(context, num_horizon, target_time_s_BH)


def test_models_and_baselines_are_told_the_same_reports_of_known_points(tmp_path):
    shards = reporting(tmp_path / "shards", every=2)
    both = [Listener("model", False), Listener("baseline", True)]
    scored(shards, both, "test", Judging((1, 5), num_bootstrap=0))
    [(stored, windows)] = read_forecast_windows(shards, "test", 1_000)
    first_id = stored.batch.window_id_B[0].item()
    example_forecasts(shards, both, "test", {first_id: "worst"})
    place_of = {
        row["window_id"]: (int(row["trip_id"].split("-")[1]), row["start"])
        for row in pq.read_table(shards.folder / "windows.parquet").to_pylist()
    }
    for one in (windows.context, *(one.contexts[0] for one in both)):
        assert one.reported_mps_BTC.shape[1] == one.lon_deg_BT.shape[1] == 20
        for row, window_id in enumerate(stored.batch.window_id_B.tolist()):
            number, start = place_of[window_id]
            if number % 2:
                assert one.reported_mps_BTC[row].isnan().all()
            else:
                expected = [[number, -place] for place in range(start, start + 20)]
                assert one.reported_mps_BTC[row].tolist() == expected


def test_what_is_asked_moves_no_forecast(tmp_path):
    """Neither other places of the asked points, nor reports of other windows."""
    [(_, windows)] = read_forecast_windows(reporting(tmp_path / "shards"), "test", 1_000)
    hidden = torch.full_like(windows.lon_deg_BH, torch.nan)
    blind = replace(windows, lon_deg_BH=hidden, lat_deg_BH=hidden)
    first, others = slice(None, 1), windows.context.reported_mps_BTC.clone()
    others[1:] += 1.0
    heard = replace(windows, context=replace(windows.context, reported_mps_BTC=others))
    for baseline in BOTH:
        found = torch.stack(windows.answered(baseline, "times_given"))
        assert found.isfinite().all()
        assert torch.equal(found, torch.stack(blind.answered(baseline, "times_given")))
        moved = torch.stack(heard.answered(baseline, "times_given"))
        assert torch.equal(found[:, first], moved[:, first])
        assert not torch.equal(found, moved)


# In shards --------------------------------------------------------------------------------------


def test_a_batch_has_the_report_of_each_point_and_pads_have_none(tmp_path):
    shards = write_shards(tmp_path / "some", {"train": [30, 25, 7, 12]}, reported_every=2)
    for batching in ("bucketed", "packed"):
        seen = 0
        for batch in read_batches(shards, Reading("train", 0, 2, 40, batching), num_epochs=1):
            reported_mps_BTC = batch.reported_mps_BTC
            assert reported_mps_BTC[batch.is_pad_BT].isnan().all()
            is_told_BT = reported_mps_BTC.isfinite().all(-1)
            # North tells the place in the trip, which goes up by one within a crop.
            is_next_BT = batch.sequence_BT[:, 1:] == batch.sequence_BT[:, :-1]
            is_next_BT &= is_told_BT[:, 1:] & is_told_BT[:, :-1]
            assert (reported_mps_BTC[..., 1].diff(dim=1)[is_next_BT] == -1).all()
            assert {*reported_mps_BTC[..., 0][is_told_BT].tolist()} <= {0.0, 2.0}
            seen += int(is_told_BT.sum())
        assert seen == 37
    plain = write_shards(tmp_path / "none", {"train": [30, 25]})
    batches = read_batches(plain, Reading("train", 0, 2, 40), num_epochs=1)
    assert [batch.reported_mps_BTC for batch in batches] == [None]


def test_shards_of_which_some_lack_the_report_are_refused(tmp_path):
    shards = write_shards(tmp_path, {"train": [30] * 4, "test": [45]}, reported_every=1)
    assert shards.reports_motion
    path = tmp_path / "test-000.parquet"
    pq.write_table(pq.read_table(path).drop(["reported_east_mps"]), path)
    with pytest.raises(ShardError, match="some of its files"):
        _ = Shards.open(tmp_path).reports_motion


def test_an_endless_report_is_refused(tmp_path):
    write_shards(tmp_path, {"train": [30] * 4, "test": [45]}, reported_every=1)
    path = tmp_path / "test-000.parquet"
    rows = (table := pq.read_table(path)).to_pylist()
    rows[0]["reported_north_mps"][5] = float("inf")
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    with pytest.raises(ShardError, match="infinite number in reported_north_mps"):
        list(read_forecast_windows(Shards.open(tmp_path), "test", 100))


# In contexts ------------------------------------------------------------------------------------


def test_a_context_keeps_its_reports_however_it_is_cut_and_continued():
    trips = walks(5, [12, 12])
    context = context_of(trips, 12)
    reported_mps_BTC = torch.arange(48.0).view(2, 12, 2)
    context = replace(context, reported_mps_BTC=reported_mps_BTC)
    assert torch.equal(context.latest(3).reported_mps_BTC, reported_mps_BTC[:, -3:])
    assert torch.equal(context.latest(3, stride=4).reported_mps_BTC, reported_mps_BTC[:, 3::4])
    lon_deg_B1, lat_deg_B1, time_s_B1 = context.last_B1()
    longer = context.extended(lon_deg_B1, lat_deg_B1, time_s_B1 + 1)
    assert torch.equal(longer.reported_mps_BTC[:, :12], reported_mps_BTC)
    assert longer.reported_mps_BTC[:, 12].isnan().all()
    assert torch.equal(context.reported_last_mps_BC(), reported_mps_BTC[:, -1].double())
    hidden = replace(Partial.of(context, 2, None)).batch()
    assert torch.equal(hidden.reported_mps_BTC[:, :12], reported_mps_BTC)
    assert hidden.reported_mps_BTC[:, 12:].isnan().all()


def test_a_point_that_hides_its_place_reports_nothing():
    context = replace(context_of(walks(6, [8]), 8), reported_mps_BTC=torch.ones(1, 8, 2))
    partial = Partial.of(context, 0, None)
    shows_BT = partial.shows_place_BT.clone()
    shows_BT[0, 4] = False
    batch = replace(partial, shows_place_BT=shows_BT).batch()
    assert batch.reported_mps_BTC[0].isfinite().all(-1).tolist() == shows_BT[0].tolist()


# In frames --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed_mps", "course_deg", "fault"),
    [
        (-1.0, 10.0, "speed_mps must be at least 0"),
        (math.inf, 10.0, "speed_mps must be at least 0"),
        (3.0, 360.5, "course_deg must be from 0 to 360"),
        (3.0, -1.0, "course_deg must be from 0 to 360"),
        ("fast", 1.0, "speed_mps holds a value that is not a number; give metres a second"),
    ],
)
def test_a_frame_with_no_motion_in_its_columns_of_motion_is_refused(speed_mps, course_deg, fault):
    frame = pd.DataFrame({"speed_mps": [1.0, speed_mps], "course_deg": [2.0, course_deg]})
    with pytest.raises(ValueError, match=fault):
        reported_mps(frame)


def test_speed_and_course_of_a_frame_are_a_velocity():
    nan = math.nan
    frame = pd.DataFrame(
        {
            "speed_mps": [4.0, 4.0, 0.0, nan, 4.0],
            "course_deg": [90.0, 210.0, nan, 10.0, nan],
        }
    )
    found = reported_mps(frame)
    expected = [[4, 0], [-2, -math.sqrt(12)], [0, 0], [nan, nan], [nan, nan]]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert reported_mps(frame[["speed_mps"]]) is None


def test_of_two_rows_alike_the_one_with_a_report_counts():
    nan = math.nan
    reported = np.array([[nan, nan], [1.0, 2.0], [nan, nan], [5.0, 6.0]])
    for order in ([0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1, 0]):
        instant_us = np.array([0, 0, 1_000_000, 2_000_000])[order]
        place_deg = np.array([1.0, 1.0, 2.0, 3.0])[order]
        given = np.zeros(4, np.int64), instant_us, place_deg, place_deg, reported[order]
        found = sorted_points(*given)
        assert found.lon_deg_N.tolist() == [1.0, 2.0, 3.0]
        np.testing.assert_equal(found.reported_mps_NC, reported[1:])
