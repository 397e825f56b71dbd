"""Diffusion: how numbers turn into noise and back; the schedule, the target, and the samplers.

At time t in [0, 1] a clean number x_0 is x_t = a x_0 + s e, with e from N(0, 1) and a^2 + s^2 = 1.
The schedule is a cosine, a = cos(pi t / 2), and ends at a = 0: what a sampler begins with, noise
alone, is what training has seen last (Lin et al. 2024, zero terminal SNR). A network predicts
v = a e - s x_0 (Salimans and Ho 2022), which tells both x_0 and e at every t.

Shapes: any; times broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

MAX_WEIGHT = 5.0  # of an error of x_0: gamma of Hang et al. 2023
MAX_PASSES = 50
NUM_TURNS = 2  # of repainting, at each level of noise

Velocity = Callable[[Tensor, float], Tensor]  # v of x_t at a time


# ---------------------------------------------------------------------------------- schedule


def signal_of(time: Tensor) -> Tensor:
    """The share a of the clean number; exactly 0 at t = 1."""
    return torch.sin(math.pi / 2 * (1 - time))


def noise_of(time: Tensor) -> Tensor:
    """The share s of the noise; exactly 0 at t = 0."""
    return torch.sin(math.pi / 2 * time)


def noised(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """x_t of x_0."""
    return signal_of(time) * clean + noise_of(time) * noise


def velocity_of(clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """What the network is to predict."""
    return signal_of(time) * noise - noise_of(time) * clean


def clean_of(x: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
    """x_0, where v is right."""
    return signal_of(time) * x - noise_of(time) * velocity


def noise_within(x: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
    """e, where v is right."""
    return noise_of(time) * x + signal_of(time) * velocity


def weight_of(time: Tensor) -> Tensor:
    """Weight of a squared error of v (min-SNR): an error of x_0 counts `MAX_WEIGHT` at most.

    An error of v is one of x_0 times SNR + 1 = 1 / s^2, and that is what is clipped. With SNR in
    its place the weight would end at 0, and the first pass of a sample, from noise alone, would be
    one that nobody trained.
    """
    return (MAX_WEIGHT * noise_of(time).square()).clamp(max=1.0)


# ---------------------------------------------------------------------------------- samplers


def times_of(num_passes: int) -> list[float]:
    """From noise alone to none, evenly; one pass of the network between two of them."""
    return [1 - number / num_passes for number in range(num_passes)] + [0.0]


def shares_at(time: float) -> tuple[float, float]:
    """a and s of one time."""
    return math.sin(math.pi / 2 * (1 - time)), math.sin(math.pi / 2 * time)


def ddim(
    velocity: Velocity,
    x: Tensor,
    num_passes: int,
    eta: float = 0.0,
    fresh: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """x_0 from noise by the steps of Song et al. 2021, of which `eta` is drawn afresh.

    With 0 it is a function of `x`; with 1 it is the sampler of DDPM. `fresh` gives the noise of a
    pass, and is asked only where `eta` is not 0.
    """
    for number, (now, later) in enumerate(pairwise(times_of(num_passes))):
        drawn = fresh(number) if eta and later and fresh is not None else None
        x = _ddim_step(x, velocity(x, now), now, later, eta, drawn)
    return x


def _ddim_step(
    x: Tensor, predicted: Tensor, now: float, later: float, eta: float, fresh: Tensor | None
) -> Tensor:
    time = x.new_tensor(now)
    clean, noise = clean_of(x, predicted, time), noise_within(x, predicted, time)
    (signal, share), (next_signal, next_share) = shares_at(now), shares_at(later)
    drawn = eta * next_share / share * math.sqrt(1 - (signal / next_signal) ** 2)
    x = next_signal * clean + math.sqrt(max(0.0, next_share**2 - drawn**2)) * noise
    return x if fresh is None else x + drawn * fresh


def repaint(
    velocity: Velocity,
    x: Tensor,
    num_passes: int,
    painted: Callable[[Tensor, float, Tensor], Tensor],
    fresh: Iterator[Tensor],
) -> Tensor:
    """x_0 of which some is known, from a network that never learnt so (Lugmayr et al. 2022).

    `painted` puts what is known of x_t in its place, from x_t, t and noise. Each level is passed in
    `NUM_TURNS`: what came out is noised again, so that what is unknown is told beside what is
    known. It comes near the law of what is unknown, and with many turns alone to it.
    """
    for now, later in pairwise(times_of(max(1, num_passes // NUM_TURNS))):
        for turn in range(NUM_TURNS):
            x = _noised_again(x, later, now, next(fresh)) if turn else x
            drawn = next(fresh)
            x = _ddim_step(x, velocity(x, now), now, later, 1.0, drawn)
            x = painted(x, later, drawn)
    return x


def _noised_again(x: Tensor, now: float, earlier: float, fresh: Tensor) -> Tensor:
    """x_t of an earlier time, where there is more noise, from that of a time."""
    (signal, share), (less_signal, more_share) = shares_at(now), shares_at(earlier)
    kept = less_signal / signal
    return kept * x + math.sqrt(max(0.0, more_share**2 - (kept * share) ** 2)) * fresh


def dpm_solver(velocity: Velocity, x: Tensor, num_passes: int) -> Tensor:
    """x_0 from noise by DPM-Solver++(2M), Lu et al. 2022: x_0 is extrapolated from two passes.

    The first step leaves a = 0 and the last reaches s = 0, at an infinite log(a / s): there, and
    behind the first, one pass has to do.
    """
    before, step_before = x, math.inf
    for now, later in pairwise(times_of(num_passes)):
        clean = clean_of(x, velocity(x, now), x.new_tensor(now))
        (signal, share), (next_signal, next_share) = shares_at(now), shares_at(later)
        step = _log_ratio(later) - _log_ratio(now)
        is_known = math.isfinite(step) and math.isfinite(step_before)
        ahead = clean + step / (2 * step_before) * (clean - before) if is_known else clean
        shrunk = next_share / share
        x = shrunk * x + (next_signal - signal * shrunk) * ahead
        before, step_before = clean, step
    return x


def _log_ratio(time: float) -> float:
    """log(a / s), infinite at both ends."""
    if time in (0.0, 1.0):
        return math.inf if time == 0.0 else -math.inf
    signal, share = shares_at(time)
    return math.log(signal / share)
