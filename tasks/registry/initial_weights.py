"""Initial weights: the registered model, or a trained one's folder, that a training goes on from.

An address says where they are, and an alias moves: what names a training is their content. So it is
of a model that is judged on other data than it was trained on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.families import FILES, MODULES, POINTS, fitted_file
from tasks.registry.models import fetch_bundle
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.file_hashes import fault_in, sha256_file
from tasks.runtime.manifest import MANIFEST, canonical_json, readable_manifest, sha256_text
from tasks.runtime.store import Store

REGISTERED = "models:/"
SERVING, WEIGHTS, CONFIG = "serving.json", "weights.safetensors", "config.json"
INIT = "--train.init"


def initial_digest(address: str, store: Store) -> str:
    """The name of what an address holds now: of its weights, their shape and their normaliser."""
    with initial_model(address, store) as folder:
        return digest_of(folder)


@contextlib.contextmanager
def initial_model(address: str, store: Store, flag: str = INIT) -> Iterator[Path]:
    """The folder of the weights, the configuration and the normaliser at an address.

    The flag is the one that gave the address, for what is told of it.
    """
    if address.startswith(REGISTERED):
        with store.draft() as scratch:
            yield complete(fetch_bundle(address, store, scratch, flag), address, flag)
    else:
        yield complete(Path(address).expanduser(), address, flag)


def complete(folder: Path, address: str, flag: str) -> Path:
    """A folder that has all that a training begins with."""
    told = flag.removeprefix("--")
    for name in stored_files(folder):
        if not (folder / name).is_file():
            raise ConfigError(
                f"{told}: no {name} in {address}; give models:/NAME@candidate, or the folder "
                "of a trained model"
            )
    if fault := fault_of_weights(folder):
        raise DataError(f"{told}: {address} is damaged: {fault}; give another model")
    return folder


def fault_of_weights(folder: Path) -> str:
    """What is wrong with weights of which it is told, beside them, what they were."""
    if (folder / MANIFEST).exists():
        manifest = readable_manifest(folder)
        told = f"its {MANIFEST} was changed after it was written"
        return told if manifest is None else fault_in(folder, manifest, stored_files(folder))
    if (folder / SERVING).exists():
        facts = json.loads((folder / SERVING).read_bytes())
        if sha256_file(folder / WEIGHTS) != facts["weights_sha256"]:
            return f"{WEIGHTS} was changed after it was written"
    return ""


def kind_of(folder: Path, address: str) -> dict[str, str]:
    """The family that weights are of, its preset, and the inputs that they read."""
    told = json.loads((folder / CONFIG).read_bytes())
    family = str(told.get("family"))
    if family not in MODULES:
        raise ConfigError(
            f"model: {address} is of the family {family!r}, known are {', '.join(sorted(MODULES))}"
        )
    inputs = told.get("config", {}).get("inputs", "kinematic")
    return {"family": family, "preset": str(told.get("preset")), "inputs": str(inputs)}


def digest_of(folder: Path) -> str:
    """The name of what a training begins with, and of what that was trained on."""
    from model.data.seen_points import SEEN_FILE
    from model.interface.named_places import PLACES_FILE

    return files_digest(folder, stored_files(folder), SEEN_FILE, PLACES_FILE)


def answering_digest(folder: Path) -> str:
    """The name of what decides answers and what is said of them: all that lies beside too."""
    from model.data.seen_points import SEEN_FILE
    from model.interface.calibration import CALIBRATION_FILE
    from model.interface.memory.memory import MEMORY_FILE
    from model.interface.named_places import PLACES_FILE

    optional = SEEN_FILE, CALIBRATION_FILE, MEMORY_FILE, PLACES_FILE
    return files_digest(folder, stored_files(folder), *optional)


def files_digest(folder: Path, names: Sequence[str], *optional: str) -> str:
    there = [name for name in optional if (folder / name).is_file()]
    files = {name: sha256_file(folder / name) for name in (*names, *there)}
    return sha256_text(canonical_json(files))[:32]


def stored_files(folder: Path) -> tuple[str, ...]:
    """What a training leaves of a model, and another begins with."""
    try:
        family = json.loads((folder / CONFIG).read_bytes())["family"]
        fitted = fitted_file(family)
    except (OSError, ValueError, KeyError, TypeError):
        fitted = FILES[POINTS]  # `complete` and `kind_of` tell what is amiss
    return WEIGHTS, CONFIG, fitted
