"""The data logic as SQL files: one SELECT a file, the file name is the table name."""

from importlib import resources


def read(name: str) -> str:
    """The text of `<name>.sql`, for example `read("marts/trips")`."""
    return resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def macros() -> dict[str, str]:
    """Every macro definition by its name, in the order of the names."""
    folder = resources.files(__name__).joinpath("macros")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return {f"macros/{name[:-4]}": read(f"macros/{name[:-4]}") for name in names}
