"""TrajGPT: a causal transformer over visits that tells where one goes next, how long the way takes
and how long the stay; after Hsu et al. 2024 (arXiv 2411.04381).

A visit is four parts side by side: its place as waves in three directions (Space2Vec), its arrival
and its end as learned waves of time (Time2Vec), and its region; the local clocks are added. Three
heads read the whole state of a visit: P(next region), p(travel | region) and
p(stay | region, travel). What a head tells is never among what it reads: travel is told from the
centre of the region that is asked for and how far away that is, not from the arrival there, a stay
from its beginning and, within a gap, from what the gap leaves. Unlike the published model the first
head can point at a visit of the history and go back there, and elsewhere what is near draws more.

Shapes: B rows, V visits, N asked visits, D model width, R ids of the vocabulary, F codes of a
region, K calendar features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...features.places import NUM_SPECIAL, Places
from ...interface.batch import index_of
from ...interface.family import Network
from ...interface.infilling import TokenBatch, begun
from ...interface.masking import Loss
from ...interface.next_visit import Arrivals, AskedVisits
from ...interface.visit_batch import NUM_VISIT_CALENDAR, VisitBatch
from ...layers.durations import DurationMixture, DurationMixtureHead
from ...layers.embeddings import Space2Vec, Time2Vec
from ...layers.gap_durations import GapDuration, GapDurationHead
from ...layers.heads import RegionHead
from ...layers.position_encodings import sinusoidal_positions
from ...layers.transformer import KeyValueCache, Transformer, check_shape
from .habits import NUM_STAY_HABITS, NUM_WAY_HABITS, StayHabit, WayHabit
from .recall import Past, Recall, Recalled

SHORTEST_WAVE_M = 100.0  # Space2Vec: below the cells of any vocabulary
MANY_REGIONS = 5_000  # from here on the softmax is an adaptive one
LEAST_CHANCE = 1e-9  # of a region that nobody visited, before the gate


@dataclass(frozen=True)
class TrajGptConfig:
    """Shape of the network; `max_points` is the longest window of visits that it reads."""

    width: int = 128
    num_layers: int = 4
    num_heads: int = 2
    num_components: int = 6
    num_scales: int = 16
    max_points: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_shape(self, num_components=1, num_scales=2, max_points=2)
        if self.width % 4:
            raise ValueError(f"width {self.width} must divide by 4, for the parts of a visit")


PRESETS: Mapping[str, TrajGptConfig] = {
    "tiny": TrajGptConfig(width=32, num_layers=2),
    "small": TrajGptConfig(),
    "base": TrajGptConfig(width=256, num_layers=6, num_heads=4),
}


@dataclass(frozen=True)
class Told:
    """The answer behind N histories; heads are asked when somebody wants to know."""

    model: TrajGpt
    hidden_ND: Tensor
    recalled: Recalled

    @property
    def log_region_NR(self) -> Tensor:
        return self.model.log_regions(self.hidden_ND, self.recalled)

    def travel(self, region_N: Tensor) -> DurationMixture:
        return self.model.travel(self.hidden_ND, region_N, self.recalled)

    def stay(self, arrivals: Arrivals) -> GapDuration:
        return self.model.stay(self.hidden_ND, arrivals, self.recalled)


class TrajGpt(Network):
    """The network: `encode` reads visits, three heads say what comes next, `loss` scores them."""

    family = "trajgpt"
    position_VD: Tensor
    centre_m_RC: Tensor

    def __init__(self, config: TrajGptConfig, places: Places) -> None:
        super().__init__()
        self.config, self.places = config, places
        width, part = config.width, config.width // 4
        longest_m = max(2 * places.max_distance_m, 2 * SHORTEST_WAVE_M)
        self.place = Space2Vec(part, config.num_scales, SHORTEST_WAVE_M, longest_m)
        self.arrival, self.leaving = Time2Vec(part), Time2Vec(part)
        self.region = nn.Embedding(places.num_ids, part)
        self.mix = nn.Linear(4 * part, width)
        self.clock = nn.Linear(NUM_VISIT_CALENDAR, width)
        self.lasting = nn.Linear(3, width, bias=False)
        # With blanks a window has more tokens than visits: at most three for one.
        table_VD = sinusoidal_positions(3 * config.max_points, width)
        self.register_buffer("position_VD", table_VD, persistent=False)
        self.register_buffer("centre_m_RC", torch.stack(places.centres_m(), -1), persistent=False)
        self.transformer = Transformer(width, config.num_layers, config.num_heads, config.dropout)
        num_ids = places.num_ids
        cutoffs = [MANY_REGIONS // 5, MANY_REGIONS] if num_ids > MANY_REGIONS else []
        self.region_head = RegionHead(width, num_ids, cutoffs)
        self.pull = None if cutoffs else nn.Linear(width, 1)
        self.recall = Recall(width)
        self.way_habit = WayHabit(places.travel_s.p50)
        self.travel_head = DurationMixtureHead(
            width,
            2 * part + 2 + NUM_WAY_HABITS,
            config.num_components,
            places.travel_s.p50,
            has_zero=True,
        )
        self.stay_arrival = Time2Vec(part)
        self.stay_habit = StayHabit(places.time_scale_s)
        self.stay_head = GapDurationHead(
            width,
            3 * part + NUM_VISIT_CALENDAR + 3 + NUM_STAY_HABITS,
            config.num_components,
            places.duration_s.p50,
            places.travel_s.p50,
            places.min_stay_s,
        )

    @property
    def fitted(self) -> Places:
        return self.places

    def fit_inputs(self, batches: Iterable[VisitBatch]) -> None:
        """Begin with regions as frequent, and with ways and stays as long, as they are in train."""
        seen = list(batches)
        regions = torch.cat([batch.region_BV[~batch.is_pad_BV] for batch in seen])
        count_R = torch.bincount(regions, minlength=self.places.num_ids) + 1.0
        if isinstance(self.region_head.softmax, nn.Linear):
            with torch.no_grad():
                self.region_head.softmax.bias.copy_((count_R / count_R.sum()).log())
        travel_s_N = torch.cat([batch.travel_s_BV[batch.is_travel_known_BV] for batch in seen])
        is_whole = [~batch.is_pad_BV & ~batch.is_censored_BV for batch in seen]
        stay_s_N = torch.cat(
            [batch.duration_s_BV[chosen] for batch, chosen in zip(seen, is_whole, strict=True)]
        )
        self.travel_head.begin_as(travel_s_N)
        self.stay_head.begin_as(stay_s_N, travel_s_N)

    # ------------------------------------------------------------------ reading

    def encode(
        self, batch: TokenBatch, first: int | Tensor = 0, caches: list[KeyValueCache] | None = None
    ) -> Tensor:
        """Hidden state (B, V, D) of each visit, from itself and those before it.

        With caches the batch holds the visits from number `first` on, which may be another in each
        row (B, 1), and the caches those before.
        """
        index_BV = index_of(batch.region_BV) + first
        place_m_BVC = torch.stack([batch.east_m_BV, batch.north_m_BV], dim=-1)
        parts = [
            self.place(self.places.clipped_m(place_m_BVC)),
            self.arrival(self.elapsed(batch.arrived_s_BV)),
            self.leaving(self.elapsed(batch.left_s_BV)),
            self.region(batch.region_BV),
        ]
        x_BVD = self.mix(torch.cat(parts, dim=-1)) + self.clock(batch.calendar_BVK)
        stay_BV1 = self.log_time(batch.duration_s_BV).unsqueeze(-1)
        x_BVD = x_BVD + self.lasting(torch.cat([stay_BV1, self.room(batch.room_s_BV)], dim=-1))
        last = len(self.position_VD) - 1
        x_BVD = x_BVD + self.position_VD[index_BV.clamp(max=last)]
        return self.transformer(x_BVD, index_BV, caches=caches)

    def elapsed(self, seconds: Tensor) -> Tensor:
        """Seconds since the first arrival as the waves read them: in typical times of a visit.

        What is far beyond one is told coarsely: a window may last for hours or for years.
        """
        return torch.asinh(self.places.clipped_s(seconds) / self.places.time_scale_s).float()

    def log_time(self, seconds: Tensor) -> Tensor:
        """How long something takes, in typical times of a visit, on a scale of magnitudes."""
        return torch.log1p(seconds.clamp(min=0) / self.places.time_scale_s).float()

    # ------------------------------------------------------------------ telling

    def next_visit(self, history: VisitBatch) -> Told:
        """What follows the last visit of each row."""
        tokens = begun(history)
        last_B = (~tokens.is_pad_BV).sum(1) - 1
        hidden_BVD = self.encode(tokens)
        is_last_BV = index_of(tokens.region_BV) == last_B.unsqueeze(1)
        return self.told(hidden_BVD, tokens, is_last_BV)

    def told(self, hidden_BVD: Tensor, tokens: TokenBatch, is_told_BV: Tensor) -> Told:
        """What the states of some tokens tell of the token after each."""
        row_N, place_N = torch.nonzero(is_told_BV, as_tuple=True)
        hidden_ND = hidden_BVD[row_N, place_N]
        past = self.past(hidden_BVD, tokens)
        share_BVV = self.recall.shares(hidden_BVD, past, index_of(tokens.region_BV))
        recalled = Recalled.of(share_BVV[row_N, place_N], past, row_N, place_N)
        return Told(self, hidden_ND, recalled)

    def past(self, hidden_BVD: Tensor, tokens: TokenBatch) -> Past:
        """What can be recalled of tokens."""
        place_m_BVC = torch.stack([tokens.east_m_BV, tokens.north_m_BV], dim=-1)
        columns = tokens.region_BV, place_m_BVC, tokens.calendar_BVK, tokens.is_visit_BV
        is_whole_BV = ~tokens.is_open_BV & ~tokens.is_pad_BV
        times = tokens.arrived_s_BV, tokens.left_s_BV, is_whole_BV, tokens.is_way_seen_BV
        return Past(self.recall.key(hidden_BVD), *columns, *times)

    def log_regions(self, hidden_ND: Tensor, recalled: Recalled) -> Tensor:
        """Log P(next region), (N, R): one of those visited before, or any of the vocabulary.

        The distribution is a mixture of the two.
        """
        log_new_NR = self.log_any(hidden_ND, recalled)
        log_back_N1, log_other_N1 = self.recall.log_gates(hidden_ND, recalled)
        chance_NR = recalled.chance_NR(log_new_NR.shape[1]).clamp(min=LEAST_CHANCE)
        return torch.logaddexp(log_other_N1 + log_new_NR, log_back_N1 + chance_NR.log())

    def log_any(self, hidden_ND: Tensor, recalled: Recalled) -> Tensor:
        """Log P(region) of any of the vocabulary, (N, R); where it is small, what is near draws."""
        log_NR = self.region_head.log_probability(hidden_ND)
        if self.pull is None:
            return log_NR
        away_NR = torch.cdist(recalled.place_m_NC.float(), self.centre_m_RC.float())
        log_away_NR = log_distance(away_NR)
        log_away_NR[:, :NUM_SPECIAL] = 0.0
        pull_N1 = self.pull(hidden_ND) * recalled.is_visit_N.unsqueeze(1)
        return (log_NR + pull_N1 * log_away_NR).log_softmax(-1)

    def region_nll(self, told: Told, region_N: Tensor) -> Tensor:
        """Surprise (N) of regions, as `log_regions` tells them, of those alone."""
        log_back_N1, log_other_N1 = self.recall.log_gates(told.hidden_ND, told.recalled)
        if self.pull is None:
            log_new_N = -self.region_head.nll(told.hidden_ND, region_N)
        else:
            log_any_NR = self.log_any(told.hidden_ND, told.recalled)
            log_new_N = log_any_NR.gather(1, region_N.unsqueeze(1)).squeeze(1)
        log_seen_N = told.recalled.chance_of(region_N).clamp(min=LEAST_CHANCE).log()
        return -torch.logaddexp(log_other_N1[:, 0] + log_new_N, log_back_N1[:, 0] + log_seen_N)

    def travel(self, hidden_ND: Tensor, region_N: Tensor, recalled: Recalled) -> DurationMixture:
        """p(seconds on the way to a region); a head is told how far away it is, where one can."""
        away_m_N = (recalled.place_m_NC - self.centre_m_RC[region_N]).norm(dim=-1)
        has_way_N = recalled.is_visit_N & (region_N >= NUM_SPECIAL)
        way_N2 = torch.stack([log_distance(away_m_N) * has_way_N, has_way_N], dim=-1)
        codes = [self.region_codes(region_N), way_N2, self.way_habit(region_N, recalled)]
        return self.travel_head(hidden_ND, torch.cat(codes, dim=-1))

    def stay(self, hidden_ND: Tensor, arrivals: Arrivals, recalled: Recalled) -> GapDuration:
        """p(seconds of the stay) of those who arrive so."""
        room_s_N = arrivals.until_s_N - arrivals.arrived_s_N
        codes = [
            self.region_codes(arrivals.region_N),
            self.stay_arrival(self.elapsed(arrivals.arrived_s_N)),
            arrivals.calendar_NK,
            self.log_time(arrivals.travel_s_N).unsqueeze(-1),
            self.room(room_s_N),
            self.stay_habit(arrivals, recalled),
        ]
        return self.stay_head(hidden_ND, torch.cat(codes, dim=-1), room_s_N)

    def room(self, seconds: Tensor) -> Tensor:
        """How much time a gap leaves, and whether there is one, (..., 2)."""
        is_gap = seconds.isfinite()
        seconds = torch.where(is_gap, seconds, self.places.duration_s.p50).clamp(min=1.0)
        code = torch.log(seconds / self.places.time_scale_s)
        return torch.stack([code * is_gap, is_gap], dim=-1).float()

    def region_codes(self, region_N: Tensor) -> Tensor:
        """What of an asked region the heads read: its embedding and its centre, (N, F)."""
        centre_m_NC = self.places.clipped_m(self.centre_m_RC[region_N])
        return torch.cat([self.region(region_N), self.place(centre_m_NC)], dim=-1)

    # ------------------------------------------------------------------ training

    def loss(self, batch: VisitBatch) -> Loss:
        """Loss of the targets, each given the visits before it.

        A target costs the surprise of its region, of its travel given the region, and of its stay
        given both, in nats and seconds. A travel that is not known costs nothing, a stay whose end
        was not seen costs the surprise of lasting that long.
        """
        told, asked = self.asked(batch)
        parts = self.surprises(told, asked)
        sums = {name: value_N.sum().float() for name, value_N in parts.items()}
        return Loss.of(torch.tensor(len(asked.region_N)), sums)

    def asked(self, batch: VisitBatch) -> tuple[Told, AskedVisits]:
        """What is told before each target, and the target."""
        tokens = begun(batch)
        is_asked_BV = tokens.is_target_BV & ~tokens.is_pad_BV
        is_before_BV = torch.zeros_like(is_asked_BV)
        is_before_BV[:, :-1] = is_asked_BV[:, 1:]
        told = self.told(self.encode(tokens), tokens, is_before_BV)
        return told, AskedVisits.of(tokens, is_asked_BV)

    def surprises(self, told: Told, asked: AskedVisits) -> dict[str, Tensor]:
        """Of the region, the travel and the stay (N), in nats; zero where nothing is known."""
        travel, stay = told.travel(asked.region_N), told.stay(asked)
        travel_N = torch.where(asked.is_travel_known_N, -travel.log_density(asked.travel_s_N), 0.0)
        stay_N = torch.where(
            asked.is_censored_N,
            -stay.log_survival(asked.duration_s_N),
            -stay.log_density(asked.duration_s_N),
        )
        return {
            "region_nll": self.region_nll(told, asked.region_N),
            "travel_nll": travel_N,
            "stay_nll": stay_N,
        }


def log_distance(metres: Tensor) -> Tensor:
    """On a scale of magnitudes, from the width of a small cell on."""
    return torch.log1p(metres / SHORTEST_WAVE_M).float()
