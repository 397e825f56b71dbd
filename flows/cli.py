"""CLI, the command line: `trajfoundry run | forecast | show | datasets | ui | cache`.

Thin: its flags are the fields of the same configuration that the flows take. Exit codes: 0 done,
1 unexpected, 2 wrong request, 3 unusable data, 4 store, 5 something did not answer, 130 stopped.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSubCommand,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    get_subcommand,
)

from flows.local.environment import make_console_readable, set_environment
from flows.local.servers import (
    interrupt,
    lost_requests_repeated,
    requests_call,
    serve,
    server_for_one_run,
)
from tasks.config.datasets import DATASETS, Dataset
from tasks.config.pipeline import DatasetName, ForecastConfig, PipelineConfig
from tasks.runtime.errors import ConfigError, FoundryError, StorageFull, Unavailable
from tasks.runtime.limits import full_disk, is_out_of_room, no_room
from tasks.runtime.machine import Machine
from tasks.runtime.store import Store

if TYPE_CHECKING:
    from tasks.release.outcome import Assessment

STOPPED = 130


class Place(BaseModel):
    """The flags of every command that opens the store."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    store: Path | None = Field(None, description="Folder of all results (TRAJFOUNDRY_STORE).")
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


class Run(Reported, PipelineConfig):
    """Raw files to a registered model."""

    source: str = Field("", description="File, folder, archive or address; empty: the sample.")

    @property
    def config(self) -> PipelineConfig:
        return PipelineConfig.model_validate(fields_of(self, PipelineConfig))

    def execute(self) -> None:
        store = self.open_store()
        wait_for_server = server_for_one_run(store)
        with nothing_on_stdout():
            from flows.pipeline import pipeline
            from tasks.registry.client import warm_up

            warm_up()
            self.show_lines()
            wait_for_server()
            assessment = pipeline(self.config, self.source)
        if self.as_json:
            print(assessment.model_dump_json(indent=2))
        else:
            show_outcome(assessment, store)


class Forecast(Reported, ForecastConfig):
    """A registered model on a file of trajectories."""

    input: Path = Field(description="Parquet or CSV: trajectory_id, tracked_at, lon_deg, lat_deg.")
    output: Path = Field(description="Parquet file to write.")

    @property
    def config(self) -> ForecastConfig:
        return ForecastConfig.model_validate(fields_of(self, ForecastConfig))

    def execute(self) -> None:
        wait_for_server = server_for_one_run(self.open_store())
        with nothing_on_stdout():
            from flows.forecast import forecast

            self.show_lines()
            wait_for_server()
            predictions = forecast(str(self.input), str(self.output), self.config)
        print(predictions.model_dump_json(indent=2) if self.as_json else predictions.line)


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

    def execute(self) -> None:
        if self.as_json:
            print(json.dumps([row.model_dump(mode="json") for row in DATASETS.values()], indent=2))
        else:
            print("\n".join(dataset_lines(row) for row in DATASETS.values()))


class Ui(Place):
    """The Prefect and MLflow interfaces with a worker, until Ctrl-C."""

    prefect_port: int | None = Field(None, ge=1, le=65_535, description="4200, or a free one.")
    mlflow_port: int | None = Field(None, ge=1, le=65_535, description="5000, or a free one.")

    def execute(self) -> None:
        store = self.open_store()
        serve(store, self.prefect_port, self.mlflow_port)


class Rebuild(Place):
    """Make the warehouse again from the store, for example after a move."""

    def execute(self) -> None:
        store = self.open_store()
        from tasks.catalog.warehouse import rebuild

        print(rebuild(store))


class Cache(BaseModel):
    """Care of the store."""

    rebuild: CliSubCommand[Rebuild] = Field(description="Make the warehouse again.")


class Commands(BaseSettings):
    """Raw movement data to trajectory foundation models that people can trust."""

    model_config = SettingsConfigDict(
        cli_prog_name="trajfoundry",
        cli_avoid_json=True,
        cli_enforce_required=True,
        cli_hide_none_type=True,
        cli_implicit_flags="toggle",
        nested_model_default_partial_update=True,
    )

    run: CliSubCommand[Run] = Field(description="Raw files to a registered model.")
    forecast: CliSubCommand[Forecast] = Field(description="A registered model on a file.")
    show: CliSubCommand[Show] = Field(description="One trip on a map, and what was rejected.")
    datasets: CliSubCommand[Datasets] = Field(description="The known datasets.")
    ui: CliSubCommand[Ui] = Field(description="Prefect and MLflow in the browser.")
    cache: CliSubCommand[Cache] = Field(description="Care of the store.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags alone: no variable of the environment may change a result."""
        return (init_settings,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command: Any = CliApp.run(Commands, cli_args=given)
        while not hasattr(command, "execute"):
            command = chosen(command)
    except FoundryError as error:
        return refuse(str(error), error.exit_code)
    except ValidationError as error:
        return refuse("\n".join(problems(error)), ConfigError.exit_code)
    return execute(command, with_trace="--debug" in given)


def chosen(command: Any) -> Any:
    """The part of a command that was named after it; without one it cannot be run."""
    part = get_subcommand(command, is_required=False)
    if part is None:
        names = ", ".join(type(command).model_fields)
        raise ConfigError(f"say what to do, one of: {names} (--help tells more)")
    return part


def execute(command: Any, *, with_trace: bool) -> int:
    """Execute a command; an error or a signal becomes a line that says what to do next."""
    try:
        with requests_call(interrupt), lost_requests_repeated():
            command.execute()
    except (Exception, KeyboardInterrupt) as error:
        if with_trace:
            traceback.print_exception(error)
        return refuse(*line_and_code(error))
    return 0


def line_and_code(error: BaseException) -> tuple[str, int]:
    """What an error means to a person, and the exit code that says so to a program."""
    if (full := full_disk_behind(error)) is not None:
        return str(full), full.exit_code
    if isinstance(error, FoundryError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped; finished stages are kept, the same command goes on", STOPPED
    line = next(iter(str(error).splitlines()), "no message")
    return (
        f"unexpected {type(error).__name__}: {line}; the traceback is in the newest file of "
        f"{Machine().store / 'runs'}, or shown with --debug"
    ), 1


def full_disk_behind(error: BaseException) -> StorageFull | None:
    """The full disk that led to an error, also where it was a server that it stopped."""
    if isinstance(error, KeyboardInterrupt) or (
        isinstance(error, FoundryError) and not isinstance(error, Unavailable)
    ):
        return None
    root = Machine().store
    return full_disk(error, root, "results") or (
        StorageFull(no_room(root, "results")) if is_out_of_room(root) else None
    )


def refuse(line: str, code: int) -> int:
    print(f"trajfoundry: {line}", file=sys.stderr)
    return code


def problems(error: ValidationError) -> list[str]:
    """One line a problem, named by its flag."""
    return [
        f"--{'.'.join(str(part) for part in problem['loc'][1:])}: "
        + problem["msg"].removeprefix("Value error, ")
        for problem in error.errors()
    ]


def fields_of(command: BaseModel, kind: type[BaseModel]) -> dict[str, Any]:
    """The fields of a command that belong to the configuration it extends."""
    return {name: getattr(command, name) for name in kind.model_fields}


@contextlib.contextmanager
def nothing_on_stdout() -> Any:
    """Keep standard output for the answer; whatever else prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def dataset_lines(row: Dataset) -> str:
    """What a person needs to know of a dataset before running it."""
    start = "embedded sample" if row.sample else row.url or "needs --source PATH"
    start = "made on demand" if row.is_generated else start
    return f"{row.name:10} {row.title}\n{'':10} {row.entity_kinds}; {start}; {row.licence}"


def show_outcome(assessment: Assessment, store: Store) -> None:
    """Print the table, the registry's answer, and where to look further."""
    from rich.console import Console

    from tasks.report.error_tables import summary_tables

    evaluated = store.folder(assessment.receipt("evaluate"))
    report = store.folder(assessment.receipt("report")) / "report.html"
    Console().print("", *summary_tables(evaluated), "", sep="\n")
    here = f"--store {shlex.quote(str(store.root))}"
    lines = [
        *assessment.lines,
        "",
        "To look further:",
        f"  report     {report}",
        f"  tables     {store.warehouse} (DuckDB 2, read-only)",
        f"  browser    trajfoundry ui {here}",
    ]
    if "test_windows" in assessment.receipt("evaluate").counts:
        lines.append(
            f"  forecast   trajfoundry forecast {here} --model {assessment.candidate_uri}"
            " --input x.parquet --output y.parquet"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
