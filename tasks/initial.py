"""Initial weights: the registered model, or a trained one's folder, that a training goes on from.

An address says where they are, and an alias moves: what names a training is their content.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tasks.bundle import STORED
from tasks.errors import ConfigError
from tasks.register import fetch_bundle
from tasks.store import Store, canonical_json, sha256_file, sha256_text

REGISTERED = "models:/"


def initial_digest(address: str, store: Store) -> str:
    """The name of what an address holds now: of its weights, their shape and their normaliser."""
    with initial_model(address, store) as folder:
        return digest_of(folder)


@contextlib.contextmanager
def initial_model(address: str, store: Store) -> Iterator[Path]:
    """The folder of the weights, the configuration and the normaliser at an address."""
    if address.startswith(REGISTERED):
        with store.draft() as scratch:
            yield complete(fetch_bundle(address, store, scratch), address)
    else:
        yield complete(Path(address).expanduser(), address)


def complete(folder: Path, address: str) -> Path:
    """A folder that has all that a training begins with."""
    for name in STORED:
        if not (folder / name).is_file():
            raise ConfigError(
                f"train.init: no {name} in {address}; give models:/NAME@candidate, or the folder "
                "of a trained model"
            )
    return folder


def digest_of(folder: Path) -> str:
    return sha256_text(canonical_json({name: sha256_file(folder / name) for name in STORED}))[:32]
