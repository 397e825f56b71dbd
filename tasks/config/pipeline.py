"""Pipeline configuration: one frozen, closed object that is form, flags and cache key at once.

`PipelineConfig` holds everything that can change a result and nothing else. Each stage takes its
own slice (`slices.py`), so that a new learning rate rebuilds no shards.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from model.training.config import FitConfig
from tasks.config.datasets import DATASETS, Dataset, dataset_named
from tasks.config.own_columns import ColumnsConfig
from tasks.config.sections import (
    AssessConfig,
    CleanConfig,
    ModelConfig,
    RegionConfig,
    Section,
    SplitConfig,
    StayConfig,
    SyntheticConfig,
    TrainConfig,
    WindowConfig,
)
from tasks.config.slices import (
    EDGES,
    CleanRules,
    EvaluateRules,
    IngestRules,
    ProbeRules,
    RegionRules,
    SnapshotRules,
    SplitRules,
    TrainRules,
    WindowRules,
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


class PipelineConfig(Section):
    """Everything that can change a result, and nothing else."""

    dataset: DatasetName = Field(
        "hurdat2", title="Dataset", description="Whose raw files are read; own: your own files."
    )
    synthetic: SyntheticConfig = Field(SyntheticConfig(), title="Generator")
    columns: ColumnsConfig = Field(ColumnsConfig(), title="Your own columns")
    clean: CleanConfig = Field(CleanConfig(), title="Cleaning")
    stay: StayConfig = Field(StayConfig(), title="Stays")
    split: SplitConfig = Field(SplitConfig(), title="Split")
    window: WindowConfig = Field(WindowConfig(), title="Windows")
    region: RegionConfig = Field(RegionConfig(), title="Regions")
    model: ModelConfig = Field(ModelConfig(), title="Model")
    train: TrainConfig = Field(TrainConfig(), title="Training")
    assess: AssessConfig = Field(AssessConfig(), title="Assessment")
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Fixes every random choice.")

    @model_validator(mode="after")
    def horizons_fit_the_window(self) -> PipelineConfig:
        asked = max((*self.assess.horizons, self.assess.gate_horizon))
        if asked > self.window.num_horizon:
            raise ValueError(
                f"assess asks for step {asked}, but windows end at window.num_horizon = "
                f"{self.window.num_horizon}"
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
            return row
        return row.model_copy(update={"zone": self.columns.zone, "members": self.columns.files})

    @property
    def ingest_rules(self) -> IngestRules:
        row = self.source_row
        return IngestRules(
            decoder=row.decoder,
            members=row.members,
            labels=row.labels.members if row.labels else "",
            zone=row.zone,
            num_buckets=row.num_buckets,
            columns=self.columns if row.has_own_columns else None,
            layout=row.layout,
        )

    @property
    def snapshot_rules(self) -> SnapshotRules:
        return SnapshotRules(
            **self.ingest_rules.model_dump(), max_rejected_share=self.source_row.max_rejected_share
        )

    @property
    def clean_rules(self) -> CleanRules:
        row = self.source_row
        return CleanRules(
            max_speed_mps=self.clean.max_speed_mps or row.max_speed_mps,
            max_gap_s=self.clean.max_gap_s or row.max_gap_s,
            min_points=self.clean.min_points,
            split_identities=row.split_identities
            if self.clean.split_identities is None
            else self.clean.split_identities,
            has_labels=row.labels is not None,
            stay=self.stay,
        )

    @property
    def expected_interval_s(self) -> float | None:
        """Seconds between points, as the dataset promises; nobody knows those of your own files."""
        row = self.source_row
        if row.has_own_columns:
            return None
        return self.synthetic.interval_s if row.is_generated else row.interval_s

    @property
    def longest_step_s(self) -> float | None:
        """The longest step of a window that is judged: two sampling steps, where those are known.

        Over a longer silence a straight line is as good a guess as any model's.
        """
        expected_s = self.expected_interval_s
        return None if expected_s is None else 2 * expected_s

    @property
    def split_rules(self) -> SplitRules:
        """What the kind of split rests on; the rest is left out, so that it rebuilds nothing."""
        split, kind = self.split, self.split.kind
        rules = SplitRules(
            kind=kind,
            validation_percent=split.validation_percent,
            test_percent=split.test_percent,
            seed=self.seed,
        )
        if kind == "region":
            return rules.model_copy(update={name: getattr(split, name) for name in EDGES})
        if kind in ("time", "random_window"):
            rules = rules.model_copy(update={"window_points": self.window.num_points})
        if kind == "time":
            longest_step_s = self.longest_step_s or self.clean_rules.max_gap_s
            longest_window_s = (self.window.num_points - 1) * longest_step_s
            gap_s = max(split.purge_gap_s or 0.0, longest_window_s)
            rules = rules.model_copy(update={"purge_gap_s": gap_s})
        return rules

    @property
    def window_rules(self) -> WindowRules:
        return WindowRules(
            **self.window.model_dump(),
            longest_step_s=self.longest_step_s,
            seed=self.seed,
            resolution=self.region_rules.resolution,
            split=self.split_rules,
        )

    @property
    def region_rules(self) -> RegionRules:
        own = self.region.resolution
        return RegionRules(
            **self.region.model_dump(exclude={"resolution"}),
            resolution=self.source_row.region_resolution if own is None else own,
        )

    @property
    def training(self) -> TrainRules:
        """Without the address of the initial weights: their content is an input of the stage."""
        return TrainRules(
            model=self.model,
            fit=FitConfig(**self.train.model_dump(exclude={"init"}), seed=self.seed),
            window=self.window,
            zone=self.source_row.zone,
        )

    @property
    def probe_rules(self) -> ProbeRules:
        return ProbeRules(
            max_points=self.train.max_points, zone=self.source_row.zone, seed=self.seed
        )

    @property
    def evaluate_rules(self) -> EvaluateRules:
        return EvaluateRules(
            num_context=self.window.num_context,
            num_horizon=self.window.num_horizon,
            horizons=tuple(sorted({*self.assess.horizons, self.assess.gate_horizon})),
            gate_horizon=self.assess.gate_horizon,
            num_bootstrap=self.assess.num_bootstrap,
            tasks=self.window.tasks,
            resolution=self.region_rules.resolution,
            zone=self.source_row.zone,
            seed=self.seed,
            is_personal=self.source_row.is_personal,
        )


class ForecastConfig(Section):
    """Which registered model forecasts, how far, and with how many samples."""

    model: str = Field(
        "models:/trajfoundry-chemin-hurdat2@candidate",
        pattern=r"^(models|runs|file):/|^/",
        title="Model",
        description="Address in the registry, such as models:/NAME@champion.",
    )
    horizon: int = Field(
        20, ge=1, le=1_000, title="Horizon (points)", description="Points to predict."
    )
    num_samples: int = Field(
        64, ge=0, le=1_000, title="Samples", description="Drawn futures; 0 gives no radii."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, title="Seed", description="Fixes the samples.")
