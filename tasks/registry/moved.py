"""Moved registries: addresses of artifacts put right where a store was moved or copied.

MLflow keeps whole addresses in its database. Those of a store's own database belong to the folder
beside it, wherever that lies now.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.runtime.store import Store
from tasks.runtime.words import counted

ARTIFACTS = "mlflow-artifacts"
MODELS = ("logged_models", "artifact_location")
ADDRESSES = (
    MODELS,
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
BUSY_S = 30.0


@dataclass(frozen=True)
class Healed:
    """How many addresses were put right, and those of models whose files are nowhere."""

    num_addresses: int = 0
    lost: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What a person should know of it."""
        told = []
        if self.num_addresses:
            told.append(f"registry: {counted(self.num_addresses, 'address')} put right")
        if self.lost:
            told.append(
                f"registry: the files of {counted(len(self.lost), 'model')} are missing, such as "
                f"{self.lost[0]}: put the folder {ARTIFACTS} of the store that they were made in "
                "beside mlflow.db, or run again what made them"
            )
        return told


def heal(store: Store) -> Healed:
    """Point what the store's own registry says of its files to where the store lies now."""
    if not (store.root / "mlflow.db").exists():
        return Healed()
    folder = store.root / ARTIFACTS
    num_addresses, lost = 0, []
    with opened(store.root / "mlflow.db") as connection:
        for table, column in ADDRESSES:
            if column not in columns_of(connection, table):
                continue
            for (address,) in connection.execute(
                f"select distinct {column} from {table}"
            ).fetchall():
                here = address_here(address, folder)
                if (table, column) == MODELS and not is_there(here or address):
                    here = None
                    lost += [] if is_there(address) else [address]
                if here is not None and here != address:
                    num_addresses += connection.execute(
                        f"update {table} set {column} = ? where {column} = ?", (here, address)
                    ).rowcount
    return Healed(num_addresses, tuple(lost))


@contextlib.contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """The database in one transaction, closed at the end."""
    with contextlib.closing(sqlite3.connect(database, timeout=BUSY_S)) as connection, connection:
        yield connection


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """The columns of a table, none of one that this version of MLflow lacks."""
    return {row[1] for row in connection.execute(f"pragma table_info({table})")}


def address_here(address: str | None, folder: Path) -> str | None:
    """An address in a store's folder of artifacts as one in this folder; none of any other."""
    if not address or not address.startswith("file:"):
        return None
    _base, name, rest = address.rpartition(f"/{ARTIFACTS}")
    if not name or rest[:1] not in ("", "/") or not folder.is_dir():
        return None
    return f"{folder.as_uri()}{rest}"


def is_there(address: str | None) -> bool:
    """Whether an address of this machine leads to something."""
    parts = urlsplit(address or "")
    return parts.scheme != "file" or Path(unquote(parts.path)).exists()
