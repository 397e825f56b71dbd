"""Pipeline configuration: one frozen, closed object that is form, flags and cache key at once.

`PipelineConfig` holds everything that can change a result and nothing else. Each stage takes its
own slice (`slices.py`), so that a new learning rate rebuilds no shards.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Self, get_args

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from model.evaluation.judged_tasks import GENERATE
from model.families import VISITS, learning_rate_of, reads, tasks_of
from model.training.config import FitConfig
from tasks.config.datasets import DATASETS, OWN, Dataset, dataset_named
from tasks.config.own_columns import ColumnsConfig
from tasks.config.places_table import PlacesConfig
from tasks.config.sections import (
    AssessConfig,
    CleanConfig,
    IngestConfig,
    ModelConfig,
    RegionConfig,
    Section,
    Seed,
    SplitConfig,
    SplitKind,
    StayConfig,
    SyntheticConfig,
    TrainConfig,
    VisitTask,
    WindowConfig,
)
from tasks.config.slices import (
    EDGES,
    CleanRules,
    EvaluateRules,
    GenerationRules,
    IngestRules,
    LearnedRules,
    ProbeRules,
    RegionRules,
    SnapshotRules,
    SplitRules,
    TrainRules,
    VisitRules,
    Windowing,
    WindowRules,
    taken,
)
from tasks.runtime.errors import ConfigError


def known_dataset(name: str) -> str:
    """Refuse a name that the table of datasets lacks."""
    try:
        return dataset_named(name).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


BUCKET_POINTS = 2_000_000  # a bucket is cleaned in one piece, beside the database in memory
DatasetName = Annotated[
    str, AfterValidator(known_dataset), Field(json_schema_extra={"enum": sorted(DATASETS)})
]


class DataConfig(Section):
    """Everything that can change what models are asked, and what of their answers is told."""

    dataset: DatasetName = Field(
        "hurdat2", description="Whose raw files are read; own: your own files."
    )
    name: str = Field(
        "",
        pattern=r"^([a-z][a-z0-9_]{0,39})?$",
        title="Name of your own data",
        description="Keeps feeds of your own apart: their tables are own_NAME, their models "
        "trajfoundry-FAMILY-own_NAME. Small letters, digits and _.",
    )
    licence: str = Field(
        "", max_length=200, description="Of your own data or tracks, as their models tell it."
    )
    entity_kind: str = Field(
        "", max_length=40, title="What moves", description="In your own data, such as ferry."
    )
    synthetic: SyntheticConfig = Field(SyntheticConfig(), title="Generator")
    columns: ColumnsConfig = Field(ColumnsConfig(), title="Your own columns")
    ingest: IngestConfig = Field(IngestConfig(), title="Reading")
    clean: CleanConfig = Field(CleanConfig(), title="Cleaning")
    stay: StayConfig = Field(StayConfig(), title="Stays")
    split: SplitConfig = Field(SplitConfig())
    window: WindowConfig = Field(WindowConfig(), title="Windows")
    region: RegionConfig = Field(RegionConfig(), title="Regions")
    assess: AssessConfig = Field(AssessConfig(), title="Assessment")
    seed: Seed = Field(0, description="Fixes every random choice.")

    @model_validator(mode="before")
    @classmethod
    def name_joins_the_dataset(cls, given: Any) -> Any:
        """Your own files under a name are a dataset of their own, own_NAME."""
        if isinstance(given, dict) and given.get("dataset") == OWN:
            name = given.get("name")
            return given | {"dataset": f"{OWN}_{name}"} if name and name != OWN else given
        return given

    @model_validator(mode="after")
    def what_only_you_know_is_of_your_own(self) -> Self:
        row = dataset_named(self.dataset)
        known = {"licence"} if row.has_own_licence else set()
        told = [name for name in ("name", "licence", "entity_kind") if getattr(self, name)]
        if not row.has_own_columns and (told := [name for name in told if name not in known]):
            raise ValueError(f"{told[0]} is for your own files: give --dataset own with it")
        if self.name and self.dataset not in (self.name, f"{OWN}_{self.name}"):
            raise ValueError(f"the dataset {self.dataset} has another name than {self.name}")
        return self

    @model_validator(mode="after")
    def horizons_fit_the_window(self) -> Self:
        asked, num_horizon = max(self.evaluate_rules.horizons), self.windowing.num_horizon
        if asked > num_horizon:
            raise ValueError(
                f"assess asks for step {asked}, but windows end at window.num_horizon = "
                f"{num_horizon}"
            )
        return self

    @property
    def source_row(self) -> Dataset:
        """The row of the dataset in the table of datasets, completed by what only you can know."""
        row = dataset_named(self.dataset)
        if row.is_generated:
            num_points = self.synthetic.num_entities * self.synthetic.num_points
            num_buckets = max(row.num_buckets, math.ceil(num_points / BUCKET_POINTS))
            return row.model_copy(update={"num_buckets": num_buckets})
        if not row.has_own_columns:
            return row.model_copy(update={"licence": self.licence or row.licence})
        told = {
            "title": f"{self.dataset}: your own files" if self.dataset != OWN else "",
            "licence": self.licence,
            "entity_kind": self.entity_kind,
        }
        known = {name: text for name, text in told.items() if text}
        return row.model_copy(
            update={"zone": self.columns.zone, "members": self.columns.files} | known
        )

    @property
    def ingest_rules(self) -> IngestRules:
        row = self.source_row
        return taken(
            IngestRules,
            row,
            labels=row.labels.members if row.labels else "",
            columns=self.columns if row.has_own_columns else None,
        )

    @property
    def snapshot_rules(self) -> SnapshotRules:
        return taken(SnapshotRules, self.ingest, self.ingest_rules, self.source_row)

    @property
    def clean_rules(self) -> CleanRules:
        row = self.source_row
        return taken(CleanRules, self.clean, row, self, has_labels=row.labels is not None)

    @property
    def expected_interval_s(self) -> float | None:
        """Seconds between points, as the dataset promises; nobody knows those of your own files."""
        row = self.source_row
        if row.has_own_columns:
            return None
        return self.synthetic.interval_s if row.is_generated else row.interval_s

    @property
    def windowing(self) -> Windowing:
        return taken(Windowing, self.window, self.source_row)

    @property
    def split_kind(self) -> SplitKind:
        """The kind of split in force."""
        return self.split.kind or "entity"

    @property
    def split_rules(self) -> SplitRules:
        """What the kind of split rests on; the rest is left out, so that it rebuilds nothing."""
        split, kind, num_points = self.split, self.split_kind, self.windowing.num_points
        names = {"validation_percent", "test_percent"}
        asked = split.model_dump(include=names.union(EDGES if kind == "region" else ()))
        if kind in ("time", "random_window"):
            asked["window_points"] = num_points
        if kind == "time":
            expected_s = self.expected_interval_s
            step_s = 2 * expected_s if expected_s else self.clean_rules.max_gap_s
            asked["purge_gap_s"] = max(split.purge_gap_s or 0.0, (num_points - 1) * step_s)
        return SplitRules(kind=kind, **asked, seed=self.seed)

    @property
    def window_rules(self) -> WindowRules:
        resolution = self.region_rules.resolution
        given = {"resolution": resolution, "split": self.split_rules}
        return taken(WindowRules, self.windowing, self, **given)

    @property
    def region_rules(self) -> RegionRules:
        own = self.region.resolution
        resolution = self.source_row.region_resolution if own is None else own
        return taken(RegionRules, self.region, resolution=resolution)

    @property
    def visit_rules(self) -> VisitRules:
        return taken(VisitRules, self.stay, self.region_rules, self)

    @property
    def evaluate_rules(self) -> EvaluateRules:
        row, last = self.source_row, self.windowing.num_horizon
        within = (*(step for step in row.horizons if step < last), last)
        gate_horizon = self.assess.gate_horizon or min(row.gate_horizon, last)
        horizons = tuple(sorted({*(self.assess.horizons or within), gate_horizon}))
        sources = (self.windowing, self.assess, self.region_rules, row, self)
        # A run that could leave one out would lower the bar of its own gate.
        baselines = tuple(dict.fromkeys((*row.baselines, *self.assess.baselines)))
        given = {"horizons": horizons, "gate_horizon": gate_horizon, "baselines": baselines}
        return taken(EvaluateRules, *sources, **given)


class PipelineConfig(DataConfig):
    """Everything that can change a result, and nothing else."""

    model: ModelConfig = Field(ModelConfig())
    train: TrainConfig = Field(TrainConfig(), title="Training")
    places: PlacesConfig = Field(PlacesConfig(), title="Named places")

    @model_validator(mode="after")
    def visits_are_not_packed(self) -> Self:
        if self.reads_visits and self.train.batching == "packed":
            raise ValueError(
                f"train.batching packed is for families of points; {self.model.family} reads "
                "visits: leave it out"
            )
        drawn = [name for name in ("thinned", "finer", "short") if getattr(self.train, name)]
        if self.reads_visits and drawn:
            raise ValueError(
                f"train.{drawn[0]} is for families of points; {self.model.family} reads visits: "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def places_are_looked_up_by_who_can(self) -> Self:
        if self.places.table and self.model.family != "foundry":
            raise ValueError(
                f"places.table is for the family foundry; {self.model.family} looks no places up: "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def shares_of_rows_add_up(self) -> Self:
        if self.train.thinned + self.train.finer + self.train.short > 1:
            raise ValueError("train.thinned, train.finer and train.short add up to more than 1")
        return self

    @property
    def reads_visits(self) -> bool:
        """Whether the family reads visits, not points."""
        return reads(self.model.family) == VISITS

    @property
    def split_kind(self) -> SplitKind:
        return self.split.kind or ("time" if self.reads_visits else "entity")

    @property
    def evaluate_rules(self) -> EvaluateRules:
        """Of visits the tasks are always the same, and so are the baselines."""
        rules = super().evaluate_rules
        if not self.reads_visits:
            return rules
        asked = {"tasks": get_args(VisitTask), "baselines": self.assess.baselines}
        return rules.model_copy(update=asked)

    @property
    def generation_rules(self) -> GenerationRules | None:
        """What decides the judgement of a family that makes trips up; of no other there is any."""
        if self.reads_visits or GENERATE not in tasks_of(self.model.family):
            return None
        return taken(GenerationRules, self.evaluate_rules, self.clean_rules, self.assess)

    @property
    def training(self) -> TrainRules:
        """Without the address of the initial weights: their content is an input of the stage."""
        given = self.train.model_dump(exclude={"init"})
        own_rate = learning_rate_of(self.model.family) or FitConfig.learning_rate
        given["learning_rate"] = self.train.learning_rate or own_rate
        fit = FitConfig(**given, seed=self.seed)
        return TrainRules(model=self.model, fit=fit, members=(self.learned(),))

    def learned(self, share: float = 1.0) -> LearnedRules:
        """How the shards are read in training, with this part of the batches."""
        row = self.source_row
        return taken(LearnedRules, row, window=self.windowing, share=share)

    @property
    def probe_rules(self) -> ProbeRules:
        return taken(ProbeRules, self.train, self.source_row, self)


class ForecastConfig(Section):
    """Which registered model forecasts, how far, and with how many samples."""

    model: str = Field(
        "models:/trajfoundry-chemin-hurdat2@candidate",
        pattern=r"^(models|runs|file):/|^/|^weights$",
        description="Address in the registry, such as models:/NAME@champion, or weights: those of "
        "the wheel trajfoundry-weights.",
    )
    horizon: int = Field(
        20, ge=1, le=1_000, title="Horizon (points)", description="Points to predict."
    )
    num_samples: int = Field(
        64, ge=0, le=1_000, title="Samples", description="Drawn futures; 0 gives no radii."
    )
    seed: Seed = Field(0, description="Fixes the samples.")
    trust_model_code: bool = Field(
        False,
        validation_alias=AliasChoices("trust_model_code", "trust-model-code"),
        description="Run the code that the model brings, whatever it is, with all your rights. "
        "Without it a model is loaded only if the registry has recorded its code.",
    )
