"""KML files of a track, by the writer of the standard library."""

from __future__ import annotations

import xml.etree.ElementTree as ET

KML, GX = "http://www.opengis.net/kml/2.2", "http://www.google.com/kml/ext/2.2"


def kml_of(times: list[str], line: list[list[float]], name: str = "ride", extra: str = "") -> bytes:
    """A KML file by the standard library's writer, with the drawing that most writers add."""
    ET.register_namespace("gx", GX)
    root = ET.Element(f"{{{KML}}}kml")
    placemark = ET.SubElement(ET.SubElement(root, f"{{{KML}}}Document"), f"{{{KML}}}Placemark")
    ET.SubElement(placemark, f"{{{KML}}}name").text = name
    if times or line:
        track = ET.SubElement(placemark, f"{{{GX}}}Track")
        for time in times:
            ET.SubElement(track, f"{{{KML}}}when").text = time
        for place in line:
            ET.SubElement(track, f"{{{GX}}}coord").text = " ".join(map(repr, [*place, 0]))
    drawing = ET.SubElement(ET.SubElement(root, f"{{{KML}}}Placemark"), f"{{{KML}}}LineString")
    ET.SubElement(drawing, f"{{{KML}}}coordinates").text = "1,2,0 3,4,0"
    return ET.tostring(root).replace(b"</ns0:kml>", extra.encode() + b"</ns0:kml>")


POINT = """<ns0:Placemark><ns0:name>p</ns0:name><ns0:TimeStamp><ns0:when>2024-03-08</ns0:when>
</ns0:TimeStamp><ns0:Point><ns0:coordinates>7.5,8.5,0</ns0:coordinates></ns0:Point></ns0:Placemark>
"""
