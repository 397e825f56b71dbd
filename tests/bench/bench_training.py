"""Steps and rollouts of our model beside the published style, each in a process of its own.

`source` is GeoLife; `folder` the shards that `shards` makes of it: the first 10 to 200 points of
each trip, which ends at a silence over 5 minutes. The published style is what released code of such
models does: sequences in random order, padded on the right, through torch's own encoder layers with
the norm behind, a causal mask and one for pads, and a mean squared error. Nobody drops out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_clock import Clock, main
from bench_loader import NORMALISER, as_trips, points_of, write_file
from torch import Tensor, nn

from model.data.options import Reading
from model.data.reading import read_batches
from model.data.shards import WINDOW_SCHEMA, Shards
from model.earth.arrays import Ints
from model.earth.calendar import NUM_CALENDAR
from model.families.chemin.network import Chemin, CheminConfig
from model.inference.api import Context, forecast
from model.interface.batch import Batch, first_of_sequence, index_of
from model.layers.attention_masks import causal_mask
from model.layers.position_encodings import sinusoidal_positions
from model.layers.transformer import Transformer

MIN_POINTS, MAX_POINTS, MAX_SILENCE_S = 10, 200, 300.0
NUM_TRIPS = 512
NUM_ROWS = {"bucketed": 64, "packed": 40}  # about as many real points in a batch
WIDTH, NUM_LAYERS, NUM_HEADS = 96, 2, 4
NUM_FEATURES, NUM_OUTPUTS = 14, 3
NUM_CONTEXT, NUM_HORIZON, NUM_RECOMPUTED = 50, 100, 49
NUM_TURNS = 5  # of peak and step


# The trips --------------------------------------------------------------------------------------


def shards(clock: Clock, source: Path, folder: Path) -> None:
    """Some of GeoLife's trips, clipped, in one file."""
    folder.mkdir(parents=True)
    with clock.measure("shards") as answers:
        points = points_of(source)
        first_W, num_points_W = clipped_trips(points)
        chosen = np.random.default_rng(1).permutation(len(first_W))[:NUM_TRIPS]
        table = as_trips(points, first_W[chosen], num_points_W[chosen], 0)
        write_file(folder / "train-000.parquet", table, num_points_W[chosen])
        pq.write_table(pa.schema(WINDOW_SCHEMA).empty_table(), folder / "windows.parquet")
    answers |= {"trips": len(chosen), "points": int(num_points_W[chosen].sum())}


def clipped_trips(points: pa.Table) -> tuple[Ints, Ints]:
    """First point and size of the beginning of each trip of ten points or more."""
    file_N = points["file_id"].to_numpy()
    time_s_N = points["tracked_at"].cast(pa.int64()).to_numpy() / 1e6
    pause_s_N = np.diff(time_s_N)
    is_cut_N = (np.diff(file_N) != 0) | (pause_s_N > MAX_SILENCE_S) | (pause_s_N < 0)
    first_W = np.flatnonzero(np.r_[True, is_cut_N])
    num_points_W = np.diff(np.r_[first_W, len(file_N)])
    is_kept_W = num_points_W >= MIN_POINTS
    return first_W[is_kept_W], np.minimum(num_points_W[is_kept_W], MAX_POINTS)


# The models -------------------------------------------------------------------------------------


class Published(nn.Module):
    """torch's encoder layers, norm behind, over padded sequences."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, NUM_HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=False
        )
        self.read = nn.Linear(NUM_FEATURES, WIDTH)
        self.encoder = nn.TransformerEncoder(layer, NUM_LAYERS, enable_nested_tensor=False)
        self.tell = nn.Linear(WIDTH, NUM_OUTPUTS)
        self.position_TD = sinusoidal_positions(MAX_POINTS, WIDTH)

    def forward(self, batch: Batch) -> Tensor:
        num_points = batch.is_pad_BT.shape[1]
        x_BTD = self.read(features(batch)) + self.position_TD[:num_points]
        mask_TT = nn.Transformer.generate_square_subsequent_mask(num_points)
        is_pad_BT = torch.zeros(batch.is_pad_BT.shape).masked_fill(batch.is_pad_BT, -torch.inf)
        hidden_BTD = self.encoder(x_BTD, mask_TT, is_pad_BT, is_causal=True)
        return self.tell(hidden_BTD)


class Ours(nn.Module):
    """The same task with our blocks: what they alone gain."""

    def __init__(self, width: int = WIDTH, num_heads: int = NUM_HEADS) -> None:
        super().__init__()
        self.read = nn.Linear(NUM_FEATURES, width)
        self.transformer = Transformer(width, NUM_LAYERS, num_heads)
        self.tell = nn.Linear(width, NUM_OUTPUTS)
        self.position_TD = sinusoidal_positions(MAX_POINTS, width)

    def forward(self, batch: Batch) -> Tensor:
        index_BT = index_of(batch.is_pad_BT)
        place_BT = index_BT - first_of_sequence(index_BT, batch.sequence_BT)
        x_BTD = self.read(features(batch)) + self.position_TD[place_BT]
        return self.tell(self.transformer(x_BTD, index_BT, causal_mask(batch.sequence_BT)))


def features(batch: Batch) -> Tensor:
    """Steps and calendar, repeated up to the published number of features."""
    both_BTF = torch.cat([batch.step_BTF / 100, batch.calendar_BTK], dim=-1)
    return both_BTF.repeat(1, 1, -(-NUM_FEATURES // both_BTF.shape[-1]))[..., :NUM_FEATURES]


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over the points that have a next one in their sequence."""
    error_BTF = model(batch)[:, :-1] - batch.step_BTF[:, 1:] / 100
    return error_BTF[batch.is_target_BT[:, 1:]].square().mean()


def mean_loss(model: Chemin, batch: Batch) -> Tensor:
    return model.loss(batch).mean


def chemin(max_points: int = MAX_POINTS, width: int = WIDTH, num_heads: int = NUM_HEADS) -> Chemin:
    config = CheminConfig(
        width=width, num_layers=NUM_LAYERS, num_heads=num_heads, max_points=max_points
    )
    return Chemin(config, NORMALISER)


# Steps ------------------------------------------------------------------------------------------


def stepping(model: nn.Module, loss_of: Callable[..., Tensor]) -> Callable[[Batch], None]:
    """What one optimiser step does."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(batch: Batch) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss_of(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def epoch(clock: Clock, folder: Path, kind: str, model: nn.Module, loss_of: Callable) -> None:
    """An epoch over the same real points, after two batches that are not timed."""
    batches = batches_of(folder, kind)
    step = stepping(model, loss_of)
    for batch in batches[:2]:
        step(batch)
    with clock.measure("epoch") as answers:
        for batch in batches:
            step(batch)
    num_slots = sum(batch.is_pad_BT.numel() for batch in batches)
    answers["points"] = sum(batch.num_points for batch in batches)
    answers["share_real"] = answers["points"] / num_slots


def batches_of(folder: Path, kind: str) -> list[Batch]:
    """All batches of an epoch: packed, of like length, or as chance puts them."""
    batching = "packed" if kind == "packed" else "bucketed"
    opened = Shards.open(folder)
    if kind != "random":
        return list(
            read_batches(
                opened, Reading("train", 7, NUM_ROWS[batching], MAX_POINTS, batching), num_epochs=1
            )
        )
    # Batches of one are in random order: padded side by side, they are what a sampler would give.
    alone = list(read_batches(opened, Reading("train", 7, 1, MAX_POINTS), num_epochs=1))
    size = NUM_ROWS["bucketed"]
    return [beside(alone[first : first + size]) for first in range(0, len(alone), size)]


def beside(batches: list[Batch]) -> Batch:
    """Batches of one sequence as one, padded on the right."""
    longest = max(batch.is_pad_BT.shape[1] for batch in batches)
    columns = {
        name: torch.cat([grown(batch.columns()[name], name, longest) for batch in batches])
        for name in batches[0].columns()
    }
    return Batch(**columns)


def grown(value: Tensor, name: str, length: int) -> Tensor:
    if "_BT" not in name:
        return value
    shape = (1, length - value.shape[1], *value.shape[2:])
    return torch.cat([value, value.new_full(shape, name == "is_pad_BT")], dim=1)


def published(clock: Clock, folder: Path) -> None:
    epoch(clock, folder, "random", Published(), squared_error)


def blocks_packed(clock: Clock, folder: Path) -> None:
    epoch(clock, folder, "packed", Ours(), squared_error)


def blocks_bucketed(clock: Clock, folder: Path) -> None:
    epoch(clock, folder, "bucketed", Ours(), squared_error)


def whole_packed(clock: Clock, folder: Path) -> None:
    epoch(clock, folder, "packed", chemin(), mean_loss)


def whole_bucketed(clock: Clock, folder: Path) -> None:
    epoch(clock, folder, "bucketed", chemin(), mean_loss)


# Share of the peak ------------------------------------------------------------------------------


def num_flops(width: int, num_points: int, num_rows: int) -> float:
    """Floating-point operations of a training step, as performance.md counts them.

    A token costs 6 for each weight that it meets in a matrix (2 forward, 4 backward), which are
    12 d^2 a layer and 17 d at the ends, and 3 * 4 d * T / 2 a layer for attention to its own past.
    """
    of_weights = 6 * (NUM_LAYERS * 12 * width**2 + (NUM_FEATURES + NUM_OUTPUTS) * width)
    of_attention = 3 * NUM_LAYERS * 4 * width * num_points / 2
    return num_rows * num_points * (of_weights + of_attention)


def peak(clock: Clock, width: int, num_points: int, num_rows: int, num_heads: int) -> None:
    """Steps of blocks and of the whole model, and the time that matmuls of as many FLOPs take."""
    batch = full_batch(num_rows, num_points)
    steps = {
        "blocks": stepping(Ours(width, num_heads), squared_error),
        "whole": stepping(chemin(MAX_POINTS, width, num_heads), mean_loss),
    }
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    actions: dict[str, Callable[[], object]] = {
        "peak": lambda: left @ right,
        **{name: partial(step, batch) for name, step in steps.items()},
    }
    flops = num_flops(width, num_points, num_rows)
    shares = {"peak": flops / (2 * 2048**3)}
    readings: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for turn in range(1 + NUM_TURNS):
        for name, action in actions.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            action()
            seconds = (time.perf_counter() - wall_s, time.process_time() - cpu_s)
            if turn:  # the first is a warm-up
                readings[name].append(seconds)
    for name, seconds in readings.items():
        with clock.measure(f"{name}-{width}") as answers:
            answers["gflop"] = flops / 1e9
        wall_s, cpu_s = np.median(np.array(seconds), axis=0) * shares.get(name, 1.0)
        clock.measures[f"{name}-{width}"] |= {"wall_s": float(wall_s), "cpu_s": float(cpu_s)}


def peak_narrow(clock: Clock) -> None:
    peak(clock, width=96, num_points=50, num_rows=128, num_heads=4)


def peak_wide(clock: Clock) -> None:
    peak(clock, width=256, num_points=200, num_rows=16, num_heads=8)


def full_batch(num_rows: int, num_points: int) -> Batch:
    """Random walks without a pad."""
    generator = torch.Generator().manual_seed(0)
    step_BTF = torch.randn(num_rows, num_points, 3, generator=generator) * 30
    step_BTF[..., 2] = 5 + step_BTF[..., 2].abs()
    step_BTF[:, 0] = 0
    away_BTC = step_BTF[..., :2].double().cumsum(1) / 111_195
    is_point_BT = torch.ones(num_rows, num_points, dtype=torch.bool)
    is_target_BT = is_point_BT.clone()
    is_target_BT[:, 0] = False
    return Batch(
        lon_deg_BT=8 + away_BTC[..., 0],
        lat_deg_BT=away_BTC[..., 1],
        time_s_BT=step_BTF[..., 2].double().cumsum(1),
        step_BTF=step_BTF,
        calendar_BTK=torch.randn(num_rows, num_points, NUM_CALENDAR, generator=generator),
        is_observed_BT=is_point_BT,
        is_target_BT=is_target_BT,
        is_pad_BT=~is_point_BT,
        sequence_BT=torch.zeros(num_rows, num_points, dtype=torch.int64),
        window_id_B=torch.arange(num_rows),
    )


# Rollout ----------------------------------------------------------------------------------------


def context_of(num_rows: int) -> Context:
    batch = full_batch(num_rows, NUM_CONTEXT)
    started_us_B = torch.full((num_rows,), 1_700_000_000_000_000)
    places = (batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT)
    return Context(*places, started_us_B, "UTC", batch.is_pad_BT)


def rollout(clock: Clock, num_rows: int, is_cached: bool, num_times: int) -> None:
    """A forecast of 100 steps, by the cache or by reading the last 49 points again at each."""
    model, context = chemin(NUM_CONTEXT + NUM_HORIZON + 50).eval(), context_of(num_rows)
    action = partial(forecast, model, context, NUM_HORIZON)
    if not is_cached:
        action = partial(recomputed, model, context)
    action()
    with clock.measure(f"rollout-{num_rows}") as answers:
        for _ in range(num_times):
            found = action()
    clock.share(f"rollout-{num_rows}", num_times)
    answers["rows"] = len(found.lon_deg_BH)


def recomputed(model: Chemin, context: Context) -> Context:
    """One step at a time, each a forecast of its own from the last 49 points."""
    lon, lat, when = context.lon_deg_BT, context.lat_deg_BT, context.time_s_BT
    for _ in range(NUM_HORIZON):
        places = (value[:, -NUM_RECOMPUTED:] for value in (lon, lat, when))
        is_pad_BT = torch.zeros(len(lon), NUM_RECOMPUTED, dtype=torch.bool)
        latest = Context(*places, context.started_us_B, context.zone, is_pad_BT)
        found = forecast(model, latest, 1)
        lon, lat, when = (
            torch.cat([value, new], dim=1)
            for value, new in (
                (lon, found.lon_deg_BH),
                (lat, found.lat_deg_BH),
                (when, found.time_s_BH),
            )
        )
    return found


ROLLOUTS = {
    "cached-1": partial(rollout, num_rows=1, is_cached=True, num_times=4),
    "recomputed-1": partial(rollout, num_rows=1, is_cached=False, num_times=2),
    "cached-256": partial(rollout, num_rows=256, is_cached=True, num_times=1),
    "recomputed-256": partial(rollout, num_rows=256, is_cached=False, num_times=1),
}

if __name__ == "__main__":
    # One thread unless told otherwise: beside others, a second one waits for its turn.
    torch.set_num_threads(int(os.environ.get("TRAJFOUNDRY_BENCH_THREADS", "1")))
    main(
        {
            "shards": shards,
            "published": published,
            "blocks-packed": blocks_packed,
            "blocks-bucketed": blocks_bucketed,
            "whole-packed": whole_packed,
            "whole-bucketed": whole_bucketed,
            "peak-96": peak_narrow,
            "peak-256": peak_wide,
            **ROLLOUTS,
        }
    )
