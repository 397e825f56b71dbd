"""Plain commands: those that run no flow, and so need no server.

Whatever takes long to import is imported where it is needed, for help must answer at once.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from pydantic_settings import CliSubCommand

from flows.local.cli_flags import Place, Reported
from flows.local.cli_output import dataset_lines
from flows.local.environment import set_environment
from tasks.config.datasets import DATASETS
from tasks.config.pipeline import DatasetName
from tasks.runtime.errors import StorageError
from tasks.runtime.machine import Machine
from tasks.runtime.store import Store


class Weights(Reported):
    """A registered model as a wheel of weights, which answers without registry and network."""

    model: str = Field(
        "models:/trajfoundry-foundry-open@candidate",
        description="A registered model of data that may be passed on.",
    )
    version: str = Field("", description="Of the wheel; empty: that of trajfoundry.")
    out: Path = Field(Path("dist"), description="Folder that the wheel is put into.")

    def execute(self) -> None:
        store = self.open_store()
        from tasks.release.weights_wheel import build_weights

        with nothing_on_stdout():
            wheel = build_weights(self.model, self.version, self.out, store)
        print(wheel.model_dump_json(indent=2) if self.as_json else wheel.line)


class Show(Place):
    """One trip on a map: its speed, stays and windows, and what was rejected of it."""

    dataset: DatasetName = Field("hurdat2", description="One that has been run.")
    trip: str = Field("", description="Id of the trip; empty: a few to choose from.")
    out: Path | None = Field(None, description="File to write: .html (one page) or .png.")

    def execute(self) -> None:
        store = Store(self.store or Machine().store)
        from tasks.report.trip_page import choices, show_trip

        if self.trip:
            print(show_trip(self.dataset, self.trip, self.out, store))
        else:
            print("\n".join(choices(self.dataset, store)))


class Datasets(BaseModel):
    """The known datasets."""

    as_json: bool = Field(False, alias="json", description="Print JSON and nothing else.")
    markdown: bool = Field(False, description="Print one table of markdown and nothing else.")

    def execute(self) -> None:
        if self.markdown:
            from tasks.report.dataset_list import dataset_list

            print(dataset_list())
        elif self.as_json:
            print(json.dumps([row.model_dump(mode="json") for row in DATASETS.values()], indent=2))
        else:
            print("\n".join(dataset_lines(row) for row in DATASETS.values()))


class Rebuild(Place):
    """Make the warehouse again from the store, and put right what a move or a copy left behind."""

    def execute(self) -> None:
        store = self.open_store()
        from tasks.catalog.warehouse import rebuild
        from tasks.registry.moved import heal

        print(rebuild(store), *heal(store).lines, sep="\n")


class Cache(BaseModel):
    """Care of the store."""

    rebuild: CliSubCommand[Rebuild] = Field(
        description="Make the warehouse again, also after a move or a copy."
    )


class Doctor(Reported):
    """Verify all that a store holds, tell what hangs on what is bad, and mend what can be."""

    mend: bool = Field(False, description="Set aside what is bad, and end runs left running.")

    def execute(self) -> None:
        store = Store(self.store or Machine().store)
        set_environment(store.root)
        from tasks.catalog.doctor import examine, lines_of, mend

        found = examine(store)
        print(found.model_dump_json(indent=2) if self.as_json else "\n".join(lines_of(found)))
        if self.mend:
            print("\n".join(mend(store, found)), file=sys.stderr if self.as_json else sys.stdout)
            if found.newer:
                raise StorageError(found.newer[0])
        elif found.num_faults:
            raise StorageError(
                f"faults in the store: {found.num_faults:,}; mend what can be mended with: "
                f"trajfoundry doctor --store {shlex.quote(str(store.root))} --mend"
            )


@contextlib.contextmanager
def nothing_on_stdout() -> Any:
    """Keep standard output for the answer; whatever else prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
