"""What other loaders do with the same windows, run in the environment of the peers.

Each contestant yields batches of 128 windows, shuffled, as (B, T, 3) float32: km east and north and
minutes from the first point, padded on the right, with the number of points of each row. `folder`
holds the shards that `bench_loader.py shards` made; what a peer needs beside them lies next to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_clock import Answers, Clock, main
from torch.utils.data import DataLoader

BATCH_SIZE, NUM_EPOCHS, NUM_MIXED = 128, 3, 2_048
KM_PER_DEG = 111.195
COLUMNS = ["lon_deg", "lat_deg", "t_s"]
SCALES = np.array([KM_PER_DEG, KM_PER_DEG, 1 / 60])
SUMS = ("sum_east", "sum_north", "sum_minutes")

Padded = tuple[torch.Tensor, torch.Tensor]  # features (B, T, 3), and the points of each row


# From windows to batches ------------------------------------------------------------------------


def features(row: Any) -> torch.Tensor:
    """One window, (T, 3): from its first point, subtracted before it is rounded."""
    point_TC = np.stack([np.asarray(row[name], np.float64) for name in COLUMNS], axis=-1)
    return torch.from_numpy(((point_TC - point_TC[0]) * SCALES).astype(np.float32))


def collate(windows: list[torch.Tensor]) -> Padded:
    """Windows side by side, as people write it."""
    padded_BTC = torch.nn.utils.rnn.pad_sequence(windows, batch_first=True)
    return padded_BTC, torch.tensor([len(window) for window in windows])


def scattered(table: pa.Table) -> Padded:
    """An Arrow table of windows side by side: one assignment a column, nothing per row."""
    columns = [table[name].combine_chunks() for name in COLUMNS]
    num_points_B = columns[0].value_lengths().to_numpy().astype(np.int64)
    start_B = np.cumsum(num_points_B) - num_points_B
    row_N = np.repeat(np.arange(len(num_points_B)), num_points_B)
    place_N = np.arange(len(row_N)) - start_B[row_N]
    padded_BTC = np.zeros((len(num_points_B), int(num_points_B.max()), len(columns)), np.float32)
    for c, column in enumerate(columns):
        value_N = column.flatten().to_numpy()
        padded_BTC[row_N, place_N, c] = (value_N - value_N[start_B][row_N]) * SCALES[c]
    return torch.from_numpy(padded_BTC), torch.from_numpy(num_points_B)


# Timing -----------------------------------------------------------------------------------------


def load(clock: Clock, epoch: Callable[[int], Iterable[Padded]]) -> None:
    """A first epoch that tells what it holds, then others that are timed."""
    with clock.measure("first") as answers:
        answers |= told(epoch(0))
    with clock.measure("load") as answers:
        epochs = (epoch(number) for number in range(1, 1 + NUM_EPOCHS))
        num_points = sum(int(sizes.sum()) for batches in epochs for _, sizes in batches)
        answers["points"] = num_points / NUM_EPOCHS
    clock.share("load", NUM_EPOCHS)


def told(batches: Iterable[Padded]) -> Answers:
    num_windows, num_points, sums_C = 0, 0, np.zeros(3)
    for padded_BTC, num_points_B in batches:
        num_windows += len(num_points_B)
        num_points += int(num_points_B.sum())
        sums_C += padded_BTC.double().abs().sum(dim=(0, 1)).numpy()
    return {"windows": num_windows, "points": num_points, **dict(zip(SUMS, sums_C, strict=True))}


# The contestants --------------------------------------------------------------------------------


def files(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("train-*.parquet"))]


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The windows as Python objects, one by one."""
    for path in files(folder):
        yield from pq.read_table(path, columns=COLUMNS).to_pylist()


def torch_objects(clock: Clock, folder: Path) -> None:
    """The usual way: a list of tuples in memory, made into tensors window by window."""
    windows = [list(zip(*row.values(), strict=True)) for row in rows_of(folder)]

    class Windows(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(windows)

        def __getitem__(self, number: int) -> torch.Tensor:
            point_TC = torch.tensor(windows[number], dtype=torch.float64)
            return ((point_TC - point_TC[0]) * torch.from_numpy(SCALES)).float()

    loader = DataLoader(Windows(), BATCH_SIZE, shuffle=True, collate_fn=collate)
    load(clock, lambda number: loader)


def litdata(clock: Clock, folder: Path) -> None:
    """litdata as it comes: ready float32 tensors in chunks, shuffled, two threads of torch.

    It decodes 32 tensors for each one that a shuffled reader asks for.
    """
    torch.set_num_threads(2)
    load_chunks(clock, folder, "litdata", "auto", is_array=False)


def litdata_tuned(clock: Clock, folder: Path) -> None:
    """litdata at its best here: arrays, decoded item by item, one thread of torch."""
    load_chunks(clock, folder, "litdata-tuned", 0, is_array=True)


def load_chunks(
    clock: Clock, folder: Path, name: str, batch_decode: int | str, is_array: bool
) -> None:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.item_loader import PyTreeLoader
    from litdata.streaming.writer import BinaryWriter

    chunks = folder.with_name(f"{folder.name}-{name}")
    if not chunks.exists():
        writer = BinaryWriter(str(chunks), chunk_bytes="4MB")
        for number, row in enumerate(rows_of(folder)):
            writer[number] = features(row).numpy() if is_array else features(row)
        writer.done()
        writer.merge()
    dataset = StreamingDataset(str(chunks), item_loader=PyTreeLoader(batch_decode), shuffle=True)
    loader = StreamingDataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        shuffle=True,
        num_workers=0,
        collate_fn=lambda rows: collate([torch.as_tensor(row) for row in rows]),
    )
    load(clock, lambda number: loader)


def hf_stream(folder: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    # A shuffled stream ends by sleeping for 5 s: not a rate, so it is left out.
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    cache = folder.with_name(f"{folder.name}-datasets")
    return datasets.load_dataset(
        "parquet",
        data_files=files(folder),
        split="train",
        streaming=True,
        columns=COLUMNS,
        cache_dir=str(cache),
    )


def hf_rows(clock: Clock, folder: Path) -> None:
    """Hugging Face streaming as it comes: a dictionary of Python lists a row."""
    stream = hf_stream(folder).shuffle(seed=7, buffer_size=NUM_MIXED)

    def epoch(number: int) -> Iterable[Padded]:
        stream.set_epoch(number)
        return DataLoader(
            stream, BATCH_SIZE, collate_fn=lambda rows: collate([features(row) for row in rows])
        )

    load(clock, epoch)


def hf_arrow(clock: Clock, folder: Path) -> None:
    """Hugging Face streaming at its best: Arrow tables, in the order of the files."""
    stream = hf_stream(folder).with_format("arrow")
    load(clock, lambda number: map(scattered, stream.iter(batch_size=BATCH_SIZE)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # to pad in two is slower, and several times so on a busy machine
    main(
        {
            "torch-objects": torch_objects,
            "litdata": litdata,
            "litdata-tuned": litdata_tuned,
            "hf-rows": hf_rows,
            "hf-arrow": hf_arrow,
        }
    )
