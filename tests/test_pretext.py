"""The pretext gate: a sound encoding passes, and one that loses places or times does not."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import pytest
import ships
import torch

from model import pretext
from model.batch import Batch
from model.data import read_batches
from model.encoding import NUM_SPATIAL, Normaliser, PointFeatures, point_features
from model.shards import Shards
from tasks import pretext as stage
from tasks.errors import DataError
from tasks.stage import without_orchestrator

TIME = 1  # the temporal feature of the seconds since the first point


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    folder = ships.good().store.folder(ships.good().shards)
    return Normaliser.from_json(json.loads((folder / "normaliser.json").read_text()))


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    made = ships.good()
    shards = Shards.open(made.store.folder(made.shards))
    return list(islice(read_batches(shards, "train", 0, 64, 40), 8))


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
    spatial[..., list(pretext.SINCE_FIRST[:2])] = (
        spatial[..., list(pretext.SINCE_FIRST[:2])] * 10
    ).round() / 10
    return replace(seen, spatial_BQS=spatial)


def test_the_encoding_of_the_pipeline_passes():
    made = ships.good()
    told = json.loads((made.store.folder(made.proved) / stage.RECOVERY).read_text())
    found = {name: pretext.Recovery(**values) for name, values in told.items()}
    assert list(found) == list(pretext.VARIANTS)
    assert pretext.refusals(found) == []
    assert found[pretext.CONTROL].p99_share > 0.3


def told(name: str, batches: list[Batch], normaliser: Normaliser) -> pretext.Recovery:
    scale = pretext.scale_of(normaliser)
    windows = [pretext.windows_of(batch, normaliser, scale) for batch in batches]
    return pretext.told(name, windows[::2], windows[1::2], scale, 0)


@pytest.mark.parametrize("encode", [point_features, wrapped, coarse])
def test_an_encoding_that_loses_something_fails(monkeypatch, batches, normaliser, encode):
    monkeypatch.setattr(pretext, "point_features", encode)
    found = told(pretext.FEATURES, batches, normaliser)
    assert (found.p99_share < pretext.MAX_SHARE) == (encode is point_features)


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
    shares = dict.fromkeys(pretext.VARIANTS, share) | {pretext.CONTROL: control}
    found = {name: pretext.Recovery(1, 1, 1, 1, 0, share) for name, share in shares.items()}
    assert bool(pretext.refusals(found)) == is_refused


def test_the_control_lacks_what_tells_place_and_time_and_nothing_else(batches, normaliser):
    [windows] = (pretext.windows_of(one, normaliser, torch.ones(3)) for one in batches[:1])
    shown, _is_asked = pretext.lossy(windows, torch.Generator())
    assert pretext.SINCE_FIRST[2] == NUM_SPATIAL + TIME
    assert shown.shape[-1] == windows.feature_BTF.shape[-1] - 3
    is_point = windows.is_point_BT
    sign = torch.sign(windows.truth_BT3[is_point])
    told = windows.feature_BTF[is_point][:, list(pretext.SINCE_FIRST)]
    assert torch.equal(torch.sign(told).double(), sign)


def test_a_hidden_point_is_told_by_its_neighbours_alone(batches, normaliser):
    windows = pretext.windows_of(batches[0], normaliser, torch.ones(3))
    shown, is_hidden = pretext.some_hidden(windows, torch.Generator().manual_seed(0))
    changed = replace(
        windows,
        feature_BTF=torch.where(is_hidden.unsqueeze(-1), torch.nan, windows.feature_BTF).nan_to_num(
            9.0
        ),
    )
    again, same = pretext.some_hidden(changed, torch.Generator().manual_seed(0))
    assert torch.equal(is_hidden, same)
    assert is_hidden.any()
    assert torch.equal(shown[is_hidden], again[is_hidden])
    assert not (is_hidden & ~windows.is_point_BT).any()


def test_the_random_state_of_others_is_left_alone(batches, normaliser, monkeypatch):
    monkeypatch.setattr(pretext, "NUM_STEPS", 20)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = pretext.pretext(batches[:1], batches[1:2], normaliser, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert pretext.pretext(batches[:1], batches[1:2], normaliser, 0) == first


def test_the_stage_refuses_before_a_model_is_trained(monkeypatch):
    made = ships.good()
    monkeypatch.setattr(pretext, "NUM_STEPS", 50)  # far too few to learn anything
    config = made.config.model_copy(update={"seed": made.config.seed + 1})
    with without_orchestrator(), pytest.raises(DataError, match="the encoding loses places or"):
        stage.pretext(config, made.shards, made.store)


def test_the_report_tells_what_the_encoding_keeps():
    made = ships.good()
    text = (made.store.folder(made.reported) / "report.html").read_text()
    assert "What the encoding keeps" in text
    for cells in stage.recovery_cells(made.store.folder(made.proved)):
        assert all(cell in text for cell in cells)
