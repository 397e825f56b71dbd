"""Generation rows: what the table of made-up trips says of each generator. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

AUC, SKILL = "discriminator_auc_of_trees", "skill"
LEARNER_ERROR, LOST = "learner_error_m", "skill_lost"
COPYING = ("copied_share", "membership_auc_by_sample", "membership_auc_by_loss")
Row = Mapping[str, Any]


def bar_of(rows: Sequence[Row]) -> str | None:
    """The baseline that is hardest to tell from real trips, of those that copy nothing."""
    areas = bar_areas(rows)
    return min(areas, key=lambda name: (areas[name], name), default=None)


def bar_areas(rows: Sequence[Row]) -> dict[str, float]:
    """How well the trips of each baseline are told from real ones: of those that copy nothing.

    Of all of them where every one copies.
    """
    names = dict.fromkeys(row["model"] for row in rows if row["is_baseline"])
    whole = {name: told for name in names if AUC in (told := whole_rows(rows, name))}
    honest = {name: told for name, told in whole.items() if not copied_by(told)}
    return {name: told[AUC]["value"] for name, told in (honest or whole).items()}


def whole_rows(rows: Sequence[Row], model: str) -> dict[str, Row]:
    """What a model scores by each measure, with as many trips as were judged."""
    own = [row for row in rows if row["model"] == model]
    return {row["measure"]: row for row in sorted(own, key=lambda row: row["num_trips"])}


def copied_by(told: Mapping[str, Row]) -> tuple[str, ...]:
    """The measures by which someone gives train away: above what real trips score by chance."""
    return tuple(
        name for name in COPYING if name in told and told[name]["value"] > told[name]["floor_high"]
    )
