"""The table of datasets: a new public source is one row here, one SQL file and one fixture."""

from __future__ import annotations

from pydantic import Field

from tasks.errors import ConfigError
from tasks.store import Frozen

HOUR_S = 3_600.0


class Dataset(Frozen):
    """What is known of one public dataset."""

    name: str
    title: str
    licence: str
    citation: str
    homepage: str
    url: str = Field("", description="Address of the public release, where it may be fetched.")
    sha256: str = Field("", description="SHA-256 of the file behind the address, where stable.")
    sample: tuple[str, ...] = Field((), description="Embedded files, used without a source.")
    decoder: str = Field(description="Reader in tasks/decode.py that yields raw records.")
    members: str = Field("*", description="Pattern of the file names that hold trajectories.")
    staging: str = Field(description="SQL file that makes canonical points of raw records.")
    zone: str = Field(description="IANA zone of the local calendar.")
    entity_kind: str
    max_speed_mps: float = Field(gt=0, description="Faster than this is impossible.")
    max_gap_s: float = Field(gt=0, description="A longer silence ends a trip.")
    interval_s: float = Field(gt=0, description="Expected seconds between points.")
    num_buckets: int = Field(ge=1, description="Files that the entities are spread over.")
    max_rejected_share: float = Field(0.05, ge=0, le=1)
    is_redistributable: bool
    is_personal: bool
    has_own_columns: bool = Field(False, description="The configuration names its columns.")


DATASETS = {
    row.name: row
    for row in (
        Dataset(
            name="hurdat2",
            title="HURDAT2, best tracks of Atlantic and Pacific tropical cyclones",
            licence="US government work, public domain",
            citation="Landsea and Franklin (2013), Monthly Weather Review 141(10), 3576-3592",
            homepage="https://www.nhc.noaa.gov/data/",
            sample=("hurdat2-atlantic.txt.xz", "hurdat2-pacific.txt.xz"),
            decoder="hurdat2",
            members="*hurdat2*.txt",
            staging="staging/stg_hurdat2",
            zone="UTC",
            entity_kind="storm",
            max_speed_mps=60.0,
            max_gap_s=12 * HOUR_S,
            interval_s=6 * HOUR_S,
            num_buckets=2,
            is_redistributable=True,
            is_personal=False,
        ),
        Dataset(
            name="geolife",
            title="GeoLife GPS trajectories 1.3",
            licence="Microsoft Research licence: non-commercial, no redistribution",
            citation="Zheng, Xie and Ma (2010), IEEE Data Engineering Bulletin 33(2), 32-39",
            homepage="https://www.microsoft.com/en-us/research/project/geolife-building-social-networks-using-human-location-history/",
            decoder="plt",
            members="*/Trajectory/*.plt",
            staging="staging/stg_geolife",
            zone="Asia/Shanghai",
            entity_kind="person",
            max_speed_mps=50.0,
            max_gap_s=600.0,
            interval_s=5.0,
            num_buckets=8,
            is_redistributable=False,
            is_personal=True,
        ),
        Dataset(
            name="own",
            title="Your own files: CSV, TSV, JSON or Parquet",
            licence="your own terms",
            citation="your own data",
            homepage="see README.md, Your own data",
            decoder="own",
            staging="staging/stg_own",
            zone="UTC",
            entity_kind="entity",
            max_speed_mps=100.0,
            max_gap_s=HOUR_S,
            interval_s=10.0,
            num_buckets=8,
            is_redistributable=False,
            is_personal=True,
            has_own_columns=True,
        ),
    )
}


def dataset_named(name: str) -> Dataset:
    """The row of a dataset; an unknown name is an error that lists the known ones."""
    if name not in DATASETS:
        raise ConfigError(f"unknown dataset {name!r}; choose one of: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]
