"""Trip page: a map of one trip, its speed, what was rejected of it, and what it became.

It reads what the last successful runs of a dataset have published and writes one local file. A
page holds its picture and needs no other file and no network.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

import sql
from tasks.catalog.warehouse import current_receipts
from tasks.config.datasets import dataset_named
from tasks.database import Connection, scratch, view
from tasks.ingest.snapshot import read_snapshot
from tasks.report.html_page import page
from tasks.report.markup import escaped, markdown_table, pairs_table, spoken
from tasks.report.page_parts import Part, Picture
from tasks.report.trip_figure import Shown, Table, spelt_s, trip_figure
from tasks.runtime.errors import ConfigError, StorageError
from tasks.runtime.run_records import read_records
from tasks.runtime.store import Receipt, Store

NUM_EACH, NUM_NEAR, NUM_LISTED = 5, 5, 200
# Table: the stage that publishes it.
STAGES = {
    **dict.fromkeys(("clean_points", "clean_rejects", "trips", "stays"), "clean"),
    "steps": "features",
    "split": "split",
    "windows": "shards",
}
# A run with a family of visits stores no windows of trips.
NEEDED = {"snapshot", *STAGES.values()} - {"shards"}
NO_WINDOWS = pa.schema(
    {
        **dict.fromkeys(("trip_id", "split", "task"), pa.string()),
        **dict.fromkeys(("start", "num_points", "num_context"), pa.int32()),
    }
).empty_table()


@contextlib.contextmanager
def published(dataset: str, store: Store) -> Iterator[tuple[Connection, str]]:
    """The tables that the last successful runs have left, and the zone of the dataset."""
    receipts = receipts_of(dataset, store)
    snapshot = read_snapshot(store, receipts["snapshot"][-1])
    files = {
        table: [
            store.verify(step, f"{table}.parquet") / f"{table}.parquet" for step in receipts[stage]
        ]
        for table, stage in STAGES.items()
        if stage in receipts
    }
    files["points"] = [path for number in snapshot.buckets for path, _ in snapshot.points(number)]
    folders = {path.parent for paths in files.values() for path in paths}
    with tempfile.TemporaryDirectory() as folder, scratch(Path(folder), *sorted(folders)) as con:
        for table, paths in files.items():
            view(con, table, paths)
        if "windows" not in files:
            con.register("windows", NO_WINDOWS)
        yield con, store.manifest(receipts["snapshot"][-1]).recipe.settings["zone"]


def receipts_of(dataset: str, store: Store) -> dict[str, list[Receipt]]:
    """What finished runs have left, or else what one that was stopped had made by then."""
    records = [record for record in read_records(store) if record.dataset == dataset]
    found = [current_receipts(store, records).get(dataset, {})]
    found += [
        {
            stage: steps
            for stage, steps in record.receipts.items()
            if all(map(store.is_complete, steps))
        }
        for record in reversed(records)
    ]
    for receipts in found:
        if receipts.keys() >= NEEDED and receipts.keys() & {"shards", "visit_shards"}:
            return receipts
    if records:
        raise ConfigError(
            f"no run of {dataset} in the store {store.root} has come as far as windows yet; the "
            "command that was stopped or failed goes on where it was, when it is given again"
        )
    raise ConfigError(
        f"no finished run of {dataset} in the store {store.root}; "
        f"run it first: trajfoundry run --dataset {dataset}"
    )


def report_rows(con: Connection, name: str, **values: Any) -> Table:
    """The rows of a report."""
    return con.sql(sql.read(f"reports/{name}"), params=values).df()


def choices(dataset: str, store: Store) -> list[str]:
    """A few trips to choose from: the longest, and those with most rejected points."""
    with published(dataset, store) as (con, _zone):
        trips = report_rows(con, "trip_choices", num_each=NUM_EACH)
    width = trips.trip_id.str.len().max()
    lines = [
        f"{trip.trip_id:{width}}  {trip.num_points:>7,} points  "
        f"{trip.length_m / 1000:>9,.1f} km  {trip.num_rejected:>6,} rejected"
        for trip in trips.itertuples()
    ]
    return [f"trips of {dataset} to look at with --trip ID:", *lines]


def show_trip(dataset: str, trip_id: str, out: Path | None, store: Store) -> Path:
    """Write the page or the picture of a trip and return its path."""
    path = out or Path(f"trip-{dataset}-{re.sub(r'[^A-Za-z0-9]+', '-', trip_id).strip('-')}.html")
    form = path.suffix.lower()
    if form not in (".html", ".png"):
        raise ConfigError(f"cannot write {path.name!r}: --out must end with .html or .png")
    with published(dataset, store) as (con, zone):
        trip = trip_named(con, dataset, trip_id)
        names = ("trip_points", "trip_stays", "trip_rejects", "trip_forecasts")
        tables = [report_rows(con, name, trip_id=trip_id) for name in names]
    shown = Shown(f"{dataset_named(dataset).entity_kind.capitalize()} {trip.entity_id}", *tables)
    drawn = trip_figure(shown)
    written = trip_page(shown, trip_pairs(shown, trip, zone), drawn).encode()
    try:
        path.write_bytes(drawn if form == ".png" else written)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; give another --out") from error
    return path


def trip_named(con: Connection, dataset: str, trip_id: str) -> Any:
    """What is known of a trip; an unknown id is an error that names the nearest ones."""
    for trip in report_rows(con, "trip_facts", trip_id=trip_id).itertuples():
        return trip
    known = [name for (name,) in con.execute("select trip_id from trips order by 1").fetchall()]
    near = [name for name in known if trip_id in name][:NUM_NEAR]
    near = near or difflib.get_close_matches(trip_id, known, NUM_NEAR)
    hint = f"near it are: {', '.join(near)}" if near else "leave out --trip to see a few"
    raise ConfigError(f"{dataset} has no trip {trip_id!r}; {hint}")


def trip_pairs(shown: Shown, trip: Any, zone: str) -> list[tuple[str, str]]:
    """What is known of a trip, in words."""
    local = trip.started_at.astimezone(ZoneInfo(zone))
    in_zone = "" if zone == "UTC" else f" ({local:%a %Y-%m-%d %H:%M:%S} in {zone})"
    step_s = shown.steps.step_s.quantile(interpolation="higher")
    before, after = (
        "no other trip" if silence_s != silence_s else spelt_s(silence_s)
        for silence_s in (trip.silence_before_s, trip.silence_after_s)
    )
    return [
        ("trip", trip.trip_id),
        ("entity", trip.entity_id),
        ("started", f"{trip.started_at:%Y-%m-%d %H:%M:%S} UTC{in_zone}"),
        ("took", spelt_s((trip.finished_at - trip.started_at).total_seconds())),
        ("points", f"{trip.num_points:,}, {spelt_s(step_s)} apart (median)"),
        ("length", f"{trip.length_m / 1000:,.3f} km"),
        ("fastest step", f"{shown.steps.speed_mps.max():,.1f} m/s"),
        ("gaps", f"{shown.is_gap_N.sum():,} steps of more than {spelt_s(shown.gap_s)}"),
        ("silence before", before),
        ("silence after", after),
        ("stays", f"{len(shown.stays):,}"),
        ("rejected points", rejected_line(shown.rejects)),
        ("forecast windows", f"{len(shown.forecasts):,} in {shown.splits}".removesuffix(" in ")),
    ]


def rejected_line(rejects: Table) -> str:
    """How many points each rule rejected."""
    totals = rejects.rule.value_counts().sort_index()
    parts = ", ".join(f"{spoken(rule)} {number:,}" for rule, number in totals.items())
    return f"{len(rejects):,}" + (f": {parts}" if parts else "")


def trip_page(shown: Shown, pairs: Sequence[tuple[str, str]], drawn: bytes) -> str:
    """The page of a trip."""
    stays = shown.stays.assign(lasting=shown.stays.duration_s.map(spelt_s))
    listed = shown.rejects[:NUM_LISTED].assign(rule=shown.rejects.rule.map(spoken))
    left = len(shown.rejects) - len(listed)
    parts: list[str | Part] = [
        f"# {escaped(shown.title)}",
        escaped(pairs[0][1]),
        Picture("map and speed", drawn),
        "## In numbers",
        pairs_table(("fact", "value"), pairs),
        *section("Stays", stays, stay="number", **{"from": "instant", "for": "lasting"}),
        *section("Rejected points", listed, rule="rule", instant="instant"),
        *([f"and {left:,} more"] if left else []),
    ]
    return page(shown.title, parts)


def section(title: str, rows: Table, **column_of: str) -> list[str]:
    """A heading and a table of these columns and the place; nothing where there are no rows."""
    cells = rows[[*column_of.values(), "place"]].astype("string").fillna("").values.tolist()
    return [f"## {title}", markdown_table((*column_of, "place"), cells)] if cells else []
