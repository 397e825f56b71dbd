"""TrajGPT: a causal transformer over visits that tells where one goes next, how long the way takes
and how long the stay; after Hsu et al. 2024 (arXiv 2411.04381).

A visit is four parts side by side: its place as waves in three directions (Space2Vec), its arrival
and its end as learned waves of time (Time2Vec), and its region; the local clocks are added. Three
heads read the whole state of a visit: P(next region), p(travel | region) and
p(stay | region, travel). What a head tells is never among what it reads: travel is told from the
centre of the region that is asked for and not from the arrival there, a stay from its beginning.
Unlike the published model the first head can point at a visit of the history and go back there.

Shapes: B rows, V visits, N asked visits, D model width, R ids of the vocabulary, F codes of a
region, K calendar features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.columns import Columns
from ...features.places import Places
from ...interface.batch import index_of
from ...interface.family import Network
from ...interface.infilling import TokenBatch, begun
from ...interface.masking import Loss
from ...interface.next_visit import Arrivals, AskedVisits
from ...interface.visit_batch import NUM_VISIT_CALENDAR, VisitBatch
from ...layers.durations import DurationMixture, DurationMixtureHead
from ...layers.embeddings import Space2Vec, Time2Vec
from ...layers.heads import RegionHead
from ...layers.position_encodings import sinusoidal_positions
from ...layers.transformer import KeyValueCache, Transformer, check_shape

SHORTEST_WAVE_M = 100.0  # Space2Vec: below the cells of any vocabulary
MANY_REGIONS = 5_000  # from here on the softmax is an adaptive one
LEAST_CHANCE = 1e-9  # of a region that nobody visited, before the gate


@dataclass(frozen=True)
class TrajGptConfig:
    """Shape of the network; `max_points` is the longest window of visits that it reads."""

    width: int = 128
    num_layers: int = 4
    num_heads: int = 2
    num_components: int = 3
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
class Recalled(Columns):
    """The visits that each of N states can go back to, and how near it is to each of them."""

    share_NV: Tensor  # adds up to one, or to zero where there is no visit yet
    region_NV: Tensor

    def chance_of(self, region_N: Tensor) -> Tensor:
        """The share (N) of the visits in a region."""
        return (self.share_NV * (self.region_NV == region_N.unsqueeze(1))).sum(1)

    def chance_NR(self, num_ids: int) -> Tensor:
        """The share of the visits in every region."""
        chance_NR = self.share_NV.new_zeros(len(self.share_NV), num_ids)
        return chance_NR.scatter_add(1, self.region_NV, self.share_NV)


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
        return self.model.travel(self.hidden_ND, region_N)

    def stay(self, arrivals: Arrivals) -> DurationMixture:
        return self.model.stay(self.hidden_ND, arrivals)


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
        # With blanks a window has more tokens than visits: at most three for one.
        table_VD = sinusoidal_positions(3 * config.max_points, width)
        self.register_buffer("position_VD", table_VD, persistent=False)
        self.register_buffer("centre_m_RC", torch.stack(places.centres_m(), -1), persistent=False)
        self.transformer = Transformer(width, config.num_layers, config.num_heads, config.dropout)
        num_ids = places.num_ids
        cutoffs = [MANY_REGIONS // 5, MANY_REGIONS] if num_ids > MANY_REGIONS else []
        self.region_head = RegionHead(width, num_ids, cutoffs)
        self.recall_query, self.recall_key = nn.Linear(width, width), nn.Linear(width, width)
        self.recall_gate = nn.Linear(width, 1)
        self.travel_head = DurationMixtureHead(
            width, 2 * part, config.num_components, places.travel_s.p50, has_zero=True
        )
        self.stay_arrival = Time2Vec(part)
        self.stay_head = DurationMixtureHead(
            width,
            3 * part + NUM_VISIT_CALENDAR + 3,
            config.num_components,
            places.duration_s.p50,
            places.min_stay_s,
        )

    @property
    def fitted(self) -> Places:
        return self.places

    # ------------------------------------------------------------------ reading

    def encode(
        self, batch: VisitBatch, first: int | Tensor = 0, caches: list[KeyValueCache] | None = None
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
        last = len(self.position_VD) - 1
        x_BVD = x_BVD + self.position_VD[index_BV.clamp(max=last)]
        return self.transformer(x_BVD, index_BV, caches=caches)

    def elapsed(self, seconds: Tensor) -> Tensor:
        """Seconds since the first arrival as the waves read them: in typical times of a visit."""
        return (self.places.clipped_s(seconds) / self.places.time_scale_s).float()

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
        can_go_back_NV = tokens.is_visit_BV[row_N] & (
            index_of(tokens.region_BV)[row_N] <= place_N.unsqueeze(1)
        )
        key_BVD = self.recall_key(hidden_BVD)
        recalled = self.recalled(hidden_ND, key_BVD[row_N], tokens.region_BV[row_N], can_go_back_NV)
        return Told(self, hidden_ND, recalled)

    def recalled(
        self, hidden_ND: Tensor, key_NVD: Tensor, region_NV: Tensor, can_go_back_NV: Tensor
    ) -> Recalled:
        """How near each state is to visits before it, by their keys."""
        query_ND1 = self.recall_query(hidden_ND).unsqueeze(-1)
        near_NV = (key_NVD @ query_ND1).squeeze(-1) / hidden_ND.shape[-1] ** 0.5
        share_NV = near_NV.masked_fill(~can_go_back_NV, -torch.inf).softmax(-1)
        return Recalled(torch.where(can_go_back_NV, share_NV, 0.0), region_NV)

    def log_regions(self, hidden_ND: Tensor, recalled: Recalled) -> Tensor:
        """Log P(next region), (N, R): one of those visited before, or any of the vocabulary.

        A person goes back more often than not, and which regions are hers no weight can know: the
        distribution is a mixture of the two (a pointer network, See et al. 2017).
        """
        log_new_NR = self.region_head.log_probability(hidden_ND)
        log_back_N1, log_other_N1 = self.log_gates(hidden_ND, recalled)
        chance_NR = recalled.chance_NR(log_new_NR.shape[1]).clamp(min=LEAST_CHANCE)
        return torch.logaddexp(log_other_N1 + log_new_NR, log_back_N1 + chance_NR.log())

    def region_nll(self, told: Told, region_N: Tensor) -> Tensor:
        """Surprise (N) of regions, as `log_regions` tells them, of those alone."""
        log_back_N1, log_other_N1 = self.log_gates(told.hidden_ND, told.recalled)
        log_new_N = -self.region_head.nll(told.hidden_ND, region_N)
        log_seen_N = told.recalled.chance_of(region_N).clamp(min=LEAST_CHANCE).log()
        return -torch.logaddexp(log_other_N1[:, 0] + log_new_N, log_back_N1[:, 0] + log_seen_N)

    def log_gates(self, hidden_ND: Tensor, recalled: Recalled) -> tuple[Tensor, Tensor]:
        """Log shares (N, 1) of going back and of the rest; nobody goes back to nothing."""
        gate_N1 = self.recall_gate(hidden_ND)
        has_past_N1 = recalled.share_NV.sum(1, keepdim=True) > 0
        log_back_N1 = torch.where(has_past_N1, functional.logsigmoid(gate_N1), -torch.inf)
        return log_back_N1, torch.where(has_past_N1, functional.logsigmoid(-gate_N1), 0.0)

    def travel(self, hidden_ND: Tensor, region_N: Tensor) -> DurationMixture:
        """p(seconds on the way to a region)."""
        return self.travel_head(hidden_ND, self.region_codes(region_N))

    def stay(self, hidden_ND: Tensor, arrivals: Arrivals) -> DurationMixture:
        """p(seconds of the stay) of those who arrive so."""
        codes = [
            self.region_codes(arrivals.region_N),
            self.stay_arrival(self.elapsed(arrivals.arrived_s_N)),
            arrivals.calendar_NK,
            torch.log1p(arrivals.travel_s_N / self.places.time_scale_s).float().unsqueeze(-1),
            self.room(arrivals.until_s_N - arrivals.arrived_s_N),
        ]
        return self.stay_head(hidden_ND, torch.cat(codes, dim=-1))

    def room(self, seconds_N: Tensor) -> Tensor:
        """How much time a gap leaves, and whether there is one, (N, 2)."""
        is_gap_N = seconds_N.isfinite()
        seconds_N = torch.where(is_gap_N, seconds_N, self.places.duration_s.p50).clamp(min=1.0)
        code_N = torch.log(seconds_N / self.places.time_scale_s)
        return torch.stack([code_N * is_gap_N, is_gap_N], dim=-1).float()

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
