"""Gated: what the champion gate asks of a run on one dataset, or of one on a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Protocol

from model.evaluation.verdict import BEHIND, MIN_ENTITIES, MIN_WINDOWS, verdict
from tasks.release.champion_gate import (
    Decision,
    behind_words,
    clean_error,
    gate_errors,
    gate_evidence,
    gate_windows,
    leak_refusal,
    measure_of,
    refusal,
    unjudged_reason,
)
from tasks.release.gate_metrics import Evidence, Told, Unjudged
from tasks.report.corpus_report import CorpusSteps
from tasks.report.facts import RunSteps
from tasks.report.markup import percent
from tasks.runtime.store import sha256_text
from tasks.runtime.words import counted

LEAST_ERROR = 1e-9  # a geometric mean knows no zero


class Gated(Protocol):
    """What is judged: its errors and those to beat on validation windows, and what they rest on.

    `told` names the error in sentences, `tag` on versions; two errors compare where `windows`
    agree. `remark` says after the decision what the error alone does not.
    """

    @property
    def told(self) -> Told: ...

    @property
    def tag(self) -> str: ...

    @property
    def windows(self) -> str: ...

    @property
    def evaluate_recipe(self) -> str: ...

    @property
    def remark(self) -> str: ...

    @property
    def refused(self) -> Decision | None: ...

    @property
    def score_tags(self) -> dict[str, str]: ...

    def errors(self) -> tuple[float, dict[str, float]]: ...

    def evidence(self) -> Evidence: ...

    def clean_error(self, model: Path, scratch: Path) -> float:
        """The error of a copy of a registered version in a process of its own."""
        ...


def gated(steps: RunSteps | CorpusSteps) -> Gated:
    return GatedCorpus.of(steps) if isinstance(steps, CorpusSteps) else GatedRun(steps)


@dataclass(frozen=True)
class GatedRun:
    """A run on one dataset."""

    steps: RunSteps

    @property
    def remark(self) -> str:
        return ""

    @property
    def told(self) -> Told:
        return measure_of(self.steps.config)

    @property
    def tag(self) -> str:
        return measure_of(self.steps.config).tag

    @property
    def windows(self) -> str:
        return gate_windows(self.steps)

    @property
    def evaluate_recipe(self) -> str:
        return self.steps.evaluated.recipe

    @property
    def refused(self) -> Decision | None:
        """Why it cannot be champion whatever its errors are."""
        if (leak := leak_refusal(self.steps.shards, self.steps.evaluated)) is not None:
            return leak
        reason = unjudged_reason(self.steps)
        return refusal(reason) if reason else None

    @property
    def score_tags(self) -> dict[str, str]:
        """The gate's own measurement, as tags; none where nothing was judged that it compares."""
        try:
            error, _ = self.errors()
        except Unjudged:
            return {}
        return {self.tag: repr(error), "score_windows": self.windows}

    def errors(self) -> tuple[float, dict[str, float]]:
        return gate_errors(self.steps)

    def evidence(self) -> Evidence:
        return gate_evidence(self.steps)

    def clean_error(self, model: Path, scratch: Path) -> float:
        return clean_error(self.steps, model, scratch)


# Corpora ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CorpusTold:
    """How the error of a corpus is told: a geometric mean, in which each member counts alike."""

    one: Told
    name: str
    bar_words: str = "each the best of its member"

    def told(self, error: float) -> str:
        return self.one.told(error)

    def told_interval(self, evidence: Evidence) -> str:
        return f"on the member where most is gained, {self.one.told_interval(evidence)}"


@dataclass(frozen=True)
class GatedCorpus:
    """A run on a corpus: ahead of the bar somewhere, behind it on no member that is learned from.

    A member of too few windows or entities cannot tell and hinders nothing; what is held out whole
    is not asked, since it says what transfer is worth and not what was learned.
    """

    parts: tuple[tuple[str, Gated], ...]  # by the name of the member

    @classmethod
    def of(cls, steps: CorpusSteps) -> GatedCorpus:
        return cls(tuple((one.member.name, GatedRun(one.steps)) for one in steps.learned))

    @property
    def told(self) -> Told:
        errors = f"the geometric mean of the errors of {counted(len(self.parts), 'member')}"
        return CorpusTold(self.parts[0][1].told, f"{errors}, each at the step of its gate,")

    @property
    def tag(self) -> str:
        return f"{self.parts[0][1].tag}_of_members"

    @property
    def windows(self) -> str:
        named = {name: part.windows for name, part in self.parts}
        return sha256_text(json.dumps(named, sort_keys=True))[:32]

    @property
    def evaluate_recipe(self) -> str:
        return ",".join(part.evaluate_recipe for _, part in self.parts)

    @property
    def refused(self) -> Decision | None:
        for name, part in self.parts:
            if (why := part.refused) is not None:
                return refusal(f"{name}: {why.reason}")
        return None

    @property
    def score_tags(self) -> dict[str, str]:
        if self.refused is not None:
            return {}
        return {self.tag: repr(self.errors()[0]), "score_windows": self.windows}

    def errors(self) -> tuple[float, dict[str, float]]:
        """The geometric mean of the errors, and of the best baseline of each member."""
        found = [part.errors() for _, part in self.parts]
        error = mean_error(error for error, _ in found)
        return error, {"the best baselines": mean_error(min(bars.values()) for _, bars in found)}

    def evidence(self) -> Evidence:
        """All windows that can tell; the interval is that of the member where most is gained."""
        told = [(name, one) for name, one in self._evidence() if is_enough(one)]
        counts = [(one.num_windows, one.num_entities) for _, one in told] or [(0, 0)]
        best = max((one for _, one in told), key=lambda one: one.low, default=None)
        return Evidence(
            num_windows=sum(windows for windows, _ in counts),
            num_entities=sum(entities for _, entities in counts),
            low=best.low if best else 0.0,
            high=best.high if best else 0.0,
            faults=tuple(f"on {name} {fault}" for name, one in told for fault in faults_of(one)),
        )

    def _evidence(self) -> list[tuple[str, Evidence]]:
        return [(name, part.evidence()) for name, part in self.parts]

    @property
    def remark(self) -> str:
        """The verdict on each member."""
        if self.refused is not None:
            return ""
        found: dict[str, list[str]] = {}
        for name, one in self._evidence():
            shown = verdict(one.low, one.low, one.high, one.num_windows, one.num_entities)
            found.setdefault(shown, []).append(name)
        return "; ".join(f"{words}: {', '.join(names)}" for words, names in found.items())

    def clean_error(self, model: Path, scratch: Path) -> float:
        return mean_error(self._clean_errors(model, scratch))

    def _clean_errors(self, model: Path, scratch: Path) -> Iterator[float]:
        for name, part in self.parts:
            folder = scratch / name
            folder.mkdir()
            yield part.clean_error(model, folder)


def mean_error(errors: Iterator[float]) -> float:
    return geometric_mean(max(error, LEAST_ERROR) for error in errors)


def is_enough(evidence: Evidence) -> bool:
    return evidence.num_windows >= MIN_WINDOWS and evidence.num_entities >= MIN_ENTITIES


def faults_of(evidence: Evidence) -> list[str]:
    """What speaks against a model on one member."""
    faults = list(evidence.faults)
    if evidence.high < 0:
        between = f"{percent(evidence.low)} to {percent(evidence.high)}"
        faults.append(f"it is {BEHIND} the best baseline (skill {between})")
    elif words := behind_words(evidence.behind):
        faults.append(words)
    return faults
