"""Shards: the trips of each split as rows of lists, the stored windows, and the normaliser.

What a file holds depends on the clean points alone: rows stand in the order of trip ids, and a row
group ends with the trip that fills it. Neither threads nor the layout of parts change a byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import sql
from model.data.streams import gathered
from tasks import database
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import SplitRules, WindowRules
from tasks.prepare import windows
from tasks.prepare.conventions import SPLITS
from tasks.runtime.errors import DataError
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

GROUP_POINTS = 200_000  # a row group ends with the trip that reaches this
BATCH_POINTS = 65_536
QUANTILES = ("p10", "p50", "p90")
MEASURES = ("step_s", "speed_mps", "step_m")
NAMES = ("dataset", "entity_id", "trip_id", "split")
TRIP_COLUMNS = {**dict.fromkeys(NAMES, pa.string()), "started_at": pa.timestamp("us", tz="UTC")}
POINT_COLUMNS = {
    **dict.fromkeys(("t_s", "lon_deg", "lat_deg"), pa.list_(pa.float64())),
    **dict.fromkeys(
        ("step_s", "step_east_m", "step_north_m", "speed_mps", "turn_rad"), pa.list_(pa.float32())
    ),
}
# The velocity over ground that a source reports: shards of one that reports none lack them.
MOTION_COLUMNS = dict.fromkeys(("reported_east_mps", "reported_north_mps"), pa.list_(pa.float32()))
# Bytes of like place side by side: smaller than dictionaries of numbers, and read sooner.
ENCODING = {
    "compression": "lz4",
    "use_dictionary": [*NAMES],
    "write_page_checksum": True,
}
CHECKS = (
    "checks/shards_conserve_points",
    "checks/shards_are_whole",
    "checks/splits_share_no_points",
)
# What else must hold for a kind of split.
CHECK_OF_KIND = {
    "entity": "checks/shards_share_no_entity",
    "time": "checks/purge_gap_is_kept",
    "region": "checks/region_is_held_out",
}
SQL = (
    "intermediate/int_points_parted",
    "marts/shard_trips",
    "marts/shard_points",
    "marts/normaliser",
    "checks/normaliser_is_of_train",
    "reports/reported_motion",
    *windows.SQL,
    *CHECKS,
    "checks/shards_report_motion",
    *CHECK_OF_KIND.values(),
)


def shards(
    config: PipelineConfig,
    cleaned: Sequence[Receipt],
    featured: Sequence[Receipt],
    split: Receipt,
    regions: Receipt,
    store: Store,
) -> Receipt:
    """The shards of a dataset; `featured` holds the features of `cleaned`, in the same order."""
    inputs: dict[str, Input] = {
        # They name the files that are made of the cleaned points.
        "buckets": [str(store.manifest(step).recipe.inputs["bucket"]) for step in cleaned],
        "cleaned": cleaned,
        "featured": featured,
        "split": split,
        "regions": regions,
    }
    licence = config.source_row.licence
    return STAGE(STAGE.job(config.dataset, config.window_rules, inputs, store, licence=licence))


def build(draft: Path, job: Job[WindowRules]) -> Counts:
    """Write all shards, the windows and the normaliser, then read them back and check."""
    cleaned, featured = job.receipts("cleaned"), job.receipts("featured")
    drawn, fitted = job.folder("split"), job.folder("regions")
    clean_folders = [job.store.folder(receipt) for receipt in cleaned]
    feature_folders = [job.store.folder(receipt) for receipt in featured]
    with database.scratch(draft, *clean_folders, *feature_folders, drawn, fitted) as con:
        database.load(con, "split", drawn / "split.parquet")
        database.load(con, "regions", fitted / "regions.parquet")
        view_tables(con, clean_folders, feature_folders)
        longest_s = windows.longest_step_s(con)
        [(is_motion_reported,)] = con.execute(sql.read("reports/reported_motion")).fetchall()
        columns = POINT_COLUMNS | (MOTION_COLUMNS if is_motion_reported else {})
        buckets = zip(job.inputs["buckets"], clean_folders, feature_folders, strict=True)
        for bucket, clean, features in buckets:
            view_tables(con, [clean], [features])
            write_bucket(con, draft, job.dataset, str(bucket), columns)
            windows.add_windows(con, job.settings, longest_s)
        view_tables(con, clean_folders, feature_folders)
        files = {split: sorted(draft.glob(f"{split}-[0-9]*.parquet")) for split in SPLITS}
        database.view(con, "shards", [path for split in sorted(SPLITS) for path in files[split]])
        windows.write_windows(con, draft / "windows.parquet", job.settings.resolution)
        write_normaliser(con, draft / "normaliser.json")
        check_shards(con, job.settings.split)
        if is_motion_reported:
            database.check(con, "checks/shards_report_motion")
        windows.check_windows(con, job.settings)
        counts = count_shards(con) | windows.count_windows(con, files, is_motion_reported)
        counts["longest_step_s"] = longest_s or 0.0
    require_windows(counts)
    told = job.receipt("split").counts
    facts = {"split_kind": "kind", "is_leaky": "is_leaky", "split_hash": "split_hash"}
    return counts | {name: told[fact] for name, fact in facts.items()}


def view_tables(
    con: database.Connection, cleaned: Sequence[Path], featured: Sequence[Path]
) -> None:
    """Let the tables of the earlier stages stand for the files of these folders."""
    database.view_files(con, cleaned, "clean_points", "trips")
    database.view_files(con, featured, "steps")


def write_bucket(
    con: database.Connection,
    draft: Path,
    dataset: str,
    bucket: str,
    columns: Mapping[str, pa.DataType],
) -> None:
    """Write one file for each split that has trips in the bucket, with these lists of points."""
    database.materialise(con, "intermediate/int_points_parted")
    database.materialise(con, "marts/shard_trips")
    trips = con.sql("select * from shard_trips order by trip_number").to_arrow_table()
    names = pa.array([dataset] * trips.num_rows, pa.string())
    trips = trips.append_column("dataset", names)
    groups = {
        split: list(cut_groups(trips.filter(pc.equal(trips["split"], split))))
        for split in sorted(SPLITS)
    }
    sizes = [pc.sum(group["num_points"]).as_py() for found in groups.values() for group in found]
    reader = con.sql(sql.read("marts/shard_points")).to_arrow_reader(BATCH_POINTS)
    points = database.regrouped(reader, sizes)
    for split, found in groups.items():
        if found:
            write_trips(draft / f"{split}-{bucket}.parquet", found, points, columns)


def write_trips(
    path: Path,
    groups: Sequence[pa.Table],
    points: Iterator[pa.Table],
    columns: Mapping[str, pa.DataType],
) -> None:
    """Write groups of trips as rows of lists; the points of each are the next of `points`."""
    schema = pa.schema({**TRIP_COLUMNS, **columns})
    encoded = {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in columns}
    with pq.ParquetWriter(path, schema, column_encoding=encoded, **ENCODING) as writer:
        for group in groups:
            table = with_points(group, next(points), columns)
            writer.write_table(table, row_group_size=table.num_rows)


def cut_groups(trips: pa.Table, group_points: int = GROUP_POINTS) -> Iterator[pa.Table]:
    """Consecutive trips, cut after each trip that brings a group to `group_points`."""
    start = 0
    for group in gathered(trips["num_points"].to_pylist(), int, group_points):
        yield trips.slice(start, len(group))
        start += len(group)


def with_points(trips: pa.Table, flat: pa.Table, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """Rows of a shard: trips with the lists of their points, cut out of flat columns."""
    ends = np.cumsum(trips["num_points"].to_numpy())
    if ends[-1] > flat.num_rows:
        raise DataError(f"trips name {ends[-1] - flat.num_rows} points more than there are")
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    found = {name: trips[name].cast(kind).combine_chunks() for name, kind in TRIP_COLUMNS.items()}
    found |= {
        name: pa.ListArray.from_arrays(offsets, flat[name].combine_chunks(), type=kind)
        for name, kind in columns.items()
    }
    return pa.table(found)


def write_normaliser(con: database.Connection, path: Path) -> None:
    """Write the quantiles of the training steps, one measure after the other."""
    fitted = {}
    for measure in MEASURES:
        database.materialise(con, "marts/normaliser", measure=measure)
        database.check(con, "checks/normaliser_is_of_train")
        [(num_steps, deciles)] = con.execute("select num_steps, deciles from normaliser").fetchall()
        if not num_steps:
            raise DataError("the training split has no step to fit the normaliser on")
        fitted[measure] = dict(zip(QUANTILES, deciles, strict=True))
    path.write_text(json.dumps({"num_steps": num_steps, **fitted}, indent=2) + "\n", "utf-8")


def check_shards(con: database.Connection, rules: SplitRules) -> None:
    """Hold what was written against the clean points, the split and its kind."""
    for name in CHECKS:
        database.check(con, name)
    if rules.kind in CHECK_OF_KIND:
        database.check(con, CHECK_OF_KIND[rules.kind], **rules.model_dump())


def count_shards(con: database.Connection) -> Counts:
    """Trips, or parts of them, and points by split, and the points that belong to none."""
    rows = con.execute(
        "select split, count(*), sum(len(t_s))::bigint from shards group by split"
    ).fetchall()
    sizes = {split: (num_trips, num_points) for split, num_trips, num_points in rows}
    counts: Counts = {}
    for split in SPLITS:
        counts[f"trips_{split}"], counts[f"points_{split}"] = sizes.get(split, (0, 0))
    kept = sum(num_points for _, num_points in sizes.values())
    return counts | {"points_purged": database.count_rows(con, "clean_points") - kept}


def require_windows(counts: Counts) -> None:
    """Refuse shards without a window to train, validate or test on."""
    empty = [name for name in SPLITS if not counts[f"windows_{name}"]]
    if empty:
        trips = ", ".join(f"{counts[f'trips_{name}']} trips in {name}" for name in SPLITS)
        raise DataError(
            f"no trip in {' and '.join(empty)} is long enough for a window ({trips}); give more "
            "data, shorter windows (--window.num_context, --window.num_horizon), or another --seed"
        )


STAGE = Stage("shards", build, SQL)
