"""Members: the shard folders that a training learns from, in turns, each with its share.

Most trainings have one. Of several each batch is of one, and `cursor.last` of a batch tells which:
in the batches of a training, of a validation, and in those that constants are fitted on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic

from ..interface.batch import Cursor
from .collate import Fed
from .epoch_plan import EpochPlan
from .options import Reading
from .reading import Planned, assembled, part_seed, planned, planned_mixed
from .shards import ShardFolder


@dataclass(frozen=True)
class Members(Generic[Fed]):
    """What is read of each member for training and for validation, and the shares of batches."""

    train: tuple[EpochPlan[Fed], ...]
    validation: tuple[EpochPlan[Fed], ...]
    shares: tuple[float, ...]
    seed: int

    @classmethod
    def of(
        cls,
        folders: Sequence[ShardFolder[Fed]],
        shares: Sequence[float],
        train: Reading,
        validation: Reading,
    ) -> Members[Fed]:
        """Each member draws its own crops; the pools of all take the memory that one has alone."""

        def plans(reading: Reading) -> tuple[EpochPlan[Fed], ...]:
            if len(folders) == 1:
                return (EpochPlan.of(folders[0], reading),)
            pool_points = max(1, reading.pool_points // len(folders))
            own = replace(reading, pool_points=pool_points)
            return tuple(
                EpochPlan.of(folder, replace(own, seed=part_seed(reading.seed, number)))
                for number, folder in enumerate(folders)
            )

        return cls(plans(train), plans(validation), tuple(shares), train.seed)

    def seed_of(self, batch: Fed) -> int:
        """The seed of what is drawn for a batch: that of its member."""
        return self.train[batch.cursor.last].reading.seed

    def training(self, start: Cursor, rank: int = 0, world: int = 1) -> Iterator[Fed]:
        """A rank's batches from a cursor on, without end."""
        if len(self.train) == 1:
            return assembled(planned(self.train[0], start, None, rank, world))
        return assembled(planned_mixed(self.train, self.shares, self.seed, start, rank, world))

    def judged(self, num_batches: int, rank: int = 0, world: int = 1) -> Iterator[Fed]:
        """The same batches of validation each time, as many of each member, as far as it has them.

        `num_batches` are those of all ranks and members together.
        """
        return assembled(first_of_each(self.validation, num_batches, rank, world))

    def fitting(self, num_batches: int, max_points: int) -> Iterator[Fed]:
        """The first batches of train in plain crops, as many of each member, whatever the rank."""
        plain = [
            EpochPlan.of(plan.shards, replace(plan.reading, max_points=max_points))
            for plan in self.train
        ]
        return assembled(first_of_each(plain, num_batches))


def first_of_each(
    plans: Sequence[EpochPlan[Fed]], num_batches: int, rank: int = 0, world: int = 1
) -> Iterator[Planned[Fed]]:
    """The first batches of an epoch of each plan, one plan after the other."""
    each = -(-num_batches // (len(plans) * world))
    for number, plan in enumerate(plans):
        for found in islice(planned(plan, Cursor(), 1, rank, world), each):
            yield replace(found, cursor=replace(found.cursor, last=number))
