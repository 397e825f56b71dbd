"""Named places in foundry: told where any are near, worth what they decide, and done without."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from hashlib import blake2b

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.named import KNOWING, TEXTS, TINY, table_near
from helpers.past import flat
from helpers.served import frame_of, served_from
from helpers.shards import write_shards
from helpers.walks import STARTED_US, WALKING, batch_of, context_of, shaken, walk

from model.earth.geometry import haversine_m, step_from
from model.families.foundry.network import Foundry
from model.features.letters import NUM_NUMBERS, text_vectors
from model.inference.api import forecast
from model.inference.serving import Trained, load_trained
from model.interface.memory.fitting import fitted_memory
from model.interface.memory.paths import PastPaths
from model.interface.named_places import (
    NUM_NEAREST,
    NUM_NEARNESS,
    PLACES_FILE,
    NamedPlaces,
    read_named_places,
    write_named_places,
)
from model.interface.weights import CheckpointError, CorruptCheckpoint, save_weights
from model.training.config import FitConfig
from model.training.launch import InitError, Training, run
from tasks.evaluate.evaluate import as_served
from tasks.prepare import conventions
from tasks.registry.initial_weights import answering_digest, digest_of
from tasks.release.bundle import requirements_of, write_bundle
from tasks.release.model_card import places_note

NUM_KNOWN = 12
PARAMS = {"task": "forecast", "horizon": 3, "num_samples": 0, "seed": 3, "zone": "UTC"}


def amid(model, places):
    model.places = places
    return model


def places_told(model, context):
    found = forecast(model, context, 3)
    return torch.stack([found.lon_deg_BH, found.lat_deg_BH])


# Texts and tables


def test_texts_that_share_words_lie_near_each_other():
    """And a text has one vector, whatever its blanks and capitals, and none without a letter."""
    north, south, airport, same, empty = text_vectors((*TEXTS, " harbour  OF the North", " "))
    assert np.array_equal(north, same)
    assert north @ south > 0.5 > abs(north @ airport)
    assert not empty.any()
    assert float(np.linalg.norm(north)) == pytest.approx(1, abs=1e-6)
    # Of one letter there is one group, so its signs are the bits of a published hash.
    bits = np.unpackbits(np.frombuffer(blake2b(b" a ", digest_size=4).digest(), np.uint8))
    assert ((text_vectors(["A"])[0] > 0) == bits).all()


def by_hand(places, lon_deg, lat_deg, reach_m):
    """How near the nearest is, and the mean vector, by distances to each place."""
    here = torch.tensor(lon_deg), torch.tensor(lat_deg)
    there = torch.from_numpy(places.lon_deg_P), torch.from_numpy(places.lat_deg_P)
    all_m = haversine_m(*here, *there)
    away_m, order = all_m.sort()
    share = (away_m[:NUM_NEAREST] / reach_m).clamp(max=1)
    if share[0] >= 1:
        return 0.0, torch.zeros(places.num_numbers)
    weight = (1 - share) ** 2
    mean = weight @ torch.from_numpy(places.vector_PV)[order[:NUM_NEAREST]].double() / weight.sum()
    return float(1 - share[0]), (1 - share[0]) * mean


def check_nearest(places_of):
    """As by hand, over the date line and at a pole too; nothing beyond the reach, to the bit."""
    uniform = np.random.default_rng(1).uniform
    lon_deg = np.concatenate([uniform(179.7, 180.3, 40), uniform(-180, 180, 20)])
    lat_deg = np.concatenate([uniform(-0.3, 0.3, 40), uniform(89.7, 90, 20)])
    lon_deg = (lon_deg + 180) % 360 - 180
    vector = uniform(-1, 1, (60, 5)).astype(np.float32)
    places = places_of(lon_deg[::2], lat_deg[::2], vector[::2])
    told = places.around(lon_deg[1::2], lat_deg[1::2], 20_000.0)
    for row, (lon, lat) in enumerate(zip(lon_deg[1::2], lat_deg[1::2], strict=True)):
        near, mean = by_hand(places, lon, lat, 20_000.0)
        assert float(told[row, 0]) == pytest.approx(near, abs=1e-4)
        assert float((told[row, NUM_NEARNESS:] - mean).abs().max()) < 1e-4
    assert bool((told[:, 0] > 0).any())
    far = places.around(np.array([10.0]), np.array([45.0]), 20_000.0)
    assert not bool(far.any())


class SeesFarther(NamedPlaces):
    """Tells of places beyond the reach."""

    def around(self, lon_deg_N, lat_deg_N, reach_m):
        return super().around(lon_deg_N, lat_deg_N, 2 * reach_m)


def test_the_nearest_few_are_told_by_how_near_they_are():
    check_nearest(NamedPlaces)
    with pytest.raises(AssertionError):
        check_nearest(SeesFarther)


def test_the_way_to_the_nearest_place_is_east_and_north_of_a_point():
    here = torch.tensor([[20.0], [50.0]], dtype=torch.float64)
    lon_deg, lat_deg = step_from(*here, *torch.tensor([[300.0], [-400.0]], dtype=torch.float64))
    places = NamedPlaces(lon_deg.numpy(), lat_deg.numpy(), text_vectors(["x"]))
    told = places.around(np.array([20.0]), np.array([50.0]), 1_000.0)[0]
    assert told[:4].tolist() == pytest.approx([0.5, 0.1003, 0.3, -0.4], abs=1e-3)


def test_a_table_is_kept_whole_and_refused_when_damaged(tmp_path):
    places = table_near(walk(3, NUM_KNOWN), source="a list", licence="CC0")
    write_named_places(tmp_path, places)
    found = read_named_places(tmp_path)
    for name, value in vars(places).items():
        assert np.array_equal(value, getattr(found, name)), name
    content = (tmp_path / PLACES_FILE).read_bytes()
    (tmp_path / PLACES_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptCheckpoint, match=PLACES_FILE):
        read_named_places(tmp_path)


def test_a_table_that_is_not_of_these_weights_is_refused(trained, tmp_path):
    """Before anybody is asked: places without a position, or texts of other numbers."""
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    places = table_near(walk(3, 9))
    for wrong, said in (
        (replace(places, lon_deg_P=places.lon_deg_P * np.nan), "no position or no vector"),
        (replace(places, lat_deg_P=places.lat_deg_P[:2]), "no position or no vector"),
        (replace(places, vector_PV=places.vector_PV * np.nan), "no position or no vector"),
        (replace(places, vector_PV=places.vector_PV[:, :5]), "have 5 numbers, not 32"),
    ):
        write_named_places(tmp_path, wrong)
        with pytest.raises(CheckpointError, match=f"{PLACES_FILE}: .*{said}"):
            load_trained(tmp_path)


# Networks


def check_no_table_and_a_far_one_say_nothing(model):
    points = walk(3, NUM_KNOWN)
    context, near = context_of(*points), table_near(points)
    plain = places_told(amid(model, None), context)
    far = replace(near, lon_deg_P=near.lon_deg_P + 90)
    assert torch.equal(places_told(amid(model, far), context), plain)
    assert (places_told(amid(model, near), context) != plain).any(-1).all()


class TellsFarOnes(Foundry):
    """What lies beyond the reach is told as if it were half way to it."""

    def encode(self, rows):
        if self.places is not None:
            self.places = replace(self.places, reach_m=1e9)
        return super().encode(rows)


def test_no_table_and_a_far_one_say_nothing_to_the_bit():
    check_no_table_and_a_far_one_say_nothing(shaken(Foundry, KNOWING))
    with pytest.raises(AssertionError):
        check_no_table_and_a_far_one_say_nothing(shaken(TellsFarOnes, KNOWING))


def test_a_network_begins_as_one_without_places():
    """The same first weights, and the same answers whatever lies near."""
    points = walk(3, NUM_KNOWN)
    torch.manual_seed(2)
    plain = Foundry(TINY, WALKING).eval()
    torch.manual_seed(2)
    model = amid(Foundry(KNOWING, WALKING).eval(), table_near(points))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    context = context_of(*points)
    assert torch.equal(places_told(model, context), places_told(plain, context))


def test_in_training_nothing_is_looked_up_in_some_rows():
    points = walk(200, 6)
    at = points[0][:, 0].numpy(), points[1][:, 0].numpy()
    places = NamedPlaces(*at, text_vectors(["x"] * 200))
    code = Foundry(replace(KNOWING, share_nameless=0.5), WALKING).named
    torch.manual_seed(0)
    told = code.train()(places, 1_000.0, *points[:2])
    is_told_R = told.abs().sum((1, 2)) > 0
    assert 70 < int(is_told_R.sum()) < 130
    assert bool((code.eval()(places, 1_000.0, *points[:2]).abs().sum((1, 2)) > 0).all())


def crossings(num_rows, generator):
    """A step any way to a crossing, then a turn by what is written there, and the table of them."""
    lon_deg_B = torch.rand(num_rows, generator=generator, dtype=torch.float64) * 50
    first_m_BC = 50 * torch.randn(num_rows, 2, generator=generator, dtype=torch.float64)
    left_B1 = torch.where(torch.arange(num_rows) % 2 == 0, 1.0, -1.0).double().unsqueeze(1)
    second_m_BC = left_B1 * first_m_BC.flip(1) * torch.tensor([-1.0, 1.0])
    place_m_BTC = torch.stack([0 * first_m_BC, first_m_BC, first_m_BC + second_m_BC], dim=1)
    lon_deg_BT, lat_deg_BT = (place_m_BTC / 111_195).unbind(-1)
    lon_deg_BT = lon_deg_BT + lon_deg_B[:, None]
    texts = ["Ferry landing" if left > 0 else "School" for left in left_B1[:, 0].tolist()]
    at = lon_deg_BT[:, 1].numpy().copy(), lat_deg_BT[:, 1].numpy().copy()
    places = NamedPlaces(*at, text_vectors(texts), reach_m=20.0)
    time_s_BT = 10.0 * torch.arange(3, dtype=torch.float64).expand(num_rows, -1)
    return (lon_deg_BT, lat_deg_BT, time_s_BT), places


def test_training_learns_what_a_text_is_worth():
    """Where what is written of a crossing decides which way all turn, at crossings never seen."""
    generator = torch.Generator().manual_seed(0)
    points, places = crossings(64, generator)
    torch.manual_seed(0)
    config = replace(KNOWING, share_present=1.0, journey_weight=0, gap_weight=0)
    model = amid(Foundry(config, WALKING), places)
    batch = batch_of(*points)
    model.fit_inputs([batch])
    model.fit_loss([batch])
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(batch).mean.backward()
        optimizer.step()
    points, others = crossings(32, generator)
    served = Trained(model.eval())

    def miss_m(asker):
        found = asker.forecast(context_of(*(value[:, :2] for value in points)), 1, points[2][:, 2:])
        ends = (value[:, 2] for value in points[:2])
        return float(haversine_m(found.lon_deg_BH[:, 0], found.lat_deg_BH[:, 0], *ends).mean())

    without_m = miss_m(served.amid(None))
    assert miss_m(served.amid(others)) < 0.4 * without_m
    assert without_m < miss_m(Trained(Foundry(config, WALKING).eval()))  # better than it began
    assert served.model.places is places  # nothing of the model itself was changed


# Served


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Random weights that look places up, and a table of three."""
    folder = tmp_path_factory.mktemp("trained")
    model = shaken(Foundry, KNOWING)
    save_weights(model, folder / "weights.safetensors")
    described = {"family": "foundry", "preset": "tiny", "config": asdict(KNOWING)}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "normaliser.json").write_text(json.dumps(WALKING.to_json()))
    write_named_places(folder, table_near(walk(3, 9), source="a list", licence="CC0"))
    return folder


def test_a_version_carries_its_table_and_looks_up_another(trained, tmp_path):
    assert conventions.PLACES_FILE == PLACES_FILE
    bundle = write_bundle(tmp_path / "bundle", trained, PARAMS)
    assert (bundle / PLACES_FILE).read_bytes() == (trained / PLACES_FILE).read_bytes()
    assert any(line.startswith("scipy") for line in requirements_of(bundle))
    model, points = served_from(bundle), walk(3, 9)
    frame = frame_of(*points, (9, 9, 9))
    own, none = model.forecast(frame), model.forecast(frame, places=pd.DataFrame())
    direct = places_told(load_trained(trained).model, context_of(*points))
    torch.testing.assert_close(torch.tensor(own.lon_deg.to_numpy()).view(3, 3), direct[0])
    assert (own.lon_deg - none.lon_deg).abs().max() > 1e-7
    table = table_near(points)
    given = {"lon_deg": table.lon_deg_P, "lat_deg": table.lat_deg_P, "text": TEXTS}
    pd.testing.assert_frame_equal(model.forecast(frame, places=pd.DataFrame(given)), own)
    other = model.forecast(frame, places=pd.DataFrame(given | {"text": TEXTS[::-1]}))
    assert (own.lon_deg - other.lon_deg).abs().max() > 1e-7
    pd.testing.assert_frame_equal(model.forecast(frame), own)  # and nothing of it is kept
    with pytest.raises(ValueError, match="column text is missing; a frame of places has"):
        model.forecast(frame, places=pd.DataFrame(given).drop(columns="text"))
    blank = pd.DataFrame(given | {"lon_deg": np.nan, "lat_deg": np.nan})
    with pytest.raises(ValueError, match="missing in some row of places"):
        model.forecast(frame, places=blank)


def test_texts_of_a_function_of_ones_own_are_given_as_numbers(trained, tmp_path):
    for name in ("weights.safetensors", "config.json", "normaliser.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    points = walk(3, 9)
    write_named_places(tmp_path, table_near(points, way="mine:vectors"))
    model = served_from(write_bundle(tmp_path / "bundle", tmp_path, PARAMS))
    frame, table = frame_of(*points, (9, 9, 9)), table_near(points)
    given = {"lon_deg": table.lon_deg_P, "lat_deg": table.lat_deg_P}
    with pytest.raises(ValueError, match="column v0 is missing"):
        model.forecast(frame, places=pd.DataFrame(given | {"text": TEXTS}))
    numbers = {f"v{one}": table.vector_PV[:, one] for one in range(NUM_NUMBERS)}
    found = model.forecast(frame, places=pd.DataFrame(given | numbers))
    pd.testing.assert_frame_equal(found, model.forecast(frame))


def test_the_table_of_scores_and_the_card_tell_of_places(trained, tmp_path):
    model = load_trained(trained)
    *_, without = as_served(model)
    assert (without.name, without.tasks) == ("foundry_without_places", ("forecast",))
    assert without.model.places is None
    assert model.model.places is not None
    [heading, note] = places_note(trained)
    assert heading == "## Named places"
    assert "looks up 3 named places" in note
    assert "Source: a list. Licence: CC0." in note
    assert places_note(tmp_path) == []


def test_the_name_of_weights_counts_their_table(trained, tmp_path):
    """So that a training that goes on from them, and what judges them, is another one."""
    for path in trained.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    same = digest_of(tmp_path), answering_digest(tmp_path)
    assert same == (digest_of(trained), answering_digest(trained))
    write_named_places(tmp_path, table_near(walk(3, 9), reach_m=1.0))
    assert digest_of(tmp_path) != same[0]
    assert answering_digest(tmp_path) != same[1]


# Training


FIT = FitConfig(max_steps=4, batch_size=4, max_points=16, validate_every=4, warmup_steps=0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    made = write_shards(tmp_path_factory.mktemp("s"), {"train": [50, 20, 33], "validation": [45]})
    (made.folder / "normaliser.json").write_text(json.dumps(WALKING.to_json()))
    return made


@pytest.fixture(scope="module")
def table(shards, tmp_path_factory):
    """Places where the first train points are."""
    folder = tmp_path_factory.mktemp("table")
    points = next(shards.read(group) for group in groups_of(shards))
    at = points.lon_deg_N[::9].copy(), points.lat_deg_N[::9].copy()
    write_named_places(folder, NamedPlaces(*at, text_vectors(["x"] * len(at[0]))))
    return folder


def groups_of(shards):
    from model.data.shards import row_groups

    return row_groups(shards, "train")


def test_a_training_that_is_killed_or_tuned_keeps_its_places(shards, table, tmp_path):
    training = Training(str(shards.folder), "foundry", "tiny", FIT, places=str(table))
    often = replace(training, fit=replace(FIT, checkpoint_every_s=0.0, log_every=1))

    class Kill(Exception):
        pass

    def kill(progress):
        if progress.step == 2:
            raise Kill

    for name in ("whole", "killed", "tuned", "other"):
        (tmp_path / name).mkdir()
    run(training, tmp_path / "whole")
    with pytest.raises(Kill):
        run(often, tmp_path / "killed", kill)
    run(often, tmp_path / "killed")
    whole, again = (load_trained(tmp_path / name).model for name in ("whole", "killed"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert bool(whole.named.weight_DU.any())
    files = [(folder / PLACES_FILE).read_bytes() for folder in (table, tmp_path / "whole")]
    assert files[0] == files[1] == (tmp_path / "killed" / PLACES_FILE).read_bytes()
    further = replace(FIT, init=str(tmp_path / "whole"), max_steps=1)
    run(Training(str(shards.folder), "foundry", "tiny", further), tmp_path / "tuned")
    assert (tmp_path / "tuned" / PLACES_FILE).read_bytes() == files[0]
    other = NamedPlaces(*np.zeros((2, 1)), np.ones((1, 3), np.float32))
    write_named_places(tmp_path / "other", other)
    tuning = Training(str(shards.folder), "foundry", "tiny", further)
    strange = replace(tuning, places=str(tmp_path / "other"))
    with pytest.raises(InitError, match="knows texts of 32 numbers; the table has 3"):
        run(strange, tmp_path / "tuned")


def test_a_memory_and_a_table_lie_beside_each_other(trained):
    """Each is exchanged without the other."""
    served = load_trained(trained)
    lon_deg_BT, lat_deg_BT, time_s_BT = (value.numpy() for value in walk(8, 24, seed=4))
    trips = list(zip(time_s_BT, lon_deg_BT, lat_deg_BT, strict=True))
    memory = fitted_memory(PastPaths.of(flat(trips, STARTED_US), np.arange(8)))
    both = served.remembering(memory)
    assert both.model.places is served.model.places
    assert both.amid(None).model.memory is memory
