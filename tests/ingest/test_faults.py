"""Each kind of fault in each source where it can occur: the cells of tests/helpers/fault_table.py.

All faulty files of a source lie in one folder and are ingested and cleaned once: so each cell also
shows that the files beside a fault are read.
"""

from __future__ import annotations

import contextlib
import gzip
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers.fault_rows import FAULTS, TAGS, file_name, values
from helpers.fault_sources import SOURCES, Labels, Source, Value
from helpers.fault_table import EVERY, EXPECTED, NAMED_BY_FILE, RULES, SENTINELS, cell
from helpers.points import cleaned_of
from helpers.raw_files import ledger_of, points_of, rejects_of, rows_in_force, tree, walk
from helpers.second_reader import seen_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.config.datasets import DATASETS
from tasks.config.pipeline import ColumnsConfig, PipelineConfig
from tasks.ingest.files_in_force import SNAPSHOT
from tasks.ingest.inventory import looked_at
from tasks.ingest.snapshot import Snapshot, read_snapshot
from tasks.runtime.store import Receipt, Store

BY_NAME = {source.name: source for source in SOURCES}
CELLS = {(name, fault): cell(name, fault) for name in BY_NAME for fault in FAULTS}
POSSIBLE = sorted(key for key, text in CELLS.items() if not text.startswith("no:"))
OTHERS = {"geolife labels": {"Data/99/Trajectory/a.plt": walk(0, 3)}}  # what a source needs too


@pytest.fixture(autouse=True, scope="module")
def any_share() -> Iterator[None]:
    """Let sources hold as many faults as they like, in one bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, row in DATASETS.items():
            new = {"max_rejected_share": 1.0, "num_buckets": 1}
            patch.setitem(DATASETS, name, row.model_copy(update=new))
        yield


def config_of(source: Source) -> PipelineConfig:
    columns = ColumnsConfig(**source.columns)
    return PipelineConfig(dataset=source.dataset, columns=columns, clean={"min_points": 2})


def ingested(source: Source, path: Path, store: Store) -> Receipt:
    """Ingest of a path without an orchestrator, also for the orders of the generator."""
    row, rules = config_of(source).source_row, config_of(source).snapshot_rules
    job = SNAPSHOT.job(
        row.name,
        rules,
        {"source": looked_at([path], rules.members, rules.labels)[0]},
        store,
        licence=row.licence,
        source=str(path),
        sql_names=row.staging_names,
    )
    return SNAPSHOT.plain(job)


def cleaned(source: Source, receipt: Receipt, store: Store, name: str) -> list[dict[str, Any]]:
    """The rows of a table of the clean stage."""
    buckets = cleaned_of(config_of(source), receipt, store)
    folders = [store.folder(bucket) for bucket in buckets]
    return [row for folder in folders for row in pq.read_table(folder / name).to_pylist()]


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    entry: dict[str, Any]
    rows: list[dict[str, Any]]
    kept: list[Value]
    rules: Counter[str]
    cleaned: list[Value]
    clean_rules: Counter[str]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory):
    """Of a source, the outcome of every fault, and of its other files by their names."""

    @cache
    def of_source(name: str) -> dict[str, Outcome]:
        source = BY_NAME[name]
        folder, store = tmp_path_factory.mktemp("faults"), Store(tmp_path_factory.mktemp("store"))
        faults = [fault for fault in FAULTS if (name, fault) in POSSIBLE]
        tree(folder, {file_name(source, f)[0]: FAULTS[f](source, TAGS[f]) for f in faults})
        tree(folder, OTHERS.get(name, {}) | hostile_files(source))
        tree(folder, {"Data/stray.dat": b"stray", "Data/inner.tar.gz": b"closed"})
        receipt = ingested(source, folder, store)
        snapshot = read_snapshot(store, receipt)
        ledger, rejects = ledger_of(snapshot), rejects_of(snapshot)
        points = kept_of(source, snapshot)
        clean_points = cleaned(source, receipt, store, "clean_points.parquet")
        clean_rejects = cleaned(source, receipt, store, "clean_rejects.parquet")
        file_of = {row["point_id"]: row["file_id"] for row in points_of(snapshot)}
        found = [row["point_id"] for row in clean_points + clean_rejects]
        assert sorted(found) == sorted(file_of)
        in_file = [row | {"file_id": file_of[row["point_id"]]} for row in clean_points]
        tables = points, rejects, in_file, clean_rejects
        files = {file_name(source, fault)[1]: fault for fault in faults}
        return {files.get(file, file): outcome_of(row, *tables) for file, row in ledger.items()}

    return of_source


def kept_of(source: Source, snapshot: Snapshot) -> list[dict[str, Any]]:
    """The points of a snapshot in order, or its labels, where a source is a file of labels."""
    rows = points_of(snapshot)
    if isinstance(source, Labels):
        rows = [
            row | {"tracked_at": row["started_at"], "lon_deg": 0.0, "lat_deg": 0.0, "point_id": 0}
            for bucket in snapshot.index.labels
            for row in rows_in_force(snapshot.labels(bucket))
        ]
    return sorted(rows, key=lambda row: (row["file_id"], row["line_number"], row["point_id"]))


def outcome_of(entry: dict[str, Any], *tables: list[dict[str, Any]]) -> Outcome:
    points, rejects, clean_points, clean_rejects = (
        [row for row in rows if row["file_id"] == entry["file_id"]] for rows in tables
    )
    return Outcome(
        entry,
        points,
        [value_of(row) for row in points],
        Counter(row["rule"] for row in rejects),
        [value_of(row) for row in clean_points],
        Counter(row["rule"] for row in clean_rejects),
    )


def value_of(row: dict[str, Any]) -> Value:
    return row["tracked_at"], row["lon_deg"], row["lat_deg"]


def read_cell(source: Source, text: str) -> tuple[str, dict[str, int | None], str]:
    """The kept records, the number of rejects by rule (None: any), and the rule of cleaning."""
    ingest, _bar, cleaning = text.partition(" | ")
    kept, *words = ingest.split()
    rules: dict[str, int | None] = {}
    for word in words:
        kind, _star, number = word.partition("*")
        rule = RULES[source.name].get(kind.rstrip("+"), kind.rstrip("+"))
        rules[rule] = None if kind.endswith("+") else int(number or 1)
    return kept.strip("-"), rules, cleaning


# The matrix.


def test_the_matrix_is_complete() -> None:
    """A new dataset, form of own files or kind of fault needs its row or column."""
    assert {source.dataset for source in SOURCES} == set(DATASETS)
    forms = set(ColumnsConfig.model_json_schema()["properties"]["form"]["enum"])
    tried = {source.columns["form"] for source in SOURCES if source.dataset == "own"}
    assert tried == forms
    assert set(EXPECTED) == set(FAULTS)
    for fault, cells in EXPECTED.items():
        assert set(cells) - {EVERY} <= set(BY_NAME), fault
        assert EVERY in cells or set(cells) == set(BY_NAME), fault
    for key, text in CELLS.items():
        has_reason = text.startswith("no: ") and len(text) > 10
        assert has_reason or set(text.split()[0]) <= set("-012"), key


@pytest.mark.parametrize(("name", "fault"), POSSIBLE)
def test_a_fault_in_a_file(outcomes, name: str, fault: str) -> None:
    source, found = BY_NAME[name], outcomes(name)[fault]
    numbers, rules, _cleaning = read_cell(source, CELLS[name, fault])
    assert found.kept == values(source, numbers, fault)
    assert set(found.rules) == set(rules)
    for rule, number in rules.items():
        assert number in (None, found.rules[rule])
    entry = found.entry
    assert entry["num_kept"] == len(found.kept)
    assert entry["num_rejected"] == found.rules.total()
    assert entry["num_records"] == entry["num_kept"] + entry["num_rejected"] >= 1
    assert entry["state"] == ("read" if numbers or found.rules.total() > 1 else "failed")


@pytest.mark.parametrize(
    ("name", "fault"),
    [key for key in POSSIBLE if " | " in CELLS[key] or key[1] in ("none", "out of order")],
)
def test_what_cleaning_makes_of_a_fault(outcomes, name: str, fault: str) -> None:
    source, found = BY_NAME[name], outcomes(name)[fault]
    if isinstance(source, Labels):
        assert found.cleaned == []
        return
    numbers, _rules, cleaning = read_cell(source, CELLS[name, fault])
    rule, _star, number = cleaning.partition("*")
    assert found.clean_rules == (Counter({rule: int(number or 1)}) if cleaning else Counter())
    left = "".join(sorted(set(numbers)))
    is_lost = rule in ("null_island", "unset_clock", "before_satellites")
    left = left.replace("1", "") if is_lost else left
    assert found.cleaned == values(source, left, fault)


@pytest.mark.parametrize(("name", "fault"), [key for key in POSSIBLE if key[0] != "synthetic"])
def test_a_second_reader_sees_all_that_is_kept(outcomes, name: str, fault: str) -> None:
    """No instant and no place is kept that does not stand in the record of that number."""
    source, found = BY_NAME[name], outcomes(name)[fault]
    body = FAULTS[fault](source, TAGS[fault])
    if body.startswith(b"\x1f\x8b") and found.rows:
        body = gzip.decompress(body)
    seen = seen_in(source, body) if found.rows else {}
    if (name, fault) == ("opensky", "open quote"):  # two objects count as one record
        seen = {number - 1: values for number, values in seen.items()}
    for row, (instant, lon_deg, lat_deg) in zip(found.rows, found.kept, strict=True):
        places = [(lon, lat) for at, lon, lat in seen.get(row["line_number"], []) if at == instant]
        assert pytest.approx((lon_deg, lat_deg), abs=1e-9) in places, row["line_number"]


@pytest.mark.parametrize("name", sorted(SENTINELS))
def test_what_stands_for_no_value_is_null(outcomes, name: str) -> None:
    rows = outcomes(name)["sentinels"].rows
    for column in SENTINELS[name]:
        assert [row[column] is None for row in rows] == [False, True, False], column


def test_each_sentinel_that_is_kept_is_looked_at() -> None:
    kept = {name for name in BY_NAME if CELLS[name, "sentinels"] == "012"}
    assert kept == set(SENTINELS)


# Faults that nobody thought of.

SCRAPS = st.sampled_from(
    [b"", b'"', b"\n", b"\r", b",", b"\t", b"\0", b"\xff", b"-", b"1e9", b"}", b"<"]
)
MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), SCRAPS), min_size=1, max_size=4)


def mutated(body: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """A file in which some bytes are lost or replaced by a scrap."""
    for share, num_lost, scrap in changes:
        at = int(share * len(body))
        body = body[:at] + scrap + body[at + num_lost :]
    return body


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "synthetic"])
def test_a_mutated_file_loses_no_count(name: str, tmp_path_factory) -> None:
    """And not one record of the good file beside it."""
    source = BY_NAME[name]

    @settings(max_examples=2, suppress_health_check=list(HealthCheck))
    @given(st.lists(MUTATIONS, min_size=25, max_size=25))
    def ingest_beside_a_good_file(mutations: list[list[tuple[float, int, bytes]]]) -> None:
        folder = tmp_path_factory.mktemp("mutated")
        tags = [f"{number}" for number in range(10, 10 + len(mutations))]
        files = {
            source.file.format(tag=tag): mutated(source.good(tag), changes)
            for tag, changes in zip(tags, mutations, strict=True)
        }
        good = source.file.format(tag=GOOD)
        files |= {good: source.good(GOOD)} | OTHERS.get(name, {})
        store = Store(folder / "store")
        snapshot = read_snapshot(store, ingested(source, tree(folder / "in", files), store))
        ledger, rejects = ledger_of(snapshot), rejects_of(snapshot)
        assert len(ledger) == len(files)
        for entry in ledger.values():
            assert entry["num_records"] == entry["num_kept"] + entry["num_rejected"] >= 1
        assert len(rejects) == sum(entry["num_rejected"] for entry in ledger.values())
        assert ledger[good.removeprefix("Data/")]["num_kept"] == 3
        for row in points_of(snapshot):
            assert -180 <= row["lon_deg"] < 180
            assert -90 <= row["lat_deg"] <= 90

    ingest_beside_a_good_file()


# Faults of a whole source.

HOSTILE = (
    "a[1]",
    "a1",
    "a*",
    "'; drop table x; --",
    "$(x)",
    "%2e%2e",
    "a b\n",
    "u\u0308",
    "\u00fc",
)
GOOD, TWIN, DAMAGED = "80", "81", "82"
EACH_SOURCE = pytest.mark.parametrize("name", list(BY_NAME))


def hostile_files(source: Source) -> dict[str, bytes]:
    """A good file under each name; T-Drive's begin with a digit."""
    stem = "9{}" if source.dataset == "tdrive" else "{}"
    return {
        source.file.format(tag=stem.format(odd)): source.good(f"{number}")
        for number, odd in enumerate(HOSTILE, start=90)
    }


@EACH_SOURCE
def test_hostile_names_are_only_names(outcomes, name: str) -> None:
    """Each file gives its own records: none stands for another, and no name is a pattern."""
    source, found = BY_NAME[name], outcomes(name)
    for number, file in enumerate(hostile_files(source), start=90):
        outcome = found[file.removeprefix("Data/")]
        assert outcome.kept == [v for i in range(3) for v in source.value(i, f"{number}")]
        assert outcome.rules == {}


@EACH_SOURCE
def test_a_file_of_another_kind_is_ignored_with_its_reason(outcomes, name: str) -> None:
    entry = next(o.entry for file, o in outcomes(name).items() if "stray.dat" in file)
    assert (entry["state"], entry["num_records"]) == ("ignored", 0)
    assert "holds no trajectories" in entry["reason"]


@EACH_SOURCE
def test_an_archive_that_cannot_be_opened_is_no_file_of_another_kind(outcomes, name: str) -> None:
    entry = next(o.entry for file, o in outcomes(name).items() if "inner.tar.gz" in file)
    assert (entry["state"], entry["num_records"]) == ("failed", 1)
    assert "broken or truncated tar archive" in entry["reason"]


@dataclass(frozen=True)
class Archived:
    """What became of an archive that holds its files in two orders, read in two zones."""

    ledger: dict[str, dict[str, Any]]
    rejects: list[tuple[str, str]]
    clean_rules: Counter[str]
    hashes: list[list[str]]


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory):
    """Of a source, an archive with a good file, its copies, and a damaged file."""

    @cache
    def of_source(name: str) -> Archived:
        source, folder = BY_NAME[name], tmp_path_factory.mktemp("archives")
        members = [(source.file.format(tag=tag), source.good(GOOD)) for tag in (GOOD, GOOD, TWIN)]
        members += [(source.file.format(tag=DAMAGED), source.good(DAMAGED))]
        members += OTHERS.get(name, {}).items()
        hashes = []
        for number, ordered in enumerate((members, members[::-1])):
            path = folder / f"{number}.zip"
            write_damaged(path, ordered, source.file.format(tag=DAMAGED))
            store = Store(folder / f"store{number}")
            with in_zone(("America/St_Johns", "Asia/Tokyo")[number]):
                receipt = ingested(source, path, store)
            [manifest] = store.published("part", source.dataset)
            hashes.append([manifest.recipe.digest, *(file.sha256 for file in manifest.files)])
        snapshot = read_snapshot(store, receipt)
        rejects = [(row["file_name"], row["rule"]) for row in rejects_of(snapshot)]
        rules = cleaned(source, receipt, store, "clean_rejects.parquet")
        return Archived(ledger_of(snapshot), rejects, Counter(row["rule"] for row in rules), hashes)

    return of_source


@contextlib.contextmanager
def in_zone(zone: str) -> Iterator[None]:
    """A computer whose clock shows the time of a zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


def write_damaged(path: Path, members: Iterable[tuple[str, bytes]], victim: str) -> None:
    """A zip archive in which one byte of a member is not what its checksum says."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        for file, body in members:
            archive.writestr(file, body)
    packed = bytearray(path.read_bytes())
    packed[packed.index(victim.encode()) + len(victim) + 20] ^= 1
    path.write_bytes(packed)


@EACH_SOURCE
def test_neither_order_of_files_nor_zone_of_the_computer_shapes_a_byte(archived, name: str) -> None:
    first, second = archived(name).hashes
    assert first == second


@EACH_SOURCE
def test_a_damaged_zip_member_fails_alone(archived, name: str) -> None:
    file = BY_NAME[name].file.format(tag=DAMAGED).removeprefix("Data/")
    assert archived(name).rejects == [(file, "unreadable")]
    assert archived(name).ledger[file]["state"] == "failed"


@EACH_SOURCE
def test_a_file_under_two_names_counts_twice_only_where_names_are_entities(
    archived, name: str
) -> None:
    """And a file that comes twice under one name is read once."""
    source, found = BY_NAME[name], archived(name)
    num_points = 3 * len(source.value(0, GOOD))
    for tag in (GOOD, TWIN):
        assert found.ledger[source.file.format(tag=tag).removeprefix("Data/")]["num_kept"] == (
            num_points
        )
    is_entity = CELLS[name, "no entity"] == NAMED_BY_FILE
    assert found.clean_rules == ({} if is_entity else {"exact_duplicate": num_points})
