"""Kind in foundry: what moves is told where it is known, tells apart, and is done without."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from helpers.served import frame_of
from helpers.shards import write_shards
from helpers.walks import WALKING, batch_of, context_of, shaken, trained, walk

from model.data.draws import drawn
from model.data.options import Draws
from model.families import build
from model.families.foundry.config import FoundryConfig
from model.families.foundry.kind import KindCode
from model.families.foundry.network import Foundry
from model.inference.api import forecast
from model.inference.point_frames import PointFrames
from model.inference.serving import Params, Trained, load_trained
from model.interface.kinds import kind_number, kind_numbers
from model.interface.sequence_rows import rows_of_batch
from model.interface.weights import save_weights
from model.training.config import FitConfig
from model.training.launch import Member, Training, run
from tasks.config.pipeline import PipelineConfig
from tasks.config.sections import ModelConfig
from tasks.evaluate.evaluate import as_served

KINDS = ("ship", "taxi")
TINY = FoundryConfig(width=16, num_layers=2, max_points=20, has_place=False)
KNOWING = replace(TINY, kinds=KINDS)
SHIP, TAXI = kind_numbers(KINDS)
NUM_KNOWN = 12
PLACE = ["lon_deg", "lat_deg"]


def told(points, *numbers):
    return replace(points, kind_B=torch.tensor(numbers))


def places(model, context):
    found = forecast(model, context, 3)
    return torch.stack([found.lon_deg_BH, found.lat_deg_BH])


def test_a_kind_has_one_number_wherever_it_is_told():
    assert kind_number("ship") == kind_number(" Ship ") != kind_number("taxi")
    assert kind_number("") == 0
    for names in (("ship", "ship"), ("ship", "")):
        with pytest.raises(ValueError, match="each its own"):
            kind_numbers(names)


def check_what_is_not_told_says_nothing(model):
    """No kind, and one that it does not know, are as if there were none, to the bit."""
    context = context_of(*walk(3, NUM_KNOWN))
    plain = places(model, context)
    unknown = kind_number("iceberg")
    assert torch.equal(places(model, told(context, 0, unknown, 0)), plain)
    found = places(model, told(context, 0, SHIP, 0))
    assert torch.equal(found[:, [0, 2]], plain[:, [0, 2]])
    assert (found[:, 1] != plain[:, 1]).any()


class TellsOthers(KindCode):
    """What is not known is told as some kind."""

    def forward(self, kind_R):
        return super().forward(kind_R.where(kind_R == SHIP, TAXI))


def test_what_is_not_told_says_nothing():
    model = shaken(Foundry, KNOWING)
    check_what_is_not_told_says_nothing(model)
    faulty = TellsOthers(KNOWING)
    faulty.load_state_dict(model.kind.state_dict())
    model.kind = faulty
    with pytest.raises(AssertionError):
        check_what_is_not_told_says_nothing(model)


def test_a_network_begins_as_one_that_knows_no_kinds():
    """The same first weights, and the same answers whatever is told."""
    torch.manual_seed(2)
    plain = Foundry(TINY, WALKING).eval()
    torch.manual_seed(2)
    model = Foundry(KNOWING, WALKING).eval()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    context = told(context_of(*walk(2, NUM_KNOWN)), SHIP, TAXI)
    assert torch.equal(places(model, context), places(plain, context))


def test_in_training_some_rows_are_told_none():
    code = KindCode(replace(KNOWING, share_kindless=0.5)).train()
    torch.nn.init.ones_(code.weight_KD)
    kind_R = torch.tensor([SHIP, TAXI] * 100)
    torch.manual_seed(0)
    assert 70 < int(code(kind_R)[:, 0, 0].sum()) < 130
    assert bool((code.eval()(kind_R) == 1).all())


def test_draws_of_training_keep_the_kind_of_a_row():
    batch = told(batch_of(*walk(4, 40)), SHIP, TAXI, 0, SHIP)
    rows = rows_of_batch(drawn(batch, Draws(0.4, 0.3, 0.3), 20, seed=1))
    assert rows.kind_R.tolist() == [SHIP, TAXI, 0, SHIP]


def corners(num_rows, generator):
    """A step any way, then one as long that turns by a right angle: ships left, taxis right."""
    left_B1 = torch.where(torch.arange(num_rows) % 2 == 0, 1.0, -1.0).double().unsqueeze(1)
    first_m_BC = 50 * torch.randn(num_rows, 2, generator=generator, dtype=torch.float64)
    second_m_BC = left_B1 * first_m_BC.flip(1) * torch.tensor([-1.0, 1.0])
    place_m_BTC = torch.stack([0 * first_m_BC, first_m_BC, first_m_BC + second_m_BC], dim=1)
    time_s_BT = 10.0 * torch.arange(3, dtype=torch.float64).expand(num_rows, -1)
    kind_B = torch.where(left_B1[:, 0] > 0, SHIP, TAXI)
    return (*(place_m_BTC / 111_195).unbind(-1), time_s_BT), kind_B


def test_training_learns_what_a_kind_is_worth():
    """Where the kind alone decides which way all turn: told, the miss is a fraction."""
    generator = torch.Generator().manual_seed(0)
    points, kind_B = corners(64, generator)
    torch.manual_seed(0)
    config = replace(KNOWING, share_present=1.0, journey_weight=0, gap_weight=0)
    model = trained(Foundry(config, WALKING), replace(batch_of(*points), kind_B=kind_B), 80)
    points, kind_B = corners(32, generator)
    context = context_of(*(value[:, :2] for value in points))
    served = Trained(model)

    def miss_m(asker, context):
        found = asker.forecast(context, 1, points[2][:, 2:])
        east_deg = found.lon_deg_BH[:, 0] - points[0][:, 2]
        return 111_195 * float(
            torch.hypot(east_deg, found.lat_deg_BH[:, 0] - points[1][:, 2]).mean()
        )

    knowing, without_m = replace(context, kind_B=kind_B), miss_m(served, context)
    assert miss_m(served, knowing) < 0.3 * without_m
    assert miss_m(served.kindless("without"), knowing) == without_m
    assert without_m < miss_m(Trained(Foundry(config, WALKING).eval()), context)  # as it began


def test_a_frame_tells_kinds_by_their_names():
    """A missing one is none; an unknown one is refused with those that are known."""
    asked = PointFrames(Trained(shaken(Foundry, KNOWING)), Params(horizon=3, num_samples=0))
    frame = frame_of(*walk(3, 9), [9, 7, 8])
    plain, ships = asked.forecast(frame), asked.forecast(frame.assign(kind="Ship"))
    assert ((plain.lon_deg - ships.lon_deg).abs() > 1e-9).any()
    silent = asked.forecast(frame.assign(kind=None))
    assert silent[PLACE].equals(plain[PLACE])
    some = frame.assign(kind="ship").where(frame.trajectory_id == "walk-9", frame.assign(kind=None))
    mixed = asked.forecast(some)
    for one, alike in (("walk-9", ships), ("walk-8", plain), ("walk-7", plain)):
        rows = (value[value.trajectory_id == one][PLACE] for value in (mixed, alike))
        torch.testing.assert_close(*(torch.tensor(value.to_numpy()) for value in rows))
    with pytest.raises(ValueError, match="'submarine' in 24 rows, and this model knows ship, taxi"):
        asked.forecast(frame.assign(kind="submarine"))
    turns = frame.assign(kind=["ship", "taxi"] * 12)
    with pytest.raises(ValueError, match="kind differs between the rows of one trajectory"):
        asked.forecast(turns)
    # A model that was told none has nothing to make of the column.
    other = PointFrames(Trained(shaken(Foundry, TINY)), Params(horizon=3, num_samples=0))
    assert other.forecast(turns).equals(other.forecast(frame))


def test_a_version_saved_and_loaded_answers_the_same(tmp_path):
    model = shaken(Foundry, KNOWING)
    save_weights(model, tmp_path / "weights.safetensors")
    described = {"family": "foundry", "preset": "tiny", "config": asdict(KNOWING)}
    (tmp_path / "config.json").write_text(json.dumps(described))
    (tmp_path / "normaliser.json").write_text(json.dumps(WALKING.to_json()))
    found = load_trained(tmp_path)
    context = told(context_of(*walk(2, NUM_KNOWN)), SHIP, TAXI)
    assert found.model.kinds == KINDS
    assert torch.equal(places(found.model, context), places(model, context))


def test_the_table_has_a_row_without_kind_where_kinds_were_told():
    """Not of what moves that training did not know, and not of a model that was told none."""
    knowing = Trained(build("foundry", KNOWING, WALKING))
    *_, without = as_served(knowing, kind=" Taxi ")
    assert (without.name, without.tasks) == ("foundry_without_kind", ("forecast",))
    assert as_served(knowing, kind="iceberg") == as_served(knowing) == [knowing]
    plain = Trained(build("foundry", TINY, WALKING))
    assert as_served(plain, kind="taxi") == [plain]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = []
    for sizes in ([50, 20, 33, 40], [41, 28, 16, 60]):
        shards = write_shards(tmp_path_factory.mktemp("s"), {"train": sizes, "validation": [45]})
        (shards.folder / "normaliser.json").write_text(json.dumps(WALKING.to_json()))
        made.append(str(shards.folder))
    return made


FIT = FitConfig(max_steps=4, batch_size=4, max_points=16, validate_every=4, warmup_steps=0)


def test_a_corpus_tells_kinds_if_it_is_asked_to_and_a_fine_tuning_keeps_them(folders, tmp_path):
    corpus = tuple(map(Member, folders))
    kinds = tuple(
        replace(one, kind=kind) for one, kind in zip(corpus, ("Ship", "taxi"), strict=True)
    )
    silent = Training("", "foundry", "tiny", FIT, corpus=corpus)
    asked = Training("", "foundry", "tiny", FIT, corpus=kinds, tells_kinds=True)
    weights = {}
    for name, training in (
        ("silent", silent),
        ("not asked", replace(asked, tells_kinds=False)),
        ("one", replace(silent, corpus=(kinds[0], kinds[0]), tells_kinds=True)),
        ("asked", asked),
    ):
        (tmp_path / name).mkdir()
        run(training, tmp_path / name)
        weights[name] = load_trained(tmp_path / name).model
    assert weights["asked"].kinds == KINDS
    assert all(bool(row_D.any()) for row_D in weights["asked"].kind.weight_KD)
    for name in ("not asked", "silent", "one"):
        assert not weights[name].kinds
    assert all(
        torch.equal(value, weights["silent"].state_dict()[name])
        for name, value in weights["not asked"].state_dict().items()
    )
    further = replace(FIT, init=str(tmp_path / "asked"), max_steps=1)
    (tmp_path / "tuned").mkdir()
    run(Training("", "foundry", "tiny", further, corpus=kinds[:1]), tmp_path / "tuned")
    tuned = load_trained(tmp_path / "tuned").model
    assert tuned.kinds == KINDS
    assert bool(tuned.kind.weight_KD.any())


def test_a_run_tells_the_kind_of_each_member():
    config = PipelineConfig(dataset="ais_noaa", model={"family": "foundry", "kinds": True})
    assert config.training.model.kinds
    assert config.learned().entity_kind == config.evaluate_rules.entity_kind == "ship"


def test_kinds_are_for_a_family_that_can_be_told():
    assert ModelConfig(family="foundry", kinds=True).kinds
    with pytest.raises(ValueError, match="foundry alone, not to chemin"):
        ModelConfig(family="chemin", kinds=True)


def test_a_frame_without_rows_and_a_column_there_twice_are_refused_by_name():
    asked = PointFrames(Trained(shaken(Foundry, KNOWING)), Params(horizon=3, num_samples=0))
    frame = frame_of(*walk(1, 9), [9]).assign(kind="ship")
    with pytest.raises(ValueError, match="no points were given"):
        asked.forecast(frame.iloc[:0])
    frame.insert(0, "kind", "taxi", allow_duplicates=True)
    with pytest.raises(ValueError, match="column kind is there twice"):
        asked.forecast(frame)
