"""Orders for the generator: small files that say which trajectories of which world to make.

They stand where the raw files of a dataset would: each is hashed, read once and kept in the
ledger. So what is generated takes the same way as what was recorded, and asking for more entities
generates only those that are new.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.config.pipeline import PipelineConfig, SyntheticConfig
from tasks.runtime.errors import ConfigError
from tasks.runtime.stage import Job, Stage
from tasks.runtime.store import Counts, Store, write_synced

if TYPE_CHECKING:
    from model.synthetic.world import World

POINTS_PER_ORDER = 50_000
FOLDER = "orders"  # beside the manifest, which is no order


def ordered(config: PipelineConfig, source: str, store: Store) -> Path:
    """The folder of orders for what the configuration asks for, in the store."""
    row = config.source_row
    if source:
        raise ConfigError(f"{row.name} makes its own records: leave --source empty")
    world_of(config.synthetic.world)
    job = ORDERS.job(row.name, config.synthetic, {}, store, licence=row.licence)
    return store.sound(ORDERS.plain(job)) / FOLDER


def world_of(settings: dict[str, Any]) -> World:
    """The world of these settings; what cannot be is a wrong request."""
    from model.synthetic.world import World

    try:
        return World(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"synthetic: {error}") from error


def build_orders(draft: Path, job: Job[SyntheticConfig]) -> Counts:
    """One file for each run of entities that together have some ten thousand points.

    The runs are the same ones however many entities there are in all.
    """
    (draft / FOLDER).mkdir()
    asked = job.settings
    starts = range(0, asked.num_entities, max(1, POINTS_PER_ORDER // asked.num_points))
    for start in starts:
        stop = min(start + starts.step, asked.num_entities)
        order = {"start": start, "stop": stop, "world": asked.world}
        name = f"{asked.kind}-{start:08d}.jsonl"
        write_synced(draft / FOLDER / name, json.dumps(order, sort_keys=True) + "\n")
    return {"num_orders": len(starts), "num_entities": asked.num_entities}


ORDERS = Stage("orders", build_orders)
