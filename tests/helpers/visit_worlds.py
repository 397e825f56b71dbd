"""Visits of `VisitLaw`, whose least surprise is known, as batches and as what training reads.

Shapes: B rows, V visits, R regions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from helpers.process_floors import RegionChainFloor
from model.data.visits import VISIT_SCHEMA, VISIT_WINDOW_SCHEMA
from model.earth.calendar import CYCLES, calendar_of, waves
from model.earth.cells import cells_of
from model.earth.geometry import step_from
from model.features.normaliser import Quantiles
from model.features.places import NUM_SPECIAL, Places, Special
from model.interface.visit_batch import CYCLES_OF_VISITS, VisitBatch
from model.synthetic.visit_law import VisitLaw

LAW = VisitLaw(chain=RegionChainFloor(side=4, stay=0.0))
CELL_M = 2_000.0
MONDAY_US = 1_704_067_200_000_000  # 2024-01-01


def places_of(law: VisitLaw = LAW) -> Places:
    column_R, row_R = law.chain.places(np.arange(law.chain.num_regions))
    east_m_R, north_m_R = column_R * CELL_M, row_R * CELL_M
    lon_deg, lat_deg = step_from(
        *torch.tensor([[4.35], [50.85]]).double(), *map(torch.from_numpy, (east_m_R, north_m_R))
    )
    distance_m_R = np.hypot(east_m_R, north_m_R)
    return Places(
        resolution=8,
        cells=tuple(cells_of(lon_deg.numpy(), lat_deg.numpy(), 8).tolist()),
        centroid_lon_deg=4.35,
        centroid_lat_deg=50.85,
        east_m=tuple(east_m_R.tolist()),
        north_m=tuple(north_m_R.tolist()),
        num_visits=10_000,
        min_stay_s=law.least_stay_s,
        duration_s=Quantiles(1_500.0, 4_000.0, 12_000.0),
        travel_s=Quantiles(0.0, 1_000.0, 2_000.0),
        distance_m=Quantiles(*np.quantile(distance_m_R, [0.1, 0.5, 0.9]).tolist()),
        max_distance_m=float(distance_m_R.max()),
        max_elapsed_s=1e7,
    )


def visits_of_law(seed: int, num_rows: int, num_visits: int, law: VisitLaw = LAW):
    """Regions, travels and stays (B, V) as the law draws them, in whole microseconds."""
    generator = np.random.default_rng(seed)
    drawn = [law.draw(generator, num_visits) for _ in range(num_rows)]
    region_BV, travel_s_BV, stay_s_BV = (np.stack(values) for values in zip(*drawn, strict=True))
    return region_BV, np.round(travel_s_BV, 6), np.round(stay_s_BV, 6)


def begins_us(seed: int, num_rows: int):
    """An instant of one week for each row (B, 1), since the law knows no calendar."""
    second_B1 = np.random.default_rng(seed).integers(0, 7 * 86_400, (num_rows, 1))
    return MONDAY_US + second_B1 * 10**6


def batch_of_visits(
    region_BV, travel_s_BV, stay_s_BV, num_pads: int = 0, seed: int = 0, law: VisitLaw = LAW
):
    """The same as a batch: every visit but the first is asked, and no record ends early."""
    num_rows, num_visits = region_BV.shape
    passed_us_BV = np.round((np.cumsum(travel_s_BV, 1) + np.cumsum(stay_s_BV, 1)) * 1e6)
    left_us_BV = passed_us_BV.astype(np.int64)
    arrived_us_BV = left_us_BV - np.round(stay_s_BV * 1e6).astype(np.int64)
    local = calendar_of(begins_us(seed, num_rows) + arrived_us_BV, "UTC")
    clocks = [waves(CYCLES[name])[local[name]] for name in CYCLES_OF_VISITS]
    column_BV, row_BV = law.chain.places(region_BV)
    is_asked_BV = np.tile(np.arange(num_visits) > 0, (num_rows, 1))
    columns = {
        "region_BV": (region_BV + NUM_SPECIAL, Special.PAD),
        "east_m_BV": (column_BV * CELL_M, 0.0),
        "north_m_BV": (row_BV * CELL_M, 0.0),
        "arrived_s_BV": (arrived_us_BV / 1e6, 0.0),
        "left_s_BV": (left_us_BV / 1e6, 0.0),
        "calendar_BVK": (np.concatenate(clocks, axis=-1), 0.0),
        "is_pad_BV": (np.zeros(region_BV.shape, bool), True),
        "is_target_BV": (is_asked_BV, False),
        "is_censored_BV": (np.zeros(region_BV.shape, bool), False),
        "is_way_seen_BV": (np.ones(region_BV.shape, bool), False),
    }
    padded = {
        name: np.pad(
            value,
            [(0, 0), (0, num_pads), (0, 0)][: value.ndim],
            constant_values=nothing,
        )
        for name, (value, nothing) in columns.items()
    }
    tensors = {name: torch.from_numpy(value) for name, value in padded.items()}
    return VisitBatch(**tensors, window_id_B=torch.arange(num_rows))


def sizes_of(first: int, end: int, most: int, fewest: int | None):
    """How many visits each row has (B): all the most, or any number from the fewest on."""
    return np.random.default_rng(first).integers(fewest or most, most + 1, end - first)


HIDDEN = (2, 4, 5)


def with_hidden(window):
    """The same with two gaps, of one visit and of two."""
    is_observed = [place not in HIDDEN for place in range(window["num_points"])]
    return window | {"task": "infill", "mask": "inner", "is_observed": is_observed}


def is_infilled(window, num_infilled: int) -> bool:
    return window["split"] != "train" and window["row"] < num_infilled


def write_shards_of_law(
    folder: Path,
    spans: dict[str, tuple[int, int]],
    num_visits: int,
    law: VisitLaw = LAW,
    fewest: int | None = None,
    splits_asked: tuple[str, ...] = ("validation", "test"),
    num_infilled: int = 0,
) -> None:
    """Rows of visits for each split, from one seed to another, and the places of the law.

    With a fewest number of visits, rows have any number from there on. In the splits that are
    asked, a window of each row is stored; of the first rows one with two gaps as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = places_of(law)
    (folder / "places.json").write_text(json.dumps(places.to_json()))
    sizes = {span: sizes_of(*span, num_visits, fewest) for span in spans.values()}
    windows = [
        {
            "window_id": number,
            "row": number - first,
            "task": "next_visit",
            "entity_id": f"{split}-{number:06d}",
            "split": split,
            "mask": "next",
            "start": 0,
            "num_points": size,
            "num_context": size - 1,
            "is_observed": [True] * (size - 1) + [False],
        }
        for split, (first, end) in spans.items()
        if split in splits_asked
        for number, size in zip(range(first, end), sizes[first, end].tolist(), strict=True)
    ]
    windows += [window for window in map(with_hidden, windows) if is_infilled(window, num_infilled)]
    index = pa.Table.from_pylist(windows, pa.schema(VISIT_WINDOW_SCHEMA))
    pq.write_table(index, folder / "windows.parquet")
    centres = torch.stack(places.degrees(*places.centres_m()), dim=-1).numpy()
    for split, (first, end) in spans.items():
        region_BV, travel_s_BV, stay_s_BV = visits_of_law(first, end - first, num_visits, law)
        passed_s_BV = np.cumsum(travel_s_BV, 1) + np.cumsum(stay_s_BV, 1)
        left_us_BV = np.round(passed_s_BV * 1e6).astype(np.int64)
        left_us_BV += begins_us(first, end - first)
        arrived_us_BV = left_us_BV - np.round(stay_s_BV * 1e6).astype(np.int64)
        place_BVC = centres[region_BV + NUM_SPECIAL]
        columns = {
            "region_id": region_BV + NUM_SPECIAL,
            "arrived_us": arrived_us_BV,
            "duration_s": stay_s_BV,
            **{name: place_BVC[..., 0] for name in ("lon_deg", "exact_lon_deg")},
            **{name: place_BVC[..., 1] for name in ("lat_deg", "exact_lat_deg")},
            "is_censored": np.zeros(region_BV.shape, bool),
            "is_way_seen": np.ones(region_BV.shape, bool),
        }
        size_B = sizes[first, end]
        edges = pa.array(np.cumsum(np.concatenate([[0], size_B])), pa.int32())
        is_kept_BV = np.arange(num_visits) < size_B[:, None]
        lists = {
            name: pa.ListArray.from_arrays(
                edges, pa.array(value[is_kept_BV], VISIT_SCHEMA[name].value_type)
            )
            for name, value in columns.items()
        }
        entity_id = pa.array([f"{split}-{number:06d}" for number in range(first, end)])
        table = pa.table({"entity_id": entity_id, **lists}).select(list(VISIT_SCHEMA))
        pq.write_table(table, folder / f"{split}-000.parquet", row_group_size=2_000)
