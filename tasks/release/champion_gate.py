"""Champion gate: which version may be champion, decided on stored validation windows, in words.

Nothing here knows the registry; `promote.py` asks it and keeps what is decided.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.evaluation.judged_tasks import FORECAST, GENERATE
from model.evaluation.verdict import ALIKE, BEHIND, MIN_ENTITIES, MIN_WINDOWS, TOO_FEW
from model.families import FILES, VISITS, reads, tasks_of
from tasks.config.pipeline import PipelineConfig
from tasks.evaluate.seen import seen_warning
from tasks.release.gate_metrics import (
    GATE_SPLIT,
    RECOVERY_MEASURE,
    CleanProcessCall,
    Evidence,
    Measure,
    NotReproduced,
    Told,
    Unjudged,
    forecast_measure,
)
from tasks.release.generation_measure import GenerationMeasure
from tasks.release.visit_measure import VISIT_MEASURE
from tasks.report.facts import RunSteps
from tasks.report.markup import spoken
from tasks.runtime.errors import Unavailable
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Manifest, Receipt, canonical_json, sha256_text
from tasks.runtime.words import counted

REPRODUCED_WITHIN = 1e-3  # relative: float32 sums differ between batch sizes and machines
CLEAN_PROCESS_S = 1_800
# Of shards, beside the points or visits: which windows, and what their regions are.
DECIDING = ("windows.parquet", FILES[VISITS])
MAX_TOLD = 3  # questions that a reason names
# The project's packages are barred, so that only the registered copy can answer.
CLEAN_PROCESS = """
import json, sys
sys.modules.update(dict.fromkeys(("model", "tasks", "sql", "flows")))
import mlflow
uri, method, choices, *files = sys.argv[1:]
served = mlflow.pyfunc.load_model(uri).unwrap_python_model()
getattr(served, method)(*files, **json.loads(choices))
"""


def measure_of(config: PipelineConfig) -> Measure:
    """What models of a family are judged by: what its first task is asked."""
    family = config.model.family
    if reads(family) == VISITS:
        return VISIT_MEASURE
    if config.generation_rules is not None and tasks_of(family)[0] == GENERATE:
        return GenerationMeasure(config.generation_rules)
    if tasks_of(family)[0] == FORECAST:
        return forecast_measure(config.windowing.num_context, config.evaluate_rules.gate_horizon)
    return RECOVERY_MEASURE


class Score(Frozen):
    """The error of one version that the gate compares."""

    version: str
    error: float


class Decision(Frozen):
    """Whether a version passes the gate, and why."""

    is_promoted: bool
    reason: str


def windows_digest(shards: Manifest, settings: Mapping[str, Any]) -> str:
    """The name of what the gate measures on: two scores compare only where it agrees."""
    files = {
        file.name: file.sha256
        for file in shards.files
        if file.name in DECIDING or file.name.startswith(f"{GATE_SPLIT}-")
    }
    return sha256_text(canonical_json({"files": files, **settings}))[:32]


def gate_windows(steps: RunSteps) -> str:
    return windows_digest(steps.store.manifest(steps.shards), measure_of(steps.config).settings)


def gate_errors(steps: RunSteps) -> tuple[float, dict[str, float]]:
    """What the gate compares, on validation windows: the model's error, and those to beat."""
    errors = measure_of(steps.config).errors(steps.evaluation)
    return errors.pop(steps.config.model.family), errors


def unjudged_reason(steps: RunSteps) -> str:
    """Why nothing was judged that the gate compares; nothing where it was."""
    try:
        gate_errors(steps)
        gate_evidence(steps)
    except Unjudged as lack:
        return str(lack)
    return ""


def gate_evidence(steps: RunSteps) -> Evidence:
    """What these errors rest on."""
    return measure_of(steps.config).evidence(steps.evaluation, steps.config.model.family)


def decide(
    candidate: Score,
    baselines: Mapping[str, float],
    evidence: Evidence,
    champion: Score | None,
    measure: Told,
    reproduced: Callable[[], float],
    champion_error: str = "",
) -> Decision:
    """Judge a candidate; the costly clean process runs only if everything else is passed."""
    told = measure.told
    baseline, bar = min(baselines.items(), key=lambda item: (item[1], item[0]))
    measured = f"{measure.name} on {GATE_SPLIT} windows is {told(candidate.error)}"
    if not candidate.error < bar:
        return refusal(f"{measured}, not below the {told(bar)} of {spoken(baseline)}")
    beaten = f"below the {told(bar)} of {spoken(baseline)}, {measure.bar_words}"
    if lack := lacking(evidence, spoken(baseline), measure):
        return refusal(f"{measured}, {beaten}, but {lack}")
    if champion is not None:
        # The two may be measured in different processes: what rounding explains is no gain.
        if not candidate.error < champion.error - REPRODUCED_WITHIN * abs(champion.error):
            return refusal(
                f"{measured}, {beaten}, but not below the {told(champion.error)} of the present "
                f"champion, version {champion.version}, by more than {REPRODUCED_WITHIN:.1%}"
            )
        beaten += (
            f", and below the {told(champion.error)} of version {champion.version}, "
            "the champion before"
        )
    elif champion_error:
        beaten += f"; the champion before could not be scored: {champion_error}"
    try:
        again = reproduced()
    except NotReproduced as error:
        return refusal(f"{measured}, but {error}")
    if not math.isclose(again, candidate.error, rel_tol=REPRODUCED_WITHIN):
        return refusal(f"{measured}, but a clean process measures {told(again)}")
    reason = f"{measured}, {beaten}; a clean process reproduces it"
    if evidence.unjudged:
        reason += f"; nobody asked it here for its {' and '.join(evidence.unjudged)}"
    return Decision(is_promoted=True, reason=reason)


def lacking(evidence: Evidence, baseline: str, measure: Told) -> str:
    """What a gain lacks to be told from chance, in words; nothing if it lacks nothing."""
    if evidence.num_windows < MIN_WINDOWS or evidence.num_entities < MIN_ENTITIES:
        windows = counted(evidence.num_windows, "window")
        found = f"{windows} of {counted(evidence.num_entities, 'entity')}"
        return (
            f"{found} are {TOO_FEW}: a champion needs {MIN_WINDOWS} windows of {MIN_ENTITIES} "
            f"entities in {GATE_SPLIT}"
        )
    if evidence.faults:
        return "; ".join(evidence.faults[:MAX_TOLD])
    if evidence.low > 0:
        return behind_words(evidence.behind)
    told = f"{ALIKE} from {baseline}"
    if evidence.high < 0:  # as where another baseline is the best of each mask
        told = f"is {BEHIND} the best baselines of the masks"
    return f"it {told}: {measure.told_interval(evidence)}"


def behind_words(questions: Sequence[str]) -> str:
    """That a champion would answer these worse than a baseline does; nothing if there are none."""
    if not questions:
        return ""
    more = f", and {len(questions) - MAX_TOLD} more" if len(questions) > MAX_TOLD else ""
    return f"it is behind the best baseline at {'; '.join(questions[:MAX_TOLD])}{more}"


def leak_refusal(shards: Receipt, evaluated: Receipt) -> Decision | None:
    """The refusal of whatever was judged on windows between its training windows, or on points
    that it was trained on.
    """
    if warning := seen_warning(evaluated):
        return refusal(warning)
    if shards.counts.get("is_leaky"):
        return refusal(
            "the split random_window is a control that leaks: validation lies between training "
            "stretches of the same trips, so its errors say nothing of new data"
        )
    return None


def refusal(reason: str) -> Decision:
    return Decision(is_promoted=False, reason=reason)


def clean_error(steps: RunSteps, model: Path, scratch: Path) -> float:
    """The error of a copy of a registered version in a process of its own."""
    measure, shards = measure_of(steps.config), steps.store.sound(steps.shards)
    batches = measure.batches(shards, steps.config.source_row.zone, model)
    answer = scratch / "answer.parquet"
    run_clean_process(model, measure.call(batches, scratch), answer, scratch)
    return measure.answered(answer, batches)


def run_clean_process(model: Path, call: CleanProcessCall, answer: Path, scratch: Path) -> None:
    """Load a registered version and ask it, where nothing of this process can help.

    It needs no registry, and is told neither its address nor its password.
    """
    inherited = {
        key: text for key, text in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW_"))
    }
    choices = json.dumps(dict(call.choices))
    arguments = [str(model), call.method, choices, *map(str, (*call.files, answer))]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", CLEAN_PROCESS, *arguments],
            cwd=scratch,
            env=inherited | {"MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db"},
            capture_output=True,
            text=True,
            timeout=CLEAN_PROCESS_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"the clean process for {model} took over {CLEAN_PROCESS_S} s; run again"
        ) from error
    if done.returncode < 0:
        raise Unavailable(f"the clean process for {model} was killed; free memory and run again")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotReproduced(f"it does not load in a clean process: {last[:300]}")


def decision_key(parts: Mapping[str, str]) -> str:
    """The name of everything that a decision rests on."""
    return sha256_text(json.dumps(dict(parts), sort_keys=True))[:16]
