"""Storms that we made up, as a file of best tracks."""

from __future__ import annotations


def storms(num_storms: int, num_points: int) -> str:
    """Best tracks that we made up: storms that drift west and north, six hours a step."""
    lines = []
    for storm in range(1, num_storms + 1):
        lines.append(f"AL{storm:02d}2001,            UNNAMED, {num_points:6d},")
        for point in range(num_points):
            day, hour = divmod(6 * point, 24)
            lat, lon = 10 + 0.3 * point + 0.1 * storm, 30 + 0.5 * point + 0.2 * storm
            wind = ", ".join(["-999"] * 12)
            lines.append(
                f"200108{day + 1:02d}, {hour:02d}00,  , TS, {lat:.1f}N, {lon:5.1f}W,  45, -999, "
                f"{wind},"
            )
    return "\n".join(lines) + "\n"
