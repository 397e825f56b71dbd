"""Porto reader: a trip a line, with the list of its [lon, lat] vertices in one column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.earth.arrays import places_within
from tasks.config.datasets import Layout
from tasks.ingest.readers.delimited import decode_delimited, parser_of
from tasks.ingest.readers.records import Piece, Reader, RecordBlock, parsable, placed

VERTEX = Layout(
    columns={"lon_deg": "number", "lat_deg": "number"},
    order=("lon_deg", "lat_deg"),
    null_values=("",),
)
POLYLINE = r"^\[\[[^\[\]\r\n]*(\],\[[^\[\]\r\n]*)*\]\]$"


def decode_porto(pieces: Iterable[Piece], layout: Layout) -> Iterator[RecordBlock]:
    """Vertices of trips: each is a record of its own."""
    for block in decode_delimited(pieces, layout):
        yield exploded(block, layout)


def exploded(block: RecordBlock, layout: Layout) -> RecordBlock:
    """A record for each vertex; a list that is empty or cannot be read stays one record."""
    lists = pc.replace_substring(block.records["polyline"].combine_chunks(), " ", "")
    is_list = pc.match_substring_regex(lists, POLYLINE).to_numpy(zero_copy_only=False)
    num_vertices = np.where(is_list, pc.count_substring(lists, "],[").to_numpy() + 1, 0)
    num_records = np.maximum(num_vertices, 1)
    line = np.repeat(np.arange(len(lists)), num_records)
    lon_deg, lat_deg = vertices_of(lists.filter(pa.array(is_list)), is_list[line])
    trips = {name: block.records[name].combine_chunks() for name in layout.columns}
    code = pa.array(line.astype(np.int32))
    columns = {
        name: pa.DictionaryArray.from_arrays(code, trip)
        for name, trip in (trips | {"polyline": lists}).items()
    }
    index = places_within(num_records)
    extra = {
        "vertex_number": pa.array(index),
        "num_vertices": pa.array(num_vertices[line]),
        "lon_deg": lon_deg,
        "lat_deg": lat_deg,
    }
    file_id = block.records["file_id"].to_numpy()[line]
    line_number = block.records["line_number"].to_numpy()[line]
    return replace(
        block,
        records=placed(file_id, line_number, pa.table(columns | extra), index),
        num_records=Counter(file_id.tolist()) + Counter(place[0] for place in block.malformed),
    )


def vertices_of(lists: pa.Array, is_vertex: np.ndarray) -> tuple[pa.Array, pa.Array]:
    """Lon and lat of all vertices, parsed as lines of their own; NULL where there is none."""
    lines = pc.replace_substring(pc.utf8_trim(lists, characters="[]"), "],[", "\n")
    body = "".join(f"{text}\n" for text in lines.to_pylist()).encode()
    texts = list(enumerate(body.split(b"\n")[:-1]))
    good, table = parsable(texts, parser_of(VERTEX, VERTEX.order))
    row = np.full(len(is_vertex), -1)
    if table is None:
        return (pa.nulls(len(row), pa.float64()), pa.nulls(len(row), pa.float64()))
    row[np.flatnonzero(is_vertex)[[number for number, _text in good]]] = np.arange(len(good))
    take = pa.array(row, mask=row < 0)
    lon_deg, lat_deg = (table[name].combine_chunks().take(take) for name in VERTEX.order)
    return lon_deg, lat_deg


READER = Reader(decode_porto)
