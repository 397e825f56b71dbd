"""The split: entities, copies grouped, drawn into train, validation and test by their own names.

The percentile of a group is an MD5 of the seed and the group's name, which is its smallest entity
id. An entity that is nobody's copy therefore never moves when other entities come or go. One that
new data show to be a copy may move, for the two can no longer be apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from tasks.config import PipelineConfig, SplitRules
from tasks.database import Connection, check, materialise, scratch, view, write_query
from tasks.errors import DataError
from tasks.stage import Job, Stage
from tasks.store import Counts, Receipt, Store

SPLITS = ("train", "validation", "test")
# Ten places of a path agree by chance nowhere; a stand or a berth is one place for many points.
MIN_PLACES = 10
SQL = (
    "intermediate/int_points_shared",
    "intermediate/int_trips_copied",
    "marts/split",
    "checks/split_names_each_entity_once",
    "checks/split_shares_no_copies",
)


def split(config: PipelineConfig, cleaned: Sequence[Receipt], store: Store) -> Receipt:
    """The split of all entities that have a trip."""
    return STAGE(split_job(config, cleaned, store))


def split_job(config: PipelineConfig, cleaned: Sequence[Receipt], store: Store) -> Job[SplitRules]:
    return STAGE.job(
        config.dataset,
        config.split_rules,
        {"cleaned": cleaned},
        store,
        licence=config.source_row.licence,
    )


def build(draft: Path, job: Job[SplitRules]) -> Counts:
    """Group copies, draw the split, check it, and count."""
    folders = [job.store.folder(receipt) for receipt in job.receipts("cleaned")]
    with scratch(draft, *folders) as con:
        for table in ("clean_points", "trips"):
            view(con, table, [folder / f"{table}.parquet" for folder in folders])
        counts = split_entities(con, job.settings)
        write_query(con, "select * from split", draft / "split.parquet")
    return counts


def split_entities(con: Connection, rules: SplitRules) -> Counts:
    """Make the table `split` of the tables `clean_points` and `trips`; return its counts."""
    materialise(con, "intermediate/int_points_shared")
    materialise(con, "intermediate/int_trips_copied", min_places=MIN_PLACES)
    con.register("int_content_groups", content_groups(con))
    materialise(con, "marts/split", **rules.model_dump())
    check(con, "checks/split_names_each_entity_once")
    check(con, "checks/split_shares_no_copies", min_places=MIN_PLACES)
    counts = split_counts(con)
    require_every_split(counts, rules)
    return counts


def content_groups(con: Connection) -> pa.Table:
    """The content group of each entity: the smallest id among it and its copies."""
    entities = con.execute("select distinct entity_id from trips order by entity_id").fetchall()
    copies = con.execute(
        "select distinct entity_a_id, entity_b_id from int_trips_copied"
    ).fetchall()
    group_of = connected((entity for (entity,) in entities), copies)
    return pa.table(
        {
            "entity_id": pa.array(group_of.keys(), pa.string()),
            "content_group": pa.array(group_of.values(), pa.string()),
        }
    )


def connected(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The smallest name that each name is linked to, over any number of pairs."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for a, b in pairs:
        smaller, larger = sorted((root(a), root(b)))
        parent[larger] = smaller
    return {name: root(name) for name in parent}


def split_counts(con: Connection) -> Counts:
    """Entities by split, groups, and pairs of trips that are copies."""
    rows = con.execute("select split, count(*) from split group by split").fetchall()
    by_split = dict(rows)
    summary = con.execute(
        "select count(*), count(distinct content_group),"
        " (select count(*) from int_trips_copied) from split"
    ).fetchall()
    entities, groups, copied_trips = summary[0]
    return {
        "entities": entities,
        "content_groups": groups,
        "copied_trip_pairs": copied_trips,
        **{f"entities_{name}": by_split.get(name, 0) for name in SPLITS},
    }


def require_every_split(counts: Counts, rules: SplitRules) -> None:
    """Refuse a split without train, validation or test: nothing could be fitted or judged."""
    empty = [name for name in SPLITS if not counts[f"entities_{name}"]]
    if empty:
        raise DataError(
            f"no entity falls into {' and '.join(empty)}: {counts['entities']} entities in "
            f"{counts['content_groups']} groups of copies, {rules.validation_percent} % for "
            f"validation and {rules.test_percent} % for test; give more entities, a larger "
            "--split.validation_percent or --split.test_percent, or another --seed"
        )


STAGE = Stage("split", build, SQL)
