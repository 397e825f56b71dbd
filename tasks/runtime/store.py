"""Store of immutable folders, each named by the recipe of its content.

The only file that knows how the store is laid out::

    <root>/<stage>/<dataset>/<recipe>/   a finished step: its files and manifest.json
    <root>/.tmp/                         drafts, each with a lock that dies with its process
    <root>/.aside/                       folders that were found damaged
    <root>/.receipts/                    what Prefect keeps of task results (mode 0700)
    <root>/.work/<recipe>/               resumable work of a long step (training checkpoints)
    <root>/runs/                         one JSON record per pipeline run
    <root>/warehouse.duckdb              views for people

A folder is complete when its manifest is there, agrees with its name, and each listed file has
the listed size. Whoever reads of it verifies it first: each file has the bytes that were written.
Nothing finished is ever changed or removed: a damaged folder is set aside whole.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from tasks.runtime.errors import Damaged, StorageError, UnreadableVersion
from tasks.runtime.file_hashes import (
    fault_in,
    fault_of,
    is_whole,
    names_under,
    sha256_file,
    size_of,
)
from tasks.runtime.limits import LEAST_BYTES, full_disk
from tasks.runtime.manifest import (
    MANIFEST,
    Counts,
    Manifest,
    Receipt,
    Recipe,
    StoredFile,
    library_versions,
    read_manifest,
    readable_manifest,
)
from tasks.runtime.manifest import canonical_json as canonical_json
from tasks.runtime.manifest import sha256_text as sha256_text
from tasks.runtime.progress import log

# DuckDB finds no file below a folder of such a name; MLflow takes %41 for the letter A.
UNREADABLE = re.compile("[?\\\\\n\r]|%[0-9a-fA-F]{2}")


class Store:
    """The folder that holds every result; reached only through this class."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.drafts = self.root / ".tmp"
        self.aside = self.root / ".aside"
        self.receipts = self.root / ".receipts"
        self.runs = self.root / "runs"
        self.warehouse = self.root / "warehouse.duckdb"
        # How this process makes a step again, by its place.
        self.makers: dict[str, Callable[[], Receipt]] = {}

    def prepare(self) -> None:
        """Make the private folders, or say plainly why that is impossible."""
        if odd := UNREADABLE.search(str(self.root).replace(os.sep, "/")):
            raise StorageError(
                f"no store can be below {str(self.root)!r}: {odd[0]!r} in a folder name; "
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

    @contextlib.contextmanager
    def working(self, recipe: Recipe) -> Iterator[None]:
        """The right to a work folder, for one process at a time; whoever is killed gives it up."""
        folder = self.work(recipe.digest)
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            log(f"{recipe.stage} of {recipe.dataset}: another process is at work on it; waiting")
            held = lock.acquire()
        with held:
            yield

    def drop_work(self, recipe: str) -> None:
        shutil.rmtree(self.root / ".work" / recipe, ignore_errors=True)

    def folder(self, step: Receipt | Recipe) -> Path:
        return self.root / step.place

    def published(self, stage: str, dataset: str) -> Iterator[Manifest]:
        """The manifests of all complete folders of a stage, in order of their names.

        Those that a newer version wrote are told and passed over.
        """
        for folder in sorted((self.root / stage / dataset).glob("*/")):
            try:
                manifest = readable_manifest(folder)
            except UnreadableVersion as error:
                log(str(error))
                continue
            if manifest is not None and self.is_complete(manifest.recipe):
                yield manifest

    def manifest(self, step: Receipt | Recipe) -> Manifest:
        """The manifest of a finished step; a missing or damaged one is an error."""
        manifest = readable_manifest(self.folder(step))
        if manifest is None:
            raise StorageError(f"no complete result at {self.folder(step)}; run the pipeline again")
        return manifest

    def require_readable(self, step: Receipt | Recipe) -> None:
        """Refuse to build where a newer version has left a folder that cannot be read here."""
        readable_manifest(self.folder(step))

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

    # Read -------------------------------------------------------------------------------------

    def verify(self, step: Receipt | Recipe, *names: str) -> Path:
        """The folder of a step after comparing its files with their SHA-256: all, or those named.

        A folder that fails is set aside. Each file is read once in a process, unless it changes.
        """
        folder = self.folder(step)
        if not folder.is_dir():
            raise Damaged(f"{folder} is missing; run the pipeline again")
        inode = inode_of(folder)
        if not (fault := fault_of(folder, names)):
            return folder
        if inode_of(folder) != inode:  # another process has set it aside or made it again
            return self.verify(step, *names)
        found = f"{folder} is damaged: {fault}; it is set aside as {self.set_aside(folder)}"
        log(found, logging.WARNING)
        raise Damaged(f"{found}; run the pipeline again")

    def sound(self, step: Receipt, *names: str) -> Path:
        """The verified folder of a step; a damaged one is made again if this process knows how."""
        try:
            return self.verify(step, *names)
        except Damaged as error:
            self.make_again(step, error)
            return self.verify(step, *names)

    def make_again(self, step: Receipt, error: Damaged) -> None:
        """Let the stage of a step run again, or say what was found if nobody knows its request."""
        if step.place not in self.makers:
            raise error
        log(f"{step.stage} of {step.dataset} runs again")
        self.makers[step.place]()

    def set_aside(self, folder: Path) -> Path:
        """Move a folder out of the way, where nothing reads it and nothing removes it."""
        self.aside.mkdir(mode=0o700, exist_ok=True)
        name = "-".join(folder.relative_to(self.root).parts).lstrip(".")
        place = self.aside / f"{name}-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            folder.rename(place)
        return place

    # Write ------------------------------------------------------------------------------------

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
        files = tuple(describe_file(draft / name, name) for name in sorted(names_under(draft)))
        manifest = Manifest(
            recipe=recipe,
            lineage=dict(lineage),
            files=files,
            counts=counts,
            requires=requires,
            licence=licence,
            versions=library_versions(),
        )
        write_synced(draft / MANIFEST, manifest.text)
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
                if not fault_of(folder) and self._is_sound(folder):
                    return
                self.set_aside(folder)
            else:
                sync(folder.parent)
                return
        raise StorageError(f"could not put {folder.name} in place; run again")

    def sweep(self) -> None:
        """Remove the drafts of dead processes; one that is whole is published or set aside."""
        for name in {path.name.removesuffix(".lock") for path in self.drafts.iterdir()}:
            lock = FileLock(self.drafts / f"{name}.lock")
            with contextlib.suppress(Timeout), lock.acquire(blocking=False):
                if is_whole(self.drafts / name):
                    self._rescue(self.drafts / name)
                shutil.rmtree(self.drafts / name, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)

    def _rescue(self, draft: Path) -> None:
        """Put a whole draft where its recipe says, or aside if that place is taken."""
        manifest = read_manifest(draft)
        is_sound = manifest is not None and not fault_in(draft, manifest)
        if manifest is not None and is_sound and not self.folder(manifest.recipe).exists():
            self._move_into_place(draft, self.folder(manifest.recipe))
        else:
            self.set_aside(draft)


def describe_file(path: Path, name: str) -> StoredFile:
    """The manifest entry of one file, which is first brought to the disk for good."""
    sync(path)
    rows, columns = None, None
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as parquet:
            rows = parquet.metadata.num_rows
            columns = {field.name: str(field.type) for field in parquet.schema_arrow}
    return StoredFile(
        name=name,
        sha256=sha256_file(path),
        num_bytes=path.stat().st_size,
        num_rows=rows,
        columns=columns,
    )


def inode_of(path: Path) -> int | None:
    """What the disk knows a folder by, whatever its name; none where there is no folder."""
    try:
        return path.stat().st_ino
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
