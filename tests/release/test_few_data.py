"""Few data: a model whose made-up trips nobody could judge is a candidate, and says why no more."""

from __future__ import annotations

import pytest
from helpers import masked_ships, ships

from tasks.evaluate.evaluate import evaluate
from tasks.pretrain.train import train
from tasks.registry.client import registry
from tasks.registry.models import CANDIDATE, CHAMPION, alias_version
from tasks.release.champion_gate import gate_errors
from tasks.release.gate_metrics import Unjudged
from tasks.release.promote import promote
from tasks.release.register import register
from tasks.report.facts import RunSteps
from tasks.report.report import report
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store

LACK = (
    "no made-up trip was judged on validation, and a model of this family is promoted by these; "
    "give more data"
)
TASKS = ("forecast",)
# Two trips an entity: of one nobody can be held out, and of nine windows there are too few.
ONE_ENTITY = {"train": 8, "validation": 2, "test": 2}
FEW_WINDOWS = {"train": 8, "validation": 6, "test": 6}


@pytest.mark.parametrize("sizes", [ONE_ENTITY, pytest.param(FEW_WINDOWS, marks=pytest.mark.slow)])
def test_a_model_that_nobody_could_judge_is_a_candidate(sizes, tmp_path):
    store, config = Store(tmp_path), masked_ships.config_of("gdm", TASKS)
    stride = masked_ships.STRIDE_OF_MADE_UP if sizes["test"] > 2 else ships.STRIDE
    shards = masked_ships.stored_shards(store, TASKS, stride=stride, sizes=sizes)
    with without_orchestrator():
        trained = train(config, shards, store)
        steps = RunSteps(config, store, shards, trained, evaluate(config, shards, trained, store))
        reported = report(steps, None, {"records read": 100})
    with pytest.raises(Unjudged, match="no made-up trip was judged on validation"):
        gate_errors(steps)
    registration = register(steps, reported)
    promotion = promote(steps, registration)
    assert promotion.reason == LACK
    assert not promotion.is_champion
    again = register(steps, reported)
    assert (again.version, again.is_new) == (registration.version, False)
    assert promote(steps, again).reason == LACK
    with registry(store) as client:
        version = client.get_model_version(registration.name, registration.version)
        assert alias_version(client, registration.name, CANDIDATE) == registration.version
        assert alias_version(client, registration.name, CHAMPION) is None
    assert "score_auc" not in version.tags
    assert version.tags["decision_reason"] == LACK
    assert f"**It cannot be champion**: {LACK}." in version.description
