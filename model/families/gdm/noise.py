"""Noise of a diffusion: what is drawn in training, and what a sample begins with.

Both are functions of numbers that are known beforehand, so that a training that is resumed draws
what it would have drawn, and a sample depends neither on its neighbours nor on pads.

Shapes: B rows, T points, S samples, P passes of a sampler, F numbers of a step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...interface.batch import Batch
from ...interface.masking import MaskedBatch
from .steps import NUM_STEP

IN_TRAINING, IN_SAMPLING = 1, 2  # kinds of noise: none is that of the masks
SHARE_OF_NOISE_ALONE = 0.1  # of training: t = 1, which the one answer is asked at


def training_noise(batch: Batch) -> tuple[Tensor, Tensor]:
    """The time (B, T) of each sequence of a batch, and the noise (B, T, F) of its points.

    Drawn as a mask is: by the seed of the run, the epoch and the window.
    """
    seed = batch.seed if isinstance(batch, MaskedBatch) else 0
    there = batch.to("cpu")
    is_point_BT, sequence_BT = ~there.is_pad_BT.numpy(), there.sequence_BT.numpy()
    time_BT = np.zeros(is_point_BT.shape)
    noise_BTF = np.zeros((*is_point_BT.shape, NUM_STEP))
    for row in range(len(is_point_BT)):
        for sequence, window_id in enumerate(there.window_ids(row)):
            place_N = np.flatnonzero(is_point_BT[row] & (sequence_BT[row] == sequence))
            key = (seed, batch.cursor.epoch_before, window_id, IN_TRAINING)
            generator = np.random.default_rng(key)
            time_BT[row, place_N] = min(1.0, generator.random() / (1 - SHARE_OF_NOISE_ALONE))
            noise_BTF[row, place_N] = generator.standard_normal((len(place_N), NUM_STEP))
    device = batch.is_pad_BT.device
    return (
        torch.from_numpy(time_BT).float().to(device),
        torch.from_numpy(noise_BTF).float().to(device),
    )


def sample_noise(numbers: range, num_points: int, num_draws: int, seed: int) -> Tensor:
    """Noise (P, S, T, F) of samples by their numbers: what each begins with, and fresh draws.

    Drawn point by point, so that more points behind them change nothing.
    """
    shape = (num_points, num_draws, NUM_STEP)
    drawn = [
        np.random.default_rng((seed, number, IN_SAMPLING)).standard_normal(shape)
        for number in numbers
    ]
    noise_STPF = torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(0, *shape)
    return noise_STPF.permute(2, 0, 1, 3).float()
