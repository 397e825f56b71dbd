"""Noise of a diffusion: what is drawn in training, and what a sample begins with.

Both are functions of numbers that are known beforehand, so that a training that is resumed draws
what it would have drawn, and a sample depends neither on its neighbours nor on pads.

Shapes: B rows, T points, N points of a sequence, S samples, P passes of a sampler, F numbers of a
step, K controls.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...earth.arrays import Ints
from ...interface.batch import Batch
from ...interface.masking import MaskedBatch
from .steps import NUM_STEP

IN_TRAINING, IN_SAMPLING, OF_CONTROLS = 1, 2, 3  # kinds of draws: none is that of the masks
SHARE_OF_NOISE_ALONE = 0.1  # of training: t = 1, which the one answer is asked at
SHARE_TOLD = 0.5  # of the controls of a lesson, each by itself: a fourth of lessons know none


def training_noise(batch: Batch) -> tuple[Tensor, Tensor]:
    """The time (B, T) of each sequence of a batch, and the noise (B, T, F) of its points.

    Drawn as a mask is: by the seed of the run, the epoch and the window.
    """
    time_BT = np.zeros(batch.is_pad_BT.shape)
    noise_BTF = np.zeros((*batch.is_pad_BT.shape, NUM_STEP))
    for row, place_N, generator in _drawn(batch, IN_TRAINING):
        time_BT[row, place_N] = min(1.0, generator.random() / (1 - SHARE_OF_NOISE_ALONE))
        noise_BTF[row, place_N] = generator.standard_normal((len(place_N), NUM_STEP))
    device = batch.is_pad_BT.device
    return (
        torch.from_numpy(time_BT).float().to(device),
        torch.from_numpy(noise_BTF).float().to(device),
    )


def drawn_controls(batch: Batch, num_controls: int) -> Tensor:
    """Which controls (B, T, K) of the sequence of each point a lesson may tell; drawn alike."""
    is_told_BTK = np.zeros((*batch.is_pad_BT.shape, num_controls), bool)
    for row, place_N, generator in _drawn(batch, OF_CONTROLS):
        is_told_BTK[row, place_N] = generator.random(num_controls) < SHARE_TOLD
    return torch.from_numpy(is_told_BTK).to(batch.is_pad_BT.device)


def _drawn(batch: Batch, kind: int) -> Iterator[tuple[int, Ints, np.random.Generator]]:
    """Row and places of each sequence of a batch, and what draws for it."""
    seed = batch.seed if isinstance(batch, MaskedBatch) else 0
    there = batch.to("cpu")
    is_point_BT, sequence_BT = ~there.is_pad_BT.numpy(), there.sequence_BT.numpy()
    for row in range(len(is_point_BT)):
        for sequence, window_id in enumerate(there.window_ids(row)):
            place_N = np.flatnonzero(is_point_BT[row] & (sequence_BT[row] == sequence))
            key = (seed, batch.cursor.epoch_before, window_id, kind)
            yield row, place_N, np.random.default_rng(key)


def sample_noise(
    numbers: range, num_points: int, num_draws: int, seed: int, num_numbers: int = NUM_STEP
) -> Tensor:
    """Noise (P, S, T, F) of samples by their numbers: what each begins with, and fresh draws.

    Drawn point by point, so that more points behind them change nothing.
    """
    shape = (num_points, num_draws, num_numbers)
    drawn = [
        np.random.default_rng((seed, number, IN_SAMPLING)).standard_normal(shape)
        for number in numbers
    ]
    noise_STPF = torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(0, *shape)
    return noise_STPF.permute(2, 0, 1, 3).float()
