"""Visit frames: the questions that a registered model answers about long frames of visits.

One row is a visit: whose, from when to when, and where. A stay that goes on has no `left_at`. The
ids are in `entity_id`, or, where there is none, in `trajectory_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from ..interface.flat_visits import FlatVisits, sorted_visits
from . import visit_serving
from .frames import as_frame, as_us, frame_of, instants, numbered, numbers, write_answers
from .serving import Trained, check_controls, check_task, load_trained

IDS = ("entity_id", "trajectory_id")
TIMES = ("arrived_at", "left_at")
PLACE = ("lon_deg", "lat_deg")
COLUMNS = (*TIMES, *PLACE)
NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})
# What a record may tell of a visit, and what holds where it does not.
FLAGS: Mapping[str, Any] = MappingProxyType({"is_censored": False, "is_way_seen": True})
NOWHERE: Mapping[str, Any] = MappingProxyType(dict.fromkeys(PLACE, np.nan))


def opened(bundle: Path, params: Mapping[str, Any], weights_sha256: str) -> VisitFrames:
    """The model of a bundle; the parameters are taken where the caller does not choose."""
    defaults = visit_serving.VisitParams(**params)
    return VisitFrames(load_trained(bundle, weights_sha256), defaults)


@dataclass(frozen=True)
class VisitFrames:
    """A trained model as it is asked about visits; each of its tasks is a method of that name."""

    trained: Trained
    defaults: visit_serving.VisitParams

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.trained.tasks

    def answer(self, visits: Any, choices: dict[str, Any]) -> pd.DataFrame:
        """The answer of the task that the choices name."""
        task = self.defaults.with_choices(choices).task
        check_task(self.trained.model, task)
        answer: pd.DataFrame = getattr(self, task)(visits, **choices)
        return answer

    def params_of(self, task: str, choices: dict[str, Any]) -> visit_serving.VisitParams:
        """The caller's choices in place of the defaults."""
        params = self.defaults.with_choices({"task": task} | choices)
        check_task(self.trained.model, params.task)
        if params.task != task:
            raise ValueError(f"{task} was called with the task {params.task!r}; leave it out")
        return params

    # ------------------------------------------------------------------ tasks

    def next_visit(self, visits: Any, **choices: Any) -> pd.DataFrame:
        """The likeliest regions of the next visit of each entity, and when and for how long.

        One row is a region, the likeliest first. The times of a row hold if the visit is there, and
        those of the stay if it begins after the median of the travel.
        """
        params = self.params_of("next_visit", choices)
        flat, ids = read_visits(as_visits(visits, COLUMNS, FLAGS))
        found = visit_serving.next_visits(self.trained, flat, params)
        places = visit_serving.places_of(self.trained)
        region_M = found.region_RK.numpy().ravel()
        num_ranks = found.region_RK.shape[1]
        lon_deg_M, lat_deg_M = visit_serving.centres_deg(places)[region_M].T
        travel_s_MQ, stay_s_MQ = (
            value.flatten(0, 1).numpy() for value in (found.travel_s_RKQ, found.stay_s_RKQ)
        )
        columns = {
            ids.name: np.repeat(ids.id_R, num_ranks),
            "rank": np.tile(np.arange(1, num_ranks + 1), len(ids.id_R)),
            "cell": visit_serving.cell_names(places, lon_deg_M, lat_deg_M),
            "lon_deg": lon_deg_M,
            "lat_deg": lat_deg_M,
            "probability": found.chance_RK.numpy().ravel(),
            "arrived_at": as_times(found.arrived_us_RK.numpy().ravel()),
            **told_times("travel", travel_s_MQ),
            **told_times("stay", stay_s_MQ),
            "left_before_at": as_times(np.repeat(found.left_us_R.numpy(), num_ranks)),
            "num_unknown": np.repeat(found.num_unknown_R.numpy(), num_ranks),
        }
        return pd.DataFrame(columns)

    def infill(self, visits: Any, **choices: Any) -> pd.DataFrame:
        """All visits of each entity, and in place of each blank some that may have been there.

        A blank is a row of which the id alone is given. The rows of an entity with a blank count
        in the order given. What was there is drawn, `num_samples` times.
        """
        params = self.params_of("infill", choices)
        flat, ids = read_visits(as_visits(visits, COLUMNS, FLAGS), may_lack=True)
        found = visit_serving.filled_visits(self.trained, flat, params)
        return self.as_rows(found, ids, "is_filled")

    def generate(self, starts: Any, **choices: Any) -> pd.DataFrame:
        """Made-up visits that keep the controls, `num_samples` sequences for each row of starts.

        A start has an id and `arrived_at`, when the first visit begins; `lon_deg` and `lat_deg`
        say where, or are missing.
        """
        params = self.params_of("generate", choices)
        check_controls(self.trained.model, frame_of(starts).columns)
        frame = as_visits(starts, TIMES[:1], NOWHERE)
        ids = Ids(str(frame.columns[0]), numbered(frame.iloc[:, 0])[1])
        if len(ids.id_R) < len(frame):
            raise ValueError(f"{ids.name} is there twice; a row is the start of its own sequences")
        started_us_R, place_deg = as_us(instants(frame["arrived_at"])), degrees_of(frame)
        asked = visit_serving.starts_of(self.trained, started_us_R, *place_deg, params)
        found = visit_serving.generated_visits(self.trained, asked, params)
        return self.as_rows(found, ids)

    def surprise(self, visits: Any, **choices: Any) -> pd.DataFrame:
        """How much the last visit of each entity surprises those who know the ones before.

        In nats, of its region, its travel in seconds and its stay in seconds. A travel counts where
        its way was seen and the stay before it ended.
        """
        params = self.params_of("next_visit", choices)
        flat, ids = read_visits(as_visits(visits, COLUMNS, FLAGS))
        value_RP = visit_serving.surprises(self.trained, flat, params.zone).numpy()
        names = ("region_nats", "travel_nats", "stay_nats")
        return pd.DataFrame({ids.name: ids.id_R, **dict(zip(names, value_RP.T, strict=True))})

    def surprise_files(self, visits: Path, output: Path, **choices: Any) -> None:
        """As `surprise`, from Parquet to Parquet, one row group of whole entities at a time."""
        write_answers(partial(self.surprise, **choices), (visits,), output)

    def as_rows(self, found: visit_serving.DrawnVisits, ids: Ids, flag: str = "") -> pd.DataFrame:
        """One row a visit, by entity, sample and time."""
        places = visit_serving.places_of(self.trained)
        region_M = places.region_ids(found.lon_deg_M, found.lat_deg_M)
        columns = {
            ids.name: ids.id_R[found.entity_M],
            "sample": found.sample_M,
            "arrived_at": as_times(found.arrived_us_M),
            "left_at": as_times(found.left_us_M, found.has_end_M),
            "cell": visit_serving.cell_names(places, found.lon_deg_M, found.lat_deg_M),
            "lon_deg": found.lon_deg_M,
            "lat_deg": found.lat_deg_M,
            "is_known": region_M > 0,
        }
        return pd.DataFrame(columns | ({flag: found.is_drawn_M} if flag else {}))


# Frames -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ids:
    """The ids of entities (R) as they came, and the name of their column."""

    name: str
    id_R: Any


def as_visits(
    table: Any, columns: tuple[str, ...], defaults: Mapping[str, Any] = NO_DEFAULTS
) -> pd.DataFrame:
    """The columns that are read of a frame of visits, the ids first."""
    frame = frame_of(table)
    ids = next((name for name in IDS if name in frame.columns), IDS[0])
    return as_frame(frame, (ids, *columns), "visits", defaults)


def read_visits(frame: pd.DataFrame, may_lack: bool = False) -> tuple[FlatVisits, Ids]:
    """Checked visits in the order of time, and whose they are; with blanks, rows may lack all."""
    number_N, id_R = numbered(frame.iloc[:, 0])
    arrived_N, left_N = (
        instants(frame["arrived_at"], may_lack),
        instants(frame["left_at"], may_lack=True),
    )
    visits = sorted_visits(
        number_N,
        as_us(arrived_N),
        as_us(left_N),
        *degrees_of(frame),
        arrived_N.notna().to_numpy(),
        left_N.notna().to_numpy(),
        *(frame[name].fillna(default).to_numpy(bool) for name, default in FLAGS.items()),
    )
    return visits, Ids(str(frame.columns[0]), id_R)


def degrees_of(frame: pd.DataFrame) -> tuple[Any, Any]:
    """Longitudes and latitudes, NaN where one is missing."""
    return numbers(frame["lon_deg"]), numbers(frame["lat_deg"])


def as_times(instant_us_M: Any, is_given_M: Any = True) -> pd.Series:
    """Instants in UTC, missing where none is given."""
    instant_M = np.asarray(instant_us_M).astype("datetime64[us]")
    instant_M[~np.broadcast_to(is_given_M, instant_M.shape)] = np.datetime64("NaT")
    return pd.Series(instant_M).dt.tz_localize("UTC")


def told_times(name: str, seconds_MQ: Any) -> dict[str, Any]:
    """A decile, the median and the other decile of seconds."""
    p10_s_M, median_s_M, p90_s_M = seconds_MQ.T
    return {f"{name}_s": median_s_M, f"{name}_p10_s": p10_s_M, f"{name}_p90_s": p90_s_M}
