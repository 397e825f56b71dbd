"""Quality of a dataset: what became of its records, and how the points lie that were kept.

One folder per run: `quality.html` and `quality.md` for people, `quality.json` for machines, and
the figures. Where the dataset is personal, places are told only as cells that enough entities
share. A source that is refused for its rejects gets the report too, as far as it was read.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import QualityRules, taken
from tasks.database import Connection, materialise, scratch, view_files
from tasks.ingest.snapshot import IN_NO_LIMIT, LEDGER, REJECTS, part_receipt, read_snapshot
from tasks.report.count_words import Pairs, count_pairs
from tasks.report.figures import (
    MIN_ENTITIES,
    Table,
    bounds_deg,
    cell_figure,
    histogram_figure,
    near_busiest,
)
from tasks.report.html_page import markdown_text, page
from tasks.report.markup import escaped, pairs_table
from tasks.report.page_parts import Part, Picture
from tasks.runtime.errors import TooManyRejected
from tasks.runtime.progress import is_in_run
from tasks.runtime.stage import Input, Job, NamedInput, Stage
from tasks.runtime.store import Counts, Receipt, Store, spelt

TABLES = ("reports/quality_steps", "reports/quality_bins", "reports/quality_gaps")
CELLS = "reports/quality_cells"
SIZES_DEG, MAX_COARSE_CELLS = (0.02, 0.25, 2.0), (25, 2_500)
NUM_WORST = 5
BINS_A_DECADE = 8
LABELS = {"step_s": ("Sampling interval", "seconds"), "speed_mps": ("Speed", "metres a second")}
QUANTILES = ("p0", "p5", "p25", "p50", "p75", "p95", "p99", "p100")
Found = dict[str, Any]


def rules_of(config: PipelineConfig) -> QualityRules:
    row = config.source_row
    min_entities = MIN_ENTITIES if row.is_personal else 1
    return taken(QualityRules, config.ingest, config.clean_rules, row, min_entities=min_entities)


def run_quality(config: PipelineConfig, inputs: dict[str, Input], store: Store) -> Receipt:
    licence = config.source_row.licence
    return STAGE(STAGE.job(config.dataset, rules_of(config), inputs, store, licence=licence))


def quality(
    config: PipelineConfig,
    snapshot: Receipt,
    cleaned: Sequence[Receipt],
    featured: Sequence[Receipt],
    known: Receipt,
    store: Store,
) -> Receipt:
    """The quality report of a dataset: its files in force, its clean points, steps and regions."""
    inputs: dict[str, Input] = {
        "snapshot": NamedInput(
            receipt=snapshot, name=read_snapshot(store, snapshot).records_content()
        ),
        "cleaned": list(cleaned),
        "featured": list(featured),
        "regions": known,
    }
    return run_quality(config, inputs, store)


@contextlib.contextmanager
def refusal_reported(config: PipelineConfig, store: Store) -> Iterator[None]:
    """Leave a report beside the run where a source is refused, and name it in the error."""
    try:
        yield
    except TooManyRejected as error:
        parts = [store.receipt(part_receipt(config.dataset, recipe)) for recipe in error.parts]
        files = [f"{file_id:016x}" for file_id in sorted(error.file_ids)]
        inputs: dict[str, Input] = {"parts": parts, "files": files}
        receipt = run_quality(config, inputs, store)
        show_quality(receipt, store)
        page = store.folder(receipt) / "quality.html"
        raise TooManyRejected(f"{error}; report: {page}", error.parts, error.file_ids) from None


def show_quality(receipt: Receipt, store: Store) -> None:
    """Leave the report beside the flow run; without one there is nothing to leave it beside."""
    if not is_in_run():
        return
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        (store.sound(receipt) / "quality.md").read_text(encoding="utf-8"),
        key=f"{receipt.dataset.replace('_', '-')}-quality",
        description="What became of the records, and how the points lie.",
    )


def build(draft: Path, job: Job[QualityRules]) -> Counts:
    """Measure, draw, then write the three forms of the report."""
    found = ingested(job)
    figures: dict[str, bytes] = {}
    if job.inputs.get("cleaned"):
        found |= {"cleaning": added_up(job.receipts("cleaned"))}
        found |= {"regions": dict(job.receipt("regions").counts)}
        measured, figures = measures(draft, job)
        found |= measured
    for name, content in figures.items():
        (draft / f"{name}.png").write_bytes(content)
    title = f"Quality of {job.settings.title}"
    parts = quality_parts(title, tables_of(found, job.settings), figures)
    (draft / "quality.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    (draft / "quality.md").write_text(markdown_text(parts), encoding="utf-8")
    (draft / "quality.html").write_text(page(title, parts), encoding="utf-8")
    records = found["records"]
    return {name: records[name] for name in ("num_records", "num_rejected")} | {
        "figures": len(figures)
    }


# What is measured -------------------------------------------------------------------------------


def ingested(job: Job[QualityRules]) -> Found:
    """Files and records in force: counts by rule, the worst files, and files of equal content."""
    ledger, rules = in_force(job)
    points = [entry for entry in ledger if entry["kind"] == "points"]
    names = ("num_records", "num_kept", "num_rejected", "num_missing")
    records = {name: sum(entry[name] for entry in points) for name in names}
    labels = [entry for entry in ledger if entry["kind"] == "labels"]
    if labels:
        records["num_labels"] = sum(entry["num_kept"] for entry in labels)
    worst = sorted(points, key=lambda entry: (-entry["num_rejected"], entry["name"]))
    copies = Counter(entry["sha256"] for entry in points)
    return {
        "files": dict(sorted(Counter(entry["state"] for entry in ledger).items())),
        "records": records | {f"rejected_{rule}": n for rule, n in sorted(rules.items())},
        "worst_files": [
            {"name": entry["name"], "num_rejected": entry["num_rejected"]}
            for entry in worst[:NUM_WORST]
            if entry["num_rejected"]
        ],
        "copies": {
            "num_files_of_equal_content": sum(n for n in copies.values() if n > 1),
            "num_contents_given_again": sum(n > 1 for n in copies.values()),
        },
    }


def in_force(job: Job[QualityRules]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The ledger rows and the rejects by rule of a snapshot, or of the parts of a refused one."""
    if "snapshot" in job.inputs:
        snapshot = read_snapshot(job.store, job.receipt("snapshot"))
        ledger, places = (
            pq.read_table(snapshot.ledger, partitioning=None).to_pylist(),
            snapshot.rejects(),
        )
    else:
        file_ids = [int(text, 16) for text in job.inputs["files"] if isinstance(text, str)]
        folders = [job.store.folder(part) for part in job.receipts("parts")]
        ids = [("file_id", "in", file_ids)]
        paths = [folder / LEDGER for folder in folders]
        ledger = pq.read_table(paths, filters=ids, partitioning=None).to_pylist()
        places = [(folder / REJECTS, file_ids) for folder in folders]
    rules: Counter[str] = Counter()
    for path, wanted in places:
        rows = pq.read_table(
            path, columns=["rule"], filters=[("file_id", "in", wanted)], partitioning=None
        )
        rules.update(rows["rule"].to_pylist())
    return ledger, rules


def added_up(receipts: Sequence[Receipt]) -> dict[str, int]:
    """The counts of the buckets, added up."""
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update({name: n for name, n in receipt.counts.items() if isinstance(n, int)})
    return dict(total)


def measures(draft: Path, job: Job[QualityRules]) -> tuple[Found, dict[str, bytes]]:
    """Steps, silences and places of the clean points, with their figures."""
    cleaned, featured = (
        [job.store.folder(receipt) for receipt in job.receipts(name)]
        for name in ("cleaned", "featured")
    )
    with scratch(draft, *cleaned, *featured) as con:
        view_files(con, cleaned, "clean_points", "trips")
        view_files(con, featured, "steps")
        for table in TABLES:
            materialise(con, table)
        steps = {row.pop("measure"): row for row in table_rows(con, "quality_steps")}
        [gaps] = table_rows(con, "quality_gaps")
        bins = table_rows(con, "quality_bins")
        cells = crowded(con, job.settings.min_entities)
    figures = {
        measure: histogram_figure(edges, *words)
        for measure, words in LABELS.items()
        if (edges := edges_of(bins, measure))
    }
    if not cells.empty:
        figures["map"] = cell_figure(*near_busiest(cells), job.settings.min_entities)
    return {"steps": steps, "gaps": gaps, "bins": bins, "extent": extent_of(cells)}, figures


def table_rows(con: Connection, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = con.table(table).to_arrow_table().to_pylist()
    return rows


def edges_of(bins: Sequence[Mapping[str, Any]], measure: str) -> list[tuple[float, float, int]]:
    """The bins of a measure as (from, to, number)."""
    return [
        (
            10 ** (row["bin"] / BINS_A_DECADE),
            10 ** ((row["bin"] + 1) / BINS_A_DECADE),
            row["num_steps"],
        )
        for row in bins
        if row["measure"] == measure
    ]


def crowded(con: Connection, min_entities: int) -> Table:
    """The cells that may be shown, with their number of entities: the finer, the fewer they are.

    The coarse cells of one degree decide on the size, so that a city is shown as a city.
    """
    num_coarse = materialise(con, CELLS, size_deg=1.0, min_entities=min_entities)
    size_deg = SIZES_DEG[sum(num_coarse > limit for limit in MAX_COARSE_CELLS)]
    materialise(con, CELLS, size_deg=size_deg, min_entities=min_entities)
    cells = con.table("quality_cells").df()
    west_deg, south_deg = cells["east"] * size_deg, cells["north"] * size_deg
    return cells.assign(west_deg=west_deg, south_deg=south_deg, size_deg=size_deg)


def extent_of(cells: Table) -> dict[str, float]:
    """The bounds of the cells that may be told, of which the map may show a part."""
    if cells.empty:
        return {"num_cells": 0}
    names = ("west_deg", "south_deg", "east_deg", "north_deg")
    bounds = {name: round(bound, 6) for name, bound in zip(names, bounds_deg(cells), strict=True)}
    return {"num_cells": len(cells), "cell_deg": cells["size_deg"].max(), **bounds}


# How it is told ---------------------------------------------------------------------------------


def tables_of(found: Found, rules: QualityRules) -> dict[str, Pairs]:
    """The tables of the report by heading, as pairs of a name and a value."""
    records = found["records"]
    num_limited = records["num_rejected"] - sum(
        records.get(f"rejected_{rule}", 0) for rule in IN_NO_LIMIT
    )
    share = num_limited / max(records["num_records"], 1)
    tables = {
        "Records read": [
            *count_pairs(records),
            (
                "share rejected that the limit counts",
                f"{share:.2%} (at most {rules.max_rejected_share:.0%} may be)",
            ),
            *[(f"files {state}", f"{n:,}") for state, n in found["files"].items()],
            *[(row["name"], f"{row['num_rejected']:,} rejected") for row in found["worst_files"]],
        ],
        "Copies": count_pairs(found["copies"]),
    }
    if "cleaning" in found:
        tables["Cleaning"] = count_pairs(found["cleaning"])
        limits = {
            "step_s": ("expected", spelt(rules.interval_s)),
            "speed_mps": ("limit", spelt(rules.max_speed_mps)),
        }
        for measure, row in sorted(found["steps"].items()):
            title, unit = LABELS[measure]
            tables[f"{title} ({unit})"] = [(name, f"{row[name]:,.2f}") for name in QUANTILES] + [
                limits[measure]
            ]
        gaps = {name: value for name, value in found["gaps"].items() if value is not None}
        tables[f"Silences between trips, over {spelt(rules.max_gap_s)} s within a track"] = (
            count_pairs(gaps)
        )
        tables["Regions that training knows, and what lies outside of them"] = count_pairs(
            found["regions"]
        )
        tables["Extent, as cells"] = count_pairs(found["extent"])
    tables["Source"] = [
        (name, getattr(rules, name)) for name in ("title", "licence", "citation", "homepage")
    ]
    return tables


def quality_parts(
    title: str, tables: Mapping[str, Pairs], figures: Mapping[str, bytes]
) -> list[str | Part]:
    """The tables under their headings, and the figures before the last of them."""
    parts: list[str | Part] = [f"# {escaped(title)}"]
    for heading, pairs in tables.items():
        parts += [f"## {escaped(heading)}", pairs_table(("fact", "value"), pairs)]
    pictures = [Picture(name, content) for name, content in figures.items()]
    hidden = [] if "map" in figures else ["No cell may be shown, so no map is drawn."]
    return [*parts[:-2], *pictures, *hidden, *parts[-2:]]


STAGE = Stage("quality", build, sql=(*TABLES, CELLS))
