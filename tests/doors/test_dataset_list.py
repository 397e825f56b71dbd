"""List of the data sets: what is printed, what the page shows, and the entries are one thing."""

from __future__ import annotations

import re
import shlex

import pytest
from helpers.places import PROJECT
from pydantic_settings import CliApp, get_subcommand

from flows import cli
from notebooks.tracks import storms
from tasks.config.datasets import DATASETS
from tasks.report.dataset_list import COLUMNS, dataset_list
from tasks.report.markup import escaped

MARKED = re.compile(r"<!-- data sets -->\n\n(.*?)\n\n<!-- end of data sets -->", re.DOTALL)
EVERY = pytest.mark.parametrize("row", DATASETS.values(), ids=list(DATASETS))


def shown(page: str) -> str:
    """The list as a page shows it."""
    [found] = MARKED.findall(page)
    return found


def cells(row) -> dict[str, str]:
    """The cells of a data set by the names of their columns."""
    [line] = dataset_list([row]).splitlines()[2:]
    return dict(zip(COLUMNS, line.strip("| ").split(" | "), strict=True))


def test_the_page_shows_what_is_printed(capsys):
    assert cli.main(["datasets", "--markdown"]) == 0
    page = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8")
    assert shown(page) == capsys.readouterr().out.strip()


@EVERY
def test_a_stale_page_is_found(row):
    page = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8")
    for change in ({"licence": "other terms"}, {"interval_s": 7.0}, {"size": "nothing"}):
        rows = [one.model_copy(update=change) if one == row else one for one in DATASETS.values()]
        assert shown(page) != dataset_list(rows)


@EVERY
def test_a_row_tells_terms_and_where_from(row):
    told = cells(row)
    assert told["name"] == f"`{row.name}`"
    assert row.entity_kinds in told["what moves"]
    assert told["licence"] == escaped(row.licence)
    if row.homepage.startswith("https://"):
        assert told["where from"].endswith(f"]({row.homepage})")
    assert all(told.values())


@EVERY
def test_the_command_of_a_row_reads_these_data(row):
    program, *words = shlex.split(cells(row)["command"].strip("`"))
    command = get_subcommand(CliApp.run(cli.Commands, cli_args=words))
    assert program == "trajfoundry"
    assert command.config.source_row.decoder == row.decoder
    assert command.dataset == ("own_mine" if row.has_own_columns else row.name)
    assert command.source == ("" if row.sample or row.is_generated else "PATH")


def test_a_bar_in_an_entry_breaks_no_row():
    row = DATASETS["gpx"].model_copy(update={"licence": "mine | yours"})
    line = dataset_list([row]).splitlines()[-1]
    assert r"mine \| yours" in line


def test_the_embedded_storms_are_as_many_as_the_list_says():
    tracks = storms(min_points=1)
    counted = f"{len(tracks):,} storms, {sum(map(len, tracks)):,} points"
    assert DATASETS["hurdat2"].size == f"embedded: {counted}"
