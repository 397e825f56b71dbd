"""What this project does, run in its own environment: one process a measurement.

`source` is GeoLife as a folder or a zip; `store` a folder that is made, or that holds an ingest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from bench_clock import Clock, main
from numpy.typing import NDArray

from model.data.streams import prefetched
from tasks.config.datasets import dataset_named
from tasks.config.pipeline import PipelineConfig
from tasks.database import load_in_force, scratch
from tasks.ingest.archive import opened_sources
from tasks.ingest.ingest import SNAPSHOT, snapshot_job
from tasks.ingest.inventory import Member, inventory
from tasks.ingest.readers.formats import reader_named
from tasks.ingest.snapshot import FilesInForce, Snapshot, read_snapshot
from tasks.prepare.clean import clean as clean_stage
from tasks.prepare.clean import screen_points, tripped
from tasks.prepare.row_order import is_new, order_of, ranks
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store

if TYPE_CHECKING:
    import pyarrow as pa  # at run time only after `tasks`, which chooses Arrow's memory pool

CONFIG = PipelineConfig(dataset="geolife")
RADIUS_M, MIN_STAY_S, MAX_GAP_S = 100.0, 300.0, 900.0
PLACED = (
    "select entity_id, source_trip_id, line_number, epoch_us(tracked_at) as tracked_us, "
    "lon_deg, lat_deg from read_parquet($path)"
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
    reader = reader_named(row.decoder)
    with opened_sources([source]) as entries:
        found = [m for m in inventory(entries, row.members) if m.state == "ready"]
        members = [Unhashed(**vars(member)) for member in found]
        with clock.measure("parse") as answers:
            num_records: Counter[int] = Counter()
            sum_lat_deg = sum_lon_deg = 0.0
            num_points = num_malformed = 0
            for block in reader.decode(reader.cut(members), row.layout):
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
    from model.earth import point_rules

    _receipt, snapshot = ingested(store)
    no_points = [np.zeros(0, kind) for kind in (np.bool_, np.int64, np.float64, np.float64)]
    point_rules.stays(*no_points, RADIUS_M, MIN_STAY_S, MAX_GAP_S, True)
    num_stays, stay_us = 0, 0
    with clock.measure("stays") as answers:
        paths = [path for bucket in snapshot.buckets for path, _ids in snapshot.points(bucket)]
        with scratch(store, *{path.parent for path in paths}, is_in_memory=True) as con:
            fetched = (con.sql(PLACED, params={"path": str(p)}).to_arrow_table() for p in paths)
            for rows in prefetched(fetched, 1):
                entity, trip = (ranks(rows[name]) for name in ("entity_id", "source_trip_id"))
                line, tracked_us, lon_deg, lat_deg = (
                    rows[name].to_numpy()
                    for name in ("line_number", "tracked_us", "lon_deg", "lat_deg")
                )
                order = order_of(entity, tracked_us, trip, line)  # that of trackintel
                tracked_us = tracked_us[order]
                first, _last, end = point_rules.stays(
                    is_new(entity[order]),
                    tracked_us,
                    lon_deg[order],
                    lat_deg[order],
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
    from model.earth import point_rules

    receipt, _snapshot = ingested(store)
    point = [np.ones(1, kind) for kind in (np.bool_, np.int64, np.float64, np.float64)]
    point_rules.is_speed_possible(*point, 1.0, 1.0)
    with clock.measure("clean") as answers, without_orchestrator():
        receipts = clean_stage(CONFIG, receipt, Store(store))
    counts = [Store(store).manifest(receipt).counts for receipt in receipts]
    for name in ("points", "kept", "rejected", "trips"):
        answers[name] = sum(float(count[name]) for count in counts)
    answers["lost"] = answers["points"] - answers["kept"] - answers["rejected"]


def stage_rules(clock: Clock, store: Path) -> None:
    """The four rules that pandas is asked for as the stage has them, which screens in SQL."""
    measure_rules(clock, store, rows_by_stage)


def array_rules(clock: Clock, store: Path) -> None:
    """The four rules that pandas is asked for, by the stage's functions on arrays alone."""
    measure_rules(clock, store, rows_by_arrays)


def measure_rules(
    clock: Clock, store: Path, rows_of: Callable[[Path, FilesInForce], pa.Table]
) -> None:
    """One point an instant, in order, within the speed limit, parted at gaps; rows in memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from model.earth import point_rules

    _receipt, snapshot = ingested(store)
    point = [np.ones(1, kind) for kind in (np.bool_, np.int64, np.float64, np.float64)]
    point_rules.is_speed_possible(*point, 1.0, 1.0)
    point_rules.steps_m(*point[2:])
    with clock.measure("rules") as answers:
        rows = pa.concat_tables(
            [rows_of(store, snapshot.points(bucket)) for bucket in snapshot.buckets]
        )
    answers["kept"] = rows.num_rows
    answers["segments"] = pc.count_distinct(rows["first_point_id"]).as_py()
    answers["check_sum"] = check_sum(rows["point_id"].to_numpy())


def rows_by_stage(store: Path, files: FilesInForce) -> pa.Table:
    with scratch(store, *{path.parent for path, _ids in files}, is_in_memory=True) as con:
        load_in_force(con, "int_points_in_force", files)
        screen_points(con, CONFIG.clean_rules)
        return con.sql("from int_points_tripped").to_arrow_table()


def rows_by_arrays(store: Path, files: FilesInForce) -> pa.Table:
    [(path, _ids)] = files
    with scratch(store, path.parent, is_in_memory=True) as con:
        query = PLACED.replace("select", "select point_id,", 1)
        rows = con.sql(query, params={"path": str(path)}).to_arrow_table()
        keys = ranks(rows["entity_id"]), rows["tracked_us"].to_numpy()
        order = order_of(*keys, ranks(rows["source_trip_id"]), rows["line_number"].to_numpy())
        is_first_N = np.ones(rows.num_rows, np.bool_)
        is_first_N[order] = is_new(*(key[order] for key in keys))
        tracked = rows.filter(is_first_N)
        limits = CONFIG.clean_rules.max_speed_mps, CONFIG.clean_rules.max_gap_s
        con.register("tracked", tracked)
        con.register("reached", tripped(tracked, *limits))
        return con.sql("from tracked inner join reached using (point_id)").to_arrow_table()


def check_sum(point_id: NDArray[np.int64]) -> float:
    """A number that two lists of ids share only if they hold the same ones."""
    return float(np.bitwise_xor.reduce(point_id) % 2**53)


if __name__ == "__main__":
    main(
        {
            "parse": parse,
            "ingest": ingest,
            "stays": stays,
            "clean": clean,
            "stage-rules": stage_rules,
            "array-rules": array_rules,
        }
    )
