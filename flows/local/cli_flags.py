"""CLI flags: those that many commands share, and help that tells the range of each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_settings import CliSettingsSource

from flows.local.environment import make_console_readable, set_environment
from flows.local.servers import server_for_one_run
from tasks.config.datasets import DATASETS
from tasks.registry.client import warm_up
from tasks.runtime.errors import ConfigError
from tasks.runtime.machine import Machine
from tasks.runtime.store import Store


class Flags(CliSettingsSource[Any]):
    """The flags, whose help tells the range of each and what holds if none is given."""

    def _help_format(
        self, field_name: str, field_info: FieldInfo, *given: Any, **named: Any
    ) -> str:
        told: str = super()._help_format(field_name, field_info, *given, **named)
        own = DATASET_DEFAULTS.get(field_name)
        if own and field_info.default is None:
            value = getattr(DATASETS["hurdat2"], own)
            told = told.replace(NOTHING, f"(default: the dataset's own, {value} for hurdat2)")
        told = told.replace(f" {NOTHING}", "").replace(" (default: )", "")
        words = [
            f"{word} {getattr(limit, name):,}"
            for name, word in RANGE_WORDS.items()
            for limit in field_info.metadata
            if hasattr(limit, name)
        ]
        return f"{told} Range: {' '.join(words)}." if words else told


NOTHING = "(default: None)"
# What a dataset says of a field that is left empty.
DATASET_DEFAULTS = {
    **{name: name for name in ("max_speed_mps", "max_gap_s", "split_identities")},
    **{name: name for name in ("num_context", "num_horizon", "stride", "horizons", "gate_horizon")},
    "resolution": "region_resolution",
}
RANGE_WORDS = {"ge": "from", "gt": "above", "le": "to"}


class Place(BaseModel):
    """The flags of every command that opens the store."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    store: Path | None = Field(
        None, description="Folder of all results; if empty TRAJFOUNDRY_STORE, or else ./store."
    )
    debug: bool = Field(False, description="Show tracebacks and every line of Prefect.")

    def open_store(self) -> Store:
        """The store, made ready before anything else starts."""
        store = Store(self.store or Machine().store)
        store.prepare()
        set_environment(store.root)
        return store

    def show_lines(self) -> None:
        """Let the terminal show one line a stage."""
        if not self.debug:
            make_console_readable()


class Reported(Place):
    """The flag of every command that can answer in JSON."""

    as_json: bool = Field(False, alias="json", description="Print JSON and nothing else.")


class Served(Reported):
    """The flag of every command that runs a flow."""

    no_server: bool = Field(
        False,
        validation_alias=AliasChoices("no_server", "no-server"),
        description="Run without Prefect: no server, no port, the same results.",
    )

    def begin(self, store: Store) -> Callable[..., Any]:
        """What runs a flow by its name; Prefect's server, if there is one, starts meanwhile."""
        wait_for_server = None if self.no_server else server_for_one_run(store)

        def run(name: str, *given: Any) -> Any:
            from flows.local.without_prefect import run_plain, run_through

            if wait_for_server is None:
                from flows import steps

                return run_plain(getattr(steps, name), *given)
            flow = getattr(import_module(f"flows.{name}"), name)
            warm_up()  # the server starts meanwhile
            self.show_lines()
            return run_through(wait_for_server, flow, *given)

        return run


def folder_given(folder: Path | None) -> str:
    """A folder of sources as a flow takes it; nothing where none was given."""
    if folder is not None and not folder.expanduser().is_dir():
        raise ConfigError(f"--source-folder: {folder} is no folder")
    return str(folder.expanduser().absolute()) if folder else ""
