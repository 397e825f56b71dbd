"""Stays and visits of the kept points of a bucket: marked on the points, never cut out of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

import sql
from model.earth.arrays import places_within
from tasks.config.pipeline import StayConfig
from tasks.database import Connection
from tasks.prepare.row_order import is_new, order_of, ranks

MARTS = ("marts/stays", "marts/visits")
SQL = ("intermediate/int_points_kept", *MARTS)


def mark_stays(con: Connection, rules: StayConfig) -> None:
    """Tell which points are parts of stays, when those end, and which location each is at.

    The tables `int_stay_points`, `int_stay_ends` and `int_stay_locations` are made of the points
    in trips. A stay may go on over the end of a trip: only a silence of its own limit ends it.
    """
    from model.earth.point_rules import location_numbers, stays

    kept = con.sql(sql.read("intermediate/int_points_kept")).to_arrow_table()
    names = ("point_id", "tracked_us", "lon_deg", "lat_deg")
    columns = ranks(kept["entity_id"]), *(kept[name].to_numpy() for name in names)
    order = order_of(columns[0], columns[2])  # no two points of an entity share an instant
    entity_N, point_id_N, tracked_us_N, lon_deg_N, lat_deg_N = (c[order] for c in columns)
    is_entity_start_N = is_new(entity_N)
    first_S, last_S, end_S = stays(
        is_entity_start_N,
        tracked_us_N,
        lon_deg_N,
        lat_deg_N,
        rules.radius_m,
        rules.min_stay_s,
        rules.max_gap_s,
        rules.end == "exit",
    )
    staypoint_id_S = point_id_N[first_S]  # a stay is named by its first point
    size_S = last_S - first_S + 1
    points = {
        "point_id": point_id_N[np.repeat(first_S, size_S) + places_within(size_S)],
        "staypoint_id": np.repeat(staypoint_id_S, size_S),
    }
    ends = {
        "staypoint_id": staypoint_id_S,
        "finished_at": pa.array(tracked_us_N[end_S], pa.timestamp("us", "UTC")),
    }
    con.register("int_stay_points", pa.table(points))
    con.register("int_stay_ends", pa.table(ends))
    founder_S = location_numbers(
        is_new(entity_N[first_S]), lon_deg_N[first_S], lat_deg_N[first_S], rules.radius_m
    )
    locations = {"staypoint_id": staypoint_id_S, "location_id": staypoint_id_S[founder_S]}
    con.register("int_stay_locations", pa.table(locations))
