"""The first-party source that a stage runs: what must miss the cache when it is edited."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tasks.store import sha256_text

FIRST_PARTY = ("model", "sql", "tasks")
# Infrastructure: it decides where results go and how a stage is run, never what a result is.
# Rows of the dataset table and the configuration enter a recipe by value.
INFRASTRUCTURE = frozenset(
    {
        "tasks",
        "tasks.config",
        "tasks.datasets",
        "tasks.errors",
        "tasks.initial",
        "tasks.progress",
        "tasks.runs",
        "tasks.sections",
        "tasks.settings",
        "tasks.source",
        "tasks.stage",
        "tasks.store",
        "tasks.warehouse",
    }
)


def code_hashes(entry: str) -> dict[str, str]:
    """SHA-256 of the source of a module and of all first-party modules that it imports."""
    if module_path(entry) is None:
        raise ModuleNotFoundError(f"{entry!r} is not a module of this project")
    found: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        path = module_path(module)
        if module in found or module in INFRASTRUCTURE or path is None:
            continue
        text = path.read_text(encoding="utf-8")
        found[module] = sha256_text(text)
        waiting.extend(imported_modules(module, text, path.name == "__init__.py"))
    return dict(sorted(found.items()))


@cache
def imported_modules(module: str, text: str, is_package: bool) -> tuple[str, ...]:
    """Every module that a source text may import, at any depth of its functions."""
    return tuple(dict.fromkeys(imports_in(module, text, is_package)))


def imports_in(module: str, text: str, is_package: bool) -> Iterator[str]:
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield from with_parents(name.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                ancestor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*ancestor, base] if base else ancestor)
            yield from with_parents(base)
            yield from (f"{base}.{name.name}" for name in node.names)


def with_parents(module: str) -> Iterator[str]:
    """A module and the packages around it, whose `__init__` runs first."""
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def module_path(module: str) -> Path | None:
    """The file of a first-party module, or None for anything else."""
    package, *rest = module.split(".")
    if package not in FIRST_PARTY:
        return None
    base = package_folder(package).joinpath(*rest)
    candidates = (base / "__init__.py", base.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@cache
def package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package!r} is not installed")
    return Path(spec.submodule_search_locations[0])
