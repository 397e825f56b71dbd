"""The loader beside others on GeoLife's windows of 64 to 200 points; run with `make bench`.

Each measurement is a new process, and the contestants take turns. Seconds are those of an epoch,
after one that is not timed. Only a wrong answer fails here: a slow machine is not a fault.

All contestants read the same windows. The others make three features of three columns; ours makes
its whole batch: places, times, steps, calendar and masks, out of seven columns, pages checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_rounds import PEERS, Bench, Contestant, Goal, geolife_sample, report

OURS, THEIRS = "bench_loader.py", "bench_loader_peers.py"
SAMPLE = {"windows": 22_431, "points": 2_897_629}

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(4 * 3_600)]

LOAD = {name: ("load", name) for name in ("padded", "packed", "decode")}
GOALS = (
    Goal("litdata / padded", ("load", "litdata"), LOAD["padded"], 3),
    Goal("litdata, tuned / padded", ("load", "litdata-tuned"), LOAD["padded"], 3),
    Goal("Python objects / padded", ("load", "torch-objects"), LOAD["padded"], 5),
    Goal("datasets, rows / padded", ("load", "hf-rows"), LOAD["padded"], 30),
    Goal("datasets, Arrow / padded", ("load", "hf-arrow"), LOAD["padded"], 1),
    Goal("decode / padded", LOAD["decode"], LOAD["padded"], 0.5),
    Goal("decode / packed", LOAD["decode"], LOAD["packed"], 0.9),
    Goal("waiting / training", ("wait", "train"), ("train", "train"), 0.02, False, "wall_s"),
)


@pytest.fixture(scope="module")
def has_peers() -> bool:
    return PEERS.is_file()


@pytest.fixture(scope="module")
def bench(
    has_peers: bool, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    """The finished measurements, shown and kept when the answers have been judged."""
    folder = tmp_path_factory.mktemp("loader") / "windows"
    Contestant("ours", OURS, ("shards", geolife_sample(), folder)).run()
    made = Bench()
    made.take_turns(
        Contestant("decode", OURS, ("decode", folder)),
        Contestant("padded", OURS, ("padded", folder)),
        Contestant("packed", OURS, ("packed", folder)),
        *[
            Contestant("litdata", THEIRS, ("litdata", folder), is_slow=True),
            Contestant("litdata-tuned", THEIRS, ("litdata-tuned", folder)),
            Contestant("torch-objects", THEIRS, ("torch-objects", folder)),
            Contestant("hf-arrow", THEIRS, ("hf-arrow", folder)),
            Contestant("hf-rows", THEIRS, ("hf-rows", folder)),
        ][: 5 * has_peers],
        Contestant("train", OURS, ("train", folder), is_slow=True),
    )
    yield made
    text = report(made, "loader", [goal.judged(made) for goal in GOALS])
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(text)


def test_all_loaders_yield_the_same_windows(bench: Bench) -> None:
    """Each window once, and features whose sums agree but for the rounding to float32."""
    expected = bench.answers("first", "padded")
    assert Path(geolife_sample()).name != "geolife-sample.zip" or SAMPLE.items() <= expected.items()
    for measure, name in bench.readings:
        if measure == "first":
            assert bench.answers(measure, name) == pytest.approx(expected, rel=1e-6), name
        if measure == "load":
            assert bench.answers(measure, name)["points"] == expected["points"], name


def test_the_peers_took_part(bench: Bench, has_peers: bool) -> None:
    if not has_peers:
        pytest.skip(f"no peers in {PEERS.parent.parent.name}; `make bench` installs them")
    assert {("load", "litdata-tuned"), ("load", "hf-rows")} <= set(bench.readings)
