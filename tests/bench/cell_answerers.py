"""Cell answerers: stay, straight lines, Markov chains, and the diffusion over cells.

Each fills what is not known of sequences of cells, by one answer, and those that can make up new
ones. Fitted on train alone.

Shapes: N sequences, T points, S samples.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree

from model.evaluation.generation.published_measures import Square
from model.families.gdm.cells import CellConfig, CellDiffusion
from model.training.averaging import AveragedWeights

NUM_PATHS, BACK_OFF, LEAST = 30, 0.4, 1e-9


@dataclass(frozen=True)
class Again:
    """Sequences of train, drawn with replacement: a copy machine, which fills nothing."""

    train_NT: np.ndarray
    name: str = "train drawn again"

    def made_up(self, num: int, seed: int) -> np.ndarray:
        return self.train_NT[np.random.default_rng(seed).integers(len(self.train_NT), size=num)]


@dataclass(frozen=True)
class Stay:
    """The last known cell; made up: the start of a sequence of train, and nothing else."""

    train_NT: np.ndarray
    name: str = "stay"

    def filled(self, cell_NT: np.ndarray, is_known_NT: np.ndarray) -> np.ndarray:
        place_NT = np.where(is_known_NT, np.arange(cell_NT.shape[1]), 0)
        return np.take_along_axis(cell_NT, np.maximum.accumulate(place_NT, axis=1), axis=1)

    def made_up(self, num: int, seed: int) -> np.ndarray:
        again_NT = Again(self.train_NT).made_up(num, seed)
        return np.repeat(again_NT[:, :1], again_NT.shape[1], axis=1)


@dataclass(frozen=True)
class StraightLine:
    """Cells on the line between the known ones, by rows and columns; behind them it goes on."""

    square: Square
    name: str = "straight line"

    def filled(self, cell_NT: np.ndarray, is_known_NT: np.ndarray) -> np.ndarray:
        return np.stack([self._of(*pair) for pair in zip(cell_NT, is_known_NT, strict=True)])

    def _of(self, cell_T: np.ndarray, is_known_T: np.ndarray) -> np.ndarray:
        (known,) = np.nonzero(is_known_T)
        axes = self.square.row_and_column(cell_T[known])
        row_T, column_T = (
            np.clip(np.rint(self._on(axis, known, len(cell_T))), 0, self.square.side - 1)
            for axis in axes
        )
        return np.where(is_known_T, cell_T, self.square.cell(row_T, column_T)).astype(np.int64)

    def _on(self, axis: np.ndarray, known: np.ndarray, num_points: int) -> np.ndarray:
        place_T = np.arange(num_points)
        beyond_T = np.maximum(place_T - known[-1], 0)
        return np.interp(place_T, known, axis) + beyond_T * (axis[-1] - axis[-2])


class Markov:
    """A chain over the last cells, one or two; of those that train never saw, over fewer of them.

    A gap is filled by the likeliest path into the known cells behind it, among `NUM_PATHS` at each
    of its places. A share counts `BACK_OFF` for each cell of the past that is left out, and is not
    normalised (stupid back-off, Brants et al. 2007). Whoever is where train never was stays.
    """

    def __init__(self, train_NT: np.ndarray, order: int) -> None:
        self.train_NT, self.order, self.name = train_NT, order, f"Markov {order}"
        self.next: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for row in train_NT.tolist():
            for place in range(1, len(row)):
                for size in range(1, min(order, place) + 1):
                    self.next[tuple(row[place - size : place])][row[place]] += 1
        self.total = {past: count.total() for past, count in self.next.items()}

    def pasts(self, path: list[int]) -> Iterator[tuple[int, ...]]:
        """The last cells, fewer and fewer of them."""
        return (tuple(path[-size:]) for size in range(min(self.order, len(path)), 0, -1))

    def share(self, path: list[int], cell: int) -> float:
        weight = 1.0
        for past in self.pasts(path):
            if count := self.next[past][cell] if past in self.next else 0:
                return weight * count / self.total[past]
            weight *= BACK_OFF
        return weight * (0.5 if cell == path[-1] else LEAST)

    def _onward(self, path: list[int]) -> set[int]:
        known = next((past for past in self.pasts(path) if past in self.next), None)
        return {path[-1], *(self.next[known] if known else ())}

    def filled(self, cell_NT: np.ndarray, is_known_NT: np.ndarray) -> np.ndarray:
        rows = zip(cell_NT.tolist(), is_known_NT.tolist(), strict=True)
        return np.array([self._filled(*row) for row in rows])

    def _filled(self, cell_T: list[int], is_known_T: list[bool]) -> list[int]:
        """The first cell is known."""
        paths = [(1.0, cell_T[:1])]
        for cell, is_known in zip(cell_T[1:], is_known_T[1:], strict=True):
            longer = [
                (chance * self.share(path, one), [*path, one])
                for chance, path in paths
                for one in ([cell] if is_known else self._onward(path))
            ]
            paths = sorted(longer, key=lambda one: (-one[0], one[1]))[:NUM_PATHS]
            paths = [(chance / paths[0][0], path) for chance, path in paths]
        return paths[0][1]

    def made_up(self, num: int, seed: int) -> np.ndarray:
        """Walks from starts of train, each step drawn as often as train took it."""
        draw = np.random.default_rng(seed)
        starts = Again(self.train_NT).made_up(num, seed)[:, 0].tolist()
        return np.array([self._walk(start, self.train_NT.shape[1], draw) for start in starts])

    def _walk(self, start: int, num_points: int, draw: np.random.Generator) -> list[int]:
        path = [start]
        while len(path) < num_points:
            past = next((one for one in self.pasts(path) if one in self.next), None)
            count = self.next[past] if past else Counter(path[-1:])
            chance = np.fromiter(count.values(), float)
            path.append(int(draw.choice(list(count), p=chance / chance.sum())))
        return path


# The diffusion over cells -----------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """How it is trained and asked."""

    num_steps: int = 600
    num_rows: int = 64
    learning_rate: float = 1e-2
    num_numbers: int = 64
    width: int = 64
    num_layers: int = 2
    num_samples: int = 5
    num_passes: int = 8


class Diffusion:
    """`CellDiffusion` over the cells of train; a cell that train lacks is shown as the nearest."""

    def __init__(
        self, train_NT: np.ndarray, square: Square, seed: int, training: Training = Training()
    ) -> None:
        self.train_NT, self.square, self.seed, self.training = train_NT, square, seed, training
        self.known, self.name = np.unique(train_NT), f"diffusion over cells, seed {seed}"

    @cached_property
    def model(self) -> CellDiffusion:
        """Of half of the sequences nothing is known in training, of the others a drawn share."""
        torch.manual_seed(self.seed)
        training = self.training
        config = CellConfig(
            len(self.known),
            num_numbers=training.num_numbers,
            width=training.width,
            num_layers=training.num_layers,
            num_heads=2,
            num_passes=training.num_passes,
        )
        model = CellDiffusion(config)
        average = AveragedWeights(model, decay=0.99)
        optimiser = torch.optim.AdamW(model.parameters(), lr=training.learning_rate)
        seen_NT = torch.from_numpy(np.searchsorted(self.known, self.train_NT))
        for step in range(training.num_steps):
            rate = training.learning_rate * (1 - step / training.num_steps)
            optimiser.param_groups[0]["lr"] = rate
            cell_BT = seen_NT[torch.randint(len(seen_NT), (training.num_rows,))]
            share_B1 = torch.rand(len(cell_BT), 1) * (torch.rand(len(cell_BT), 1) < 0.5)
            is_known_BT = torch.rand(cell_BT.shape) < share_B1.sqrt()
            noise_BTE = torch.randn(*cell_BT.shape, config.num_numbers)
            optimiser.zero_grad()
            loss = model.loss(cell_BT, is_known_BT, torch.rand(len(cell_BT), 1), noise_BTE)
            loss.mean.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            average.take_in(step + 1)
        return average.model.eval()

    def filled(self, cell_NT: np.ndarray, is_known_NT: np.ndarray) -> np.ndarray:
        """The most frequent of some samples of the whole sequence."""
        shown_NT = torch.from_numpy(self._nearest(cell_NT))
        is_known = torch.from_numpy(is_known_NT)
        numbers = range(self.training.num_samples)
        found_SNT = np.concatenate(
            [
                self.known[self.model.filled(*pair, numbers, self.seed).numpy()]
                for pair in zip(shown_NT.split(100), is_known.split(100), strict=True)
            ],
            axis=1,
        )
        modes = (Counter(map(tuple, one_ST.tolist())) for one_ST in found_SNT.swapaxes(0, 1))
        mode_NT = np.array([count.most_common(1)[0][0] for count in modes])
        return np.where(is_known_NT, cell_NT, mode_NT)

    def _nearest(self, cell_NT: np.ndarray) -> np.ndarray:
        places = (np.stack(self.square.row_and_column(one), -1) for one in (self.known, cell_NT))
        known, asked = places
        return np.asarray(cKDTree(known).query(asked)[1])

    def made_up(self, num: int, seed: int) -> np.ndarray:
        num_points = self.train_NT.shape[1]
        return self.known[self.model.generate(num, num_points, seed).numpy()]
