"""Reader of points: their states from their past, the memory that is asked, and where they lead.

Shapes: R sequences, T points, N presents, J instants asked, H points of the horizon, S samples,
D model width, C coordinates (east, north), P pairs of a present and an instant, A leads and
K candidates of the base or knots of a correction.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ...earth.arrays import Ints
from ...earth.geometry import from_heading
from ...features.normaliser import Normaliser
from ...interface.batch import index_of
from ...interface.family import Model
from ...interface.flat_points import FlatPoints
from ...interface.memory.crops import LAGS as REMEMBERED
from ...interface.memory.fitting import fitted_memory
from ...interface.memory.joint import JointMemory, read_memory
from ...interface.memory.memory import MEMORY_FILE, Memory
from ...interface.memory.paths import PastPaths
from ...interface.named_places import PLACES_FILE, read_named_places
from ...interface.recalled import KNOTS as RECALLED
from ...interface.sequence_rows import SequenceRows
from ...interface.weights import MismatchedCheckpoint
from ...layers.distributions import GaussianMixture, StepMixture
from ...layers.elapsed import ElapsedHead
from ...layers.heads import steer
from . import base, motion, place
from .base import Base, hats
from .blocks import Residual
from .config import FoundryConfig
from .density import KNOTS, DensityHead
from .familiar import Envelope
from .kind import KindCode
from .motion import LAGS, LEAST_M, Motion
from .named import NamedCode
from .place import PlaceCode
from .presents import Center, Presents
from .recall import Recall
from .strides import STRIDES

LOG_LOST = math.log(80)  # intervals ahead from which on the base alone tells where
STEERED = [LAGS.index(lag) for lag in (1, 2, 4, 8, 16)]  # velocities that are damped and turned
NUM_STEERED = len(STEERED) + 1  # and the reported one


class Reader(Model):
    """The part that all tasks share: `encode` reads, `center` tells where, `density` how surely."""

    hears = True
    log_knot_K: Tensor
    memory: Memory | JointMemory | None = None

    def __init__(self, config: FoundryConfig, normaliser: Normaliser) -> None:
        super().__init__(config, normaliser)
        width = config.width
        num_seen = motion.NUM_SEEN + base.NUM_SEEN + 1 + (place.NUM_SEEN + 1) * config.has_place
        self.base = Base()
        self.place = PlaceCode() if config.has_place else None
        self.embed_point = nn.Linear(num_seen, width)
        self.kind = KindCode(config) if config.kinds else None
        self.named = NamedCode(config) if config.num_text else None
        self.layers = nn.ModuleList(
            Residual(width, config.dropout) for _ in range(config.num_layers)
        )
        self.correct = nn.Linear(width, 2 * len(KNOTS))
        self.blend = nn.Linear(width, base.NUM_SEEN)
        self.steer = nn.Linear(width, 2 * NUM_STEERED * len(KNOTS))
        self.recall = Recall(config) if config.has_memory else None
        # What is never told in training must say nothing in an answer.
        with torch.no_grad():
            self.embed_point.weight[:, motion.REPORTED_SEEN] = 0
            self.embed_point.weight[:, motion.NUM_SEEN : motion.NUM_SEEN + base.NUM_SEEN][
                :, base.REPORTED_SEEN
            ] = 0
        for last in (self.correct, self.blend, self.steer):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("log_knot_K", torch.tensor(KNOTS).log(), persistent=False)
        self.density_head = DensityHead(width, config.num_components)
        self.elapsed_head = ElapsedHead(width, config.num_components, normaliser)
        self.envelope = Envelope()

    def memory_of(self, points: FlatPoints, entity_R: Ints) -> Memory:
        """A memory of trips, and whose each is."""
        if not self.remembers:
            return cast(Memory, super().memory_of(points, entity_R))
        return fitted_memory(PastPaths.of(points, entity_R), simple=self.simple_mps)

    @torch.no_grad()
    def simple_mps(self, paths: PastPaths, now_N: Ints) -> Tensor:
        """The base of points of past paths, as mean velocities (N, J, C) until each knot."""
        start_R = paths.offset_R[paths.points.trajectory_N[now_N]]
        start_N = np.maximum(start_R, now_N - LAGS[-1])
        at_NT = np.minimum(start_N[:, None] + np.arange(LAGS[-1] + 1), now_N[:, None])
        time_s_NT = (paths.along_us_N[at_NT] - paths.along_us_N[start_N][:, None]) / 1e6
        rows = *paths.place(at_NT), torch.from_numpy(time_s_NT)
        moved = Motion.of(*rows, self.normaliser.typical_step_s, self.normaliser.speed_scale_mps)
        told_NTAK = self.base.told(*rows, moved)
        last = torch.arange(len(now_N)), torch.from_numpy(now_N - start_N)
        return self._simple_mps(moved.at(*last), told_NTAK[last])

    @torch.no_grad()
    def _simple_mps(self, moving: Motion, told_NAK: Tensor) -> Tensor:
        knot_J = torch.tensor(RECALLED, device=moving.pace_s_RT.device)
        elapsed_s_NJ = moving.pace_s_RT.unsqueeze(-1) * knot_J
        return self.base(moving, told_NAK, elapsed_s_NJ) / elapsed_s_NJ.unsqueeze(-1)

    @property
    def max_known(self) -> int:
        """A long context is read with a stride for what lies far ahead."""
        return int(self.config.max_points) * STRIDES[-1]

    @property
    def remembers(self) -> bool:
        """Whether it can be given a memory of past trips."""
        return self.recall is not None

    def read_memory(self, folder: Path) -> None:
        """Take up the memory that a folder holds, if it holds one."""
        if self.remembers and (folder / MEMORY_FILE).exists():
            self.memory = read_memory(folder)

    def read_places(self, folder: Path) -> None:
        """Take up the table of named places that a folder holds, if it holds one."""
        if self.named is not None and (folder / PLACES_FILE).exists():
            places, known = read_named_places(folder), self.config.num_text
            if places.num_numbers != known:
                raise MismatchedCheckpoint(
                    f"{PLACES_FILE}: its texts have {places.num_numbers} numbers, not {known}"
                )
            self.places = places

    # ------------------------------------------------------------------ reading

    def encode(self, rows: SequenceRows) -> Presents:
        """State, motion and base of each point (R, T), from its past.

        What may not be read is zero, and stands behind all that may.
        """
        is_hidden_RT = index_of(rows.time_s_RT) >= rows.num_readable_R.unsqueeze(1)
        lon_deg_RT, lat_deg_RT, time_s_RT = (
            value_RT.masked_fill(is_hidden_RT, 0)
            for value_RT in (rows.lon_deg_RT, rows.lat_deg_RT, rows.time_s_RT)
        )
        usual = self.normaliser.typical_step_s, self.normaliser.speed_scale_mps
        reported_mps_RTC = self._reported(rows.reported_mps_RTC)
        moved = Motion.of(lon_deg_RT, lat_deg_RT, time_s_RT, *usual, reported_mps_RTC)
        told_RTAK = self.base.told(lon_deg_RT, lat_deg_RT, time_s_RT, moved)
        is_told_RT1 = (told_RTAK[..., 0, :].abs().sum(-1, keepdim=True) > 0).float()
        is_drawn_RT = (rows.stands_for_R != 1).unsqueeze(1).expand_as(time_s_RT)
        seen = [moved.seen(), told_RTAK.flatten(-2), is_told_RT1]
        if self.place is not None:
            code_RTK = self.place(lon_deg_RT, lat_deg_RT, moved.heading_RTC)
            is_known_RT = self.place.knows(lon_deg_RT, lat_deg_RT)
            # What comes in so many intervals, a place says of intervals like those of train alone.
            is_known_RT &= ~is_drawn_RT & self.envelope.knows_interval(moved)
            seen += self._placed(code_RTK, is_known_RT)
        x_RTD = self.embed_point(torch.cat(seen, dim=-1).to(self.embed_point.weight.dtype))
        if self.kind is not None and rows.kind_R is not None:
            x_RTD = x_RTD + self.kind(rows.kind_R)
        if self.named is not None and self.places is not None:
            usual_m = usual[0] * usual[1]
            told_RTU = self.named(self.places, usual_m, lon_deg_RT, lat_deg_RT)
            x_RTD = x_RTD + self.named.added(told_RTU, moved.heading_RTC)
        for layer in self.layers:
            x_RTD = layer(x_RTD)
        row_RT = index_of(rows.time_s_RT.T).T
        return Presents(x_RTD, moved, told_RTAK, row_RT, is_drawn_RT)

    def _reported(self, reported_mps_RTC: Tensor | None) -> Tensor | None:
        """The reported motion that is told: in some rows of training none."""
        if reported_mps_RTC is None or not self.training:
            return reported_mps_RTC
        is_silent_R11 = torch.rand_like(reported_mps_RTC[:, :1, :1]) < self.config.share_silent
        return reported_mps_RTC.masked_fill(is_silent_R11, torch.nan)

    def _placed(self, code_RTK: Tensor, is_known_RT: Tensor) -> list[Tensor]:
        """The numbers of places, and whether they are told: not in some rows of training."""
        is_told_RT1 = is_known_RT.unsqueeze(-1).to(code_RTK.dtype)
        if self.training:
            kept_R11 = torch.rand_like(code_RTK[:, :1, :1]) >= self.config.share_placeless
            is_told_RT1 = is_told_RT1 * kept_R11
        return [code_RTK * is_told_RT1, is_told_RT1]

    def recollected(
        self, seen: Presents, lon_deg_N: Tensor, lat_deg_N: Tensor, kin_N: Ints
    ) -> Presents:
        """Presents that are told what past trips did next, none of their own kin."""
        if self.recall is None:
            return seen
        recalled, moving = None, seen.motion
        if self.memory is not None:
            velocity_mps_NLC = moving.velocity_mps_RTLC[:, [LAGS.index(lag) for lag in REMEMBERED]]
            simple_mps_NJC = self._simple_mps(moving, seen.told_NAK)
            asked = lon_deg_N, lat_deg_N, velocity_mps_NLC, moving.pace_s_RT
            recalled = self.memory.recall(*asked, simple_mps_NJC, kin_N)
        hidden_ND, followed = self.recall(seen.hidden_ND, moving, recalled)
        return replace(seen, hidden_ND=hidden_ND, followed=followed)

    def center(self, seen: Presents, elapsed_s_NJ: Tensor) -> Center:
        """Displacement after so long: the base, and what the network adds to it."""
        moving = seen.motion
        steps_NJ = elapsed_s_NJ / moving.pace_s_RT.unsqueeze(-1)
        log_steps_NJ = torch.log(steps_NJ.clamp(min=1e-6))
        near_NJK = hats(log_steps_NJ, self.log_knot_K)
        trust_NJ = ((LOG_LOST - log_steps_NJ) / (LOG_LOST - self.log_knot_K[-1])).clamp(0, 1)
        strange_NJ: Tensor | float = 0.0
        if not self.training:
            is_trusted_N1 = self.envelope.trusts(moving).unsqueeze(-1)
            trust_NJ, strange_NJ = trust_NJ * is_trusted_N1, trust_NJ * (1 - is_trusted_N1)
        led_NJK = trust_NJ.unsqueeze(-1) * near_NJK
        off_NKC = self.correct(seen.hidden_ND).unflatten(-1, (len(KNOTS), 2))
        reach_m_NJ = moving.speed_mps_RT.unsqueeze(-1) * elapsed_s_NJ + LEAST_M
        turned_NJC = from_heading(led_NJK @ off_NKC, moving.heading_RTC.unsqueeze(-2))
        more_NAK = self.blend(seen.hidden_ND).view_as(seen.told_NAK)
        base_m_NJC = self.base(moving, seen.told_NAK, elapsed_s_NJ, more_NAK, trust_NJ)
        # Of a point without a reported motion there is nothing to damp and to turn.
        said_mps_N1C = (moving.reported_mps_RTC * moving.is_reported_RT.unsqueeze(-1)).unsqueeze(1)
        way_mps_NWC = torch.cat([moving.velocity_mps_RTLC[:, STEERED], said_mps_N1C], dim=1)
        way_mps_N1WC = way_mps_NWC.unsqueeze(1)
        numbers_NKW = self.steer(seen.hidden_ND).unflatten(-1, (len(KNOTS), 2 * NUM_STEERED))
        steered_mps_NJC = steer(way_mps_N1WC, *(led_NJK @ numbers_NKW).chunk(2, dim=-1))
        base_m_NJC = base_m_NJC + elapsed_s_NJ.unsqueeze(-1) * steered_mps_NJC
        if self.recall is not None and seen.followed is not None:
            asked = seen.hidden_ND, seen.followed, moving, elapsed_s_NJ, led_NJK, strange_NJ
            base_m_NJC = self.recall.led_m(base_m_NJC, *asked)
        return Center(base_m_NJC + reach_m_NJ.unsqueeze(-1) * turned_NJC, reach_m_NJ, near_NJK)

    def density(self, seen: Presents, center: Center, at_P: tuple[Tensor, ...]) -> StepMixture:
        """How displacements of pairs spread around the center, which they leave where it is."""
        numbers_NKU = self.density_head(seen.hidden_ND.detach())
        present_P = at_P[0]
        numbers_PU = (center.near_NJK[at_P].unsqueeze(1) @ numbers_NKU[present_P]).squeeze(1)
        return self.density_head.around(
            center.moved_m_NJC[at_P].detach(),
            center.reach_m_NJ[at_P],
            seen.motion.heading_RTC[present_P],
            numbers_PU,
        )

    def elapsed(self, seen: Presents, present_P: Tensor, ahead_P: Tensor) -> GaussianMixture:
        """How long it is from presents to points ahead, around intervals of their own past."""
        hidden_PD, pace_s_P = seen.hidden_ND[present_P], seen.motion.pace_s_RT[present_P]
        return self.elapsed_head(hidden_PD.detach(), ahead_P, pace_s_P)
