"""The sections of the configuration: each field with its range, its unit and a word of help."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from model.data.options import Batching
from model.families import presets_of
from model.training.config import FitConfig, Precision, Selection
from tasks.runtime.frozen import Frozen


def tell_ranges(schema: dict[str, Any]) -> None:
    """Add the legal range of each field to its help, since Prefect's form shows no other sign."""
    for field in schema.get("properties", {}).values():
        limits = field | next(iter(field.get("anyOf", [])), {})
        words = [f"{word} {limits[name]:,}" for name, word in RANGE_WORDS.items() if name in limits]
        if words:
            field["description"] = f"{field.get('description', '')} Range: {' '.join(words)}."


Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Percent = Annotated[int, Field(ge=1, le=45)]
SharePercent = Annotated[float, Field(gt=0, le=100)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
RANGE_WORDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}


class Section(Frozen):
    """A section of the configuration."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        json_schema_extra=tell_ranges,
        field_title_generator=lambda name, _field: name.replace("_", " ").capitalize(),
    )


class IngestConfig(Section):
    """How much of a source may be rejected while it is read."""

    max_rejected_share: float | None = Field(
        None,
        ge=0,
        le=1,
        title="Largest share rejected",
        description="More than this of the records, malformed or out of range, stops the run; the "
        "dataset's own share if empty. Records without a position do not count.",
    )


class CleanConfig(Section):
    """Which points are kept and where a trip ends."""

    max_speed_mps: float | None = Field(
        None, gt=0, title="Speed limit (m/s)", description="The dataset's own limit if empty."
    )
    max_gap_s: float | None = Field(
        None,
        gt=0,
        title="Longest gap (s)",
        description="A longer silence ends a trip; the dataset's own value if empty.",
    )
    min_points: int = Field(
        5, ge=2, le=1_000, title="Shortest trip (points)", description="Shorter trips are rejected."
    )
    first_fix_date: date | None = Field(
        None,
        title="First fix (date)",
        description="Points from before this date are rejected, since no satellite could tell "
        "their place; the dataset's own date if empty.",
    )
    split_identities: bool | None = Field(
        None,
        description="Tell entities apart that report in turns under one identity; as the "
        "dataset says if empty.",
    )


class StayConfig(Section):
    """What counts as a stay; stays are marked, and trips are not cut."""

    radius_m: float = Field(
        100.0,
        gt=0,
        le=1e6,
        title="Radius (m)",
        description="A stay ends this far from its first point; a location is as wide.",
    )
    min_stay_s: float = Field(
        300.0, gt=0, title="Shortest stay (s)", description="A shorter pause is no stay."
    )
    max_gap_s: float = Field(
        900.0, gt=0, title="Longest gap (s)", description="A longer silence ends a stay."
    )
    end: Literal["last_point", "exit"] = Field(
        "last_point",
        description="last_point: the last point inside; exit: the first one outside, and a stay "
        "that a silence ends is none (as trackintel).",
    )


SplitKind = Literal["entity", "time", "region", "random_window"]


class SplitConfig(Section):
    """What is set apart for validation and test; copies stay together."""

    kind: SplitKind | None = Field(
        None,
        description="entity: whole entities; time: the last points of each entity; region: all "
        "trips in a box are test; random_window: a control that leaks, never promoted. If empty "
        "time for a family of visits, since next visits of unknown people mean little, and entity "
        "for all others.",
    )
    validation_percent: Percent = Field(
        10,
        title="Validation (%)",
        description="Share for early stopping: of entities; of each entity's points in time.",
    )
    test_percent: Percent = Field(
        10,
        title="Test (%)",
        description="Share that is only reported, likewise; region: what the box holds.",
    )
    purge_gap_s: float | None = Field(
        None,
        gt=0,
        le=1e9,
        title="Purge gap (s)",
        description="For time: points this long before a border belong to no split; as long as "
        "the longest window if empty, and never shorter.",
    )
    west_deg: Longitude = Field(0.0, title="West edge", description="Of the region, degrees east.")
    south_deg: Latitude = Field(
        0.0, title="South edge", description="Of the region, degrees north."
    )
    east_deg: Longitude = Field(
        0.0,
        title="East edge",
        description="Degrees east; less than the west edge if the region spans the date line.",
    )
    north_deg: Latitude = Field(
        0.0, title="North edge", description="Of the region, degrees north."
    )

    @model_validator(mode="after")
    def region_has_a_size(self) -> SplitConfig:
        is_empty = self.south_deg >= self.north_deg or self.west_deg == self.east_deg
        if self.kind == "region" and is_empty:
            raise ValueError(
                "a region split needs split.west_deg, south_deg, east_deg and north_deg, with "
                "south below north and west other than east"
            )
        return self


Task = Literal["forecast", "path_inference", "recover", "travel_time"]
VisitTask = Literal["next_region", "next_travel", "next_stay", "infill"]


class WindowConfig(Section):
    """The stored windows on which all are judged; sizes are the dataset's own if empty."""

    num_context: int | None = Field(
        None, ge=2, le=1_000, title="Context (points)", description="Points that the model sees."
    )
    num_horizon: int | None = Field(
        None,
        ge=1,
        le=1_000,
        title="Horizon (points)",
        description="Points that the model predicts.",
    )
    stride: int | None = Field(
        None,
        ge=1,
        le=10_000,
        title="Stride (points)",
        description="Points between window starts; windows overlap where it is short.",
    )
    tasks: tuple[Task, ...] = Field(
        ("forecast", "path_inference", "recover", "travel_time"),
        description="Tasks whose windows are stored; forecast is always needed.",
    )

    @field_validator("tasks")
    @classmethod
    def forecast_is_stored(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        if "forecast" not in tasks:
            raise ValueError("forecast must be among the tasks: models are judged on it")
        return tuple(sorted(set(tasks)))


class RegionConfig(Section):
    """The cells that places are told by, and the windows of next visits."""

    resolution: int | None = Field(
        None,
        ge=0,
        le=15,
        title="Resolution (H3)",
        description="3: some 120 km across; 6: 7 km; 8: 1 km; 10: 130 m. The dataset's own if "
        "empty.",
    )
    min_count: int = Field(
        2,
        ge=1,
        le=1_000_000,
        title="Least often",
        description="A cell that train knows less often has no id of its own.",
    )
    min_history: int = Field(
        3,
        ge=1,
        le=1_000,
        title="Shortest history (visits)",
        description="Before a visit asked for.",
    )
    max_history: int = Field(
        50, ge=1, le=10_000, title="Longest history (visits)", description="What a model sees."
    )

    @model_validator(mode="after")
    def histories_fit(self) -> RegionConfig:
        if self.min_history > self.max_history:
            raise ValueError("min_history must not be above max_history")
        return self


class ModelConfig(Section):
    """The model family and its size."""

    family: Literal[
        "chemin", "foundry", "gdm", "gru", "masked_chemin", "patch", "trajfm", "trajgpt"
    ] = Field(
        "chemin",
        description="chemin: causal, step by step; patch: many points ahead in one pass; "
        "foundry: any instant ahead at once, as a correction of what worked in the window; "
        "gru: an ordinary recurrent network, to compare with; "
        "masked_chemin: recovers what is hidden; trajfm: both, and travel times; "
        "gdm: a diffusion that makes trajectories up; trajgpt: reads visits, and tells the next "
        "one.",
    )
    preset: Literal["tiny", "small", "base"] = Field(
        "small",
        description="tiny: seconds, for a trial; small: minutes on a CPU; base, of "
        "foundry and trajgpt: hours on a CPU.",
    )
    inputs: Literal["kinematic", "plain"] = Field(
        "kinematic",
        description="kinematic: steps and velocities; plain, of chemin alone: longitude, latitude, "
        "weekday, hour, minute and second, to learn what that costs.",
    )
    kinds: bool = Field(
        False,
        description="Of foundry on a corpus: tell it what moves in each member, such as ship; with "
        "one kind there is nothing to tell.",
    )

    @model_validator(mode="after")
    def preset_is_of_the_family(self) -> ModelConfig:
        if self.preset not in (known := presets_of(self.family)):
            raise ValueError(
                f"{self.family} has no preset {self.preset}: choose of {', '.join(known)}"
            )
        return self

    @model_validator(mode="after")
    def inputs_are_of_the_family(self) -> ModelConfig:
        if self.inputs != "kinematic" and self.family != "chemin":
            raise ValueError(
                f"inputs {self.inputs} is for the family chemin alone; leave it out with "
                f"{self.family}"
            )
        return self

    @model_validator(mode="after")
    def kinds_are_told_to_who_can_hear(self) -> ModelConfig:
        if self.kinds and self.family != "foundry":
            raise ValueError(f"kinds are told to the family foundry alone, not to {self.family}")
        return self

    @property
    def size(self) -> str:
        """The preset in words, with the inputs where they are not the usual ones."""
        usual = self.inputs == "kinematic"
        return self.preset if usual else f"{self.preset} with {self.inputs} inputs"


class TrainConfig(Section):
    """How the model is fitted."""

    init: str = Field(
        FitConfig.init,
        max_length=1_000,
        title="Begin with",
        description="A registered model, such as models:/NAME@candidate, or the folder of a "
        "trained one, of this family, preset and inputs; fresh weights if empty.",
    )
    max_steps: int = Field(
        FitConfig.max_steps, ge=1, le=10_000_000, title="Steps", description="Most optimiser steps."
    )
    batch_size: int = Field(
        FitConfig.batch_size, ge=1, le=65_536, title="Batch (rows)", description="Rows in one step."
    )
    accumulate: int = Field(
        FitConfig.accumulate,
        ge=1,
        le=65_536,
        title="Batches a step",
        description="Their gradients are added up: as one batch that much larger, in the memory "
        "of one.",
    )
    max_points: int = Field(
        FitConfig.max_points,
        ge=4,
        le=4_096,
        title="Crop (points)",
        description="Longest random crop of a trip, or of the visits of an entity.",
    )
    batching: Batching = Field(
        FitConfig.batching,
        description="bucketed: one crop a row, batches of like length; packed: rows filled with "
        "crops, each blind to the others.",
    )
    precision: Precision = Field(
        FitConfig.precision,
        description="Of the transformer's blocks. auto: bfloat16 if a second's trial on this "
        "machine shows that it gains, so that machines may differ.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Peak rate, after the warm-up; the family's own if empty: 0.003 for foundry, "
        "0.003 for trajgpt, 0.001 for others.",
    )
    warmup_steps: int = Field(
        FitConfig.warmup_steps,
        ge=0,
        le=1_000_000,
        title="Warm-up (steps)",
        description="Steps of rising rate.",
    )
    weight_decay: float = Field(
        FitConfig.weight_decay, ge=0, le=1, description="AdamW's decoupled decay."
    )
    max_gradient_norm: float = Field(
        FitConfig.max_gradient_norm,
        gt=0,
        le=1e6,
        title="Gradient clip",
        description="Longest gradient.",
    )
    ema_decay: float = Field(
        FitConfig.ema_decay,
        ge=0,
        lt=1,
        title="Mean of weights",
        description="What the exponential mean of the weights keeps of itself in each step; the "
        "mean is judged and kept. 0: the last weights, no mean.",
    )
    select_by: Selection = Field(
        FitConfig.select_by,
        title="Choose weights by",
        description="What the kept weights are the best in, on validation. error: metres of "
        "forecasts on stored windows, of hidden places where a family makes none; for points and "
        "one dataset.",
    )
    validate_every: int = Field(
        FitConfig.validate_every,
        ge=1,
        le=1_000_000,
        title="Validate every (steps)",
        description="Steps in between.",
    )
    patience: int = Field(
        FitConfig.patience, ge=1, le=10_000, description="Validations without gain before a stop."
    )
    thinned: float = Field(
        FitConfig.thinned,
        ge=0,
        le=1,
        title="Thinned rows",
        description="Share of the rows of training of which every second to sixteenth point is "
        "kept.",
    )
    finer: float = Field(
        FitConfig.finer,
        ge=0,
        le=1,
        title="Finer rows",
        description="Share that is made 2 to 8 times as dense along a curve, with noise and "
        "stale fixes.",
    )
    short: float = Field(
        FitConfig.short,
        ge=0,
        le=1,
        title="Short rows",
        description="Share that is cut to 11 points or more.",
    )


class SyntheticConfig(Section):
    """What the generator makes; it counts for the dataset synthetic only."""

    kind: Literal["vehicles", "people", "ar1", "markov"] = Field(
        "vehicles",
        description="vehicles: streets; people: routine; ar1, markov: laws with a known floor.",
    )
    num_entities: int = Field(
        200, ge=1, le=10_000_000, title="Entities", description="Each is one trajectory."
    )
    num_points: int = Field(
        500, ge=2, le=100_000, title="Points", description="Points of each trajectory."
    )
    seed: Seed = Field(0, title="World seed", description="Fixes the trajectories alone.")
    interval_s: float = Field(
        10.0, ge=1, le=3_600, title="Interval (s)", description="Median time between points."
    )
    interval_spread: float = Field(
        0.3, gt=0, le=0.5, title="Spread", description="Deviation of the log of the interval."
    )
    noise_m: float = Field(
        3.0, ge=0, le=50, title="Noise (m)", description="Deviation on each axis; none in markov."
    )
    gap_share: float = Field(
        0.002, ge=0, le=0.2, title="Gaps", description="Share of points after a silence."
    )
    gap_s: float = Field(
        900.0, ge=60, le=86_400, title="Gap (s)", description="Shortest silence; thrice is longest."
    )
    outlier_share: float = Field(
        0.01, ge=0, le=0.2, title="Outliers", description="Share of points 0.5 to 20 km away."
    )
    anomaly_share: float = Field(
        0.1, ge=0, le=1, title="Anomalies", description="Share of entities that act unusually."
    )
    lon_deg: Longitude = Field(13.4, title="Centre, longitude", description="Degrees east.")
    lat_deg: Latitude = Field(52.5, title="Centre, latitude", description="Degrees north.")

    @property
    def world(self) -> dict[str, Any]:
        """The part that decides each trajectory, whatever their number."""
        return self.model_dump(exclude={"num_entities"})


class AssessConfig(Section):
    """How models and baselines are compared."""

    horizons: tuple[int, ...] | None = Field(
        None,
        title="Horizons (steps)",
        description="Steps at which errors are shown; if empty the dataset's own that lie within "
        "the window, and its last.",
    )
    gate_horizon: int | None = Field(
        None,
        ge=1,
        title="Gate (step)",
        description="Step whose mean ADE decides a promotion; if empty the dataset's own, or the "
        "window's last where that is earlier.",
    )
    num_bootstrap: int = Field(
        1_000, ge=100, le=100_000, title="Bootstrap", description="Resamples of entities."
    )
    num_generated: int = Field(
        10_000,
        ge=20,
        le=100_000,
        title="Made-up trips",
        description="At most, of each generator; as many as the split has windows if these are "
        "fewer. For families that generate alone.",
    )
    discriminator_steps: int = Field(
        0,
        ge=0,
        le=10_000,
        title="Discriminator (steps)",
        description="Of a small Transformer that tells made-up trips from real ones beside the "
        "trees; 300 are enough, and take minutes. 0: it does not.",
    )
    learner_steps: int = Field(
        0,
        ge=0,
        le=10_000,
        title="Learners (steps)",
        description="Of small forecasters that learn from made-up trips, and from real ones, to "
        "tell what the former are worth; 300 are enough, and take minutes. 0: there are none.",
    )
    baselines: tuple[str, ...] = Field(
        (),
        title="More baselines",
        description="Beside those of the dataset, which every run is compared with.",
    )
