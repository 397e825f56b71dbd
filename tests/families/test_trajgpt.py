"""Promises of trajgpt, before and after training; each guard also catches a planted fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.trajgpt_models import (
    NUM_VISITS,
    TINY,
    BatchStatistics,
    ChangesInPlace,
    ClipsLabels,
    HalfOfTheState,
    QuarterOfTheState,
    ReadsPads,
    RegionIsNoInput,
    RemembersTheFuture,
    SpecialsTwice,
    TargetAmongInputs,
    random_weights,
    trained,
    with_trained_weights,
)
from helpers.visit_worlds import (
    LAW,
    batch_of_visits,
    places_of,
    visits_of_law,
)

from model.families import learning_rate_of
from model.families.trajgpt.network import Told, TrajGpt, TrajGptConfig
from model.families.trajgpt.recall import Recalled
from model.features.places import NUM_SPECIAL
from model.interface.next_visit import Arrivals, parted


def walked(num_pads=0, num_rows=3, num_visits=6):
    return batch_of_visits(*visits_of_law(99, num_rows, num_visits), num_pads=num_pads)


def last_told(model, batch):
    """Numbers of the region, the travel and the stay that the last visit is judged by."""
    is_last_BV = torch.zeros_like(batch.is_target_BV)
    is_last_BV[:, -1] = True
    with torch.no_grad():
        told, asked = model.asked(replace(batch, is_target_BV=is_last_BV))
        travel, stay = told.travel(asked.region_N), told.stay(asked)
        return {
            "region": (told.log_region_NR,),
            "travel": (travel.log_zero, travel.log_weight_M, travel.log_mean_M, travel.log_scale_M),
            "stay": (stay.log_weight_M, stay.log_mean_M, stay.log_scale_M),
        }


def moved(batch, name, by):
    """The last visit of each row with another value."""
    value = getattr(batch, name).clone()
    value[:, -1] += by
    return replace(batch, **{name: value})


def is_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# ------------------------------------------------------------------ guards


def check_no_head_reads_what_it_tells(model):
    batch = walked()
    plain = last_told(model, batch)
    longer_stay = last_told(model, moved(batch, "left_s_BV", 3_600.0))
    assert all(is_equal(plain[name], longer_stay[name]) for name in plain)
    later = moved(moved(batch, "left_s_BV", 900.0), "arrived_s_BV", 900.0)
    for name in ("region", "travel"):
        assert is_equal(plain[name], last_told(model, later)[name])
    assert is_equal(plain["region"], last_told(model, moved(batch, "region_BV", -1))["region"])


def check_the_exact_place_is_unseen(model):
    """A model knows of a visit that is asked no more than the region's centre."""
    batch = walked()
    plain, other = last_told(model, batch), last_told(model, moved(batch, "east_m_BV", 50.0))
    assert all(is_equal(plain[name], other[name]) for name in plain)


def check_the_asked_region_counts(model):
    batch = walked()
    other = moved(batch, "region_BV", -2)
    for name in ("travel", "stay"):
        assert not is_equal(last_told(model, batch)[name], last_told(model, other)[name])


def nothing(number):
    """No visits to go back to, and no place where one is."""
    nobody_N1 = torch.zeros(number, 1, dtype=torch.long)
    nowhere_NC, never_N = torch.zeros(number, 2), torch.zeros(number, dtype=torch.bool)
    zero_N1, never_N1 = torch.zeros(number, 1).double(), never_N.unsqueeze(1)
    return Recalled(
        share_NV=torch.zeros(number, 1),
        region_NV=nobody_N1,
        place_m_NC=nowhere_NC,
        is_visit_N=never_N,
        here_N=nobody_N1[:, 0],
        left_s_N=zero_N1[:, 0],
        place_m_NVC=nowhere_NC.unsqueeze(1),
        arrived_s_NV=zero_N1,
        left_s_NV=zero_N1,
        is_whole_NV=never_N1,
        is_way_seen_NV=never_N1,
    )


def check_every_feature_counts(model):
    """Each head's answer moves with each number of the state."""
    state_ND = torch.randn(64, TINY.width, generator=torch.Generator().manual_seed(0))
    region_N = torch.arange(64) % LAW.chain.num_regions + NUM_SPECIAL
    hours_N = torch.full((64,), 7_200.0).double()
    arrivals = Arrivals(region_N, hours_N, hours_N, torch.ones(64, 4), hours_N + torch.inf)
    for tell in (
        lambda told: told.log_region_NR[:, NUM_SPECIAL],
        lambda told: told.travel(region_N).log_density(torch.full((64,), 700.0)),
        lambda told: told.stay(arrivals).log_density(torch.full((64,), 2_000.0)),
    ):
        hidden_ND = state_ND.clone().requires_grad_()
        tell(Told(model, hidden_ND, nothing(64))).sum().backward()
        assert bool((hidden_ND.grad.abs().sum(0) > 0).all())


def check_labels_are_not_clipped(model):
    """However long a stay or a way is, a longer one is another surprise."""
    batch, most_s = walked(), 10 * model.places.max_elapsed_s
    with torch.no_grad():
        for names in (["left_s_BV"], ["left_s_BV", "arrived_s_BV"]):
            one, other = batch, batch
            for name in names:
                one, other = moved(one, name, most_s), moved(other, name, 2 * most_s)
            assert not torch.equal(model.loss(one).total, model.loss(other).total)


def check_heads_can_be_asked_in_any_order(model):
    hidden_ND = torch.randn(4, TINY.width, generator=torch.Generator().manual_seed(1))
    before, region_N = hidden_ND.clone(), torch.tensor([5, 6, 7, 8])
    told = Told(model, hidden_ND, nothing(4))
    with torch.no_grad():
        regions = told.log_region_NR
        first = told.travel(region_N).log_mean_M
        assert torch.equal(told.log_region_NR, regions)
        assert torch.equal(told.travel(region_N).log_mean_M, first)
    assert torch.equal(hidden_ND, before)


def check_pads_count_for_nothing(model):
    """A short window beside a long one, with nonsense in its pads, and alone."""
    batch = walked(num_rows=2)
    is_pad_BV = batch.is_pad_BV.clone()
    is_pad_BV[1, 3:] = True
    mixed = replace(batch, is_pad_BV=is_pad_BV)
    short = batch.part(1, 2, 3)
    with torch.no_grad():
        together, whole, alone = (model.loss(one) for one in (mixed, batch.part(0, 1), short))
    assert int(together.count) == int(whole.count) + int(alone.count) == 7
    torch.testing.assert_close(together.total, whole.total + alone.total, rtol=1e-5, atol=1e-3)


def check_alone_and_in_a_batch(model):
    batch = walked(num_rows=4)
    with torch.no_grad():
        whole = model.loss(batch).total
        alone = sum(model.loss(batch.part(row, row + 1)).total for row in range(4))
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-3)


GUARDS = [
    (check_no_head_reads_what_it_tells, TargetAmongInputs),
    (check_no_head_reads_what_it_tells, RemembersTheFuture),
    (check_the_exact_place_is_unseen, TargetAmongInputs),
    (check_the_asked_region_counts, RegionIsNoInput),
    (check_every_feature_counts, HalfOfTheState),
    (check_every_feature_counts, QuarterOfTheState),
    (check_labels_are_not_clipped, ClipsLabels),
    (check_heads_can_be_asked_in_any_order, ChangesInPlace),
    (check_pads_count_for_nothing, ReadsPads),
    (check_alone_and_in_a_batch, BatchStatistics),
]


@pytest.mark.parametrize(("check", "planted"), GUARDS)
def test_a_guard_holds_and_catches_its_fault(check, planted):
    check(random_weights())
    with pytest.raises(AssertionError):
        check(random_weights(planted))


@pytest.mark.parametrize(("check", "planted"), GUARDS)
def test_a_guard_holds_and_catches_its_fault_after_training(check, planted):
    check(trained(40))
    with pytest.raises(AssertionError):
        check(with_trained_weights(planted))


def check_a_way_is_as_long_as_to_the_asked_region(model):
    """The median of a way that takes time is that of the law, whichever region is asked."""
    region_R = torch.arange(LAW.chain.num_regions)
    with torch.no_grad():
        told, _ = model.asked(walked())
        median_s_NR = torch.stack(
            [
                told.travel((region + NUM_SPECIAL).expand(len(told.hidden_ND))).quantile(0.55)
                for region in region_R
            ],
            dim=-1,
        )
    off_NR = torch.log(median_s_NR / torch.from_numpy(LAW.travel_median_s(region_R.numpy())))
    assert float(off_NR.abs().mean()) < 0.3


def test_a_way_is_as_long_as_to_the_asked_region():
    check_a_way_is_as_long_as_to_the_asked_region(trained(40))
    with pytest.raises(AssertionError):
        check_a_way_is_as_long_as_to_the_asked_region(with_trained_weights(RegionIsNoInput))


# ------------------------------------------------------------------ shape, censoring, learning


def check_the_vocabulary_holds_the_special_ids_once(model):
    assert model.region.num_embeddings == NUM_SPECIAL + LAW.chain.num_regions
    told, _ = model.asked(walked())
    assert told.log_region_NR.shape == (15, model.places.num_ids)
    torch.testing.assert_close(told.log_region_NR.exp().sum(-1), torch.ones(15))


def test_the_vocabulary_holds_the_special_ids_once():
    check_the_vocabulary_holds_the_special_ids_once(random_weights())
    with pytest.raises(AssertionError):
        check_the_vocabulary_holds_the_special_ids_once(random_weights(SpecialsTwice))
    with pytest.raises(ValueError, match="must divide by 4"):
        TrajGptConfig(width=30, num_heads=1)


def test_going_back_and_going_anywhere_are_one_distribution():
    """The surprise of one region is that of all of them; a first visit has nothing behind it."""
    model, batch = random_weights(), walked()
    whole = replace(batch, is_target_BV=~batch.is_pad_BV)
    with torch.no_grad():
        told, asked = model.asked(whole)
        log_NR = told.log_region_NR
        own_N = -log_NR.gather(1, asked.region_N.unsqueeze(1))[:, 0]
        torch.testing.assert_close(model.region_nll(told, asked.region_N), own_N)
        torch.testing.assert_close(log_NR.exp().sum(-1), torch.ones(len(own_N)))
        is_first_N = torch.arange(len(own_N)) % 6 == 0
        assert bool((told.recalled.share_NV[is_first_N] == 0).all())
        torch.testing.assert_close(
            told.recalled.share_NV[~is_first_N].sum(1), torch.ones(int((~is_first_N).sum()))
        )


def test_a_person_is_known_by_where_she_was():
    """Regions that training never saw together: one who was in two goes back to one of these."""
    generator = np.random.default_rng(0)
    region_BV = np.stack([generator.choice(16, 2, replace=False) for _ in range(200)])[
        :, [0, 1] * 4
    ]
    times = np.full(region_BV.shape, 600.0), np.full(region_BV.shape, 3_000.0)
    batch = batch_of_visits(region_BV, *times)
    torch.manual_seed(0)
    model = TrajGpt(TINY, places_of())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pairs_seen = batch.part(0, 100)
    for _ in range(60):
        optimiser.zero_grad()
        model.loss(pairs_seen).mean.backward()
        optimiser.step()
    others = batch.part(100, 200)
    last_BV = torch.arange(8).expand_as(others.is_pad_BV) == 7
    with torch.no_grad():
        told, asked = model.asked(replace(others, is_target_BV=last_BV))
        chance_N = told.log_region_NR.exp().gather(1, asked.region_N.unsqueeze(1))
    assert float(chance_N.mean()) > 0.6


def test_a_censored_stay_costs_its_survival_and_an_unknown_travel_nothing():
    model, batch = random_weights(), walked()
    is_censored_BV = batch.is_censored_BV.clone()
    is_censored_BV[:, 2] = True
    with torch.no_grad():
        parts = model.surprises(*model.asked(replace(batch, is_censored_BV=is_censored_BV)))
        whole = model.surprises(*model.asked(batch))
    travel_BV, stay_BV = (parts[name].view(3, 5) for name in ("travel_nll", "stay_nll"))
    assert bool((travel_BV[:, 2] == 0).all())
    assert bool((stay_BV[:, 1] != whole["stay_nll"].view(3, 5)[:, 1]).all())
    # Behind it habits are told by one visit less.
    assert torch.equal(travel_BV[:, :2], whole["travel_nll"].view(3, 5)[:, :2])
    assert bool((stay_BV[:, 1] >= 0).all()), "a probability and no density"


def test_what_follows_a_history_is_what_judges_the_visit_after_it():
    """Windows of 3 to 6 visits: without the last one the same is told of it."""
    model, batch = random_weights(), walked(num_rows=4)
    num_B1 = torch.tensor([[3], [4], [5], [6]])
    index_BV = torch.arange(6).expand(4, 6)
    windows = replace(batch, is_pad_BV=index_BV >= num_B1, is_target_BV=index_BV == num_B1 - 1)
    history, asked = parted(windows)
    assert history.is_pad_BV.sum(1).tolist() == [3, 2, 1, 0]
    assert torch.equal(asked.region_N, batch.region_BV[range(4), [2, 3, 4, 5]])
    with torch.no_grad():
        found, (expected, _) = model.next_visit(history), model.asked(windows)
        torch.testing.assert_close(found.log_region_NR, expected.log_region_NR)
        other = history.region_BV.clone()
        other[history.is_pad_BV] = 7
        again = model.next_visit(replace(history, region_BV=other))
    assert torch.equal(again.log_region_NR, found.log_region_NR)


@pytest.mark.parametrize("many", [5_000, 8])
def test_the_surprise_of_a_region_is_that_of_its_probability(many, monkeypatch):
    """By the plain softmax with its pull, and by the adaptive one of large vocabularies."""
    monkeypatch.setattr("model.families.trajgpt.network.MANY_REGIONS", many)
    model = random_weights()
    assert (model.pull is None) == (many == 8)
    with torch.no_grad():
        told, asked = model.asked(walked())
        log_NR = told.log_region_NR
        torch.testing.assert_close(log_NR.exp().sum(-1), torch.ones(len(log_NR)))
        expected_N = -log_NR.gather(1, asked.region_N.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(model.region_nll(told, asked.region_N), expected_N)


def test_what_is_near_draws_more():
    """Of two people alike but for where they are, each goes rather to what is near."""
    model = random_weights()
    with torch.no_grad():
        model.pull.weight.zero_()
        model.pull.bias.fill_(-2.0)
        east_m_N = torch.tensor([-3_000.0, 3_000.0], dtype=torch.float64)
        recalled = replace(
            nothing(2),
            place_m_NC=torch.stack([east_m_N, torch.zeros(2)], dim=-1),
            is_visit_N=torch.ones(2, dtype=torch.bool),
        )
        log_NR = model.log_any(torch.zeros(2, TINY.width), recalled)
        centre_east_m_R = model.centre_m_RC[NUM_SPECIAL:, 0]
        gain_R = (log_NR[1] - log_NR[0])[NUM_SPECIAL:]
    assert float(gain_R[centre_east_m_R == 3_000].min()) > 0
    assert float(gain_R[centre_east_m_R == -3_000].max()) < 0


def excess(model, num_rows=400, seed=10**6):
    """How far each surprise lies above what the law itself tells, as a share of it."""
    region_BV, travel_s_BV, stay_s_BV = visits_of_law(seed, num_rows, NUM_VISITS)
    with torch.no_grad():
        told = model.loss(batch_of_visits(region_BV, travel_s_BV, stay_s_BV))
    least = {
        "region_nll": np.mean([LAW.chain.nll(region_V) for region_V in region_BV]),
        "travel_nll": LAW.travel_nll(region_BV, travel_s_BV)[:, 1:].mean(),
        "stay_nll": LAW.stay_nll(region_BV, travel_s_BV, stay_s_BV)[:, 1:].mean(),
    }
    return {name: float(value / told.count) / least[name] - 1 for name, value in told.parts.items()}


def test_seconds_of_training_come_near_the_law():
    before, after = excess(random_weights()), excess(trained(40))
    assert all(after[name] < before[name] for name in after)
    assert after["travel_nll"] < 0.05
    assert after["stay_nll"] < 0.05
    assert after["region_nll"] < 0.7 * before["region_nll"]


@pytest.mark.slow
def test_minutes_of_training_reach_the_law():
    """Region, travel and stay within 2 % of their least surprise, and areas that hold 80 %."""
    model = trained(1_500, 96_000, learning_rate_of("trajgpt"))
    found = excess(model, num_rows=2_000)
    assert max(found.values()) < 0.02, found
    batch = batch_of_visits(*visits_of_law(10**6, 2_000, NUM_VISITS))
    with torch.no_grad():
        told, asked = model.asked(batch)
        stay = told.stay(asked)
        low_N, high_N = (stay.quantile(share) for share in (0.1, 0.9))
    is_within_N = (low_N <= asked.duration_s_N) & (asked.duration_s_N <= high_N)
    assert 0.78 <= float(is_within_N.double().mean()) <= 0.82
