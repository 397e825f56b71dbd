"""Stays and visits of the kept points of a bucket: marked on the points, never cut out of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tasks.config import StayConfig
from tasks.database import Connection, materialise

SQL = ("marts/stays", "marts/visits")


def mark_stays(con: Connection, rules: StayConfig) -> None:
    """Make `int_stay_points`, `stays` and `visits` of `int_points_kept`.

    A stay may go on over the end of a trip: only a silence longer than its own limit ends it.
    """
    from model.kernels import stays

    kept = con.sql(
        "select point_id, entity_id, tracked_us, lon_deg, lat_deg from int_points_kept"
    ).to_arrow_table()
    point_id_N = kept["point_id"].to_numpy()
    tracked_us_N = kept["tracked_us"].to_numpy()
    first_S, last_S, end_S = stays(
        is_new(kept["entity_id"]),
        tracked_us_N,
        kept["lon_deg"].to_numpy(),
        kept["lat_deg"].to_numpy(),
        rules.radius_m,
        rules.min_stay_s,
        rules.max_gap_s,
        rules.end == "exit",
    )
    size_S = last_S - first_S + 1
    offset_P = np.arange(size_S.sum()) - np.repeat(np.cumsum(size_S) - size_S, size_S)
    points = {
        "point_id": point_id_N[np.repeat(first_S, size_S) + offset_P],
        "staypoint_id": np.repeat(point_id_N[first_S], size_S),  # its first point names a stay
    }
    finished_at = pa.array(tracked_us_N[end_S], pa.timestamp("us", "UTC"))
    ends = {"staypoint_id": point_id_N[first_S], "finished_at": finished_at}
    con.register("int_stay_points", pa.table(points))
    con.register("int_stay_ends", pa.table(ends))
    materialise(con, "marts/stays")
    con.register("int_stay_locations", locations(con, rules.radius_m))
    materialise(con, "marts/visits")


def locations(con: Connection, radius_m: float) -> pa.Table:
    """The location of each stay: the id of the stay that founded it."""
    from model.kernels import location_numbers

    table = con.sql(
        "select staypoint_id, entity_id, lon_deg, lat_deg from stays"
    ).to_arrow_table()
    staypoint_id_S = table["staypoint_id"].to_numpy()
    founder_S = location_numbers(
        is_new(table["entity_id"]),
        table["lon_deg"].to_numpy(),
        table["lat_deg"].to_numpy(),
        radius_m,
    )
    return pa.table({"staypoint_id": staypoint_id_S, "location_id": staypoint_id_S[founder_S]})


def is_new(names: pa.ChunkedArray) -> np.ndarray:
    """Whether each name differs from the one before it; the first always does."""
    codes = names.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return np.r_[np.ones(min(len(codes), 1), np.bool_), codes[1:] != codes[:-1]]
