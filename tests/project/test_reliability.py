"""The table of faults: each of the 38 has a test, and each test that it names is there."""

from __future__ import annotations

import ast
import re

import pytest
from helpers.places import PROJECT

PAGE = PROJECT / "docs" / "reliability.md"
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
PROVED = re.compile(r"`(tests/[\w/]+\.py)`: ((?:`test_\w+`(?:, )?)+)")


def rows(text: str) -> dict[int, list[tuple[str, str]]]:
    """The (file, test) that each fault names."""
    return {
        int(number): [
            (file, name)
            for file, names in PROVED.findall(proof)
            for name in re.findall(r"test_\w+", names)
        ]
        for number, _fault, _promise, proof in ROW.findall(text)
    }


def missing(text: str) -> list[str]:
    """What a table names and is not there, and faults that nothing proves."""
    found = [f"{number} is proved by nothing" for number, proof in rows(text).items() if not proof]
    for file, name in sorted({pair for proof in rows(text).values() for pair in proof}):
        path = PROJECT / file
        if not path.is_file():
            found.append(f"{file} is not there")
        elif name not in functions(path.read_text(encoding="utf-8")):
            found.append(f"{file} has no {name}")
    return found


def functions(source: str) -> set[str]:
    return {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def test_each_of_the_38_faults_stands_there_once():
    numbers = [int(number) for number, *_ in ROW.findall(PAGE.read_text(encoding="utf-8"))]
    assert numbers == list(range(1, 39))


def test_each_test_that_is_named_is_there():
    assert missing(PAGE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        ("by hand", "7 is proved by nothing"),
        ("`tests/no.py`: `test_x`", "tests/no.py is not there"),
        (
            "`tests/project/test_reliability.py`: `test_nothing`",
            "tests/project/test_reliability.py has no test_nothing",
        ),
    ],
)
def test_what_is_not_there_is_found(proof, said):
    assert missing(f"| 7 | a fault | a promise | {proof} |") == [said]
