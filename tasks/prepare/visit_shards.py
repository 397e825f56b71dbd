"""Shards of visits: the visits of each entity and split as a row of lists, and what train tells.

Beside the rows stand the stored windows, of next visits and of gaps to be filled, and the places
(`model/features/places.py`): the vocabulary of regions, their local frame, and the scales of the
inputs, fitted on train alone.

A visit stands at the centre of its region, its very place beside it. Its stay ends in its split:
where the record of the split ends with it, it is censored. The travel to a visit is known where its
way was seen: within one trip, after a stay that ended. A visit that begins in no split, within
a purge gap, is counted and left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.data.streams import gathered
from model.earth.cells import centres_of
from tasks import database
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import VisitRules
from tasks.prepare.conventions import SPLITS
from tasks.runtime.errors import DataError
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.features.places import Places

MIN_INFILLED, MAX_INFILLED = 4, 100  # visits of a window with gaps, and such windows of a split
GROUP_VISITS = 20_000  # a row group ends with the entity that reaches this
LISTS = {
    "region_id": pa.int32(),
    "arrived_us": pa.int64(),
    **dict.fromkeys(("duration_s", "travel_s", "lon_deg", "lat_deg"), pa.float64()),
    **dict.fromkeys(("exact_lon_deg", "exact_lat_deg"), pa.float64()),
    **dict.fromkeys(("is_censored", "is_way_seen"), pa.bool_()),
}
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("dataset", "entity_id", "split"), pa.string()),
        **{name: pa.list_(kind) for name, kind in LISTS.items()},
    }
)
CHECKS = ("checks/visit_shards_conserve_visits", "checks/visit_windows_match_shards")
SQL = (
    "intermediate/int_point_splits",
    "intermediate/int_visit_ends",
    "marts/shard_visits",
    "marts/visit_rows",
    "marts/visit_scales",
    "marts/stored_visit_windows",
    *CHECKS,
)


def visit_shards(
    config: PipelineConfig,
    cleaned: Sequence[Receipt],
    split: Receipt,
    regions: Receipt,
    store: Store,
) -> Receipt:
    """The shards of the visits of a dataset, told by its regions."""
    inputs: dict[str, Input] = {"cleaned": cleaned, "split": split, "regions": regions}
    licence = config.source_row.licence
    return STAGE(STAGE.job(config.dataset, config.visit_rules, inputs, store, licence=licence))


def build(draft: Path, job: Job[VisitRules]) -> Counts:
    """Write the rows, the windows and the places, read back what was written, and check."""
    cleaned = [job.store.folder(receipt) for receipt in job.receipts("cleaned")]
    drawn, fitted = job.folder("split"), job.folder("regions")
    with database.scratch(draft, *cleaned, drawn, fitted) as con:
        database.load(con, "split", drawn / "split.parquet")
        database.load(con, "regions", fitted / "regions.parquet")
        database.load(con, "region_visits", fitted / "visits.parquet")
        database.load(con, "visit_windows", fitted / "visit_windows.parquet")
        end_visits(con, cleaned, job.settings)
        place_visits(con)
        files = write_rows(con, draft, job.dataset)
        database.view(con, "visit_shards", files)
        write_windows(con, draft / "windows.parquet", job.settings.seed)
        for name in CHECKS:
            database.check(con, name)
        places = fitted_places(con, job.settings)
        database.view_files(con, cleaned, "visits")
        counts = count_visits(con)
    (draft / "places.json").write_text(json.dumps(places.to_json(), indent=2) + "\n", "utf-8")
    require_windows(counts)
    told = job.receipt("split").counts
    facts = {"split_kind": "kind", "is_leaky": "is_leaky", "split_hash": "split_hash"}
    return (
        counts | {"regions": len(places.cells)} | {name: told[fact] for name, fact in facts.items()}
    )


def end_visits(con: database.Connection, cleaned: Sequence[Path], rules: VisitRules) -> None:
    """Tell of each stay how far its split saw it, bucket by bucket, in `all_visit_ends`."""
    for folder in cleaned:
        database.view_files(con, [folder], "clean_points")
        database.materialise(con, "intermediate/int_point_splits")
        database.materialise(con, "intermediate/int_visit_ends", max_gap_s=rules.max_gap_s)
        database.append(con, "int_visit_ends", "all_visit_ends")


def place_visits(con: database.Connection) -> None:
    """Make `shard_visits`, each at the centre of its cell; refuse what holds nothing to learn."""
    from model.features.places import NUM_SPECIAL

    cells = con.sql("select distinct cell from region_visits order by cell").to_arrow_table()
    lon_deg_N, lat_deg_N = centres_of(cells["cell"].to_numpy())
    centres = {"lon_deg": lon_deg_N, "lat_deg": lat_deg_N}
    con.register("cell_centres", pa.table({"cell": cells["cell"], **centres}))
    database.materialise(con, "marts/shard_visits", num_special=NUM_SPECIAL)
    query = "select count(*) from shard_visits where split = 'train' and visit_number > 0"
    [(num_next,)] = con.execute(query).fetchall()
    if not num_next:
        raise DataError(
            "no entity in train has two visits, so there is no next visit to learn from; allow "
            "shorter stays (--stay.min_stay_s) or longer silences in them (--stay.max_gap_s)"
        )


def write_rows(con: database.Connection, draft: Path, dataset: str) -> list[Path]:
    """Write one file for each split that has visits."""
    database.materialise(con, "marts/visit_rows")
    rows = con.sql("select * from visit_rows order by split, entity_id").to_arrow_table()
    rows = rows.append_column("dataset", pa.array([dataset] * len(rows), pa.string()))
    files = []
    for split in sorted(SPLITS):
        found = rows.filter(pc.equal(rows["split"], split)).select(SCHEMA.names).cast(SCHEMA)
        if len(found):
            files.append(draft / f"{split}-000.parquet")
            write_groups(files[-1], found)
    return files


def write_groups(path: Path, rows: pa.Table) -> None:
    """Write rows in groups, each closed by the entity that fills it."""
    start, sizes = 0, pc.list_value_length(rows["region_id"]).to_pylist()
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for group in gathered(sizes, int, GROUP_VISITS):
            writer.write_table(rows.slice(start, len(group)), row_group_size=len(group))
            start += len(group)


def write_windows(con: database.Connection, path: Path, seed: int) -> None:
    """Write the windows of next visits, and those with gaps that are to be filled."""
    from model.interface.infilling import HIDDEN_SHARE

    database.materialise(
        con,
        "marts/stored_visit_windows",
        seed=seed,
        hidden_share=HIDDEN_SHARE,
        min_infilled=MIN_INFILLED,
        max_infilled=MAX_INFILLED,
    )
    database.write_query(con, "select * from stored_visit_windows order by window_id, task", path)


def fitted_places(con: database.Connection, rules: VisitRules) -> Places:
    """The places of the regions that train knows, around their centroid, and its scales."""
    import torch

    from model.earth.geometry import middle_of, step_between
    from model.features.normaliser import Quantiles
    from model.features.places import Places

    query = "select cell, num_train from regions where kind = 'visit' order by region_id"
    known = con.sql(query).to_arrow_table()
    if not len(known):
        raise DataError(
            "train knows no region of visits; allow rarer ones (--region.min_count) or larger "
            "cells (--region.resolution)"
        )
    cell_R, num_train_R = (known[name].to_numpy() for name in ("cell", "num_train"))
    lon_deg_R, lat_deg_R = map(torch.from_numpy, centres_of(cell_R))
    lon_deg, lat_deg = middle_of(lon_deg_R, lat_deg_R, torch.tensor(num_train_R.astype(np.float64)))
    east_m_R, north_m_R = step_between(lon_deg, lat_deg, lon_deg_R, lat_deg_R)
    centroid: dict[str, database.Value] = {"lon_deg": float(lon_deg), "lat_deg": float(lat_deg)}
    max_history = rules.max_history
    database.materialise(con, "marts/visit_scales", max_history=max_history, **centroid)
    [scales] = con.table("visit_scales").to_arrow_table().to_pylist()
    measures = ("duration_s", "travel_s", "distance_m")
    return Places(
        resolution=rules.resolution,
        cells=tuple(cell_R.tolist()),
        centroid_lon_deg=centroid["lon_deg"],
        centroid_lat_deg=centroid["lat_deg"],
        east_m=tuple(east_m_R.tolist()),
        north_m=tuple(north_m_R.tolist()),
        min_stay_s=rules.min_stay_s,
        **(scales | {name: Quantiles(*scales[name]) for name in measures}),
    )


def count_visits(con: database.Connection) -> Counts:
    """Visits, entities and windows by split; visits in no split, and those that are not known."""
    query = """
        select split, count(*), count(distinct entity_id), count(*) filter (where is_censored),
            count(*) filter (where region_id = 0)
        from shard_visits group by split
    """
    rows = {split: sizes for split, *sizes in con.execute(query).fetchall()}
    names = ("visits", "entities", "visits_censored", "visits_unknown")
    counts: Counts = {
        f"{name}_{split}": size
        for split in SPLITS
        for name, size in zip(names, rows.get(split, [0] * len(names)), strict=True)
    }
    query = "select split, count(*) from visit_windows group by split"
    windows = dict(con.execute(query).fetchall())
    counts |= {f"windows_{split}": windows.get(split, 0) for split in SPLITS}
    kept = sum(size for size, *_ in rows.values())
    return counts | {"visits_purged": database.count_rows(con, "visits") - kept}


def require_windows(counts: Counts) -> None:
    """Refuse shards without a next visit to train, validate or test on."""
    empty = [name for name in SPLITS if not counts[f"windows_{name}"]]
    if empty:
        visits = ", ".join(f"{counts[f'visits_{name}']} visits in {name}" for name in SPLITS)
        raise DataError(
            f"no entity in {' and '.join(empty)} has visits enough for a window ({visits}); give "
            "more data, a larger share (--split.validation_percent, --split.test_percent), "
            "shorter histories (--region.min_history), or shorter stays (--stay.min_stay_s)"
        )


STAGE = Stage("visit_shards", build, SQL)
