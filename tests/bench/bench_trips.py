"""The trips of movingpandas' gap splitter, run in the environment of the peers."""

from __future__ import annotations

import json
import sys
import warnings
from datetime import timedelta


def gap_split(path: str, max_gap_s: float) -> list[tuple[str, str, str, int]]:
    """Entity, first and last instant and number of points of each trip."""
    warnings.simplefilter("ignore")
    import movingpandas
    import pandas as pd

    points = pd.read_parquet(path)
    points["source_trip_id"] = points["source_trip_id"].fillna("")
    points["tracked_at"] = points["tracked_at"].dt.tz_convert("UTC").dt.tz_localize(None)
    trips = []
    for (entity, _trip), rows in points.groupby(["entity_id", "source_trip_id"]):
        if len(rows) < 2:
            continue
        track = movingpandas.Trajectory(
            rows, entity, t="tracked_at", x="lon_deg", y="lat_deg", crs="EPSG:4326"
        )
        splitter = movingpandas.ObservationGapSplitter(track)
        for trip in splitter.split(gap=timedelta(seconds=max_gap_s)):
            ends = (
                f"{at:%Y-%m-%dT%H:%M:%S.%f}+00:00" for at in (trip.df.index[0], trip.df.index[-1])
            )
            trips.append((entity, *ends, len(trip.df)))
    return trips


if __name__ == "__main__":
    print(json.dumps(gap_split(sys.argv[1], float(sys.argv[2]))))
