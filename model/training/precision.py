"""Precision: the blocks of a transformer in bfloat16 where it gains, all else in float32.

Geometry stays in float64; features, heads, losses, weights and the optimiser in float32. bfloat16
has float32's range, so no loss needs scaling. Whether a device gains is measured, not looked up:
a processor with the instructions is up to four times faster, one without up to thirty times slower.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..layers.transformer import Block, Transformer
from .config import Precision
from .isolation import cuda_devices

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PROBE_S, NUM_PROBES = 1.0, 20
PROBE_ROWS = {"cpu": 32}
MANY_ROWS = 256  # keep a device of its own busy
PROBE_POINTS = 64
MIN_GAIN = 1.25  # less would not show in a whole step


def settled(precision: Precision, model: nn.Module, device: torch.device) -> Precision:
    """The precision itself; `auto` becomes what the model's blocks are faster in."""
    if precision != "auto":
        return precision
    return "bfloat16" if gain(model, device) >= MIN_GAIN else "float32"


def gain(model: nn.Module, device: torch.device) -> float:
    """How many times faster a block of the model learns in bfloat16; 1 if it has none.

    Medians of turns, for about a second. No random number of the caller's is drawn.
    """
    block = next((part for part in model.modules() if isinstance(part, Block)), None)
    if block is None:
        return 1.0
    copy = deepcopy(block).train()
    num_rows, width = PROBE_ROWS.get(device.type, MANY_ROWS), block.attention.qkv.in_features
    generator = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(num_rows, PROBE_POINTS, width, generator=generator).to(device)
    readings: dict[torch.dtype, list[float]] = {dtype: [] for dtype in DTYPES.values()}
    started_s = time.perf_counter()
    with torch.random.fork_rng(cuda_devices(device)):
        for _ in range(NUM_PROBES):
            for dtype, seconds in readings.items():
                seconds.append(_seconds(copy, x_BTD, dtype))
            if time.perf_counter() - started_s > PROBE_S:
                break
    # The first of each is what starting up costs, if there are others.
    float32_s, bfloat16_s = (statistics.median(s[1:] or s) for s in readings.values())
    return float32_s / bfloat16_s


def _seconds(block: Block, x_BTD: Tensor, dtype: torch.dtype) -> float:
    """Seconds of a forward and a backward pass."""
    started_s = time.perf_counter()
    with torch.autocast(x_BTD.device.type, dtype, enabled=dtype != torch.float32):
        out_BTD = block(x_BTD, torch.arange(x_BTD.shape[1], device=x_BTD.device))
    out_BTD.sum().backward()
    block.attention.qkv.weight.grad[0, 0].item()  # type: ignore[index]  # waits for the device
    return time.perf_counter() - started_s


@contextmanager
def computing_in(model: nn.Module, precision: Precision) -> Iterator[None]:
    """The model's transformers compute in this precision for a while."""
    transformers = [part for part in model.modules() if isinstance(part, Transformer)]
    before = [part.compute_dtype for part in transformers]
    for part in transformers:
        part.compute_dtype = DTYPES[precision]
    try:
        yield
    finally:
        for part, dtype in zip(transformers, before, strict=True):
            part.compute_dtype = dtype
