"""Manifest of a finished folder: its recipe, its files, and the version that wrote it.

Fields that are unknown here were added by a newer version: they are kept, and count in the digest
and the checksum. Manifests of older versions are migrated as they are read, never on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from tasks.runtime.errors import ConfigError, UnreadableVersion
from tasks.runtime.frozen import Frozen

Counts = dict[str, int | float | str]
MANIFEST = "manifest.json"
SCHEMA = 2
FIRST_SCHEMA = 1  # had no number
LIBRARIES = ("duckdb", "numpy", "pyarrow", "torch")
PROJECT = "trajfoundry"


class Stored(Frozen):
    """A record that stands in a store, where a newer version may have added to it."""

    model_config = ConfigDict(extra="allow")


class Recipe(Stored):
    """Everything that decides the content of one step, in readable form.

    No clock, host, path or number of threads belongs here: the same recipe means the same content.
    """

    stage: str
    dataset: str
    code: dict[str, str] = Field(description="SHA-256 of each first-party source file.")
    sql: dict[str, str] = Field(description="SHA-256 of each SQL text.")
    settings: dict[str, Any]
    inputs: dict[str, str | list[str]] = Field(description="What each input holds, as hashes.")
    libraries: dict[str, str] = Field(
        default_factory=dict, description="Versions of libraries, where they are asked to count."
    )

    @cached_property
    def digest(self) -> str:
        """The name of the recipe: the first 32 hex digits of its SHA-256."""
        excluded = None if self.libraries else {"libraries"}
        return sha256_text(canonical_json(self.model_dump(mode="json", exclude=excluded)))[:32]

    @property
    def place(self) -> str:
        """The folder of the step, relative to the root of the store."""
        return f"{self.stage}/{self.dataset}/{self.digest}"


class StoredFile(Stored):
    """One file of a finished step."""

    name: str
    sha256: str
    num_bytes: int
    num_rows: int | None = None
    columns: dict[str, str] | None = None


class Manifest(Stored):
    """What a finished folder holds and where it came from.

    `lineage` names the recipes of the inputs that it was made of. The recipe names their content,
    so that inputs of other recipes may lead here as well.
    """

    version: int = Field(SCHEMA, alias="schema", description="Of this form of a manifest.")
    recipe: Recipe
    lineage: dict[str, str | list[str]] = Field(default_factory=dict)
    files: tuple[StoredFile, ...]
    counts: Counts
    requires: tuple[str, ...] = Field((), description="Folders that this one only points to.")
    licence: str
    versions: dict[str, str] = Field(description="Of the libraries that made it.")
    checksum: str = ""

    @property
    def text(self) -> str:
        """What stands in the file, with the checksum of its own content."""
        told = self.model_dump(mode="json", by_alias=True)
        return json.dumps(told | {"checksum": checksum_of(told)}, indent=2) + "\n"

    @property
    def content(self) -> str:
        """The name of what was published, files and counts, however it was made."""
        files = {file.name: file.sha256 for file in self.files}
        return sha256_text(canonical_json({"files": files, "counts": self.counts}))[:32]


class Receipt(Stored):
    """The small record of a finished step that tasks hand to each other.

    The recipe says how it was made and names its folder; `content` says what it holds.
    """

    stage: str
    dataset: str
    recipe: str
    counts: Counts
    content: str = ""

    @property
    def place(self) -> str:
        """The folder of the step, relative to the root of the store."""
        return f"{self.stage}/{self.dataset}/{self.recipe}"


# Read -------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, or None where it is missing, damaged, edited or of a newer form."""
    with contextlib.suppress(UnreadableVersion):
        return readable_manifest(folder)
    return None


def readable_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, or None where it is missing, damaged or was edited.

    One that a newer version wrote in a form that is unknown here is refused.
    """
    told = told_by(folder)
    if told is None:
        return None
    with contextlib.suppress(ValidationError, ConfigError):
        if told.get("checksum") == checksum_of(told):
            return Manifest.model_validate(migrated(told))
    version = told.get("schema", FIRST_SCHEMA)
    if isinstance(version, int) and version > SCHEMA:
        raise UnreadableVersion(
            f"{folder} was written by {writer_of(told)} (schema {version}) and cannot be read by "
            f"this version (schema {SCHEMA}); use that version, or another store with --store DIR"
        )
    return None


def told_by(folder: Path) -> dict[str, Any] | None:
    """What stands in the manifest of a folder, in whatever form, if it is JSON."""
    try:
        told = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def checksum_of(told: dict[str, Any]) -> str:
    """The hash of all that stands in a manifest; without a lineage, as before there was one."""
    left_out = {"checksum"} if told.get("lineage") else {"checksum", "lineage"}
    return sha256_text(canonical_json({k: v for k, v in told.items() if k not in left_out}))


def migrated(told: dict[str, Any]) -> dict[str, Any]:
    """A manifest in the present form: the first one had no number, and at first no lineage."""
    if "schema" in told:
        return told
    return {"lineage": {}, "requires": []} | told | {"schema": SCHEMA}


def writer_of(told: dict[str, Any]) -> str:
    """The version of this project that wrote a manifest, as far as it says."""
    versions = told.get("versions")
    found = versions.get(PROJECT) if isinstance(versions, dict) else None
    return f"{PROJECT} {found}" if found else f"another version of {PROJECT}"


# Names ------------------------------------------------------------------------------------------


def library_versions(names: tuple[str, ...] = (*LIBRARIES, PROJECT)) -> dict[str, str]:
    """Versions of the libraries that shape results, as they are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def canonical_json(value: Any) -> str:
    """One spelling for equal values; what JSON cannot say is refused."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"not a value that can be named in a recipe: {error}") from error


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
