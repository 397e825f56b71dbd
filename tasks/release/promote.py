"""Promote: a version becomes the champion if it passes the gate; the decision stays with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.evaluation.verdict import MIN_ENTITIES, MIN_WINDOWS
from tasks.registry.client import registry
from tasks.registry.models import CHAMPION, alias_version, known_code
from tasks.release.champion_gate import Decision, Score, decide, decision_key
from tasks.release.gate_metrics import NotReproduced
from tasks.release.gated import gated
from tasks.release.register import Registration
from tasks.report.corpus_report import CorpusSteps
from tasks.report.facts import RunSteps
from tasks.runtime.errors import ConfigError
from tasks.runtime.frozen import Frozen

if TYPE_CHECKING:
    from tasks.registry.client import MlflowClient


class Promotion(Frozen):
    """Whether a version is the champion, and why or why not, in plain words."""

    is_champion: bool
    is_new: bool
    reason: str


def promote(steps: RunSteps | CorpusSteps, registration: Registration) -> Promotion:
    """Make a version the champion if it passes the gate; the decision stays with the version."""
    name, number, asked = registration.name, registration.version, gated(steps)
    with registry(steps.store) as client:
        version = client.get_model_version(name, number)
        champion = alias_version(client, name, CHAMPION)
        key = decision_key(
            {
                "windows": asked.windows,
                "evaluate_recipe": asked.evaluate_recipe,
                "champion": champion or "",
                "evidence": f"{MIN_WINDOWS} windows of {MIN_ENTITIES} entities, behind nowhere",
            }
        )
        if champion == number or version.tags.get("decision_key") == key:
            reason = version.tags.get("decision_reason", "made champion by hand")
            return Promotion(is_champion=champion == number, is_new=False, reason=reason)
        with steps.store.draft() as scratch:
            decision = judge(client, steps, registration, scratch)
        tags = {
            "decision": "promoted" if decision.is_promoted else "not promoted",
            "decision_reason": decision.reason,
            "decision_key": key,
            "champion_before": champion or "none",
        }
        for tag, text in tags.items():
            client.set_model_version_tag(name, number, tag, text)
        if decision.is_promoted:
            client.set_registered_model_alias(name, CHAMPION, number)
        return Promotion(is_champion=decision.is_promoted, is_new=True, reason=decision.reason)


def judge(
    client: MlflowClient,
    steps: RunSteps | CorpusSteps,
    registration: Registration,
    scratch: Path,
) -> Decision:
    """Compare a version with the baselines and the present champion on the same windows."""
    asked = gated(steps)
    if (refused := asked.refused) is not None:
        return refused
    name = registration.name
    error, baselines = asked.errors()

    def measured(version: str) -> float:
        folder = scratch / version
        folder.mkdir()
        try:
            model = known_code(client, f"models:/{name}/{version}", folder)
        except ConfigError as error:
            raise NotReproduced(str(error)) from error
        return asked.clean_error(model, folder)

    champion, champion_error = None, ""
    number = alias_version(client, name, CHAMPION)
    if number is not None:
        tags = client.get_model_version(name, number).tags
        # A stored error compares if it is of these windows.
        is_comparable = tags.get("score_windows") == asked.windows and asked.tag in tags
        try:
            champion_score = float(tags[asked.tag]) if is_comparable else measured(number)
            champion = Score(version=number, error=champion_score)
        except NotReproduced as fault:
            champion_error = str(fault)
    decision = decide(
        Score(version=registration.version, error=error),
        baselines,
        asked.evidence(),
        champion,
        asked.told,
        lambda: measured(registration.version),
        champion_error,
    )
    remark = f" ({asked.remark})" if asked.remark else ""
    return decision.model_copy(update={"reason": f"{decision.reason}{remark}"})
