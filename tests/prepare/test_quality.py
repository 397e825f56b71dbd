"""The quality report: right numbers, no place of a person, and there when a source is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.raw_files import STORM_TAIL, ingested, plt, plt_line, tree, walk

from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import SplitConfig, WindowConfig
from tasks.ingest.ingest import ingest
from tasks.prepare import clean, step_features
from tasks.prepare.regions import regions
from tasks.prepare.split import split
from tasks.report.quality import quality, refusal_reported
from tasks.runtime.errors import TooManyRejected
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

SHARED = SplitConfig(kind="time", validation_percent=30, test_percent=30)
SHORT = WindowConfig(num_context=2, num_horizon=1)


def reported(config: PipelineConfig, snapshot: Receipt, store: Store) -> Path:
    """The folder of the report of a snapshot that goes through cleaning, features and regions."""
    # Split in time, with short windows, so that one entity is enough.
    config = config.model_copy(update={"split": SHARED, "window": SHORT})
    with without_orchestrator():
        cleaned = clean.clean(config, snapshot, store)
        featured = step_features.features(config, cleaned, store)
        known = regions(config, cleaned, split(config, cleaned, store), store)
        return store.folder(quality(config, snapshot, cleaned, featured, known, store))


def users(folder: Path, num_users: int) -> Path:
    """Users who walk the same way: 36 points each, five seconds and 11.1 m apart."""
    names = [f"Data/{number:03d}/Trajectory/a.plt" for number in range(num_users)]
    return tree(folder, {name: walk(60 * number, 36) for number, name in enumerate(names)})


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> Path:
    """The report on five users."""
    store = Store(tmp_path_factory.mktemp("crowd") / "store")
    store.prepare()
    source = users(tmp_path_factory.mktemp("raw"), 5)
    return reported(PipelineConfig(dataset="geolife"), ingested(source, store), store)


def test_the_numbers_are_those_of_the_points(crowd: Path):
    found = json.loads((crowd / "quality.json").read_text())
    records = found["records"]
    assert (records["num_records"], records["num_kept"], records["num_rejected"]) == (180, 180, 0)
    assert found["cleaning"]["kept"] == 180
    assert found["steps"]["step_s"]["p50"] == found["steps"]["step_s"]["p99"] == 5.0
    assert found["steps"]["step_s"]["num_steps"] == 175
    assert found["steps"]["speed_mps"]["p50"] == pytest.approx(11.1195 / 5, rel=1e-3)
    assert found["gaps"]["num_silences"] == 0
    assert found["copies"]["num_files_of_equal_content"] == 0
    told = found["regions"]
    assert told["points_train"] == 5 * 10  # of 36 four in ten, less what is near the border
    assert told["points_train_unseen_share"] == 0
    assert (
        "share of points of test in a cell where train never was"
        in (crowd / "quality.md").read_text()
    )
    assert {path.name for path in crowd.glob("*.png")} == {"step_s.png", "speed_mps.png", "map.png"}
    assert "share rejected" in (crowd / "quality.md").read_text()


def test_the_page_needs_no_network_and_runs_nothing(crowd: Path):
    text = (crowd / "quality.html").read_text()
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert text.count("data:image/png;base64,") == 3


def test_equal_data_give_equal_bytes(crowd: Path, store: Store, tmp_path):
    source = users(tmp_path / "raw", 5)
    other = reported(PipelineConfig(dataset="geolife"), ingested(source, store), store)
    assert other.name == crowd.name
    names = sorted(path.name for path in crowd.iterdir() if path.name != "manifest.json")
    assert [(other / name).read_bytes() for name in names] == [
        (crowd / name).read_bytes() for name in names
    ]


def test_cells_of_few_people_are_not_told(crowd: Path, store: Store, tmp_path):
    """Five users are enough for a cell, four are not."""
    source = users(tmp_path / "raw", 4)
    few = reported(PipelineConfig(dataset="geolife"), ingested(source, store), store)
    for folder, num_cells in ((crowd, 1), (few, 0)):
        found = json.loads((folder / "quality.json").read_text())
        assert found["extent"]["num_cells"] == num_cells
        assert (folder / "map.png").exists() == bool(num_cells)
    for name in ("quality.json", "quality.html", "quality.md"):
        assert "48.0" not in (few / name).read_text()


def test_where_nobody_is_a_person_every_cell_is_told(store: Store, tmp_path):
    rows = [
        f"201901{1 + n // 4:02d}, {n % 4 * 6:02d}00,  , TS, {20 + n * 0.6:.1f}N,  50.0W,  35, 1000"
        + STORM_TAIL
        for n in range(30)
    ]
    text = "\n".join(["AL012019,            MADE,     30,", *rows, ""])
    source = tree(tmp_path / "raw", {"made-hurdat2.txt": text.encode()})
    folder = reported(PipelineConfig(dataset="hurdat2"), ingested(source, store, "hurdat2"), store)
    found = json.loads((folder / "quality.json").read_text())
    assert (found["records"]["num_kept"], found["extent"]["num_cells"]) == (30, 30)


def test_a_refused_source_is_reported(store: Store, tmp_path):
    """Two of four records are out of range, and five in a hundred may be."""
    lines = [plt_line(0), plt_line(5), plt_line(10, lat_deg=400.5), plt_line(15, lat_deg=-400.5)]
    source = tree(tmp_path / "raw", {"Data/000/Trajectory/a.plt": plt(*lines)})
    config = PipelineConfig(dataset="geolife")
    with (
        without_orchestrator(),
        pytest.raises(TooManyRejected, match=r"2 of 4 records.*quality\.html"),
        refusal_reported(config, store),
    ):
        ingest(config, str(source), store)
    [page] = store.root.glob("quality/geolife/*/quality.html")
    found = json.loads((page.parent / "quality.json").read_text())
    assert found["records"]["rejected_out_of_range"] == 2
    assert found["worst_files"] == [{"name": "000/Trajectory/a.plt", "num_rejected": 2}]
    assert "50.00% (at most 5% may be)" in page.read_text()
