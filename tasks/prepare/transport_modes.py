"""Transport modes of points, told by the labels in force."""

from __future__ import annotations

import pyarrow as pa

from tasks.database import IN_FORCE, Connection, load_in_force, materialise
from tasks.ingest.snapshot import FilesInForce

NO_MODES = pa.schema({"point_id": pa.int64(), "mode": pa.string()}).empty_table()
SQL = (IN_FORCE, "intermediate/int_modes", "intermediate/int_point_modes")


def label_points(con: Connection, files: FilesInForce) -> None:
    """Make `int_point_modes` of `int_points_in_force` and the labels in force of a bucket.

    Where labels overlap, the one that began last holds; of those that began together the one
    that ends first; of equal ones the first of the file.
    """
    if not files:
        con.register("int_point_modes", NO_MODES)
        return
    load_in_force(con, "int_labels_in_force", files)
    materialise(con, "intermediate/int_modes")
    materialise(con, "intermediate/int_point_modes")
