"""Kalman smoother: hidden points as the known ones before and after them tell together.

A filter runs forwards over the known points, and the recursion of Rauch, Tung and Striebel (1965)
back. All is seen in the frame of the known point in the middle of a row; where a time is hidden,
it is spread evenly between the known neighbours.

Shapes: B windows, T points, S state, C coordinates (east, north).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..earth.geometry import step_between, step_from
from ..interface.answers import Recovered
from ..interface.contexts import Partial
from .kalman import Bank
from .recovery import Bracket


@dataclass(frozen=True)
class KalmanRecovery:
    """An answerer that fills in hidden points by the smoothed track of one motion."""

    name: str
    bank: Bank
    is_baseline: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("recover",)

    def recover(self, partial: Partial) -> Recovered:
        """Known points stay where they are; NaN where a row shows no point at all."""
        around = Bracket.of(partial)
        is_known_BT, time_s_BT = around.is_known_BT, around.time_s_BT()
        given = partial.lon_deg_BT, partial.lat_deg_BT
        center_B1 = middle_known(is_known_BT)
        center = given[0].gather(1, center_B1), given[1].gather(1, center_B1)
        place_m_BTC = torch.stack(step_between(*center, *given), -1)
        place_m_BTC = place_m_BTC.masked_fill(~is_known_BT.unsqueeze(-1), 0)
        # A pad, and a row without a known point, stands still in time.
        is_timed_BT = (around.has_any_BT | is_known_BT) & ~partial.is_pad_BT
        steady_s_BT = torch.where(is_timed_BT, time_s_BT, -torch.inf).cummax(dim=1).values
        steady_s_BT = torch.where(steady_s_BT.isfinite(), steady_s_BT, 0)
        smooth_m_BTC = smoothed(self.bank, place_m_BTC, steady_s_BT, is_known_BT)[0][..., :2]
        found = step_from(*center, *smooth_m_BTC.unbind(-1))
        lon_deg_BT, lat_deg_BT = (
            torch.where(is_known_BT, given_BT, told_BT.where(around.has_any_BT, torch.nan))
            for given_BT, told_BT in zip(given, found, strict=True)
        )
        return Recovered(lon_deg_BT, lat_deg_BT, time_s_BT, ~is_known_BT & ~partial.is_pad_BT)


def middle_known(is_known_BT: Tensor) -> Tensor:
    """Index (B, 1) of the known point in the middle of each row; 0 where there is none."""
    number_BT = is_known_BT.cumsum(dim=1)
    middle_B1 = (number_BT[:, -1:] + 1) // 2
    return (is_known_BT & (number_BT == middle_B1)).int().argmax(dim=1, keepdim=True)


def smoothed(
    bank: Bank, place_m_BTC: Tensor, time_s_BT: Tensor, is_known_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """States (B, T, S) and covariances (B, T, S, S) that all known points tell, of one motion."""
    if len(bank.motions) != 1:
        raise ValueError("a smoother knows one motion")
    first_B = is_known_BT.int().argmax(dim=1)
    start_m_BC = place_m_BTC[torch.arange(len(first_B)), first_B]
    beliefs = list(bank.followed(place_m_BTC, time_s_BT, is_known_BT, start_m_BC))
    state_BS, covariance_BSS = beliefs[-1].state_BMS[:, 0], beliefs[-1].covariance_BMSS[:, 0]
    found = [(state_BS, covariance_BSS)]
    for place in range(len(beliefs) - 2, -1, -1):
        here_BS, here_BSS = (beliefs[place].state_BMS[:, 0], beliefs[place].covariance_BMSS[:, 0])
        elapsed_s_B = time_s_BT[:, place + 1] - time_s_BT[:, place]
        matrix_BSS = bank.transition(elapsed_s_B)[:, 0]
        ahead_BSS = matrix_BSS @ here_BSS @ matrix_BSS.mT + bank.noise(elapsed_s_B)[:, 0]
        gain_BSS = torch.linalg.solve(ahead_BSS, matrix_BSS @ here_BSS).mT
        missed_BS = state_BS - (matrix_BSS @ here_BS.unsqueeze(-1)).squeeze(-1)
        state_BS = here_BS + (gain_BSS @ missed_BS.unsqueeze(-1)).squeeze(-1)
        covariance_BSS = here_BSS + gain_BSS @ (covariance_BSS - ahead_BSS) @ gain_BSS.mT
        found.append((state_BS, covariance_BSS))
    states, covariances = zip(*reversed(found), strict=True)
    return torch.stack(states, 1), torch.stack(covariances, 1)
