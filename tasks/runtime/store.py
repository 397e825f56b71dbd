"""Store of immutable folders, each named by the recipe of its content.

The only file that knows how the store is laid out::

    <root>/<stage>/<dataset>/<recipe>/   a finished step: its files and manifest.json
    <root>/.tmp/                         drafts, each with a lock that dies with its process
    <root>/.receipts/                    what Prefect keeps of task results (mode 0700)
    <root>/.work/<recipe>/               resumable work of a long step (training checkpoints)
    <root>/runs/                         one JSON record per pipeline run
    <root>/warehouse.duckdb              views for people

A folder is complete when its manifest is there, agrees with its name, and each listed file has
the listed size. Nothing finished is ever changed: a broken folder is moved aside whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from tasks.runtime.errors import ConfigError, DataError, StorageError
from tasks.runtime.frozen import Frozen
from tasks.runtime.limits import LEAST_BYTES, full_disk

Counts = dict[str, int | float | str]
MANIFEST = "manifest.json"
UNREADABLE = "?\\\n\r"  # DuckDB finds no file below a folder of such a name
RECORDED_LIBRARIES = ("duckdb", "numpy", "pyarrow", "torch", "trajfoundry")


class Recipe(Frozen):
    """Everything that decides the content of one step, in readable form.

    No clock, host, path or number of threads belongs here: the same recipe means the same content.
    """

    stage: str
    dataset: str
    code: dict[str, str] = Field(description="SHA-256 of each first-party source file.")
    sql: dict[str, str] = Field(description="SHA-256 of each SQL text.")
    settings: dict[str, Any]
    inputs: dict[str, str | list[str]] = Field(description="What each input holds, as hashes.")

    @cached_property
    def digest(self) -> str:
        """The name of the recipe: the first 32 hex digits of its SHA-256."""
        return sha256_text(canonical_json(self.model_dump(mode="json")))[:32]


class StoredFile(Frozen):
    """One file of a finished step."""

    name: str
    sha256: str
    num_bytes: int
    num_rows: int | None = None
    columns: dict[str, str] | None = None


class Manifest(Frozen):
    """What a finished folder holds and where it came from.

    `lineage` names the recipes of the inputs that it was made of. The recipe names their content,
    so that inputs of other recipes may lead here as well.
    """

    recipe: Recipe
    lineage: dict[str, str | list[str]] = Field(default_factory=dict)
    files: tuple[StoredFile, ...]
    counts: Counts
    requires: tuple[str, ...] = Field((), description="Folders that this one only points to.")
    licence: str
    versions: dict[str, str]
    checksum: str = ""

    def sealed(self) -> Manifest:
        """The same manifest with the checksum of its own content."""
        return self.model_copy(update={"checksum": self.content_hash()})

    def content_hash(self) -> str:
        """The hash of all that stands here; of manifests without a lineage, as it always was."""
        excluded = {"checksum"} if self.lineage else {"checksum", "lineage"}
        return sha256_text(canonical_json(self.model_dump(mode="json", exclude=excluded)))

    @property
    def content(self) -> str:
        """The name of what was published, files and counts, however it was made."""
        files = {file.name: file.sha256 for file in self.files}
        return sha256_text(canonical_json({"files": files, "counts": self.counts}))[:32]


class Receipt(Frozen):
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


class Store:
    """The folder that holds every result; reached only through this class."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.drafts = self.root / ".tmp"
        self.receipts = self.root / ".receipts"
        self.runs = self.root / "runs"
        self.warehouse = self.root / "warehouse.duckdb"

    def prepare(self) -> None:
        """Make the private folders, or say plainly why that is impossible."""
        if odd := ({*UNREADABLE} - {os.sep}) & {*str(self.root)}:
            raise StorageError(
                f"no store can be below {str(self.root)!r}: {min(odd)!r} in a folder name; "
                "give another folder with --store DIR"
            )
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for private in (self.drafts, self.receipts):
                private.mkdir(mode=0o700, exist_ok=True)
            self.receipts.chmod(0o700)
            with tempfile.TemporaryFile(dir=self.drafts) as probe:
                probe.write(bytes(LEAST_BYTES))  # nameless: nothing stays, whatever ends us
        except OSError as error:
            if (full := full_disk(error, self.root, "anything")) is not None:
                raise full from error
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StorageError(
                f"cannot write to the store {self.root}: {reason}; "
                "give a writable folder with --store DIR"
            ) from error

    def work(self, recipe: str) -> Path:
        """The resumable work folder of a step that takes long."""
        folder = self.root / ".work" / recipe
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_work(self, recipe: str) -> None:
        shutil.rmtree(self.root / ".work" / recipe, ignore_errors=True)

    def folder(self, step: Receipt | Recipe) -> Path:
        digest = step.digest if isinstance(step, Recipe) else step.recipe
        return self.root / step.stage / step.dataset / digest

    def published(self, stage: str, dataset: str) -> Iterator[Manifest]:
        """The manifests of all complete folders of a stage, in order of their names."""
        for folder in sorted((self.root / stage / dataset).glob("*/")):
            manifest = read_manifest(folder)
            if manifest is not None and self.is_complete(manifest.recipe):
                yield manifest

    def manifest(self, step: Receipt | Recipe) -> Manifest:
        """The manifest of a finished step; a missing or damaged one is an error."""
        manifest = read_manifest(self.folder(step))
        if manifest is None:
            raise StorageError(f"no complete result at {self.folder(step)}; run the pipeline again")
        return manifest

    def is_complete(self, step: Receipt | Recipe) -> bool:
        """Whether the folder of a step can be used: named right, nothing missing or cut."""
        return self._is_sound(self.folder(step))

    def _is_sound(self, folder: Path) -> bool:
        manifest = read_manifest(folder)
        return (
            manifest is not None
            and manifest.recipe.digest == folder.name
            and all(size_of(folder / file.name) == file.num_bytes for file in manifest.files)
            and all(self._is_sound(self.root / place) for place in manifest.requires)
        )

    def receipt(self, step: Receipt | Recipe) -> Receipt:
        """The receipt of a finished step, always rebuilt from its manifest."""
        manifest = self.manifest(step)
        return Receipt(
            stage=step.stage,
            dataset=step.dataset,
            recipe=manifest.recipe.digest,
            counts=manifest.counts,
            content=manifest.content,
        )

    def verify(self, step: Receipt | Recipe) -> Path:
        """The folder of a step after comparing every file with its recorded SHA-256."""
        folder = self.folder(step)
        for file in self.manifest(step).files:
            if sha256_file(folder / file.name) != file.sha256:
                raise DataError(
                    f"{folder / file.name} was changed after it was written; "
                    "delete its folder and run again"
                )
        return folder

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A private folder to build in; gone afterwards unless it was published."""
        name = uuid.uuid4().hex
        lock = FileLock(self.drafts / f"{name}.lock")
        draft = self.drafts / name
        with lock:
            try:
                draft.mkdir(mode=0o700)
                yield draft
            finally:
                shutil.rmtree(draft, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)

    def publish(
        self,
        draft: Path,
        recipe: Recipe,
        counts: Counts,
        *,
        licence: str,
        requires: tuple[str, ...] = (),
        lineage: Mapping[str, str | list[str]] = MappingProxyType({}),
    ) -> Receipt:
        """Move a finished draft to its final name; a twin that came first is kept instead."""
        files = tuple(describe_file(path, draft) for path in sorted(files_under(draft)))
        manifest = Manifest(
            recipe=recipe,
            lineage=dict(lineage),
            files=files,
            counts=counts,
            requires=requires,
            licence=licence,
            versions=library_versions(),
        ).sealed()
        write_synced(draft / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        sync(draft)
        self._move_into_place(draft, self.folder(recipe))
        return self.receipt(recipe)

    def _move_into_place(self, draft: Path, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for _attempt in range(3):
            try:
                draft.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                if self._is_sound(folder):
                    return
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(self.drafts / f"aside-{uuid.uuid4().hex}")
            else:
                sync(folder.parent)
                return
        raise StorageError(f"could not put {folder.name} in place; run again")

    def sweep(self) -> None:
        """Remove drafts of dead processes and folders that were set aside."""
        for name in {path.name.removesuffix(".lock") for path in self.drafts.iterdir()}:
            lock = FileLock(self.drafts / f"{name}.lock")
            with contextlib.suppress(Timeout), lock.acquire(blocking=False):
                shutil.rmtree(self.drafts / name, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, or None where it is missing, unreadable or was edited."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.checksum == manifest.content_hash() else None


def describe_file(path: Path, base: Path) -> StoredFile:
    """The manifest entry of one file, which is first brought to the disk for good."""
    sync(path)
    rows, columns = None, None
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as parquet:
            rows = parquet.metadata.num_rows
            columns = {field.name: str(field.type) for field in parquet.schema_arrow}
    return StoredFile(
        name=path.relative_to(base).as_posix(),
        sha256=sha256_file(path),
        num_bytes=path.stat().st_size,
        num_rows=rows,
        columns=columns,
    )


def files_under(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape results: recorded, never part of a recipe."""
    found = {}
    for name in RECORDED_LIBRARIES:
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


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def write_synced(path: Path, text: str) -> None:
    """Write a text and bring it to the disk."""
    path.write_text(text, encoding="utf-8")
    sync(path)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside a file, renamed to it when the block ends: nobody sees half of the file."""
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def counts_line(counts: Mapping[str, int | float | str]) -> str:
    """Counts as a log line: `points 2,944,570, trips 6,530`."""
    return ", ".join(f"{name.replace('_', ' ')} {spelt(value)}" for name, value in counts.items())


def spelt(value: int | float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"
