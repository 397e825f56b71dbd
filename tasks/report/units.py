"""Units: distances and durations as people of a field read them, with the digits they can use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

NAUTICAL_MILE_M = 1_852.0
MANY_STEPS_S = 72_000.0  # where the first horizon is nearly a day, all are told in days


@dataclass(frozen=True)
class Unit:
    """A unit by its sign, and its size in metres or seconds."""

    sign: str
    size: float

    def of(self, value: float) -> str:
        """A value of metres or seconds, in this unit, without its sign."""
        return digits(value / self.size)


METRE, KILOMETRE, NAUTICAL_MILE = Unit("m", 1.0), Unit("km", 1e3), Unit("nmi", NAUTICAL_MILE_M)
SECOND, MINUTE, HOUR, DAY = (
    Unit("s", 1.0),
    Unit("min", 60.0),
    Unit("h", 3_600.0),
    Unit("d", 86_400.0),
)


NAT = Unit("nats", 1.0)  # of surprise
PERCENT = Unit("%", 0.01)


def digits(value: float) -> str:
    """Three significant digits, and all those before the point."""
    size = abs(value)
    places = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
    return f"{value:,.{places}f}"


def unit_of(metric: str, largest: float) -> Unit:
    """The unit of an error by the name of its metric; of seconds or metres as its size asks."""
    if metric == "nll":
        return NAT
    if metric.endswith("_share"):
        return PERCENT
    return duration_unit(largest) if metric.endswith("_s") else distance_unit(largest)


def distance_unit(largest_m: float) -> Unit:
    """Metres or kilometres, for distances that stand side by side."""
    return KILOMETRE if largest_m >= 2_000 else METRE


def duration_unit(largest_s: float) -> Unit:
    return next((unit for unit in (HOUR, MINUTE) if largest_s >= 2 * unit.size), SECOND)


def distance(value_m: float, is_nautical: bool = False) -> str:
    """A distance in a sentence; in nautical miles too, where the field reckons in them."""
    unit = KILOMETRE if abs(value_m) >= 999.5 else METRE
    text = f"{unit.of(value_m)} {unit.sign}"
    return (
        f"{text} ({NAUTICAL_MILE.of(value_m)} nmi)" if is_nautical and unit is KILOMETRE else text
    )


def duration(value_s: float) -> str:
    """A duration in a sentence."""
    unit = duration_unit(value_s)
    return f"{unit.of(value_s)} {unit.sign}"


def spelt_horizons(elapsed_s: Mapping[int, float]) -> dict[int, str]:
    """How long after the last known point each step is: seconds, minutes, hours or days."""
    known = {step: value_s for step, value_s in elapsed_s.items() if math.isfinite(value_s)}
    in_days = min(known.values(), default=0.0) >= MANY_STEPS_S
    return {step: horizon(value_s, in_days) for step, value_s in known.items()}


def horizon(value_s: float, in_days: bool = False) -> str:
    """Whole where it is nearly so: sampling is seldom exact."""
    fitting = (unit for unit in (HOUR, MINUTE) if value_s >= 0.99 * unit.size)
    unit = DAY if in_days else next(fitting, SECOND)
    value = value_s / unit.size
    is_whole = value >= 9.5 or abs(value - round(value)) < 0.05
    return f"{value:.0f} {unit.sign}" if is_whole else f"{value:.1f} {unit.sign}"
