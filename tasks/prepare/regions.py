"""Regions: the H3 cells that training knows, visits told by them, and the windows of next visits.

The vocabulary is fitted on train alone and is the same whatever the order of the rows: the most
frequent cell has the id 1, and 0 stands for all that training knows too little or not at all.
Points and visits have a vocabulary each. The cell of a visit is that of its location's very place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from model.earth.cells import cells_of
from tasks import database
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import RegionRules
from tasks.prepare.conventions import LINES_A_DEGREE, SPLITS
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

UNKNOWN_ID = 0
KINDS = ("point", "visit")
SQL = (
    "intermediate/int_point_splits",
    "intermediate/int_places",
    "marts/regions",
    "marts/region_visits",
    "reports/region_shares",
    "marts/visit_windows",
    "checks/regions_come_from_train",
    "checks/visit_windows_look_back",
)


def regions(
    config: PipelineConfig, cleaned: Sequence[Receipt], split: Receipt, store: Store
) -> Receipt:
    """The regions of a dataset, and its visits and their windows told by them."""
    inputs: dict[str, Input] = {"cleaned": cleaned, "split": split}
    licence = config.source_row.licence
    return STAGE(STAGE.job(config.dataset, config.region_rules, inputs, store, licence=licence))


def build(draft: Path, job: Job[RegionRules]) -> Counts:
    """Fit the vocabularies, tell the visits by them, and count what training never saw."""
    folders = [job.store.folder(receipt) for receipt in job.receipts("cleaned")]
    split_folder = job.folder("split")
    with database.scratch(draft, *folders, split_folder) as con:
        database.load(con, "split", split_folder / "split.parquet")
        database.view_files(con, folders, "clean_points", "visits")
        counts = fit_regions(con, job.settings)
        database.write_tables(con, draft, "regions", "visit_windows")
        database.write_query(con, "from region_visits", draft / "visits.parquet")
    described = {"grid": "h3", "unknown_id": UNKNOWN_ID, "lines_a_degree": LINES_A_DEGREE}
    described |= job.settings.model_dump(include={"resolution", "min_count"}) | counts
    (draft / "regions.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    return counts


def fit_regions(con: database.Connection, rules: RegionRules) -> Counts:
    """Make the tables of `clean_points`, `visits` and `split`; return their counts."""
    database.materialise(con, "intermediate/int_point_splits")
    database.materialise(con, "intermediate/int_places", lines_a_degree=LINES_A_DEGREE)
    con.register("int_place_cells", place_cells(con, rules.resolution))
    for mart in ("marts/regions", "marts/region_visits", "marts/visit_windows"):
        database.materialise(con, mart, **rules.model_dump())
    database.check(con, "checks/regions_come_from_train", min_count=rules.min_count)
    database.check(con, "checks/visit_windows_look_back")
    return region_counts(con)


def place_cells(con: database.Connection, resolution: int) -> pa.Table:
    """The cell of each place, looked up once."""
    places = con.sql("select distinct lon_deg, lat_deg from int_places").to_arrow_table()
    lon_deg_N, lat_deg_N = (places[name].to_numpy() for name in ("lon_deg", "lat_deg"))
    return places.append_column("cell", pa.array(cells_of(lon_deg_N, lat_deg_N, resolution)))


def region_counts(con: database.Connection) -> Counts:
    """Sizes of the vocabularies, and the shares of each split that they leave out.

    Unknown is what has no id; unseen is in a cell where training never was, and must be a miss.
    """
    sizes = dict(con.execute("select kind, count(*) from regions group by kind").fetchall())
    counts: Counts = {f"{kind}_regions": sizes.get(kind, 0) for kind in KINDS}
    database.materialise(con, "reports/region_shares")
    shares = con.execute("select * from region_shares order by kind, split").fetchall()
    for kind, split, num_here, num_unknown, num_unseen in shares:
        counts[f"{kind}s_{split}"] = num_here
        counts[f"{kind}s_{split}_unknown_share"] = round(num_unknown / num_here, 4)
        counts[f"{kind}s_{split}_unseen_share"] = round(num_unseen / num_here, 4)
    query = "select split, count(*) from visit_windows group by split"
    windows = dict(con.execute(query).fetchall())
    return counts | {f"visit_windows_{split}": windows.get(split, 0) for split in SPLITS}


STAGE = Stage("regions", build, SQL)
