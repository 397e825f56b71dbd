"""Local model: a class of one's own, named by its module, that is judged as the families are.

    trajfoundry assess --model my_models:Gru --dataset hurdat2

The class is called with the learning shards (train and validation, nothing of test), may fit itself
on them, and is then an answerer (`model/interface/answerer.py`). Its module is run with all that
this process may do: name code that you trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from model.evaluation.judged_tasks import ASKED_AS, INFILL, NEXT_REGION
from tasks.runtime import own_code
from tasks.runtime.errors import ConfigError
from tasks.runtime.own_code import is_local as is_local

if TYPE_CHECKING:
    from model.data.shards import Shards
    from model.interface.answerer import Answerer

OF_VISITS = {ASKED_AS[NEXT_REGION], ASKED_AS[INFILL]}
EXAMPLE = "my_package.my_module:MyModel"
MADE = "as its module was read, or it was called with the shards as its one argument"
ASKED = "as an answer of it was read; docs/splits-and-windows.md has what methods return"


def source_digest(address: str) -> str:
    """The name of the class and of its source: every Python file of its package, none of it run."""
    return own_code.source_digest(address, EXAMPLE)


def local_model(address: str, shards: Shards, seed: int) -> Answerer:
    """What the class makes of the learning shards, with torch's random numbers seeded."""
    import torch

    with told_as_of(address, MADE), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = own_code.named_in(address, EXAMPLE)(shards)
    check_answerer(made, address)
    return made


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


def told_as_of(address: str, otherwise: str = ASKED) -> AbstractContextManager[None]:
    """Say of an error of the class where in its files it was, else what was done with it."""
    return own_code.told_as_of(address, otherwise)
