"""Pyfunc entry of a registered model: what MLflow runs to load it, with nothing of this project.

MLflow copies this one file into the model. It reads the model's own source from the bundle beside
it, under a name made of that source: no other module, and no other version, can take its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel


class Refused(MlflowException, ValueError):
    """A request that is refused in a sentence, by `predict` and by MLflow's server alike."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence, INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return self.sentence

    @message.setter
    def message(self, text: str) -> None:
        """Keep the sentence: the server would write the caller's points before it."""


def source_hash(folder: Path) -> str:
    """SHA-256 over the names and texts of the Python files of a package."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def load_package(folder: Path, asked: str) -> ModuleType:
    """The module that is asked, of the package in a folder, imported under a private name."""
    name = f"trajfoundry_model_{source_hash(folder)[:8]}"
    if name not in sys.modules:
        import_package(name, folder)
    return importlib.import_module(f"{name}.inference.{asked}")


@contextlib.contextmanager
def without_bytecode() -> Iterator[None]:
    """A registered model is never changed, not even by a cache."""
    writes_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_bytecode


def import_package(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


class TrajectoryModel(PythonModel):
    """A model as MLflow asks it: a long frame in, a frame of answers out.

    Its bundle says which of its modules reads the frames (`point_frames` those of points). What
    that one can be asked, its `tasks` and the like of them for files, are methods here too.
    """

    asked: Any = None

    def load_context(self, context: Any) -> None:
        bundle = Path(context.artifacts["bundle"])
        facts = json.loads((bundle / "serving.json").read_bytes())
        with without_bytecode():
            module = load_package(bundle / "model", facts["frames"])
            self.asked = module.opened(bundle, facts["params"], facts["weights_sha256"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.asked, name)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The answer of the task that the parameters name."""
        try:
            answer: pd.DataFrame = self.asked.answer(model_input, dict(params or {}))
        except ValueError as error:
            raise Refused(str(error)) from None
        return answer


set_model(TrajectoryModel())
