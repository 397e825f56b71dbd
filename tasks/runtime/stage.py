"""Stage of the pipeline: its recipe, cache, retries and publication; the one owner of caching.

A stage is a plain function `build(draft, job) -> counts` that writes its files into a draft
folder. `Stage.plain` runs it without an orchestrator; calling the stage runs it as a cached and
retryable Prefect task. Both end with a receipt rebuilt from the published manifest.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sql
from tasks.runtime.code_closure import code_hashes, sql_hash
from tasks.runtime.errors import DataError, is_passing
from tasks.runtime.frozen import Frozen
from tasks.runtime.limits import storage_errors
from tasks.runtime.machine import Machine
from tasks.runtime.manifest import LIBRARIES, library_versions
from tasks.runtime.progress import log
from tasks.runtime.run_records import note_stage
from tasks.runtime.store import Counts, Receipt, Recipe, Store, counts_line

if TYPE_CHECKING:
    from prefect import Task

Rules = TypeVar("Rules", bound=Frozen)
Answer = TypeVar("Answer")


class NamedInput(Frozen):
    """A finished step of which a stage reads a part alone: the part names it, not the whole."""

    receipt: Receipt
    name: str


Given = Receipt | NamedInput | str
Input = Given | Sequence[Given]
_is_plain: ContextVar[bool] = ContextVar("is_plain", default=False)
RETRY_DELAYS_S: list[float] = [2, 10, 60]
MAX_RETRY_AFTER_S = 60.0


@dataclass(frozen=True)
class Job(Generic[Rules]):
    """One request to a stage: the slice of configuration, the inputs, and the store."""

    recipe: Recipe
    settings: Rules
    inputs: Mapping[str, Input]
    store: Store
    licence: str
    source: str = ""
    requires: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        return self.recipe.dataset

    def receipt(self, name: str) -> Receipt:
        """The input of that name, which must be one finished step."""
        given = receipt_of(self.inputs[name])
        if given is None:
            raise TypeError(f"input {name!r} is not a receipt")
        return given

    def receipts(self, name: str) -> list[Receipt]:
        """The input of that name, which must be a list of finished steps."""
        given = self.inputs[name]
        if isinstance(given, Receipt | NamedInput | str):
            raise TypeError(f"input {name!r} is not a list of receipts")
        return [receipt for item in given if (receipt := receipt_of(item)) is not None]

    def folder(self, name: str) -> Path:
        """The folder of the input of that name."""
        return self.store.folder(self.receipt(name))

    def check_inputs(self) -> None:
        """Verify every file of the inputs; what is damaged is made again by the stage before.

        Of an input that is read in part, only its own folder is: whoever reads what it points to
        verifies that.
        """
        for given in self.inputs.values():
            for step in [given] if isinstance(given, Receipt | NamedInput | str) else given:
                if (receipt := receipt_of(step)) is not None:
                    self.store.sound(receipt)
                if isinstance(step, Receipt) and step.content != self.store.receipt(step).content:
                    raise DataError(
                        f"{self.store.folder(step)} was made again and holds something else than "
                        "before: code or libraries have changed; run the pipeline again"
                    )


@dataclass(frozen=True, eq=False)
class Stage(Generic[Rules]):
    """A stage of the pipeline, callable as a Prefect task.

    `sql` names every SQL file that the stage runs. The macros that they call count as part of it.
    A stage with `has_work` keeps resumable work in the store, which one process at a time may do.
    """

    name: str
    build: Callable[[Path, Job[Rules]], Counts]
    sql: tuple[str, ...] = ()
    has_work: bool = False

    def recipe(
        self,
        dataset: str,
        settings: Rules,
        inputs: Mapping[str, Input],
        sql_names: Sequence[str] = (),
        modules: Sequence[str] = (),
    ) -> Recipe:
        """Everything that decides the content of this step.

        `sql_names` are a dataset's own; `modules` are those that the stage loads by name.
        """
        texts = sql.with_macros({*self.sql, *sql_names})
        return Recipe(
            stage=self.name,
            dataset=dataset,
            code=code_hashes(self.build.__module__, tuple(modules)),
            sql={name: sql_hash(text) for name, text in sorted(texts.items())},
            settings=settings.model_dump(mode="json"),
            inputs={name: each(given, content_name) for name, given in sorted(inputs.items())},
            libraries=library_versions(LIBRARIES) if Machine().libraries_in_recipes else {},
        )

    def job(
        self,
        dataset: str,
        settings: Rules,
        inputs: Mapping[str, Input],
        store: Store,
        *,
        licence: str,
        source: str = "",
        **code: Sequence[str],
    ) -> Job[Rules]:
        """A request; `code` are the recipe's `sql_names` and `modules`."""
        recipe = self.recipe(dataset, settings, inputs, **code)
        return Job(recipe, settings, inputs, store, licence, source)

    def plain(self, job: Job[Rules]) -> Receipt:
        """Build and publish without an orchestrator; a finished step is only looked up."""
        store = job.store
        store.prepare()
        store.makers.setdefault(job.recipe.place, lambda: self.plain(job))
        if store.is_complete(job.recipe):
            return store.receipt(job.recipe)
        with store.working(job.recipe) if self.has_work else contextlib.nullcontext():
            return self._make(job)

    def _make(self, job: Job[Rules]) -> Receipt:
        store = job.store
        if store.is_complete(job.recipe):
            return store.receipt(job.recipe)
        store.require_readable(job.recipe)
        job.check_inputs()
        what = f"the {self.name} stage"
        with (
            storage_errors(store.root, what),
            store.draft() as draft,
            storage_errors(store.root, what, draft),
        ):
            counts = self.build(draft, job)
            return store.publish(
                draft,
                job.recipe,
                counts,
                licence=job.licence,
                requires=tuple(job.requires),
                lineage={name: each(given, recipe_name) for name, given in job.inputs.items()},
            )

    def __call__(self, job: Job[Rules]) -> Receipt:
        """Run as a Prefect task: shown as Cached where the finished folder still stands."""
        store = job.store
        store.prepare()
        store.makers[job.recipe.place] = lambda: self(job)
        is_complete = store.is_complete(job.recipe)
        if not is_complete:
            job.check_inputs()  # here, so that a stage that runs again is a task of its own
        began_s = time.monotonic()
        if _is_plain.get():
            counts = counts_line(self.plain(job).counts)
            log(f"{self.name} of {job.dataset}: {'done before, kept' if is_complete else counts}")
        else:
            self._run_task(job, is_hit=is_complete and is_own_record(job))
        receipt = store.receipt(job.recipe)
        note_stage(receipt, is_cached=is_complete, wall_s=time.monotonic() - began_s)
        return receipt

    def _run_task(self, job: Job[Rules], *, is_hit: bool) -> None:
        run = self.task.with_options(refresh_cache=not is_hit, result_storage=job.store.receipts)
        run(job)
        if is_hit:
            log(f"{self.name} of {job.dataset}: done before, kept")

    @cached_property
    def task(self) -> Task[[Job[Rules]], dict[str, Any]]:
        """The Prefect task of the stage; its result is the receipt as plain JSON."""
        from prefect import task

        def run(job: Job[Rules]) -> dict[str, Any]:
            receipt = self.plain(job)
            log(f"{self.name} of {job.dataset}: {counts_line(receipt.counts)}")
            return receipt.model_dump(mode="json")

        return task(
            name=self.name,
            task_run_name=f"{self.name}-{{job.recipe.digest}}",
            cache_key_fn=lambda _context, parameters: record_name(parameters["job"]),
            persist_result=True,
            result_serializer="json",
            **retries(),
        )(run)


@contextlib.contextmanager
def without_orchestrator() -> Iterator[None]:
    """Stages that are called here run as plain functions: no server, no retries, same result."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def retries() -> dict[str, Any]:
    """How Prefect tries a task again."""
    return {
        "retries": len(RETRY_DELAYS_S),
        "retry_delay_seconds": RETRY_DELAYS_S,
        "retry_condition_fn": should_retry,
    }


def patiently(
    work: Callable[..., Answer], delays_s: Sequence[float] | None = None
) -> Callable[..., Answer]:
    """A function that is tried again after each delay, as Prefect would, where that may help.

    A service may ask for a longer delay.
    """

    def tried(*given: Any) -> Answer:
        for delay_s in RETRY_DELAYS_S if delays_s is None else delays_s:
            try:
                return work(*given)
            except Exception as error:
                if not is_passing(error):
                    raise
                asked_s = getattr(error, "retry_after_s", 0.0)
                wait_s = max(delay_s, min(asked_s, MAX_RETRY_AFTER_S))
                log(f"{work.__name__} is tried again in {wait_s:g} s: {error}")
            time.sleep(wait_s)
        return work(*given)

    return tried


def should_retry(_task: Any, _run: Any, state: Any) -> bool:
    """Retry only what may pass: a wrong input stays wrong."""
    try:
        state.result()
    except BaseException as error:
        return is_passing(error)
    return False


def receipt_of(given: Input) -> Receipt | None:
    """The finished step behind an input, if it is one."""
    step = given.receipt if isinstance(given, NamedInput) else given
    return step if isinstance(step, Receipt) else None


def content_name(given: Given) -> str:
    """An input as it stands in a recipe: the name of what it holds."""
    if isinstance(given, str):
        return given
    if isinstance(given, NamedInput):
        return given.name
    if not given.content:
        raise ValueError(f"the receipt of {given.place} does not say what it holds")
    return given.content


def recipe_name(given: Given) -> str:
    """An input as it stands in the lineage: how it was made, or what it holds if it is no step."""
    receipt = receipt_of(given)
    return receipt.recipe if receipt is not None else str(given)


def each(given: Input, name: Callable[[Given], str]) -> str | list[str]:
    if isinstance(given, Receipt | NamedInput | str):
        return name(given)
    return [name(item) for item in given]


def record_name(job: Job[Any]) -> str:
    """The cache key, which Prefect uses as the name of its result file."""
    return f"{job.recipe.stage}-{job.recipe.dataset}-{job.recipe.digest}"


def is_own_record(job: Job[Any]) -> bool:
    """Whether Prefect's record holds exactly our receipt, in plain JSON.

    Prefect would otherwise load whatever serializer a planted record names, pickle included.
    """
    from prefect.serializers import JSONSerializer

    try:
        record = json.loads((job.store.receipts / record_name(job)).read_bytes())
        expected = job.store.receipt(job.recipe).model_dump(mode="json")
        return (
            record["metadata"]["serializer"] == JSONSerializer().model_dump(mode="json")
            and json.loads(record["result"]) == expected
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


# Prefect ----------------------------------------------------------------------------------------


def as_task(work: Callable[..., Answer]) -> Callable[..., Answer]:
    """A function as a Prefect task that is never cached, and retried where that may help.

    Where stages run without an orchestrator, it is retried here.
    """
    if _is_plain.get():
        return patiently(work)
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(name=work.__name__, cache_policy=NO_CACHE, persist_result=False, **retries())(work)
