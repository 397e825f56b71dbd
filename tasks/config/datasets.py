"""The table of datasets: a new public source is one row here, one SQL file and one fixture."""

from __future__ import annotations

from pydantic import Field

from tasks.runtime.errors import ConfigError
from tasks.runtime.frozen import Frozen

HOUR_S = 3_600.0


class LabelFiles(Frozen):
    """Files of a dataset that tell of its points: which they are, and how they are read."""

    members: str = Field(description="Pattern of their names.")
    staging: str = Field(description="SQL file that makes labels of their lines.")


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
    decoder: str = Field(description="Name of its reader in tasks/ingest/readers/formats.py.")
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
    num_buckets: int = Field(ge=1, description="Files that the entities are spread over.")
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
    has_own_columns: bool = Field(False, description="The configuration names its columns.")
    is_generated: bool = Field(False, description="Made on demand, without raw files.")
    is_redistributable: bool
    is_personal: bool

    @property
    def staging_names(self) -> tuple[str, ...]:
        """The SQL files that read this dataset."""
        return (self.staging, self.labels.staging) if self.labels else (self.staging,)


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
            region_resolution=3,
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
            labels=LabelFiles(members="*/labels.txt", staging="staging/stg_geolife_labels"),
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
            name="synthetic",
            title="Made-up vehicles and people with ground truth, and laws with a known floor",
            licence="Apache-2.0",
            citation="the generator of this project, model/synthetic/",
            homepage="",
            is_generated=True,
            decoder="synthetic",
            members="*.jsonl",
            staging="staging/stg_synthetic",
            zone="UTC",
            entity_kind="mover",
            max_speed_mps=50.0,
            max_gap_s=800.0,
            interval_s=10.0,
            num_buckets=4,
            is_redistributable=True,
            is_personal=False,
        ),
        Dataset(
            name="porto",
            title="Taxi trips of Porto, 2013 and 2014 (ECML/PKDD 2015 challenge)",
            licence="CC BY 4.0 according to UCI; unconfirmed by the owner",
            citation="Moreira-Matias, Gama, Ferreira, Mendes-Moreira and Damas (2013), "
            "IEEE Transactions on Intelligent Transportation Systems 14(3), 1393-1402",
            homepage="https://archive.ics.uci.edu/dataset/339",
            decoder="porto",
            members="t[re]*.csv",
            staging="staging/stg_porto",
            zone="Europe/Lisbon",
            entity_kind="taxi",
            max_speed_mps=50.0,
            max_gap_s=300.0,
            interval_s=15.0,
            num_buckets=16,
            is_redistributable=False,
            is_personal=True,
        ),
        Dataset(
            name="cabspotting",
            title="Cabspotting, taxis of San Francisco in May and June 2008",
            licence="CRAWDAD terms: research with citation, no redistribution",
            citation="Piorkowski, Sarafijanovic-Djukic and Grossglauser (2009), "
            "CRAWDAD dataset epfl/mobility, v. 2009-02-24",
            homepage="https://ieee-dataport.org/open-access/crawdad-epflmobility",
            decoder="cabspotting",
            members="new_*.txt",
            staging="staging/stg_cabspotting",
            zone="America/Los_Angeles",
            entity_kind="taxi",
            max_speed_mps=50.0,
            max_gap_s=600.0,
            interval_s=60.0,
            num_buckets=8,
            is_redistributable=False,
            is_personal=True,
        ),
        Dataset(
            name="tdrive",
            title="T-Drive, taxis of Beijing in February 2008 (sample of the release)",
            licence="Microsoft Research licence: non-commercial, no redistribution",
            citation="Yuan, Zheng, Zhang, Xie, Xie, Sun and Huang (2010), ACM SIGSPATIAL GIS, "
            "99-108",
            homepage="https://www.microsoft.com/en-us/research/publication/t-drive-trajectory-data-sample/",
            decoder="tdrive",
            members="[0-9]*.txt",
            staging="staging/stg_tdrive",
            zone="Asia/Shanghai",
            entity_kind="taxi",
            max_speed_mps=50.0,
            max_gap_s=1_800.0,
            interval_s=300.0,
            num_buckets=8,
            is_redistributable=False,
            is_personal=True,
        ),
        Dataset(
            name="ais_noaa",
            title="AIS position reports of ships in the waters of the United States",
            licence="US government work, public domain",
            citation="Bureau of Ocean Energy Management and NOAA, MarineCadastre.gov, "
            "Nationwide Automatic Identification System",
            homepage="https://hub.marinecadastre.gov/pages/vesseltraffic",
            url="https://coast.noaa.gov/htdata/CMSP/AISDataHandler/2020/AIS_2020_06_30.zip",
            decoder="ais_noaa",
            members="*.csv",
            staging="staging/stg_ais_noaa",
            split_identities=True,
            zone="UTC",
            entity_kind="ship",
            region_resolution=6,
            max_speed_mps=30.0,
            max_gap_s=1_800.0,
            interval_s=60.0,
            num_buckets=8,
            is_redistributable=True,
            is_personal=False,
        ),
        Dataset(
            name="bus_avl",
            title="UK Bus Open Data, positions of buses as CSV",
            licence="Open Government Licence v3.0; Crown copyright",
            citation="Department for Transport (UK), Bus Open Data Service",
            homepage="https://www.gov.uk/government/collections/bus-open-data-service",
            decoder="bus_avl",
            members="*.csv",
            staging="staging/stg_bus_avl",
            zone="Europe/London",
            entity_kind="bus",
            max_speed_mps=35.0,
            max_gap_s=600.0,
            interval_s=20.0,
            num_buckets=4,
            is_redistributable=True,
            is_personal=False,
        ),
        Dataset(
            name="ais_tracktable",
            title="NOAA MarineCadastre AIS tracks, as tracktable .traj files",
            licence="US government work, public domain; tracktable's data package is BSD",
            citation="NOAA Office for Coastal Management, MarineCadastre.gov, vessel traffic 2020",
            homepage="https://github.com/sandialabs/tracktable-data",
            decoder="traj",
            members="*.traj",
            staging="staging/stg_ais_tracktable",
            split_identities=True,
            zone="UTC",
            entity_kind="ship",
            region_resolution=6,
            max_speed_mps=30.0,
            max_gap_s=1_800.0,
            interval_s=60.0,
            num_buckets=4,
            is_redistributable=True,
            is_personal=False,
        ),
        Dataset(
            name="opensky",
            title="OpenSky state vectors, a sample of the traffic library",
            licence="OpenSky terms of use: research and non-commercial, no redistribution",
            citation="Schäfer et al. (2014), Bringing up OpenSky, IPSN 2014, 83-94",
            homepage="https://opensky-network.org/",
            decoder="opensky",
            members="*.json",
            staging="staging/stg_opensky",
            zone="UTC",
            entity_kind="aircraft",
            region_resolution=5,
            max_speed_mps=350.0,
            max_gap_s=600.0,
            interval_s=1.0,
            num_buckets=8,
            max_rejected_share=0.2,  # about a tenth are old places carried on
            is_redistributable=False,
            is_personal=False,
        ),
        Dataset(
            name="icebergs",
            title="BYU/NIC consolidated Antarctic iceberg database",
            licence="not stated; citation asked",
            citation="Budge and Long (2018), IEEE JSTARS 11(2), 405-415",
            homepage="https://www.scp.byu.edu/data/iceberg/",
            decoder="icebergs",
            members="*.csv",
            staging="staging/stg_icebergs",
            zone="UTC",
            entity_kind="iceberg",
            region_resolution=4,
            max_speed_mps=2.0,
            max_gap_s=15 * 24 * HOUR_S,
            interval_s=24 * HOUR_S,
            num_buckets=4,
            max_rejected_share=0.9,  # most sensors see nothing on most days
            is_redistributable=False,
            is_personal=False,
        ),
        Dataset(
            name="gpx",
            title="Recorded tracks in GPX 1.0 and 1.1",
            licence="that of whoever recorded them",
            citation="Foster, D. (2004), GPX 1.1 schema, topografix.com",
            homepage="https://www.topografix.com/gpx.asp",
            decoder="gpx",
            members="*.[gG][pP][xX]",
            staging="staging/stg_gpx",
            zone="UTC",
            entity_kind="recording",
            max_speed_mps=100.0,
            max_gap_s=600.0,
            interval_s=5.0,
            num_buckets=2,
            max_rejected_share=0.5,  # drawn tracks hold no times
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
