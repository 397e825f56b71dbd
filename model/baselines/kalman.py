"""Kalman filters of motion in a plane: constant velocity, acceleration or turn, and their mixture.

A bank runs one filter for each motion side by side and weighs them by how well they foretell the
fixes (the interacting multiple model of Blom and Bar-Shalom 1988; Bar-Shalom, Li and Kirubarajan
2001, section 11.6). A bank of one is the plain Kalman filter. Steps may be irregular.

States hold metres; time counts in typical steps, which keeps covariances well conditioned whatever
the data. All noise is the same in every direction, so that turning a track turns its estimates.

Shapes: B tracks, M motions, T points, S state (east and north of place, velocity and, where the
bank knows one, acceleration), C coordinates (east, north), K derivatives of the place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..earth.columns import Columns

# Before the first fix nothing is known of place and velocity, and little of acceleration.
PRIOR = (1e6, 1e6, 1e2)
LEAST_WEIGHT = 1e-15  # a motion that is ruled out may come back


@dataclass(frozen=True)
class Motion:
    """One way of going on, disturbed by white noise in its highest derivative.

    `drive` is the intensity of that noise, in the variance of a fix and typical steps; `turn_rad`
    is how far the velocity turns to the left in a typical step.
    """

    drive: float
    turn_rad: float = 0.0
    has_acceleration: bool = False

    @property
    def num_derivatives(self) -> int:
        """The place, the velocity and perhaps the acceleration."""
        return 3 if self.has_acceleration else 2

    def transition(self, steps_B: Tensor, num_derivatives: int) -> Tensor:
        """The matrix (B, S, S) that leads a state on by some typical steps.

        It is written in complex numbers, east + i north, where a turn is one factor.
        """
        half_B = self.turn_rad * steps_B / 2
        driven_B = steps_B * torch.sinc(half_B / torch.pi) * torch.exp(1j * half_B)
        matrix_BKK = driven_B.new_zeros((len(steps_B), num_derivatives, num_derivatives))
        matrix_BKK[:, 0, 0] = 1
        matrix_BKK[:, 0, 1] = driven_B
        matrix_BKK[:, 1, 1] = torch.exp(2j * half_B)
        if self.has_acceleration:
            matrix_BKK[:, 0, 2] = steps_B**2 / 2
            matrix_BKK[:, 1, 2] = steps_B
            matrix_BKK[:, 2, 2] = 1
        return _real(matrix_BKK)

    def noise(self, steps_B: Tensor, num_derivatives: int) -> Tensor:
        """The covariance (B, S, S) that gathers in some typical steps, for fixes of variance 1."""
        matrix_BKK = steps_B.new_zeros((len(steps_B), num_derivatives, num_derivatives))
        highest = self.num_derivatives - 1
        for row in range(highest + 1):
            for column in range(highest + 1):
                up, left = highest - row, highest - column
                power = up + left + 1
                share = self.drive / (power * math.factorial(up) * math.factorial(left))
                matrix_BKK[:, row, column] = share * steps_B**power
        return _real(matrix_BKK + 0j)


@dataclass(frozen=True)
class Belief(Columns):
    """What the filters of a bank hold: states, covariances and weights of each motion."""

    state_BMS: Tensor
    covariance_BMSS: Tensor
    weight_BM: Tensor

    def mean_BS(self) -> Tensor:
        return (self.weight_BM.unsqueeze(-1) * self.state_BMS).sum(1)

    def covariance_BSS(self) -> Tensor:
        """Of the mixture: within the motions and between them."""
        away_BMS = self.state_BMS - self.mean_BS().unsqueeze(1)
        each_BMSS = self.covariance_BMSS + _outer(away_BMS)
        return (self.weight_BM[..., None, None] * each_BMSS).sum(1)


@dataclass(frozen=True)
class Bank:
    """Filters of several motions between which a track changes now and then.

    `fix_m` is the standard deviation of a fix along each axis, `step_s` the typical step. A track
    keeps its motion for `sojourn_steps` on average and then takes any of them. `prior` holds the
    variances of place, velocity and acceleration before the first fix, in that of a fix and typical
    steps.
    """

    motions: tuple[Motion, ...]
    step_s: float
    fix_m: float = 1.0
    sojourn_steps: float = math.inf
    prior: tuple[float, float, float] = PRIOR

    @property
    def num_derivatives(self) -> int:
        return max(motion.num_derivatives for motion in self.motions)

    def start(self, place_m_BC: Tensor) -> Belief:
        """At rest in a place, of which next to nothing is known."""
        num, size = len(place_m_BC), self.num_derivatives
        state_BMS = place_m_BC.new_zeros((num, len(self.motions), 2 * size))
        state_BMS[..., :2] = place_m_BC.unsqueeze(1)
        prior_MK = place_m_BC.new_tensor(self.prior[:size]).repeat(len(self.motions), 1)
        for motion, prior_K in zip(self.motions, prior_MK, strict=True):
            prior_K[motion.num_derivatives :] = 0  # it is sure of what it does not know of
        prior_MS = self.fix_m**2 * prior_MK.repeat_interleave(2, dim=1)
        weight_BM = place_m_BC.new_full((num, len(self.motions)), 1 / len(self.motions))
        return Belief(state_BMS, prior_MS.diag_embed().expand(num, -1, -1, -1), weight_BM)

    def transition(self, elapsed_s_B: Tensor) -> Tensor:
        """Matrices (B, M, S, S) that lead the states on."""
        steps_B = elapsed_s_B / self.step_s
        return torch.stack(
            [one.transition(steps_B, self.num_derivatives) for one in self.motions], 1
        )

    def noise(self, elapsed_s_B: Tensor) -> Tensor:
        """Covariances (B, M, S, S) that gather on the way."""
        steps_B = elapsed_s_B / self.step_s
        unit = torch.stack([one.noise(steps_B, self.num_derivatives) for one in self.motions], 1)
        return self.fix_m**2 * unit

    def change(self, elapsed_s_B: Tensor) -> Tensor:
        """Chances (B, M, M) to come from one motion to another; two steps in turn are one long."""
        num = len(self.motions)
        stays_B11 = torch.exp(-elapsed_s_B / (self.step_s * self.sojourn_steps))[:, None, None]
        same_MM = torch.eye(num, dtype=elapsed_s_B.dtype, device=elapsed_s_B.device)
        return stays_B11 * same_MM + (1 - stays_B11) / num

    def predicted(self, belief: Belief, elapsed_s_B: Tensor) -> Belief:
        """The belief some seconds later, without a fix."""
        mixed = belief
        if len(self.motions) > 1:
            mixed = _mixed(belief, self.change(elapsed_s_B))
        matrix_BMSS = self.transition(elapsed_s_B)
        covariance_BMSS = matrix_BMSS @ mixed.covariance_BMSS @ matrix_BMSS.mT
        return Belief(
            (matrix_BMSS @ mixed.state_BMS.unsqueeze(-1)).squeeze(-1),
            covariance_BMSS + self.noise(elapsed_s_B),
            mixed.weight_BM,
        )

    def updated(self, belief: Belief, place_m_BC: Tensor, is_fix_B: Tensor) -> Belief:
        """The belief once a place is told; where none is, the same."""
        beside_BMSC = belief.covariance_BMSS[..., :2]
        missed_BMC = place_m_BC.unsqueeze(1) - belief.state_BMS[..., :2]
        own_CC = self.fix_m**2 * torch.eye(2, dtype=place_m_BC.dtype, device=place_m_BC.device)
        precision_BMCC, area2_BM = _inverse(beside_BMSC[..., :2, :] + own_CC)
        gain_BMSC = beside_BMSC @ precision_BMCC
        square_BM = torch.einsum("bmc,bmcd,bmd->bm", missed_BMC, precision_BMCC, missed_BMC)
        score_BM = belief.weight_BM.log() - (square_BM + area2_BM.log()) / 2
        found = Belief(
            belief.state_BMS + (gain_BMSC @ missed_BMC.unsqueeze(-1)).squeeze(-1),
            belief.covariance_BMSS - gain_BMSC @ beside_BMSC.mT,
            score_BM.softmax(dim=1).clamp(min=LEAST_WEIGHT),
        )
        return _chosen(is_fix_B, found, belief)

    def followed(
        self, place_m_BTC: Tensor, time_s_BT: Tensor, is_fix_BT: Tensor, start_m_BC: Tensor
    ) -> Iterator[Belief]:
        """The belief at each point in turn, from the fixes up to it alone."""
        belief = self.start(start_m_BC)
        elapsed_s_BT = time_s_BT.diff(dim=1, prepend=time_s_BT[:, :1])
        for place in range(time_s_BT.shape[1]):
            belief = self.predicted(belief, elapsed_s_BT[:, place])
            belief = self.updated(belief, place_m_BTC[:, place], is_fix_BT[:, place])
            yield belief

    def foretold(self, belief: Belief, last_s_B: Tensor, time_s_BH: Tensor) -> Iterator[Belief]:
        """The belief at each time to come."""
        for elapsed_s_B in time_s_BH.diff(dim=1, prepend=last_s_B.unsqueeze(1)).unbind(1):
            belief = self.predicted(belief, elapsed_s_B)
            yield belief


def _mixed(belief: Belief, change_BMM: Tensor) -> Belief:
    """What each motion starts from: the beliefs of all, as likely as they lead to it."""
    joint_BMM = belief.weight_BM.unsqueeze(-1) * change_BMM
    weight_BM = joint_BMM.sum(1).clamp(min=LEAST_WEIGHT)
    share_BMM = joint_BMM / weight_BM.unsqueeze(1)  # from the first to the second
    state_BMS = share_BMM.mT @ belief.state_BMS
    away_BMMS = belief.state_BMS.unsqueeze(2) - state_BMS.unsqueeze(1)
    within_BMSS = torch.einsum("bij,bist->bjst", share_BMM, belief.covariance_BMSS)
    between_BMSS = torch.einsum("bij,bijs,bijt->bjst", share_BMM, away_BMMS, away_BMMS)
    return Belief(state_BMS, within_BMSS + between_BMSS, weight_BM)


def _chosen(is_first_B: Tensor, first: Belief, second: Belief) -> Belief:
    return Belief(
        torch.where(is_first_B[:, None, None], first.state_BMS, second.state_BMS),
        torch.where(is_first_B[:, None, None, None], first.covariance_BMSS, second.covariance_BMSS),
        torch.where(is_first_B[:, None], first.weight_BM, second.weight_BM),
    )


def _real(matrix_BKK: Tensor) -> Tensor:
    """A complex matrix as the real one that does the same to pairs (east, north)."""
    east, north = matrix_BKK.real, matrix_BKK.imag
    pairs_BKK22 = torch.stack([east, -north, north, east], -1).unflatten(-1, (2, 2))
    return pairs_BKK22.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _inverse(matrix_CC: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse and determinant of symmetric matrices of two rows."""
    a, b, d = matrix_CC[..., 0, 0], matrix_CC[..., 0, 1], matrix_CC[..., 1, 1]
    determinant = a * d - b * b
    adjugate_CC = torch.stack([d, -b, -b, a], -1).unflatten(-1, (2, 2))
    return adjugate_CC / determinant[..., None, None], determinant


def _outer(vector: Tensor) -> Tensor:
    return vector.unsqueeze(-1) * vector.unsqueeze(-2)
