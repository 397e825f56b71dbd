"""A small valid file in the form of every source: records 0, 1 and 2, one step apart."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.raw_files import PLT_HEADER, STORM_TAIL
from model.synthetic.world import World, trajectories

START = datetime(2019, 1, 1, tzinfo=UTC)
LON_DEG, LAT_DEG = (120.0, 120.001, 120.002), (10.0, 10.001, 10.002)
Texts = dict[str, str]
Value = tuple[datetime, float, float]  # (instant, lon_deg, lat_deg)


@dataclass(frozen=True)
class Source:
    """How one form of raw file is written: `template` makes a record of its texts."""

    name: str
    dataset: str
    file: str  # name of a file, with the place of its tag
    template: str
    time_form: str
    header: bytes = b""
    separator: bytes = b"\n"
    footer: bytes = b"\n"
    step: timedelta = timedelta(minutes=1)
    shift: timedelta = timedelta(0)  # of the clocks of the source against UTC
    delimiter: str = ","
    more: Mapping[str, str] = field(default_factory=dict)  # other texts of a good record
    sentinels: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)  # what `own` is told
    latitude: Callable[[float], str] = repr
    longitude: Callable[[float], str] = repr
    short: str = ""  # a record that lacks a field; by default the last one
    long: str = ""  # a record that has one more
    empty: str = ""  # a container of records that holds none
    quote: str = ""  # around a text that stands where a number should
    scrapped: str = "lat"  # the text that a scrap of bytes is put into

    def time(self, instant: datetime) -> str:
        """An instant as the source writes it."""
        if self.time_form in ("s", "ms"):
            return str(round(instant.timestamp()) * (1_000 if self.time_form == "ms" else 1))
        return (instant + self.shift).strftime(self.time_form)

    def texts(self, number: int, tag: str) -> Texts:
        return {
            "entity": tag,
            "number": str(number),
            "next": str(number + 1),
            "time": self.time(START + number * self.step),
            "end": self.time(START + number * self.step),
            "lon": self.longitude(LON_DEG[number]),
            "lat": self.latitude(LAT_DEG[number]),
            **self.more,
        }

    def record(self, number: int, tag: str, **texts: str) -> bytes:
        return self.template.format(**self.texts(number, tag) | texts).encode()

    def body(self, records: Sequence[bytes], tag: str) -> bytes:
        """A whole file of these records."""
        header = self.header.replace(b"TAG", tag.encode())
        return header + self.separator.join(records) + self.footer

    def good(self, tag: str) -> bytes:
        return self.body([self.record(number, tag) for number in range(3)], tag)

    def value(self, number: int, _tag: str) -> list[Value]:
        """What record `number` means."""
        return [(START + number * self.step, LON_DEG[number], LAT_DEG[number])]


class Orders(Source):
    """The generator's files: a record of ours is an order of one entity of two points."""

    def value(self, number: int, tag: str) -> list[Value]:
        world = World(kind="markov", num_points=2, seed=int(tag))
        [made] = trajectories(world, number, number + 1)
        places = zip(
            made.tracked_us_T.tolist(), made.lon_deg_T.tolist(), made.lat_deg_T.tolist(),
            strict=True,
        )  # fmt: skip
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return [(epoch + timedelta(microseconds=us), lon, lat) for us, lon, lat in places]


class Labels(Source):
    """A record of ours is a label, of which only the instant is compared."""

    def value(self, number: int, _tag: str) -> list[Value]:
        return [(START + number * self.step, 0.0, 0.0)]


class Table(Source):
    """Parquet: a record of ours is a row of texts, written as JSON until the file is made."""

    def body(self, records: Sequence[bytes], tag: str) -> bytes:
        rows = [json.loads(record) for record in records]
        names = dict.fromkeys(name for row in rows for name in row) or ("id", "t", "lon", "lat")
        schema = pa.schema(dict.fromkeys(names, pa.string()))
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
        return sink.getvalue()


class Line(Source):
    """GeoJSON: a record of ours is a vertex, whose time and place stand in two lists."""

    def body(self, records: Sequence[bytes], tag: str) -> bytes:
        pairs = [record.partition(b"\t") for record in records]
        times, places = ([pair[side] for pair in pairs if pair[side]] for side in (0, 2))
        between = b']},"geometry":{"type":"LineString","coordinates":[\n'
        halves = (self.separator.join(texts) for texts in (times, places))
        return self.header + between.join(halves) + self.footer


def hemisphere(positive: str, negative: str) -> Callable[[float], str]:
    return lambda degrees: f"{abs(degrees)!r}{positive if degrees >= 0 else negative}"


ISO, ISO_T = "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"
OWN = {"dataset": "own", "time_form": ISO_T + "Z"}
OBJECT = '{{"id":"{entity}","t":"{time}","lon":{lon},"lat":{lat},"v":"{speed}"}}'
ROW = '{{"id":"{entity}","t":"{time}","lon":"{lon}","lat":"{lat}","v":"{speed}"}}'
SPEED = {"speed": "1"}, {"speed": "NA"}
FEATURE = (
    '{{"type":"Feature","properties":{{"id":"{entity}","t":"{time}","v":"{speed}"%s}},'
    '"geometry":{{"type":"Point","coordinates":[%s]}}}}'
)
COLLECTION = b'{"type":"FeatureCollection","features":['
PLACEMARK = (
    "<Placemark><name>{entity}</name>%s<TimeStamp><when>{time}</when></TimeStamp>"
    "<Point><coordinates>%s</coordinates></Point></Placemark>"
)
KML = b'<kml xmlns="http://www.opengis.net/kml/2.2"'
GX = b' xmlns:gx="http://www.google.com/kml/ext/2.2"'
VERTEX = "<when>{time}</when><gx:coord>{lon} {lat} 0</gx:coord>"

SOURCES = (
    Source(
        "hurdat2",
        "hurdat2",
        "hurdat2-{tag}.txt",
        "{time},  , TD, {lat}, {lon}, {wind}, {pressure}" + STORM_TAIL,
        "%Y%m%d, %H%M",
        header=b"ALTAG2019, MADE, 3,\n",
        step=timedelta(hours=6),
        more={"wind": "25", "pressure": "1008"},
        sentinels={"wind": "-99", "pressure": "-999"},
        latitude=hemisphere("N", "S"),
        longitude=hemisphere("E", "W"),
        short="{time},  , TD, {lat}, {lon}, {wind}" + STORM_TAIL,
    ),
    Source(
        "geolife",
        "geolife",
        "Data/{tag}/Trajectory/20190101000000.plt",
        "{lat},{lon},0,{altitude},47484.0,{time}",
        "%Y-%m-%d,%H:%M:%S",
        header=PLT_HEADER,
        separator=b"\r\n",
        footer=b"\r\n",
        more={"altitude": "492"},
        sentinels={"altitude": "-777"},
    ),
    Labels(
        "geolife labels",
        "geolife",
        "Data/{tag}/labels.txt",
        "{time}\t{end}\t{mode}",
        "%Y/%m/%d %H:%M:%S",
        header=b"Start Time\tEnd Time\tTransportation Mode\n",
        delimiter="\t",
        more={"mode": "walk"},
        scrapped="mode",
    ),
    Source(
        "porto",
        "porto",
        "train-{tag}.csv",
        '"T","C","{stand}","{entity}","{time}","{missing}","[[{lon},{lat}]]"',
        "s",
        header=b'"TRIP_ID","CALL_TYPE","ORIGIN_STAND","TAXI_ID","TIMESTAMP","MISSING_DATA",'
        b'"POLYLINE"\n',
        more={"stand": "", "missing": "False"},
        sentinels={"missing": "True"},
        empty='"T","C","","{entity}","{time}","False","[]"',
    ),
    Source(
        "cabspotting",
        "cabspotting",
        "new_{tag}.txt",
        "{lat} {lon} {occupied} {time}",
        "s",
        delimiter=" ",
        more={"occupied": "0"},
    ),
    Source(
        "tdrive",
        "tdrive",
        "{tag}.txt",
        "{entity},{time},{lon},{lat}",
        ISO,
        shift=timedelta(hours=8),
    ),
    Source(
        "ais_noaa",
        "ais_noaa",
        "{tag}.csv",
        "{entity},{time},{lat},{lon},{sog},{cog},{heading},{vessel},{imo},60,0",
        ISO_T,
        header=b"MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,VesselType,Status\n",
        more={"sog": "1.5", "cog": "90.0", "heading": "91.0", "vessel": "MADE", "imo": "IMO1"},
        sentinels={"sog": "102.3", "cog": "360.0", "heading": "511.0", "imo": "IMO0000000"},
    ),
    Source(
        "bus_avl",
        "bus_avl",
        "{tag}.csv",
        '"{entity}","1091","{time}",{lat},{lon},{bearing},"14",outbound,MADE',
        ISO,
        header=b'"vehicle_id","trip_id","timestamp","latitude","longitude","bearing",'
        b'"route_name","direction","operator"\n',
        more={"bearing": "53"},
        sentinels={"bearing": ""},
    ),
    Source(
        "ais_tracktable",
        "ais_tracktable",
        "{tag}.traj",
        "*T*,t,terrestrial,1,0,*P*,terrestrial,2,1,1,0,{entity},{time},{lon},{lat}",
        ISO,
        short="*T*,t,terrestrial,1,0,*P*,terrestrial,2,1,1,0,{entity},{time},{lon}",
        long="*T*,t,terrestrial,1,0,*P*,terrestrial,2,1,1,0,{entity},{time},{lon},{lat},x",
        empty="*T*,t,terrestrial,0,0,*P*,terrestrial,2,1,1,0,",
    ),
    Source(
        "opensky",
        "opensky",
        "{tag}.json",
        '{{"icao24":"{entity}","callsign":"MADE","timestamp":{time},"longitude":{lon},'
        '"latitude":{lat},"groundspeed":{speed}}}',
        "ms",
        header=b"[",
        separator=b",\n",
        footer=b"]\n",
        more={"speed": "10.0"},
        sentinels={"speed": "null"},
        quote='"',
        short='{{"icao24":"{entity}","timestamp":{time},"longitude":{lon}}}',
        long='{{"icao24":"{entity}","timestamp":{time},"longitude":{lon},"latitude":{lat},'
        '"groundspeed":10.0,"other":[1]}}',
    ),
    Source(
        "icebergs",
        "icebergs",
        "{tag}.csv",
        "{time},{lat},{lon},1,{size},0",
        "%Y%j",
        header=b"date,nic_1,nic_2,nic_3,size_1,size_2\n",
        step=timedelta(days=1),
        more={"size": "10"},
        sentinels={"lon": "0", "lat": "0"},
    ),
    Source(
        "gpx",
        "gpx",
        "{tag}.gpx",
        '<trkpt lat="{lat}" lon="{lon}"><time>{time}</time></trkpt>',
        ISO_T + "Z",
        header=b"<gpx><trk><trkseg>\n",
        footer=b"\n</trkseg></trk></gpx>\n",
        short='<trkpt lat="{lat}"><time>{time}</time></trkpt>',
        long='<trkpt lat="{lat}" lon="{lon}"><time>{time}</time><sat>9</sat></trkpt>',
    ),
    Source(
        "own csv", **OWN, file="{tag}.csv", template="{entity},{time},{lon},{lat},{speed}",
        header=b"id,t,lon,lat,v\n", more=SPEED[0], sentinels=SPEED[1],
        columns={"form": "csv", "files": "*.csv", "speed": "v"},
    ),
    Source(
        "own epoch", "own", "{tag}.csv", "{entity},{time},{lon},{lat},{speed}", "s",
        header=b"id,t,lon,lat,v\n", more=SPEED[0], sentinels=SPEED[1],
        columns={"form": "csv", "files": "*.csv", "speed": "v", "time_form": "epoch_s"},
    ),
    Source(
        "own local", "own", "{tag}.csv", "{entity},{time},{lon},{lat},{speed}", ISO,
        header=b"id,t,lon,lat,v\n", more=SPEED[0], sentinels=SPEED[1],
        shift=timedelta(hours=8),
        columns={"form": "csv", "files": "*.csv", "speed": "v", "zone": "Asia/Shanghai"},
    ),
    Source(
        "own tsv", **OWN, file="{tag}.tsv", template="{entity}\t{time}\t{lon}\t{lat}\t{speed}",
        header=b"id\tt\tlon\tlat\tv\n", delimiter="\t", more=SPEED[0], sentinels=SPEED[1],
        columns={"form": "tsv", "files": "*.tsv", "speed": "v"},
    ),
    Source(
        "own jsonl", **OWN, file="{tag}.jsonl", template=OBJECT,
        more=SPEED[0], sentinels=SPEED[1],
        columns={"form": "jsonl", "files": "*.jsonl", "speed": "v"},
        quote='"', short='{{"id":"{entity}","t":"{time}","lon":{lon},"v":"1"}}',
        long='{{"id":"{entity}","t":"{time}","lon":{lon},"lat":{lat},"v":"1","other":[1]}}',
    ),
    Source(
        "own json", **OWN, file="{tag}.json", template=OBJECT,
        header=b"[", separator=b",\n", footer=b"]\n", more=SPEED[0], sentinels=SPEED[1],
        columns={"form": "json", "files": "*.json", "speed": "v"},
        quote='"', short='{{"id":"{entity}","t":"{time}","lon":{lon},"v":"1"}}',
        long='{{"id":"{entity}","t":"{time}","lon":{lon},"lat":{lat},"v":"1","other":[1]}}',
    ),
    Source(
        "own geojson", **OWN, file="{tag}.geojson", template=FEATURE % ("", "{lon},{lat}"),
        header=COLLECTION, separator=b",\n", footer=b"]}\n", more=SPEED[0], sentinels=SPEED[1],
        columns={"form": "geojson", "files": "*.geojson", "speed": "v"},
        quote='"', short=FEATURE % ("", "{lon}"), long=FEATURE % (',"other":[1]', "{lon},{lat},9"),
    ),
    Line(
        "own geojson line", **OWN, file="{tag}.geojson", template='"{time}"\t[{lon},{lat}]',
        header=COLLECTION + b'{"type":"Feature","properties":{"coordTimes":[\n',
        separator=b",\n", footer=b"]}}]}\n",
        columns={"form": "geojson", "files": "*.geojson"},
        quote='"', short='"{time}"', long='"{time}"\t[{lon},{lat},9]',
    ),
    Source(
        "own kml", **OWN, file="{tag}.kml", template=PLACEMARK % ("", "{lon},{lat},0"),
        header=KML + b"><Document>\n", footer=b"\n</Document></kml>\n",
        columns={"form": "kml", "files": "*.kml", "entity": "placemark"},
        short=PLACEMARK % ("", "{lon}"), long=PLACEMARK % ("<styleUrl>a</styleUrl>", "{lon},{lat}"),
    ),
    Source(
        "own kml track", **OWN, file="{tag}.kml", template=VERTEX,
        header=KML + GX + b"><Placemark><gx:Track>\n",
        footer=b"\n</gx:Track></Placemark></kml>\n",
        columns={"form": "kml", "files": "*.kml"},
        short="<when>{time}</when>", long=VERTEX + "<gx:angles>9 0 0</gx:angles>",
    ),
    Table(
        "own parquet", **OWN, file="{tag}.parquet", template=ROW,
        more=SPEED[0], sentinels=SPEED[1],
        columns={"form": "parquet", "files": "*.parquet", "speed": "v"},
        short='{{"id":"{entity}","t":"{time}","lon":"{lon}","v":"1"}}',
        long='{{"id":"{entity}","t":"{time}","lon":"{lon}","lat":"{lat}","v":"1","other":"1"}}',
    ),
    Orders(
        "synthetic",
        "synthetic",
        "{tag}.jsonl",
        '{{"start": {number}, "stop": {next}, "world": {{"kind": "markov", "num_points": 2, '
        '"seed": {entity}}}}}',
        "s",
    ),
)  # fmt: skip
