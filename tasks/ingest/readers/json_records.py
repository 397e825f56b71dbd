"""JSON records: a list of flat objects, or an object a line; never the whole in memory.

A file is cut between its objects, so that each stands on a line of its own; the number of the line
is then the number of the record.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

import pyarrow as pa
import pyarrow.json

from tasks.ingest.inventory import Member
from tasks.ingest.readers.records import Line, Piece, RecordBlock, block_of, merged

# Objects are flat. A text that looks like a boundary cuts its own record in two malformed ones.
BOUNDARY = re.compile(rb"\}\s*+(?:,\s*+)?\{")
MAX_RECORD_BYTES = 1 << 20
NO_END = b"the file ends before its list does"


def object_lines(member: Member) -> Iterator[bytes]:
    """The records of a file, one a line."""
    return (text + b"\n" for text in json_lines(member.chunks()))


def json_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Records, or several joined by line feeds, without the brackets around the list."""
    stream = (chunk.replace(b"\n", b" ").replace(b"\r", b" ") for chunk in chunks)
    waiting = opening(stream)
    is_list = waiting.startswith(b"[")
    waiting = waiting.removeprefix(b"[")
    for chunk in chain([b""], stream):
        done, _feed, waiting = BOUNDARY.sub(b"}\n{", waiting + chunk).rpartition(b"\n")
        if done:
            yield done
        if len(waiting) > MAX_RECORD_BYTES:
            yield waiting
            waiting = b""
    last = waiting.strip()
    has_end = not is_list or last.endswith(b"]")
    last = last.removesuffix(b"]").strip() if is_list else last
    if last:
        yield last
    if not has_end and (not last or last.endswith((b"}", b","))):
        yield NO_END


def opening(stream: Iterator[bytes]) -> bytes:
    """The first bytes that are more than a byte order mark and blanks, without those."""
    waiting = b""
    for chunk in stream:
        waiting += chunk
        if waiting.removeprefix(BOM_UTF8).strip() and len(waiting) > len(BOM_UTF8):
            break
    return waiting.removeprefix(BOM_UTF8).lstrip()


def parsed_objects(lines: Sequence[Line], schema: pa.Schema) -> pa.Table | None:
    """The typed columns of records, or None where any line is not exactly one of them."""
    texts = [text.strip() for _number, text in lines]
    if not all(text.startswith(b"{") and b"\0" not in text for text in texts):
        return None
    body = b"\n".join(texts)
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(body),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(body) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
        table.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == len(lines) else None


def objects_block(group: Sequence[Piece], schema: pa.Schema) -> RecordBlock:
    """The records of some pieces; a line that is no object of the schema is malformed."""
    parse, empty = partial(parsed_objects, schema=schema), schema.empty_table()
    return merged([block_of(piece, parse, empty) for piece in group])
