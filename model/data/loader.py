"""Loader: a torch dataset of batches for a DataLoader, which knows where it stands.

Plain iteration, `DataLoader(loader, batch_size=None, num_workers=n)` and torchdata's
StatefulDataLoader give the same batches in the same order for any number of workers: of the
stream of batches worker w makes every n-th, from its w-th on, and a DataLoader takes turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info

from ..interface.batch import Cursor
from .collate import Fed
from .epoch_plan import EpochPlan
from .options import POOL_POINTS, Batching, Reading
from .reading import Planned, assembled, part_seed, planned, planned_mixed
from .shards import ShardFolder


class StateError(ValueError):
    """A state that was saved by a loader of other data or other settings."""


class TripLoader(IterableDataset[Fed]):
    """Random crops of one dataset, or of several in stated shares, from where it was left.

    Each iteration goes on from the place of the last batch that was taken, or from the state that
    was loaded; a finished loader stays finished. In a DataLoader with workers the batches are
    taken in other processes: there the last batch's cursor is the state, by way of `state_at`.
    Rank and world are those of `torch.distributed` if it is up and nothing else is said.
    """

    def __init__(
        self,
        sources: ShardFolder[Fed] | Sequence[tuple[ShardFolder[Fed], float]],
        split: str,
        seed: int,
        batch_size: int,
        max_points: int,
        num_epochs: int | None = None,
        rank: int | None = None,
        world: int | None = None,
        batching: Batching = "bucketed",
        pool_points: int = POOL_POINTS,
        prefetch: int = 0,
    ) -> None:
        super().__init__()
        reading = Reading(split, seed, batch_size, max_points, batching, pool_points)
        self.is_mixture = not isinstance(sources, ShardFolder)
        self.weights: list[float] = []
        if isinstance(sources, ShardFolder):
            self.plans = [EpochPlan.of(sources, reading)]
        elif num_epochs is not None:
            raise ValueError("a mixture has no epochs of its own: it goes on without end")
        else:
            self.weights = [weight for _, weight in sources]
            self.plans = [
                EpochPlan.of(shards, replace(reading, seed=part_seed(seed, number)))
                for number, (shards, _) in enumerate(sources)
            ]
        self.reading, self.num_epochs, self.prefetch = reading, num_epochs, prefetch
        is_up = distributed.is_available() and distributed.is_initialized()
        own = (distributed.get_rank(), distributed.get_world_size()) if is_up else (0, 1)
        self.rank = own[0] if rank is None else rank
        self.world = own[1] if world is None else world
        self.cursor = Cursor()
        self.num_passed: int | None = None  # batches after the cursor that are those of others

    def __iter__(self) -> Iterator[Fed]:
        worker = get_worker_info()
        number, step = (worker.id, worker.num_workers) if worker else (0, 1)
        passed = number if self.num_passed is None else self.num_passed
        for batch in assembled(islice(self._planned(), passed, None, step), self.prefetch):
            self.cursor, self.num_passed = batch.cursor, (step - 1) or None
            yield batch

    def _planned(self) -> Iterator[Planned[Fed]]:
        if self.is_mixture:
            seed = self.reading.seed
            return planned_mixed(self.plans, self.weights, seed, self.cursor, self.rank, self.world)
        return planned(self.plans[0], self.cursor, self.num_epochs, self.rank, self.world)

    def state_dict(self) -> dict[str, Any]:
        """The place behind the last batch that was taken here, as plain numbers and texts."""
        return {**self.state_at(self.cursor), "num_passed": self.num_passed}

    def state_at(self, cursor: Cursor) -> dict[str, Any]:
        """The state of a loader whose last batch had this cursor, whoever made that batch."""
        return {"cursor": cursor.to_json(), "num_passed": None, "deciding": self._deciding()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; the number of ranks may be another one, and that of workers too."""
        if state["deciding"] != self._deciding():
            raise StateError("the state is that of a loader with other settings or other data")
        self.cursor = Cursor.from_json(state["cursor"])
        self.num_passed = state["num_passed"]

    def _deciding(self) -> dict[str, Any]:
        """What decides the batches, beside the place: a state of other values means another one."""
        return {
            **asdict(self.reading),
            "weights": self.weights,
            "points": [sum(group.num_points for group in one.groups) for one in self.plans],
        }
