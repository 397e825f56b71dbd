"""Steps of every flow, as plain functions: each file beside this one is a door of Prefect to one.

Nothing here loads Prefect, so a run without it does not wait for it either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.catalog.run import recorded_run
from tasks.catalog.warehouse import points_in_force, points_last_reported
from tasks.config.corpus import Corpus, corpus_named
from tasks.config.pipeline import DataConfig, ForecastConfig, PipelineConfig
from tasks.config.suite import suite_named
from tasks.evaluate.benchmark import benchmark as tables_of
from tasks.evaluate.cells import LeftOut, Pace, judged_cells, paces_of
from tasks.evaluate.evaluate import evaluate
from tasks.evaluate.local_model import is_local
from tasks.evaluate.shared_rows import Learned, Making
from tasks.evaluate.transfer import config_for, require_model, transfer
from tasks.ingest.ingest import ingest as ingest_files
from tasks.ingest.suite_sources import sources_of
from tasks.prepare.clean import clean
from tasks.prepare.learning_shards import WHOLE_PERCENT, learning_shards
from tasks.prepare.regions import regions
from tasks.prepare.shards import shards
from tasks.prepare.split import split
from tasks.prepare.step_features import features
from tasks.prepare.visit_shards import visit_shards
from tasks.pretrain.encoding_check import probe_encoding
from tasks.pretrain.fine_tuning import fine_tuned
from tasks.pretrain.time_to_skill import time_to_skill
from tasks.pretrain.train import Part, train, train_corpus
from tasks.release.benchmark_runs import logged
from tasks.release.drift_watch import Watched, require_registered, watched
from tasks.release.outcome import (
    Assessment,
    CorpusAssessment,
    MemberErrors,
    data_counts,
    show_corpus_in_prefect,
    show_in_prefect,
)
from tasks.release.promote import promote
from tasks.release.register import register as register_version
from tasks.release.released import released
from tasks.report.corpus_report import CorpusSteps, JudgedMember, corpus_report
from tasks.report.facts import RunSteps
from tasks.report.leaderboard import leaderboard, show_leaderboard
from tasks.report.quality import quality, refusal_reported, show_quality
from tasks.report.report import report
from tasks.runtime.errors import ConfigError
from tasks.runtime.frozen import Frozen
from tasks.runtime.machine import Machine
from tasks.runtime.progress import flow_run_id
from tasks.runtime.stage import as_task
from tasks.runtime.store import Receipt, Store
from tasks.serve.batch_predict import Predictions, forecast_file


class Prepared(NamedTuple):
    """What became of the points of a dataset, from the snapshot to the shards."""

    points: Receipt
    cleaned: list[Receipt]
    regions: Receipt
    quality: Receipt
    shards: Receipt


class Pretrained(NamedTuple):
    """The weights of a model, and the proof that its encoding of points keeps places and times."""

    probe: Receipt | None
    model: Receipt


def points_of(config: PipelineConfig, source: str, store: Store) -> Receipt:
    """The snapshot of the points of the raw files; only new and changed files are read."""
    with refusal_reported(config, store):
        return ingest_files(config, source, store)


def points_given(config: PipelineConfig, source: str, store: Store) -> Receipt:
    """The points of the source; without one those last ingested, else those of the sample."""
    if not source:
        with contextlib.suppress(ConfigError):
            return points_in_force(config.dataset, store)
    return points_of(config, source, store)


def prepared(config: PipelineConfig, points: Receipt, store: Store) -> Prepared:
    """The shards that training and evaluation read, of points or of visits, as the family does."""
    cleaned = clean(config, points, store)
    entities = split(config, cleaned, store)
    featured = features(config, cleaned, store)
    known = regions(config, cleaned, entities, store)
    judged = quality(config, points, cleaned, featured, known, store)
    show_quality(judged, store)
    if config.reads_visits:
        made = visit_shards(config, cleaned, entities, known, store)
    else:
        made = shards(config, cleaned, featured, entities, known, store)
    return Prepared(points, cleaned, known, judged, made)


def shards_of(config: PipelineConfig, source: str, store: Store) -> Receipt:
    """The shards of the points of a source."""
    return prepared(config, points_of(config, source, store), store).shards


def pretrained(config: PipelineConfig, shards: Receipt, store: Store) -> Pretrained:
    """A model whose encoding is proved; a training that was cut short goes on.

    A visit is told by its region and its own clock, so of visits there is nothing to prove.
    """
    probe = None if config.reads_visits else probe_encoding(config, shards, store)
    return Pretrained(probe, train(config, shards, store))


def assessed(config: PipelineConfig, points: Receipt, store: Store) -> Assessment:
    """From the points of a snapshot to a version beside the baselines, and what the gate says."""
    data = prepared(config, points, store)
    trained = pretrained(config, data.shards, store)
    evaluated = evaluate(config, data.shards, trained.model, store)
    steps = RunSteps(config, store, data.shards, trained.model, evaluated, data.quality)
    counts = data_counts([data.points, *data.cleaned, data.regions])
    reported = report(steps, trained.probe, counts)
    candidate, promotion = released(steps, reported)
    assessment = Assessment(dataset=config.dataset, registration=candidate, promotion=promotion)
    show_in_prefect(assessment, store)
    return assessment


def assessed_corpus(
    corpus: Corpus, config: PipelineConfig, folder: str, store: Store
) -> CorpusAssessment:
    """From the raw files of all members to one version, judged on each of them.

    Each member is made ready as it would be alone, so that another one makes nothing new of it.
    """
    corpus.require_family(config.model.family)
    sources = sources_of(corpus.members, folder)
    configs = [corpus.config_of(member, config) for member in corpus.members]
    made = [
        prepared(own, points_of(own, source, store), store)
        for own, source in zip(configs, sources, strict=True)
    ]
    parts = [
        Part(own, data.shards, share)
        for own, data, share in zip(configs, made, corpus.shares, strict=True)
    ]
    trained = train_corpus(corpus.subject, config, parts, store)
    judged = [
        JudgedMember(member, judged_on(part, trained, data.quality, store), part.share)
        for member, part, data in zip(corpus.members, parts, made, strict=True)
    ]
    return released_corpus(CorpusSteps(corpus, config, store, trained, tuple(judged)))


def judged_on(part: Part, trained: Receipt, quality: Receipt, store: Store) -> RunSteps:
    """The steps that lead to the errors of a corpus's model on one of its members."""
    errors = evaluate(part.config, part.shards, trained, store, is_calibrated=False)
    return RunSteps(part.config, store, part.shards, trained, errors, quality)


def released_corpus(steps: CorpusSteps) -> CorpusAssessment:
    """The report, the version and what the gate says of it."""
    reported = corpus_report(steps)
    registration = as_task(register_version)(steps, reported, flow_run_id())
    promotion = as_task(promote)(steps, registration)
    members = [
        MemberErrors(
            name=one.member.name, title=one.title, part=one.part, evaluated=one.steps.evaluated
        )
        for one in steps.judged
    ]
    assessment = CorpusAssessment(
        dataset=steps.corpus.subject,
        registration=registration,
        promotion=promotion,
        members=tuple(members),
        reported=reported,
    )
    show_corpus_in_prefect(assessment, steps.store)
    return assessment


class Benchmarked(Frozen):
    """The tables of a suite, their page, and what could not be judged."""

    suite: str
    tables: Receipt
    page: Receipt
    left_out: tuple[LeftOut, ...]
    paces: tuple[Pace, ...]


def transferred(
    config: DataConfig, model: str, shards: Receipt, store: Store, few_shot: Sequence[float]
) -> Receipt:
    """The errors of a model that was not trained here, and of what it learns here."""
    if is_local(model):
        if few_shot:
            raise ConfigError(
                "few_shot: a class of your own learns from all of train; leave it out"
            )
        learning = learning_shards(config, shards, WHOLE_PERCENT, store)
        return transfer(config, model, shards, store, learning)
    tuned = {
        percent: few_shot_trained(config, model, shards, percent, {}, store) for percent in few_shot
    }
    return transfer(config, model, shards, store, tuned=tuned)


def few_shot_trained(
    config: DataConfig,
    model: str,
    shards: Receipt,
    percent: float,
    course: Mapping[str, Any],
    store: Store,
) -> Receipt:
    """A model that is trained on with a percent of the entities of train and of validation."""
    learning = learning_shards(config, shards, percent, store)
    return fine_tuned(config, model, learning, store, course)


def trained_equally(
    subject: str, config: PipelineConfig, learned: Sequence[Learned], store: Store
) -> Receipt:
    """A model that learns as much from each of several data."""
    share = round(1 / len(learned), 6)
    return train_corpus(subject, config, [Part(*one, share) for one in learned], store)


MAKING = Making(shards_of, train, trained_equally, few_shot_trained, time_to_skill)


class Transferred(Frozen):
    """The errors of a registered model, or of a class of one's own, on the windows of any data."""

    dataset: str
    model: str
    scores: Receipt


# Flows ------------------------------------------------------------------------------------------


def pipeline(
    config: PipelineConfig, source: str, corpus: str = "", source_folder: str = ""
) -> Assessment:
    """From raw files, of a dataset or of all members of a corpus, to a registered model."""
    store = Store(Machine().store)
    if corpus:
        mixture = corpus_named(corpus)
        with recorded_run(store, "corpus", mixture.subject):
            return assessed_corpus(mixture, config, source_folder, store)
    with recorded_run(store, "pipeline", config.dataset):
        return assessed(config, points_of(config, source, store), store)


def ingest(config: PipelineConfig, source: str) -> Receipt:
    """Raw files to points."""
    store = Store(Machine().store)
    with recorded_run(store, "ingest", config.dataset):
        return points_of(config, source, store)


def prepare(config: PipelineConfig) -> Receipt:
    """The points that were last ingested to shards."""
    store = Store(Machine().store)
    with recorded_run(store, "prepare", config.dataset):
        return prepared(config, points_in_force(config.dataset, store), store).shards


def pretrain(config: PipelineConfig) -> Receipt:
    """The points that were last ingested to a trained model."""
    store = Store(Machine().store)
    with recorded_run(store, "pretrain", config.dataset):
        data = prepared(config, points_in_force(config.dataset, store), store)
        return pretrained(config, data.shards, store).model


def assess(
    config: PipelineConfig, model: str = "", source: str = "", few_shot: Sequence[float] = ()
) -> Assessment | Transferred:
    """The points that were last ingested to a registered model, or to the errors of another."""
    store = Store(Machine().store)
    if model:
        require_model(model)
    with recorded_run(store, "assess", config.dataset):
        if not model:
            return assessed(config, points_in_force(config.dataset, store), store)
        asked = config_for(config, model, store)
        data = prepared(asked, points_given(config, source, store), store)
        scores = transferred(asked, model, data.shards, store, few_shot)
        return Transferred(dataset=config.dataset, model=model, scores=scores)


def benchmark(suite: str, source_folder: str = "") -> Benchmarked:
    """Every family of a suite on all its data, to a leaderboard."""
    store, asked = Store(Machine().store), suite_named(suite)
    with recorded_run(store, "benchmark", f"suite_{asked.name}"):
        judged, left_out = judged_cells(asked, source_folder, store, MAKING)
        paces = paces_of(judged)
        tables = tables_of(asked, judged, store)
        page = leaderboard(asked, tables, left_out, store, paces)
        show_leaderboard(page, store)
        logged(asked, judged, tables, page, store)
        return Benchmarked(
            suite=asked.name, tables=tables, page=page, left_out=left_out, paces=paces
        )


def watch(config: DataConfig, model: str = "", source: str = "") -> Watched:
    """The newest points to what a registered model is worth on them."""
    store = Store(Machine().store)
    address = model or f"models:/trajfoundry-chemin-{config.dataset}@champion"
    require_registered(address)
    with recorded_run(store, "watch", config.dataset):
        asked = config_for(config, address, store)
        data = prepared(asked, points_given(asked, source, store), store)
        scores = transfer(asked, address, data.shards, store)
        return watched(config.dataset, address, scores, store)


def register(config: PipelineConfig) -> Assessment:
    """What the last run that reported has trained, to a registered model."""
    store = Store(Machine().store)
    with recorded_run(store, "register", config.dataset):
        return assessed(config, points_last_reported(config.dataset, store), store)


def forecast(source: str, output: str, config: ForecastConfig) -> Predictions:
    """A file of trajectories to one of forecasts."""
    store = Store(Machine().store)
    store.prepare()
    return as_task(forecast_file)(config, source, output, store)
