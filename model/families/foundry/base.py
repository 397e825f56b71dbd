"""Base: the simple forecast that a network corrects, blended by what worked inside the window.

Candidates are rest, the mean velocity over some lags, two that slow down, and the velocity that the
source reports, where it does. Each is asked at
every known point for a few known points ahead, and weighs the more the less it missed; nothing is
read behind the present point. Without a past that tells, the weights are those of the parameters.

Shapes: R sequences, T points, N presents, J instants asked, K candidates, A leads, C coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...features.point_features import step_m_between
from .motion import LAGS, LEAST_M, Motion

LEADS = (1, 4, 10)  # points ahead at which candidates are compared
REPORTED = 0  # no lag: what the source says
CANDIDATES: Sequence[tuple[int, float]] = (  # lag, and intervals until a velocity is lost
    (1, 0.0),
    (1, torch.inf),
    (3, torch.inf),
    (8, torch.inf),
    (24, torch.inf),
    (1, 4.0),
    (3, 16.0),
    (REPORTED, torch.inf),
)
NUM_SEEN = len(CANDIDATES) * len(LEADS)
LEAST_SHARE = 0.02  # of the mean error: what misses less is as good as exact
SHARPNESS = 4.0  # weights fall with this power of the error
# A slow loss of speed is poor far ahead, till learnt.
FIRST_BIAS = (1.0, 1.0, 1.0, 0.0, 0.0, 1.0, -4.0, 1.0)


class Base(nn.Module):
    """The blend of candidates; its few parameters are learnt with the network."""

    tau_K: Tensor
    lag_L: Tensor
    log_lead_A: Tensor

    def __init__(self) -> None:
        super().__init__()
        lags = torch.tensor([LAGS.index(lag) for lag, _ in CANDIDATES if lag != REPORTED])
        self.register_buffer("lag_L", lags, persistent=False)
        tau_K = torch.tensor([tau for _, tau in CANDIDATES])
        self.register_buffer("tau_K", tau_K, persistent=False)
        leads = torch.tensor(LEADS, dtype=torch.float32).log()
        self.register_buffer("log_lead_A", leads, persistent=False)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))
        self.bias_AK = nn.Parameter(torch.tensor(FIRST_BIAS).repeat(len(LEADS), 1))

    def moved_m(self, motion: Motion, elapsed_s_J: Tensor) -> Tensor:
        """Where each candidate is after so long, (..., J, K, C), in the frame of the present."""
        lagged_LC, reported_1C = motion.velocity_mps_RTLC, motion.reported_mps_RTC.unsqueeze(-2)
        velocity_KC = torch.cat([lagged_LC[..., self.lag_L, :], reported_1C], dim=-2)
        tau_s_1K = (self.tau_K * motion.pace_s_RT.unsqueeze(-1)).unsqueeze(-2)
        driven_s_JK = _driven_s(elapsed_s_J.unsqueeze(-1), tau_s_1K)
        return velocity_KC.unsqueeze(-3) * driven_s_JK.unsqueeze(-1)

    def told(
        self, lon_deg_RT: Tensor, lat_deg_RT: Tensor, time_s_RT: Tensor, motion: Motion
    ) -> Tensor:
        """Logarithm (R, T, A, K) of each error over that of all; 0 where nothing is known yet.

        So it is of a reported velocity at points without one; all are those told from places.
        Of a lead that is longer than what is known, the next shorter one tells.
        """
        found: list[Tensor] = []
        for lead in LEADS:
            index_RT = motion.index_RT
            ahead_RT = (index_RT + lead).clamp(max=index_RT.shape[1] - 1)
            true_m_RTC = step_m_between(lon_deg_RT, lat_deg_RT, index_RT, ahead_RT).float()
            elapsed_s_RT = (time_s_RT.gather(1, ahead_RT) - time_s_RT).clamp(min=0).float()
            away_m_RTKC = self.moved_m(motion, elapsed_s_RT.unsqueeze(-1))[..., 0, :, :]
            away_m_RTKC = away_m_RTKC - true_m_RTC.unsqueeze(-2)
            miss_m_RTK = torch.sqrt(away_m_RTKC.square().sum(-1) + LEAST_M**2)
            # A first point shows no motion; what was asked `lead` points ago is known now.
            miss_m_RTK = miss_m_RTK * (index_RT > 0).unsqueeze(-1)
            known_m_RTK = functional.pad(miss_m_RTK.cumsum(1), (0, 0, lead, 0))[:, : -lead or None]
            all_m_RT1 = known_m_RTK[..., :-1].mean(-1, keepdim=True)
            share_RTK = known_m_RTK / all_m_RT1.clamp(min=1e-12)
            is_known_RT1 = (index_RT > lead).unsqueeze(-1)
            told_RTK = torch.log(share_RTK.clamp(min=LEAST_SHARE))
            found.append(told_RTK.where(is_known_RT1, found[-1] if found else 0.0))
        told_RTAK = torch.stack(found, dim=-2)
        told_RTAK[..., -1] *= motion.is_reported_RT.unsqueeze(-1)
        return told_RTAK

    def forward(
        self,
        motion: Motion,
        told_NAK: Tensor,
        elapsed_s_NJ: Tensor,
        more_NAK: Tensor | None = None,
        trust_NJ: Tensor | float = 1.0,
    ) -> Tensor:
        """Displacement (N, J, C) after so long; `more_NAK` are logits that a network adds.

        Where it is trusted by a part alone, so is its blend, and the rest is the own one. The own
        parameters do not learn from what a network makes of them: they are to be right alone.
        """
        own_NAK = self.bias_AK - self.sharpness * told_NAK
        is_silent_N1 = ~motion.is_reported_RT.unsqueeze(-1)
        own_NAK[..., -1] = own_NAK[..., -1].masked_fill(is_silent_N1, -torch.inf)
        asked_NJ = torch.log((elapsed_s_NJ / motion.pace_s_RT.unsqueeze(-1)).clamp(min=1e-6))
        near_NJA = hats(asked_NJ, self.log_lead_A)
        if more_NAK is None:
            weight_NJK = near_NJA @ own_NAK.softmax(-1)
        else:
            own_NAK = own_NAK.detach()
            logits = own_NAK, own_NAK + more_NAK
            own_NJK, led_NJK = (near_NJA @ x_NAK.softmax(-1) for x_NAK in logits)
            weight_NJK = own_NJK + torch.as_tensor(trust_NJ).unsqueeze(-1) * (led_NJK - own_NJK)
        return (weight_NJK.unsqueeze(-1) * self.moved_m(motion, elapsed_s_NJ)).sum(-2)


def _driven_s(elapsed_s: Tensor, tau_s: Tensor) -> Tensor:
    """Seconds at the first velocity that lead as far as one that is lost with `tau_s`."""
    is_lasting = torch.isinf(tau_s)
    some_s = tau_s.where(~is_lasting, 1.0).clamp(min=1e-12)
    lost_s = some_s * -torch.expm1(-elapsed_s / some_s)
    return torch.where(is_lasting, elapsed_s, lost_s)


def hats(value_J: Tensor, knot_A: Tensor) -> Tensor:
    """Weights (..., J, A) of linear interpolation between knots, level beyond them."""
    value_J1 = value_J.clamp(knot_A[0], knot_A[-1]).unsqueeze(-1)
    gap_A = knot_A.diff()
    rise_A = functional.pad((value_J1 - knot_A[:-1]) / gap_A, (1, 0), value=torch.inf)
    fall_A = functional.pad((knot_A[1:] - value_J1) / gap_A, (0, 1), value=torch.inf)
    return torch.minimum(rise_A, fall_A).clamp(0, 1)
