"""Shared rows of a benchmark: weights of several data sets, asked about the windows of each.

*Joint* weights learn from the train parts of all data, in equal shares. *Held-out* ones learn from
all but those that they are asked about: as they are, with the past trips there as their memory, and
trained on with a few entities. Whoever judges them fits nothing else there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import SplitKind
from tasks.config.suite import HELD_OUT, Cell, Suite, SuiteData
from tasks.evaluate.opened_cells import SHOWN_SPLIT
from tasks.evaluate.seen import MAX_SEEN_SHARE
from tasks.evaluate.transfer import transfer
from tasks.prepare.conventions import SPLITS
from tasks.runtime.errors import DataError
from tasks.runtime.store import Receipt, Store


class Learned(NamedTuple):
    """The shards of one of the data that a model learns from, and how they are read."""

    config: PipelineConfig
    shards: Receipt


class Making(NamedTuple):
    """What makes shards of the points of a source, and weights of shards.

    Weights are of one of the data, of several in equal shares under the name of a subject, or those
    at an address trained on with a percent of the entities, with these settings of training. The
    pace is what weights of one of the data took until they were ahead of simple forecasts.
    """

    shards_of: Callable[[PipelineConfig, str, Store], Receipt]
    train: Callable[[PipelineConfig, Receipt, Store], Receipt]
    train_shared: Callable[[str, PipelineConfig, Sequence[Learned], Store], Receipt]
    few_shot: Callable[[PipelineConfig, str, Receipt, float, Mapping[str, Any], Store], Receipt]
    pace: Callable[[PipelineConfig, Receipt, Store], Receipt]


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
    suite: Suite, cell: Cell, own: Ready, ready: Sequence[Ready], store: Store, making: Making
) -> Receipt:
    """The errors of the weights of several data on the windows of a cell, and of the baselines."""
    learned = [one for one in ready if (cell.family, cell.row) in one.asked]
    if cell.row == HELD_OUT:
        learned.remove(own)
    trained = trained_on(suite, cell, learned, store, making)
    address, config = str(store.folder(trained)), suite.config_of(*cell[:3])
    require_unseen(trained, cell, own, config.source_row.zone, store)
    tuned: dict[float, Receipt] = {}
    if cell.row == HELD_OUT:
        # The seed of the training draws the entities.
        asked, course = (suite.config_of(*cell[:4]), address, own.shards), suite.few_shot_train
        tuned = {
            percent: making.few_shot(*asked, percent, course, store) for percent in suite.few_shot
        }
    return transfer(config, address, own.shards, store, tuned=tuned, title=cell.model)


def trained_on(
    suite: Suite, cell: Cell, learned: Sequence[Ready], store: Store, making: Making
) -> Receipt:
    """The weights of a family that learns from several data."""
    if not learned:
        raise DataError("there are no other data to learn from")
    given = [
        Learned(suite.config_of(one.data, one.split, cell.family), one.shards) for one in learned
    ]
    config = suite.shared_config(cell.family, cell.seed)
    return making.train_shared(f"suite_{suite.name}", config, given, store)


def require_unseen(trained: Receipt, cell: Cell, own: Ready, zone: str, store: Store) -> None:
    """Refuse weights that learned what they are asked about under another name.

    Of what is held out nothing may be known, not even its train part.
    """
    from model.data.seen_points import SeenPoints, seen_share
    from model.data.shards import Shards

    seen = SeenPoints.read(store.folder(trained))
    shards = Shards.open(store.folder(own.shards), zone)
    for split in SPLITS if cell.row == HELD_OUT else (SHOWN_SPLIT,):
        share = 0.0 if seen is None else seen_share(seen, shards, split)
        if share > MAX_SEEN_SHARE:
            raise DataError(
                f"{share:.1%} of the points of its {split} part are learned from under another "
                "name; leave one of the two out of the suite"
            )
