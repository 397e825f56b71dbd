"""What this project does, run in its own environment: one process a measurement.

`source` is GeoLife as a folder or a zip; `store` a folder that is made, or that holds an ingest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_clock import Clock, main

from tasks.archive import Member, inventory, opened
from tasks.clean import STAGE as CLEAN
from tasks.clean import clean_jobs
from tasks.config import PipelineConfig
from tasks.database import scratch
from tasks.datasets import dataset_named
from tasks.formats import FORMATS
from tasks.ingest import SNAPSHOT, snapshot_job
from tasks.snapshot import Snapshot, read_snapshot
from tasks.store import Receipt, Store

CONFIG = PipelineConfig(dataset="geolife")
RADIUS_M, MIN_STAY_S, MAX_GAP_S = 100.0, 300.0, 900.0
IN_TRACKINTELS_ORDER = (
    "select entity_id, epoch_us(tracked_at) as tracked_us, lon_deg, lat_deg "
    "from read_parquet($path) order by entity_id, tracked_at, source_trip_id, line_number"
)


class Unhashed(Member):
    """A file whose bytes are not compared with the inventory."""

    def chunks(self) -> Iterator[bytes]:
        return self.entry.chunks()


def parse(clock: Clock, source: Path) -> None:
    """Raw files to typed records, each with its file, line and id, all of them counted.

    To hash them, before they are read and again meanwhile, is part of `ingest`, not of this.
    """
    import pyarrow.compute as pc

    row = dataset_named(CONFIG.dataset)
    with opened([source]) as entries:
        found = [m for m in inventory(entries, row.members) if m.state == "ready"]
        members = [Unhashed(**vars(member)) for member in found]
        with clock.measure("parse") as answers:
            num_records: Counter[int] = Counter()
            sum_lat_deg = sum_lon_deg = 0.0
            num_points = num_malformed = 0
            for block in FORMATS[row.decoder].decode(FORMATS[row.decoder].cut(members)):
                num_records += block.num_records
                num_points += block.records.num_rows
                num_malformed += len(block.malformed)
                sum_lat_deg += pc.sum(block.records["lat_deg"]).as_py()
                sum_lon_deg += pc.sum(block.records["lon_deg"]).as_py()
    answers |= {"points": num_points, "sum_lat_deg": sum_lat_deg, "sum_lon_deg": sum_lon_deg}
    answers["lost"] = num_records.total() - num_points - num_malformed


def ingest(clock: Clock, source: Path, store: Path) -> None:
    """The whole stage: inventory, hashes, staging, rejects, ledger, Parquet, manifests."""
    with clock.measure("ingest") as answers:
        receipt = SNAPSHOT.plain(snapshot_job(CONFIG, str(source), Store(store)))
    counts = Store(store).manifest(receipt).counts
    answers["points"] = float(counts["num_points"])
    answers["lost"] = float(
        int(counts["num_records"]) - int(counts["num_points"]) - int(counts["num_rejected"])
    )


def ingested(store: Path) -> tuple[Receipt, Snapshot]:
    """The one snapshot of a store."""
    [manifest] = Store(store).published(SNAPSHOT.name, CONFIG.dataset)
    receipt = Store(store).receipt(manifest.recipe)
    return receipt, read_snapshot(Store(store), receipt)


def stays(clock: Clock, store: Path) -> None:
    """Stays of the raw points, from the Parquet files on; the kernel is compiled before."""
    from model import kernels

    _receipt, snapshot = ingested(store)
    no_points = [np.zeros(0, kind) for kind in (np.bool_, np.int64, np.float64, np.float64)]
    kernels.stays(*no_points, RADIUS_M, MIN_STAY_S, MAX_GAP_S, True)
    num_stays, stay_us = 0, 0
    with clock.measure("stays") as answers:
        paths = [path for bucket in snapshot.buckets for path, _ids in snapshot.points(bucket)]
        with scratch(store, *{path.parent for path in paths}) as con:
            for path in paths:
                rows = con.sql(IN_TRACKINTELS_ORDER, params={"path": str(path)}).to_arrow_table()
                entity_id = rows["entity_id"].combine_chunks().dictionary_encode()
                entity = entity_id.indices.to_numpy()
                tracked_us = rows["tracked_us"].to_numpy()
                first, _last, end = kernels.stays(
                    np.r_[True, entity[1:] != entity[:-1]],
                    tracked_us,
                    rows["lon_deg"].to_numpy(),
                    rows["lat_deg"].to_numpy(),
                    RADIUS_M,
                    MIN_STAY_S,
                    MAX_GAP_S,
                    True,
                )
                num_stays += first.size
                stay_us += int((tracked_us[end] - tracked_us[first]).sum())
    answers |= {"stays": num_stays, "stay_s": stay_us / 1e6}


def clean(clock: Clock, store: Path) -> None:
    """The whole stage: every rule, exact, with rejects, trips, checks and Parquet files."""
    from model import kernels

    receipt, _snapshot = ingested(store)
    point = [np.ones(1, kind) for kind in (np.bool_, np.int64, np.float64, np.float64)]
    kernels.is_speed_possible(*point, 1.0, 1.0)
    with clock.measure("clean") as answers:
        receipts = [CLEAN.plain(job) for job in clean_jobs(CONFIG, receipt, Store(store))]
    counts = [Store(store).manifest(receipt).counts for receipt in receipts]
    for name in ("points", "kept", "rejected", "trips"):
        answers[name] = sum(float(count[name]) for count in counts)
    answers["lost"] = answers["points"] - answers["kept"] - answers["rejected"]


if __name__ == "__main__":
    main({"parse": parse, "ingest": ingest, "stays": stays, "clean": clean})
