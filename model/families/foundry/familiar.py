"""Familiarity: whether what a window shows of itself is like what train showed.

Interval, speed, curvature, roughness and evenness of a window, each within what was usual in train:
the envelope is as wide as all but a few windows of train need. It is fitted once, on train, and is
kept with the weights.

Shapes: N presents, F signs, I bins of intervals, V bins of speeds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .motion import LAGS, LEAST_S, Motion

SIGNS = ("interval", "speed", "curvature", "roughness", "unevenness")
LEAST_POINTS = 4  # before a present whose window tells what it is like
OUTER = 0.02  # tails beside the quantiles that say how wide each sign is
STRANGE = 0.004  # share of the windows of train outside of the envelope
# Of intervals, from a millisecond to years, and of speeds, from a millimetre a second on.
NUM_BINS, BINS_AN_OCTAVE, FIRST_OCTAVE = 80, 2, -10
WIDER_BINS = BINS_AN_OCTAVE  # what is known reaches as far as twice, or half, of what train had
LEAST_SHARE = 0.001  # of the windows of train, for an interval and a speed to be among them
SHORT, LONG = LAGS.index(1), LAGS.index(8)


def signs_of(motion: Motion) -> Tensor:
    """The signs (N, F) of presents."""
    velocity_mps_NLC = motion.velocity_mps_RTLC
    own_NLC = velocity_mps_NLC / motion.speed_mps_RT[..., None, None]
    turned_N = (own_NLC[..., SHORT + 2, :] - own_NLC[..., LONG, :]).norm(dim=-1)
    shaken_N = (own_NLC[..., SHORT, :] - own_NLC[..., SHORT + 2, :]).norm(dim=-1)
    late_N = (motion.lag_s_RTL[..., SHORT].clamp(min=LEAST_S) / motion.pace_s_RT).log().abs()
    logs = [torch.log(motion.pace_s_RT), torch.log(motion.speed_mps_RT)]
    return torch.stack([*logs, turned_N, shaken_N, late_N], dim=-1)


def bin_of(log_value: Tensor) -> Tensor:
    """The bin of intervals or speeds, told by their logarithms."""
    octave = log_value / math.log(2) - FIRST_OCTAVE
    return (octave * BINS_AN_OCTAVE).floor().long().clamp(0, NUM_BINS - 1)


class Envelope(nn.Module):
    """The middle and the sides of each sign in train, and how far outside of them is strange.

    A network that learnt at the intervals of its data alone is trusted near those alone, at speeds
    that it saw at these, and one that saw rows drawn at others, at all.
    """

    low_F: Tensor
    middle_F: Tensor
    high_F: Tensor
    most: Tensor
    is_any_rate: Tensor
    is_known_bin_IV: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("low_F", "middle_F", "high_F"):
            self.register_buffer(name, torch.zeros(len(SIGNS)))
        self.register_buffer("most", torch.tensor(torch.inf))
        self.register_buffer("is_any_rate", torch.tensor(0, dtype=torch.uint8))
        # Members of a corpus come at intervals far apart, and between them nothing was learnt.
        known_IV = torch.ones(NUM_BINS, NUM_BINS, dtype=torch.uint8)
        self.register_buffer("is_known_bin_IV", known_IV)

    def fit(self, signs_NF: Tensor) -> None:
        """From windows of train; without any, all is familiar."""
        if not len(signs_NF):
            return
        sides = torch.tensor([OUTER, 0.5, 1 - OUTER])
        place_3 = (sides * (len(signs_NF) - 1)).round().long()
        sorted_NF = signs_NF.sort(dim=0).values
        for name, value_F in zip(("low_F", "middle_F", "high_F"), sorted_NF[place_3], strict=True):
            getattr(self, name).copy_(value_F)
        away_N = self.away(signs_NF).sort().values
        self.most.copy_(away_N[int((1 - STRANGE) * (len(away_N) - 1))])
        pace_N, speed_N = bin_of(signs_NF[:, 0]), bin_of(signs_NF[:, 1])
        count_IV = (pace_N * NUM_BINS + speed_N).bincount(minlength=NUM_BINS**2)
        is_usual_1IV = (count_IV >= LEAST_SHARE * len(signs_NF)).float().view(1, NUM_BINS, NUM_BINS)
        near_1IV = functional.max_pool2d(is_usual_1IV, 2 * WIDER_BINS + 1, 1, WIDER_BINS)
        self.is_known_bin_IV.copy_(near_1IV[0])

    def away(self, signs_NF: Tensor) -> Tensor:
        """How far (N) the strangest sign lies from its middle: 1 on a side of train."""
        below_NF = (self.middle_F - signs_NF) / (self.middle_F - self.low_F).clamp(min=0.05)
        above_NF = (signs_NF - self.middle_F) / (self.high_F - self.middle_F).clamp(min=0.05)
        return torch.maximum(below_NF, above_NF).amax(-1)

    def knows_interval(self, motion: Motion) -> Tensor:
        """Where (...) the interval is within about half and twice of some that train had."""
        return self.is_known_bin_IV.amax(-1)[bin_of(torch.log(motion.pace_s_RT))] > 0

    def knows_motion(self, motion: Motion) -> Tensor:
        """Where (...) train had such a speed at such an interval, or nearly so."""
        at = (bin_of(torch.log(value)) for value in (motion.pace_s_RT, motion.speed_mps_RT))
        return self.is_known_bin_IV[tuple(at)] > 0

    def holds(self, motion: Motion) -> Tensor:
        """Whether presents (N) are like train; so is one before which too little is known."""
        is_short_N = motion.index_RT < LEAST_POINTS
        return is_short_N | (self.away(signs_of(motion)) <= self.most)

    def trusts(self, motion: Motion) -> Tensor:
        """1 of presents (N) whose forecast a network may correct, 0 of others."""
        is_short_N = motion.index_RT < LEAST_POINTS
        return (is_short_N | self.knows_motion(motion) | (self.is_any_rate > 0)).float()
