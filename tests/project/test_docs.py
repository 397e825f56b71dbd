"""Documentation: what the front page and its pages say of files, flags and recipes is so."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import test_sql
import yaml
from helpers import ships
from helpers.places import PROJECT
from pydantic_settings import CliApp, get_subcommand

from flows import cli
from model.families import module_named as module_of_family
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.evaluate import EVALUATE
from tasks.ingest.ingest import SNAPSHOT
from tasks.ingest.part import PART
from tasks.ingest.readers.formats import module_named as module_of_format
from tasks.prepare import clean, regions, shards, split, step_features
from tasks.pretrain.encoding_check import PROBE
from tasks.pretrain.train import TRAIN
from tasks.report import quality
from tasks.report.report import REPORT
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Recipe

README, CONTRIBUTING = PROJECT / "README.md", PROJECT / "CONTRIBUTING.md"
TUTORIAL = PROJECT / "notebooks" / "README.md"
OWN_MODELS = PROJECT / "docs" / "own-models.md"
PAGES = (README, CONTRIBUTING, TUTORIAL, *sorted((PROJECT / "docs").glob("*.md")))
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=NAMES)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
PLACE = re.compile(r"(?<![\w/.:-])(?:flows|tasks|model|sql|tests|docs|notebooks)/[\w./<>*-]*")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")
COMMANDS = (
    *("run", "register", "assess", "benchmark", "forecast", "show", "datasets", "ui"),
    "weights",
    *("cache rebuild", "doctor"),
)


def prose(text: str) -> str:
    return BLOCK.sub("", text)


def blocks(text: str, kind: str) -> list[str]:
    return [body for found, body in BLOCK.findall(text) if found == kind]


def test_the_front_page_is_read_in_minutes():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


# Links and paths --------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """(file, anchor) of each link that stays in the project."""
    found = LINK.findall(prose(page.read_text(encoding="utf-8")))
    parts = [target.partition("#") for target in found if "://" not in target]
    return [((page.parent / name).resolve() if name else page, anchor) for name, _, anchor in parts]


def broken(page: Path) -> list[str]:
    return [
        f"{target.name}#{anchor}"
        for target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]


@EVERY_PAGE
def test_every_link_leads_somewhere(page):
    assert broken(page) == []


@EVERY_PAGE
def test_pages_are_linked_both_ways(page):
    targets = {target for target, _ in links(page)}
    assert targets >= ({*PAGES} - {README} if page == README else {README})


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One thing\n[a](#one-thing) [b](#another) [c](nowhere.md) [d](https://e.org)")
    assert broken(page) == ["page.md#another", "nowhere.md#"]


def missing(text: str) -> list[str]:
    """The files of the project that a text names and that are not there."""
    named = {place.rstrip(".") for place in PLACE.findall(text) if not set("<*") & set(place)}
    return sorted(place for place in named if not (PROJECT / place).exists())


@EVERY_PAGE
def test_every_file_that_is_named_is_there(page):
    assert missing(page.read_text(encoding="utf-8")) == []


def test_a_file_that_is_not_there_is_found():
    assert missing("`tasks/nothing.py`, model/data/, `sql/<name>.sql`.") == ["tasks/nothing.py"]


# Flags ------------------------------------------------------------------------------------------


@cache
def known_flags() -> dict[str, set[str]]:
    """The flags of each command, as its own help tells them."""
    found = {}
    for command in COMMANDS:
        with redirect_stdout(io.StringIO()) as told, pytest.raises(SystemExit):
            cli.main([*command.split(), "--help"])
        found[command] = set(FLAG.findall(told.getvalue()))
    return found


def commands(text: str) -> list[tuple[str, set[str]]]:
    """(command, flags) of each line that calls the command line."""
    lines = "\n".join(blocks(text, "")).replace("\\\n", " ").splitlines()
    calls = [re.search(rf"trajfoundry ({'|'.join(COMMANDS)})\b(.*)", line) for line in lines]
    return [(call[1], {*FLAG.findall(call[2].partition(" #")[0])}) for call in calls if call]


@EVERY_PAGE
def test_every_flag_is_known(page):
    text = page.read_text(encoding="utf-8")
    for command, flags in commands(text):
        assert flags <= known_flags()[command], command
    assert set(FLAG.findall(prose(text))) <= set().union(*known_flags().values())


def test_commands_are_read_over_the_ends_of_lines():
    text = "```\ntrajfoundry run --seed 1 \\\n    --model.preset tiny   # --not this\n```\n"
    assert commands(text) == [("run", {"--seed", "--model.preset"})]


# Pictures ---------------------------------------------------------------------------------------

NODE = r'(?!end\b)\w+(?:\["[^"]+"\]|\[\("[^"]+"\)\])?'
PICTURE_LINE = re.compile(
    rf"flowchart (?:LR|TB)|subgraph \w+|end|{NODE}(?: --> {NODE}(?: & {NODE})*)*"
)


@EVERY_PAGE
def test_pictures_keep_to_the_simplest_words_of_mermaid(page):
    for picture in blocks(page.read_text(encoding="utf-8"), "mermaid"):
        lines = [line.strip() for line in picture.splitlines()]
        assert lines[0].startswith("flowchart ")
        assert [line for line in lines if not PICTURE_LINE.fullmatch(line)] == []
        assert sum(line.startswith("subgraph") for line in lines) == lines.count("end")


# A model of one's own ---------------------------------------------------------------------------


def test_a_model_of_your_own_is_scored_as_its_page_says(store, capsys):
    folder = store.folder(ships.stored_shards(store)).parent
    python = blocks(OWN_MODELS.read_text(encoding="utf-8"), "python")
    [code] = [block for block in python if "class Mine" in block]
    lines = [line for line in code.splitlines() if line and not line.startswith("from ")]
    assert len(lines) <= 10
    assert code.count('"store/shards/hurdat2"') == 1
    exec(code.replace('"store/shards/hurdat2"', repr(str(folder))), {"__name__": "__main__"})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {name for name, *_ in rows} == {
        "mine",
        "last_position",
        "constant_velocity",
        "constant_velocity_3",
        "damped_velocity",
        "linear_residual",
        "boosted_trees",
        "kalman_mixture",
        "past_trips",
    }
    ade_m = [float(row[1].replace(",", "")) for row in rows]
    assert ade_m == sorted(ade_m)
    best = next(row for row in rows if row[0] != "mine")
    assert best[-1] == "+0.0%"


def test_the_example_of_a_case_holds(connection):
    [text] = blocks(CONTRIBUTING.read_text(encoding="utf-8"), "yaml")
    [case] = yaml.safe_load(text)
    test_sql.test_given_expect(connection, case)


# What runs again --------------------------------------------------------------------------------


def recipes(config: PipelineConfig) -> dict[str, Recipe]:
    """The recipe of each stage, without what its inputs hold."""
    row = config.source_row
    reading = {
        "sql_names": row.staging_names,
        "modules": (module_of_format(row.decoder),),
    }
    family = {"modules": (module_of_family(config.model.family),)}
    told = (
        (PART, config.ingest_rules, reading),
        (SNAPSHOT, config.snapshot_rules, reading),
        (clean.STAGE, config.clean_rules, {}),
        (split.STAGE, config.split_rules, {}),
        (step_features.STAGE, Frozen(), {}),
        (regions.STAGE, config.region_rules, {}),
        (quality.STAGE, quality.rules_of(config), {}),
        (shards.STAGE, config.window_rules, {}),
        (PROBE, config.probe_rules, {}),
        (TRAIN, config.training, family),
        (EVALUATE, config.evaluate_rules, family),
        (REPORT, Frozen(), {}),
    )
    return {
        stage.name: stage.recipe(config.dataset, rules, {}, **more) for stage, rules, more in told
    }


@cache
def usual() -> dict[str, Recipe]:
    return recipes(PipelineConfig())


def edits(pattern: str) -> list[tuple[str, set[str]]]:
    """(edit, stages) of each row of the tables of what runs again whose edit looks like this."""
    text = CONTRIBUTING.read_text(encoding="utf-8").partition("## What runs again\n")[2]
    found = re.findall(rf"^\| `({pattern})` \| (.+) \|$", text.partition("\n## ")[0], re.MULTILINE)
    return [(edit, set(re.findall(r"`(\w+)`", stages))) for edit, stages in found]


FILES, SETTINGS = edits(r"[\w/]+\.(?:py|sql)"), edits("--.+?")


def stages_with(path: str) -> set[str]:
    """The stages whose recipe holds a file."""
    name = path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    if path.endswith(".sql"):
        name = path.removeprefix("sql/").removesuffix(".sql")
    return {stage for stage, made in usual().items() if name in made.code | made.sql}


@pytest.mark.parametrize(("path", "stages"), FILES, ids=[path for path, _ in FILES])
def test_an_edited_file_runs_the_stages_again_that_the_table_says(path, stages):
    assert stages_with(path) == stages


@pytest.mark.parametrize(("flag", "stages"), SETTINGS, ids=[flag for flag, _ in SETTINGS])
def test_a_setting_runs_the_stages_again_that_the_table_says(flag, stages):
    command = get_subcommand(CliApp.run(cli.Commands, cli_args=["run", *flag.split()]))
    assert isinstance(command, cli.Run)
    changed = recipes(command.config)
    assert {name for name in changed if changed[name].digest != usual()[name].digest} == stages


def test_the_tables_are_read():
    assert len(FILES) > 15
    assert len(SETTINGS) > 5
