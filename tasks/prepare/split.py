"""The split: spans of trips, copies grouped, set apart as train, validation and test.

An entity that goes on under another name, as a storm that crosses into another basin, is of one
group with it, as copies are.

- `entity`: whole entities. The percentile of a group of copies is an MD5 of the seed and the
  group's name, which is its smallest entity id, so an entity that is nobody's copy never moves
  when other entities come or go. One that new data show to be a copy may move, for the two can no
  longer be apart.
- `time`: the last points of each group are its test and those before its validation. Shares are of
  points, not of time: a person who kept a log for a month in each of two years would else have
  parts that hold nothing. Points within the purge gap before a border belong to no split.
- `region`: the trips in a box are test. Those partly in it belong to no split; a step over the box
  without a point in it is not seen. The rest is parted by entity.
- `random_window`: stretches of every trip, each drawn by itself. It leaks on purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa

import sql
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import SplitKind
from tasks.config.slices import SplitRules
from tasks.database import Connection, check, materialise, scratch, view_files, write_tables
from tasks.prepare.conventions import SPLITS
from tasks.runtime.errors import DataError
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

# Ten places of a path agree by chance nowhere; a stand or a berth is one place for many points.
MIN_PLACES = 10
GROUP_COLUMNS = ("entity_id", "content_group")
# What else must hold for a kind of split.
CHECK_OF_KIND = {
    "entity": "checks/split_keeps_groups_whole",
    "time": "checks/split_cuts_copies_alike",
}
SQL = (
    "intermediate/int_points_shared",
    "intermediate/int_trips_copied",
    "intermediate/int_entities_continued",
    "intermediate/int_entities_drawn",
    *(f"intermediate/int_spans_{kind}" for kind in get_args(SplitKind)),
    "intermediate/int_split_lines",
    "marts/split",
    "reports/split_counts",
    "checks/split_spans_are_disjoint",
    "checks/split_shares_no_copies",
    *CHECK_OF_KIND.values(),
)


def split(config: PipelineConfig, cleaned: Sequence[Receipt], store: Store) -> Receipt:
    """The split of all trips."""
    rules, licence = config.split_rules, config.source_row.licence
    return STAGE(STAGE.job(config.dataset, rules, {"cleaned": cleaned}, store, licence=licence))


def build(draft: Path, job: Job[SplitRules]) -> Counts:
    """Group copies, draw the split, check it, and count."""
    folders = [job.store.folder(receipt) for receipt in job.receipts("cleaned")]
    with scratch(draft, *folders) as con:
        view_files(con, folders, "clean_points", "trips")
        counts = split_trips(con, job.settings)
        write_tables(con, draft, "split")
    return counts


def split_trips(con: Connection, rules: SplitRules) -> Counts:
    """Make the table `split` of the tables `clean_points` and `trips`; return its counts."""
    draw_spans(con, rules)
    check(con, "checks/split_spans_are_disjoint")
    if rules.kind in CHECK_OF_KIND:
        check(con, CHECK_OF_KIND[rules.kind])
    if not rules.is_leaky:
        check(con, "checks/split_shares_no_copies", min_places=MIN_PLACES)
    counts = split_counts(con, rules)
    require_every_split(counts, rules)
    return counts


def draw_spans(con: Connection, rules: SplitRules) -> None:
    """Make the table `split`: group the copies, then set spans of trips apart by the kind."""
    materialise(con, "intermediate/int_points_shared")
    materialise(con, "intermediate/int_trips_copied", min_places=MIN_PLACES)
    materialise(con, "intermediate/int_entities_continued")
    con.register("int_content_groups", content_groups(con))
    materialise(con, "intermediate/int_entities_drawn", seed=rules.seed)
    spans = f"intermediate/int_spans_{rules.kind}"
    materialise(con, spans, table="int_spans", **rules.model_dump())
    materialise(con, "marts/split")


def content_groups(con: Connection) -> pa.Table:
    """The content group of each entity: the smallest id among it, its copies and what it goes on
    as under another name."""
    entities = con.execute("select distinct entity_id from trips").fetchall()
    pairs = [
        pair
        for table in ("int_trips_copied", "int_entities_continued")
        for pair in con.execute(f"select entity_a_id, entity_b_id from {table}").fetchall()
    ]
    names = sorted(entity for (entity,) in entities)
    groups = connected(names, pairs)
    return pa.table([names, groups], pa.schema(dict.fromkeys(GROUP_COLUMNS, pa.string())))


def connected(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The smallest name that each of the sorted names is linked to, over any number of pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = {name: number for number, name in enumerate(names)}
    links = np.array([(place[a], place[b]) for a, b in pairs], int).reshape(-1, 2)
    graph = coo_array((np.ones(len(links)), links.T), shape=(len(names), len(names)))
    _, component_N = connected_components(graph, directed=False)
    _, first = np.unique(component_N, return_index=True)
    return [names[number] for number in first[component_N]]


def split_counts(con: Connection, rules: SplitRules) -> Counts:
    """Entities by split, groups, pairs of trips that are copies, and the hash of the table."""
    by_split = dict(
        con.execute("select split, count(distinct entity_id) from split group by split").fetchall()
    )
    [summary] = con.sql(sql.read("reports/split_counts")).to_arrow_table().to_pylist()
    return {
        "kind": rules.kind,
        "is_leaky": int(rules.is_leaky),
        "split_hash": split_hash(con),
        **summary,
        "purge_gap_s": rules.purge_gap_s,
        **{f"entities_{name}": by_split.get(name, 0) for name in SPLITS},
    }


def split_hash(con: Connection) -> str:
    """The SHA-256 of the rows of the split in their order, whatever file they are written to."""
    rows = con.sql(sql.read("intermediate/int_split_lines")).to_arrow_reader(ROWS_AT_ONCE)
    digest = hashlib.sha256()
    for batch in rows:
        digest.update("".join(batch["row_text"].to_pylist()).encode())
    return digest.hexdigest()


def require_every_split(counts: Counts, rules: SplitRules) -> None:
    """Refuse a split without train, validation or test: nothing could be fitted or judged."""
    empty = [name for name in SPLITS if not counts[f"entities_{name}"]]
    if empty:
        found = f"no entity falls into {' and '.join(empty)}: {counts['entities']} entities in "
        raise DataError(
            f"{found}{counts['content_groups']} groups of copies, "
            + REMEDIES[rules.kind].format(**rules.model_dump())
        )


REMEDIES = {
    "entity": "{validation_percent} % for validation and {test_percent} % for test; give more "
    "entities, a larger --split.validation_percent or --split.test_percent, or another --seed",
    "time": "none with {window_points} points in each of train, validation ({validation_percent} "
    "%) and test ({test_percent} %) once {purge_gap_s:,.0f} s before each border are left out; "
    "give longer records, larger shares, shorter windows (--window.num_context, "
    "--window.num_horizon), or --split.kind entity",
    "region": "and the box from {west_deg} to {east_deg} degrees east and {south_deg} to "
    "{north_deg} degrees north is test; give a box that holds some trips whole and not all, or "
    "another --seed",
    "random_window": "{validation_percent} % of stretches for validation and {test_percent} % for "
    "test; give more points or another --seed",
}
ROWS_AT_ONCE = 65_536
STAGE = Stage("split", build, SQL)
