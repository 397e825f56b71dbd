"""Visit serving: from flat visits to a batch as the model reads it, and to answers in flat columns.

Places become regions of the model's vocabulary here, and answers become places again. A place that
train does not know is an unknown region, told by the centre of its own cell.

Shapes: N visits, R entities, B rows, V visits of a row, K ranks, M rows of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..earth.arrays import Bools, Floats, Ints
from ..earth.cells import cells_of, centres_of
from ..earth.columns import Columns, joined
from ..features.places import NUM_SPECIAL, Places, Special
from ..interface.controls import Controls, controls_of
from ..interface.flat_points import checked_places
from ..interface.flat_visits import FlatVisits, check_blanks, latest, with_ends
from ..interface.infilling import FilledVisit
from ..interface.next_visit import Arrivals, DurationLaw, parted
from ..interface.visit_batch import VisitBatch, calendar_of_visits
from .api import generate, infill
from .serving import MAX_SAMPLES, Choices, Trained, check_count

ENTITIES_AT_ONCE = 512
MAX_RANKS = 1_000
SHARES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class VisitParams(Choices):
    """What a caller may choose: `top_k` regions of next visits, `num_samples` of what is drawn.

    `controls` are those of generation, in JSON.
    """

    task: str = "next_visit"
    num_samples: int = 1
    top_k: int = 5
    controls: Any = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_samples", self.num_samples, 1, MAX_SAMPLES)
        check_count("top_k", self.top_k, 1, MAX_RANKS)


# Batches ----------------------------------------------------------------------------------------


def batch_of(places: Places, visits: FlatVisits, zone: str) -> tuple[VisitBatch, Ints]:
    """The visits of each entity under each other, and when each row begins (B)."""
    offset_R = visits.offset_R
    size_B1 = np.diff(offset_R)[:, None]
    place_V = np.arange(size_B1.max())
    is_pad_BV = place_V >= size_B1
    # A pad repeats the last visit, at the instant of its end.
    visit_BV = offset_R[:-1, None] + np.minimum(place_V, size_B1 - 1)
    left_us_BV = visits.left_us_N[visit_BV]
    arrived_us_BV = np.where(is_pad_BV, left_us_BV, visits.arrived_us_N[visit_BV])
    started_us_B1 = arrived_us_BV[:, :1]
    region_N = places.region_ids(visits.lon_deg_N, visits.lat_deg_N)
    place_m_BVC = local_m(places, visits, region_N)[visit_BV]
    columns = {
        "region_BV": np.where(is_pad_BV, int(Special.PAD), region_N[visit_BV]),
        "east_m_BV": place_m_BVC[..., 0],
        "north_m_BV": place_m_BVC[..., 1],
        "arrived_s_BV": (arrived_us_BV - started_us_B1) / 1e6,
        "left_s_BV": (left_us_BV - started_us_B1) / 1e6,
        "calendar_BVK": calendar_of_visits(arrived_us_BV, zone),
        "is_pad_BV": is_pad_BV,
        "is_target_BV": np.zeros_like(is_pad_BV),
        "is_censored_BV": visits.is_censored_N[visit_BV] & ~is_pad_BV,
        "is_way_seen_BV": visits.is_way_seen_N[visit_BV] & ~is_pad_BV,
        # Draws are by window: with one for all they do not depend on who else is asked about.
        "window_id_B": np.zeros(len(size_B1), np.int64),
    }
    tensors: dict[str, Any] = {name: torch.tensor(value) for name, value in columns.items()}
    return VisitBatch(**tensors), started_us_B1[:, 0]


def local_m(places: Places, visits: FlatVisits, region_N: Ints) -> Floats:
    """(N, 2) metres east and north: of the region, or where it is unknown of the place's cell."""
    centre_m_NC = torch.stack(places.centres_m(), dim=-1)[torch.from_numpy(region_N)].numpy()
    is_unknown_N = region_N == Special.UNKNOWN
    if is_unknown_N.any():
        unknown = visits.at(is_unknown_N)
        cells = cells_of(unknown.lon_deg_N, unknown.lat_deg_N, places.resolution)
        centres = (torch.from_numpy(degrees) for degrees in centres_of(cells))
        centre_m_NC[is_unknown_N] = torch.stack(places.local_m(*centres), dim=-1).numpy()
    return centre_m_NC


def parts_of(visits: FlatVisits) -> Iterator[FlatVisits]:
    """The visits of a few entities at a time."""
    for first in range(0, int(visits.entity_N[-1]) + 1, ENTITIES_AT_ONCE):
        is_here_N = (visits.entity_N >= first) & (visits.entity_N < first + ENTITIES_AT_ONCE)
        if is_here_N.any():
            yield visits.at(is_here_N)


def places_of(trained: Trained) -> Places:
    fitted: Any = trained.model.fitted
    places: Places = fitted
    return places


# Next visit -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NextVisits(Columns):
    """The likeliest next visits (R, K) of each entity, and what they are told from (R).

    A visit is told as if it came: its travel given its region, its stay given that it arrives after
    the median of the travel. `left_us_R` is the end of the last visit: of one that goes on, half
    of such stays end before it.
    """

    region_RK: Tensor
    chance_RK: Tensor
    travel_s_RKQ: Tensor
    arrived_us_RK: Tensor
    stay_s_RKQ: Tensor
    left_us_R: Tensor
    num_unknown_R: Tensor


def next_visits(trained: Trained, visits: FlatVisits, params: VisitParams) -> NextVisits:
    """What follows the last visit of each entity; of a long history the latest visits are read."""
    kept = latest(visits, trained.max_points)
    return joined([_next_of(trained, part, params) for part in parts_of(kept)])


def _next_of(trained: Trained, visits: FlatVisits, params: VisitParams) -> NextVisits:
    visits = ended(trained, visits, params.zone)
    history, started_us_R = batch_of(places_of(trained), visits, params.zone)
    told = trained.next_visit(history)
    chance_RN = told.log_region_NR[:, NUM_SPECIAL:].double().exp()
    sorted_RN, order_RN = chance_RN.sort(stable=True, dim=1, descending=True)
    region_RK = order_RN[:, : params.top_k] + NUM_SPECIAL
    left_us_R = visits.left_us_N[visits.is_last_N]
    left_s_R = torch.from_numpy((left_us_R - started_us_R) / 1e6)
    travels, arrivals_us, stays = [], [], []
    for region_R in region_RK.T:
        travel_s_RQ = quantiles(told.travel(region_R))
        arrived_s_R = left_s_R + travel_s_RQ[:, 1]
        arrived_us_R = started_us_R + np.rint(arrived_s_R.numpy() * 1e6).astype(np.int64)
        arrivals = arrivals_of(region_R, travel_s_RQ[:, 1], arrived_s_R, arrived_us_R, params.zone)
        travels.append(travel_s_RQ)
        arrivals_us.append(torch.from_numpy(arrived_us_R))
        stays.append(quantiles(told.stay(arrivals)))
    return NextVisits(
        region_RK,
        sorted_RN[:, : params.top_k],
        torch.stack(travels, 1),
        torch.stack(arrivals_us, 1),
        torch.stack(stays, 1),
        torch.from_numpy(left_us_R),
        (history.region_BV == Special.UNKNOWN).sum(1),
    )


def ended(trained: Trained, visits: FlatVisits, zone: str) -> FlatVisits:
    """Visits of which all have an end: of a stay that goes on, the median of such stays."""
    is_open_R = ~visits.has_end_N[visits.is_last_N]
    if not is_open_R.any():
        return visits
    places = places_of(trained)
    stay_s_R = np.full(len(is_open_R), max(places.duration_s.p50, places.min_stay_s))
    is_told_R = is_open_R & (np.diff(visits.offset_R) > 1)
    if is_told_R.any():  # by the visits before it
        asked = visits.at(is_told_R[np.unique(visits.entity_N, return_inverse=True)[1]])
        history, stay = parted(batch_of(places, asked, zone)[0])
        stay_s_R[is_told_R] = trained.next_visit(history).stay(stay).quantile(0.5).numpy()
    stay_us_R = np.where(is_open_R, np.rint(stay_s_R * 1e6).astype(np.int64), 0)
    return with_ends(visits, visits.left_us_N[visits.is_last_N] + stay_us_R)


def quantiles(law: DurationLaw) -> Tensor:
    """(N, 3) seconds: the median, and the deciles around it."""
    return torch.stack([law.quantile(share).double() for share in SHARES], dim=1)


def arrivals_of(
    region_R: Tensor, travel_s_R: Tensor, arrived_s_R: Tensor, arrived_us_R: Ints, zone: str
) -> Arrivals:
    calendar_RK = torch.from_numpy(calendar_of_visits(arrived_us_R, zone))
    endless_R = torch.full_like(arrived_s_R, torch.inf)
    return Arrivals(region_R, travel_s_R, arrived_s_R, calendar_RK, endless_R)


# Surprise ---------------------------------------------------------------------------------------


def surprises(trained: Trained, visits: FlatVisits, zone: str) -> Tensor:
    """Surprise (R, 3) of the last visit of each entity: of its region, its travel and its stay.

    In nats, of seconds. A way that was not seen is NaN; of a stay that is censored it is the
    surprise of lasting that long.
    """
    if (np.diff(visits.offset_R) < 2).any():
        raise ValueError("a surprise needs two visits of each entity: the last, and one before it")
    kept = latest(visits, trained.max_points + 1)
    return torch.cat([_surprise_of(trained, part, zone) for part in parts_of(kept)])


def _surprise_of(trained: Trained, visits: FlatVisits, zone: str) -> Tensor:
    history, asked = parted(batch_of(places_of(trained), visits, zone)[0])
    told = trained.next_visit(history)
    travel, stay = told.travel(asked.region_N), told.stay(asked)
    log_travel_R = travel.log_density(asked.travel_s_N)
    log_stay_R = torch.where(
        asked.is_censored_N,
        stay.log_survival(asked.duration_s_N),
        stay.log_density(asked.duration_s_N),
    )
    parts = (
        told.log_region_NR.gather(1, asked.region_N.unsqueeze(1)).squeeze(1),
        torch.where(asked.is_travel_known_N, log_travel_R, torch.nan),
        log_stay_R,
    )
    return -torch.stack([part.double() for part in parts], dim=1)


# Filled and made up -----------------------------------------------------------------------------


@dataclass(frozen=True)
class DrawnVisits(Columns):
    """Visits of samples (M), by entity, sample and time; `is_drawn_M` tells those made up."""

    entity_M: Ints
    sample_M: Ints
    arrived_us_M: Ints
    left_us_M: Ints
    has_end_M: Bools
    lon_deg_M: Floats
    lat_deg_M: Floats
    is_drawn_M: Bools


Drawn = tuple[int, int, int, int, bool, float, float, bool]


def filled_visits(trained: Trained, visits: FlatVisits, params: VisitParams) -> DrawnVisits:
    """All visits of each entity, and in place of each blank some that may have been there."""
    check_blanks(visits)
    seen = visits.at(~visits.is_blank_N)
    most = int(np.diff(seen.offset_R).max())
    if most > trained.max_points:
        raise ValueError(
            f"an entity has {most} visits, and this model reads at most {trained.max_points} at "
            "once; give those around its blanks"
        )
    is_before_blank_N = np.append(visits.is_blank_N[1:], False)[~visits.is_blank_N]
    places, rows = places_of(trained), list[Drawn]()
    centre_deg_RC = centres_deg(places)
    for part in parts_of(seen):
        shown, started_us_B = batch_of(places, part, params.zone)
        is_here_N = (seen.entity_N >= part.entity_N[0]) & (seen.entity_N <= part.entity_N[-1])
        is_gap_BV = torch.zeros_like(shown.is_pad_BV)
        is_gap_BV[~shown.is_pad_BV] = torch.from_numpy(is_before_blank_N[is_here_N])
        gaps = infill(
            trained.model,
            shown,
            is_gap_BV,
            torch.from_numpy(started_us_B),
            params.num_samples,
            params.seed,
            params.zone,
        )
        for row, (first, end) in enumerate(zip(part.offset_R[:-1], part.offset_R[1:], strict=True)):
            own = part.at(slice(first, end))
            for sample in range(params.num_samples):
                drawn = {gap.after: gap.visits[sample] for gap in gaps[row]}
                rows += _with_drawn(centre_deg_RC, own, drawn, sample, int(started_us_B[row]))
    return DrawnVisits(*map(np.array, zip(*rows, strict=True)))


def _with_drawn(
    centre_deg_RC: Floats,
    own: FlatVisits,
    drawn: dict[int, list[FilledVisit]],
    sample: int,
    started_us: int,
) -> Iterator[Drawn]:
    """The visits of an entity in a sample, in the order of time."""
    entity = int(own.entity_N[0])
    for number in range(len(own.entity_N)):
        times = int(own.arrived_us_N[number]), int(own.left_us_N[number])
        place = float(own.lon_deg_N[number]), float(own.lat_deg_N[number])
        yield entity, sample, *times, bool(own.has_end_N[number]), *place, False
        for visit in drawn.get(number, ()):
            arrived_us, left_us = (
                started_us + round(seconds * 1e6) for seconds in (visit.arrived_s, visit.left_s)
            )
            lon_deg, lat_deg = centre_deg_RC[visit.region].tolist()
            yield entity, sample, arrived_us, left_us, True, lon_deg, lat_deg, True


def centres_deg(places: Places) -> Floats:
    """Longitude and latitude (R, 2) of the centre of each region, by its id."""
    centre_deg_RC: Floats = torch.stack(places.degrees(*places.centres_m()), dim=-1).numpy()
    return centre_deg_RC


def cell_names(places: Places, lon_deg_M: Floats, lat_deg_M: Floats) -> list[str]:
    """The cells that places lie in, as H3 writes them."""
    return [f"{cell:x}" for cell in cells_of(lon_deg_M, lat_deg_M, places.resolution).tolist()]


def starts_of(
    trained: Trained, started_us_R: Ints, lon_deg_R: Floats, lat_deg_R: Floats, params: VisitParams
) -> list[Controls]:
    """The controls of sequences that begin at these instants, and places where there are some."""
    places, has_place_R = places_of(trained), checked_places(lon_deg_R, lat_deg_R)
    region_R = np.zeros(len(started_us_R), np.int64)
    region_R[has_place_R] = places.region_ids(lon_deg_R[has_place_R], lat_deg_R[has_place_R])
    if (is_unknown_R := has_place_R & (region_R == Special.UNKNOWN)).any():
        raise ValueError(
            f"a start lies outside the {len(places.cells)} regions that the model knows, first in "
            f"row {int(is_unknown_R.argmax())}; leave its place out to begin anywhere"
        )
    return [
        controls_of(
            params.controls,
            places,
            started_us,
            region if has_place else None,
            params.zone,
        )
        for started_us, region, has_place in zip(
            started_us_R.tolist(), region_R.tolist(), has_place_R.tolist(), strict=True
        )
    ]


def generated_visits(trained: Trained, asked: list[Controls], params: VisitParams) -> DrawnVisits:
    """Sequences that begin as each of the controls says, `num_samples` of each."""
    if not asked:
        raise ValueError("no starts were given; each sequence needs one")
    places = places_of(trained)
    centre_deg_RC = centres_deg(places)
    parts = []
    for entity, controls in enumerate(asked):
        made = generate(trained.model, controls, params.num_samples, params.seed)
        sample_M, visit_M = (index.numpy() for index in torch.nonzero(~made.is_pad_BV).T)
        region_M = made.region_BV.numpy()[sample_M, visit_M]
        arrived_us_M, left_us_M = (
            controls.started_us
            + np.rint(seconds_BV.numpy()[sample_M, visit_M] * 1e6).astype(np.int64)
            for seconds_BV in (made.arrived_s_BV, made.left_s_BV)
        )
        all_M = np.ones(len(sample_M), bool)
        centre_deg_MC = centre_deg_RC[region_M]
        columns = (arrived_us_M, left_us_M, all_M, *centre_deg_MC.T, all_M)
        parts.append((np.full(len(sample_M), entity), sample_M, *columns))
    return DrawnVisits(*map(np.concatenate, zip(*parts, strict=True)))
