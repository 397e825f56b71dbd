"""Hostile names of places: a store or a source anywhere works, or is refused before it begins."""

from __future__ import annotations

import json
import warnings
import zipfile

import pyarrow.parquet as pq
import pytest
from helpers.fault_runs import child, content, finished, prepare, storm_file, whole
from helpers.raw_files import walk, zipped
from helpers.storms import storms

from tasks.config.pipeline import ForecastConfig, PipelineConfig
from tasks.ingest.ingest import SNAPSHOT, snapshot_job
from tasks.release.bundle import example_points
from tasks.runtime.errors import StorageError
from tasks.runtime.store import Store
from tasks.serve.batch_predict import forecast_file

ODD = {
    "brackets": "a[1]",
    "star": "a*b",
    "back slash": "back\\slash",
    "quote": "it's; drop table x; --",
    "flag": "-rf",
    "partition": "lat_deg=1",  # what readers of Parquet take for a column, if they may
    "percent": "50% #&=+$(x)",
    "letters": "u\u0308 \u00fc \u822a\u8de1",
    "255 bytes": "x" * 255,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_source_in_a_folder_of_any_name_is_that_folder(tmp_path, odd):
    """Beside it lies what its name would match as a pattern."""
    for name, number in ((odd, 40), ("a1", 3), ("axb", 3)):
        (tmp_path / name).mkdir(exist_ok=name == odd)
        (tmp_path / name / "hurdat2-made-up.txt").write_text(storms(number, 16))
    store = Store(tmp_path / "store")
    source = str(tmp_path / odd / "hurdat2-made-up.txt")
    snapshot = SNAPSHOT.plain(snapshot_job(PipelineConfig(), source, store))
    assert snapshot.counts["num_points"] == 640


EVERY_SIGN = "a[1]* it's lat_deg=1 50% #&=+$(x)"  # those of the others in one name


@pytest.mark.parametrize(
    ("odd", "alike"),
    [
        (EVERY_SIGN, EVERY_SIGN.replace("[1]*", "1")),
        *(
            pytest.param(odd, "a1", marks=pytest.mark.slow)
            for odd in ODD.values()
            if "\\" not in odd
        ),
    ],
)
def test_a_store_of_any_name_holds_what_another_does(tmp_path, odd, alike):
    """Beside it lies one of other data, which its name would match as a pattern."""
    source = storm_file(tmp_path)
    prepare(tmp_path / "plain" / "store", source)
    prepare(tmp_path / alike / "store", storm_file(tmp_path, "hurdat2-other.txt"))
    prepare(tmp_path / odd / "store", source)
    assert content(tmp_path / odd / "store") == content(tmp_path / "plain" / "store")


@pytest.mark.slow
def test_a_model_is_registered_and_answers_in_a_store_of_any_name(tmp_path):
    root = tmp_path / "a[1]* it's lat_deg=1 50%#u\u0308" / "store"
    version = whole(root, storm_file(tmp_path))
    for folder in (tmp_path, root.parent):
        pq.write_table(example_points(), folder / "points.parquet")
        told = forecast_file(
            ForecastConfig(model=f"models:/{version.name}@candidate", horizon=2, num_samples=8),
            str(folder / "points.parquet"),
            str(folder / "answer.parquet"),
            Store(root),
        )
        assert told.num_trajectories == 1
    answers = [folder.joinpath("answer.parquet").read_bytes() for folder in (tmp_path, root.parent)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("odd", ["a?b", "a\nb", "50%25", "a%2fb", ODD["back slash"]])
def test_a_store_that_cannot_be_read_is_refused_at_the_start(tmp_path, odd):
    with pytest.raises(StorageError, match="no store can be below") as caught:
        Store(tmp_path / odd).prepare()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / odd).exists()


# Archives that were made to hurt, each read by a process of its own, whose memory is measured.
READING = """
import json, resource, sys
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.ingest import SNAPSHOT, snapshot_job
from tasks.runtime.errors import FoundryError
from tasks.runtime.store import Store

told, points = "", 0
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = Store(sys.argv[2])
try:
    job = snapshot_job(PipelineConfig(dataset="geolife"), sys.argv[1], store)
    points = SNAPSHOT.plain(job).counts["num_points"]
except FoundryError as error:
    told = f"{error.exit_code}: {error}"
grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1e3
print(json.dumps([told, points, grown_mb]))
"""


def bomb(folder, num_mb: int):
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        with made.open("Data/000/Trajectory/a.plt", "w", force_zip64=True) as member:
            for _ in range(num_mb):
                member.write(bytes(1 << 20))
    return path


def slip(folder):
    files = {"Data/000/Trajectory/a.plt": walk(0, 9), "../../evil.plt": walk(0, 9)}
    return zipped(folder / "slip.zip", files)


def contradicting(folder):
    path = folder / "twice.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as made:
        warnings.simplefilter("ignore")
        for number in (9, 10):
            made.writestr("Data/000/Trajectory/a.plt", walk(0, number))
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: bomb(folder, 512), "1 of 1 records were rejected"),
        (slip, "hostile name"),
        (contradicting, ""),
    ],
    ids=["bomb", "slip", "one name twice"],
)
def test_an_archive_that_was_made_to_hurt_is_refused_in_flat_memory(tmp_path, make, words):
    source, store = make(tmp_path), tmp_path / "store"
    code, said, complained = finished(child(READING, source, store), timeout_s=120)
    assert code == 0, complained
    told, points, grown_mb = json.loads(said)
    assert told.startswith("3: ")
    assert words in told
    assert points == 0
    assert grown_mb < 200
    assert not list(tmp_path.parent.glob("evil*"))
