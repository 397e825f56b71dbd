"""Error columns: what tables tell of each task, and how each number of a row of scores is spelt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from model.evaluation.judged_tasks import (
    FORECAST,
    INFILL,
    NEXT_REGION,
    NEXT_STAY,
    NEXT_TRAVEL,
    PATH_INFERENCE,
    RECOVER,
    TRAVEL_TIME,
)
from model.evaluation.verdict import (
    coverage_verdict,
    verdict,
)
from tasks.report.markup import percent, share, spoken
from tasks.report.units import Unit, duration

Row = Mapping[str, Any]
Spell = Callable[[Row], str]
Columns = Mapping[str, Spell]
INTERVAL = "95 % interval"
SKILL_INTERVAL, VERDICT = "its interval", "verdict"


def size(metric: str, unit: Unit | None = None) -> Spell:
    """A distance or a duration, in the unit of the table; nothing where there is none."""
    return lambda row: (unit or row["unit"]).of(row[metric]) if row.get(metric) is not None else ""


def duration_cell(row: Row, metric: str) -> str:
    """A duration with its unit, in a table of another one."""
    return duration(row[metric]) if row.get(metric) is not None else ""


def step_words(row: Row) -> str:
    """A step, and how long after the last known point it is."""
    return f"{row['horizon']} ({row['after']})" if row.get("after") else str(row["horizon"])


def part(metric: str) -> Spell:
    return lambda row: share(row.get(metric, math.nan))


def interval(row: Row) -> str:
    if row["low"] is None:
        return ""
    return f"{row['unit'].of(row['low'])}–{row['unit'].of(row['high'])}"


def skill_interval(row: Row) -> str:
    if row.get("skill_low") is None:
        return ""
    return f"{percent(row['skill_low'])} to {percent(row['skill_high'])}"


def skill_verdict(row: Row) -> str:
    """Whether a skill is one, in words."""
    if "skill" not in row:
        return ""
    bounds = row.get("skill_low"), row.get("skill_high")
    return verdict(row["skill"], *bounds, row["num_windows"], row["num_entities"])


def covered(metric: str) -> Spell:
    """A share of windows, and its interval."""

    def spell(row: Row) -> str:
        if metric not in row:
            return ""
        low, high = (row.get(f"{metric}_{end}") for end in ("low", "high"))
        bracket = "" if low is None or high is None else f" ({low:.0%} to {high:.0%})"
        return share(row[metric]) + bracket

    return spell


def coverage_words(row: Row) -> str:
    """Whether four fifths of many windows lie within the areas that promise it."""
    if "coverage_80" not in row:
        return ""
    num_windows = row.get("coverage_80_windows", row["num_windows"])
    bounds = row.get("coverage_80_low"), row.get("coverage_80_high")
    return coverage_verdict(row["coverage_80"], *bounds, num_windows, row["num_entities"])


def pit_words(row: Row) -> str:
    return " ".join(f"{100 * row[f'pit_{tenth}0']:.0f}" for tenth in range(1, 11))


COMING = {"seen": "a region seen", "new": "a new region", "unknown": "an unknown region"}


def mask_words(mask: str) -> str:
    """What a mask hides, in words."""
    kind, _, number = mask.rpartition("_")
    words = {"keep_1": f"all but 1/{number}", "block": f"a block of {number}"}
    whole = {"ends": "all but the ends", "all": "any of these", **COMING}
    return words.get(kind, whole.get(mask, spoken(mask)))


MODEL: Mapping[str, Spell] = {"model": lambda row: spoken(row["model"])}
WINDOWS: Mapping[str, Spell] = {"windows": lambda row: f"{row['num_windows']:,}"}
SAMPLED: Mapping[str, Spell] = {
    "windows": lambda row: f"{row.get('coverage_80_windows', row['num_windows']):,}"
}
HELD, RAW = "80 % areas are", "80 %, raw"
COVERAGE: Mapping[str, Spell] = {
    f"within {percent_held} %": covered(f"coverage_{percent_held}") for percent_held in (50, 80, 95)
} | {RAW: covered("raw_coverage_80"), HELD: lambda row: coverage_words(row)}
SKILL: Mapping[str, Spell] = {
    "skill": lambda row: percent(row["skill"]) if "skill" in row else "",
    SKILL_INTERVAL: lambda row: skill_interval(row),
    VERDICT: lambda row: skill_verdict(row),
}
RECOVERY: Mapping[str, Spell] = {
    "hidden": lambda row: mask_words(row["mask"]),
    **MODEL,
    **WINDOWS,
    "MAE": size("mae_m"),
    INTERVAL: interval,
    "p50": size("mae_p50_m"),
    "p90": size("mae_p90_m"),
    "RMSE": size("rmse_m"),
    **SKILL,
}
NEXT_VISIT: Mapping[str, Spell] = {
    "comes": lambda row: mask_words(row["mask"]),
    **MODEL,
    **WINDOWS,
}
NEXT_DURATION: Mapping[str, Spell] = {
    **NEXT_VISIT,
    "CRPS": size("crps_s"),
    INTERVAL: interval,
    **{f"within {minutes} min": part(f"within_{minutes}_min") for minutes in (5, 10, 20)},
    "80 % areas hold": covered("coverage_80"),
    "NLL": lambda row: f"{row['nll']:.2f}" if "nll" in row else "",
    **SKILL,
}
# The columns of a task, each with how it is spelt; a new task is one entry here.
COLUMNS: Mapping[str, Mapping[str, Spell]] = {
    FORECAST: {
        "step": step_words,
        **MODEL,
        **WINDOWS,
        "ADE": size("ade_m"),
        INTERVAL: interval,
        "p50": size("ade_p50_m"),
        "p90": size("ade_p90_m"),
        "FDE": size("fde_m"),
        **SKILL,
    },
    RECOVER: RECOVERY,
    PATH_INFERENCE: RECOVERY,
    TRAVEL_TIME: {
        **MODEL,
        **WINDOWS,
        "MAE": size("mae_s"),
        INTERVAL: interval,
        "RMSE": size("rmse_s"),
        "MAPE": part("mape"),
        **SKILL,
    },
    NEXT_REGION: {
        **NEXT_VISIT,
        "NLL": size("nll"),
        INTERVAL: interval,
        **{f"first {hit}": part(f"acc_{hit}") for hit in (1, 5, 10, 20)},
        "MRR": lambda row: f"{row['mrr']:.3f}",
        "NDCG@10": lambda row: f"{row['ndcg_10']:.3f}",
        **SKILL,
    },
    NEXT_TRAVEL: NEXT_DURATION,
    NEXT_STAY: NEXT_DURATION,
    INFILL: {
        **MODEL,
        **WINDOWS,
        "misplaced": size("misplaced_share"),
        INTERVAL: interval,
        "regions right": part("region_acc"),
        "edits": part("edit_share"),
        "number right": part("num_right"),
        "likeliest number right": part("num_acc"),
        "first arrival": lambda row: duration_cell(row, "arrival_crps_s"),
        "last departure": lambda row: duration_cell(row, "departure_crps_s"),
        **SKILL,
    },
}


NEXT_SPREAD: Mapping[str, Spell] = {
    **NEXT_VISIT,
    **{name: spell for name, spell in COVERAGE.items() if name != RAW},
    "CRPS": size("crps_s"),
    "NLL": lambda row: f"{row['nll']:.2f}" if "nll" in row else "",
}
CALIBRATION_COLUMNS: Mapping[str, Columns] = {
    FORECAST: {
        "step": step_words,
        **MODEL,
        **SAMPLED,
        **COVERAGE,
        "energy score": size("energy_score_m"),
        "minADE_5": size("minade_5_m"),
        "PIT": lambda row: pit_words(row),
    },
    TRAVEL_TIME: {
        **MODEL,
        **SAMPLED,
        **COVERAGE,
        "CRPS": size("crps_s"),
        "NLL": lambda row: f"{row['nll']:.2f}" if "nll" in row else "",
    },
    NEXT_TRAVEL: NEXT_SPREAD,
    NEXT_STAY: NEXT_SPREAD,
}
