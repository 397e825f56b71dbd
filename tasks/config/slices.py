"""Slices of the configuration: what each stage takes of it, so that nothing else reruns the stage.

They enter a recipe by value.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import PlainSerializer

from model.training.config import FitConfig
from tasks.config.datasets import Layout
from tasks.config.own_columns import ColumnsConfig
from tasks.config.sections import (
    ModelConfig,
    RegionConfig,
    Section,
    SplitKind,
    StayConfig,
    Task,
    VisitTask,
)
from tasks.runtime.frozen import Frozen

Rules = TypeVar("Rules", bound=Section)


def taken(rules: type[Rules], *sources: Frozen, **given: Any) -> Rules:
    """A slice whose fields are given, or taken by name from the first source that tells them."""
    found = {
        name: getattr(source, name)
        for name in rules.model_fields
        for source in reversed(sources)
        if getattr(source, name, None) is not None
    }
    return rules(**found | given)


class IngestRules(Section):
    """The slice of the configuration that decides the points of a dataset."""

    decoder: str
    members: str
    labels: str = ""
    zone: str
    num_buckets: int
    columns: ColumnsConfig | None = None
    layout: Layout | None = None


class SnapshotRules(IngestRules):
    """How files are read, and how much of them may be rejected."""

    max_rejected_share: float

    @property
    def reading(self) -> IngestRules:
        """The slice that decides the rows of a file, whatever files are beside it."""
        return taken(IngestRules, self)


class CleanRules(Section):
    """The cleaning limits in force: the configuration's, else the dataset's own."""

    max_speed_mps: float
    max_gap_s: float
    min_points: int
    split_identities: bool
    first_fix_date: date | None = None
    has_labels: bool
    stay: StayConfig


EDGES = ("west_deg", "south_deg", "east_deg", "north_deg")


class SplitRules(Section):
    """What decides the split of each point; what a kind of split does not ask for is zero."""

    kind: SplitKind
    validation_percent: int
    test_percent: int
    seed: int
    window_points: int = 0
    purge_gap_s: float = 0.0
    west_deg: float = 0.0
    south_deg: float = 0.0
    east_deg: float = 0.0
    north_deg: float = 0.0

    @property
    def is_leaky(self) -> bool:
        """Whether neighbouring stretches of one trip lie in different splits."""
        return self.kind == "random_window"


class Windowing(Section):
    """The windows in force: the configuration's, else the dataset's own."""

    num_context: int
    num_horizon: int
    stride: int
    tasks: tuple[Task, ...]

    @property
    def num_points(self) -> int:
        return self.num_context + self.num_horizon


class WindowRules(Windowing):
    """Which windows are stored.

    The resolution of regions and the rules of the split are what the shards are checked against.
    """

    seed: int
    resolution: int
    split: SplitRules


class RegionRules(RegionConfig):
    """What decides regions, and the windows of next visits."""

    resolution: int


class VisitRules(Section):
    """What decides the shards of visits: when a stay is cut off, and the windows and masks."""

    min_stay_s: float
    max_gap_s: float
    max_history: int
    resolution: int
    seed: int


class LearnedRules(Section):
    """What decides how the shards of one dataset are read in training."""

    window: Windowing
    zone: str
    is_personal: bool
    entity_kind: str
    share: float = 1.0


class TrainRules(Section):
    """The slice of the configuration that decides the weights: the members of a corpus, or one."""

    model: ModelConfig
    fit: Annotated[FitConfig, PlainSerializer(FitConfig.deciding)]
    members: tuple[LearnedRules, ...]


class PlacesRules(Section):
    """What decides a table of named places beside its content: whose it is, and its vectors."""

    source: str
    licence: str
    vectors: str
    reach_m: float


class LearningRules(Section):
    """Which entities of train and validation are learned from."""

    percent: float
    seed: int


class ProbeRules(Section):
    """What decides the probe of the encoding, beside the code."""

    max_points: int
    zone: str
    seed: int


class EvaluateRules(Section):
    """The slice of the configuration that decides the errors."""

    num_context: int
    num_horizon: int
    horizons: tuple[int, ...]
    gate_horizon: int
    num_bootstrap: int
    tasks: tuple[Task | VisitTask, ...]
    baselines: tuple[str, ...]
    resolution: int
    zone: str
    seed: int
    is_personal: bool
    entity_kind: str


class GenerationRules(EvaluateRules):
    """The same of a family that makes trips up."""

    max_speed_mps: float
    num_generated: int
    discriminator_steps: int
    learner_steps: int


class QualityRules(Section):
    """What the report says beside the numbers, and how much of a place it may tell."""

    title: str
    licence: str
    citation: str
    homepage: str
    entity_kind: str
    min_entities: int
    max_rejected_share: float
    max_speed_mps: float
    max_gap_s: float
    interval_s: float


class ReportRules(Section):
    """What a report says beside the errors.

    Recipes and counts are here by value: equal content may have come on another way.
    """

    title: str
    licence: str
    citation: str
    homepage: str
    entity_kind: str
    is_personal: bool
    family: str
    preset: str
    num_context: int
    num_horizon: int
    gate_horizon: int
    tasks: tuple[Task | VisitTask, ...]
    data_counts: dict[str, int | float | str]
    recipes: dict[str, str]
    init: str
    is_nautical: bool
    command: str
    script: str
