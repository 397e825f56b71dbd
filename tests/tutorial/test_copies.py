"""Copies of the notebooks: fresh, without answers, and made by rules that hold for any source."""

from __future__ import annotations

import json

import pytest

from notebooks.copies import (
    COPIES,
    badge,
    cells_of,
    copy_of,
    exercises_of,
    files,
    repository,
)

SOURCE = '''\
# %% [markdown]
# # What is twice a number?

# %% tags=["exercise"]
def twice(number: int) -> int:
    """Twice the number."""
    # BEGIN SOLUTION: add it to "itself"
    return number + number
    # END SOLUTION

# %% tags=["check"]
assert twice(2) == 4

# %% tags=["wrong"]
def twice(number: int) -> int:
    return number

# %%
twice(3)

# %%
twice(3)
'''
ADDRESS = "https://github.com/somebody/trajfoundry"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "01_twice.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def cells(source):
    return json.loads(copy_of(source, ADDRESS))["cells"]


def text_of(cell) -> str:
    return "".join(cell["source"])


def test_what_is_committed_is_what_would_be_made():
    assert [path.name for path, text in files().items() if path.read_text("utf-8") != text] == []
    assert {path.name for path in COPIES.iterdir()} == {
        path.name for path in files() if path.suffix == ".ipynb"
    }


def test_a_copy_is_the_same_each_time(source):
    assert copy_of(source) == copy_of(source)


def test_the_answer_becomes_a_hint_and_stands_folded_behind_the_check(cells):
    stub, check, answer = cells[3:6]
    assert text_of(stub) == (
        'def twice(number: int) -> int:\n    """Twice the number."""\n'
        '    raise NotImplementedError("your turn: add it to \\"itself\\"")'
    )
    assert text_of(check) == "assert twice(2) == 4"
    assert text_of(answer).endswith('number."""\n    return number + number')
    assert answer["metadata"]["cellView"] == "form"
    assert answer["metadata"]["jupyter"] == {"source_hidden": True}


def test_no_copy_shows_a_wrong_answer_or_an_output(cells):
    assert not any("return number\n" in text_of(cell) + "\n" for cell in cells)
    assert not any(cell.get("outputs") for cell in cells)


def test_cells_are_named_by_what_they_say(cells, source):
    names = [cell["id"] for cell in cells]
    assert len(set(names)) == len(names)
    assert names[-1] == f"{names[-2]}-2"
    source.write_text(SOURCE.replace("What is twice", "How much is twice"))
    changed = [cell["id"] for cell in json.loads(copy_of(source, ADDRESS))["cells"]]
    assert [one != other for one, other in zip(names, changed, strict=True)].count(True) == 1


def test_the_first_cell_installs_from_the_repository_or_says_what_to_do(cells, source):
    assert f"trajfoundry @ git+{ADDRESS}" in text_of(cells[1])
    first = json.loads(copy_of(source))["cells"][0]
    assert "pip install ." in text_of(first)
    exec(text_of(first), {})  # here it does nothing


def test_the_badge_waits_for_an_address(cells, source, tmp_path):
    link = "https://colab.research.google.com/github/somebody/trajfoundry/blob/main/"
    assert f"({link}notebooks/colab/01_twice.ipynb)" in text_of(cells[0])
    assert badge("01_twice", "") == ""
    assert "colab.research" not in copy_of(source)
    settings = tmp_path / "pyproject.toml"
    settings.write_text('[project]\nname = "x"\n')
    assert repository(tmp_path) == ""
    settings.write_text(f'[project.urls]\nRepository = "{ADDRESS}.git"\n')
    assert repository(tmp_path) == ADDRESS


@pytest.mark.parametrize("missing", ['# %% tags=["check"]', "# BEGIN SOLUTION: "])
def test_an_exercise_without_answer_or_check_is_refused(missing, source):
    source.write_text(SOURCE.replace(missing, "# %%" if "%" in missing else "# "))
    with pytest.raises(ValueError, match="no answer in it or no check after it"):
        exercises_of(cells_of(source))
