"""A whole run on a corpus: members made ready as alone, one version that is judged on all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from flows import steps
from flows.steps import assessed_corpus
from model.data.seen_points import SeenPoints, seen_share
from model.data.shards import Shards
from tasks.catalog.run import recorded_run
from tasks.config.corpus import Corpus
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.seen import SEEN_SHARE
from tasks.registry.client import registry
from tasks.registry.models import known_code
from tasks.release.champion_gate import REPRODUCED_WITHIN, Decision, Score, decide, refusal
from tasks.release.gate_metrics import Evidence, forecast_measure
from tasks.release.gated import GatedCorpus, gated
from tasks.report.error_tables import read_scores
from tasks.runtime.run_records import stages_so_far
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

CONFIG = PipelineConfig.model_validate(
    {
        "model": {"family": "foundry", "preset": "tiny"},
        "train": {"max_steps": 10, "batch_size": 8, "validate_every": 5},
        "window": {"num_context": 4, "num_horizon": 4, "tasks": ("forecast",)},
        "assess": {"num_bootstrap": 100, "horizons": (1, 4), "gate_horizon": 4},
    }
)
SMALL = {
    "synthetic": {"num_entities": 24, "num_points": 40},
    "split": {"validation_percent": 30, "test_percent": 30},
}


def member(label, **more):
    return {"dataset": "synthetic", "label": label, "settings": SMALL} | more


SLOW = {**SMALL, "synthetic": {**SMALL["synthetic"], "interval_s": 5}}
PEOPLE = {**SMALL, "synthetic": {**SMALL["synthetic"], "kind": "people"}}
MINE = Corpus.model_validate(
    {
        "name": "mine",
        "title": "Cars & people",
        "members": [
            member("cars"),
            member("people", settings=PEOPLE),
            member("slow", settings=SLOW, is_held_out=True),
        ],
    }
)


def ran(corpus, store):
    """The outcome of a run, and whether each stage was there before, by its stage and recipe."""
    with without_orchestrator(), recorded_run(store, "corpus", corpus.subject):
        done = assessed_corpus(corpus, CONFIG, "", store)
        return done, {
            (run.receipt.stage, run.receipt.recipe): run.is_cached for run in stages_so_far()
        }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A store, what a run in it has come to, its stages, and its steps as the gate takes them."""
    store, taken = Store(tmp_path_factory.mktemp("corpus") / "store"), []
    release = steps.released_corpus
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "released_corpus", lambda made: (taken.append(made), release(made))[1])
        done, stages = ran(MINE, store)
    return store, done, stages, taken[0]


PREPARED = ("snapshot", "clean", "split", "features", "regions", "shards")


def test_a_further_member_recomputes_nothing_of_the_others(run):
    store, _, before, _ = run
    changed = {**SMALL, "window": {"stride": 3}}
    more = [*MINE.members, replace_settings(MINE.members[0], "often", changed)]
    _, after = ran(MINE.model_copy(update={"name": "more", "members": tuple(more)}), store)
    made = {stage for (stage, _), is_cached in after.items() if not is_cached}
    for stage in PREPARED:
        ours = {recipe: hit for (name, recipe), hit in after.items() if name == stage}
        earlier = {recipe for name, recipe in before if name == stage}
        assert earlier <= ours.keys(), stage
        assert all(ours[recipe] for recipe in earlier), stage
    # What the further member asks for itself is seen to be made, and so is the training.
    assert {"shards", "train", "evaluate"} <= made
    assert "snapshot" not in made


def replace_settings(one, label, settings):
    return one.model_copy(update={"label": label, "settings": settings})


def test_the_same_run_again_makes_nothing(run):
    store, done, *_ = run
    again, after = ran(MINE, store)
    assert all(after.values())
    assert not again.registration.is_new
    assert (again.registration.version, again.promotion.reason) == (
        done.registration.version,
        done.promotion.reason,
    )


def test_each_member_and_what_was_held_out_has_its_own_table(run):
    store, done, *_ = run
    assert [one.name for one in done.members] == ["cars", "people", "slow"]
    page = (store.sound(done.reported) / "report.md").read_text()
    for one in done.members:
        scores = read_scores(store.sound(one.evaluated))
        assert {"foundry", "damped_velocity"} <= set(scores["model"].to_pylist())
        assert f"({one.name})" in page
    assert page.count("### Test, times given, m") == page.count("### Validation, times") == 3
    assert "held out whole" in page
    assert page.count("</script>") == 0


def test_nothing_of_what_was_held_out_was_learned(run):
    store, done, *_ = run
    trained = store.sound(done.receipt("train"))
    seen = SeenPoints.read(trained)
    shards = [run.receipt for run in done.stages if run.receipt.stage == "shards"]
    cars, people, slow = (Shards.open(store.sound(receipt), "UTC") for receipt in shards)
    assert seen_share(seen, cars, "train") == seen_share(seen, people, "train") == 1
    assert seen_share(seen, slow, "train") == 0
    assert done.members[2].evaluated.counts[SEEN_SHARE] == 0


def test_the_version_is_of_the_corpus_and_its_card_names_all(run):
    store, done, *_ = run
    assert done.registration.name == "trajfoundry-foundry-mine"
    with registry(store) as client:
        version = client.get_model_version(done.registration.name, done.registration.version)
        logged = client.get_run(done.registration.run_id)
        registered = client.get_registered_model(done.registration.name)
    card = version.description
    shards = [run.receipt for run in done.stages if run.receipt.stage == "shards"]
    for one, made in zip(done.members, shards, strict=True):
        assert f"## {one.title}" in card
        assert one.part.capitalize() in card
        assert str(made.counts["split_hash"]) in card
        assert any(
            name.startswith(f"{one.name}/test/foundry/ade_m") for name in logged.data.metrics
        )
    assert "Licence: Apache-2.0" in card
    assert "Cars & people" in registered.description
    assert version.tags["dataset"] == "mine"
    context = {
        (each.dataset.name, tag.value)
        for each in logged.inputs.dataset_inputs
        for tag in each.tags
        if tag.key == "mlflow.data.context"
    }
    assert context == {("cars", "training"), ("people", "training"), ("slow", "evaluation")}


# The gate ---------------------------------------------------------------------------------------

MEASURE = forecast_measure(4, 4)


@dataclass(frozen=True)
class Part:
    """A member as the gate sees it."""

    error: float
    bar: float
    found: Evidence
    refused: Decision | None = None
    told: object = MEASURE
    tag: str = "score_ade_m"
    windows: str = "w"
    evaluate_recipe: str = "e"
    remark: str = ""

    def errors(self):
        return self.error, {"damped_velocity": self.bar, "last_position": 10 * self.bar}

    def evidence(self):
        return self.found


AHEAD = Part(80.0, 100.0, Evidence(num_windows=100, num_entities=20, low=0.1, high=0.3))
ALIKE = Part(0.99, 1.0, Evidence(num_windows=100, num_entities=20, low=-0.1, high=0.1))
FEW = Part(0.5, 1.0, Evidence(num_windows=8, num_entities=2, low=-0.9, high=-0.1))
BEHIND = Part(1.2, 1.0, Evidence(num_windows=100, num_entities=20, low=-0.3, high=-0.1))
AT_ONE_STEP = replace(
    ALIKE, found=ALIKE.found.model_copy(update={"behind": ("forecast at step 1",)})
)
LEAKS = replace(AHEAD, refused=refusal("it leaks"))


def decided(**parts):
    asked = GatedCorpus(tuple(parts.items()))
    if asked.refused is not None:
        return asked.refused
    error, bars = asked.errors()
    score = Score(version="1", error=error)
    return decide(score, bars, asked.evidence(), None, asked.told, lambda: error)


@pytest.mark.parametrize(
    "parts", [{"a": AHEAD}, {"a": AHEAD, "b": ALIKE}, {"a": ALIKE, "b": AHEAD, "c": FEW}]
)
def test_ahead_somewhere_and_behind_nowhere_is_promoted(parts):
    assert decided(**parts).is_promoted


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"a": AHEAD, "b": BEHIND}, "on b it is behind the best baseline"),
        ({"a": AHEAD, "b": AT_ONE_STEP}, "on b it is behind the best baseline at forecast at"),
        ({"a": ALIKE, "b": ALIKE}, "cannot be told apart"),
        ({"a": FEW, "b": FEW}, "too few"),
        ({"a": AHEAD, "b": LEAKS}, "b: it leaks"),
        ({"a": replace(ALIKE, error=2.0), "b": replace(ALIKE, error=2.0)}, "not below"),
    ],
)
def test_whatever_is_behind_on_a_member_is_refused(parts, said):
    found = decided(**parts)
    assert not found.is_promoted
    assert said in found.reason


def test_each_member_counts_alike_whatever_its_metres():
    """Were errors added up, storms would decide alone."""
    small, large = replace(AHEAD, error=0.5, bar=1.0), replace(AHEAD, error=2e5, bar=1e5)
    error, bars = GatedCorpus((("a", small), ("b", large))).errors()
    assert error == pytest.approx(bars["the best baselines"])


def test_the_verdict_on_each_member_is_told():
    asked = GatedCorpus((("a", AHEAD), ("b", ALIKE), ("c", FEW), ("d", AHEAD)))
    assert asked.remark == "ahead: a, d; cannot be told apart: b; too few to judge: c"


@pytest.mark.slow
def test_a_clean_process_measures_what_was_evaluated(run, tmp_path):
    store, done, _, made = run
    asked = gated(made)
    with registry(store) as client:
        address = f"models:/{done.registration.name}/{done.registration.version}"
        model = known_code(client, address, tmp_path)
    again = asked.clean_error(model, tmp_path)
    assert again == pytest.approx(asked.errors()[0], rel=REPRODUCED_WITHIN)
