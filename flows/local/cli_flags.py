"""CLI flags: the help of each tells its range, and what holds if it is not given."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import CliSettingsSource

from tasks.config.datasets import DATASETS


class Flags(CliSettingsSource[Any]):
    """The flags, whose help tells the range of each and what holds if none is given."""

    def _help_format(
        self, field_name: str, field_info: FieldInfo, *given: Any, **named: Any
    ) -> str:
        told: str = super()._help_format(field_name, field_info, *given, **named)
        own = DATASET_DEFAULTS.get(field_name)
        if own and field_info.default is None:
            value = getattr(DATASETS["hurdat2"], own)
            told = told.replace(NOTHING, f"(default: the dataset's own, {value} for hurdat2)")
        told = told.replace(f" {NOTHING}", "").replace(" (default: )", "")
        words = [
            f"{word} {getattr(limit, name):,}"
            for name, word in RANGE_WORDS.items()
            for limit in field_info.metadata
            if hasattr(limit, name)
        ]
        return f"{told} Range: {' '.join(words)}." if words else told


NOTHING = "(default: None)"
# What a dataset says of a field that is left empty.
DATASET_DEFAULTS = {
    **{name: name for name in ("max_speed_mps", "max_gap_s", "split_identities")},
    **{name: name for name in ("num_context", "num_horizon", "stride", "horizons", "gate_horizon")},
    "resolution": "region_resolution",
}
RANGE_WORDS = {"ge": "from", "gt": "above", "le": "to"}
