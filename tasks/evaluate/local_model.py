"""Local model: a class of one's own, named by its module, that is judged as the families are.

    trajfoundry assess --model my_models:Gru --dataset hurdat2

The class is called with the learning shards (train and validation, nothing of test), may fit itself
on them, and is then an answerer (`model/interface/answerer.py`). Its module is run with all that
this process may do: name code that you trust.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.evaluation.judged_tasks import ASKED_AS, INFILL, NEXT_REGION
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.file_hashes import sha256_file
from tasks.runtime.manifest import canonical_json, sha256_text

if TYPE_CHECKING:
    from model.data.shards import Shards
    from model.interface.answerer import Answerer

ADDRESS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
OURS = ("flows", "model", "sql", "tasks")
OF_VISITS = {ASKED_AS[NEXT_REGION], ASKED_AS[INFILL]}
EXAMPLE = "my_package.my_module:MyModel"
MADE = "as its module was read, or it was called with the shards as its one argument"
ASKED = "as an answer of it was read; docs/splits-and-windows.md has what methods return"


def is_local(address: str) -> bool:
    """Whether an address names a class of a module, as `my_package.my_module:MyModel` does."""
    return ADDRESS.fullmatch(address) is not None


def source_digest(address: str) -> str:
    """The name of the class and of its source: every Python file of its package, none of it run."""
    package = package_of(address)
    if address.partition(":")[0].endswith(".py"):
        raise ConfigError(f"model: name the module of {address} without .py, as {EXAMPLE}")
    found = importlib.machinery.PathFinder.find_spec(package, [str(Path.cwd()), *sys.path])
    if found is None:
        raise ConfigError(
            f"model: there is no module {package} for {address}, neither in this folder nor "
            f"installed; give {EXAMPLE}"
        )
    folders = [Path(folder) for folder in found.submodule_search_locations or ()]
    files = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    }
    if not folders and found.origin and Path(found.origin).is_file():
        files = {Path(found.origin).name: sha256_file(Path(found.origin))}
    return sha256_text(canonical_json({"address": address, "files": files}))[:32]


def local_model(address: str, shards: Shards, seed: int) -> Answerer:
    """What the class makes of the learning shards, with torch's random numbers seeded."""
    import torch

    with told_as_of(address, MADE), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = class_at(address)(shards)
    check_answerer(made, address)
    return made


def class_at(address: str) -> Any:
    module_name, _, name = address.partition(":")
    forget(package_of(address))
    with working_folder_first():
        module = importlib.import_module(module_name)
    if not callable(found := getattr(module, name, None)):
        raise ConfigError(f"model: {module_name} has no class {name}; give {EXAMPLE}")
    return found


def check_answerer(made: Any, address: str) -> None:
    """Refuse what no table could show, and say what it lacks."""
    name, tasks = getattr(made, "name", None), getattr(made, "tasks", None)
    known = sorted({*ASKED_AS.values()} - OF_VISITS)  # it is given shards of points
    if not isinstance(name, str) or not name or getattr(made, "is_baseline", None) is not False:
        raise ConfigError(f"model: {address} needs a name, a text, and is_baseline = False")
    if not isinstance(tasks, Sequence) or not tasks or not set(tasks) <= set(known):
        raise ConfigError(
            f"model: tasks of {address} must be a tuple of some of {', '.join(known)}, not {tasks}"
        )
    for task in tasks:
        if not callable(getattr(made, task, None)):
            raise ConfigError(f"model: {address} lists the task {task}, but has no method {task}")


def package_of(address: str) -> str:
    return address.partition(":")[0].partition(".")[0]


def forget(package: str) -> None:
    """Read a package that is not installed again: what is run must be what the digest is of."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None or package in OURS or "site-packages" in Path(file).parts:
        return
    for name in [name for name in sys.modules if package_of(name) == package]:
        del sys.modules[name]


@contextlib.contextmanager
def told_as_of(address: str, otherwise: str = ASKED) -> Iterator[None]:
    """Say of an error of the class where in its files it was, else what was done with it."""
    try:
        yield
    except (ConfigError, DataError):
        raise
    except Exception as error:
        said = f"{address} failed: {type(error).__name__}: {error}"
        raise DataError(f"{said} ({place_of(error, address) or otherwise})") from error


def place_of(error: Exception, address: str) -> str:
    """The last line of its own package that was run, if any was."""
    package = sys.modules.get(package_of(address))
    files = [*getattr(package, "__path__", ()), getattr(package, "__file__", None)]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if any(file and Path(frame.filename).is_relative_to(file) for file in files):
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return ""


@contextlib.contextmanager
def working_folder_first() -> Iterator[None]:
    """Find modules of the working folder before those that are installed."""
    sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(Path.cwd()))
