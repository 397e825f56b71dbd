"""Table of named places: a file of yours, or airports, as the vectors that a network looks up.

What names the stage is the content of the table, wherever it lies: the same places are made once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.config.places_table import AIRPORTS, PlacesConfig
from tasks.config.slices import PlacesRules
from tasks.runtime import own_code
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {"longitude_deg": 180.0, "latitude_deg": 90.0}
TEXT = "text"
MOST_PLACES, MOST_NUMBERS, MOST_LETTERS = 500_000, 256, 1_000
FLAG, VECTORS_FLAG = "places.table", "places.vectors"
EXAMPLE = "my_package.my_module:my_function"
MADE = "as its module was read, or it was called with a list of texts as its one argument"
AIRPORTS_SOURCE = "airportsdata {}, https://github.com/mborsetti/airportsdata"
AIRPORTS_LICENCE = "MIT"
NO_AIRPORTS = (
    "places.table: airports are those of the package airportsdata, which is not installed; "
    "pip install 'trajfoundry[places]'"
)


def named_places(given: PlacesConfig, store: Store) -> Receipt:
    """The table of the configuration with a vector for each text."""
    table = read_table(given.table)
    source, licence = given.source, given.licence
    if given.table == AIRPORTS:
        source, licence = AIRPORTS_SOURCE.format(airports_version()), AIRPORTS_LICENCE
    rules = PlacesRules(
        source=source, licence=licence, vectors=given.vectors, reach_m=given.reach_m or 0.0
    )
    inputs: dict[str, Input] = {"table": digest_of(table)}
    if given.vectors:
        inputs["vectors"] = vectors_digest(given.vectors)
    return PLACES(PLACES.job("places", rules, inputs, store, licence=licence, source=given.table))


def build(draft: Path, job: Job[PlacesRules]) -> Counts:
    from model.interface.named_places import LETTERS, NamedPlaces, write_named_places

    rules, table = job.settings, read_table(job.source)
    if digest_of(table) != job.inputs["table"]:
        raise ConfigError(f"{FLAG}: {job.source} has just become another table; run again")
    texts = table[TEXT].to_pylist()
    lon_deg_P, lat_deg_P = (table[name].to_numpy() for name in COLUMNS)
    vector_PV = vectors_of(texts, rules.vectors)
    way = rules.vectors or LETTERS
    facts = way, rules.reach_m, rules.source, rules.licence
    places = NamedPlaces(lon_deg_P, lat_deg_P, vector_PV, *facts)
    write_named_places(draft, places)
    return {"places": len(texts), "numbers": places.num_numbers}


def vectors_of(texts: list[str], address: str) -> np.ndarray:
    """The vectors (P, V) of texts: by their letters, or as a function of one's own tells them."""
    from model.features.letters import text_vectors

    if not address:
        return text_vectors(texts)
    with own_code.told_as_of(address, MADE):
        made = own_code.named_in(address, EXAMPLE, VECTORS_FLAG, "function")(texts)
        vector_PV = np.array(made, np.float32)
    if vector_PV.ndim != 2 or len(vector_PV) != len(texts):
        raise ConfigError(
            f"{VECTORS_FLAG}: {address} made an array of the shape {vector_PV.shape} of "
            f"{len(texts)} texts; it should have a row of numbers for each"
        )
    if not 1 <= vector_PV.shape[1] <= MOST_NUMBERS or not np.isfinite(vector_PV).all():
        raise ConfigError(
            f"{VECTORS_FLAG}: {address} should make from 1 to {MOST_NUMBERS} finite numbers of a "
            "text"
        )
    return vector_PV


def vectors_digest(address: str) -> str:
    if not own_code.is_local(address):
        raise ConfigError(f"{VECTORS_FLAG}: {address} is no function; give {EXAMPLE}")
    return own_code.source_digest(address, EXAMPLE, VECTORS_FLAG)


# Tables -----------------------------------------------------------------------------------------


def read_table(address: str) -> pa.Table:
    """Longitude, latitude and text of each place, in an order that their content decides."""
    import pyarrow as pa

    raw = airports() if address == AIRPORTS else file_table(Path(address).expanduser())
    columns: dict[str, Any] = {}
    for name, limit_deg in COLUMNS.items():
        columns[name] = degrees(raw, name, limit_deg, address)
    try:
        columns[TEXT] = raw[TEXT].cast(pa.string()).fill_null("").combine_chunks()
    except pa.ArrowException as error:
        raise DataError(f"{FLAG}: {TEXT} of {address} is no text in UTF-8: {error}") from error
    table = pa.table(columns)
    if not 1 <= len(table) <= MOST_PLACES:
        raise ConfigError(
            f"{FLAG}: {address} has {len(table):,} places; it may have from 1 to {MOST_PLACES:,}"
        )
    if max(map(len, table[TEXT].to_pylist())) > MOST_LETTERS:
        raise ConfigError(f"{FLAG}: {address} has a text of over {MOST_LETTERS:,} letters")
    return table.sort_by([(name, "ascending") for name in table.column_names])


def degrees(raw: pa.Table, name: str, limit_deg: float, address: str) -> np.ndarray:
    import pyarrow as pa

    try:
        value_P = raw[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{FLAG}: {name} of {address} holds what is no number") from error
    num_bad = int((~(np.abs(value_P) <= limit_deg)).sum())  # NaN is not
    if num_bad:
        raise DataError(
            f"{FLAG}: {name} must be from {-limit_deg:g} to {limit_deg:g}: {num_bad} of "
            f"{len(value_P)} places of {address} are not"
        )
    return np.asarray(value_P)


def file_table(path: Path) -> pa.Table:
    """The table of a CSV or Parquet file that has the columns."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if not path.is_file():
        raise ConfigError(
            f"{FLAG}: there is no file {path}; give a CSV or Parquet file, or {AIRPORTS}"
        )
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".pq")
        # A text of digits is a text as well: 007 is not 7.
        as_text = csv.ConvertOptions(column_types={TEXT: pa.string()})
        raw = (
            parquet.read_table(path, partitioning=None)
            if is_parquet
            else csv.read_csv(path, convert_options=as_text)
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{FLAG}: {path.name} is no CSV or Parquet file: {error}") from error
    for name in (*COLUMNS, TEXT):
        if raw.column_names.count(name) != 1:
            raise DataError(
                f"{FLAG}: {path.name} needs one column {name}; it has: "
                f"{', '.join(raw.column_names)[:200]}"
            )
    return raw


def airports() -> pa.Table:
    """All airports and landing strips of the package, each by its name, town and country."""
    import pyarrow as pa

    try:
        import airportsdata
    except ModuleNotFoundError:
        raise ConfigError(NO_AIRPORTS) from None
    rows = airportsdata.load("ICAO").values()
    texts = [" ".join(filter(None, (row["name"], row["city"], row["country"]))) for row in rows]
    place_deg = ([row[name] for row in rows] for name in ("lon", "lat"))
    return pa.table({**dict(zip(COLUMNS, place_deg, strict=True)), TEXT: texts})


def airports_version() -> str:
    from importlib.metadata import version

    return version("airportsdata")


def digest_of(table: pa.Table) -> str:
    """The name of the content of a table."""
    digest = hashlib.sha256()
    for name in COLUMNS:
        digest.update(table[name].to_numpy().tobytes())
    digest.update("\0".join(table[TEXT].to_pylist()).encode())
    return digest.hexdigest()[:32]


PLACES = Stage("places", build)
