"""Suite of a benchmark: who is judged on which data and how, as a TOML file tells it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from model.families import POINTS, has_own_scale, reads, tasks_of
from tasks.config.named_data import (
    NamedData,
    file_named,
    merged,
    named_once,
    problems_of,
    read_named,
    refuse_decided,
    settings_of,
    shipped_in,
)
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import (
    ModelConfig,
    Section,
    Seed,
    SharePercent,
    SplitKind,
    Task,
    TrainConfig,
    WindowConfig,
)
from tasks.runtime.errors import ConfigError

FOLDER = Path(__file__).with_name("suites")
SHIPPED = shipped_in(FOLDER)
FAMILIES: tuple[str, ...] = get_args(ModelConfig.model_fields["family"].annotation)
OF_POINTS = tuple(name for name in FAMILIES if reads(name) == POINTS)
# What a suite says by itself, for each of several: no setting may say it again.
DECIDED = {
    ("dataset",): "dataset",
    ("model", "family"): "families",
    ("split", "kind"): "splits",
    ("window", "tasks"): "tasks",
}
# What a family learns from before it is asked about some data: their own train part, those of all
# data of the suite, or those of all others.
RowName = Literal["own", "joint", "held_out"]
OWN, JOINT, HELD_OUT = get_args(RowName)
CPU_S_TO_SKILL = "cpu_s_to_skill"  # among the counts of a pace, if training came so far


def known_families(families: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a family that no run could choose."""
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise ValueError(f"no family {unknown[0]!r}; choose of {', '.join(FAMILIES)}")
    return families


Families = Annotated[tuple[str, ...], AfterValidator(known_families)]


class SuiteData(NamedData):
    """Data of a suite, and what is judged on them alone."""

    splits: tuple[SplitKind, ...] = Field((), description="Those of the suite if empty.")
    families: Families = Field((), description="Those of the suite if empty.")


class Cell(NamedTuple):
    """A model on some data, before it is trained; its seed fixes the training alone."""

    data: SuiteData
    split: SplitKind
    family: str
    seed: int
    row: RowName = OWN

    @property
    def model(self) -> str:
        """What tables call it."""
        return self.family if self.row == OWN else f"{self.family} {self.row.replace('_', ' ')}"

    @property
    def place(self) -> tuple[str, SplitKind, str]:
        """What is judged, whatever the seed."""
        return self.data.name, self.split, self.model

    @property
    def title(self) -> str:
        return "{2} on {0}, {1} split".format(*self.place)


class Suite(Section):
    """Families, data, tasks, splits and seeds: each is judged with each.

    `seeds` fix the trainings. What is split, asked and drawn again rests on `settings.seed`, so
    that trainings of all seeds answer the same windows.
    """

    name: str
    title: str = Field(max_length=200)
    families: Families = OF_POINTS
    tasks: tuple[Task, ...] = WindowConfig().tasks
    splits: tuple[SplitKind, ...] = ("entity",)
    seeds: tuple[Seed, ...] = (0,)
    rows: tuple[RowName, ...] = (OWN,)
    few_shot: tuple[SharePercent, ...] = Field(
        (), description="Percents of the train entities that held-out weights are trained on with."
    )
    shared_train: dict[str, Any] = Field(
        {}, description="Settings of train for the weights of several data, beside `settings`."
    )
    few_shot_train: dict[str, Any] = Field(
        {}, description="The same for training on with few entities, beside its own short course."
    )
    time_to_skill: bool = Field(
        False, description="Whether own training is timed until it is ahead of simple forecasts."
    )
    settings: dict[str, Any] = Field({}, description="Of `trajfoundry run`, for all data.")
    datasets: tuple[SuiteData, ...]

    @field_validator("tasks")
    @classmethod
    def forecast_is_judged(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        if "forecast" not in tasks:
            raise ValueError("forecast must be among the tasks")
        return tasks

    @field_validator("families", "tasks", "splits", "seeds", "rows", "datasets")
    @classmethod
    def lists_name_each_once(cls, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return named_once(given)

    @model_validator(mode="after")
    def settings_decide_nothing_twice(self) -> Suite:
        refuse_decided(DECIDED, [self.settings, *(data.settings for data in self.datasets)])
        return self

    def splits_of(self, data: SuiteData) -> tuple[SplitKind, ...]:
        return data.splits or self.splits

    def families_of(self, data: SuiteData) -> tuple[str, ...]:
        return data.families or self.families

    def cells_of(self, data: SuiteData, split: SplitKind) -> list[Cell]:
        """The cells on some data, which share all that comes before the training."""
        return [
            Cell(data, split, family, seed, row)
            for row in self.rows
            for family, seed in product(self.families_of(data), self.seeds)
            if row == OWN or self.is_shared(data, split, family)
        ]

    def is_timed(self, family: str) -> bool:
        """Whether the training of a family is timed: one that is asked for forecasts of points."""
        return self.time_to_skill and reads(family) == POINTS and "forecast" in tasks_of(family)

    @property
    def shared_rows(self) -> tuple[RowName, ...]:
        """The rows whose weights are of several data."""
        return tuple(row for row in self.rows if row != OWN)

    def learned_by(self, family: str) -> list[SuiteData]:
        """The data that a family learns from together, if it can learn from several."""
        able = has_own_scale(family)
        return [data for data in self.datasets if able and family in self.families_of(data)]

    def is_shared(self, data: SuiteData, split: SplitKind, family: str) -> bool:
        """Whether shared weights are asked about data: they learn by the first of their splits."""
        return data in self.learned_by(family) and split == self.splits_of(data)[0]

    def config_of(
        self, data: SuiteData, split: SplitKind, family: str, seed: int | None = None
    ) -> PipelineConfig:
        """The configuration of a cell; without a seed that of its data, and of how it is judged."""
        decided: dict[str, Any] = {
            "dataset": data.dataset,
            "model": {"family": family},
            "split": {"kind": split},
            "window": {"tasks": self.tasks},
        }
        if seed is not None:
            decided["seed"] = seed
        return PipelineConfig.model_validate(merged(self.settings, data.settings, decided))

    def shared_config(self, family: str, seed: int = 0) -> PipelineConfig:
        """The training of the weights of several data: no setting of one of them alone counts."""
        decided = {"model": {"family": family}, "train": self.shared_train, "seed": seed}
        return PipelineConfig.model_validate(merged(self.settings, decided))

    def check(self) -> None:
        """Refuse what no cell could be configured with, named by the data that it is set for."""
        for data in self.datasets:
            for split, family in product(self.splits_of(data), self.families_of(data)):
                with settings_of(data):
                    config = self.config_of(data, split, family)
                if config.train.init and self.is_timed(family):
                    raise ConfigError(
                        "time_to_skill is told of fresh weights: leave train.init out"
                    )
        if self.shared_rows:
            self.check_shared()
        self.check_courses()

    def check_shared(self) -> None:
        """Refuse shared rows that nobody can have, and settings that no training can."""
        learned = {one: data for one in FAMILIES if (data := self.learned_by(one))}
        if max(map(len, learned.values()), default=0) < 2:
            able = ", ".join(filter(has_own_scale, FAMILIES))
            raise ConfigError(
                f"rows: {' and '.join(self.shared_rows)} need two data sets at least for a family "
                f"that can learn from several ({able})"
            )
        for one in (one for own in learned.values() for one in own):
            if self.splits_of(one)[0] == "random_window":
                raise ConfigError(
                    f"splits of {one.name}: shared weights learn by the first of them, and "
                    "random_window leaks; name another one before it"
                )
        with problems_of("shared_train: "):
            for family in learned:
                self.shared_config(family)

    def check_courses(self) -> None:
        """Refuse trainings that cannot be, whatever rows there are, and that none would ask for."""
        for name in ("shared_train", "few_shot_train"):
            with problems_of(f"{name}: "):
                TrainConfig.model_validate(getattr(self, name))
        if self.few_shot and HELD_OUT not in self.rows:
            raise ConfigError("few_shot goes on from held-out weights: name held_out in rows")
        if "init" in self.few_shot_train:
            raise ConfigError("few_shot_train.init: it begins with held-out weights; leave it out")


# Files --------------------------------------------------------------------------------------------


def suite_named(name_or_path: str) -> Suite:
    """A suite that is shipped, by its name, or one of your own, by the path of its file."""
    return read_named(Suite, FOLDER, name_or_path, "suite")


def file_of(name_or_path: str) -> Path:
    """The file of a suite."""
    return file_named(FOLDER, name_or_path, "suite")
