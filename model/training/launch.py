"""Launch of a training from plain values, in this process or in those that torchrun starts.

    torchrun --standalone --nproc-per-node 2 -m model.training.launch job.json folder

`job.json` holds the fields of `Training`, and under `fit` those of `FitConfig`; the
folder, which all processes must reach, gets the checkpoints, then the model. The same command goes
on where an earlier one was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import reduce
from pathlib import Path
from typing import Any, cast

import torch
from torch import distributed

from ..data.draws import drawn
from ..data.journey_draws import JourneyPool
from ..data.members import Members
from ..data.memories import memory_of
from ..data.seen_points import SEEN_FILE, SeenPoints, seen_points
from ..data.shards import ShardFolder, Shards
from ..data.streams import prefetched
from ..data.visits import VisitShards
from ..families import (
    FAMILIES,
    VISITS,
    build,
    fitted_file,
    has_own_scale,
    read_fitted,
    reads,
)
from ..features.normaliser import Normaliser
from ..interface.batch import Cursor
from ..interface.evaluating import evaluating
from ..interface.family import Model, Network
from ..interface.infilling import infilled
from ..interface.masking import masked
from ..interface.memory.fitting import Simple, nothing_simple
from ..interface.memory.joint import joint, write_memory
from ..interface.memory.memory import Memory
from ..interface.named_places import read_named_places, write_named_places
from ..interface.weights import CheckpointError, load_weights
from .config import FitConfig
from .cross_fitting import cross_fitted
from .fit import Interrupted, fit
from .ranks import Ranks
from .selection import judge_of
from .state import METRICS_FILE, WEIGHTS_FILE, FitResult, Progress

JourneyPools = Mapping[str, Sequence[JourneyPool | None]]

CONFIG_FILE, COURSE_FILE = "config.json", "training.json"
NUM_FITTING_BATCHES = 64  # of train, for the constants of the inputs
# Of all ranks and members together: 2, 3, 4, 6 and 8 ranks take equally many.
NUM_VALIDATION_BATCHES = 24
PREFETCHED_BATCHES = 2
STOPPED = 130


def stored_files(family: str) -> tuple[str, ...]:
    """The files of a trained model: its weights, its shape, and what was fitted for its inputs."""
    return WEIGHTS_FILE, CONFIG_FILE, fitted_file(family)


def output_files(family: str) -> tuple[str, ...]:
    """All that a training leaves."""
    return *stored_files(family), METRICS_FILE, COURSE_FILE, SEEN_FILE


class InitError(ValueError):
    """A training cannot begin with the weights that it was told to begin with."""


@dataclass(frozen=True)
class Member:
    """One of the shard folders of a training, and its share of the batches beside the others.

    Its trips are people's, if nothing else is said. `kind` is what moves there, such as ship.
    """

    shards: str
    zone: str = "UTC"
    share: float = 1.0
    is_personal: bool = True
    kind: str = ""


@dataclass(frozen=True)
class Training:
    """What is trained on which shards, and how.

    A training on a corpus has several members: they stand in `corpus`, and no shards beside them.
    Where it `tells_kinds`, a family that can learn from it is told what moves in each. `places` is
    a folder with a table of named places.
    """

    shards: str
    family: str
    preset: str
    fit: FitConfig = field(default_factory=FitConfig)
    zone: str = "UTC"
    inputs: str = "kinematic"
    corpus: tuple[Member, ...] = ()
    tells_kinds: bool = False
    places: str = ""

    def __post_init__(self) -> None:
        if bool(self.shards) == bool(self.corpus):
            raise ValueError("a training reads either its shards or the members of its corpus")
        if len(self.members) > 1 and not has_own_scale(self.family):
            raise ValueError(NO_COMMON_SCALE.format(self.family))

    @property
    def members(self) -> tuple[Member, ...]:
        return self.corpus or (Member(self.shards, self.zone),)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are told; none where all that moves is of one."""
        found = sorted({one.kind.strip().lower() for one in self.members} - {""})
        return tuple(found) if self.tells_kinds and len(found) > 1 else ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Training:
        fit = FitConfig(**checked(FitConfig, value.get("fit", {})))
        corpus = tuple(Member(**checked(Member, one)) for one in value.get("corpus", ()))
        given = {"shards": "", **checked(cls, value), "fit": fit, "corpus": corpus}
        return cls(**given)


NO_COMMON_SCALE = (
    "{} divides what it reads by the speeds and intervals of the one dataset that it is trained "
    "on, and no such numbers hold for several: a corpus needs a family with the scale of the "
    "window itself, such as foundry"
)


def checked(kind: type, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value, if it names fields of a dataclass alone."""
    known = [entry.name for entry in fields(kind)]
    if unknown := sorted(value.keys() - set(known)):
        raise ValueError(f"{kind.__name__} has {', '.join(known)}; not {', '.join(unknown)}")
    return value


def run(
    training: Training, folder: Path, on_progress: Callable[[Progress], None] | None = None
) -> FitResult:
    """Train in a folder, and leave the model there: every one of `output_files`."""
    if training.fit.draws.are_any and reads(training.family) == VISITS:
        raise ValueError(f"{training.family} reads visits, which are not thinned or made finer")
    ranks = Ranks.present(torch.device("cpu"))
    model = first_model(training)
    for given in filter(None, (training.fit.init, training.places)):
        model.read_places(Path(given))  # those of the training before those that it begins with
    folders = [shards_for(member, model) for member in training.members]
    if isinstance(model, Model) and model.remembers:
        model.memory = joint([*remembered(training.members, folders, model.simple_mps)])
    by_error, family = training.fit.select_by == "error", FAMILIES[training.family]
    judge = judge_of(family, folders) if by_error else None
    shares = [member.share for member in training.members]
    readings = [training.fit.reading(split) for split in ("train", "validation")]
    members: Members[Any] = Members.of(folders, shares, *readings)
    pools = journey_pools(members, training)
    beside = journeys_beside(members, pools)
    # All ranks read the same.
    fitting = list(beside("train", members.fitting(NUM_FITTING_BATCHES, training.fit.max_points)))
    with evaluating(model):  # nothing is left to chance, so that a resumed run fits the same
        if not training.fit.init:
            model.fit_inputs(fitting)
        model.fit_loss(fitting)

    def asked(split: str, read: Iterator[Any]) -> Iterator[Any]:
        """Batches with what a family learns to tell hidden, and journeys beside."""
        read = beside(split, read)
        if "infill" in family.tasks:
            return (infilled(batch, members.seed_of(batch)) for batch in read)
        if (draw := family.draw) is None:
            return read
        return (masked(batch, draw, members.seed_of(batch)) for batch in read)

    def train_batches(cursor: Cursor) -> Iterator[Any]:
        read, fit = members.training(cursor, *place), training.fit
        if fit.draws.are_any:
            read = (drawn(one, fit.draws, fit.max_points, members.seed_of(one)) for one in read)
        return prefetched(asked("train", read), PREFETCHED_BATCHES)

    place = ranks.rank, ranks.world
    result = fit(
        model,
        train_batches,
        # The same crops each time.
        lambda: asked("validation", members.judged(NUM_VALIDATION_BATCHES, *place)),
        training.fit,
        folder,
        on_progress,
        judge,
    )
    if ranks.is_first:
        write_facts(folder, training, model, result)
        write_seen(folder, training, folders)
        if isinstance(model, Model) and model.memory is not None:
            write_memory(folder, model.memory)
        if is_cross_fitted(training, model):
            pairs = pools["train"][0], pools["validation"][0]
            cross_fitted(model, *pairs, training.fit).write(folder)
        if isinstance(model, Model) and model.places is not None:
            write_named_places(folder, model.places)
    ranks.wait()
    return result


def remembered(
    members: Sequence[Member], folders: Sequence[ShardFolder[Any]], simple: Simple = nothing_simple
) -> Iterator[Memory | None]:
    """The memory of each member; of several none of people, for their model may be passed on."""
    for member, folder in zip(members, folders, strict=True):
        is_kept = len(members) == 1 or not member.is_personal
        shards, is_personal = cast(Shards, folder), member.is_personal
        yield memory_of(shards, is_personal=is_personal, simple=simple) if is_kept else None


def is_cross_fitted(training: Training, model: Network) -> bool:
    """Whether entities of train tell how wide areas of travel times are.

    Of several members each would need its own, and weights that are trained on have seen others.
    """
    is_alone = len(training.members) == 1 and not training.fit.init
    return is_alone and hasattr(model, "new_journey_head")


def journey_pools(members: Members[Any], training: Training) -> JourneyPools:
    """The trips of each split and member, if the family learns journeys."""
    folders = [folder for plan in members.train if isinstance(folder := plan.shards, Shards)]
    if not (FAMILIES[training.family].learns_journeys and folders):
        return {}
    return {
        split: [JourneyPool.of(folder, split) for folder in folders]
        for split in ("train", "validation")
    }


def journeys_beside(
    members: Members[Any], pools: JourneyPools
) -> Callable[[str, Iterator[Any]], Iterator[Any]]:
    """What adds journeys of its member and split to each batch, where there are any."""
    if not pools:
        return lambda split, batches: batches

    def with_journeys(batch: Any, split: str) -> Any:
        pool = pools[split][batch.cursor.last]
        return batch if pool is None else pool.beside(batch, members.seed_of(batch))

    return lambda split, batches: (with_journeys(batch, split) for batch in batches)


def shards_for(member: Member, model: Network) -> ShardFolder[Any]:
    """The shards as a model reads them: visits are told by the places that it knows."""
    folder = Path(member.shards)
    if reads(model.family) == VISITS:
        return VisitShards.open(folder, member.zone, model.fitted)
    return Shards.open(folder, member.zone, member.kind)


def fitted_for(training: Training) -> Any:
    """What was fitted on train for the inputs: of several members what stands for all."""
    fitted = [read_fitted(Path(one.shards), training.family) for one in training.members]
    return fitted[0] if len(fitted) == 1 else Normaliser.of_several(fitted)


def first_model(training: Training) -> Network:
    """The model before its first step: fresh, or as an earlier training left it.

    The normaliser belongs to the weights: a model that is trained on keeps the one that it was
    trained with, whatever the new data would give.
    """
    if not training.fit.init:
        fitted = fitted_for(training)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.fit.seed)
            return build(training.family, shape_of(training), fitted)
    folder, asked = Path(training.fit.init), f"{training.family} {training.preset}"
    try:
        given = json.loads((folder / CONFIG_FILE).read_bytes())
        fitted = read_fitted(folder, training.family)
        family, shape = given["family"], {**given["config"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InitError(f"no trained model to begin with: {type(error).__name__}") from error
    if family != training.family:
        raise InitError(f"the model to begin with is a {family}, not a {training.family}")
    with torch.random.fork_rng(devices=[]):
        model: Network = build(training.family, shape_of(training, shape), fitted)
    defaults = {entry.name: entry.default for entry in fields(model.config)}
    # One that is older than a field has its default.
    if as_json(defaults) | shape != as_json(asdict(model.config)):
        raise InitError(f"the model to begin with has another shape than {asked}: {shape}")
    try:
        load_weights(model, folder / WEIGHTS_FILE)
    except CheckpointError as error:
        raise InitError(f"the weights to begin with do not fit {asked}: {error}") from error
    return model


def as_json(value: Any) -> Any:
    """A value as a file would hold it."""
    return json.loads(json.dumps(value, default=str))


def shape_of(training: Training, first: Mapping[str, Any] | None = None) -> Any:
    """The configuration of the preset, with other inputs than kinematic ones if these are asked.

    The kinds that it is told are those of the training, or of the weights that it begins with.
    """
    preset = FAMILIES[training.family].presets[training.preset]
    if training.inputs != "kinematic":
        if not hasattr(preset, "inputs"):
            raise ValueError(f"{training.family} has no {training.inputs} inputs")
        preset = replace(preset, inputs=training.inputs)
    if hasattr(preset, "kinds"):
        kinds = training.kinds if first is None else tuple(first.get("kinds", ()))
        preset = replace(preset, kinds=kinds, num_text=num_text_of(training, first))
    return preset


def num_text_of(training: Training, first: Mapping[str, Any] | None) -> int:
    """Numbers of a text of the named places of a training, which are those that weights know."""
    known = None if first is None else int(first.get("num_text", 0))
    if not training.places:
        return known or 0
    found = read_named_places(Path(training.places)).num_numbers
    if known is not None and found != known:
        said = f"texts of {known} numbers" if known else "no named places"
        raise InitError(f"the model to begin with knows {said}; the table has {found} of a text")
    return found


def write_facts(folder: Path, training: Training, model: Network, result: FitResult) -> None:
    """What a reader of the weights has to know, and the course of the training, without a clock."""
    zones = {member.zone for member in training.members}
    described = {
        "family": training.family,
        "preset": training.preset,
        "config": asdict(model.config),
        "zone": zones.pop() if len(zones) == 1 else "UTC",
    }
    course = {key: value for key, value in asdict(result).items() if key != "weights"}
    course["parameters"] = sum(value.numel() for value in model.parameters())
    facts = (described, model.fitted.to_json(), course)
    names = CONFIG_FILE, fitted_file(training.family), COURSE_FILE
    for name, value in zip(names, facts, strict=True):
        (folder / name).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_seen(folder: Path, training: Training, shards: Sequence[ShardFolder[Any]]) -> None:
    """What the model was trained on, and what the one that it began with was."""
    seen = reduce(SeenPoints.with_those_of, map(seen_points, shards))
    earlier = SeenPoints.read(Path(training.fit.init)) if training.fit.init else None
    (seen if earlier is None else seen.with_those_of(earlier)).write(folder)


def main() -> int:
    """One process of a training: torchrun says which."""
    parser = argparse.ArgumentParser(
        description="Train a model on shards; torchrun starts several."
    )
    parser.add_argument("job", type=Path, help="JSON file with the fields of a training")
    parser.add_argument("folder", type=Path, help="folder for checkpoints and the model")
    given = parser.parse_args()
    try:
        training = Training.from_json(json.loads(given.job.read_bytes()))
    except (TypeError, ValueError) as error:
        parser.error(f"{given.job.name}: {error}")
    given.folder.mkdir(parents=True, exist_ok=True)
    with_ranks = "WORLD_SIZE" in os.environ
    if with_ranks:
        join_ranks()
    try:
        result = run(training, given.folder)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return STOPPED
    finally:
        if with_ranks:
            distributed.destroy_process_group()
    print(f"{result.stopped} after {result.steps} steps", file=sys.stderr)
    return 0


def join_ranks() -> None:
    """Meet the other processes; on one machine they talk over its loopback alone."""
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    distributed.init_process_group("gloo")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Now and then gloo's threads abort an interpreter that shuts down, and with it a training that
    # is done. All that is to be kept has been written and synced.
    os._exit(code)
