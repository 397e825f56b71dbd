"""A working folder whose files would be run in place of modules of the same names."""

from __future__ import annotations

from pathlib import Path

# `sitecustomize` is looked for by every interpreter, the others by us, Prefect, MLflow or uvicorn.
NAMES = (
    "secrets",
    "random",
    "prefect",
    "mlflow",
    "uvicorn",
    "tasks",
    "model",
    "sql",
    "sitecustomize",
    "usercustomize",
)


def plant(folder: Path) -> Path:
    """Fill a folder; each of its modules leaves a mark beside it and ends the process."""
    for name in NAMES:
        mark = folder / f"{name}.mark"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise SystemExit\n")
    return folder


def marks(folder: Path) -> list[str]:
    """The modules of the folder that somebody ran."""
    return sorted(path.stem for path in folder.glob("*.mark"))
