"""What a family is judged on: the stored tasks that it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass

FORECAST, RECOVER, PATH_INFERENCE, TRAVEL_TIME = (
    "forecast",
    "recover",
    "path_inference",
    "travel_time",
)
# Path inference is recovery with the ends alone given.
ASKED_AS: Mapping[str, str] = MappingProxyType(
    {
        FORECAST: "forecast",
        RECOVER: "recover",
        PATH_INFERENCE: "recover",
        TRAVEL_TIME: "travel_time",
    }
)


def judged_tasks(family: str, stored: Sequence[str]) -> tuple[str, ...]:
    """The tasks that a family serves and that windows are stored for."""
    from model.families import FAMILIES

    served = FAMILIES[family].tasks
    return tuple(task for task, asked in ASKED_AS.items() if asked in served and task in stored)


Task = Literal["forecast", "path_inference", "recover", "travel_time"]


TIMES_GIVEN, TIMES_PREDICTED = "times_given", "times_predicted"
