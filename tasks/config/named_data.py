"""Named data: datasets with sources and settings, as TOML files of suites and corpora list them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import Field, ValidationError

from tasks.config.pipeline import DatasetName
from tasks.config.sections import Section
from tasks.runtime.errors import ConfigError

NAME = r"[a-z][a-z0-9_]{0,39}"


class NamedData(Section):
    """A dataset, where its files are, and what is set for it alone."""

    dataset: DatasetName
    label: str = Field(
        "", pattern=f"^({NAME})?$", description="What tables call it; the dataset's name if empty."
    )
    source: str = Field(
        "",
        description="File, folder or archive below the folder of sources, or an address; the "
        "embedded sample, or what is made on demand, if empty.",
    )
    settings: dict[str, Any] = Field({}, description="Of `trajfoundry run`, for these data alone.")

    @property
    def name(self) -> str:
        return self.label or self.dataset


def named_once(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that names nothing, or something twice."""
    names = [getattr(one, "name", one) for one in given]
    if not names:
        raise ValueError("must name at least one")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"names {twice[0]!r} twice")
    return given


# Settings -----------------------------------------------------------------------------------------


def refuse_decided(decided: Mapping[Any, str], given: Iterable[Mapping[str, Any]]) -> None:
    """Refuse settings that are told elsewhere."""
    for settings in given:
        for path, told in decided.items():
            if is_in(settings, path):
                raise ValueError(f"settings.{'.'.join(path)} is told by {told!r} alone")


def is_in(settings: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(settings, dict) or name not in settings:
            return False
        settings = settings[name]
    return True


def merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings in one; what stands later goes first."""
    found: dict[str, Any] = {}
    for name, value in (pair for one in settings for pair in one.items()):
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if both else value
    return found


@contextmanager
def problems_of(where: str) -> Iterator[None]:
    """What cannot be configured is named by the place that it is told at."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError("; ".join(problems(error, where))) from None


def settings_of(data: NamedData) -> AbstractContextManager[None]:
    """What cannot be configured is named by the data that it is set for."""
    return problems_of(f"settings of {data.name}: ")


# Files --------------------------------------------------------------------------------------------


class Checked(Protocol):
    """What a file tells: a model of pydantic that can be checked further."""

    @classmethod
    def model_validate(cls, given: Any) -> Any: ...

    def check(self) -> None: ...


Told = TypeVar("Told", bound=Checked)


def shipped_in(folder: Path) -> tuple[str, ...]:
    """The names of what is shipped in a folder of TOML files."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def read_named(kind: type[Told], folder: Path, name_or_path: str, noun: str) -> Told:
    """What is shipped, by its name, or one of your own, by the path of its file."""
    try:
        return read_told(kind, file_named(folder, name_or_path, noun), noun)
    except ConfigError as error:
        raise ConfigError(f"{name_or_path}: {error}") from None


def file_named(folder: Path, name_or_path: str, noun: str) -> Path:
    shipped = shipped_in(folder)
    if name_or_path in shipped:
        return folder / f"{name_or_path}.toml"
    if not name_or_path.endswith(".toml"):
        raise ConfigError(
            f"no such {noun}; choose one of {', '.join(shipped)}, or give the path of a TOML file"
        )
    return Path(name_or_path).expanduser()


def read_told(kind: type[Told], path: Path, noun: str) -> Told:
    """What a file tells, checked as far as it can be without data."""
    if not re.fullmatch(NAME, path.stem):
        raise ConfigError(f"a {noun} is called by its file: small letters, digits and _")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"this is no TOML: {error}") from None
    try:
        told: Told = kind.model_validate({"name": path.stem} | given)
    except ValidationError as error:
        raise ConfigError("; ".join(problems(error))) from None
    told.check()
    return told


def problems(error: ValidationError, where: str = "") -> Iterator[str]:
    """What is wrong, named by its place, with what was given."""
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        text, given = problem["msg"].removeprefix("Value error, "), problem["input"]
        is_shown = problem["type"] != "value_error" and isinstance(given, str | int | float)
        named = where + (f"{place}: {text}" if place else text)
        yield f"{named}, not {given!r}" if is_shown else named
