"""Judged tasks and their tracks: what a stored window asks, and what of it is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

FORECAST, RECOVER, PATH_INFERENCE, TRAVEL_TIME = (
    "forecast",
    "recover",
    "path_inference",
    "travel_time",
)
TIMES_GIVEN, TIMES_PREDICTED, TIMES_HIDDEN = "times_given", "times_predicted", "times_hidden"
ENDS, PATH_GIVEN = "ends", "path_given"
NEXT_REGION, NEXT_TRAVEL, NEXT_STAY = "next_region", "next_travel", "next_stay"
HISTORY, REGION_GIVEN, ARRIVAL_GIVEN = "history", "region_given", "arrival_given"
INFILL, BOTH_SIDES = "infill", "both_sides"
GENERATE = "generate"  # asked of starts, and judged on all answers together: it has no track
# The first track of a task is the one that headlines tell of.
TRACKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        FORECAST: (TIMES_GIVEN, TIMES_PREDICTED),
        RECOVER: (TIMES_GIVEN, TIMES_HIDDEN),
        PATH_INFERENCE: (TIMES_GIVEN,),
        TRAVEL_TIME: (ENDS, PATH_GIVEN),
        NEXT_REGION: (HISTORY,),
        NEXT_TRAVEL: (REGION_GIVEN,),
        NEXT_STAY: (ARRIVAL_GIVEN,),
        INFILL: (BOTH_SIDES,),
    }
)
# Tasks whose masks say what came, not what was shown: whoever is asked knows nothing of them, so
# that over all windows together no bar may be chosen by them.
TOLD_AFTERWARDS = frozenset({NEXT_REGION, NEXT_TRAVEL, NEXT_STAY})
# What an answerer is asked for each task: path inference is recovery with the ends alone given.
ASKED_AS: Mapping[str, str] = MappingProxyType(
    {
        FORECAST: "forecast",
        RECOVER: "recover",
        PATH_INFERENCE: "recover",
        TRAVEL_TIME: "travel_time",
        **dict.fromkeys((NEXT_REGION, NEXT_TRAVEL, NEXT_STAY), "next_visit"),
        INFILL: "infill",
    }
)


def judged_tasks(served: Collection[str], stored: Sequence[str]) -> tuple[str, ...]:
    """The stored tasks whose questions are among those that someone serves."""
    return tuple(task for task, asked in ASKED_AS.items() if asked in served and task in stored)
