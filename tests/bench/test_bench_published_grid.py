"""TrajGDM's own grid: made-up and filled sequences of cells on GeoLife; run with `make bench`.

The published layout (27 x 27 cells of 2 km, 110 x 110 of 500 m, twelve points in five minutes each)
and measures stand beside measures of ours that ask the same of the cells themselves. Nothing of it
is a stage of the pipeline, and no number of it decides anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_rounds import RESULTS, geolife_sample, machine
from cell_answerers import Again, Diffusion, Markov, Stay, StraightLine, Training
from published_grid import CITY_M, City, Sequences, Trip, halves_in_time, random_folds, whole_trips

from flows.steps import shards_of
from model.data.shards import Shards
from model.earth.frame import Frame
from model.evaluation.generation.comparison import Comparison, Values, share_of
from model.evaluation.generation.published_measures import (
    Square,
    cell_measures,
    published_measures,
)
from tasks.config.pipeline import PipelineConfig
from tasks.prepare.conventions import SPLITS
from tasks.report.markup import markdown_table
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

CONFIG = PipelineConfig(dataset="geolife")
SEEDS, NUM_JUDGED, NUM_FILLED = (0, 1, 2), 1_000, 200
REAL = "real: half of the people of train"
PUBLISHED = ("moving", "distribution", "o_dis", "d_dis", "diversity")
OURS = ("jsd_bits_cells", "jsd_bits_ends", "jsd_bits_moves", "unseen_moves", "copied")
MEASURES = (*(f"published_{name}" for name in PUBLISHED), *OURS)
TASKS = {f"next {num}": (num, False) for num in (1, 2, 3)} | {
    f"hidden {num}": (num, True) for num in (1, 2)
}


def is_known(num_sequences: int, num_points: int, num_hidden: int, is_within: bool) -> np.ndarray:
    """All but the last ones, or but some within, at a place that is drawn for each sequence."""
    if is_within:
        draw = np.random.default_rng(num_hidden)
        first = draw.integers(1, num_points - num_hidden, size=(num_sequences, 1))
    else:
        first = np.full((num_sequences, 1), num_points - num_hidden)
    place_T = np.arange(num_points)
    return (place_T < first) | (place_T >= first + num_hidden)


def hits(answerer: Any, truth_NT: np.ndarray, num_hidden: int, is_within: bool) -> np.ndarray:
    """Whether all hidden cells of a sequence are right; the answerer is shown a zero instead."""
    is_known_NT = is_known(*truth_NT.shape, num_hidden, is_within)
    found_NT = answerer.filled(np.where(is_known_NT, truth_NT, 0), is_known_NT)
    return (found_NT == truth_NT).all(axis=1)


def chains(train_NT: np.ndarray) -> list[Markov]:
    return [Markov(train_NT, order) for order in (1, 2)]


# Quick tests ------------------------------------------------------------------------------------

SQUARE = Square(27)
SMALL = Training(num_steps=2, num_rows=4, width=16, num_layers=1, num_samples=2, num_passes=2)
BACK_AND_FORTH = np.array([[1, 2, 1, 2, 3, 3], [4, 2, 4, 2, 4, 2]])


class NumbersInLine(StraightLine):
    """A planted fault: numbers of cells are taken for places, so that rows go on in the next."""

    def _of(self, cell_T, is_known_T):
        (known,) = np.nonzero(is_known_T)
        return np.rint(np.interp(np.arange(len(cell_T)), known, cell_T[known])).astype(np.int64)


def check_between_two_cells_is_between_them(family):
    """From the east end of a row to the west end of the next: half-way is in the middle."""
    cell_NT, is_known_NT = np.array([[26, 0, 27]]), np.array([[True, False, True]])
    found = family(SQUARE).filled(cell_NT, is_known_NT)[0, 1]
    assert SQUARE.row_and_column(found)[1] == 13


def test_a_straight_line_does_not_wrap_round_the_row():
    check_between_two_cells_is_between_them(StraightLine)
    with pytest.raises(AssertionError):
        check_between_two_cells_is_between_them(NumbersInLine)


def test_a_straight_line_goes_on_and_stays_in_the_square():
    is_known_NT = np.array([[True, True, False, False]])
    cell_NT = SQUARE.cell(np.array([[3, 4, 0, 0]]), np.array([[24, 25, 0, 0]]))
    row_NT, column_NT = SQUARE.row_and_column(StraightLine(SQUARE).filled(cell_NT, is_known_NT))
    assert (row_NT.tolist(), column_NT.tolist()) == ([[3, 4, 5, 6]], [[24, 25, 26, 26]])


def test_chains_by_hand():
    """After 2 comes 1, 3 or, three times of five, 4; after 4 and 2 always 4, after 3 and 2 all."""
    one, two = (Markov(BACK_AND_FORTH, order) for order in (1, 2))
    assert (one.share([9, 2], 4), two.share([4, 2], 4)) == (2 / 4, 1.0)
    assert two.share([3, 2], 4) == pytest.approx(0.4 * 2 / 4)  # one cell is left out
    assert two.share([8, 9], 9) == pytest.approx(0.4 * 0.4 / 2)  # train was never at 9
    last = np.array([[True, True, False]])
    assert two.filled(np.array([[1, 2, 0]]), last)[0, 2] in (1, 3)
    assert two.filled(np.array([[4, 2, 0]]), last)[0, 2] == 4
    assert two.filled(np.array([[9, 8, 0]]), last)[0, 2] == 8
    within = np.array([[True, False, True]])
    assert one.filled(np.array([[4, 0, 4]]), within)[0, 1] == 2
    assert {tuple(row) for row in two.made_up(50, 0)} <= {
        *map(tuple, BACK_AND_FORTH),
        (1, 2, 1, 2, 1, 2),
        (1, 2, 3, 3, 3, 3),
    }


def check_hidden_cells_are_not_read(answerer):
    cell_NT, is_known_NT = BACK_AND_FORTH, is_known(2, 6, 2, is_within=True)
    told = [
        answerer.filled(np.where(is_known_NT, cell_NT, hidden), is_known_NT) for hidden in (0, 3)
    ]
    np.testing.assert_array_equal(*told)
    np.testing.assert_array_equal(told[0][is_known_NT], cell_NT[is_known_NT])


class Telling(Stay):
    """A planted fault: the answer is taken from what was to be hidden."""

    def filled(self, cell_NT, is_known_NT):
        return cell_NT


def test_hidden_cells_are_not_read():
    fitted = Diffusion(BACK_AND_FORTH, SQUARE, 0, SMALL)
    others = Stay(BACK_AND_FORTH), StraightLine(SQUARE), *chains(BACK_AND_FORTH)
    for answerer in (*others, fitted):
        check_hidden_cells_are_not_read(answerer)
    assert np.isin(fitted.made_up(3, 0), BACK_AND_FORTH).all()
    with pytest.raises(AssertionError):
        check_hidden_cells_are_not_read(Telling(BACK_AND_FORTH))


def test_cells_are_those_of_five_minutes():
    """A kilometre to the east in eleven minutes, across the middle of the square."""
    frame = Frame(116.3, 40.0)
    lon_deg, lat_deg = frame.degrees(np.array([-600.0, 400.0]), np.zeros(2))
    trip = Trip("a", np.array([7.0, 667.0]), lon_deg, lat_deg)
    cells = City(frame, 500.0, Square(3)).cells(trip)
    assert cells.tolist() == [3, 4, 5]
    assert City(frame, 500.0, Square(1)).cells(trip).tolist() == [-1, 0, -1]


def made_up_trips() -> list[Trip]:
    """Three trips of 80 minutes, on different days, of two people."""
    time_s = np.arange(0, 4_801, 60.0)
    place_deg = np.full(len(time_s), 0.001)
    return [
        Trip(entity, time_s + day * 86_400, place_deg, place_deg)
        for entity, day in (("a", 0), ("b", 2), ("a", 1))
    ]


def test_halves_in_time_share_no_trip_and_random_folds_do():
    trips = made_up_trips()
    every = Sequences.of(trips, City.around(trips, 2_000.0, 27))
    assert len(every) == 3 * 5  # sixteen points every five minutes
    train, test = halves_in_time(every)
    assert set(train.trip_N.tolist()) & set(test.trip_N.tolist()) == set()
    assert train.started_s_N.max() < test.started_s_N.min()
    train, test = random_folds(every)
    assert set(train.trip_N.tolist()) & set(test.trip_N.tolist())


def test_every_answerer_has_its_row():
    trips = made_up_trips()
    city = City.around(trips, 2_000.0, 27)
    of_split = {split: [trip for trip in trips if trip.entity in "ab"] for split in SPLITS}
    every = cases(of_split, city)
    made_up, filled = tables(every, city.square, SMALL)
    for case in every:
        samples = (REAL, "train drawn again", "stay", "Markov 1", "Markov 2")
        learnt = tuple(f"diffusion over cells, seed {seed}" for seed in case.seeds)
        for name in (*samples, *learnt):
            assert f"| {case.split} | {name} |" in made_up
        for name in ("stay", "straight line", "Markov 1", "Markov 2", *learnt):
            assert f"| {case.split} | {name} | 100.0" in filled  # nobody moves


# The bench --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trip]]:
    """The clean trips of GeoLife by split; the people of one split are in no other."""
    store = Store(tmp_path_factory.mktemp("grid") / "store")
    store.prepare()
    with without_orchestrator():
        made = shards_of(CONFIG, str(geolife_sample()), store)
    shards = Shards.open(store.folder(made), CONFIG.source_row.zone)
    return {split: whole_trips(shards, split) for split in SPLITS}


@dataclass(frozen=True)
class Case:
    """What is learnt from and what is judged, and how often the diffusion is trained on it."""

    split: str
    train: Sequences
    test: Sequences
    seeds: tuple[int, ...]

    def diffusions(self, square: Square, training: Training) -> list[Diffusion]:
        return [Diffusion(self.train.cell_NT, square, seed, training) for seed in self.seeds]


def cases(trips: dict[str, list[Trip]], city: City) -> list[Case]:
    """Other people, as the pipeline splits them; and all hours at random, and by time."""
    of_split = {split: Sequences.of(of_part, city) for split, of_part in trips.items()}
    every = Sequences.of([trip for of_part in trips.values() for trip in of_part], city)
    return [
        Case("other people", of_split["train"], of_split["test"], SEEDS),
        Case("random hours", *random_folds(every), SEEDS[:1]),
        Case("later trips", *halves_in_time(every), ()),
    ]


@pytest.mark.benchmark
@pytest.mark.timeout(4 * 3_600)
def test_the_published_grid(trips: dict[str, list[Trip]], request: pytest.FixtureRequest) -> None:
    texts = [str(machine())]
    for name, (cell_m, side) in CITY_M.items():
        city = City.around(trips["train"], cell_m, side)
        texts += [f"**{name}**", *tables(cases(trips, city), city.square)]
    text = "\n\n".join(texts)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = Path(RESULTS / f"published-grid-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.md")
    path.write_text(f"{text}\n")
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{text}\nKept in {path}")


def tables(every: list[Case], square: Square, training: Training = Training()) -> Iterator[str]:
    """How likely made-up sequences are, by both kinds of measures, and how often gaps are right."""
    made_up, filled = [], []
    for case in every:
        learnt = case.diffusions(square, training)
        made_up += [(case.split, *row) for row in made_up_rows(case, square, learnt)]
        filled += [(case.split, *row) for row in filled_rows(case, square, learnt)]
    yield markdown_table(("split", "sample", *MEASURES), made_up, num_names=2)
    yield markdown_table(("split", "answers", *TASKS), filled, num_names=2)


def made_up_rows(case: Case, square: Square, learnt: list[Diffusion]) -> Iterator[tuple[str, ...]]:
    """As many sequences of each, all against the same real ones of test."""
    real_ST, train_NT = case.test.drawn(NUM_JUDGED).cell_NT, case.train.cell_NT
    is_half_N = case.train.half_N()
    half_ST = case.train.at(is_half_N).drawn(len(real_ST)).cell_NT
    rest_NT = case.train.at(~is_half_N).cell_NT
    generators = [Again(train_NT), Stay(train_NT), *chains(train_NT), *learnt]
    samples = {one.name: (one.made_up(len(real_ST), 0), train_NT) for one in generators}
    for name, (sample_ST, known_NT) in {REAL: (half_ST, rest_NT), **samples}.items():
        told = published_measures(sample_ST, real_ST, square)
        told |= cell_measures(sample_ST, real_ST, known_NT)
        yield name, *(as_number(told[measure]) for measure in MEASURES)


def filled_rows(case: Case, square: Square, learnt: list[Diffusion]) -> Iterator[tuple[str, ...]]:
    """The share of gaps whose cells are all right, and its interval over people."""
    truth = case.test.drawn(NUM_FILLED)
    _, person_N = np.unique(truth.entity_N, return_inverse=True)
    train_NT = case.train.cell_NT
    for answerer in (Stay(train_NT), StraightLine(square), *chains(train_NT), *learnt):
        right = [hits(answerer, truth.cell_NT, *task) for task in TASKS.values()]
        told = [Comparison.of_one(share_of(Values.of_trips(one)), person_N) for one in right]
        yield answerer.name, *(as_share(one.value(), *one.interval(0)) for one in told)


def as_number(value: float) -> str:
    """Of those who stay there are no moves to tell of."""
    return "" if math.isnan(value) else f"{value:.3f}"


def as_share(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({100 * low:.0f} to {100 * high:.0f})"
