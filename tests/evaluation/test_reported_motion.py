"""Reported motion: lines as oracles draw them, nothing where nothing was told, and no peek."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.past import SPHERE, context_of, walks
from helpers.shards import write_shards

from model.baselines.forecast import CONSTANT_VELOCITY, LAST_POSITION
from model.baselines.reported_motion import REPORTED_GREAT_CIRCLE, REPORTED_RHUMB_LINE
from model.data.shards import MOTION_FILE, MOTION_SCHEMA, ShardError, Shards, reported_motion
from model.earth.constants import EARTH_RADIUS_M
from model.evaluation.examples import example_forecasts
from model.evaluation.forecast_scores import motion_of, read_forecast_windows
from model.evaluation.question import Judging
from model.evaluation.scores import scored
from model.interface.contexts import Context, ReportedContext

TARGET_S = torch.tensor([[60.0, 1_800.0]], dtype=torch.float64)
BOTH = [REPORTED_RHUMB_LINE, REPORTED_GREAT_CIRCLE]


def told(context: Context, *motion: tuple[float, float]) -> ReportedContext:
    return ReportedContext(**vars(context), reported_BM=torch.tensor(motion).double())


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
    """Walks whose source reports a motion for one window in so many."""
    shards = write_shards(folder, {"test": [60] * 6, "train": [50], "validation": [50]})
    window_id = pq.read_table(folder / "windows.parquet")["window_id"].to_numpy()[::every]
    columns = {
        "window_id": window_id,
        "speed_mps": window_id / 10,
        "course_deg": window_id * 7.0 % 360,
    }
    pq.write_table(pa.table(columns, pa.schema(MOTION_SCHEMA)), folder / MOTION_FILE)
    return shards


class Listener:
    """An answerer that stands still and keeps what it was told."""

    tasks = ("forecast",)

    def __init__(self, name: str, is_baseline: bool) -> None:
        self.name, self.is_baseline = name, is_baseline
        self.contexts: list[Context] = []

    def forecast(self, context, num_horizon, target_time_s_BH=None):
        self.contexts.append(context)
        return LAST_POSITION.forecast(context, num_horizon, target_time_s_BH)


def test_baselines_are_told_the_report_and_models_nothing_of_it(tmp_path):
    shards = reporting(tmp_path / "shards", every=2)
    model, baseline = Listener("model", False), Listener("baseline", True)
    scored(shards, [model, baseline], "test", Judging((1, 5), num_bootstrap=0))
    [(stored, windows)] = read_forecast_windows(shards, "test", 1_000)
    first_id = stored.batch.window_id_B[0].item()
    example_forecasts(shards, [model, baseline], "test", {first_id: "worst"})
    assert {type(one) for one in model.contexts} == {Context}
    assert {type(one) for one in baseline.contexts} == {ReportedContext}
    is_told = stored.batch.window_id_B % 2 == 0
    assert torch.equal(windows.reported_BM.isfinite().all(dim=1), is_told)
    assert 0 < int(is_told.sum()) < len(is_told)
    expected_B = stored.batch.window_id_B[is_told].double() / 10
    assert torch.equal(windows.reported_BM[is_told, 0], expected_B)
    assert type(windows.context) is Context  # what fits are made on


def test_what_is_asked_moves_no_forecast(tmp_path):
    """Neither other places of the asked points, nor reports of other windows."""
    [(_, windows)] = read_forecast_windows(reporting(tmp_path / "shards"), "test", 1_000)
    hidden = torch.full_like(windows.lon_deg_BH, torch.nan)
    blind = replace(windows, lon_deg_BH=hidden, lat_deg_BH=hidden)
    first, others = slice(None, 1), windows.reported_BM.clone()
    others[1:] += 1.0
    for baseline in BOTH:
        found = torch.stack(windows.answered(baseline, "times_given"))
        assert found.isfinite().all()
        assert torch.equal(found, torch.stack(blind.answered(baseline, "times_given")))
        moved = torch.stack(replace(windows, reported_BM=others).answered(baseline, "times_given"))
        assert torch.equal(found[:, first], moved[:, first])
        assert not torch.equal(found, moved)


def test_a_window_without_a_report_has_none():
    motion = pa.table(
        {"window_id": [7, 9], "speed_mps": [1.0, 2.0], "course_deg": [30.0, 40.0]},
        pa.schema(MOTION_SCHEMA),
    )
    found = motion_of(motion, torch.tensor([9, 8, 7]))
    assert found[[0, 2]].tolist() == [[2.0, 40.0], [1.0, 30.0]]
    assert found[1].isnan().all()
    assert motion_of(motion.slice(0, 0), torch.tensor([7])).isnan().all()


def test_a_damaged_file_of_reports_is_refused(tmp_path):
    shards = reporting(tmp_path / "shards")
    path = shards.folder / MOTION_FILE
    pq.write_table(pq.read_table(path).drop(["course_deg"]), path)
    with pytest.raises(ShardError, match="course_deg"):
        reported_motion(shards)
    path.write_bytes(b"no table")
    with pytest.raises(ShardError, match=MOTION_FILE):
        reported_motion(shards)
    path.unlink()
    assert reported_motion(shards) is None
