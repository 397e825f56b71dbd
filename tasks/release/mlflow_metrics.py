"""MLflow metrics: the scores of an evaluation as named numbers, as a registry keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.evaluation.generation.generation_rows import AUC, COPYING, LOST, SKILL, whole_rows
from model.evaluation.judged_tasks import FORECAST, GENERATE, TIMES_GIVEN, TRAVEL_TIME
from model.evaluation.score_table import ALL, chosen_rows
from tasks.report.error_columns import Row
from tasks.report.error_tables import read_scores
from tasks.report.generation_tables import of_split, read_generation

SENT = (
    *("ade_m", "fde_m", "mae_m", "mae_s", "rmse_m", "rmse_s", "mape", "skill"),
    *("coverage_50", "coverage_80", "coverage_95", "energy_score_m", "minade_5_m", "crps_s", "nll"),
    *("acc_1", "acc_5", "acc_10", "acc_20", "mrr", "ndcg_10"),
    *("misplaced_share", "region_acc", "edit_share", "num_right", "num_acc"),
    *("arrival_crps_s", "departure_crps_s"),
    *("within_5_min", "within_10_min", "within_20_min"),
)


def mlflow_metrics(evaluated: Path) -> list[tuple[str, float]]:
    """(name, value) of the model and the baselines: `test/chemin/ade_m_step_10`, and of other
    tasks `test/recover/times_given/block_10/linear/mae_m`. What is no number is left out.
    """
    rows = chosen_rows(read_scores(evaluated), stratum=ALL)
    made_up = read_generation(evaluated)
    found = [
        pair
        for row in rows
        if row["metric"] in SENT and (row["task"] != FORECAST or row["track"] == TIMES_GIVEN)
        for pair in named(row)
    ]
    found += generation_metrics(made_up)
    return [(name, value) for name, value in found if math.isfinite(value)]


def generation_metrics(rows: Sequence[Row]) -> Iterator[tuple[str, float]]:
    """Of made-up trips `test/generate/gdm/copied_share` and the like, of all that were judged."""
    for split, model in dict.fromkeys((row["split"], row["model"]) for row in rows):
        told = whole_rows(of_split(rows, split), model)
        for measure in (AUC, SKILL, LOST, *COPYING):
            if measure in told:
                yield f"{split}/{GENERATE}/{model}/{measure}", told[measure]["value"]


def named(row: Row) -> Iterator[tuple[str, float]]:
    """The number of a row, and with the skill the number of windows that it rests on."""
    place, step = [row["split"]], ""
    if row["task"] == FORECAST:
        step = f"_step_{row['horizon']}"
    else:
        place += [row["task"], row["track"]]
        place += [] if row["task"] == TRAVEL_TIME else [row["mask"]]
    path = "/".join([*place, row["model"].replace("%", "percent")])  # which no name may hold
    yield f"{path}/{row['metric']}{step}", row["value"]
    if row["metric"] == "skill":
        yield f"{path}/num_windows{step}", float(row["num_windows"])
