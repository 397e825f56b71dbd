"""Paths: points from steps, so that each path meets every point that is known.

Steps are walked one after the other from the known point before. What a sampled path is off where
it meets the next known point, in metres and in seconds, is taken off all of its steps alike.

Shapes: B paths, T points, C coordinates (east, north), F numbers of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...earth.geometry import step_between, step_from
from ...interface.masked_input import MaskedInput
from .steps import KnownSteps


def paths_of(
    step_BTF: Tensor, shown: MaskedInput, known: KnownSteps
) -> tuple[Tensor, Tensor, Tensor]:
    """Longitudes, latitudes and seconds (B, T): what is shown, and the steps walked elsewhere."""
    lon_deg_BT, lat_deg_BT = _places(step_BTF[..., :2], shown, known)
    return lon_deg_BT, lat_deg_BT, _times(step_BTF[..., 2], shown, known)


def _times(step_s_BT: Tensor, shown: MaskedInput, known: KnownSteps) -> Tensor:
    """Seconds; between two known times all durations are stretched alike."""
    span = known.time
    elapsed_s_BT = step_s_BT.cumsum(1)
    since_s_BT = elapsed_s_BT - elapsed_s_BT.gather(1, span.start_BT)
    whole_s_BT = since_s_BT.gather(1, span.end_BT)
    started_s_BT = shown.time_s_BT.gather(1, span.start_BT)
    given_s_BT = shown.time_s_BT.gather(1, span.end_BT) - started_s_BT
    is_stretched_BT = span.has_both_BT & (whole_s_BT > 0)
    share_BT = since_s_BT / torch.where(is_stretched_BT, whole_s_BT, 1.0)
    told_s_BT = torch.where(is_stretched_BT, share_BT * given_s_BT, since_s_BT)
    told_s_BT = torch.where(span.has_start_BT, started_s_BT + told_s_BT, 0.0)
    return torch.where(shown.shows_time_BT, shown.time_s_BT, told_s_BT)


def _places(step_m_BTC: Tensor, shown: MaskedInput, known: KnownSteps) -> tuple[Tensor, Tensor]:
    """Longitudes and latitudes; what is left at the next known place is shared out, once."""
    span, shows_BT = known.place, shown.shows_place_BT
    lon_deg_BT, lat_deg_BT = _walked(step_m_BTC, shown)
    is_between_BT = span.has_both_BT & ~span.is_known_BT
    if bool(is_between_BT.any()):
        left_m = step_between(lon_deg_BT, lat_deg_BT, shown.lon_deg_BT, shown.lat_deg_BT)
        share_m = [
            torch.where(is_between_BT, value_BT.gather(1, span.end_BT) / span.num_steps_BT, 0.0)
            for value_BT in left_m
        ]
        lon_deg_BT, lat_deg_BT = _walked(step_m_BTC + torch.stack(share_m, dim=-1), shown)
    return (
        torch.where(shows_BT, shown.lon_deg_BT, lon_deg_BT),
        torch.where(shows_BT, shown.lat_deg_BT, lat_deg_BT),
    )


def _walked(step_m_BTC: Tensor, shown: MaskedInput) -> tuple[Tensor, Tensor]:
    """Where each step leads, from the place before it: the known one, or the one walked to."""
    found, (lon_deg_B, lat_deg_B) = [], (shown.lon_deg_BT[:, 0], shown.lat_deg_BT[:, 0])
    for point in range(1, step_m_BTC.shape[1]):
        lon_deg_B, lat_deg_B = step_from(lon_deg_B, lat_deg_B, *step_m_BTC[:, point].unbind(-1))
        found.append((lon_deg_B, lat_deg_B))
        shows_B = shown.shows_place_BT[:, point]
        lon_deg_B = torch.where(shows_B, shown.lon_deg_BT[:, point], lon_deg_B)
        lat_deg_B = torch.where(shows_B, shown.lat_deg_BT[:, point], lat_deg_B)
    firsts = shown.lon_deg_BT[:, :1], shown.lat_deg_BT[:, :1]
    if not found:
        return firsts
    reached = (torch.stack(column, dim=1) for column in zip(*found, strict=True))
    lon_deg_BT, lat_deg_BT = (
        torch.cat([first_B1, value_BT], dim=1)
        for first_B1, value_BT in zip(firsts, reached, strict=True)
    )
    return lon_deg_BT, lat_deg_BT
