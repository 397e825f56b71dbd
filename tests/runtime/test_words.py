"""Words: counts that read as a person would write them."""

from __future__ import annotations

import pytest

from tasks.config.datasets import DATASETS
from tasks.runtime.words import counted, plural_of


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("bus", "buses"),
        ("aircraft", "aircraft"),
        ("entity", "entities"),
        ("ferry", "ferries"),
        ("buoy", "buoys"),
        ("storm", "storms"),
        ("walrus", "walruses"),
        ("watch", "watches"),
    ],
)
def test_what_moves_has_its_plural(noun, plural):
    assert plural_of(noun) == plural


def test_a_count_takes_the_number_of_its_noun():
    assert [counted(count, "window") for count in (0, 1, 2_000)] == [
        "0 windows",
        "1 window",
        "2,000 windows",
    ]


def test_no_dataset_has_a_wrong_plural():
    kinds = {row.entity_kinds for row in DATASETS.values()}
    assert not kinds & {"buss", "aircrafts", "entitys", "persones"}
    assert {"buses", "aircraft", "entities", "taxis"} <= kinds
