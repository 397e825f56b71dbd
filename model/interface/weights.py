"""Weights on disk: safetensors alone, so that reading them runs no code."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn


class CheckpointError(RuntimeError):
    """A stored model or training state cannot be used."""


class CorruptCheckpoint(CheckpointError):
    """The bytes are not what was written."""


class MismatchedCheckpoint(CheckpointError):
    """The bytes are sound, but they belong to another model, optimiser or configuration."""


# Files ------------------------------------------------------------------------------------------


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write one safetensors file as a whole or not at all; return its SHA-256."""
    # A copy, because safetensors refuses tensors that share memory (tied weights do).
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    content = safetensors.torch.save(copies)
    replace_file(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read one safetensors file, checked against its SHA-256 where that is known."""
    content = read_file(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptCheckpoint(f"{path.name}: SHA-256 differs from the recorded one")
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptCheckpoint(f"{path.name}: {error}") from error


def read_file(path: Path) -> bytes:
    """The bytes of a file that must be there."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise CorruptCheckpoint(f"{path.name}: no such file") from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def sync_folder(folder: Path) -> None:
    """Let the names of a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Models and optimisers --------------------------------------------------------------------------


def save_weights(model: nn.Module, path: Path) -> str:
    """Write a model's parameters and buffers; return the file's SHA-256."""
    digest = save_tensors(model.state_dict(), path)
    sync_folder(path.parent)
    return digest


def load_weights(model: nn.Module, path: Path, sha256: str | None = None) -> None:
    """Fill a model with stored weights; names, shapes and types must all be the model's own."""
    restore_model(model, load_tensors(path, sha256))


def restore_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a model whose names, shapes and types they match exactly."""
    check_match("model", model.state_dict(), tensors)
    model.load_state_dict(dict(tensors), strict=True)


def check_match(what: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names, shapes or types are not the expected ones."""
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        raise MismatchedCheckpoint(f"{what}: missing {missing[:5]}, not known {extra[:5]}")
    for name, value in expected.items():
        stored = found[name]
        if stored.shape != value.shape or stored.dtype != value.dtype:
            ours, theirs = (f"{item.dtype} {tuple(item.shape)}" for item in (value, stored))
            raise MismatchedCheckpoint(f"{what}: {name} is {theirs}, expected {ours}")
