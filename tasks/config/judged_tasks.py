"""Evaluation tasks and tracks: what models are judged on, each named once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

Task = Literal["forecast", "path_inference", "recover", "travel_time"]
FORECAST: Final = "forecast"
RECOVER: Final = "recover"
PATH_INFERENCE: Final = "path_inference"
TRAVEL_TIME: Final = "travel_time"
# What a family must serve for each. Path inference is recovery with the ends alone given.
ASKED_AS: Mapping[Task, str] = MappingProxyType(
    {
        FORECAST: "forecast",
        RECOVER: "recover",
        PATH_INFERENCE: "recover",
        TRAVEL_TIME: "travel_time",
    }
)
# Tracks: whether a model is told the times at which it is asked for places.
TIMES_GIVEN, TIMES_PREDICTED = "times_given", "times_predicted"


def judged_tasks(family: str, stored: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks that a family serves and that windows are stored for."""
    from model.families import FAMILIES

    served = FAMILIES[family].tasks
    return tuple(task for task, asked in ASKED_AS.items() if asked in served and task in stored)
