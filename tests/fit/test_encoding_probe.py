"""The encoding probe: a sound encoding passes, and one that loses places or times does not."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from helpers import ships
from helpers.lawful import normaliser_of
from helpers.shards import write_shards

from model.data.options import Reading
from model.data.reading import read_batches
from model.data.shards import Shards
from model.earth.geometry import step_between
from model.evaluation import encoding_probe
from model.families import build
from model.features.normaliser import Normaliser
from model.features.point_features import (
    NUM_SPATIAL,
    NUM_TEMPORAL,
    PointFeatures,
    point_features,
)
from model.interface.batch import Batch
from tasks.prepare.conventions import RECOVERY_FILE
from tasks.pretrain import encoding_check as stage
from tasks.report.facts import encoding_cells
from tasks.runtime.errors import DataError
from tasks.runtime.stage import without_orchestrator

TIME = 1  # the temporal feature of the seconds since the first point


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    folder = ships.good().store.folder(ships.good().shards)
    return Normaliser.from_json(json.loads((folder / "normaliser.json").read_text()))


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards))
    return list(islice(read_batches(shards, Reading("train", 0, 64, 40)), 8))


def wrapped(*given, **more) -> PointFeatures:
    """Time that begins anew, as elapsed minutes did: it is told only up to a typical step."""
    seen = point_features(*given, **more)
    temporal = seen.temporal_BQM.clone()
    temporal[..., TIME] = temporal[..., TIME] % 1.0
    return replace(seen, temporal_BQM=temporal)


def coarse(*given, **more) -> PointFeatures:
    """Places on a grid of a tenth."""
    seen = point_features(*given, **more)
    spatial = seen.spatial_BQS.clone()
    spatial[..., list(encoding_probe.SINCE_FIRST[:2])] = (
        spatial[..., list(encoding_probe.SINCE_FIRST[:2])] * 10
    ).round() / 10
    return replace(seen, spatial_BQS=spatial)


def test_the_encoding_of_the_pipeline_passes():
    made = ships.good()
    told = json.loads((made.store.folder(made.proved) / RECOVERY_FILE).read_text())
    found = {name: encoding_probe.Recovery(**values) for name, values in told.items()}
    asked_again = {encoding_probe.POSITIONS_LATER, encoding_probe.ELSEWHERE}
    assert set(found) == {*encoding_probe.VARIANTS, *asked_again}
    assert encoding_probe.refusals(found) == []
    plain, with_positions = found[encoding_probe.FEATURES], found[encoding_probe.WITH_POSITIONS]
    later = found[encoding_probe.POSITIONS_LATER]
    # An autoencoder that never saw positions is led astray by them, and one trained with them not.
    assert later.p99_share > 10 * max(plain.p99_share, with_positions.p99_share)
    assert found[encoding_probe.CONTROL].p99_share > 0.3


def told(name: str, batches: list[Batch], normaliser: Normaliser) -> encoding_probe.Recovery:
    scale = encoding_probe.scale_of(normaliser)
    windows = [encoding_probe.probe_windows(batch, normaliser, scale) for batch in batches]
    reader = encoding_probe.trained_reader(name, windows[::2], scale, 0)
    points = encoding_probe.probe_points(name, windows[1::2], 0)
    return encoding_probe.recovery(reader, points, scale)


@pytest.mark.parametrize("encode", [point_features, wrapped, coarse])
def test_an_encoding_that_loses_something_fails(monkeypatch, batches, normaliser, encode):
    monkeypatch.setattr(encoding_probe, "point_features", encode)
    found = told(encoding_probe.FEATURES, batches, normaliser)
    assert (found.p99_share < encoding_probe.MAX_SHARE) == (encode is point_features)


# Encodings that the published code or its readers have had, each in place of ours ----------------


def float32_epochs(lon_deg, lat_deg, time_s, *more, **named) -> PointFeatures:
    """Seconds since 1970 in float32, which counts them in steps of 128."""
    epoch_s = (time_s + 1.7e9).float().double()
    return point_features(lon_deg, lat_deg, epoch_s - epoch_s[:, :1], *more, **named)


def rounded_degrees(lon_deg, lat_deg, *more, **named) -> PointFeatures:
    """Degrees of two digits: a kilometre."""
    return point_features(lon_deg.round(decimals=2), lat_deg.round(decimals=2), *more, **named)


def swapped_axes(lon_deg, lat_deg, *more, **named) -> PointFeatures:
    return point_features(lat_deg, lon_deg, *more, **named)


@pytest.fixture(scope="module")
def walkers(tmp_path_factory) -> tuple[list[Batch], Normaliser]:
    """People about one town: a step of 100 m in each 10 s."""
    folder = tmp_path_factory.mktemp("walkers")
    shards = write_shards(folder, {"train": [40] * 160}, rows_per_group=32)
    batches = list(islice(read_batches(shards, Reading("train", 0, 32, 40)), 5))
    points = (torch.cat([getattr(one, name) for one in batches])
              for name in ("lon_deg_BT", "lat_deg_BT", "time_s_BT"))  # fmt: skip
    return batches, normaliser_of(tuple(points))


@pytest.mark.parametrize(
    ("encode", "refused"),
    [
        (point_features, set()),
        (float32_epochs, {encoding_probe.FEATURES}),
        (rounded_degrees, {encoding_probe.FEATURES}),
        # At one place it can be learned: the axes are those of a map that is turned and stretched.
        (swapped_axes, {encoding_probe.ELSEWHERE}),
    ],
)
def test_planted_encodings_are_refused(monkeypatch, walkers, encode, refused):
    batches, normaliser = walkers
    monkeypatch.setattr(encoding_probe, "NUM_STEPS", 100)
    monkeypatch.setattr(encoding_probe, "point_features", encode)
    found = encoding_probe.probe(batches[:4], batches[4:], normaliser, 0)
    reasons = {reason.partition(":")[0] for reason in encoding_probe.refusals(found)}
    assert refused <= reasons
    assert bool(reasons) == bool(refused)


def test_the_input_layer_is_that_of_the_model(batches, normaliser):
    windows = encoding_probe.probe_windows(batches[0], normaliser, torch.ones(3))
    torch.manual_seed(0)
    layer = encoding_probe.InputLayer()
    model = build("chemin", "small", normaliser)
    model.load_state_dict(layer.state_dict(), strict=False)
    index_BT = torch.arange(windows.feature_BTF.shape[1]).expand(windows.is_point_BT.shape)
    spatial, temporal = windows.feature_BTF.split([NUM_SPATIAL, NUM_TEMPORAL], dim=-1)
    expected = model.embedded(spatial, temporal, index_BT)
    found = layer(windows.feature_BTF) + encoding_probe.sinusoidal_positions(*expected.shape[1:])
    torch.testing.assert_close(found, expected)


def test_motions_moved_away_are_the_same_motions(batches):
    batch = batches[0]
    moved = encoding_probe.moved_away(batch)
    since = [step_between(one.lon_deg_BT[:, :1], one.lat_deg_BT[:, :1], one.lon_deg_BT,
                          one.lat_deg_BT) for one in (batch, moved)]  # fmt: skip
    for before, after in zip(*since, strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-3)
    away_deg = (moved.lat_deg_BT[:, 0] - batch.lat_deg_BT[:, 0]).abs()
    torch.testing.assert_close(away_deg, torch.full_like(away_deg, 45.0))


@pytest.mark.parametrize(
    ("share", "control", "is_refused"),
    [
        (0.002, 1.2, False),
        (0.02, 1.2, True),
        (0.002, 0.015, True),  # not ten times better than the control
        (0.002, 0.009, False),  # points that tell themselves, so that the control passes too
        (0.02, 0.009, True),
        (float("nan"), 1.2, True),
    ],
)
def test_what_passes_is_small_and_far_below_a_control_that_fails(share, control, is_refused):
    names = (*encoding_probe.VARIANTS, encoding_probe.ELSEWHERE)
    shares = dict.fromkeys(names, share) | {encoding_probe.CONTROL: control}
    found = {name: encoding_probe.Recovery(1, 1, 1, 1, 0, share) for name, share in shares.items()}
    assert bool(encoding_probe.refusals(found)) == is_refused


def test_the_control_lacks_what_tells_place_and_time_and_nothing_else(batches, normaliser):
    [windows] = (
        encoding_probe.probe_windows(one, normaliser, torch.ones(3)) for one in batches[:1]
    )
    shown, _is_asked = encoding_probe.lossy(windows, torch.Generator())
    assert encoding_probe.SINCE_FIRST[2] == NUM_SPATIAL + TIME
    assert shown.shape[-1] == windows.feature_BTF.shape[-1] - 3
    is_point = windows.is_point_BT
    sign = torch.sign(windows.truth_BT3[is_point])
    told = windows.feature_BTF[is_point][:, list(encoding_probe.SINCE_FIRST)]
    assert torch.equal(torch.sign(told).double(), sign)


def test_a_hidden_point_is_told_by_its_neighbours_alone(batches, normaliser):
    windows = encoding_probe.probe_windows(batches[0], normaliser, torch.ones(3))
    shown, is_hidden = encoding_probe.some_hidden(windows, torch.Generator().manual_seed(0))
    changed = replace(
        windows,
        feature_BTF=torch.where(is_hidden.unsqueeze(-1), torch.nan, windows.feature_BTF).nan_to_num(
            9.0
        ),
    )
    again, same = encoding_probe.some_hidden(changed, torch.Generator().manual_seed(0))
    assert torch.equal(is_hidden, same)
    assert is_hidden.any()
    assert torch.equal(shown[is_hidden], again[is_hidden])
    assert not (is_hidden & ~windows.is_point_BT).any()


def test_the_random_state_of_others_is_left_alone(batches, normaliser, monkeypatch):
    monkeypatch.setattr(encoding_probe, "NUM_STEPS", 20)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = encoding_probe.probe(batches[:1], batches[1:2], normaliser, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert encoding_probe.probe(batches[:1], batches[1:2], normaliser, 0) == first


def test_the_stage_refuses_before_a_model_is_trained(monkeypatch):
    made = ships.good()
    monkeypatch.setattr(encoding_probe, "point_features", coarse)
    config = made.config.model_copy(update={"seed": made.config.seed + 1})
    with without_orchestrator(), pytest.raises(DataError, match="the encoding loses places or"):
        stage.probe_encoding(config, made.shards, made.store)


def test_the_report_tells_what_the_encoding_keeps():
    made = ships.good()
    text = (made.store.folder(made.reported) / "report.html").read_text()
    assert "What the encoding keeps" in text
    for cells in encoding_cells(made.store.folder(made.proved)):
        assert all(cell in text for cell in cells)
