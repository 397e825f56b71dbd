"""Guards of families that fill in what is hidden, each for models with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.walks import batch_of, spoilt, walk, window_of
from model.interface.batch import Batch, Cursor
from model.interface.masking import Draw, Loss, MaskedBatch, masked, segments
from model.training.config import FitConfig
from model.training.fit import fit
from model.training.state import FitResult, Progress

Points = tuple[Tensor, Tensor, Tensor]
NUM_BATCHES = 6


def check_hidden_points_are_unseen(model: Any, num_scored: int) -> None:
    """A hidden point that is not asked may hold anything: the loss of the others stays."""
    batch = window_of(walk(3, 12), num_pads=4)
    is_target_BT = batch.is_target_BT.clone()
    is_target_BT[:, 4] = False
    batch = replace(batch, is_target_BT=is_target_BT)
    plain = model.loss(batch)
    assert int(plain.count) == num_scored
    for nonsense in (float("nan"), 66.0):
        assert torch.equal(model.loss(spoilt(batch, nonsense)).total, plain.total)


def check_windows_count_alike(loss: Callable[[Any], Loss], batch: Batch) -> None:
    """The loss of a window is the mean over what is asked of it, each point asked alone.

    As many points are asked of each window.
    """
    number_BT = batch.is_target_BT.cumsum(1) * batch.is_target_BT
    num_windows, num_asked = len(number_BT), int(number_BT.max())
    with torch.no_grad():
        whole = loss(batch)
        alone = [
            loss(replace(batch, is_target_BT=number_BT == number))
            for number in range(1, num_asked + 1)
        ]
    assert [int(one.count) for one in (whole, *alone)] == (1 + num_asked) * [num_windows]
    mean = torch.stack([one.total for one in alone]).mean()
    torch.testing.assert_close(whole.total, mean, rtol=1e-4, atol=1e-3)


def hiding_others(batch: MaskedBatch) -> MaskedBatch:
    """The batch with other values wherever something is hidden, asked or not."""
    return replace(
        batch,
        lon_deg_BT=torch.where(batch.shows_place_BT, batch.lon_deg_BT, 66.0),
        time_s_BT=torch.where(batch.shows_time_BT, batch.time_s_BT, 1e6),
        calendar_BTK=torch.where(batch.shows_time_BT.unsqueeze(-1), batch.calendar_BTK, 9.0),
        step_BTF=torch.full_like(batch.step_BTF, float("nan")),
    )


def check_rows_are_independent(answer: Callable[[Batch], Tensor], **tolerance: float) -> None:
    """`answer` has a row for each window, and behind that one for each point."""
    points = walk(4, 12)
    together = answer(window_of(points))
    for row in range(4):
        own = [value[row : row + 1] for value in points]
        for num_pads in (0, 7):
            alone = answer(window_of(own, num_pads))[0, :12]
            torch.testing.assert_close(alone, together[row], **tolerance)


def astride_the_date_line(points: Points) -> tuple[Points, Tensor]:
    """The walks with their middle at 180 degrees, and by how much each (B, 1) was moved."""
    lon_deg_BT, lat_deg_BT, time_s_BT = points
    shift_deg_B1 = 180.0 - lon_deg_BT[:, 6:7]
    moved_deg_BT = lon_deg_BT + shift_deg_B1
    moved_deg_BT = torch.where(moved_deg_BT >= 180, moved_deg_BT - 360, moved_deg_BT)
    assert (moved_deg_BT.amax(1) - moved_deg_BT.amin(1) > 359).all()
    return (moved_deg_BT, lat_deg_BT, time_s_BT), shift_deg_B1


# ---------------------------------------------------------------------------------- training


class Stop(Exception):
    """Leaves a run in the middle, as a crash would."""


def check_a_resumed_run_ends_alike(make: Callable[[], Any], draw: Draw, folder: Path) -> None:
    """Whatever is drawn for a window is drawn again: byte for byte the same weights."""

    def crash(progress: Progress) -> None:
        if progress.step == NUM_BATCHES - 1:
            raise Stop

    def fitted(name: str, on_progress: Callable[[Progress], None] | None = None) -> FitResult:
        return _fitted(make, draw, folder / name, on_progress)

    whole = fitted("whole")
    with pytest.raises(Stop):
        fitted("cut", crash)
    resumed = fitted("cut")
    assert resumed.steps == whole.steps == NUM_BATCHES
    assert resumed.weights.read_bytes() == whole.weights.read_bytes()


def _fitted(
    make: Callable[[], Any],
    draw: Draw,
    folder: Path,
    on_progress: Callable[[Progress], None] | None,
) -> FitResult:
    def batches(cursor: Cursor) -> Iterator[Batch]:
        for number in range(cursor.batch, NUM_BATCHES):
            batch = batch_of(*walk(4, 12, seed=number))
            window_id_B = 4 * number + batch.window_id_B
            batch = replace(batch, window_id_B=window_id_B, cursor=Cursor(0, number + 1))
            yield masked(batch, draw, 0)

    torch.manual_seed(0)
    config = FitConfig(
        max_steps=NUM_BATCHES, warmup_steps=1, log_every=1, ema_decay=0.5, checkpoint_every_s=0
    )
    folder.mkdir(exist_ok=True)
    validation = [masked(batch_of(*walk(4, 12, seed=50)), segments, 0)]
    return fit(make(), batches, lambda: validation, config, folder, on_progress)
