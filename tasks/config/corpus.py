"""Corpus: a named mixture of datasets that one model is trained on, as a TOML file tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from model.families import MODULES, POINTS, has_own_scale, reads
from tasks.config.datasets import dataset_named
from tasks.config.named_data import (
    NAME,
    NamedData,
    merged,
    named_once,
    read_named,
    refuse_decided,
    settings_of,
    shipped_in,
)
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import Section
from tasks.runtime.errors import ConfigError

FOLDER = Path(__file__).with_name("corpora")
SHIPPED = shipped_in(FOLDER)
WITH_OWN_SCALE = tuple(name for name in MODULES if has_own_scale(name))
# What is told elsewhere, for all members: no setting may say it again.
DECIDED = {("dataset",): "dataset"} | {(name,): "the run" for name in ("model", "train", "seed")}


class Member(NamedData):
    """Data of a corpus: learned from in its share, or held out whole and asked about alone."""

    share: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Of the batches of training, beside the shares of the others; if all leave it "
        "out, they are equal.",
    )
    is_held_out: bool = Field(False, description="Nothing of it is learned from.")
    is_redistributable: bool = Field(
        False,
        description="Whether you may pass these files on, under the licence that their settings "
        "tell; of public data their row says it.",
    )

    @model_validator(mode="after")
    def what_may_be_passed_on_has_a_licence(self) -> Member:
        if self.is_redistributable and not self.settings.get("licence"):
            raise ValueError(
                f"{self.name} may be passed on, but under which licence? give settings.licence"
            )
        return self

    @property
    def may_be_passed_on(self) -> bool:
        """Whether its files may be, and so may what is trained on them."""
        return self.is_redistributable or dataset_named(self.dataset).is_redistributable

    @model_validator(mode="after")
    def what_is_held_out_has_no_share(self) -> Member:
        if self.is_held_out and self.share is not None:
            raise ValueError(f"{self.name} is held out whole, so it has no share: leave it out")
        return self


class Corpus(Section):
    """Members of a corpus, and what is set for all of them."""

    name: str = Field(pattern=f"^{NAME}$")
    title: str = Field(max_length=200)
    settings: dict[str, Any] = Field({}, description="Of `trajfoundry run`, for all members.")
    members: tuple[Member, ...]

    @field_validator("members")
    @classmethod
    def members_name_each_once(cls, given: tuple[Member, ...]) -> tuple[Member, ...]:
        return named_once(given)

    @model_validator(mode="after")
    def something_is_learned_from(self) -> Corpus:
        refuse_decided(DECIDED, [self.settings, *(one.settings for one in self.members)])
        if not self.learned:
            raise ValueError("all members are held out whole: something must be learned from")
        with_share = [one.name for one in self.learned if one.share is not None]
        if with_share and len(with_share) < len(self.learned):
            lacks = next(one.name for one in self.learned if one.share is None)
            raise ValueError(f"{with_share[0]} has a share and {lacks} has none: give all or none")
        return self

    @property
    def learned(self) -> tuple[Member, ...]:
        """Those that are learned from."""
        return tuple(one for one in self.members if not one.is_held_out)

    @property
    def subject(self) -> str:
        """What the store calls whatever is of no single member."""
        return f"corpus_{self.name}"

    def config_of(self, member: Member, run: PipelineConfig) -> PipelineConfig:
        """The configuration of a member: that of the run, and what the corpus says of it."""
        told = merged(
            run.model_dump(exclude={"dataset"}),
            self.settings,
            member.settings,
            {"dataset": member.dataset},
        )
        with settings_of(member):
            return PipelineConfig.model_validate(told)

    @property
    def shares(self) -> tuple[float, ...]:
        """The part of the batches of each member; 0 if it is held out.

        By their points the largest would leave nothing to the others; measured, equal parts are
        better than the square roots of the points, too.
        """
        weights = [(one.share or 1.0) * (not one.is_held_out) for one in self.members]
        return tuple(round(weight / sum(weights), 6) for weight in weights)

    def check(self) -> None:
        """Refuse what no member could be configured with."""
        for member in self.members:
            self.config_of(member, PipelineConfig())

    def require_family(self, family: str) -> None:
        """Refuse a family that could not learn from all members at once."""
        if reads(family) != POINTS:
            raise ConfigError(
                f"model.family {family} reads visits, and the members of a corpus are of points"
            )
        if len(self.learned) > 1 and not has_own_scale(family):
            raise ConfigError(
                f"model.family {family} divides what it reads by the speeds and intervals of one "
                f"dataset, and {self.name} has {len(self.learned)} to learn from; choose of: "
                f"{', '.join(WITH_OWN_SCALE)}"
            )


def corpus_named(name_or_path: str) -> Corpus:
    """A corpus that is shipped, by its name, or one of your own, by the path of its file."""
    return read_named(Corpus, FOLDER, name_or_path, "corpus")
