"""Training and rollout beside the published style; run with `make bench`.

Each measurement is a new process, and the contestants take turns. Only a wrong answer fails here:
a slow machine is not a fault.

`whole` is our model with its geometry and densities, `blocks` our blocks alone with the published
features and loss; what is published has nothing but its encoder, which is kind to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bench_rounds import Bench, Contestant, Goal, geolife_sample, report

from model.families.gdm.diffusion import MAX_PASSES

SCRIPT, STEPS_SCRIPT = "bench_training.py", "bench_steps.py"
EPOCHS = ("published", "blocks-packed", "blocks-bucketed", "whole-packed", "whole-bucketed")
STEPS = ("gdm-small", "trajgpt-small", "gdm-made-up")
ROLLOUTS = ("cached-1", "recomputed-1", "cached-256", "recomputed-256")

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(4 * 3_600)]

GOALS = (
    *(
        Goal(f"published / {name}", ("epoch", "published"), ("epoch", name), 1.6)
        for name in EPOCHS[1:]
    ),
    *(
        Goal(
            f"peak / {name}, width {width}",
            (f"peak-{width}",) * 2,
            (f"{name}-{width}", f"peak-{width}"),
            bound,
        )
        for width, bound in ((96, 0.5), (256, 0.8))
        for name in ("blocks", "whole")
    ),
    *(
        Goal(
            f"recomputed / cached, {rows} rows",
            (f"rollout-{rows}", f"recomputed-{rows}"),
            (f"rollout-{rows}", f"cached-{rows}"),
            bound,
        )
        for rows, bound in ((1, 3), (256, 10))
    ),
)


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    """The finished measurements, shown and kept when the answers have been judged."""
    folder = tmp_path_factory.mktemp("training") / "trips"
    Contestant("ours", SCRIPT, ("shards", geolife_sample(), folder)).run()
    made = Bench()
    made.take_turns(
        *(Contestant(name, SCRIPT, (name, folder)) for name in EPOCHS),
        *(Contestant(name, SCRIPT, (name,)) for name in ("peak-96", "peak-256", *ROLLOUTS[:3])),
        *(Contestant(name, STEPS_SCRIPT, (name,)) for name in STEPS),
        Contestant(ROLLOUTS[3], SCRIPT, (ROLLOUTS[3],), is_slow=True),
    )
    yield made
    text = report(made, "training", [goal.judged(made) for goal in GOALS], tokens_of(made))
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(text)


def tokens_of(made: Bench) -> str:
    """Tokens a second of a training step, which the tables tell the seconds of."""
    speeds = (
        f"{name} {made.answers('step', name)['tokens'] / made.median('step', name, 'cpu_s'):,.0f}"
        for name in STEPS[:2]
    )
    return f"Tokens a CPU second of a training step: {', '.join(speeds)}."


def test_each_family_takes_its_steps(bench: Bench) -> None:
    """And a made-up trip takes no more passes than it may."""
    assert {name: bench.answers("step", name)["tokens"] for name in STEPS[:2]} == {
        "gdm-small": 3_200,
        "trajgpt-small": 2_048,
    }
    assert bench.answers("made-up", STEPS[2])["passes"] <= MAX_PASSES


def test_all_learn_from_the_same_points(bench: Bench) -> None:
    expected = bench.answers("epoch", "published")["points"]
    for name in EPOCHS:
        assert bench.answers("epoch", name)["points"] == expected
    assert bench.answers("epoch", "whole-packed")["share_real"] > 0.9


def test_all_rows_are_rolled_out(bench: Bench) -> None:
    for name in ROLLOUTS:
        rows = name.rpartition("-")[2]
        assert bench.answers(f"rollout-{rows}", name)["rows"] == int(rows)
