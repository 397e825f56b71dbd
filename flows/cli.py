"""CLI: `trajfoundry run | register | assess | benchmark | forecast | show | datasets | ui | ...`.

Thin: its flags are the fields of the same configuration that the flows take. Exit codes: 0 done,
1 unexpected, 2 wrong request, 3 unusable data, 4 store, 5 something did not answer, 130 stopped.
"""

from __future__ import annotations

import atexit
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSubCommand,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    get_subcommand,
)

from flows.error_lines import STOPPED, line_and_code, problems
from flows.local.cli_flags import Flags, Place, Served, folder_given
from flows.local.cli_output import (
    fitted_line,
    show_errors,
    show_leaderboard,
    show_outcome,
)
from flows.local.end_requests import (
    ignore_requests,
    is_asked_to_end,
    requests_heard,
)
from flows.local.plain_commands import (
    Cache,
    Datasets,
    Doctor,
    Show,
    Weights,
    nothing_on_stdout,
)
from flows.local.servers import serve
from tasks.config.pipeline import DataConfig, ForecastConfig, PipelineConfig
from tasks.config.sections import SharePercent
from tasks.evaluate.seen import seen_warning
from tasks.runtime.errors import ConfigError, FoundryError
from tasks.runtime.redaction import redacted
from tasks.runtime.store import Store

if TYPE_CHECKING:
    from tasks.release.outcome import Assessment


class Pipelined(Served, PipelineConfig):
    """The flags of every command that ends with a registered model."""

    @property
    def config(self) -> PipelineConfig:
        return PipelineConfig.model_validate(fields_of(self, PipelineConfig))

    def show(self, assessment: Assessment, store: Store) -> None:
        if self.as_json:
            print(assessment.model_dump_json(indent=2))
        else:
            show_outcome(assessment, store)


class Run(Pipelined):
    """Raw files to a registered model."""

    source: str = Field("", description="File, folder, archive or address; empty: the sample.")
    corpus: str = Field(
        "",
        description="open or world, or the path of a TOML file of your own: datasets that one "
        "model is trained on.",
    )
    source_folder: Path | None = Field(
        None,
        validation_alias=AliasChoices("source_folder", "source-folder"),
        description="Folder of the raw files that the corpus names.",
    )

    def execute(self) -> None:
        folder = ""
        if self.corpus:
            self.check_corpus()
            folder = folder_given(self.source_folder)
        store = self.open_store()
        if not self.corpus:
            from tasks.ingest.first_look import look_at

            look_at(self.config, self.source)
        run = self.begin(store)
        with nothing_on_stdout():
            from tasks.ingest.http_client import keep_credentials

            source = keep_credentials(self.source)
            assessment = run("pipeline", self.config, source, self.corpus, folder)
        self.show(assessment, store)

    def check_corpus(self) -> None:
        """Refuse what cannot go together, before anything starts."""
        from tasks.config.corpus import corpus_named

        for name in ("dataset", "source"):
            if name in self.model_fields_set:
                raise ConfigError(f"--{name} is of one dataset: leave it out beside --corpus")
        corpus_named(self.corpus).require_family(self.config.model.family)


class Register(Pipelined):
    """What a run has trained, registered where the registry was away. Finished steps stay."""

    def execute(self) -> None:
        store = self.open_store()
        run = self.begin(store)
        with nothing_on_stdout():
            assessment = run("register", self.config)
        self.show(assessment, store)


class Assess(Served, DataConfig):
    """A registered model, or a class of your own, on any data, beside the baselines of these."""

    model: str = Field(
        description="A registered model, such as models:/NAME@champion, or a class of your own, "
        "such as my_package.my_module:MyModel, whose code is run."
    )
    source: str = Field("", description="Raw files; empty: what was last ingested, or the sample.")
    few_shot: list[SharePercent] = Field(
        [], description="Percents of the train entities to fine-tune it on as well, such as 1,5."
    )

    def execute(self) -> None:
        store = self.open_store()
        config = PipelineConfig.model_validate(fields_of(self, DataConfig))
        if self.source:
            from tasks.ingest.first_look import look_at

            look_at(config, self.source)
        run = self.begin(store)
        with nothing_on_stdout():
            from tasks.ingest.http_client import keep_credentials

            judged = run("assess", config, self.model, keep_credentials(self.source), self.few_shot)
        if self.as_json:
            print(judged.model_dump_json(indent=2))
        else:
            scores = store.verify(judged.scores)
            show_errors(scores)
            told = [fitted_line(judged, self.few_shot), seen_warning(judged.scores)]
            print("\n".join([*filter(None, told), "", f"  scores     {scores}"]))


class Watch(Served, DataConfig):
    """A registered model on the newest data; it is marked if it falls behind the baselines."""

    model: str = Field(
        "", description="A registered model; if empty the champion of chemin on the dataset."
    )
    source: str = Field("", description="Raw files; empty: what was last ingested, or the sample.")

    def execute(self) -> None:
        store = self.open_store()
        config = DataConfig.model_validate(fields_of(self, DataConfig))
        run = self.begin(store)
        with nothing_on_stdout():
            from tasks.ingest.http_client import keep_credentials

            found = run("watch", config, self.model, keep_credentials(self.source))
        if self.as_json:
            print(found.model_dump_json(indent=2))
        else:
            show_errors(store.verify(found.scores))
            print(found.line)


class Benchmark(Served):
    """Every family of a suite on all its data, and a leaderboard."""

    suite: str = Field("smoke", description="smoke, full, or the path of a TOML file of your own.")
    source_folder: Path | None = Field(
        None,
        validation_alias=AliasChoices("source_folder", "source-folder"),
        description="Folder of the raw files that the suite names; what it lacks is left out.",
    )

    def execute(self) -> None:
        from tasks.config.suite import suite_named

        suite_named(self.suite)
        folder = folder_given(self.source_folder)
        store = self.open_store()
        run = self.begin(store)
        with nothing_on_stdout():
            done = run("benchmark", self.suite, folder)
        if self.as_json:
            print(done.model_dump_json(indent=2))
        else:
            show_leaderboard(done, store)


class Forecast(Served, ForecastConfig):
    """A registered model on a file of trajectories."""

    input: Path = Field(description="Parquet or CSV: trajectory_id, tracked_at, lon_deg, lat_deg.")
    output: Path = Field(description="Parquet file to write.")

    @property
    def config(self) -> ForecastConfig:
        return ForecastConfig.model_validate(fields_of(self, ForecastConfig))

    def execute(self) -> None:
        store = self.open_store()
        from tasks.serve.batch_predict import check_request

        check_request(self.input, self.output)
        run = self.begin(store)
        with nothing_on_stdout():
            predictions = run("forecast", str(self.input), str(self.output), self.config)
        print(predictions.model_dump_json(indent=2) if self.as_json else predictions.line)


class Ui(Place):
    """The Prefect and MLflow interfaces with a worker, until Ctrl-C."""

    prefect_port: int | None = Field(None, ge=1, le=65_535, description="4200, or a free one.")
    mlflow_port: int | None = Field(None, ge=1, le=65_535, description="5000, or a free one.")

    def execute(self) -> None:
        store = self.open_store()
        print(
            f"Starting Prefect and MLflow for {store.root}: half a minute, then come their "
            "addresses; Ctrl-C stops it.",
            flush=True,
        )
        from tasks.registry.moved import heal

        heal(store)
        serve(store, self.prefect_port, self.mlflow_port)


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
    registration: CliSubCommand[Register] = Field(
        alias="register", description="What a run has trained, where the registry was away."
    )
    assess: CliSubCommand[Assess] = Field(description="A registered model on other data.")
    watch: CliSubCommand[Watch] = Field(description="A registered model on the newest data.")
    benchmark: CliSubCommand[Benchmark] = Field(description="All families on many data sets.")
    forecast: CliSubCommand[Forecast] = Field(description="A registered model on a file.")
    weights: CliSubCommand[Weights] = Field(description="A registered model as a wheel.")
    show: CliSubCommand[Show] = Field(description="One trip on a map, and what was rejected.")
    datasets: CliSubCommand[Datasets] = Field(description="The known datasets.")
    ui: CliSubCommand[Ui] = Field(description="Prefect and MLflow in the browser.")
    cache: CliSubCommand[Cache] = Field(description="Care of the store.")
    doctor: CliSubCommand[Doctor] = Field(description="Verify a store, and mend it.")

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
        command: Any = CliApp.run(Commands, cli_args=given, cli_settings_source=Flags(Commands))
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
        fields = type(command).model_fields.items()
        names = ", ".join(field.alias or name for name, field in fields)
        raise ConfigError(f"say what to do, one of: {names} (--help tells more)")
    return part


def execute(command: Any, *, with_trace: bool) -> int:
    """Execute a command; an error or a signal becomes a line that says what to do next."""
    try:
        with requests_heard():
            command.execute()
    except (Exception, KeyboardInterrupt) as error:
        if with_trace:
            print(redacted("".join(traceback.format_exception(error))), file=sys.stderr)
        line, code = line_and_code(error, is_asked=is_asked_to_end())
        if code == STOPPED:
            atexit.register(ignore_requests)
        return refuse(line, code)
    return 0


def refuse(line: str, code: int) -> int:
    print(f"trajfoundry: {redacted(line)}", file=sys.stderr)
    return code


def fields_of(command: BaseModel, kind: type[BaseModel]) -> dict[str, Any]:
    """The fields of a command that belong to the configuration it extends."""
    return {name: getattr(command, name) for name in kind.model_fields}


if __name__ == "__main__":
    sys.exit(main())
