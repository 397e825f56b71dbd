"""Units: digits that a reader can use, and horizons in the time that they are away."""

from __future__ import annotations

import pytest

from tasks.report.units import (
    KILOMETRE,
    METRE,
    digits,
    distance,
    distance_unit,
    duration,
    horizon,
    spelt_horizons,
)


@pytest.mark.parametrize(
    ("value_m", "is_nautical", "words"),
    [
        (183_003.4, False, "183 km"),
        (183_003.4, True, "183 km (98.8 nmi)"),
        (1_234_567.0, False, "1,235 km"),
        (18_349.0, False, "18.3 km"),
        (1_834.0, True, "1.83 km (0.99 nmi)"),
        (999.6, False, "1.00 km"),
        (640.2, True, "640 m"),
        (0.0, False, "0.00 m"),
    ],
)
def test_distances_are_told_with_three_digits(value_m, is_nautical, words):
    assert distance(value_m, is_nautical) == words


@pytest.mark.parametrize(
    ("value", "text"), [(99.96, "100"), (99.94, "99.9"), (9.996, "10.0"), (-3.456, "-3.46")]
)
def test_rounding_up_gives_no_further_digit(value, text):
    assert digits(value) == text


def test_columns_have_one_unit():
    assert distance_unit(1_999) is METRE
    assert distance_unit(2_000) is KILOMETRE
    assert duration(7_300) == "2.03 h"


@pytest.mark.parametrize(
    ("elapsed_s", "words"),
    [
        ({2: 43_200, 20: 432_000}, ["12 h", "120 h"]),
        ({1: 86_400, 3: 259_200, 14: 1_209_600}, ["1 d", "3 d", "14 d"]),
        ({1: 15, 4: 60, 10: 150, 20: 300}, ["15 s", "1 min", "2.5 min", "5 min"]),
        ({1: 71, 30: 2_130}, ["1.2 min", "36 min"]),
        ({1: 59.8, 2: float("nan")}, ["1 min"]),
        ({}, []),
    ],
)
def test_horizons_are_told_in_their_time(elapsed_s, words):
    assert list(spelt_horizons(elapsed_s).values()) == words
    assert horizon(5_400) == "1.5 h"
