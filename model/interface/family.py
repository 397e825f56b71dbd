"""Family of models: what one is built from, which tasks it serves, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from ..earth.arrays import Ints
from ..features.normaliser import Normaliser
from .batch import Batch
from .contexts import Context
from .flat_points import FlatPoints
from .masking import Draw, Loss
from .named_places import NamedPlaces


class Network(nn.Module, ABC):
    """A network that knows the name of its family and scores itself on a batch.

    Whatever else it can do, its family says in `tasks`: for each there is a method of that name.
    """

    family: ClassVar[str]
    config: Any

    @property
    @abstractmethod
    def fitted(self) -> Any:
        """What was fitted on train for its inputs, and travels with its weights."""

    def fit_inputs(self, batches: Iterable[Any]) -> None:
        """Fit constants of the inputs on train, before the first step; most families have none."""

    def fit_loss(self, batches: Iterable[Any]) -> None:
        """Fit constants of the loss on train, before each training; most families have none.

        They are no part of the weights, for nobody who asks the model needs them.
        """

    def read_memory(self, folder: Path) -> None:
        """Take up the memory that a folder holds; most families have none."""

    def read_places(self, folder: Path) -> None:
        """Take up the table of named places that a folder holds; most families look none up."""

    @abstractmethod
    def loss(self, batch: Any) -> Loss:
        """Sum over the targets of the batch, and their number."""


class Model(Network):
    """A network that reads points; `config.max_points` is the longest window that it reads.

    One that `remembers` makes use of a memory of past trips, which is no part of its weights. One
    that `hears` makes use of the motion that a source reports beside its places. `kinds` are those
    of what moves that it was told in training, if it can be told any, and `places` a table that it
    looks up, which is no part of its weights either.
    """

    hears: ClassVar[bool] = False
    memory: Any = None
    places: NamedPlaces | None = None

    def __init__(self, config: Any, normaliser: Normaliser) -> None:
        super().__init__()
        self.config = config
        self.normaliser = normaliser

    @property
    def fitted(self) -> Normaliser:
        return self.normaliser

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(getattr(self.config, "kinds", ()))

    @property
    def remembers(self) -> bool:
        """Whether it can be given a memory of past trips."""
        return False

    def memory_of(self, points: FlatPoints, entity_R: Ints) -> Any:
        """A memory of trips, and whose each is; refused by families that have none."""
        raise ValueError(f"{self.family} makes no use of a memory of past trips; leave it out")

    def simple_mps(self, paths: Any, now_N: Ints) -> Tensor:
        """The simple forecast that a memory is told, of points of past paths (`memory/`)."""
        raise ValueError(f"{self.family} makes no use of a memory of past trips")

    @property
    def max_known(self) -> int:
        """Points of a context, counted from its end, that a forecast may make use of."""
        return int(self.config.max_points)

    def is_familiar(self, context: Context) -> Tensor | None:
        """Whether each context (B) is like what the model was trained on; None where none says."""
        return None

    @abstractmethod
    def loss(self, batch: Batch) -> Loss: ...


@dataclass(frozen=True)
class Family:
    """What a family's file tells of itself.

    `tasks` are what can be asked of it (`model/inference/api.py`); the first is what it is judged
    on, and asked where nothing else is said. `draw` is how its training hides points; None, where
    it learns from whole windows. `fitted` is what was fitted on train for its inputs. Who learns
    journeys is shown whole trips beside the windows.
    """

    model: type[Network]
    config: type[Any]
    presets: Mapping[str, Any]
    tasks: tuple[str, ...]
    draw: Draw | None = None
    fitted: type[Any] = Normaliser
    learns_journeys: bool = False
