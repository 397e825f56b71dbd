"""Own code: a class or a function of one's own, named by its module, as my_package.my_module:name.

Its module is run with all that this process may do: name code that you trust.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.file_hashes import sha256_file
from tasks.runtime.manifest import canonical_json, sha256_text

ADDRESS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
OURS = ("flows", "model", "sql", "tasks")


def is_local(address: str) -> bool:
    """Whether an address names a part of a module, as `my_package.my_module:MyModel` does."""
    return ADDRESS.fullmatch(address) is not None


def source_digest(address: str, example: str, told: str = "model") -> str:
    """The name of what is named and of its source: every Python file of its package, none run."""
    package = package_of(address)
    if address.partition(":")[0].endswith(".py"):
        raise ConfigError(f"{told}: name the module of {address} without .py, as {example}")
    found = importlib.machinery.PathFinder.find_spec(package, [str(Path.cwd()), *sys.path])
    if found is None:
        raise ConfigError(
            f"{told}: there is no module {package} for {address}, neither in this folder nor "
            f"installed; give {example}"
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


def named_in(address: str, example: str, told: str = "model", what: str = "class") -> Any:
    """The class or the function itself; its module is run."""
    module_name, _, name = address.partition(":")
    forget(package_of(address))
    with working_folder_first():
        module = importlib.import_module(module_name)
    if not callable(found := getattr(module, name, None)):
        raise ConfigError(f"{told}: {module_name} has no {what} {name}; give {example}")
    return found


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
def told_as_of(address: str, otherwise: str) -> Iterator[None]:
    """Say of an error of own code where in its files it was, else what was done with it."""
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
