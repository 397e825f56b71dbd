"""Shared rows of a benchmark: weights of several data sets, asked about the windows of each.

*Joint* weights learn from the train parts of all data, in equal shares. *Held-out* ones learn from
all but those that they are asked about: as they are, with the past trips there as their memory, and
trained on with a few entities. Whoever judges them fits nothing else there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tasks.config.sections import SplitKind
from tasks.config.suite import HELD_OUT, Cell, Suite, SuiteData
from tasks.evaluate.seen import MAX_SEEN_SHARE
from tasks.evaluate.transfer import transfer
from tasks.prepare.conventions import SPLITS
from tasks.prepare.learning_shards import learning_shards
from tasks.pretrain.fine_tuning import fine_tuned
from tasks.pretrain.train import Part, train_corpus
from tasks.runtime.errors import DataError
from tasks.runtime.store import Receipt, Store


class Ready(NamedTuple):
    """Data of a suite under one split, their shards, and the cells that are judged on them."""

    data: SuiteData
    split: SplitKind
    source: str
    shards: Receipt
    cells: tuple[Cell, ...]

    @property
    def asked(self) -> set[tuple[str, str]]:
        """The families and rows of the cells."""
        return {(cell.family, cell.row) for cell in self.cells}


def judged_shared(
    suite: Suite, cell: Cell, own: Ready, ready: Sequence[Ready], store: Store
) -> Receipt:
    """The errors of the weights of several data on the windows of a cell, and of the baselines."""
    learned = [one for one in ready if (cell.family, cell.row) in one.asked]
    if cell.row == HELD_OUT:
        learned.remove(own)
    trained = trained_on(suite, cell, learned, store)
    address, config = str(store.folder(trained)), suite.config_of(*cell[:3])
    tuned: Mapping[float, Receipt] = {}
    if cell.row == HELD_OUT:
        require_held_out(trained, own, config.source_row.zone, store)
        tuned = few_shot(suite, cell, address, own.shards, store)
    return transfer(config, address, own.shards, store, tuned=tuned, title=cell.model)


def trained_on(suite: Suite, cell: Cell, learned: Sequence[Ready], store: Store) -> Receipt:
    """The weights of a family that learns from several data, as much from each."""
    if not learned:
        raise DataError("there are no other data to learn from")
    share = round(1 / len(learned), 6)
    parts = [
        Part(suite.config_of(one.data, one.split, cell.family), one.shards, share)
        for one in learned
    ]
    config = suite.shared_config(cell.family, cell.seed)
    return train_corpus(f"suite_{suite.name}", config, parts, store)


def require_held_out(trained: Receipt, own: Ready, zone: str, store: Store) -> None:
    """Refuse data that stand in the suite twice, so that what is held out was learned from."""
    from model.data.seen_points import SeenPoints, seen_share
    from model.data.shards import Shards

    seen = SeenPoints.read(store.folder(trained))
    shards = Shards.open(store.folder(own.shards), zone)
    for split in SPLITS:
        share = 0.0 if seen is None else seen_share(seen, shards, split)
        if share > MAX_SEEN_SHARE:
            raise DataError(
                f"it is not held out: {share:.1%} of the points of its {split} part are among "
                "those of other data of the suite"
            )


def few_shot(
    suite: Suite, cell: Cell, address: str, shards: Receipt, store: Store
) -> Mapping[float, Receipt]:
    """The same weights trained on with a few entities, by the percent that they are of train.

    The seed of the training draws the entities, and a smaller share is part of each larger one.
    """
    config = suite.config_of(*cell[:4])
    return {
        percent: fine_tuned(
            config,
            address,
            learning_shards(config, shards, percent, store),
            store,
            suite.few_shot_train,
        )
        for percent in suite.few_shot
    }
