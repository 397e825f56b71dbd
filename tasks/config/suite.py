"""Suite of a benchmark: who is judged on which data and how, as a TOML file tells it."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from model.families import POINTS, reads
from tasks.config.named_data import (
    NamedData,
    file_named,
    merged,
    named_once,
    read_named,
    refuse_decided,
    settings_of,
    shipped_in,
)
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import ModelConfig, Section, Seed, SplitKind, Task, WindowConfig

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

    @property
    def place(self) -> tuple[str, SplitKind, str]:
        """What is judged, whatever the seed."""
        return self.data.name, self.split, self.family

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
    settings: dict[str, Any] = Field({}, description="Of `trajfoundry run`, for all data.")
    datasets: tuple[SuiteData, ...]

    @field_validator("tasks")
    @classmethod
    def forecast_is_judged(cls, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        if "forecast" not in tasks:
            raise ValueError("forecast must be among the tasks")
        return tasks

    @field_validator("families", "tasks", "splits", "seeds", "datasets")
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
        return [Cell(data, split, *given) for given in product(self.families_of(data), self.seeds)]

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

    def check(self) -> None:
        """Refuse what no cell could be configured with, named by the data that it is set for."""
        for data in self.datasets:
            for split, family in product(self.splits_of(data), self.families_of(data)):
                with settings_of(data):
                    self.config_of(data, split, family)


# Files --------------------------------------------------------------------------------------------


def suite_named(name_or_path: str) -> Suite:
    """A suite that is shipped, by its name, or one of your own, by the path of its file."""
    return read_named(Suite, FOLDER, name_or_path, "suite")


def file_of(name_or_path: str) -> Path:
    """The file of a suite."""
    return file_named(FOLDER, name_or_path, "suite")
