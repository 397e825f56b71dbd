"""Isolation of a training run: its own random state, and signals that ask it to stop.

Whatever a run changes for the whole process is put back when it ends.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor

from ..interface.weights import check_match


@contextmanager
def own_random_state(device: torch.device, seed: int, is_deterministic: bool) -> Iterator[None]:
    """Run with the run's own random state and switches, and put the caller's back."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(cuda_devices(device)):
        torch.default_generator.manual_seed(seed)
        for number in cuda_devices(device):
            torch.cuda.default_generators[number].manual_seed(seed)
        try:
            if is_deterministic:
                torch.use_deterministic_algorithms(True)
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic, warn_only=warned_only)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGINT into a question that the loop asks; a second one changes nothing."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set from Python and cannot be named.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def cuda_devices(device: torch.device) -> list[int]:
    """The numbers of the devices beside the CPU that have a random state of their own."""
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states from which all further random numbers of a run follow."""
    states = {"cpu": torch.get_rng_state()}
    for number in cuda_devices(device):
        states["cuda"] = torch.cuda.get_rng_state(number)
    return states


def set_random_state(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Take up what `random_state` gave."""
    check_match("random state", random_state(device), states)
    torch.set_rng_state(states["cpu"])
    for number in cuda_devices(device):
        torch.cuda.set_rng_state(states["cuda"], number)
