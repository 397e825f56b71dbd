"""Reproducing a run: the command with every setting that is not the usual one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.config.pipeline import PipelineConfig

REGISTERED = "models:/"


def command_of(config: PipelineConfig, corpus: str = "") -> str:
    """The command of a run, without its source, its store or any path of a machine."""
    told = config.model_dump(mode="json", exclude_defaults=True)
    subject = {"corpus": corpus} if corpus else {"dataset": config.dataset}
    flags = subject | dict(flags_of({name: told[name] for name in told if name != "dataset"}))
    if not flags.get("train.init", REGISTERED).startswith(REGISTERED):
        flags["train.init"] = "INITIAL_WEIGHTS"
    words = [f"--{name} {shlex.quote(value)}" for name, value in flags.items()]
    return " ".join(["trajfoundry run", *words])


def flags_of(told: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every nested setting under its dotted name."""
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from flags_of(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value if isinstance(value, str) else json.dumps(value)


def reproducing(command: str) -> str:
    """What to type, and what equal results rest on."""
    return (
        f"```\n{command}\n```\n\n"
        "Give `--source` where the files are not the embedded sample. The same files, settings and "
        "source code give the same recipes, which name every step in the store; weights and errors "
        "are equal to the last digit on the same machine and libraries. The unrounded numbers are "
        "`scores.parquet` in the folder of the step `evaluate`, and the error of every window is "
        "`window_errors.parquet` beside it."
    )
