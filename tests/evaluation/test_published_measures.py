"""Published measures of sequences of cells, by hand, and with cells that are numbered otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model.evaluation.generation.published_measures import (
    Square,
    cell_measures,
    published_measures,
    repeated_share,
    root_divergence_nats,
)

SQUARE = Square(110)
ORDINARY = {f"published_{name}" for name in ("moving", "distribution", "o_dis", "d_dis")}


def walks(seed: int, num: int = 60) -> np.ndarray:
    """Random walks to neighbours that share an edge, near the middle of the square."""
    draw = np.random.default_rng(seed)
    steps_2ST = draw.integers(-1, 2, (2, num, 12)).cumsum(axis=2) + 50
    return SQUARE.cell(*steps_2ST)


# As published -----------------------------------------------------------------------------------


def test_the_published_divergence_is_a_root_in_nats():
    assert root_divergence_nats(np.array([0.5]), np.array([7.5]), 100) == pytest.approx(
        math.sqrt(math.log(2))
    )
    # Shares (1, 0) beside (1/2, 1/2): half of ln(4/3), and half of (ln(2/3) + ln 2) / 2.
    expected = math.sqrt(math.log(4 / 3) / 2 + math.log(4 / 3) / 4)
    found = root_divergence_nats(np.array([3, 3]), np.array([3, 90]), 100)
    assert found == pytest.approx(expected)


def test_published_measures_by_hand():
    """One bin holds one cell of ten by ten. Steps of one side lie in other bins than none."""
    square = Square(10)
    real = np.array([[11, 11, 12], [44, 44, 44]])
    made = np.array([[11, 11, 11], [11, 11, 11], [44, 44, 44], [45, 44, 44]])
    found = published_measures(made, real, square)

    def apart(one, other):
        mean = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
        parts = (
            sum(p * math.log(p / m) for p, m in zip(shares, mean, strict=True) if p)
            for shares in (one, other)
        )
        return math.sqrt(sum(parts) / 2)

    quarter = (1 / 4, 3 / 4)
    assert found == pytest.approx(
        {
            "published_moving": apart((1 / 8, 7 / 8), quarter),
            "published_distribution": apart(  # of the cells 11, 12, 44 and 45
                (6 / 12, 0, 5 / 12, 1 / 12), (2 / 6, 1 / 6, 3 / 6, 0)
            ),
            "published_o_dis": apart((2 / 4, 1 / 4, 1 / 4), (1 / 2, 1 / 2, 0)),
            "published_d_dis": apart((2 / 4, 0, 2 / 4), (0, 1 / 2, 1 / 2)),
            "published_diversity": 2 / 4,
        }
    )


def test_repeated_sequences_are_counted_each_time_they_stand_there():
    assert repeated_share(np.array([[1, 2], [1, 2], [2, 1], [1, 2], [3, 3]])) == 3 / 5


# What cells are called, and where they are ------------------------------------------------------


def test_other_numbers_of_the_cells_change_the_published_measures_and_not_ours():
    made, real, train = walks(0), walks(1), walks(2)
    other = np.random.default_rng(3).permutation(SQUARE.num_cells)
    published, ours = published_measures(made, real, SQUARE), cell_measures(made, real, train)
    assert cell_measures(other[made], other[real], other[train]) == ours
    renumbered = published_measures(other[made], other[real], SQUARE)
    assert all(abs(renumbered[name] - published[name]) > 0.05 for name in ORDINARY)
    assert renumbered["published_diversity"] == published["published_diversity"]


def test_the_published_measure_does_not_see_a_walk_far_along_its_row():
    """121 cells of 110 x 110 are one bin: from one end of the city to the other."""
    row = 121 * 40 // 110
    west, east = (SQUARE.cell(np.full((5, 12), row), np.full((5, 12), at)) for at in (5, 100))
    assert published_measures(west, east, SQUARE)["published_distribution"] == 0
    assert cell_measures(west, east, east)["jsd_bits_cells"] == 1


def check_ways_are_those_of_a_map(ways):
    """The last cell of a row is far from the first of the next, whose number is the next one."""
    assert ways(np.array([[26, 27]]))[0, 0] == pytest.approx(math.hypot(1, 26))
    assert ways(np.array([[26, 53]]))[0, 0] == 1


def test_no_row_goes_on_in_the_next():
    check_ways_are_those_of_a_map(Square(27).ways)
    with pytest.raises(AssertionError):
        check_ways_are_those_of_a_map(lambda cell_ST: np.abs(np.diff(cell_ST, axis=1)))


def test_a_place_beyond_the_end_of_a_row_is_no_cell():
    row, column = np.array([3, 3, -1, 26]), np.array([26, 27, 5, -1])
    assert Square(27).cell(row, column).tolist() == [3 * 27 + 26, -1, -1, -1]


# Ours -------------------------------------------------------------------------------------------


def test_measures_of_cells_by_hand():
    """Moves 1 to 2 and 2 to 1 are made up, and train made the first alone."""
    real, train = np.array([[1, 2, 2], [3, 3, 3]]), np.array([[1, 1, 2], [3, 3, 3]])
    found = cell_measures(np.array([[1, 2, 1], [3, 3, 3]]), real, train)
    assert found["unseen_moves"] == 1 / 2
    assert found["copied"] == 1 / 2
    # Cells: (2, 1, 3) sixths beside (1, 2, 3); ends: one of two pairs is shared.
    mixed = sum(p * math.log2(p / 0.25) for p in (1 / 3, 1 / 6))
    assert found["jsd_bits_cells"] == pytest.approx(mixed)
    assert found["jsd_bits_ends"] == pytest.approx(1 / 2)
    # Moves (1/2, 1/2) beside (1, 0).
    expected = (math.log2(4 / 3) + (math.log2(2 / 3) + math.log2(2)) / 2) / 2
    assert found["jsd_bits_moves"] == pytest.approx(expected)


def test_a_copy_machine_is_best_on_every_distance_and_copies_all():
    train = walks(4)
    found = cell_measures(train, train, train)
    assert found.pop("copied") == 1
    assert set(found.values()) == {0.0}
