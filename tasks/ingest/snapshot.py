"""The snapshot of a dataset: which files are in force, and in which parts their rows stand.

Parts never change. A snapshot only names them, so a new file costs what the file costs, and a
changed or vanished file takes its rows out of force without a byte being rewritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import Field

from tasks.runtime.errors import Damaged
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Receipt, Store, canonical_json, sha256_file, sha256_text

INDEX = "snapshot.json"
LEDGER = "files.parquet"
REJECTS = "rejects.parquet"
CONTENTS = "contents.parquet"
# Rules of rejects that no limit counts: what receivers report before and without a fix, and what
# is left out on purpose.
IN_NO_LIMIT = ("no_position", "in_the_future", "marked_out")
FilesInForce = list[tuple[Path, list[int]]]


class PartInForce(Frozen):
    """One part and those of its files that the snapshot takes from it."""

    recipe: str
    file_ids: tuple[int, ...]


class SnapshotIndex(Frozen):
    """The content of `snapshot.json`."""

    base: str
    num_buckets: int
    parts: tuple[PartInForce, ...]
    buckets: dict[int, tuple[int, ...]]
    labels: dict[int, tuple[int, ...]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """The points and rejects in force, as places to read them from.

    What is read of a part is verified before its place is told, unless `is_checked` is false.
    """

    store: Store
    dataset: str
    folder: Path
    index: SnapshotIndex
    is_checked: bool = True

    @property
    def buckets(self) -> list[int]:
        """The entity buckets that hold at least one point, in order."""
        return sorted(bucket for bucket, file_ids in self.index.buckets.items() if file_ids)

    @property
    def ledger(self) -> Path:
        """The Parquet file with one row per file in force or passed over."""
        return self.folder / LEDGER

    def bucket_contents(self) -> dict[int, str]:
        """The name of what each bucket holds: its points and labels in force, however read."""
        found: dict[int, list[str]] = {bucket: [] for bucket in self.buckets}
        for path, file_ids in self._everywhere(CONTENTS):
            in_force = set(file_ids)
            for row in pq.read_table(path, partitioning=None).to_pylist():
                if row["file_id"] in in_force and row["bucket"] in found:
                    found[row["bucket"]].append(f"{row['kind']} {row['digest']}")
        return {
            bucket: sha256_text(canonical_json([bucket, sorted(digests)]))
            for bucket, digests in found.items()
        }

    def records_content(self) -> str:
        """The name of the ledger and of the rejected records in force."""
        rejects = [(sha256_file(path), file_ids) for path, file_ids in self.rejects()]
        return sha256_text(canonical_json([sha256_file(self.ledger), sorted(rejects)]))

    def points(self, bucket: int) -> FilesInForce:
        """Where the points of a bucket stand: (Parquet file, ids of its files in force)."""
        return self._in_force(f"points-{bucket:03d}.parquet", self.index.buckets.get(bucket, ()))

    def labels(self, bucket: int) -> FilesInForce:
        """Where the labels of a bucket stand: (Parquet file, ids of its files in force)."""
        return self._in_force(f"labels-{bucket:03d}.parquet", self.index.labels.get(bucket, ()))

    def rejects(self) -> FilesInForce:
        """Where the rejected records stand: (Parquet file, ids of its files in force)."""
        return self._everywhere(REJECTS)

    def file_names(self) -> dict[str, int]:
        """The id of each file in force by its name."""
        table = pq.read_table(self.ledger, columns=["name", "file_id", "state"], partitioning=None)
        return {
            row["name"]: row["file_id"] for row in table.to_pylist() if row["state"] != "ignored"
        }

    def _everywhere(self, name: str) -> FilesInForce:
        """The file of that name in each part, with the ids of all that it has in force."""
        return self._in_force(
            name, [file_id for part in self.index.parts for file_id in part.file_ids]
        )

    def _in_force(self, name: str, file_ids: Iterable[int]) -> FilesInForce:
        places = self._places(name, file_ids)
        try:
            self._check(places)
        except Damaged as error:
            again = self._made_again(error)
            places = again._places(name, file_ids)
            again._check(places)
        return places

    def _check(self, places: FilesInForce) -> None:
        for path, _ in places if self.is_checked else ():
            self.store.verify(part_receipt(self.dataset, path.parent.name), path.name)

    def _made_again(self, error: Damaged) -> Snapshot:
        """The same files in force, of parts that are sound: perhaps of others than before."""
        recipe = self.folder.name
        receipt = Receipt(stage="snapshot", dataset=self.dataset, recipe=recipe, counts={})
        self.store.make_again(receipt, error)
        return read_snapshot(self.store, receipt)

    def _places(self, name: str, file_ids: Iterable[int]) -> FilesInForce:
        wanted = set(file_ids)
        found = []
        for part in self.index.parts:
            if here := sorted(wanted.intersection(part.file_ids)):
                folder = self.store.folder(part_receipt(self.dataset, part.recipe))
                found.append((folder / name, here))
        return found


def part_receipt(dataset: str, recipe: str) -> Receipt:
    """The address of a part."""
    return Receipt(stage="part", dataset=dataset, recipe=recipe, counts={})


def read_snapshot(store: Store, receipt: Receipt, *, is_checked: bool = True) -> Snapshot:
    """The snapshot behind the receipt of the ingest stage."""
    folder = store.sound(receipt)
    index = SnapshotIndex.model_validate_json((folder / INDEX).read_bytes())
    return Snapshot(store, receipt.dataset, folder, index, is_checked)


def index_of(
    base: str,
    num_buckets: int,
    parts: Mapping[str, Sequence[int]],
    buckets_by_file: Mapping[int, Iterable[int]],
    buckets_by_label_file: Mapping[int, Iterable[int]] | None = None,
) -> SnapshotIndex:
    """The index of parts and their files in force, given the buckets that each file touches."""
    return SnapshotIndex(
        base=base,
        num_buckets=num_buckets,
        parts=tuple(
            PartInForce(recipe=recipe, file_ids=tuple(sorted(file_ids)))
            for recipe, file_ids in sorted(parts.items())
            if file_ids
        ),
        buckets=files_by_bucket(buckets_by_file),
        labels=files_by_bucket(buckets_by_label_file or {}),
    )


def files_by_bucket(buckets_by_file: Mapping[int, Iterable[int]]) -> dict[int, tuple[int, ...]]:
    """The files that touch each bucket, in order."""
    touching: dict[int, list[int]] = {}
    for file_id, buckets in sorted(buckets_by_file.items()):
        for bucket in buckets:
            touching.setdefault(bucket, []).append(file_id)
    return {bucket: tuple(ids) for bucket, ids in sorted(touching.items())}
