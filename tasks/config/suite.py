"""Suite of a benchmark: who is judged on which data and how, as a TOML file tells it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from model.families import POINTS, reads
from tasks.config.pipeline import DatasetName, PipelineConfig
from tasks.config.sections import ModelConfig, Section, Seed, SplitKind, Task, WindowConfig
from tasks.runtime.errors import ConfigError

FOLDER = Path(__file__).with_name("suites")
SHIPPED = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
FAMILIES: tuple[str, ...] = get_args(ModelConfig.model_fields["family"].annotation)
OF_POINTS = tuple(name for name in FAMILIES if reads(name) == POINTS)
NAME = r"[a-z][a-z0-9_]{0,39}"
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


class SuiteData(Section):
    """Data of a suite: a dataset, where its files are, and what is set for it alone."""

    dataset: DatasetName
    label: str = Field(
        "", pattern=f"^({NAME})?$", description="What tables call it; the dataset's name if empty."
    )
    source: str = Field(
        "",
        description="File, folder or archive below the folder of sources, or an address; the "
        "embedded sample, or what is made on demand, if empty.",
    )
    splits: tuple[SplitKind, ...] = Field((), description="Those of the suite if empty.")
    families: Families = Field((), description="Those of the suite if empty.")
    settings: dict[str, Any] = Field({}, description="Of `trajfoundry run`, for these data alone.")

    @property
    def name(self) -> str:
        return self.label or self.dataset


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
        names = [getattr(one, "name", one) for one in given]
        if not names:
            raise ValueError("must name at least one")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"names {twice[0]!r} twice")
        return given

    @model_validator(mode="after")
    def settings_decide_nothing_twice(self) -> Suite:
        for settings in (self.settings, *(data.settings for data in self.datasets)):
            for path, told in DECIDED.items():
                if is_in(settings, path):
                    raise ValueError(f"settings.{'.'.join(path)} is told by {told!r} alone")
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
                try:
                    self.config_of(data, split, family)
                except ValidationError as error:
                    raise ConfigError(
                        "; ".join(problems(error, f"settings of {data.name}: "))
                    ) from None


def merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings in one; what stands later goes first."""
    found: dict[str, Any] = {}
    for name, value in (pair for one in settings for pair in one.items()):
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if both else value
    return found


def is_in(settings: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(settings, dict) or name not in settings:
            return False
        settings = settings[name]
    return True


# Files --------------------------------------------------------------------------------------------


def suite_named(name_or_path: str) -> Suite:
    """A suite that is shipped, by its name, or one of your own, by the path of its file."""
    try:
        return read_suite(file_of(name_or_path))
    except ConfigError as error:
        raise ConfigError(f"{name_or_path}: {error}") from None


def file_of(name_or_path: str) -> Path:
    """The file of a suite."""
    if name_or_path in SHIPPED:
        return FOLDER / f"{name_or_path}.toml"
    if not name_or_path.endswith(".toml"):
        shipped = ", ".join(SHIPPED)
        raise ConfigError(
            f"no such suite; choose one of {shipped}, or give the path of a TOML file"
        )
    return Path(name_or_path).expanduser()


def read_suite(path: Path) -> Suite:
    """The suite of a file, whose every cell can be configured."""
    if not re.fullmatch(NAME, path.stem):
        raise ConfigError("a suite is called by its file: small letters, digits and _")
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"this is no TOML: {error}") from None
    try:
        suite = Suite.model_validate({"name": path.stem} | told)
    except ValidationError as error:
        raise ConfigError("; ".join(problems(error))) from None
    suite.check()
    return suite


def problems(error: ValidationError, where: str = "") -> Iterator[str]:
    """What is wrong, named by its place, with what was given."""
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        text, given = problem["msg"].removeprefix("Value error, "), problem["input"]
        is_shown = problem["type"] != "value_error" and isinstance(given, str | int | float)
        named = where + (f"{place}: {text}" if place else text)
        yield f"{named}, not {given!r}" if is_shown else named
