"""Feeds of one's own in one store: each has a name, tables and models of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from flows.steps import points_of
from tasks.catalog.run import recorded_run
from tasks.config.datasets import dataset_named
from tasks.config.pipeline import PipelineConfig
from tasks.release.register import registered_name
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Receipt, Store


def feed(path: Path, *movers: str) -> Path:
    """A file in which each mover goes north for ten minutes."""
    rows = [
        f"{mover},2024-05-01T00:{minute:02d}:00Z,10,{50 + minute / 1000}"
        for mover in movers
        for minute in range(10)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["id,t,lon,lat", *rows]) + "\n")
    return path


def ingested(store: Store, source: Path, **given: Any) -> Receipt:
    config = PipelineConfig(dataset="own", **given)
    with without_orchestrator(), recorded_run(store, "ingest", config.dataset):
        return points_of(config, str(source), store)


def movers(store: Store, schema: str) -> list[str]:
    with duckdb.connect(str(store.warehouse), read_only=True) as connection:
        query = f"select distinct entity_id from {schema}.points order by 1"
        return [name for (name,) in connection.sql(query).fetchall()]


def test_two_named_feeds_share_nothing(store, tmp_path):
    ingested(store, feed(tmp_path / "a.csv", "ferry"), name="ferries")
    ingested(store, feed(tmp_path / "b.csv", "truck"), name="trucks")
    assert movers(store, "own_ferries") == ["ferry"]
    assert movers(store, "own_trucks") == ["truck"]
    names = {registered_name(PipelineConfig(dataset="own", name=name)) for name in ("a", "b", "")}
    assert names == {
        "trajfoundry-chemin-own_a",
        "trajfoundry-chemin-own_b",
        "trajfoundry-chemin-own",
    }


def test_a_second_feed_without_a_name_is_refused_and_the_first_stays(store, tmp_path):
    ingested(store, feed(tmp_path / "a.csv", "ferry"))
    other = feed(tmp_path / "b.csv", "truck")
    with pytest.raises(ConfigError, match=r"other files of yours as own \(a\.csv\).*--name NAME"):
        ingested(store, other)
    assert movers(store, "own") == ["ferry"]
    ingested(store, other, name="trucks")
    assert movers(store, "own") == ["ferry"]
    ingested(store, other, name="own")
    assert movers(store, "own") == ["truck"]


def test_another_feed_under_the_same_file_name_is_refused(store, tmp_path):
    ingested(store, feed(tmp_path / "sea" / "feed.csv", "ferry"))
    with pytest.raises(ConfigError, match="--name NAME to keep both apart"):
        ingested(store, feed(tmp_path / "land" / "feed.csv", "truck"))


def test_a_feed_that_grows_changes_and_moves_is_the_same(store, tmp_path):
    folder = tmp_path / "in"
    ingested(store, feed(folder / "may.csv", "ferry", "tug").parent)
    ingested(store, feed(folder / "june.csv", "yacht").parent)
    (folder / "may.csv").unlink()
    ingested(store, folder)
    ingested(store, feed(tmp_path / "moved" / "june.csv", "yacht", "barge"))
    assert movers(store, "own") == ["barge", "yacht"]


def test_what_only_you_know_is_told(store):
    config = PipelineConfig(dataset="own", name="ferries", licence="CC BY 4.0", entity_kind="ferry")
    row = config.source_row
    assert (row.name, row.licence, row.entity_kinds) == ("own_ferries", "CC BY 4.0", "ferries")
    assert row.title == "own_ferries: your own files"
    assert dataset_named("own_ferries").staging == dataset_named("own").staging
    again = PipelineConfig.model_validate(config.model_dump())
    assert again == config
    assert PipelineConfig.model_validate_json(config.model_dump_json()) == config
    plain = PipelineConfig(dataset="own").source_row
    assert (plain.title, plain.licence) == (dataset_named("own").title, "your own terms")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "ferries"}, "name is for your own files: give --dataset own"),
        ({"dataset": "hurdat2", "licence": "mine"}, "licence is for your own files"),
        ({"dataset": "own", "name": "Harbour Feed"}, "should match pattern"),
        ({"dataset": "own", "name": "a;drop"}, "should match pattern"),
        ({"dataset": "own_Ferries"}, "unknown dataset"),
        ({"dataset": "own_a", "name": "b"}, "another name than b"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(given, words):
    with pytest.raises(ValidationError, match=words):
        PipelineConfig(**given)
