"""Code that a stored model carries: named by what it says, and never imported here.

A model of this project is one Python file, the entry, and the source of its inference in a bundle.
Of its description only that is believed which leads MLflow to these, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.runtime.code_closure import python_hash
from tasks.runtime.store import canonical_json, sha256_file, sha256_text

BUNDLE = "artifacts/bundle"
DATA_FILES = frozenset({"families/modules.json"})  # beside the source, and no code
LOADER = "mlflow.pyfunc.loaders.code_model"
# Anything else may name code: `data` another folder, `python_model` a pickle, `config` a file.
DESCRIBED = frozenset(
    (
        *("artifacts", "cloudpickle_version", "code", "env"),
        *("loader_module", "model_code_path", "python_version", "streamable"),
    )
)


class UnknownCode(ValueError):
    """A model would run something that is no source of this project."""


def code_digest(modules: Mapping[str, str], entry: Path) -> str:
    """The name of the source of a model: the hashes of its modules, and its entry."""
    return sha256_text(canonical_json({**modules, "entry": sha256_file(entry)}))[:16]


def carried_digest(folder: Path, flavors: Mapping[str, Any]) -> str:
    """The name of all the code that loading a model from a folder would run."""
    entry = folder / entry_name(flavors.get("python_function") or {})
    if not entry.is_file() or not (folder / BUNDLE / "model").is_dir():
        raise UnknownCode("it does not carry our entry file and the source of its inference")
    return code_digest(carried_modules(folder / BUNDLE / "model"), entry)


def entry_name(described: Mapping[str, Any]) -> str:
    """The file that MLflow would run first, if its description leads to nothing else."""
    entry = Path(str(described.get("model_code_path", ""))).name  # as MLflow takes it
    bundle = described.get("artifacts")
    if described.get("python_model") or not entry:
        raise UnknownCode("it holds a pickle, or no entry file")
    if described.get("loader_module") != LOADER:
        raise UnknownCode(f"it names a loader of its own, {described.get('loader_module')}")
    if described.get("code") or not described.keys() <= DESCRIBED:
        raise UnknownCode("its description names other code")
    if not isinstance(bundle, dict) or {
        name: place.get("path") for name, place in bundle.items()
    } != {"bundle": BUNDLE}:
        raise UnknownCode("its description names another bundle")
    return entry


def carried_modules(package: Path) -> dict[str, str]:
    """The hashes of all modules of a bundle; a file that is none could be run in their place."""
    hashes = {}
    for path in sorted(package.rglob("*")):
        place = path.relative_to(package)
        if path.is_dir() or place.as_posix() in DATA_FILES:
            continue
        if path.suffix != ".py":
            raise UnknownCode(f"its source holds another file, {place}")
        hashes[module_name(place)] = python_hash(path.read_text(encoding="utf-8"))
    return dict(sorted(hashes.items()))


def module_name(place: Path) -> str:
    parts = place.with_suffix("").parts
    return ".".join(("model", *(parts[:-1] if parts[-1] == "__init__" else parts)))
