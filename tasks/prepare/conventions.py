"""Conventions that several stages share: the names of the splits, and the grid of places.

Points are first put on a grid of `LINES_A_DEGREE`, so that a cell is looked up once a place and not
once a point: that moves them by 8 m at most, and by nothing if they have four decimals or fewer.
"""

SPLITS = ("train", "validation", "test")
LINES_A_DEGREE = 10_000
# Files that a stage publishes and later ones read.
RECOVERY_FILE = "recovery.json"  # of the probe of the encoding
CELLS_FILE = "cells.parquet"  # of a benchmark
SEEN_FILE = "seen_points.safetensors"  # as `model/data/seen_points.py` names it
MEMORY_FILE = "memory.safetensors"  # as `model/interface/memory/memory.py` names it
PLACES_FILE = "named_places.safetensors"  # as `model/interface/named_places.py` names it
CALIBRATION_FILE = "calibration.json"  # as `model/interface/calibration.py` names it
SCORES_FILE = "scores.parquet"
WINDOW_ERRORS_FILE = "window_errors.parquet"
EXAMPLES_FILE = "examples.parquet"
GENERATION_FILE = "generation.parquet"
