"""Datasets: the table `datasets.toml`, where a new public source is one entry, and its fields."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks.runtime.errors import ConfigError
from tasks.runtime.frozen import Frozen
from tasks.runtime.words import plural_of

Kind = Literal["number", "count", "text", "date", "time"]


class LabelFiles(Frozen):
    """Files of a dataset that tell of its points: which they are, and how they are read."""

    members: str = Field(description="Pattern of their names.")
    staging: str = Field(description="SQL file that makes labels of their lines.")


class Layout(Frozen):
    """How the lines of delimited files are written, and which of their columns are read.

    Either `order` names all columns of a line; or a header does, and `names` says which of our
    columns stands under which name there, in any case and spacing; where releases differ, a column
    has several. Numbers are NULL where the
    text is one of `null_values`; text stays as it is.
    """

    columns: dict[str, Kind] = Field(description="Kind of each column that is read, by our name.")
    order: tuple[str, ...] = Field((), description="All columns of a line, without a header.")
    max_header_lines: int = Field(0, description="Other lines that may stand above an order.")
    names: dict[str, str] = Field({}, description="Our name for each name in a header.")
    optional: tuple[str, ...] = Field((), description="NULL where a header lacks them.")
    delimiter: str = ","
    is_quoted: bool = False
    null_values: tuple[str, ...] = ()


class Dataset(Frozen):
    """What is known of one public dataset."""

    name: str
    title: str
    licence: str
    citation: str
    homepage: str
    size: str = Field(description="How much the public release holds, in words.")
    url: str = Field("", description="Address of the public release, where it may be fetched.")
    sha256: str = Field("", description="SHA-256 of the file behind the address, where stable.")
    sample: tuple[str, ...] = Field((), description="Embedded files, used without a source.")
    decoder: str = Field(description="Name of its reader in tasks/ingest/readers/.")
    layout: Layout | None = Field(None, description="Of delimited files, for their reader.")
    members: str = Field("*", description="Pattern of the file names that hold trajectories.")
    staging: str = Field(description="SQL file that makes canonical points of raw records.")
    labels: LabelFiles | None = Field(None, description="Modes of transport, where labelled.")
    zone: str = Field(description="IANA zone of the local calendar.")
    entity_kind: str
    max_speed_mps: float = Field(gt=0, description="Faster than this is impossible.")
    max_gap_s: float = Field(gt=0, description="A longer silence ends a trip.")
    interval_s: float = Field(gt=0, description="Expected seconds between points.")
    region_resolution: int = Field(
        8, ge=0, le=15, description="H3 resolution of regions: 8 is a kilometre across."
    )
    num_context: int = Field(20, ge=2, description="Points that a forecast is told.")
    num_horizon: int = Field(20, ge=1, description="Points that a forecast is asked.")
    stride: int = Field(
        20, ge=1, description="Points between the starts of windows; less where entities are few."
    )
    horizons: tuple[int, ...] = Field(
        (1, 5, 10, 20), description="Steps at which people of the field read errors."
    )
    gate_horizon: int = Field(10, ge=1, description="Step that decides a promotion.")
    num_buckets: int = Field(ge=1, description="Files that the entities are spread over.")
    first_fix_date: date | None = Field(
        None, description="What is earlier cannot be: before satellites told where things are."
    )
    split_identities: bool = Field(
        False, description="Whether entities that share one identity are told apart."
    )
    max_rejected_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the records read that ingest may reject as malformed or out of "
        "range; more fails the run. What cleaning rejects after that (duplicates, impossible "
        "speeds, short trips) is reported and does not count.",
    )
    baselines: tuple[str, ...] = Field(
        ("linear_residual", "boosted_trees", "kalman_mixture", "past_trips", "rts_velocity"),
        description="Baselines that an expert would ask for, by their names in "
        "`model/evaluation/fitted_baselines.py`; the general ones where nothing more is known.",
    )
    has_own_columns: bool = Field(False, description="The configuration names its columns.")
    has_own_licence: bool = Field(False, description="Who has such files knows their licence.")
    is_generated: bool = Field(False, description="Made on demand, without raw files.")
    is_nautical: bool = Field(False, description="Errors are told in nautical miles too.")
    is_redistributable: bool
    is_personal: bool

    @property
    def staging_names(self) -> tuple[str, ...]:
        """The SQL files that read this dataset."""
        return (self.staging, self.labels.staging) if self.labels else (self.staging,)

    @property
    def command(self) -> str:
        """The command that ingests a reader's own copy, and then trains and judges a model."""
        if self.sample or self.is_generated:
            return f"trajfoundry run --dataset {self.name}"
        name = " --name mine" if self.has_own_columns else ""
        return f"trajfoundry run --dataset {self.name}{name} --source PATH"

    @property
    def entity_kinds(self) -> str:
        """The plural of what moves."""
        return plural_of(self.entity_kind)


TABLE = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
DATASETS = {name: Dataset(name=name, **row) for name, row in tomllib.loads(TABLE).items()}


OWN = "own"
FEED = re.compile(rf"{OWN}_([a-z][a-z0-9_]{{0,39}})")


def dataset_named(name: str) -> Dataset:
    """The row of a dataset; an unknown name is an error that lists the known ones.

    A feed of your own is called own_NAME, and is read as `own` is.
    """
    if FEED.fullmatch(name):
        return DATASETS[OWN].model_copy(update={"name": name})
    if name not in DATASETS:
        raise ConfigError(f"unknown dataset {name!r}; choose one of: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]
