"""Row digests: what the rows of each file hold in each bucket, in whatever blocks they came.

Shapes: N rows, W bytes of a row.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

SCHEMA = pa.schema(
    {"file_id": pa.int64(), "bucket": pa.int32(), "kind": pa.string(), "digest": pa.string()}
)
TEXT_BYTES = 16


class RowDigests:
    """The digests so far, each of rows that come in the order of their file."""

    def __init__(self) -> None:
        self._so_far: dict[tuple[int, int, str], Any] = {}

    def add(self, kind: str, bucket: int, rows: pa.Table) -> None:
        """Take rows of a bucket; those of a file stand together."""
        file_id_N = rows["file_id"].to_numpy()
        row_NW = row_bytes(rows)
        starts = np.flatnonzero(np.diff(file_id_N, prepend=file_id_N[:1] - 1))
        for first, end in zip(starts, [*starts[1:], len(file_id_N)], strict=True):
            key = int(file_id_N[first]), bucket, kind
            if key not in self._so_far:
                self._so_far[key] = hashlib.sha256(str(rows.schema).encode())
            self._so_far[key].update(np.ascontiguousarray(row_NW[first:end]).data)

    def write(self, path: Path) -> None:
        rows = [
            {"file_id": file_id, "bucket": bucket, "kind": kind, "digest": digest.hexdigest()}
            for (file_id, bucket, kind), digest in sorted(self._so_far.items())
        ]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, compression="zstd")


def row_bytes(rows: pa.Table) -> NDArray[np.uint8]:
    """Rows as bytes (N, W): equal rows give equal bytes, however they are chunked or encoded."""
    parts = [np.zeros((rows.num_rows, 0), np.uint8)]
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        parts.append(column.is_valid().cast(pa.uint8()).to_numpy()[:, None])
        parts.append(value_bytes(column))
    return np.concatenate(parts, axis=1)


def value_bytes(column: pa.Array) -> NDArray[np.uint8]:
    """The values of a column as bytes, zero where there is none; of a text, its digest."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        encoded = column.dictionary_encode()
        texts = (text.encode() for text in encoded.dictionary.to_pylist())
        digests = [hashlib.blake2b(text, digest_size=TEXT_BYTES).digest() for text in texts]
        table = np.frombuffer(b"".join([*digests, bytes(TEXT_BYTES)]), np.uint8)
        index_N = pc.fill_null(encoded.indices, len(digests)).to_numpy()
        return table.reshape(-1, TEXT_BYTES)[index_N]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    elif pa.types.is_temporal(column.type):
        column = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
    value_N = np.ascontiguousarray(pc.fill_null(column, 0).to_numpy())
    return value_N.view(np.uint8).reshape(len(value_N), -1)
