"""Code closure of a stage: the first-party source that it runs, named by what it says.

Layout, comments and docstrings are left out, for they change no result; a module that is imported
for its types alone is none that runs.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tasks.runtime.store import canonical_json, sha256_text

FIRST_PARTY = ("model", "sql", "tasks")
# Rooms that decide how and where a stage is run, never what its result is. What they hold enters a
# recipe by value (the configuration, the table of datasets, the content of initial weights).
NEVER_HASHED = ("tasks.config", "tasks.registry", "tasks.runtime")
SQL_PART = re.compile(
    r"(?P<quoted>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|(?P<gap>(?:\s|--[^\n]*|/\*.*?\*/)+)", re.DOTALL
)


def code_hashes(entry: str, modules: tuple[str, ...] = ()) -> dict[str, str]:
    """The hash of a module, and of all first-party modules that it runs.

    `modules` are those that it loads by name, where no import statement shows them.
    """
    for name in (entry, *modules):
        if module_path(name) is None:
            raise ModuleNotFoundError(f"{name!r} is not a module of this project")
    found: dict[str, str] = {}
    waiting = [entry, *modules]
    while waiting:
        module = waiting.pop()
        path = module_path(module)
        if module in found or is_never_hashed(module) or path is None:
            continue
        text = source_text(path)
        found[module] = python_hash(text)
        waiting.extend(imported_modules(module, text, path.name == "__init__.py"))
    return dict(sorted(found.items()))


def is_never_hashed(module: str) -> bool:
    rooms = tuple(f"{room}." for room in NEVER_HASHED)
    return module == "tasks" or f"{module}.".startswith(rooms)


def source_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# What a text says --------------------------------------------------------------------------------


@cache
def python_hash(text: str) -> str:
    """SHA-256 of the syntax tree of a module, without texts that stand for themselves."""
    return sha256_text(canonical_json(tree_of(ast.parse(text))))


def tree_of(node: Any) -> Any:
    """A syntax tree as plain lists; what is absent is left out: a newer grammar adds nothing."""
    if isinstance(node, list):
        return [tree_of(item) for item in node if not is_documentation(item)]
    if not isinstance(node, ast.AST):
        return [type(node).__name__, repr(node)]
    fields = [(name, tree_of(value)) for name, value in ast.iter_fields(node) if value is not None]
    return [type(node).__name__, [[name, tree] for name, tree in fields if tree]]


def is_documentation(node: Any) -> bool:
    """Whether a statement is a text alone: a docstring, or what stands like one."""
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)


@cache
def sql_hash(text: str) -> str:
    """SHA-256 of a query without comments, and with one space wherever there is any."""
    return sha256_text(SQL_PART.sub(lambda part: part["quoted"] or " ", text).strip())


# What runs ---------------------------------------------------------------------------------------


@cache
def imported_modules(module: str, text: str, is_package: bool) -> frozenset[str]:
    """Every module that a source text may import, at any depth of its functions."""
    package = module if is_package else module.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(*(with_parents(name.name) for name in node.names))
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found.update(with_parents(base), (f"{base}.{name.name}" for name in node.names))
    return frozenset(found)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those below `if TYPE_CHECKING`, which no run reaches."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from statements(other)
        else:
            yield child
            yield from statements(child)


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
