"""A look at one trip: its map, its speed, what was rejected of it, and what it became.

It reads what the last successful runs of a dataset have published and writes one local file. A
page holds its picture and needs no other file and no network.
"""

from __future__ import annotations

import contextlib
import difflib
import html
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sql
from tasks.catalog.warehouse import current_receipts
from tasks.config.datasets import dataset_named
from tasks.database import Connection, scratch, view
from tasks.ingest.snapshot import read_snapshot
from tasks.report.html_page import document, picture
from tasks.report.markup import html_pairs
from tasks.report.trip_figure import Shown, spelt_s, trip_figure
from tasks.runtime.errors import ConfigError, StorageError
from tasks.runtime.run_records import read_records
from tasks.runtime.store import Receipt, Store

Row = dict[str, Any]
FORMS = (".html", ".png")
NUM_EACH, NUM_NEAR, NUM_LISTED = 5, 5, 200
# Table: the stage that publishes it.
STAGES = {
    "clean_points": "clean",
    "clean_rejects": "clean",
    "trips": "clean",
    "stays": "clean",
    "steps": "features",
    "split": "split",
    "windows": "shards",
}


@dataclass(frozen=True)
class Published:
    """What the last successful runs of a dataset have left, as tables to ask."""

    dataset: str
    con: Connection
    zone: str

    def rows(self, query: str, **values: Any) -> list[Row]:
        found = self.con.execute(query, values)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@contextlib.contextmanager
def published(dataset: str, store: Store) -> Iterator[Published]:
    """The tables of a dataset; without a finished run there are none."""
    receipts = current_receipts(store, read_records(store)).get(dataset, {})
    if missing := {"snapshot", *STAGES.values()} - receipts.keys():
        raise ConfigError(
            f"no finished run of {dataset} in the store {store.root} "
            f"(it has no {', no '.join(sorted(missing))}); "
            f"run it first: trajfoundry run --dataset {dataset}"
        )
    files = files_of(receipts, store)
    folders = {path.parent for paths in files.values() for path in paths}
    with tempfile.TemporaryDirectory() as folder, scratch(Path(folder), *sorted(folders)) as con:
        for table, paths in files.items():
            view(con, table, paths)
        zone = store.manifest(receipts["snapshot"][-1]).recipe.settings["zone"]
        yield Published(dataset, con, zone)


def files_of(receipts: dict[str, list[Receipt]], store: Store) -> dict[str, list[Path]]:
    """The Parquet files of each table."""
    files = {
        table: [store.folder(receipt) / f"{table}.parquet" for receipt in receipts[stage]]
        for table, stage in STAGES.items()
    }
    snapshot = read_snapshot(store, receipts["snapshot"][-1])
    points = [path for bucket in snapshot.buckets for path, _ in snapshot.points(bucket)]
    return files | {"points": points}


# Choosing a trip ----------------------------------------------------------------------------------


def choices(dataset: str, store: Store) -> list[str]:
    """A few trips to choose from: the longest, and those with most rejected points."""
    with published(dataset, store) as tables:
        rows = tables.rows(sql.read("reports/trip_choices"), num_each=NUM_EACH)
    width = max((len(row["trip_id"]) for row in rows), default=0)
    lines = [
        f"{row['trip_id']:{width}}  {row['num_points']:>7,} points  "
        f"{row['length_m'] / 1000:>9,.1f} km  {row['num_rejected']:>6,} rejected"
        for row in rows
    ]
    return [f"trips of {dataset} to look at with --trip ID:", *lines]


def trip_named(tables: Published, trip_id: str) -> Row:
    """The row of a trip; an unknown id is an error that names the nearest ones."""
    found = tables.rows("select * from trips where trip_id = $trip_id", trip_id=trip_id)
    if found:
        return found[0]
    known = [row["trip_id"] for row in tables.rows("select trip_id from trips order by trip_id")]
    near = [name for name in known if trip_id in name][:NUM_NEAR]
    near = near or difflib.get_close_matches(trip_id, known, NUM_NEAR)
    hint = f"near it are: {', '.join(near)}" if near else "leave out --trip to see a few"
    raise ConfigError(f"{tables.dataset} has no trip {trip_id!r}; {hint}")


# Showing it ---------------------------------------------------------------------------------------


def show_trip(dataset: str, trip_id: str, out: Path | None, store: Store) -> Path:
    """Write the page or the picture of a trip and return its path."""
    path = out or Path(f"trip-{dataset}-{re.sub(r'[^A-Za-z0-9]+', '-', trip_id).strip('-')}.html")
    if path.suffix.lower() not in FORMS:
        raise ConfigError(f"cannot write {path.name!r}: --out must end with .html or .png")
    with published(dataset, store) as tables:
        trip = trip_named(tables, trip_id)
        shown = shown_trip(tables, trip)
        silences = silences_around(tables, trip)
    drawn = trip_figure(shown)
    try:
        if path.suffix.lower() == ".png":
            path.write_bytes(drawn)
        else:
            page = trip_page(shown, trip_pairs(shown, trip, silences, tables.zone), drawn)
            path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; give another --out") from error
    return path


def shown_trip(tables: Published, trip: Row) -> Shown:
    """All that is drawn of a trip."""
    of_trip = {"trip_id": trip["trip_id"]}
    order = "where trip_id = $trip_id order by tracked_at, point_id"
    points = tables.rows(f"select * from clean_points {order}", **of_trip)
    stays = tables.rows(
        "select * from stays where staypoint_id in "
        "(select staypoint_id from clean_points where trip_id = $trip_id) "
        "order by started_at, staypoint_id",
        **of_trip,
    )
    span = {name: trip[name] for name in ("entity_id", "started_at", "finished_at")}
    row = dataset_named(tables.dataset)
    return Shown(
        title=f"{row.entity_kind.capitalize()} {trip['entity_id']}",
        points=points,
        steps=tables.rows(f"select * from steps {order}", **of_trip),
        stays=stays,
        rejects=tables.rows(sql.read("reports/trip_rejects"), **span),
        windows=tables.rows(sql.read("reports/trip_forecasts"), **of_trip),
    )


def silences_around(tables: Published, trip: Row) -> tuple[float | None, float | None]:
    """Seconds of silence of the entity before and after a trip, where it has other trips."""
    [row] = tables.rows(
        "select epoch($started_at - max(finished_at) filter (finished_at <= $started_at))"
        " as before_s, epoch(min(started_at) filter (started_at >= $finished_at) - $finished_at)"
        " as after_s from trips where entity_id = $entity_id and trip_id <> $trip_id",
        **{name: trip[name] for name in ("entity_id", "trip_id", "started_at", "finished_at")},
    )
    return row["before_s"], row["after_s"]


def trip_pairs(
    shown: Shown, trip: Row, silences: Sequence[float | None], zone: str
) -> list[tuple[str, str]]:
    """What is known of a trip, in words."""
    started_at, finished_at = trip["started_at"], trip["finished_at"]
    local = started_at.astimezone(ZoneInfo(zone))
    speeds_mps = [row["speed_mps"] for row in shown.steps]
    steps_s = sorted(row["step_s"] for row in shown.steps)
    splits = sorted({row["split"] for row in shown.windows})
    forecasts = f"{len(shown.windows):,}" + (f" in {', '.join(splits)}" if splits else "")
    before, after = (spelt_s(s) if s is not None else "no other trip" for s in silences)
    in_zone = "" if zone == "UTC" else f" ({local:%a %Y-%m-%d %H:%M:%S} in {zone})"
    return [
        ("trip", trip["trip_id"]),
        ("entity", trip["entity_id"]),
        ("started", f"{started_at:%Y-%m-%d %H:%M:%S} UTC{in_zone}"),
        ("took", spelt_s((finished_at - started_at).total_seconds())),
        ("points", f"{trip['num_points']:,}, {spelt_s(steps_s[len(steps_s) // 2])} apart (median)"),
        ("length", f"{trip['length_m'] / 1000:,.3f} km"),
        ("fastest step", f"{max(speeds_mps):,.1f} m/s"),
        ("gaps", f"{shown.num_gaps:,} steps of more than {spelt_s(shown.gap_s)}"),
        ("silence before", before),
        ("silence after", after),
        ("stays", f"{len(shown.stays):,}"),
        ("rejected points", rejected_line(shown)),
        ("forecast windows", forecasts),
    ]


def rejected_line(shown: Shown) -> str:
    """How many points each rule rejected."""
    totals = sorted(Counter(row["rule"] for row in shown.rejects).items())
    parts = ", ".join(f"{rule.replace('_', ' ')} {number:,}" for rule, number in totals)
    return f"{len(shown.rejects):,}" + (f": {parts}" if parts else "")


def trip_page(shown: Shown, pairs: Sequence[tuple[str, str]], drawn: bytes) -> str:
    """The page of a trip."""
    sections = [
        f"<h1>{html.escape(shown.title)}</h1>",
        f'<p class="lead">{html.escape(pairs[0][1])}</p>',
        picture(drawn, "map and speed"),
        "<h2>In numbers</h2>",
        html_pairs(pairs),
    ]
    if shown.stays:
        rows = [
            (str(number), spelt_at(row["started_at"]), spelt_s(row["duration_s"]), spelt_place(row))
            for number, row in enumerate(shown.stays, 1)
        ]
        sections += ["<h2>Stays</h2>", html_rows(("stay", "from", "for", "place"), rows)]
    if shown.rejects:
        rejects = [
            (row["rule"].replace("_", " "), spelt_at(row["tracked_at"]), spelt_place(row))
            for row in shown.rejects[:NUM_LISTED]
        ]
        left = len(shown.rejects) - len(rejects)
        more = f"<p>and {left:,} more</p>" if left else ""
        sections += [
            "<h2>Rejected points</h2>",
            html_rows(("rule", "instant", "place"), rejects) + more,
        ]
    return document(shown.title, sections)


def html_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [("th", header), *(("td", row) for row in rows)]
    cells = ("".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in line) for tag, line in lines)
    table = "\n".join(f"<tr>{line}</tr>" for line in cells)
    return f'<div class="scroll"><table>\n{table}\n</table></div>'


def spelt_at(instant: Any) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def spelt_place(row: Row) -> str:
    lon_deg, lat_deg = row["lon_deg"], row["lat_deg"]
    return "none" if lon_deg is None or lat_deg is None else f"{lat_deg:.5f}, {lon_deg:.5f}"
