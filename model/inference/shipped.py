"""Shipped weights: a folder of weights and JSON that a wheel carries, checked before it is asked.

Unlike a registered model it brings no code, so three things are looked at: each file is as it was
built, the installed code is of the version that it was built for, and a question that was put when
it was built is answered alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .point_frames import PointFrames, opened

MANIFEST, EXAMPLE = "manifest.json", "example.json"
SCHEMA = 1
PLACE = ["lon_deg", "lat_deg"]
Rows = Sequence[Mapping[str, Any]]  # of a question: points, as JSON holds them
STEPS = 4  # of the forecast that is asked of every code
TOLERANCE = 0.01  # of how far the forecast leads: machines round otherwise


def load_shipped(folder: Path) -> PointFrames:
    """The model of a folder, asked about frames; what is damaged or of another version is refused.

    Each of its tasks is a method, such as `forecast(frame)`.
    """
    manifest = read_manifest(folder)
    check_version(manifest)
    check_files(folder, manifest["files"])
    facts = json.loads((folder / "serving.json").read_bytes())
    asked = opened(folder, facts["params"], facts["weights_sha256"])
    check_example(asked, json.loads((folder / EXAMPLE).read_bytes()))
    return asked


def manifest_of(folder: Path, built_for: str) -> dict[str, Any]:
    """What is told of a folder that holds everything else: the code it is for, and its hashes."""
    return {"schema": SCHEMA, "trajfoundry": built_for, "files": hashes_of(folder)}


def hashes_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file but the manifest, by its name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        is_whole = {"schema", "trajfoundry", "files"} <= manifest.keys()
    except (OSError, ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ValueError(f"the weights in {folder} are damaged: no readable {MANIFEST}; {AGAIN}")
    if manifest["schema"] != SCHEMA:
        raise ValueError(
            f"the weights in {folder} are written in form {manifest['schema']}, and this "
            f"trajfoundry reads form {SCHEMA}; {AGAIN}"
        )
    return dict(manifest)


AGAIN = "install trajfoundry-weights again, in the version of trajfoundry"


def check_version(manifest: Mapping[str, Any]) -> None:
    """Refuse code of another version; code that is run where it lies is told by its answers."""
    try:
        installed = version("trajfoundry")
    except PackageNotFoundError:
        return
    if line_of(installed) != line_of(manifest["trajfoundry"]):
        raise ValueError(
            f"the weights were built for trajfoundry {line_of(manifest['trajfoundry'])}, and "
            f"{installed} is installed; {AGAIN}"
        )


def line_of(number: str) -> str:
    """The first two numbers of a version, within which answers stay as they are."""
    return ".".join(number.split(".")[:2])


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Refuse files that are missing, changed, or were not there when the weights were built."""
    found = hashes_of(folder)
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            fault = "was changed" if name in found else "is missing"
            fault = fault if name in expected else "does not belong there"
            raise ValueError(f"the weights in {folder} are damaged: {name} {fault}; {AGAIN}")


# The example ------------------------------------------------------------------------------------


def example_of(asked: PointFrames, points: Rows) -> dict[str, Any]:
    """A question about one trajectory, and where the model leads from there."""
    return {"points": list(points), "answer": answered(asked, points).tolist()}


def answered(asked: PointFrames, points: Rows) -> Any:
    """The places (STEPS, 2) that a model forecasts, in degrees; nothing is drawn."""
    return asked.forecast(list(points), horizon=STEPS, num_samples=0)[PLACE].to_numpy()


def check_example(asked: PointFrames, example: Mapping[str, Any]) -> None:
    """Refuse code that makes other answers of the weights than the code that they are of."""
    told, expected = answered(asked, example["points"]), np.array(example["answer"])
    last = example["points"][-1]
    length_deg = np.abs(expected - [last[name] for name in PLACE]).max()
    if not np.abs(told - expected).max() <= TOLERANCE * length_deg:
        raise ValueError(
            "the installed trajfoundry makes other answers of these weights than the one that "
            f"they were built with; {AGAIN}"
        )
