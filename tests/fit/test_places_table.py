"""Tables of named places: read from files, named by their content, and refused in words."""

from __future__ import annotations

import sys
from types import ModuleType

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from model.features.letters import text_vectors
from model.interface.named_places import read_named_places
from tasks.config.pipeline import PipelineConfig
from tasks.pretrain.places_table import named_places, read_table
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

PLACES = {
    "longitude_deg": [8.55, -0.45, 179.9],
    "latitude_deg": [47.46, 51.47, -17.75],
    "text": ["Zürich airport", "Heathrow", None],
}
OWN = {"source": "a list of three", "licence": "CC0"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def config(table, **more):
    return PipelineConfig(model={"family": "foundry"}, places={"table": str(table), **OWN, **more})


def made(given, store):
    with without_orchestrator():
        return named_places(given.places, store)


def test_a_table_is_the_same_from_either_file_and_made_once(tmp_path, store):
    """Whatever the order of its rows; another text, or another reach, is another table."""
    csv.write_csv(pa.table(PLACES), tmp_path / "places.csv")
    turned = {name: value[::-1] for name, value in PLACES.items()}
    parquet.write_table(pa.table(turned), tmp_path / "places.parquet")
    first, again = (
        made(config(tmp_path / name), store) for name in ("places.csv", "places.parquet")
    )
    assert first.recipe == again.recipe
    assert first.counts == {"places": 3, "numbers": 32}
    found = read_named_places(store.folder(first))
    told = sorted(zip(*PLACES.values(), strict=True), key=lambda place: place[0])
    assert found.lon_deg_P.tolist() == [place[0] for place in told]
    assert (found.vector_PV == text_vectors([place[2] or "" for place in told])).all()
    assert (found.source, found.licence) == tuple(OWN.values())
    assert made(config(tmp_path / "places.csv", reach_m=50.0), store).recipe != first.recipe
    csv.write_csv(pa.table(PLACES | {"text": ["a", "b", "c"]}), tmp_path / "places.csv")
    assert made(config(tmp_path / "places.csv"), store).recipe != first.recipe


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": None}, "needs one column text; it has: longitude_deg, latitude_deg"),
        ({"latitude_deg": [91.0, 0.0, 0.0]}, "latitude_deg must be from -90 to 90: 1 of 3"),
        ({"longitude_deg": ["east", "0", "0"]}, "longitude_deg of .* holds what is no number"),
        ({"longitude_deg": [1.0, None, 0.0]}, "longitude_deg must be from -180 to 180: 1 of 3"),
        ({"text": ["x" * 1_001, "", ""]}, "a text of over 1,000 letters"),
    ],
)
def test_what_is_no_table_of_places_is_refused(tmp_path, store, columns, said):
    given = {name: value for name, value in (PLACES | columns).items() if value is not None}
    csv.write_csv(pa.table(given), tmp_path / "places.csv")
    with pytest.raises((ConfigError, DataError), match=said):
        made(config(tmp_path / "places.csv"), store)


def test_a_text_is_read_as_it_is_written(tmp_path):
    """From either file: what looks like a number, or like nothing, is a text."""
    text = ["007", "1.50", "NA"]
    table = pa.table(PLACES | {"text": text})
    csv.write_csv(table, tmp_path / "places.csv")
    parquet.write_table(table, tmp_path / "places.parquet")
    for name in ("places.csv", "places.parquet"):
        assert sorted(read_table(str(tmp_path / name))["text"].to_pylist()) == sorted(text)


def test_a_text_that_is_none_is_refused(tmp_path):
    latin = "longitude_deg,latitude_deg,text\n8,50,Caf\xe9\n".encode("latin-1")
    (tmp_path / "latin.csv").write_bytes(latin)
    for name, text in (("list", [["a"], ["b"], []]), ("bytes", [b"\xff", b"", b"a"])):
        parquet.write_table(pa.table(PLACES | {"text": text}), tmp_path / f"{name}.parquet")
    for name in ("latin.csv", "list.parquet", "bytes.parquet"):
        with pytest.raises(DataError, match=r"places.table: .*(UTF8|UTF-8)"):
            read_table(str(tmp_path / name))


def test_a_file_that_is_not_there_is_named(tmp_path, store):
    with pytest.raises(ConfigError, match=r"there is no file .*none.csv; give a CSV or Parquet"):
        made(config(tmp_path / "none.csv"), store)


def test_a_function_of_ones_own_makes_the_vectors(tmp_path, store, monkeypatch):
    """An edit of it makes the table again, and what it returns is checked."""
    monkeypatch.chdir(tmp_path)
    csv.write_csv(pa.table(PLACES), tmp_path / "places.csv")
    given = config(tmp_path / "places.csv", vectors="my_texts:lengths")

    def written(made_of):
        (tmp_path / "my_texts.py").write_text(f"def lengths(texts):\n    return {made_of}\n")

    written("[[len(text), 1] for text in texts]")
    first = made(given, store)
    found = read_named_places(store.folder(first))
    assert found.vector_PV.tolist() == [[8, 1], [14, 1], [0, 1]]
    assert found.way == "my_texts:lengths"
    written("[[len(text), 2] for text in texts]")
    assert made(given, store).recipe != first.recipe
    for made_of, said in (
        ("[1.0, 2.0]", r"made an array of the shape \(2,\) of 3 texts"),
        ("[[float('nan')]] * 3", "from 1 to 256 finite numbers"),
        ("1 / 0", r"my_texts:lengths failed: ZeroDivisionError.*my_texts.py, line 2"),
    ):
        written(made_of)
        with pytest.raises((ConfigError, DataError), match=said):
            made(given, store)
    with pytest.raises(ConfigError, match="my_texts is no function"):
        made(config(tmp_path / "places.csv", vectors="my_texts"), store)


def test_airports_are_those_of_a_package_that_may_be_absent(store, monkeypatch):
    """Asked for without it, the answer is how to get it; with it, name and town are told."""
    given = PipelineConfig(model={"family": "foundry"}, places={"table": "airports"})
    monkeypatch.setitem(sys.modules, "airportsdata", None)
    with pytest.raises(ConfigError, match=r"pip install 'trajfoundry\[places\]'"):
        made(given, store)
    package = ModuleType("airportsdata")
    row = {"name": "Zurich Airport", "city": "", "country": "CH", "lon": 8.55, "lat": 47.46}
    package.load = lambda code: {"LSZH": row}
    monkeypatch.setitem(sys.modules, "airportsdata", package)
    table = read_table("airports")
    assert table.to_pylist() == [
        {"longitude_deg": 8.55, "latitude_deg": 47.46, "text": "Zurich Airport CH"}
    ]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"table": "x.csv", "source": "a list"}, "needs places.source and places.licence"),
        ({"table": "x.csv", "source": " ", "licence": "\n"}, "needs places.source and places.lic"),
        ({"table": "airports", "licence": "CC0"}, "tells its own source and licence"),
        ({"reach_m": 5.0}, "reach_m is of a table of places: give places.table"),
    ],
)
def test_a_table_of_ones_own_has_a_source_and_a_licence(places, said):
    with pytest.raises(ValueError, match=said):
        PipelineConfig(model={"family": "foundry"}, places=places)


def test_a_source_is_one_line_of_the_card():
    places = {"table": "x.csv", "source": "a list\n# Not a heading", "licence": "CC0"}
    told = PipelineConfig(model={"family": "foundry"}, places=places).places.source
    assert told == "a list # Not a heading"


def test_a_family_that_looks_no_places_up_is_given_none():
    with pytest.raises(ValueError, match="chemin looks no places up"):
        PipelineConfig(model={"family": "chemin"}, places={"table": "x.csv", **OWN})
