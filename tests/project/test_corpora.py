"""Corpora: those that are shipped, one's own, and wrong ones, told by their values."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from flows import cli
from model.families import MODULES, has_own_scale, reads
from tasks.config.corpus import SHIPPED, corpus_named
from tasks.config.datasets import DATASETS
from tasks.config.pipeline import PipelineConfig
from tasks.runtime.errors import ConfigError

STORMS = '[[members]]\ndataset = "hurdat2"\n'
SHIPS = '[[members]]\ndataset = "ais_noaa"\nsource = "ships.zip"\n'
GOOD = f'title = "Mine"\n{STORMS}{SHIPS}'
RUN = ("run", "--model.family", "foundry", "--corpus")


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_what_is_shipped_is_there():
    assert set(SHIPPED) == {"open", "world"}
    assert len(corpus_named("world").members) == 7


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_corpus_can_be_run_without_a_setting(name):
    corpus = corpus_named(name)
    corpus.require_family("foundry")
    configs = [corpus.config_of(member, PipelineConfig()) for member in corpus.members]
    assert all(config.window_rules for config in configs)


def test_the_open_corpus_holds_nothing_that_may_not_be_passed_on():
    """What people recorded is theirs, but where they have given it away, as in the GPX sample."""
    corpus = corpus_named("open")
    for member in corpus.members:
        row = DATASETS[member.dataset]
        assert member.may_be_passed_on
        assert "no redistribution" not in row.licence
        assert not row.is_personal or row.name == "gpx"
    assert not all(member.may_be_passed_on for member in corpus_named("world").members)


def test_who_passes_tracks_on_says_under_which_licence(tmp_path):
    """Of files of one's own alone: what a public dataset allows is not for a corpus to say."""
    mine = '[[members]]\nsource = "x"\nis_redistributable = true\n'
    licence = 'settings.licence = "CC0-1.0"\n'
    for dataset in ("gpx", "own"):
        text = f'title = "x"\n{mine}dataset = "{dataset}"\n'
        corpus = corpus_named(written(tmp_path, text + licence))
        [member] = corpus.members
        assert member.may_be_passed_on
        assert corpus.config_of(member, PipelineConfig()).source_row.licence == "CC0-1.0"
        with pytest.raises(ConfigError, match=r"under which licence\? give settings\.licence"):
            corpus_named(written(tmp_path, text))
    with pytest.raises(ConfigError, match="licence is for your own files"):
        corpus_named(written(tmp_path, f'title = "x"\n{mine}dataset = "geolife"\n{licence}'))


def test_what_a_corpus_says_of_a_member_goes_before_the_run_and_nothing_else_does(tmp_path):
    settings = "[settings.window]\nstride = 9\nnum_horizon = 11\n"
    of_ships = "[members.settings.window]\nstride = 7\n"
    corpus = corpus_named(written(tmp_path, f'title = "x"\n{settings}{STORMS}{SHIPS}{of_ships}'))
    run = PipelineConfig.model_validate(
        {"window": {"stride": 3, "num_context": 5}, "model": {"family": "foundry"}, "seed": 4}
    )
    storms, ships = (corpus.config_of(member, run) for member in corpus.members)
    assert [one.dataset for one in (storms, ships)] == ["hurdat2", "ais_noaa"]
    told = [
        (one.window.stride, one.window.num_horizon, one.window.num_context, one.seed)
        for one in (storms, ships)
    ]
    assert told == [(9, 11, 5, 4), (7, 11, 5, 4)]
    assert (ships.model, ships.train) == (run.model, run.train)


def test_files_of_your_own_may_be_members_each_under_its_name(tmp_path):
    one, other = (
        f'[[members]]\ndataset = "own"\nlabel = "{name}"\nsource = "{name}.csv"\n'
        f'settings.name = "{name}"\n'
        for name in ("ferries", "buses")
    )
    corpus = corpus_named(written(tmp_path, f'title = "x"\n{one}{other}'))
    configs = [corpus.config_of(member, PipelineConfig()) for member in corpus.members]
    assert [config.dataset for config in configs] == ["own_ferries", "own_buses"]


def test_shares_are_those_that_are_told_or_equal(tmp_path):
    corpus = corpus_named(written(tmp_path, GOOD))
    assert corpus.shares == (0.5, 0.5)
    shared = GOOD.replace(STORMS, f"{STORMS}share = 3\n").replace(SHIPS, f"{SHIPS}share = 1\n")
    assert corpus_named(written(tmp_path, shared)).shares == (0.75, 0.25)
    held_out = corpus_named(written(tmp_path, f"{GOOD}is_held_out = true\n"))
    assert held_out.shares == (1.0, 0.0)
    assert [one.name for one in held_out.learned] == ["hurdat2"]
    assert math.isclose(sum(corpus_named("world").shares), 1, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 'x'\n", "members: Field required"),
        ("title = 'x'\nmembers = []\n", "members: must name at least one"),
        (GOOD.replace("hurdat2", "hurdat3"), "members.0.dataset: unknown dataset 'hurdat3'"),
        (f"{GOOD}{STORMS}", "members: names 'hurdat2' twice"),
        (f"{GOOD}share = 0\n", "members.1.share: Input should be greater than 0, not 0"),
        (f"{GOOD}share = -1.5\n", "members.1.share: Input should be greater than 0, not -1.5"),
        (f"{GOOD}share = inf\n", "members.1.share: Input should be a finite number"),
        (f"{GOOD}share = 2\n", "ais_noaa has a share and hurdat2 has none: give all or none"),
        (
            f"{GOOD}share = 2\nis_held_out = true\n",
            "members.1: ais_noaa is held out whole, so it has no share: leave it out",
        ),
        (
            GOOD.replace(STORMS, f"{STORMS}is_held_out = true\n") + "is_held_out = true\n",
            "all members are held out whole: something must be learned from",
        ),
        (f"colour = 1\n{GOOD}", "colour: Extra inputs are not permitted, not 1"),
        (
            f"{GOOD}[members.settings.window]\nstride = 0\n",
            "settings of ais_noaa: window.stride: Input should be greater than or equal to 1",
        ),
        (f"{GOOD}[members.settings.model]\nsize = 'tiny'\n", "settings.model is told by 'the run'"),
        (f"{GOOD}[members.settings]\nseed = 3\n", "settings.seed is told by 'the run' alone"),
    ],
)
def test_a_wrong_corpus_is_refused_by_the_value_that_is_wrong(tmp_path, capsys, text, said):
    path = written(tmp_path, text)
    assert cli.main([*RUN, path, "--store", str(tmp_path / "store")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"trajfoundry: {path}: ")
    assert said in told
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["nowhere"], "nowhere: no such corpus; choose one of open, world, or give the path"),
        (["open", "--dataset", "porto"], "--dataset is of one dataset: leave it out"),
        (["open", "--source", "x.zip"], "--source is of one dataset: leave it out"),
        (["open", "--source-folder", "away"], "--source-folder: away is no folder"),
        (["open"], "no raw files of ais_noaa (ais-noaa-sample.zip), coasts"),
    ],
)
def test_flags_that_cannot_go_together_are_refused(tmp_path, capsys, flags, said):
    store = ["--store", str(tmp_path / "store"), "--no-server"]
    assert cli.main([*RUN, *flags, *store]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("family", sorted(MODULES))
def test_a_family_that_could_not_learn_from_all_at_once_is_refused(tmp_path, family):
    corpus = corpus_named(written(tmp_path, GOOD))
    alone = corpus_named(written(tmp_path, f"{GOOD}is_held_out = true\n"))
    if reads(family) != "points":
        for one in (corpus, alone):
            with pytest.raises(ConfigError, match="the members of a corpus are of points"):
                one.require_family(family)
        return
    alone.require_family(family)
    if has_own_scale(family):
        corpus.require_family(family)
    else:
        with pytest.raises(ConfigError, match="choose of: foundry"):
            corpus.require_family(family)
