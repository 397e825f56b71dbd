"""Generation of visits under controls: sequences that are drawn from left to right and keep them.

    controls = Controls(started_us=..., num_visits=12, visits={11: Wanted(region=home)})
    found = generate(model, controls, num=1_000, seed=0)

A control is never missed in silence: a region that may not come has no chance in the softmax, and
an arrival that must lie in an interval is drawn from the density cut to it, all stays before it
leaving room. What cannot be met is an error with its reason.

Shapes: B sequences, V visits, D model width, R ids of the vocabulary, C candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...features.places import NUM_SPECIAL, Special
from ...interface.controls import ControlError, Controls, Wanted, clock_of
from ...interface.evaluating import evaluating
from ...interface.infilling import TokenBatch
from ...interface.next_visit import Arrivals
from ...interface.visit_batch import NUM_VISIT_CALENDAR, VisitBatch, calendar_of_visits
from ...layers.durations import DurationMixture
from .network import Told, TrajGpt
from .recall import Past, Recalled

NUM_CANDIDATES = 64  # draws of an arrival, of which the first in a wanted hour counts
MAX_ATTEMPTS = 20  # draws of a sequence, of which the first that keeps all controls counts
LEAST_MASS = 1e-9  # of an interval that an arrival or a stay must lie in
SEQUENCES_AT_ONCE = 2_048


def generate(model: TrajGpt, controls: Controls, num: int, seed: int) -> VisitBatch:
    """So many sequences (B, V); each is a function of the weights, the controls, seed and row."""
    controls.check(model.places)
    found: list[Sequences] = []
    with torch.inference_mode(), evaluating(model):
        for first in range(0, num, SEQUENCES_AT_ONCE):
            rows = np.arange(first, min(first + SEQUENCES_AT_ONCE, num))
            found.append(drawn_until_kept(model, controls, rows, seed))
    return batch_of(Sequences.stacked(found), controls, model)


def drawn_until_kept(model: TrajGpt, controls: Controls, rows: np.ndarray, seed: int) -> Sequences:
    """Sequences that keep the controls: one that does not is drawn again."""
    kept: dict[int, Sequences] = {}
    waiting = rows
    for attempt in range(MAX_ATTEMPTS):
        drawn = Drawing(model, controls, [(seed, int(row), attempt) for row in waiting]).run()
        for place, row in enumerate(waiting):
            if not drawn.reason[place]:
                kept[int(row)] = drawn.at(place)
        reasons = [reason for reason in drawn.reason if reason]
        waiting = np.array([row for row in waiting if int(row) not in kept], dtype=int)
        if not len(waiting):
            return Sequences.stacked([kept[int(row)] for row in rows])
    raise ControlError(f"{reasons[0]}, in none of {MAX_ATTEMPTS} draws of {len(waiting)} sequences")


@dataclass
class Sequences:
    """What was drawn: lists of visits, and why a sequence broke a control, if it did."""

    region: list[list[int]]
    arrived_s: list[list[float]]
    left_s: list[list[float]]
    reason: list[str]

    def at(self, row: int) -> Sequences:
        return Sequences([self.region[row]], [self.arrived_s[row]], [self.left_s[row]], [""])

    @classmethod
    def stacked(cls, parts: list[Sequences]) -> Sequences:
        lists = ([one for part in parts for one in getattr(part, name)] for name in vars(parts[0]))
        return cls(*lists)


class Drawing:
    """Sequences that grow side by side, one visit at a time, over a cache of what stands before."""

    def __init__(self, model: TrajGpt, controls: Controls, keys: list[tuple[int, ...]]) -> None:
        self.model, self.controls, self.places = model, controls, model.places
        self.draws = [np.random.default_rng(key) for key in keys]
        num = len(keys)
        self.most = controls.num_visits or 3 * model.config.max_points - 1
        self.caches = model.transformer.empty_caches(num, self.most + 1)
        self.memory = Memory(model, num, self.most + 1)
        self.left_s_B = torch.zeros(num, dtype=torch.float64)
        self.is_open_B = torch.ones(num, dtype=torch.bool)
        self.found = Sequences(
            [[] for _ in keys], [[] for _ in keys], [[] for _ in keys], num * [""]
        )

    def run(self) -> Sequences:
        nowhere = torch.full((len(self.draws),), int(Special.SEP))
        self.hidden_BD = self._read(0, nowhere, self.left_s_B, self.left_s_B)
        for place in range(self.most):
            self.hidden_BD = self._one_more(place, self.memory.told(self.hidden_BD))
            if not bool(self.is_open_B.any()):
                break
        else:
            if self.controls.num_visits is None:
                self._fail(self.is_open_B, f"{self.most} visits did not reach until_s")
        return self.found

    def _one_more(self, place: int, told: Told) -> Tensor:
        """Draw the visit at a place of every sequence, and read it."""
        controls, least_s = self.controls, self.places.min_stay_s
        region_B = self._region(place, told)
        arrived_s_B = self._arrival(place, told, region_B)
        if controls.until_s is not None:
            self.is_open_B &= arrived_s_B <= controls.until_s
        calendar_BK = calendar_at(arrived_s_B, controls)
        travel_s_B = arrived_s_B - self.left_s_B
        endless_B = torch.full_like(arrived_s_B, math.inf)
        law = told.stay(Arrivals(region_B, travel_s_B, arrived_s_B, calendar_BK, endless_B))
        # The next visit may begin at once: a stay that leaves room for it leaves room for all.
        room_s_B = controls.latest_s(place + 1, least_s) - arrived_s_B
        stay_s_B, mass_B = drawn_between(
            law, self._uniform(1)[:, 0], torch.zeros_like(room_s_B), room_s_B
        )
        self._fail(mass_B < LEAST_MASS, f"visit {place} cannot end in time for those behind it")
        left_s_B = arrived_s_B + stay_s_B
        for row in torch.nonzero(self.is_open_B)[:, 0].tolist():
            self.found.region[row].append(int(region_B[row]))
            self.found.arrived_s[row].append(float(arrived_s_B[row]))
            self.found.left_s[row].append(float(left_s_B[row]))
        self.left_s_B = left_s_B
        return self._read(place + 1, region_B, arrived_s_B, left_s_B)

    def _region(self, place: int, told: Told) -> Tensor:
        """A region of each sequence, of those that may come here."""
        log_BR = told.log_region_NR.double() / self.controls.temperature
        is_out_R = torch.zeros(log_BR.shape[1], dtype=torch.bool)
        is_out_R[:NUM_SPECIAL] = True
        is_out_R[sorted(self.controls.forbidden)] = True
        wanted = self.controls.visits.get(place, Wanted()).region
        if wanted is not None:
            is_out_R[:] = True
            is_out_R[wanted] = False
        chance_BR = log_BR.masked_fill(is_out_R, -math.inf).softmax(-1)
        return drawn_of(nucleus(chance_BR, self.controls.top_p), self._uniform(1)[:, 0])

    def _arrival(self, place: int, told: Told, region_B: Tensor) -> Tensor:
        """When each sequence arrives, in seconds after its first arrival."""
        controls, left_s_B = self.controls, self.left_s_B
        if place == 0:
            return torch.zeros_like(left_s_B)
        earliest_s = controls.visits.get(place, Wanted()).earliest_s
        latest_s = controls.latest_s(place, self.places.min_stay_s)
        low_s_B, high_s_B = (earliest_s - left_s_B).clamp(min=0), latest_s - left_s_B
        num = NUM_CANDIDATES if controls.hours else 1
        law, uniform_CB = told.travel(region_B), self._uniform(num).T
        travel_s_CB, mass_B = drawn_between(law, uniform_CB, low_s_B, high_s_B)
        self._fail(mass_B < LEAST_MASS, f"visit {place} cannot begin when it is wanted")
        arrived_s_CB = left_s_B + travel_s_CB
        if not controls.hours:
            return arrived_s_CB[0]
        instant_us_CB = instants(arrived_s_CB, controls)
        is_wanted_CB = torch.from_numpy(
            np.isin(clock_of(instant_us_CB, controls.zone), sorted(controls.hours))
        )
        self._fail(~is_wanted_CB.any(0), f"visit {place} begins in none of the wanted hours")
        first_1B = is_wanted_CB.double().argmax(0, keepdim=True)
        return arrived_s_CB.gather(0, first_1B)[0]

    def _read(self, number: int, region_B: Tensor, arrived_s_B: Tensor, left_s_B: Tensor) -> Tensor:
        """The state (B, D) behind one more token of each sequence."""
        centre_m_BC = self.model.centre_m_RC[region_B]
        token = TokenBatch.of_one(
            region_B,
            centre_m_BC,
            arrived_s_B,
            left_s_B,
            calendar_at(arrived_s_B, self.controls),
            torch.full_like(left_s_B, math.inf),
        )
        hidden_BD = self.model.encode(token, number, self.caches)[:, 0]
        number_B1 = torch.full((len(region_B), 1), number)
        self.memory.keep(number_B1, hidden_BD, token, torch.ones_like(region_B, dtype=torch.bool))
        return hidden_BD

    def _fail(self, is_broken_B: Tensor, reason: str) -> None:
        """Close the sequences that broke a control, and say why."""
        for row in torch.nonzero(is_broken_B & self.is_open_B)[:, 0].tolist():
            self.found.reason[row] = reason
            self.is_open_B[row] = False

    def _uniform(self, num: int) -> Tensor:
        return torch.from_numpy(np.stack([draw.random(num) for draw in self.draws]))


class Memory:
    """What sequences have read so far, token by token, for the head that goes back."""

    def __init__(self, model: TrajGpt, num: int, most: int) -> None:
        self.model = model
        self.past = Past(
            torch.zeros(num, most, model.config.width),
            torch.zeros(num, most, dtype=torch.long),
            torch.zeros(num, most, 2, dtype=torch.float64),
            torch.zeros(num, most, NUM_VISIT_CALENDAR),
            torch.zeros(num, most, dtype=torch.bool),
            torch.zeros(num, most, dtype=torch.float64),
            torch.zeros(num, most, dtype=torch.float64),
            torch.zeros(num, most, dtype=torch.bool),
            torch.zeros(num, most, dtype=torch.bool),
        )
        self.last_B1 = torch.zeros(num, 1, dtype=torch.long)

    def begin(self, hidden_1VD: Tensor, tokens: TokenBatch) -> None:
        """All sequences have read the same tokens."""
        shared, number = self.model.past(hidden_1VD, tokens), tokens.region_BV.shape[1]
        for name, value in shared.columns().items():
            getattr(self.past, name)[:, :number] = value
        self.last_B1.fill_(number - 1)

    def keep(
        self, number_B1: Tensor, hidden_BD: Tensor, token: TokenBatch, is_read_B: Tensor
    ) -> None:
        """Add a token of each sequence, at its own number; where it is not read it is not there."""
        row_B1 = torch.arange(len(number_B1)).unsqueeze(1)
        added = self.model.past(hidden_BD.unsqueeze(1), token)
        for name, value in added.columns().items():
            getattr(self.past, name)[row_B1, number_B1] = value
        self.last_B1 = torch.where(is_read_B.unsqueeze(1), number_B1, self.last_B1)

    def told(self, hidden_BD: Tensor) -> Told:
        row_B = torch.arange(len(hidden_BD))
        share_B1V = self.model.recall.shares(hidden_BD.unsqueeze(1), self.past, self.last_B1)
        recalled = Recalled.of(share_B1V[:, 0], self.past, row_B, self.last_B1[:, 0])
        return Told(self.model, hidden_BD, recalled)


# Draws ------------------------------------------------------------------------------------------


def drawn_between(
    law: DurationMixture, uniform: Tensor, low_s: Tensor, high_s: Tensor
) -> tuple[Tensor, Tensor]:
    """Durations within bounds, and the mass (B) that lies there."""
    below, until = law.mass_between(low_s, high_s)
    return law.sample(uniform, low_s, high_s), until - below


def drawn_of(chance_BR: Tensor, uniform_B: Tensor) -> Tensor:
    """The id that a draw from U(0, 1) stands for."""
    sum_BR = chance_BR.cumsum(-1)
    wanted_B1 = (uniform_B * sum_BR[:, -1]).unsqueeze(1)
    # Never one without a chance: a sum that stands still is not above the draw.
    return (
        torch.searchsorted(sum_BR, wanted_B1, right=True)
        .squeeze(1)
        .clamp(max=chance_BR.shape[1] - 1)
    )


def nucleus(chance_BR: Tensor, top_p: float) -> Tensor:
    """The likeliest ids that together hold a share of the mass, alone (Holtzman et al. 2020)."""
    if top_p >= 1:
        return chance_BR
    sorted_BR, order_BR = chance_BR.sort(-1, descending=True)
    is_out_BR = sorted_BR.cumsum(-1) - sorted_BR >= top_p
    return torch.zeros_like(chance_BR).scatter(1, order_BR, sorted_BR.masked_fill(is_out_BR, 0.0))


def instants(arrived_s: Tensor, controls: Controls) -> np.ndarray:
    """Microseconds since 1970 UTC."""
    shift_us = np.rint(arrived_s.numpy() * 1e6).astype(np.int64)
    return np.asarray(controls.started_us + shift_us)


def calendar_at(arrived_s_B: Tensor, controls: Controls) -> Tensor:
    return torch.from_numpy(calendar_of_visits(instants(arrived_s_B, controls), controls.zone))


def batch_of(drawn: Sequences, controls: Controls, model: TrajGpt) -> VisitBatch:
    """Sequences as a batch, padded on the right as `VisitBatch` is."""
    num_visits = torch.tensor([len(one) for one in drawn.region])
    shape = len(num_visits), max(1, int(num_visits.max()))
    is_pad_BV = torch.arange(shape[1]) >= num_visits.unsqueeze(1)
    region_BV = torch.full(shape, int(Special.PAD))
    region_BV[~is_pad_BV] = torch.tensor([one for row in drawn.region for one in row])
    last_s_B = torch.tensor([row[-1] if row else 0.0 for row in drawn.left_s], dtype=torch.float64)
    arrived_s_BV, left_s_BV = (last_s_B.unsqueeze(1).repeat(1, shape[1]) for _ in range(2))
    for column_BV, rows in ((arrived_s_BV, drawn.arrived_s), (left_s_BV, drawn.left_s)):
        column_BV[~is_pad_BV] = torch.tensor(
            [one for row in rows for one in row], dtype=torch.float64
        )
    centre_m_BVC = model.centre_m_RC[region_BV]
    nothing = torch.zeros_like(is_pad_BV)
    return VisitBatch(
        region_BV=region_BV,
        east_m_BV=centre_m_BVC[..., 0],
        north_m_BV=centre_m_BVC[..., 1],
        arrived_s_BV=arrived_s_BV,
        left_s_BV=left_s_BV,
        calendar_BVK=calendar_at(arrived_s_BV, controls),
        is_pad_BV=is_pad_BV,
        is_target_BV=nothing,
        is_censored_BV=nothing,
        is_way_seen_BV=~is_pad_BV,
        window_id_B=torch.arange(shape[0]),
    )
