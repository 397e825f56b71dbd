"""KML of your own data: tracks and timed points, and what stands in them that is no fix."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from helpers.kml_files import POINT, kml_of
from helpers.own_files import Rows, ingested, read, rules_of
from helpers.raw_files import points_of, zipped

from tasks.runtime.store import Store

NOON = datetime(2024, 3, 7, 12, tzinfo=UTC)


def told(rows: Rows) -> list[tuple[str, float, float]]:
    return [(row["entity_id"], row["lon_deg"], row["lat_deg"]) for row in rows]


def instant(second: int) -> str:
    return (NOON + timedelta(seconds=second)).isoformat()


def test_tracks_and_timed_points_of_kml_are_read_and_drawings_are_none() -> None:
    body = kml_of([instant(1), instant(2)], [[1.5, 0.125], [1.5, 0.25]], extra=POINT)
    rows, rejects = read({"r.kml": body}, form="kml")
    assert rejects == []
    assert told(rows) == [("r", 1.5, 0.125), ("r", 1.5, 0.25), ("r", 7.5, 8.5)]
    assert [row["source_trip_id"] for row in rows] == ["1", "1", None]
    rows, _rejects = read({"r.kml": body}, form="kml", entity="placemark", decimal="comma")
    assert told(rows) == [("ride", 1.5, 0.125), ("ride", 1.5, 0.25), ("p", 7.5, 8.5)]


def test_the_time_of_a_view_is_none_of_its_place_and_a_timed_line_is_a_drawing() -> None:
    view = "<ns0:LookAt><gx:TimeStamp><ns0:when>2001</ns0:when></gx:TimeStamp></ns0:LookAt>"
    line = "<ns0:LineString><ns0:coordinates>1,2 3,4</ns0:coordinates></ns0:LineString>"
    body = kml_of(
        [instant(1)],
        [[1.5, 0.125]],
        extra=POINT.replace("<ns0:Point>", view + line + "<ns0:Point>"),
    )
    rows, rejects = read({"r.kml": body}, form="kml")
    assert rejects == []
    assert [row["tracked_at"].day for row in rows] == [7, 8]


@pytest.mark.parametrize(
    ("times", "geometry", "rule"),
    [
        ("<TimeSpan><begin>2024-03-08</begin><end>2024-03-09</end></TimeSpan>", "7,8", "bad_time"),
        ("<TimeSpan><end>2024-03-09</end></TimeSpan>", "7,8", "bad_time"),
        ("<TimeSpan/>", "7,8", "bad_time"),
        ("<TimeStamp><when/></TimeStamp>", "7,8", "bad_time"),
        ("<TimeStamp><when>2024-03-08</when></TimeStamp>", "", "no_position"),
        ("<TimeStamp><when>2024-03-08</when></TimeStamp>", "7,5,8,25,0", "bad_position"),
    ],
)
def test_a_timed_place_that_is_no_fix_is_a_counted_reject(times, geometry, rule) -> None:
    point = f"<Point><coordinates>{geometry}</coordinates></Point>" if geometry else "<LineString/>"
    body = f"<kml><Placemark>{times}{point}</Placemark></kml>"
    rows, rejects = read({"a.kml": body.encode()}, form="kml")
    assert (rows, rules_of(rejects)) == ([], [(1, rule)])


def test_the_span_of_a_track_is_no_record_beside_its_places() -> None:
    span = "<ns0:TimeSpan><ns0:begin>2024-03-07</ns0:begin></ns0:TimeSpan><gx:Track>"
    body = kml_of([instant(1)], [[1.5, 0.125]]).replace(b"<gx:Track>", span.encode())
    rows, rejects = read({"r.kml": body}, form="kml")
    assert (told(rows), rejects) == ([("r", 1.5, 0.125)], [])


@pytest.mark.parametrize("place", ["1.5  0", "0.5", "1 5 2 5 0", "1,5 2,5 0"])
def test_a_place_of_a_track_with_other_numbers_than_its_others_is_none(place) -> None:
    """A lost latitude would make one of the altitude, and a comma without its digit another."""
    body = kml_of([instant(1), instant(2)], [[1.5, 0.125], [77, 77]])
    body = body.replace(b"77 77 0", place.encode())
    rows, rejects = read({"r.kml": body}, form="kml")
    assert told(rows) == [("r", 1.5, 0.125)]
    assert rules_of(rejects) == [(2, "bad_position")]


def test_a_number_of_kml_with_an_element_inside_is_none() -> None:
    """Its end alone would be another number."""
    whole = kml_of([instant(1), instant(2)], [[1.5, 0.125], [1.5, 0.25]], extra=POINT)
    body = whole.replace(b"1.5 0.25", b"1<gx:x><gx:when/></gx:x>1.5 0.25")
    body = body.replace(b"7.5,8.5", b"1<gx:when/>7.5,8.5")
    rows, rejects = read({"r.kml": body}, form="kml")
    assert told(rows) == [("r", 1.5, 0.125)]
    assert rules_of(rejects) == [(2, "bad_position"), (3, "bad_position")]


def test_a_track_inside_a_track_is_read_once() -> None:
    """No writer nests them, but a file that was put together may."""
    track = "<Track><when>{}</when><coord>{} 2.5 0</coord>{}</Track>"
    inner = track.format(instant(2), 7.5, "")
    body = f"<kml><Placemark>{track.format(instant(1), 1.5, inner)}</Placemark></kml>"
    rows, rejects = read({"r.kml": body.encode()}, form="kml")
    assert (told(rows), rejects) == ([("r", 1.5, 2.5), ("r", 7.5, 2.5)], [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_kml_in_utf_16_is_read_to_its_end(encoding: str, end: str) -> None:
    text = f"\ufeff{kml_of([instant(1)], [[1.5, 0.125]]).decode()}{end}"
    rows, rejects = read({"r.kml": text.encode(encoding)}, form="kml")
    assert (told(rows), rejects) == ([("r", 1.5, 0.125)], [])


def test_kml_in_an_archive_is_read(store: Store) -> None:
    body = kml_of([instant(1), instant(2)], [[1.5, 0.125], [1.5, 0.25]])
    source = zipped(store.root.parent / "ride.kmz", {"doc.kml": body, "files/a.png": b"png"})
    _receipt, snapshot = ingested(source, store, form="kml", files="*.kml")
    assert told(points_of(snapshot)) == [("doc", 1.5, 0.125), ("doc", 1.5, 0.25)]


def test_places_of_kml_without_a_time_for_each_have_none() -> None:
    body = kml_of([instant(1)], [[1.5, 0.125], [1.5, 0.25]], extra=POINT)
    rows, rejects = read({"r.kml": body}, form="kml")
    assert told(rows) == [("r", 7.5, 8.5)]
    assert rules_of(rejects) == [(1, "bad_time"), (2, "bad_time")]


def test_kml_that_holds_no_track_or_breaks_is_named() -> None:
    whole = kml_of([instant(1)], [[1.5, 0.125]], extra=POINT)
    cut = whole[: whole.index(b"<ns0:coordinates>7")]
    rows, rejects = read({"cut.kml": cut, "drawn.kml": kml_of([], [])}, form="kml")
    assert told(rows) == [("cut", 1.5, 0.125)]
    reasons = {row["file_name"]: (row["rule"], row["raw_text"]) for row in rejects}
    assert reasons["drawn.kml"] == ("unreadable", "holds no gx:Track, and no point with a time")
    assert reasons["cut.kml"][1].startswith("is not readable as KML from some place on")
    _rows, [reject] = read({"a.kml": b"<!DOCTYPE a [<!ENTITY b 'c'>]><kml/>"}, form="kml")
    assert reject["rule"] == "unreadable"


def test_a_tag_of_many_megabytes_is_given_up_early() -> None:
    """Each piece of it would be read again with all that follows."""
    rows, [reject] = read({"a.kml": b'<kml a="' + b"x" * (3 << 20)}, form="kml")
    assert rows == []
    assert reject["raw_text"].endswith("a tag is longer than 1 MiB")
