"""Evaluation: a model and the baselines on the same stored windows, as one long table of scores."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.evaluation.judged_tasks import FORECAST, TIMES_GIVEN, TRACKS, judged_tasks
from model.evaluation.score_table import ALL, MAIN_METRICS, WINDOW_ERRORS, Row, wide_rows
from model.families import module_named
from tasks.config.pipeline import PipelineConfig
from tasks.config.slices import EvaluateRules, GenerationRules
from tasks.evaluate.inputs import Rivals, inputs_of, points_opened
from tasks.evaluate.seen import MAX_SEEN_SHARE, SEEN_SHARE, seen_words
from tasks.prepare.conventions import EXAMPLES_FILE, SCORES_FILE, WINDOW_ERRORS_FILE
from tasks.runtime.errors import ConfigError, DataError
from tasks.runtime.machine import Machine
from tasks.runtime.progress import log, progress
from tasks.runtime.stage import Input, Job, Stage
from tasks.runtime.store import Counts, Receipt, Store

if TYPE_CHECKING:
    from model.data.shards import ShardFolder
    from model.evaluation.scores import Kept
    from model.evaluation.skill import Place
    from model.inference.serving import Trained
    from model.interface.answerer import Answerer

GENERATION = "tasks.evaluate.generation"  # by name, so that it changes no recipe of the others
AS_TRAINED = "as trained"  # radii that no calibration corrects
FITTED_SPLIT, SHOWN_SPLIT = SCORED_SPLITS = ("validation", "test")


def evaluate(
    config: PipelineConfig,
    shards: Receipt,
    trained: Receipt,
    store: Store,
    *,
    is_calibrated: bool = True,
) -> Receipt:
    """The errors of a trained model and of the baselines on the stored windows.

    A model of many data has one set of radii for all of them: no validation calibrates it here.
    """
    inputs: dict[str, Input] = {"shards": shards, "trained": trained}
    job = EVALUATE.job(
        config.dataset,
        config.generation_rules or config.evaluate_rules,
        inputs if is_calibrated else inputs | {"radii": AS_TRAINED},
        store,
        licence=config.source_row.licence,
        modules=(
            module_named(config.model.family),
            *([GENERATION] if config.generation_rules else []),
        ),
    )
    return EVALUATE(job)


def build(draft: Path, job: Job[EvaluateRules]) -> Counts:
    """Score a model that was trained on these shards."""
    folder = job.store.verify(job.receipt("trained"))
    trained = trained_in(folder)
    rules = job.settings
    models = as_served(trained, tells_motion(job.folder("shards"), rules), rules.entity_kind)
    trained = models[0]
    calibrated = set() if "radii" in job.inputs else {trained.name}
    counts = judge(draft, job, models, calibrated) | seen_counts(folder, job)
    if isinstance(job.settings, GenerationRules):
        counts |= import_module(GENERATION).judge_generation(draft, job, trained)
    return counts


def as_served(trained: Trained, reports_motion: bool = False, kind: str = "") -> list[Trained]:
    """The model as a registered version answers, and beside it what some of its inputs add.

    These are its memory, a motion that the source reports, where the family reads it, named places,
    and what moves, where it was told in training. A memory holds raw positions: one of people is in
    no version.
    """
    memory, name = getattr(trained.model, "memory", None), trained.name
    found = [trained]
    if memory is not None and memory.is_personal:
        served = replace(trained.remembering(None), asked=())
        found = [served, trained.remembering(memory, f"{name}_with_memory")]
    elif memory is not None:
        found.append(trained.remembering(None, f"{name}_without_memory"))
    if reports_motion and getattr(trained.model, "hears", False):
        found.append(found[0].deaf(f"{name}_without_reported_motion"))
    if getattr(trained.model, "places", None) is not None:
        found.append(found[0].amid(None, f"{name}_without_places"))
    if kind.strip().lower() in getattr(trained.model, "kinds", ()):
        found.append(found[0].kindless(f"{name}_without_kind"))
    return found


def tells_motion(shards: Path, rules: EvaluateRules) -> bool:
    """Whether the source of the points of a folder reports their motion."""
    return inputs_of(shards).opened is points_opened and points_opened(shards, rules).reports_motion


def judge(
    draft: Path,
    job: Job[EvaluateRules],
    models: Sequence[Answerer],
    calibrated: Collection[str] = (),
) -> Counts:
    """Score models and baselines on each task that the first model serves, validation and test.

    The models of these names get a calibration that validation tells, before test asks them.
    """
    import torch

    from model.evaluation.fitted_baselines import UnknownBaselineError
    from model.evaluation.question import AnswerError

    rules, first = job.settings, models[0]
    torch.set_num_threads(Machine().num_threads)
    inputs = inputs_of(job.folder("shards"))
    known = inputs.known_to(first)
    shards = inputs.opened(job.folder("shards"), rules, known)
    require_windows_to_judge(shards, job)
    tasks = judged_tasks(first.tasks, rules.tasks)
    if not tasks:
        raise DataError(
            f"{first.name} serves none of the tasks that windows are stored for "
            f"({', '.join(rules.tasks)}); add those that it serves to window.tasks"
        )
    try:
        rivals = baselines_of(shards.folder, rules, known)
        baselines = rivals.of(tasks)
    except UnknownBaselineError as error:
        raise ConfigError(str(error)) from error
    require_names_of_their_own([*models, *baselines])
    # Where there is nothing to beat, as where train holds no journey, nothing is judged.
    tasks = judged_tasks({question for one in baselines for question in one.tasks}, tasks)
    try:
        scores, answerers = write_scores(
            draft, shards, [*models, *baselines], tasks, rules, calibrated, rivals.errors
        )
    except AnswerError as error:
        raise DataError(str(error)) from error
    write_calibration(draft, answerers[0])
    if FORECAST in tasks and not rules.is_personal:
        write_examples(draft, shards, answerers, rules)
    (draft / "baselines.json").write_text(json.dumps(facts_of(baselines)) + "\n")
    return headline_counts(scores, first.name)


@lru_cache(maxsize=1)  # a benchmark asks for the same again, family after family
def baselines_of(shards: Path, rules: EvaluateRules, known: Any) -> Rivals:
    """The baselines of the shards of a folder, which is named by what it holds."""
    inputs = inputs_of(shards)
    return inputs.rivals(inputs.opened(shards, rules, known), rules)


def seen_counts(folder: Path, job: Job[EvaluateRules]) -> Counts:
    """The share of the test points that the model of a folder was trained on, if it tells."""
    from model.data.seen_points import SeenPoints, seen_share

    seen = SeenPoints.read(folder)
    if seen is None:
        return {}
    judged = job.folder("shards")
    shards = inputs_of(judged).opened(judged, job.settings, None)
    share = round(seen_share(seen, shards, SHOWN_SPLIT), 6)
    if share > MAX_SEEN_SHARE:
        log(seen_words(share))
    return {SEEN_SHARE: share}


def require_names_of_their_own(answerers: Sequence[Answerer]) -> None:
    """Tables tell those who answer the same question apart by their names."""
    told = Counter((one.name, question) for one in answerers for question in one.tasks)
    for (name, question), number in told.items():
        if number > 1:
            raise ConfigError(
                f"model: another answerer of {question} is called {name}; take another name"
            )


def trained_in(folder: Path) -> Trained:
    from model.inference.serving import load_trained
    from model.interface.weights import CheckpointError

    try:
        return load_trained(folder)
    except CheckpointError as error:
        raise DataError(f"the trained model cannot be read: {error}") from error


def require_windows_to_judge(shards: ShardFolder[Any], job: Job[EvaluateRules]) -> None:
    """Every split needs windows: without them there is nothing to fit or to judge on."""
    from model.data.shards import window_index

    inputs = inputs_of(shards.folder)
    for split in ("train", *SCORED_SPLITS):
        if not len(window_index(shards, split, inputs.task)):
            words = inputs.window_words(job.settings)
            raise DataError(f"the {split} split of {job.dataset} has no window {words}")


def write_scores(
    draft: Path,
    shards: ShardFolder[Any],
    answerers: Sequence[Answerer],
    tasks: Sequence[str],
    rules: EvaluateRules,
    calibrated: Collection[str],
    kept: Kept,
) -> tuple[pa.Table, list[Answerer]]:
    """Write the scores of all splits, and beside them the errors that they are means of.

    Gives the scores, and everyone as test asked them.
    """
    from model.evaluation.question import Judging
    from model.evaluation.scores import bars_of, scored

    judging = Judging(
        horizons=rules.horizons,
        strata_horizon=rules.gate_horizon,
        tasks=tuple(tasks),
        num_bootstrap=rules.num_bootstrap,
        seed=rules.seed,
    )
    tables: list[pa.Table] = []
    bars: dict[Place, str] = {}
    asked = list(answerers)
    with (
        pq.ParquetWriter(
            draft / WINDOW_ERRORS_FILE, WINDOW_ERRORS, compression="zstd", write_page_checksum=True
        ) as writer,
        progress("evaluate", f"Scoring {answerers[0].name} and the baselines") as tell,
    ):
        for split in SCORED_SPLITS:
            found = scored(shards, asked, split, judging, tell, bars, kept)
            if split == FITTED_SPLIT:
                rows = found.table.to_pylist()
                bars = bars_of(rows)
                asked = [calibrated_by(rows, one, calibrated) for one in asked]
            tables.append(found.table)
            writer.write_table(found.window_errors)
    scores = pa.concat_tables(tables)
    pq.write_table(scores, draft / SCORES_FILE, compression="zstd", write_page_checksum=True)
    return scores, asked


def calibrated_by(rows: Sequence[Row], answerer: Answerer, names: Collection[str]) -> Answerer:
    """One of these names with the calibration that the scores of validation tell.

    What its training has told by journeys of train stays: it does where these are of more entities.
    """
    from model.evaluation.conformal import calibration_of
    from model.inference.serving import Trained

    if not isinstance(answerer, Trained) or answerer.name not in names:
        return answerer
    found = calibration_of(rows, answerer.name)
    decile = {**found.decile, **answerer.calibration.decile}
    return replace(answerer, calibration=replace(found, decile=decile))


def write_calibration(draft: Path, first: Answerer) -> None:
    """Write what the model carries from now on, if it is one that can be registered."""
    from model.inference.serving import Trained

    if isinstance(first, Trained):
        first.calibration.write(draft)


def write_examples(
    draft: Path, shards: Any, answerers: Sequence[Answerer], rules: EvaluateRules
) -> None:
    """Write forecasts of the test windows that the model, the first answerer, misses by most, and
    of typical ones.
    """
    from model.evaluation.examples import chosen_windows, example_forecasts

    wanted = {
        "split": SHOWN_SPLIT,
        "task": FORECAST,
        "track": TIMES_GIVEN,
        "metric": MAIN_METRICS[FORECAST],
        "horizon": rules.gate_horizon,
        "model": answerers[0].name,
    }
    errors = pq.read_table(
        draft / WINDOW_ERRORS_FILE,
        filters=[(name, "=", value) for name, value in wanted.items()],
        partitioning=None,
    )
    able: list[Any] = [answerer for answerer in answerers if FORECAST in answerer.tasks]
    roles = chosen_windows(errors)
    examples = example_forecasts(shards, able, SHOWN_SPLIT, roles, rules.seed)
    pq.write_table(examples, draft / EXAMPLES_FILE)


def facts_of(baselines: Sequence[Answerer]) -> dict[str, dict[str, float | str]]:
    """What was fitted for a baseline, as far as it is a number."""
    taus_s = {one.name: one.tau_s for one in baselines if hasattr(one, "tau_s")}
    return {
        name: {"tau_s": tau_s if math.isfinite(tau_s) else "infinity"}
        for name, tau_s in taus_s.items()
    }


DIGITS = {"m": 3, "s": 1, "": 4, "share": 4}  # of metres, seconds, nats and shares


def headline_counts(scores: pa.Table, family: str) -> Counts:
    """The model's own errors over all windows, on the first track of each task.

    `test_ade_10_m` of forecasts at the last step that is told, and `test_recover_mae_m` and the
    like of other tasks; `test_next_region_nll` is in nats.
    """
    counts: Counts = {}
    for task, (track, *_) in TRACKS.items():
        rows = wide_rows(scores, task=task, track=track, mask=ALL, stratum=ALL, model=family)
        last = max((row["horizon"] or 0 for row in rows), default=0)
        for row in (row for row in rows if (row["horizon"] or 0) == last):
            split, main = row["split"], row["main"]
            noun, _, unit = main.partition("_")
            place = split if task == FORECAST else f"{split}_{task}"
            step = f"_{last}" if last else ""
            counts[f"{place}_windows"] = row["num_windows"]
            if task == FORECAST:
                counts[f"{place}_entities"] = row["num_entities"]
            name = "_".join(filter(None, (f"{place}_{noun}{step}", unit)))
            counts[name] = round(row[main], DIGITS[unit])
            if math.isfinite(row["skill"]):  # over a bar without any error it has no bounds
                counts[f"{place}_skill{step}"] = round(row["skill"], 4)
    return counts


EVALUATE = Stage("evaluate", build)
