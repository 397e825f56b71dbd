"""Transport modes of points, told by the labels in force."""

from __future__ import annotations

import pyarrow as pa

from tasks.database import Connection, glob_escaped, materialise
from tasks.ingest.snapshot import FilesInForce

NO_MODES = pa.schema({"point_id": pa.int64(), "mode": pa.string()}).empty_table()
SQL = (
    "intermediate/int_labels_in_force",
    "intermediate/int_modes",
    "intermediate/int_point_modes",
)


def label_points(con: Connection, files: FilesInForce) -> None:
    """Make `int_point_modes` of `int_points_in_force` and the labels in force of a bucket.

    Where labels overlap, the one that began last holds; of those that began together the one
    that ends first; of equal ones the first of the file.
    """
    if not files:
        con.register("int_point_modes", NO_MODES)
        return
    pairs = [(str(path), file_id) for path, file_ids in files for file_id in file_ids]
    materialise(
        con,
        "intermediate/int_labels_in_force",
        paths=[glob_escaped(path) for path, _ in files],
        part_paths=[path for path, _ in pairs],
        file_ids=[file_id for _, file_id in pairs],
    )
    materialise(con, "intermediate/int_modes")
    materialise(con, "intermediate/int_point_modes")
