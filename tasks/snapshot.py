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

from tasks.store import Frozen, Receipt, Store, canonical_json, sha256_text

INDEX = "snapshot.json"
LEDGER = "files.parquet"
REJECTS = "rejects.parquet"
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
    """The points and rejects in force, as places to read them from."""

    store: Store
    dataset: str
    folder: Path
    index: SnapshotIndex

    @property
    def buckets(self) -> list[int]:
        """The entity buckets that hold at least one point, in order."""
        return sorted(bucket for bucket, file_ids in self.index.buckets.items() if file_ids)

    @property
    def ledger(self) -> Path:
        """The Parquet file with one row per file in force or passed over."""
        return self.folder / LEDGER

    def fingerprint(self, bucket: int) -> str:
        """What decides the points of a bucket: how they were read, and the files that touch it."""
        file_ids = self.index.buckets.get(bucket, ()) + self.index.labels.get(bucket, ())
        return sha256_text(canonical_json([self.index.base, bucket, sorted(file_ids)]))

    def points(self, bucket: int) -> FilesInForce:
        """Where the points of a bucket stand: (Parquet file, ids of its files in force)."""
        return self._in_force(f"points-{bucket:03d}.parquet", self.index.buckets.get(bucket, ()))

    def labels(self, bucket: int) -> FilesInForce:
        """Where the labels of a bucket stand: (Parquet file, ids of its files in force)."""
        return self._in_force(f"labels-{bucket:03d}.parquet", self.index.labels.get(bucket, ()))

    def rejects(self) -> FilesInForce:
        """Where the rejected records stand: (Parquet file, ids of its files in force)."""
        return self._in_force(
            REJECTS, [file_id for part in self.index.parts for file_id in part.file_ids]
        )

    def file_names(self) -> dict[str, int]:
        """The id of each file in force by its name."""
        table = pq.read_table(self.ledger, columns=["name", "file_id", "state"])
        return {
            row["name"]: row["file_id"] for row in table.to_pylist() if row["state"] != "ignored"
        }

    def _in_force(self, name: str, file_ids: Iterable[int]) -> FilesInForce:
        wanted = set(file_ids)
        found = []
        for part in self.index.parts:
            here = sorted(wanted.intersection(part.file_ids))
            if here:
                found.append((part_folder(self.store, self.dataset, part.recipe) / name, here))
        return found


def part_receipt(dataset: str, recipe: str) -> Receipt:
    """The address of a part."""
    return Receipt(stage="part", dataset=dataset, recipe=recipe, counts={})


def part_folder(store: Store, dataset: str, recipe: str) -> Path:
    return store.folder(part_receipt(dataset, recipe))


def read_snapshot(store: Store, receipt: Receipt) -> Snapshot:
    """The snapshot behind the receipt of the ingest stage."""
    folder = store.folder(store.receipt(store.manifest(receipt).recipe))
    index = SnapshotIndex.model_validate_json((folder / INDEX).read_bytes())
    return Snapshot(store, receipt.dataset, folder, index)


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
