"""The data logic as SQL files: one SELECT a file, the file name is the table name."""

import re
from collections.abc import Iterable
from graphlib import TopologicalSorter
from importlib import resources


def read(name: str) -> str:
    """The text of `<name>.sql`, for example `read("marts/trips")`."""
    return resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def macros() -> dict[str, str]:
    """Every macro definition by its name, each after those that it calls."""
    folder = resources.files(__name__).joinpath("macros")
    names = sorted(item.name[:-4] for item in folder.iterdir() if item.name.endswith(".sql"))
    texts = {name: read(f"macros/{name}") for name in names}
    calls = {name: called(text) & (texts.keys() - {name}) for name, text in texts.items()}
    return {f"macros/{name}": texts[name] for name in TopologicalSorter(calls).static_order()}


def with_macros(names: Iterable[str]) -> dict[str, str]:
    """The texts of these files, and of the macros that they call, and these in turn."""
    known = macros()
    texts, waiting = {}, list(names)
    while waiting:
        name = waiting.pop()
        if name not in texts:
            texts[name] = read(name)
            waiting += known.keys() & {f"macros/{other}" for other in called(texts[name])}
    return texts


def called(text: str) -> set[str]:
    """The names in a text that a bracket follows."""
    return set(re.findall(r"(\w+)\(", text))
