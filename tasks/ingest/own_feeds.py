"""Own feeds: your own files without a name must not take the place of others of yours.

Files that came before may change, vanish, and get company. Files of which none was there before, or
whose movers are all others, are another feed: it is asked for by a name of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.config.datasets import OWN
from tasks.config.pipeline import PipelineConfig
from tasks.ingest.snapshot import Snapshot
from tasks.runtime.errors import ConfigError


def check_names(config: PipelineConfig, earlier: Snapshot | None, names: Iterable[str]) -> None:
    """Refuse files without a name of which none was there before."""
    before = earlier.file_names() if earlier is not None and is_unnamed(config) else {}
    if before and not before.keys() & set(names):
        raise another_feed(before)


def check_feed(config: PipelineConfig, earlier: Snapshot | None, now: Snapshot) -> None:
    """Refuse, too, a feed whose files and movers are all others, though names are the same."""
    if not is_unnamed(config) or earlier is None:
        return
    before, after = earlier.file_names(), now.file_names()
    check_names(config, earlier, after)
    if before and not set(before.values()) & set(after.values()):
        with contextlib.suppress(FileNotFoundError):  # the earlier part may be gone
            if not share_a_mover(earlier, now):
                raise another_feed(before)


def is_unnamed(config: PipelineConfig) -> bool:
    return config.dataset == OWN and not config.name


def another_feed(before: Iterable[str]) -> ConfigError:
    some = ", ".join(sorted(before)[:3])
    return ConfigError(
        f"this store has other files of yours as {OWN} ({some}), which these would replace: "
        f"give --name NAME to keep both apart, or --name {OWN} to replace them"
    )


def share_a_mover(earlier: Snapshot, now: Snapshot) -> bool:
    """Whether an entity is in both: one that is, is in the same bucket of both."""
    return any(
        movers(earlier, bucket) & movers(now, bucket)
        for bucket in sorted({*earlier.buckets} & {*now.buckets})
    )


def movers(snapshot: Snapshot, bucket: int) -> set[str]:
    found: set[str] = set()
    for path, file_ids in snapshot.points(bucket):
        rows = pq.read_table(path, columns=["entity_id", "file_id"], partitioning=None)
        in_force = pc.field("file_id").isin(file_ids)
        found.update(pc.unique(rows.filter(in_force)["entity_id"]).to_pylist())
    return found
