"""Point frames: the questions that a registered model answers about long frames of points.

One row is a point of a trajectory; the rows of an answer are told by each question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import serving
from .frames import (
    as_frame,
    as_us,
    frame_of,
    instants,
    numbered,
    numbers,
    optional,
    plain,
    rows,
    write_answers,
)
from .place_frames import named_places_of

COLUMNS = ("trajectory_id", "tracked_at", "lon_deg", "lat_deg")
MOTION = ("speed_mps", "course_deg")  # over ground, as the source itself reports it: may be there
KIND = "kind"  # of what moves, such as ship: may be there


def opened(bundle: Path, params: Mapping[str, Any], weights_sha256: str) -> PointFrames:
    """The model of a bundle; the parameters are taken where the caller does not choose."""
    return PointFrames(serving.load_trained(bundle, weights_sha256), serving.Params(**params))


@dataclass(frozen=True)
class PointFrames:
    """A trained model as it is asked about points; each of its tasks is a method of that name."""

    trained: serving.Trained
    defaults: serving.Params

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.trained.tasks

    def answer(self, points: Any, choices: dict[str, Any]) -> pd.DataFrame:
        """The answer of the task that the choices name."""
        at = choices.pop("at", ())
        task = self.defaults.with_choices(choices).task
        serving.check_task(self.trained.model, task)
        if len(at):
            if task != "forecast":
                raise ValueError(f"at is for forecasts: {task} is asked by the rows alone")
            choices["at"] = at
        answer: pd.DataFrame = getattr(self, task)(points, **choices)
        return answer

    def request_of(
        self, task: str, points: Any, choices: dict[str, Any], may_lack: bool = False
    ) -> tuple[serving.Params, serving.FlatPoints, Any]:
        """The caller's choices in place of the defaults, the points, and the trajectories' ids.

        Of points that may lack something, places and times may be missing.
        """
        params = self.defaults.with_choices({"task": task} | choices)
        serving.check_task(self.trained.model, params.task)
        if params.task != task:
            raise ValueError(f"{task} was called with the task {params.task!r}; leave it out")
        frame = as_frame(points, COLUMNS)
        number_N, id_R = numbered(frame["trajectory_id"])
        instant_N = instants(frame["tracked_at"], may_lack)
        places = numbers(frame["lon_deg"]), numbers(frame["lat_deg"])
        columns = number_N, as_us(instant_N), *places
        if may_lack:
            has_time_N = instant_N.notna().to_numpy()
            return params, serving.sorted_sketch(*columns, has_time_N), id_R
        given = frame_of(points)
        kind_N = kinds_of(given, number_N, self.trained.model.kinds)
        return params, serving.sorted_points(*columns, reported_mps(given), kind_N), id_R

    # ------------------------------------------------------------------ tasks

    def forecast(
        self,
        points: Any,
        target_at: Any = None,
        at: Sequence[Any] = (),
        memory: Any = None,
        places: Any = None,
        **choices: Any,
    ) -> pd.DataFrame:
        """The next points of each trajectory, in the order in which the trajectories came.

        Takes frames and Arrow tables, any ids, whole-number coordinates, and times in any zone.
        `target_at` holds the instants asked for, as rows (trajectory_id, tracked_at) of equally
        many for each trajectory, and `at` those that are the same for all; without either they
        are predicted. Repeated rows count once. Where there are `speed_mps` and `course_deg` (from
        north, clockwise), they are the motion over ground that the source itself reported there,
        missing where it reported none; families that read it say so. `kind` is what moves, such as
        ship, one of those that the model was told in training, missing where it is not known.
        `memory` are past trips, as a frame like that of the points, or as `remembering` has made
        one of it; `places` are named places to be looked up instead of its own, as `amid` takes
        them.
        """
        if places is not None:
            return self.amid(places).forecast(points, target_at, at, memory, **choices)
        if memory is not None:
            asked = memory if isinstance(memory, PointFrames) else self.remembering(memory)
            return asked.forecast(points, target_at, at, **choices)
        params, known, id_R = self.request_of("forecast", points, choices)
        last_us_R = known.instant_us_N[known.offset_R[1:] - 1]
        target_us_RH = None
        if len(at):
            target_at = at_each(at, id_R)
        if target_at is not None:
            target_us_RH = targets_us(as_frame(target_at, COLUMNS[:2]), id_R)
            check_ahead(target_us_RH, last_us_R)
            params = params.with_choices({"horizon": target_us_RH.shape[1]})
        found = serving.forecast_points(self.trained, known, params, target_us_RH)
        return as_rows(found, id_R, last_us_R)

    def remembering(self, past: Any) -> PointFrames:
        """The same model, which from now on recalls these past trips and no others.

        A frame like that of points; of a trip that is asked about itself nothing is recalled. With
        a column `entity_id`, nothing either of other trips of the entity that was just there.
        """
        points, id_R = self.past_of(past)
        entity_R = entities_of(frame_of(past), id_R)
        memory = self.trained.model.memory_of(points, entity_R)
        return replace(self, trained=self.trained.remembering(memory))

    def amid(self, places: Any) -> PointFrames:
        """The same model, which from now on looks up these named places and no others.

        A frame with `lon_deg` and `lat_deg`, and with `text`, or, of a model whose texts became
        numbers by a function of its maker's own, with the numbers themselves: `v0`, `v1` and so on.
        Without any row no place is looked up. The order of the rows does not matter.
        """
        model = self.trained.model
        num_numbers = getattr(model.config, "num_text", 0)
        if not num_numbers:
            raise ValueError(
                f"this {model.family} was trained without named places; leave them out"
            )
        table = named_places_of(frame_of(places), model.places, num_numbers)
        return replace(self, trained=self.trained.amid(table))

    def forgetting(self, past: Any) -> PointFrames:
        """The same model, whose memory has no trip any more of whoever was at these points.

        A frame like that of points: one point is enough, with its place and instant just as the
        memory was given them. All trips of the entity go with it, and what was fitted on them is
        fitted on the others alone. What the weights learned from its trips stays in them.
        """
        points, _ = self.past_of(past)
        model = self.trained.model
        memory = serving.forgotten(model.memory, points, model.memory_of)
        return replace(self, trained=self.trained.remembering(memory))

    def past_of(self, past: Any) -> tuple[serving.FlatPoints, Any]:
        """The points of past trips, and their ids."""
        serving.check_task(self.trained.model, "forecast")
        frame = as_frame(past, COLUMNS)
        number_N, id_R = numbered(frame["trajectory_id"])
        places = numbers(frame["lon_deg"]), numbers(frame["lat_deg"])
        instant_us_N = as_us(instants(frame["tracked_at"]))
        return serving.sorted_points(number_N, instant_us_N, *places), id_R

    def recover(self, points: Any, **choices: Any) -> pd.DataFrame:
        """All points of each trajectory, places that are missing filled in.

        A place is missing where both coordinates are NaN. Times may be missing too: the rows of
        such a trajectory count in the order given, all others in the order of time. What the model
        cannot tell, such as a stretch without a known point on both sides, stays missing.
        """
        params, sketch, id_R = self.request_of("recover", points, choices, may_lack=True)
        found = serving.recover_points(self.trained, sketch, params)
        return as_points(found.points, id_R).assign(is_recovered=found.is_recovered_N)

    def travel_time(self, points: Any, **choices: Any) -> pd.DataFrame:
        """Seconds from the first row of each trajectory to its last, whose time is missing.

        Rows count in the order given. Those between are the path: places without times. It is
        the line through them, however many there are.
        """
        params, sketch, id_R = self.request_of("travel_time", points, choices, may_lack=True)
        found = serving.travel_times(self.trained, sketch, params)
        return pd.DataFrame(
            {
                "trajectory_id": id_R,
                "travel_s": found.median_s_B.double().numpy(),
                "travel_p10_s": found.p10_s_B.double().numpy(),
                "travel_p90_s": found.p90_s_B.double().numpy(),
            }
        )

    def generate(self, points: Any, **choices: Any) -> pd.DataFrame:
        """A trajectory of `num_points` made up from each row, which is its start, there and then.

        Each row is a trajectory of its own: for many of one start, give that many rows of it. What
        is made up follows the number of the row and the seed. Columns `length_m` and `duration_s`,
        either or both, say how long its path is to be and how long it is to take; where one is
        missing, it is left open.
        """
        params, starts, id_R = self.request_of("generate", points, choices)
        control_R = controls_of(frame_of(points), id_R)
        serving.check_controls(self.trained.model, control_R)
        return as_points(serving.generated_points(self.trained, starts, params, control_R), id_R)

    def embed(self, points: Any, **choices: Any) -> pd.DataFrame:
        """A vector of each trajectory in the columns e0, e1, and so on."""
        params, known, id_R = self.request_of("embed", points, choices)
        value_RD = serving.embeddings(self.trained, known, params)
        names = [f"e{number}" for number in range(value_RD.shape[1])]
        rows = pd.DataFrame(value_RD, columns=names)
        rows.insert(0, "trajectory_id", id_R)
        return rows

    def score(self, points: Any, **choices: Any) -> pd.DataFrame:
        """Mean surprise of a step of each trajectory in nats; missing where there is no step."""
        params, known, id_R = self.request_of("score", points, choices)
        value_R = serving.scores(self.trained, known, params)
        return pd.DataFrame({"trajectory_id": id_R, "surprise_nats": value_R})

    # ------------------------------------------------------------------ files

    def forecast_files(self, points: Path, target_at: Path, output: Path, **choices: Any) -> None:
        """As `forecast`, from Parquet to Parquet, one row group at a time.

        The row groups of both files hold whole trajectories, the same ones in the same order.
        """
        write_answers(partial(self.forecast, **choices), (points, target_at), output)

    def generate_files(self, points: Path, output: Path, **choices: Any) -> None:
        """As `generate`, from Parquet to Parquet; each row group is numbered from its first row."""
        write_answers(partial(self.generate, **choices), (points,), output)

    def recover_files(self, points: Path, output: Path, **choices: Any) -> None:
        """As `recover`, from Parquet to Parquet, one row group of whole trajectories at a time."""
        write_answers(partial(self.recover, **choices), (points,), output)


def at_each(at: Sequence[Any], id_R: Any) -> pd.DataFrame:
    """The same instants for each trajectory."""
    asked = pd.DataFrame({"tracked_at": list(at)})
    return pd.DataFrame({"trajectory_id": id_R}).merge(asked, how="cross")


def targets_us(frame: pd.DataFrame, id_R: Any) -> Any:
    """Instants asked for (R, H), in the order of the trajectories."""
    number_N = pd.Index(id_R).get_indexer(frame["trajectory_id"])
    count_R = np.bincount(number_N[number_N >= 0], minlength=len(id_R))
    if (number_N < 0).any() or count_R.min() < 1 or count_R.min() != count_R.max():
        raise ValueError("target_at needs equally many instants for each trajectory of the points")
    instant_us_N = as_us(instants(frame["tracked_at"]))
    order_N = np.lexsort((instant_us_N, number_N))
    return instant_us_N[order_N].reshape(len(id_R), count_R[0])


def controls_of(frame: pd.DataFrame, id_R: Any) -> dict[str, Any]:
    """What a frame of starts asks of each trajectory (R), by the columns that it has of it."""
    number_N = pd.Index(id_R).get_indexer(plain(frame["trajectory_id"]))
    found = {}
    for name in serving.CONTROLS:
        if (column_N := optional(frame, name)) is not None:
            value_N, value_R = numbers(column_N, "decimal numbers"), np.empty(len(id_R))
            value_R[number_N] = value_N
            if not np.array_equal(value_R[number_N], value_N, equal_nan=True):
                raise ValueError(f"{name} differs between the rows of one trajectory")
            found[name] = value_R
    return found


def reported_mps(frame: pd.DataFrame) -> Any:
    """Reported velocities (N, C) to the east and north, NaN where none; None without the columns.

    What stands still needs no course.
    """
    speed, course = (optional(frame, name) for name in MOTION)
    if speed is None or course is None:
        return None
    speed_mps_N, course_deg_N = numbers(speed, "metres a second"), numbers(course, "degrees")
    for name, value_N, most, meant in (
        (MOTION[0], speed_mps_N, np.finfo(np.float32).max, "at least 0"),
        (MOTION[1], course_deg_N, 360.0, "from 0 to 360"),
    ):
        num_bad = int(((value_N < 0) | (value_N > most)).sum())  # NaN is neither
        if num_bad:
            raise ValueError(
                f"{name} must be {meant}, or missing where none was reported: {num_bad} of "
                f"{len(value_N)} rows are not"
            )
    course_N = np.radians(np.where(speed_mps_N == 0, 0.0, course_deg_N))
    return speed_mps_N[:, None] * np.stack([np.sin(course_N), np.cos(course_N)], axis=1)


def kinds_of(frame: pd.DataFrame, number_N: Any, known: Sequence[str]) -> Any:
    """Numbers of what moves (N), 0 where it is missing, alike for all points of a trajectory.

    None without the column, and of a model that was told no kinds: it has nothing to make of them.
    """
    if not known or (kind_N := optional(frame, KIND)) is None:
        return None
    given = kind_N[kind_N.notna()].astype(str)
    wanted = {serving.kind_number(name) for name in known} | {serving.kind_number("")}
    told_N = np.zeros(len(frame), np.int64)
    told_N[kind_N.notna()] = [serving.kind_number(name) for name in given]
    if len(unknown := given[~np.isin(told_N[kind_N.notna()], [*wanted])]):
        raise ValueError(
            f"kind is {unknown.iloc[0][:40]!r} in {rows(len(unknown))}, and this model knows "
            f"{', '.join(known)}; leave it missing where none of them fits"
        )
    kind_R = np.zeros(number_N.max(initial=-1) + 1, np.int64)
    np.maximum.at(kind_R, number_N, told_N)
    if ((told_N != 0) & (told_N != kind_R[number_N])).any():
        raise ValueError("kind differs between the rows of one trajectory")
    return kind_R[number_N]


def entities_of(frame: pd.DataFrame, id_R: Any) -> Any:
    """The number of the entity of each trajectory (R); each is its own if none are named."""
    if (entity_N := optional(frame, "entity_id")) is None:
        return np.arange(len(id_R))
    number_N, _ = numbered(entity_N)
    trip_N = pd.Index(id_R).get_indexer(plain(frame["trajectory_id"]))
    entity_R = np.empty(len(id_R), np.int64)
    entity_R[trip_N] = number_N
    if (entity_R[trip_N] != number_N).any():
        raise ValueError("entity_id differs between the rows of one trajectory")
    return entity_R


def check_ahead(target_us_RH: Any, last_us_R: Any) -> None:
    """Refuse instants before the last known point."""
    num_past = int((target_us_RH < last_us_R[:, None]).any(axis=1).sum())
    if num_past:
        raise ValueError(
            f"an instant asked for lies before the last point of {num_past} of {len(last_us_R)} "
            "trajectories; ask for later ones, or leave out the points after it"
        )


def as_rows(found: serving.Forecasts, id_R: Any, last_us_R: Any) -> pd.DataFrame:
    """One row per forecast point; `horizon_s` counts from the last known point.

    `is_extrapolated` tells of steps that the model was not trained on. `is_familiar`, of a family
    that can say, tells of motions like some that it was trained on.
    """
    num_trajectories, num_horizon = found.lon_deg_RH.shape
    told = {}
    if found.is_familiar_R is not None:
        told["is_familiar"] = np.repeat(found.is_familiar_R, num_horizon)
    instant_N = found.instant_us_RH.ravel().astype("datetime64[us]")
    return pd.DataFrame(
        {
            "trajectory_id": np.repeat(id_R, num_horizon),
            "step": np.tile(np.arange(1, num_horizon + 1), num_trajectories),
            "tracked_at": pd.Series(instant_N).dt.tz_localize("UTC"),
            "horizon_s": ((found.instant_us_RH - last_us_R[:, None]) / 1e6).ravel(),
            "lon_deg": found.lon_deg_RH.ravel(),
            "lat_deg": found.lat_deg_RH.ravel(),
            "radius_p50_m": found.radius_p50_m_RH.ravel(),
            "radius_p80_m": found.radius_p80_m_RH.ravel(),
            "radius_p95_m": found.radius_p95_m_RH.ravel(),
            "is_extrapolated": np.repeat(found.is_extrapolated_R, num_horizon),
        }
        | told
    )


def as_points(points: serving.FlatPoints, id_R: Any) -> pd.DataFrame:
    """One row per point; what could not be told is missing."""
    instant_N = points.instant_us_N.astype("datetime64[us]")
    instant_N[~points.has_time_N] = np.datetime64("NaT")
    return pd.DataFrame(
        {
            "trajectory_id": id_R[points.trajectory_N],
            "tracked_at": pd.Series(instant_N).dt.tz_localize("UTC"),
            "lon_deg": points.lon_deg_N,
            "lat_deg": points.lat_deg_N,
        }
    )
