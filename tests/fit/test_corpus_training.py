"""Training on a corpus: shares, one scale for each member, and a kill that leaves no trace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import islice

import pytest
import torch
from helpers.batches import assert_all_same, used
from helpers.shards import write_shards
from helpers.toy_training import Toy, outcome
from helpers.walks import WALKING, batch_of, context_of, walk

from model.data.members import Members
from model.data.seen_points import SeenPoints, seen_points
from model.earth.geometry import step_between, step_from
from model.families import FAMILIES_OF_POINTS, build, has_own_scale
from model.features.normaliser import Normaliser, Quantiles
from model.inference.serving import load_trained
from model.interface.batch import Cursor
from model.training import fit as fit_module
from model.training.config import FitConfig
from model.training.launch import Member, Training, run
from model.training.validation import TrainingError, validation_loss

CONFIG = FitConfig(
    max_steps=16, batch_size=4, max_points=16, validate_every=8, log_every=1, checkpoint_every_s=0.0
)
LENGTHS = ([50, 20, 33, 7, 90, 12], [41, 28, 16, 60], [12, 75])
SHARES = (0.5, 0.3, 0.2)
STORMS = Normaliser(9, Quantiles(2e4, 21_600, 3e4), Quantiles(1, 5, 12), Quantiles(2e4, 1e5, 3e5))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that tests start: with another number sums round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Datasets with trips of different lengths; the middle one is of storms, by its normaliser."""
    made = []
    for number, sizes in enumerate(LENGTHS):
        shards = write_shards(
            tmp_path_factory.mktemp("shards"), {"train": sizes, "validation": [60, 45]}
        )
        fitted = STORMS if number == 1 else WALKING
        (shards.folder / "normaliser.json").write_text(json.dumps(fitted.to_json()))
        made.append(shards)
    return made


@pytest.fixture(scope="module")
def training(folders):
    corpus = tuple(
        Member(str(shards.folder), share=share)
        for shards, share in zip(folders, SHARES, strict=True)
    )
    return Training("", "foundry", "tiny", CONFIG, corpus=corpus)


@pytest.fixture(scope="module")
def whole(training, tmp_path_factory):
    """What a training that nothing disturbs leaves behind, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    run(training, folder)
    return outcome(folder), folder


class Stop(Exception):
    """Leaves a training in the middle, as a crash would."""


def crash(training, folder, step):
    def watch(progress):
        if progress.step == step:
            raise Stop

    with pytest.raises(Stop):
        run(training, folder, watch)


# Resume


@pytest.mark.parametrize("step", [1, 8, 13])
def test_a_crashed_training_goes_on_as_if_it_had_not(training, tmp_path, whole, step):
    crash(training, tmp_path / "run", step)
    run(training, tmp_path / "run")
    assert outcome(tmp_path / "run") == whole[0]


@pytest.mark.parametrize("forgotten", ["parts", "taken"])
def test_a_resume_that_forgets_where_a_member_stood_would_be_noticed(
    training, tmp_path, whole, monkeypatch, forgotten
):
    crash(training, tmp_path / "run", 13)
    from_json = fit_module.FitState.from_json
    fresh = {"parts": [Cursor().to_json()] * 3, "taken": [0, 0, 0]}[forgotten]

    def forgetful(value):
        return from_json({**value, "cursor": {**value["cursor"], forgotten: fresh}})

    monkeypatch.setattr(fit_module.FitState, "from_json", staticmethod(forgetful))
    run(training, tmp_path / "run")
    assert outcome(tmp_path / "run") != whole[0]


def test_kill_9_and_the_same_command_again_end_as_the_unkilled_training(training, tmp_path, whole):
    (tmp_path / "job.json").write_text(json.dumps(asdict(training)))
    command = [sys.executable, "-m", "model.training.launch", tmp_path / "job.json"]
    process = subprocess.Popen([*command, tmp_path / "cut"])
    deadline_s = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("checkpoints/checkpoint-*")):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "training.json").exists()
    run(Training.from_json(json.loads((tmp_path / "job.json").read_text())), tmp_path / "cut")
    assert outcome(tmp_path / "cut") == whole[0]


def test_what_is_left_can_be_asked_and_tells_what_it_saw(folders, whole):
    trained = load_trained(whole[1])
    assert trained.model.normaliser.known_step_s == (
        WALKING.known_step_s[0],
        STORMS.known_step_s[1],
    )
    seen = SeenPoints.read(whole[1])
    every = [seen_points(shards) for shards in folders]
    assert all(seen.share_of(one.bits_K) == 1 for one in every)
    assert every[0].share_of(seen.bits_K) < 1


def test_a_corpus_of_one_is_a_training_of_its_dataset(training, tmp_path):
    [shards, *_] = [member.shards for member in training.corpus]
    alone = Training(shards, "foundry", "tiny", CONFIG)
    run(alone, tmp_path / "alone")
    run(replace(training, corpus=(Member(shards, share=0.1),)), tmp_path / "corpus")
    assert outcome(tmp_path / "corpus") == outcome(tmp_path / "alone")


def test_a_model_of_a_corpus_may_be_trained_on_with_one_dataset(training, whole, tmp_path):
    first, *_ = training.corpus
    config = replace(CONFIG, init=str(whole[1]), max_steps=4)
    run(Training(first.shards, "foundry", "tiny", config), tmp_path / "tuned")
    tuned, before = (load_trained(folder).model for folder in (tmp_path / "tuned", whole[1]))
    assert tuned.normaliser == before.normaliser
    assert torch.isinf(tuned.place.extent_m)


# What is read


def read(folders, seed=0, shares=SHARES):
    config = replace(CONFIG, seed=seed)
    return Members.of(folders, shares, config.reading("train"), config.reading("validation"))


def test_members_take_turns_in_their_shares_and_draw_their_own_crops(folders):
    members = read(folders)
    batches = list(islice(members.training(Cursor()), 200))
    turns = Counter()
    for number, batch in enumerate(batches, 1):
        turns[batch.cursor.last] += 1
        for member, share in enumerate(SHARES):
            assert abs(turns[member] - number * Fraction(share).limit_denominator(10)) < 1
    seeds = [members.seed_of(batch) for batch in batches]
    assert len(set(seeds)) == len(folders)
    twice = read([folders[0], folders[0]], shares=(1, 1))
    first, second = (
        [batch for batch in islice(twice.training(Cursor()), 8) if batch.cursor.last == member]
        for member in (0, 1)
    )
    assert used(first) != used(second)


def test_validation_asks_as_much_of_each_member_and_always_the_same(folders):
    members = read(folders)
    asked = list(members.judged(6))
    assert Counter(batch.cursor.last for batch in asked) == {0: 2, 1: 2, 2: 2}
    assert_all_same(list(members.judged(6)), asked)


def test_the_largest_member_does_not_rule_the_validation(folders):
    """Each counts alike: more of the same of one member changes nothing."""
    batches = list(read(folders).judged(3))
    [mine] = [batch for batch in batches if batch.cursor.last == 0]
    judged = [
        validation_loss(Toy(), found, torch.device("cpu"))
        for found in (batches, [*batches, *[mine] * 20])
    ]
    assert judged[0] == pytest.approx(judged[1], rel=1e-9)
    own = [validation_loss(Toy(), [batch], torch.device("cpu")) for batch in batches]
    assert judged[0] == pytest.approx(sum(own) / len(own), rel=1e-9)
    pooled = [replace(batch, cursor=Cursor()) for batch in [*batches, *[mine] * 20]]
    assert validation_loss(Toy(), pooled, torch.device("cpu")) != pytest.approx(judged[0], rel=1e-3)


def test_a_member_without_a_target_is_an_error(folders):
    batches = list(read(folders).judged(3))
    nothing = replace(batches[1], is_target_BT=torch.zeros_like(batches[1].is_target_BT))
    with pytest.raises(TrainingError, match="no targets"):
        validation_loss(Toy(), [batches[0], nothing], torch.device("cpu"))


# One scale for each


def wide(points, times):
    """The same walk in steps so many times as long."""
    start = points[0][:, :1], points[1][:, :1]
    moved_m = step_between(*start, points[0], points[1])
    return *step_from(*start, *(times * value for value in moved_m)), points[2]


def two_members():
    """Walks of people, and the same ones a hundred times as wide."""
    points = walk(32, 24, lat_deg=0.0)
    small, large = batch_of(*points), batch_of(*wide(points, 100))
    return small, replace(large, cursor=Cursor(last=1))


def misses(model, batches):
    with torch.no_grad():
        return [float(model.loss(batch).parts["miss"]) for batch in batches]


def test_metres_of_storms_do_not_drown_metres_of_people():
    model, batches = build("foundry", "tiny", WALKING).eval(), two_members()
    model.fit_loss(batches)
    small, large = misses(model, batches)
    assert large == pytest.approx(small, rel=0.05)
    pooled = [replace(batch, cursor=Cursor()) for batch in batches]  # one unit for both
    model.fit_loss(pooled)
    small, large = misses(model, pooled)
    assert large > 50 * small


def test_no_place_of_a_corpus_is_a_wave_of_a_region():
    """On one region the same walk elsewhere is told otherwise; on several, only by its latitude."""
    model, batches = build("foundry", "tiny", WALKING).eval(), two_members()

    def codes(lon_deg):
        points = walk(1, 8, lon_deg=lon_deg)
        heading_RTC = torch.ones(1, 8, 2, dtype=torch.float64)
        return model.place(points[0], points[1], heading_RTC)

    model.fit_inputs(batches)
    here, there = codes(8.0), codes(31.0)
    assert torch.isfinite(here).all()
    assert torch.equal(here[..., 3:], there[..., 3:])
    assert not torch.equal(here[..., :3], there[..., :3])
    model.fit_inputs(batches[:1])
    assert not torch.equal(codes(8.0)[..., 3:], codes(31.0)[..., 3:])


def test_a_normaliser_of_several_lies_between_them_and_knows_the_steps_of_all():
    both = Normaliser.of_several([WALKING, STORMS])
    assert both.step_m.p50 == pytest.approx((WALKING.step_m.p50 * STORMS.step_m.p50) ** 0.5)
    assert both.known_step_s == (WALKING.known_step_s[0], STORMS.known_step_s[1])
    assert Normaliser.from_json(json.loads(json.dumps(both.to_json()))) == both
    resting = replace(WALKING, speed_mps=Quantiles(0, 0, 4.0))
    assert Normaliser.of_several([resting, STORMS]).speed_mps.p50 > 0


@pytest.mark.parametrize("family", FAMILIES_OF_POINTS)
def test_a_family_with_the_scale_of_its_data_is_refused(training, family):
    if has_own_scale(family):
        replace(training, family=family)
    else:
        with pytest.raises(ValueError, match="no such numbers hold for several"):
            replace(training, family=family)
    replace(training, family=family, corpus=training.corpus[:1])


def test_the_claim_of_an_own_scale_is_true():
    """What such a family answers hardly rests on its normaliser: of two points not at all."""
    context = context_of(*walk(4, 12))
    answers = []
    for fitted in (WALKING, STORMS):
        torch.manual_seed(0)
        model = build("foundry", "tiny", fitted).eval()
        with torch.no_grad():
            answers.append(model.forecast(context, 5, context.time_s_BT[:, -5:] + 100.0, 0, 0))
    assert torch.equal(answers[0].lat_deg_BH, answers[1].lat_deg_BH)


def test_shards_and_corpus_are_one_or_the_other(training):
    for shards, corpus in (("", ()), ("somewhere", training.corpus)):
        with pytest.raises(ValueError, match="either its shards or the members"):
            replace(training, shards=shards, corpus=corpus)
