"""Checkpoint: weights and training state as safetensors and JSON, so that reading runs no code.

A checkpoint is a folder that is written beside, fsynced and renamed: complete, or not there. Its
`state.json` carries its own SHA-256 and that of each tensor file, so a flipped byte is noticed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..interface.weights import (
    CorruptCheckpoint,
    MismatchedCheckpoint,
    check_match,
    load_tensors,
    read_file,
    replace_file,
    save_tensors,
    sync_folder,
)

logger = logging.getLogger(__name__)
NUM_KEPT = 2
STATE_FILE = "state.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Checkpoint:
    """One saved state: named groups of tensors, and JSON for the rest."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save_json(value: Mapping[str, Any], path: Path) -> None:
    """Write JSON that carries its own digest, as a whole or not at all."""
    body = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(body.encode()).hexdigest()
    replace_file(path, f'{{"sha256": "{digest}", "body": {body}}}\n'.encode())


def load_json(path: Path) -> dict[str, Any]:
    """Read what `save_json` wrote, and refuse it if a byte of the value has changed."""
    try:
        envelope = json.loads(read_file(path))
        digest, value = envelope["sha256"], envelope["body"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path.name}: not a checkpoint's JSON") from error
    body = json.dumps(value, indent=1, sort_keys=True)
    if not isinstance(value, dict) or hashlib.sha256(body.encode()).hexdigest() != digest:
        raise CorruptCheckpoint(f"{path.name}: SHA-256 differs from the recorded one")
    return value


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as a flat dictionary `<parameter number>.<name>`."""
    return {
        f"{number}.{name}": value
        for number, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Fill an AdamW with what `optimiser_tensors` gave; hyperparameters stay the optimiser's."""
    parameters = [value for group in optimiser.param_groups for value in group["params"]]
    numbers = {int(name.split(".")[0]) for name in tensors if name.split(".")[0].isdecimal()}
    if any(number >= len(parameters) for number in numbers):
        raise MismatchedCheckpoint("optimiser: more parameters than the model has")
    expected: dict[str, Tensor] = {}
    for number in numbers:
        expected[f"{number}.step"] = torch.zeros(())
        expected[f"{number}.exp_avg"] = parameters[number]
        expected[f"{number}.exp_avg_sq"] = parameters[number]
    check_match("optimiser", expected, tensors)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        prefix, key = name.split(".")
        state.setdefault(int(prefix), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


# Checkpoint folders -----------------------------------------------------------------------------


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Add a checkpoint to a folder of them, and keep the newest two."""
    sweep(folder)
    draft = folder / f".draft-{uuid.uuid4().hex}"
    draft.mkdir()
    digests = {
        name: save_tensors(tensors, draft / f"{name}.safetensors")
        for name, tensors in checkpoint.tensors.items()
    }
    save_json({"files": digests, "state": dict(checkpoint.state)}, draft / STATE_FILE)
    sync_folder(draft)
    number = max(map(_number, _folders(folder)), default=0) + 1
    final = folder / f"{PREFIX}{number:08d}"
    draft.rename(final)
    sync_folder(folder)
    for old in _folders(folder)[NUM_KEPT:]:
        _remove(old)
    return final


def read_checkpoint(path: Path) -> Checkpoint:
    """One checkpoint folder, every byte of it verified."""
    content = load_json(path / STATE_FILE)
    tensors = {
        name: load_tensors(path / f"{name}.safetensors", digest)
        for name, digest in content["files"].items()
    }
    return Checkpoint(tensors, content["state"])


def sound_checkpoints(folder: Path) -> Iterator[Checkpoint]:
    """The checkpoints that can be read, newest first; a corrupt one is dropped with a warning.

    Whoever asks for the next one has found the one before unusable, so it is dropped as well.
    """
    sweep(folder)
    for path in _folders(folder):
        try:
            yield read_checkpoint(path)
            logger.warning("checkpoint %s cannot be used, falling back", path.name)
        except CorruptCheckpoint as error:
            logger.warning("checkpoint %s is corrupt, falling back: %s", path.name, error)
        _remove(path)


def sweep(folder: Path) -> None:
    """Make the folder, and clear what a killed process left half written in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(".*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}[0-9]*"), key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def _remove(path: Path) -> None:
    # Out of sight first: a half deleted folder must not look like a checkpoint.
    aside = path.with_name(f".old-{uuid.uuid4().hex}")
    path.rename(aside)
    shutil.rmtree(aside)
