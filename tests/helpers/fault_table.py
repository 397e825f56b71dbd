"""What becomes of every fault in every source: the matrix, as data.

A cell is written `kept rules | cleaning`. `kept` lists the records of the file that become points,
as digits in the order of the file, or `-` for none. `rules` lists the rejects of ingest: a rule, or
`rule*3` for three, or `rule+` for any number of them. `cleaning` lists the rejects of the clean
stage, where the fault is one that cleaning is for. A cell that cannot occur begins with `no:`.
`malformed`, `place`, `time` and `number` are the rules of RULES, which sources call differently.
"""

from __future__ import annotations

from helpers.fault_rows import FAULTS
from helpers.fault_sources import SOURCES

BINARY = "no: a binary file, which its own reader refuses: see truncated file"
NO_HEADER = "no: has no header"
NO_PLACE = "no: labels hold no place"
NO_SECONDS = "no: its times have no seconds"
EPOCH = "no: counts from 1970, which has neither calendar nor leap seconds"
WRITTEN_OUT = "no: its times are written out"
UTC = "no: its times are in UTC or say their offset"
NO_LIST = "no: holds no lists of records"
NO_SENTINELS = "no: has none"
ONE_LINE = "no: its one line holds all records: see no record"
GENERATED = "no: the generator writes these values itself, as ASCII, and no file has them"
NAMED_BY_FILE = "no: the name of the file is the entity"

# What sources call a reject for its place, its time, or a number that is not finite.
USUAL = {"malformed": "malformed", "place": "malformed", "time": "malformed"} | {
    "number": "not_finite"
}
OWN = {"place": "bad_position", "time": "bad_time", "number": "bad_position"}
LABELS = dict.fromkeys(USUAL, "label_malformed")
RULES = {source.name: USUAL for source in SOURCES} | {
    "hurdat2": USUAL | {"number": "malformed"},
    "geolife labels": LABELS,
    "icebergs": USUAL | {"time": "malformed_date"},
    "gpx": USUAL | {"time": "malformed_time"},
    **{source.name: USUAL | OWN for source in SOURCES if source.dataset == "own"},
}

OWN_TEXT = ("own csv", "own epoch", "own local", "own tsv")
LINES = ("own geojson line", "own kml track")  # their one line holds all records
GEOJSON, KML = ("own geojson", "own geojson line"), ("own kml", "own kml track")
WHOLE_JSON = ("own json", *GEOJSON)  # one value holds the file
OWN_FORMS = (*OWN_TEXT, "own jsonl", "own parquet", *WHOLE_JSON, *KML)
OWN_WRITTEN = tuple(name for name in OWN_FORMS if name != "own epoch")
HEADERLESS = ("cabspotting", "tdrive", "ais_tracktable", "opensky", "gpx", "own jsonl", "own json",
              "own parquet")  # fmt: skip
HEADED = ("ais_noaa", "bus_avl", "porto", "icebergs")  # a header names their columns
COUNTED = ("porto", "cabspotting", "opensky", "own epoch")  # times are numbers


def each(names: tuple[str, ...], cell: str) -> dict[str, str]:
    return dict.fromkeys(names, cell)


def unless(names: tuple[str, ...], cell: str) -> dict[str, str]:
    """The same cell for every source but these."""
    return {source.name: cell for source in SOURCES if source.name not in names}


EVERY = "every other source"
EXPECTED: dict[str, dict[str, str]] = {
    # The bytes of the file.
    "none": {EVERY: "012"},
    "truncated file": {
        EVERY: "01 malformed",
        **each((*WHOLE_JSON, "own parquet", "own kml track"), "- unreadable"),
        "own kml": "01 unreadable",
    },
    "truncated .gz": {EVERY: "- unreadable"},
    "flipped byte in .gz": {EVERY: "- unreadable"},
    "junk after .gz": {EVERY: "- unreadable"},
    "plain file named .gz": {EVERY: "- unreadable"},
    "whole .gz": {EVERY: "012"},
    "gzip not named so": {EVERY: "012"},
    "empty file": {EVERY: "- empty", "gpx": "- malformed"},  # no XML at all
    "no record": {
        EVERY: "- empty",
        **each(("own parquet", *KML), "- unreadable"),  # no row, and nothing but drawings
    },
    "HTML": {
        EVERY: "- malformed*2",
        **each(HEADED, "- unreadable malformed"),
        "geolife": "- empty",  # it is shorter than a header
        "opensky": "- malformed",
        "gpx": "- malformed",
        **each(OWN_FORMS, "- unreadable"),
        "own jsonl": "- malformed*2",
    },
    "UTF-8 mark": {EVERY: "012", "own parquet": BINARY},
    "UTF-16": {
        EVERY: "- malformed+",
        **each(HEADED, "- unreadable malformed+"),
        "hurdat2": "- malformed+ no_storm*3",
        "gpx": "012",  # XML says its encoding
        **each(OWN_FORMS, "- unreadable"),
        **each(KML, "012"),
        "synthetic": GENERATED,
    },
    "Latin-1": {
        EVERY: "02 malformed",
        "gpx": "0 malformed",  # nothing behind a break in XML can be read
        "own kml": "0 unreadable",
        "own kml track": "- unreadable",  # no place has a time before the track ends
        **each(WHOLE_JSON, "- unreadable"),
        "own parquet": BINARY,
        "synthetic": GENERATED,
    },
    "CRLF": {EVERY: "012", "own parquet": BINARY},
    "bare CR": {
        EVERY: "02 malformed",
        **each(WHOLE_JSON, "- unreadable"),
        **each(KML, "02 place"),  # a line break inside a text of XML
        "own parquet": BINARY,
        "synthetic": GENERATED,
    },
    "NUL": {
        EVERY: "02 malformed",
        "gpx": "0 malformed",
        **each(OWN_TEXT, "02 place"),
        **each(WHOLE_JSON, "- unreadable"),
        "own kml": "0 unreadable",
        "own kml track": "- unreadable",
        "own parquet": BINARY,
        "synthetic": GENERATED,
    },
    "open quote": {
        EVERY: "02 malformed",
        "opensky": "2 malformed",  # the border of two objects is gone: both are one reject
        "icebergs": "02 time",
        **each(("gpx", *KML), "012"),  # text between elements
        **each(WHOLE_JSON, "- unreadable"),
        "own parquet": BINARY,
    },
    "10 MB line": {
        EVERY: "02 malformed",
        "opensky": "- malformed+",  # the borders of all objects are gone: a reject a megabyte
        **each(("gpx", *KML), "02"),  # text between elements
        **each(WHOLE_JSON, "- unreadable"),
        "own parquet": BINARY,
    },
    "no last newline": {EVERY: "012", "own parquet": BINARY},
    "blank lines": {EVERY: "012", "own parquet": BINARY},
    # Headers and fields.
    "header again": {
        EVERY: "02 malformed",
        **each(HEADERLESS, NO_HEADER),
        "hurdat2": "02",  # the same storm goes on
        "geolife": "02 malformed*6",  # six lines
        "icebergs": "02 time",
        **each(OWN_TEXT, "02 time"),
        **each(GEOJSON, "- unreadable"),
        **each(KML, "02 unreadable"),
        "synthetic": NO_HEADER,
    },
    "header changed": {
        EVERY: "- malformed*4",
        **each(HEADED, "- unreadable malformed*3"),  # its line is the file's reason
        **each(HEADERLESS, NO_HEADER),
        "hurdat2": "- malformed no_storm*3",
        "geolife": "012",  # six lines, whatever they say
        "geolife labels": "012 malformed",
        **each((*OWN_TEXT, *GEOJSON, "own kml track"), "- unreadable"),
        "own kml": "012 unreadable",  # its placemarks say what they are, and it breaks at its end
        "synthetic": NO_HEADER,
    },
    "no header": {
        EVERY: "- malformed*3",
        **each(HEADED, "- unreadable malformed*2"),
        **each(HEADERLESS, NO_HEADER),
        "hurdat2": "- no_storm*3",
        "geolife": "012",  # the order of its fields is known
        "geolife labels": "012",
        **each((*OWN_TEXT, *GEOJSON, "own kml track"), "- unreadable"),
        "own kml": "0 unreadable",  # one element holds a file of XML
        "synthetic": NO_HEADER,
    },
    "field missing": {
        EVERY: "02 malformed",
        **each(("opensky", "own jsonl", "own json", "own parquet"), "02 no_position"),
        **each(("own geojson", "own kml"), "02 no_position"),
        "own geojson line": "- malformed*2",  # two vertices cannot have three times
        "own kml track": "- time*3",
    },
    "field more": {
        EVERY: "02 malformed",
        **each(("opensky", "gpx", "own jsonl", "own json", "own parquet"), "012"),  # has a name
        **each((*GEOJSON, *KML), "012"),
    },
    # Numbers and places.
    "text for a number": {EVERY: "02 place", "geolife labels": NO_PLACE},
    "empty number": {
        EVERY: "02 no_position",
        "own kml track": "02 place",  # two of three numbers: which of them is lost is not told
        **each(("porto", "opensky"), "02 malformed"),  # no JSON
        "ais_tracktable": "02 malformed",  # the last point of a line lacks its end
        "geolife labels": NO_PLACE,
    },
    "decimal comma": {
        EVERY: "02 place",
        **each(("own csv", "own epoch", "own local"), "02 malformed"),  # it parts two columns
        "geolife labels": NO_PLACE,
    },
    "NaN": {
        EVERY: "02 number",
        **each(OWN_FORMS, "02 no_position"),
        "geolife labels": NO_PLACE,
    },
    "infinity": {EVERY: "02 number", "opensky": "02 malformed", "geolife labels": NO_PLACE},
    "beyond double": {EVERY: "02 number", "opensky": "02 malformed", "geolife labels": NO_PLACE},
    "huge number": {
        EVERY: "02 out_of_range",
        "hurdat2": "02 malformed",
        "geolife labels": NO_PLACE,
    },
    "subnormal number": {EVERY: "012", "hurdat2": "02 malformed", "geolife labels": NO_PLACE},
    "latitude 90.5": {EVERY: "02 out_of_range", "geolife labels": NO_PLACE},
    "longitude 400": {EVERY: "02 out_of_range", "geolife labels": NO_PLACE},
    "longitude 240": {
        EVERY: "02 out_of_range",
        **each(("hurdat2", "icebergs", *OWN_FORMS), "012"),  # these count from 0 to 360 too
        "geolife labels": NO_PLACE,
    },
    "longitude 180": {EVERY: "012", "geolife labels": NO_PLACE},
    "pole": {EVERY: "012", "geolife labels": NO_PLACE},
    "lat and lon swapped": {EVERY: "02 out_of_range", "geolife labels": NO_PLACE},
    "microdegrees": {
        EVERY: "02 out_of_range",
        "hurdat2": "02 malformed",
        "geolife labels": NO_PLACE,
    },
    "null island": {
        EVERY: "012 | null_island",
        "icebergs": "02 no_position",  # its own word for no data
        "geolife labels": NO_PLACE,
    },
    "sentinels": {
        EVERY: "012",  # the attributes are NULL
        "porto": "02 missing_data",
        "icebergs": "02 no_position",
        **each(("geolife labels", "cabspotting", "tdrive", "ais_tracktable"), NO_SENTINELS),
        **each(("gpx", "synthetic", "own geojson line", *KML), NO_SENTINELS),
    },
    # Times.
    "no such day": {EVERY: "02 time", **each(COUNTED, EPOCH)},
    "text for a time": {EVERY: "02 time"},
    "empty time": {EVERY: "02 time", "gpx": "02 no_time"},
    "year 1970": {
        EVERY: "012 | before_satellites",
        **each(("hurdat2", "icebergs", "geolife labels"), "012"),  # are older, or tell no fix
        "opensky": "02 implausible_time",  # it began in 2013
    },
    "clock not set": {
        EVERY: "012 | unset_clock",
        **each(("hurdat2", "icebergs", "geolife labels"), "012"),
        "opensky": "02 implausible_time",
    },
    "year 2038": {EVERY: "02 in_the_future", "geolife labels": "012"},
    # No time scale of ours has a 61st second: a counted reject, the same for all sources.
    "leap second": {
        EVERY: "02 time",
        **each(COUNTED, EPOCH),
        "hurdat2": NO_SECONDS,
        "icebergs": NO_SECONDS,
    },
    "other unit of time": {
        **unless(COUNTED, WRITTEN_OUT),
        **each(("porto", "cabspotting"), "02 malformed"),
        **each(("opensky", "own epoch"), "02 implausible_time"),
    },
    "time with an offset": {
        EVERY: "012",  # read as it says
        **each(("hurdat2", "geolife", "geolife labels", "icebergs", *COUNTED), "02 time"),
    },
    "skipped local time": {
        **unless(("tdrive", "own local"), UTC),
        "tdrive": "02 no_such_local_time",
        "own local": "02 skipped_local_time",
    },
    "repeated local time": {
        **unless(("tdrive", "own local"), UTC),
        **each(("tdrive", "own local"), "012 | before_satellites"),
    },
    # Records.
    "no entity": {
        EVERY: "02 no_entity",
        **each(("geolife", "geolife labels", "cabspotting", "icebergs", "gpx"), NAMED_BY_FILE),
        **each(LINES, NAMED_BY_FILE),
        "hurdat2": "no: a header names the storm: see no header",
    },
    "empty container": {
        **unless(("porto", "ais_tracktable"), NO_LIST),
        "porto": "02 empty_list",
        "ais_tracktable": "02 malformed",
        **each(LINES, ONE_LINE),
    },
    "record twice": {
        EVERY: "0112 | exact_duplicate",
        "geolife labels": "0112",
        "synthetic": "0112 | exact_duplicate*2",  # an order makes two points
    },
    "instant at two places": {
        EVERY: "0112 | same_instant",
        "geolife labels": NO_PLACE,
        "synthetic": GENERATED,
    },
    "out of order": {EVERY: "201"},
}
# An order holds neither places nor times, and no entity.
FROM_ORDERS = [
    *list(FAULTS)[list(FAULTS).index("text for a number") : list(FAULTS).index("empty container")]
]


def cell(source_name: str, fault: str) -> str:
    """The expected outcome of a fault in a source."""
    if source_name == "synthetic" and fault in FROM_ORDERS:
        return GENERATED
    found = EXPECTED[fault]
    return found[source_name] if source_name in found else found[EVERY]


# What is NULL in the record that has the source's own sentinels, and in no other.
SENTINELS = {
    "hurdat2": ("wind_mps", "pressure_hpa"),
    "geolife": ("altitude_m",),
    "ais_noaa": ("speed_mps", "course_deg", "heading_deg", "imo"),
    "bus_avl": ("course_deg",),
    "opensky": ("speed_mps",),
    **dict.fromkeys((*OWN_TEXT, *WHOLE_JSON[:2], "own jsonl", "own parquet"), ("speed_mps",)),
}
