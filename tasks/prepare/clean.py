"""Clean points and trips: numbered rules, each point kept once or rejected once with its rule.

The first rule that a point breaks is the one that it is rejected for:

1. `unset_clock`: in the hours after a date that clocks show before they are set
2. `before_satellites`: before `first_fix_date`, when no satellite could tell a place
3. `later_than_upload`: more than a minute after the source received it
4. `out_of_range`: no finite instant or no place on Earth
5. `null_island`: exactly (0, 0), which receivers report without a fix
6. `exact_duplicate`: entity, instant and place of an earlier point, in the order of the source
7. `same_instant`: another place at the instant of an earlier point: the first one is kept
8. `stale_position`: the place of an earlier point, at a speed that has carried the entity away
9. `impossible_speed`: out of reach of the last kept point (`model/earth/point_rules.py`)
10. `short_trip`: in a trip of too few points

Where the speed limit rejects a run of points at least half as long as what it keeps, it cannot
tell which of the two is right: such runs are kept in the table `conflicts`, and counted.

The order of the source is source trip, file, line, point. A trip ends with the trip of the source
and with a silence longer than `max_gap_s` between kept points.

Before these rules, instants of receivers that count weeks modulo 1,024 are put right where they
then lie near their upload or near the other points of their file (`num_rollovers` says how often
a cycle was added). Where the dataset asks for it, entities that share one identity are told apart
(`identities` there): the second is `<entity_id>#2`. After the rules, stays are marked on what is
kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

import sql
from tasks import database
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import CleanRules
from tasks.ingest.snapshot import read_snapshot
from tasks.prepare import staypoints, transport_modes
from tasks.prepare.row_order import is_new, order_of, ranks
from tasks.runtime.errors import DataError
from tasks.runtime.stage import Job, NamedInput, Stage
from tasks.runtime.store import Counts, Receipt, Store

RULES = (
    *("unset_clock", "before_satellites", "later_than_upload", "out_of_range", "null_island"),
    *("exact_duplicate", "same_instant", "stale_position", "impossible_speed", "short_trip"),
)
MARTS = ("marts/clean_points", "marts/clean_rejects", "marts/trips")
CONFLICTS = "marts/conflicts"
TABLES = ("clean_points", "clean_rejects", "conflicts", "trips", "stays", "visits")
SQL = (
    database.IN_FORCE,
    "intermediate/int_points_redated",
    "intermediate/int_instants_refused",
    "intermediate/int_points_placed",
    "intermediate/int_points_screened",
    "intermediate/int_points_stale",
    "intermediate/int_points_tracked",
    "intermediate/int_points_tripped",
    "intermediate/int_trips",
    *MARTS,
    CONFLICTS,
    *staypoints.SQL,
    *transport_modes.SQL,
    "marts/triplegs",
    "checks/clean_conserves_points",
)


def clean(config: PipelineConfig, snapshot: Receipt, store: Store) -> list[Receipt]:
    """Clean points, rejects and trips of a snapshot: one receipt per bucket that has points.

    Each is named by what touches the bucket and not by the whole snapshot.
    """
    contents = read_snapshot(store, snapshot).bucket_contents()
    if not contents:
        raise DataError(f"no point of {config.dataset} could be read; see the table of rejects")
    jobs = [
        STAGE.job(
            config.dataset,
            config.clean_rules,
            {"bucket": f"{bucket:03d}", "snapshot": NamedInput(receipt=snapshot, name=content)},
            store,
            licence=config.source_row.licence,
        )
        for bucket, content in contents.items()
    ]
    return [STAGE(job) for job in jobs]


def build(draft: Path, job: Job[CleanRules]) -> Counts:
    """Clean one bucket."""
    snapshot = read_snapshot(job.store, job.receipt("snapshot"))
    bucket = int(str(job.inputs["bucket"]))
    files, label_files = snapshot.points(bucket), snapshot.labels(bucket)
    folders = {path.parent for path, _ in files + label_files}
    with database.scratch(draft, *folders, is_in_memory=True) as con:
        database.load_in_force(con, "int_points_in_force", files)
        if job.settings.has_labels:
            transport_modes.label_points(con, label_files)
        else:
            con.register("int_point_modes", transport_modes.NO_MODES.select(["point_id"]))
        return clean_points(con, draft, job.settings)


def clean_points(con: database.Connection, draft: Path, rules: CleanRules) -> Counts:
    """Apply the rules to the loaded points, write the tables, and count."""
    screen_points(con, rules)
    database.materialise(con, "intermediate/int_trips", min_points=rules.min_points)
    staypoints.mark_stays(con, rules.stay)
    for mart in (*MARTS, *staypoints.MARTS):
        database.materialise(con, mart)
    database.materialise(con, CONFLICTS, max_gap_s=rules.max_gap_s)
    database.check(con, "checks/clean_conserves_points")
    tables = list(TABLES)
    if "mode" in con.table("clean_points").columns:
        database.materialise(con, "marts/triplegs")
        tables.append("triplegs")
    database.write_tables(con, draft, *tables)
    return counts(con)


def screen_points(con: database.Connection, rules: CleanRules) -> None:
    """Make `int_points_tripped` of the loaded points: all that break none of the first rules."""
    for query in ("int_points_redated", "int_instants_refused"):
        database.materialise(con, f"intermediate/{query}", first_fix_date=rules.first_fix_date)
    con.register("int_point_identities", identified_points(con, rules))
    database.materialise(con, "intermediate/int_points_screened")
    database.materialise(con, "intermediate/int_points_stale")
    database.define(con, "intermediate/int_points_tracked")
    tracked = con.sql(
        "select point_id, entity_id, source_trip_id, tracked_us, lon_deg, lat_deg "
        "from int_points_tracked"
    ).to_arrow_table()
    con.register("int_points_reached", tripped(tracked, rules.max_speed_mps, rules.max_gap_s))
    database.materialise(con, "intermediate/int_points_tripped")


def identified_points(con: database.Connection, rules: CleanRules) -> pa.Table:
    """The points of all entities of one identity but the first; none where nobody asks."""
    from model.earth.point_rules import identities

    if not rules.split_identities:
        return pa.schema({"point_id": pa.int64(), "identity": pa.int64()}).empty_table()
    placed = con.sql(sql.read("intermediate/int_points_placed")).to_arrow_table()
    names = ("is_track_start", "tracked_us", "lon_deg", "lat_deg")
    identity_N = identities(*(placed[name].to_numpy() for name in names), rules.max_speed_mps)
    found = pa.table({"point_id": placed["point_id"], "identity": identity_N})
    return found.filter(pa.array(identity_N > 1))


def tripped(tracked: pa.Table, max_speed_mps: float, max_gap_s: float) -> pa.Table:
    """The points that can be reached from the last one kept of their track, track by track.

    A track is all that an entity reports under one trip of the source, in the order of time. Each
    point tells the first one of its trip, and the step from the one before it. A silence longer
    than the gap starts a trip; midnight does not.
    """
    from model.earth.point_rules import is_speed_possible, steps_m

    names = ("tracked_us", "lon_deg", "lat_deg", "point_id")
    columns = [ranks(tracked[name]) for name in ("entity_id", "source_trip_id")]
    columns += [tracked[name].to_numpy() for name in names]
    entity, source_trip, tracked_us, *_ = columns
    order = order_of(entity, source_trip, tracked_us)  # no two points of an entity share an instant
    entity, source_trip, *fixes, point_id = (column[order] for column in columns)
    is_kept_N = is_speed_possible(is_new(entity, source_trip), *fixes, max_speed_mps, max_gap_s)
    entity, source_trip, tracked_us, lon_deg, lat_deg, point_id = (
        column[is_kept_N] for column in (entity, source_trip, *fixes, point_id)
    )
    is_start = is_new(entity, source_trip)
    is_start[1:] |= np.diff(tracked_us) > max_gap_s * 1e6
    start = np.flatnonzero(is_start)
    # Whole millimetres: their sum does not depend on the order of addition.
    step_mm = np.where(is_start, 0, np.rint(steps_m(lon_deg, lat_deg) * 1_000)).astype(np.int64)
    return pa.table(
        {
            "point_id": point_id,
            "first_point_id": point_id[start[np.cumsum(is_start) - 1]],
            "step_mm": step_mm,
        }
    )


def counts(con: database.Connection) -> Counts:
    """Points in and out, rejects by rule, and trips, of one bucket."""
    by_rule = dict(con.execute("select rule, count(*) from clean_rejects group by rule").fetchall())
    return {
        "points": database.count_rows(con, "int_points_in_force"),
        "kept": database.count_rows(con, "clean_points"),
        "rejected": database.count_rows(con, "clean_rejects"),
        **{f"rejected_{rule}": by_rule.get(rule, 0) for rule in RULES},
        "trips": database.count_rows(con, "trips"),
        "stays": database.count_rows(con, "stays"),
        "redated": database.count_rows(con, "int_points_redated"),
        "parted": database.count_rows(con, "int_point_identities"),
        "conflicts": database.count_rows(con, "conflicts"),
    }


STAGE = Stage("clean", build, SQL)
