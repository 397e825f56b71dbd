"""Controls: how long a made-up trajectory is to be, in metres along its path and in seconds.

A control is told to the denoiser as its logarithm, of the whole and of a mean step, with mean 0 and
variance 1 over train, beside a flag; of what is not asked it is told exactly nothing. In training
the truth is told, where the start alone is known, of each control now and then. So the same weights
make trajectories up with both, with one or with none, and in sampling what controls change in v can
be stretched by a weight (classifier-free guidance, Ho and Salimans 2022). Where one begins needs no
control: the start is given, and every sample keeps it.

Shapes: B rows, T points, Q points, or 1 for all points of a row, N sequences, K controls, U numbers
of one, F numbers of a step, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...earth.columns import joined
from ...interface.batch import Batch, first_of_sequence, index_of
from .diffusion import Velocity
from .noise import drawn_controls
from .steps import KnownSteps, compressed

CONTROLS = ("length_m", "duration_s")
NUM_OF_TOTAL = 2  # numbers that a control is told by: its logarithm, and that of a mean step
MIN_SPREAD = 0.1  # of logarithms over train
MOST_BEYOND = 3.0  # times the most of train, or a third of the least, can still be asked


class ControlCode(nn.Module):
    """What the denoiser is told of controls: nothing of those that are not asked, which are NaN.

    What is fitted on train is kept with the weights. Before training all controls tell nothing.
    """

    center_KU: Tensor
    spread_KU: Tensor
    least_K: Tensor
    most_K: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        num_controls, wide = len(CONTROLS), torch.float64
        self.register_buffer("center_KU", torch.zeros(num_controls, NUM_OF_TOTAL, dtype=wide))
        self.register_buffer("spread_KU", torch.ones(num_controls, NUM_OF_TOTAL, dtype=wide))
        self.register_buffer("least_K", torch.zeros(num_controls, dtype=wide))
        self.register_buffer("most_K", torch.full((num_controls,), torch.inf, dtype=wide))
        last = nn.Linear(width, width, bias=False)
        nn.init.zeros_(last.weight)
        first = nn.Linear(num_controls * (NUM_OF_TOTAL + 1), width, bias=False)
        self.tell = nn.Sequential(first, nn.SiLU(), last)

    def fit(self, extent_NK: Tensor, num_steps_N: Tensor) -> None:
        """Take mean, deviation and range of the sequences of train that move at all, or last."""
        for control, extent_N in enumerate(extent_NK.double().unbind(-1)):
            moves_N = extent_N > 0
            if not bool(moves_N.any()):
                continue
            log_NU = _logarithms(extent_N[moves_N], num_steps_N[moves_N])
            self.center_KU[control] = log_NU.mean(0)
            self.spread_KU[control] = log_NU.std(0, correction=0).clamp(min=MIN_SPREAD)
            self.least_K[control], self.most_K[control] = extent_N[moves_N].aminmax()

    def forward(self, asked_BQK: Tensor, num_steps_BQ: Tensor) -> Tensor:
        """What is told (B, Q, D) of metres and seconds of so many steps."""
        is_asked_BQK1 = (asked_BQK > 0).unsqueeze(-1)
        extent_BQK = torch.where(is_asked_BQK1[..., 0], asked_BQK.double(), 1.0)
        log_BQKU = _logarithms(extent_BQK, num_steps_BQ.unsqueeze(-1))
        number_BQKU = compressed((log_BQKU - self.center_KU) / self.spread_KU)
        told_BQKU = torch.cat([number_BQKU, torch.ones_like(number_BQKU[..., :1])], dim=-1)
        told_BQD: Tensor = self.tell((told_BQKU * is_asked_BQK1).flatten(-2).float())
        return told_BQD

    def asked(self, controls: Mapping[str, Any], num: int) -> Tensor:
        """Controls (N, K) by their names, each one number for all or one for each, NaN for none.

        What is far from all of train is refused: no weights know what it would look like.
        """
        if unknown := sorted(controls.keys() - set(CONTROLS)):
            raise ValueError(f"no control {unknown[0]!r}; there are: {', '.join(CONTROLS)}")
        asked_NK = torch.full((num, len(CONTROLS)), torch.nan).to(self.center_KU)
        for control, name in enumerate(CONTROLS):
            if name in controls:
                value = torch.as_tensor(controls[name], dtype=asked_NK.dtype).to(asked_NK)
                if value.ndim and value.shape != (num,):
                    raise ValueError(f"{name} must be one number, or one for each of {num} starts")
                self._check(name, control, value)
                asked_NK[:, control] = value
        return asked_NK

    def _check(self, name: str, control: int, value: Tensor) -> None:
        least = float(self.least_K[control]) / MOST_BEYOND
        most = float(self.most_K[control]) * MOST_BEYOND
        can_be = (value >= least) & (value <= most) & (value > 0) & value.isfinite()
        is_wrong = ~can_be & ~value.isnan() if value.ndim else ~can_be
        if bool(is_wrong.any()):
            raise ValueError(
                f"{name} must be from {least:,.6g} to {most:,.6g}, a third of the least of train "
                f"to three times the most, not {float(value[is_wrong][0]):,.6g}"
            )

    def added(self, known: KnownSteps, asked_BK: Tensor) -> KnownSteps:
        """What is known, with what is asked of each row; the same where nothing is asked."""
        if bool(asked_BK.isnan().all()):
            return known
        num_steps_B1 = steps_there(known).sum(1, keepdim=True)
        return replace(known, control_BQD=self(asked_BK.unsqueeze(1), num_steps_B1))

    def taught(
        self, known: KnownSteps, batch: Batch, step_BTF: Tensor, has_BTF: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """What lessons are told (B, Q, D) of the true steps that are asked for, and where (B, T).

        Each control is told of a share of the sequences, and never of one of which more is known
        than the start: a forecast and what is recovered have no controls, and a sum of steps would
        tell of those that are judged.
        """
        extent_BTK, num_steps_BT = extents(step_BTF, steps_there(known), known.sequence_BT)
        is_free_BT = (known.hides_BTF & has_BTF).all(-1)
        num_free_BT = extents(step_BTF, is_free_BT, known.sequence_BT)[1]
        is_told_BTK = drawn_controls(batch, len(CONTROLS), share)
        is_told_BTK &= (num_free_BT == num_steps_BT).unsqueeze(-1)
        told_BTK = torch.where(is_told_BTK, extent_BTK, torch.nan)
        num_told = 1 if batch.window_id_BS is None else None  # one sequence a row
        told_BQD = self(told_BTK[:, :num_told], num_steps_BT[:, :num_told])
        return told_BQD, is_told_BTK.any(-1)


def _logarithms(extent: Tensor, num_steps: Tensor) -> Tensor:
    """Of the whole, and of a mean step."""
    whole = torch.log(extent)
    return torch.stack([whole, whole - torch.log(num_steps.clamp(min=1).double())], dim=-1)


# ---------------------------------------------------------------------------------- extents


def steps_there(known: KnownSteps) -> Tensor:
    """Where (B, T) a step arrives: at points that are neither pads nor the first of a sequence."""
    return ~known.is_pad_BT & (known.position_BT > 0)


def extents(step_BTF: Tensor, counts_BT: Tensor, sequence_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Metres and seconds (B, T, K) of the sequence of each point, and its number of steps (B, T).

    Summed over the steps that count.
    """
    step_BTF = step_BTF.double().masked_fill(~counts_BT.unsqueeze(-1), 0)
    length_m_BT = step_BTF[..., :2].norm(dim=-1)
    own_BTU = torch.stack([length_m_BT, step_BTF[..., 2], counts_BT.double()], dim=-1)
    place_BTU = sequence_BT.unsqueeze(-1).expand_as(own_BTU)
    sum_BTU = torch.zeros_like(own_BTU).scatter_add(1, place_BTU, own_BTU).gather(1, place_BTU)
    return sum_BTU[..., :2], sum_BTU[..., 2]


def extents_of_batch(batch: Batch) -> tuple[Tensor, Tensor]:
    """Metres and seconds (N, K) of the sequences of a batch, and their numbers of steps (N)."""
    index_BT = index_of(batch.is_pad_BT)
    first_BT = first_of_sequence(index_BT, batch.sequence_BT)
    counts_BT = ~batch.is_pad_BT & (index_BT > first_BT)
    extent_BTK, num_steps_BT = extents(batch.step_BTF, counts_BT, batch.sequence_BT)
    is_last_BT = counts_BT & ~functional.pad(counts_BT[:, 1:], (0, 1))
    return extent_BTK[is_last_BT], num_steps_BT[is_last_BT]


# ---------------------------------------------------------------------------------- guidance


def guided(
    ask: Callable[[Tensor, float, KnownSteps], Tensor], known: KnownSteps, weight: float
) -> Velocity:
    """v of steps, in which what the controls change counts so many times.

    It takes the network twice at once, with and without controls; where there are none, or they
    count as they were learnt, once.
    """
    told_BQD = known.control_BQD
    if told_BQD is None or weight == 1:
        return lambda x_BTF, time: ask(x_BTF, time, known)
    both = joined([replace(known, control_BQD=torch.zeros_like(told_BQD)), known])

    def velocity(x_BTF: Tensor, time: float) -> Tensor:
        free_BTF, led_BTF = ask(torch.cat([x_BTF, x_BTF]), time, both).chunk(2)
        return free_BTF + weight * (led_BTF - free_BTF)

    return velocity
