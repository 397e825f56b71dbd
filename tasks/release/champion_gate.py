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

from model.evaluation.verdict import ALIKE, BEHIND, MIN_ENTITIES, MIN_WINDOWS, TOO_FEW
from tasks.evaluate.seen import seen_warning
from tasks.release.gate_metrics import (
    GATE_SPLIT,
    CleanProcessCall,
    Evidence,
    NotReproduced,
    measure_of,
)
from tasks.report.facts import RunSteps
from tasks.report.markup import percent, spoken
from tasks.runtime.errors import Unavailable
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Manifest, Receipt, canonical_json, sha256_text
from tasks.runtime.words import counted

REPRODUCED_WITHIN = 1e-3  # relative: float32 sums differ between batch sizes and machines
CLEAN_PROCESS_S = 1_800
MAX_TOLD = 3  # questions that a reason names
LARGE_M = 10_000  # from here on errors are told in kilometres
# The project's packages are barred, so that only the registered copy can answer.
CLEAN_PROCESS = """
import json, sys
sys.modules.update(dict.fromkeys(("model", "tasks", "sql", "flows")))
import mlflow
uri, method, choices, *files = sys.argv[1:]
served = mlflow.pyfunc.load_model(uri).unwrap_python_model()
getattr(served, method)(*files, **json.loads(choices))
"""


class Score(Frozen):
    """The error of one version that the gate compares."""

    version: str
    error_m: float


class Decision(Frozen):
    """Whether a version passes the gate, and why."""

    is_promoted: bool
    reason: str


def windows_digest(shards: Manifest, settings: Mapping[str, Any]) -> str:
    """The name of what the gate measures on: two scores compare only where it agrees."""
    files = {
        file.name: file.sha256
        for file in shards.files
        if file.name == "windows.parquet" or file.name.startswith(f"{GATE_SPLIT}-")
    }
    return sha256_text(canonical_json({"files": files, **settings}))[:32]


def score_tags(steps: RunSteps) -> dict[str, str]:
    """The gate's own measurement of a model, as tags: the error, and the windows' name."""
    model_m, _ = gate_errors(steps)
    return {measure_of(steps.config).tag: repr(model_m), "score_windows": gate_windows(steps)}


def gate_windows(steps: RunSteps) -> str:
    return windows_digest(steps.store.manifest(steps.shards), measure_of(steps.config).settings)


def gate_errors(steps: RunSteps) -> tuple[float, dict[str, float]]:
    """What the gate compares, on validation windows: the model's error, and each baseline's."""
    errors = measure_of(steps.config).errors_m(steps.evaluation)
    return errors.pop(steps.config.model.family), errors


def gate_evidence(steps: RunSteps) -> Evidence:
    """What these errors rest on."""
    return measure_of(steps.config).evidence(steps.evaluation, steps.config.model.family)


def decide(
    candidate: Score,
    baselines: Mapping[str, float],
    evidence: Evidence,
    champion: Score | None,
    measure: str,
    reproduced_m: Callable[[], float],
    champion_error: str = "",
) -> Decision:
    """Judge a candidate; the costly clean process runs only if everything else is passed."""
    baseline, baseline_m = min(baselines.items(), key=lambda item: (item[1], item[0]))
    measured = f"{measure} on {GATE_SPLIT} windows is {told(candidate.error_m)}"
    if not candidate.error_m < baseline_m:
        return refusal(f"{measured}, not below the {told(baseline_m)} of {spoken(baseline)}")
    beaten = f"below the {told(baseline_m)} of {spoken(baseline)}, the best simple baseline"
    if lack := lacking(evidence, spoken(baseline)):
        return refusal(f"{measured}, {beaten}, but {lack}")
    if champion is not None:
        # The two may be measured in different processes: what rounding explains is no gain.
        if not candidate.error_m < champion.error_m * (1 - REPRODUCED_WITHIN):
            return refusal(
                f"{measured}, {beaten}, but not below the {told(champion.error_m)} of the present "
                f"champion, version {champion.version}, by more than {REPRODUCED_WITHIN:.1%}"
            )
        beaten += (
            f", and below the {told(champion.error_m)} of version {champion.version}, "
            "the champion before"
        )
    elif champion_error:
        beaten += f"; the champion before could not be scored: {champion_error}"
    try:
        again_m = reproduced_m()
    except NotReproduced as error:
        return refusal(f"{measured}, but {error}")
    if not math.isclose(again_m, candidate.error_m, rel_tol=REPRODUCED_WITHIN):
        return refusal(f"{measured}, but a clean process measures {told(again_m)}")
    reason = f"{measured}, {beaten}; a clean process reproduces it"
    if evidence.unjudged:
        reason += f"; nobody asked it here for its {' and '.join(evidence.unjudged)}"
    return Decision(is_promoted=True, reason=reason)


def told(error_m: float) -> str:
    """An error to be compared with another in a sentence."""
    return f"{error_m:,.1f} m" if error_m < LARGE_M else f"{error_m / 1_000:,.1f} km"


def lacking(evidence: Evidence, baseline: str) -> str:
    """What a gain lacks to be told from chance, in words; nothing if it lacks nothing."""
    if evidence.num_windows < MIN_WINDOWS or evidence.num_entities < MIN_ENTITIES:
        windows = counted(evidence.num_windows, "window")
        found = f"{windows} of {counted(evidence.num_entities, 'entity')}"
        return (
            f"{found} are {TOO_FEW}: a champion needs {MIN_WINDOWS} windows of {MIN_ENTITIES} "
            f"entities in {GATE_SPLIT}"
        )
    if evidence.low > 0:
        return behind_words(evidence.behind)
    told = f"{ALIKE} from {baseline}"
    if evidence.high < 0:  # as where another baseline is the best of each mask
        told = f"is {BEHIND} the best baselines of the masks"
    between = f"{percent(evidence.low)} to {percent(evidence.high)}"
    return f"it {told}: the 95 % interval of its skill is {between}"


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


def clean_error_m(steps: RunSteps, model: Path, scratch: Path) -> float:
    """The error of a copy of a registered version in a process of its own, in metres."""
    from model.data.shards import Shards

    measure, shards = measure_of(steps.config), steps.store.sound(steps.shards)
    batches = measure.batches(Shards.open(shards, steps.config.source_row.zone))
    answer = scratch / "answer.parquet"
    run_clean_process(model, measure.call(batches, scratch), answer, scratch)
    return measure.answered_m(answer, batches)


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
