"""Evil models, planted where a registered one lies: refused before they answer, and never run."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ships
from helpers.fault_runs import child, finished

from model.interface.weights import load_tensors, save_tensors
from tasks.release.bundle import example_points
from tasks.release.register import register
from tasks.runtime.store import Store

# Asks one registered model once, and says how much memory that took.
ASKING = """
import resource, sys
from flows import cli
from tasks.config.pipeline import ForecastConfig
from tasks.runtime.store import Store
from tasks.serve.batch_predict import forecast_file

root, model, points, answer = sys.argv[1:]


class Asked:
    def execute(self):
        config = ForecastConfig(model=model, horizon=2, num_samples=8)
        print(forecast_file(config, points, answer, Store(root)).line)


code = cli.execute(Asked(), with_trace=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_000)
sys.exit(code)
"""


class Trap:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.place,)


def header(bundle: Path, num_bytes: int) -> None:
    (bundle / "weights.safetensors").write_bytes(struct.pack("<Q", num_bytes) + b"{}")


def overlapping(bundle: Path) -> None:
    value = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"a": value, "b": value}).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(8)
    (bundle / "weights.safetensors").write_bytes(content)


def other_shapes(bundle: Path) -> None:
    path = bundle / "weights.safetensors"
    tensors = load_tensors(path)
    save_tensors({name: value[..., :1].clone() for name, value in tensors.items()}, path)


def pickled(bundle: Path) -> None:
    (bundle / "weights.safetensors").write_bytes(pickle.dumps(Trap(bundle / "sprung")))


def other_family(bundle: Path) -> None:
    path = bundle / "config.json"
    path.write_text(path.read_text().replace('"chemin"', '"../../chemin"'))


FAULTS: dict[str, Callable[[Path], object]] = {
    "a header of 200 MB": lambda bundle: header(bundle, 200 << 20),
    "a header without end": lambda bundle: header(bundle, 2**63),
    "tensors over each other": overlapping,
    "tensors of other shapes": other_shapes,
    "a pickle": pickled,
    "no weights": lambda bundle: (bundle / "weights.safetensors").unlink(),
    "no normaliser": lambda bundle: (bundle / "normaliser.json").unlink(),
    "another family": other_family,
}


@pytest.fixture(scope="module")
def registered(tmp_path_factory) -> tuple[Store, str, Path]:
    """A store of its own with one registered model, and where its files lie."""
    store = Store(tmp_path_factory.mktemp("evil") / "store")
    made = ships.assess(store, ships.config_of(max_steps=2))
    version = register(made, made.reported)
    [bundle] = store.root.glob("mlflow-artifacts/**/artifacts/bundle")
    return store, f"models:/{version.name}@candidate", bundle


def asked(registered, folder: Path) -> tuple[int, str, float, Path]:
    store, model, _ = registered
    points, answer = folder / "points.csv", folder / "answer.csv"
    example_points().to_pandas().to_csv(points, index=False)
    code, said, complained = finished(child(ASKING, store.root, model, points, answer))
    return code, complained, float(said.splitlines()[-1]), answer


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_an_evil_model_is_refused_before_it_answers(registered, tmp_path):
    """One after the other, in the place of the good one, which answers before and after."""
    _, _, bundle = registered
    code, complained, good_mb, answer = asked(registered, tmp_path)
    assert (code, answer.exists()) == (0, True), complained
    answer.unlink()
    kept = {path: path.read_bytes() for path in bundle.glob("*") if path.is_file()}
    for name, plant in FAULTS.items():
        plant(bundle)
        code, complained, peak_mb, answer = asked(registered, tmp_path)
        assert code != 0, name
        assert not answer.exists(), name
        assert not (bundle / "sprung").exists(), name
        assert len([x for x in complained.splitlines() if x.startswith("trajfoundry: ")]) == 1
        assert peak_mb < good_mb + 100, name
        for path, content in kept.items():
            path.write_bytes(content)
    code, complained, _, answer = asked(registered, tmp_path)
    assert (code, answer.exists()) == (0, True), complained


@pytest.mark.slow
def test_a_signature_that_does_not_fit_is_told(registered, tmp_path):
    """A file without a column that the model asks for is a wrong request, in one line."""
    store, model, _ = registered
    points, answer = tmp_path / "points.csv", tmp_path / "answer.csv"
    example_points().to_pandas().drop(columns="lat_deg").to_csv(points, index=False)
    code, _, complained = finished(child(ASKING, store.root, model, points, answer))
    assert code in (2, 3)
    assert "lat_deg" in complained
    assert "Traceback" not in complained
    assert not answer.exists()
