"""Laws of the next region: shares worked out by hand, by slow loops, and by NLTK."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers.visit_rows import at_hours, ids, past_of, row_of
from helpers.visit_worlds import places_of

from model.baselines.visit_counts import STRENGTHS, discount_of
from model.baselines.visit_exploration import (
    NEAR_M,
    Exploration,
    exploration,
    fitted_newness,
)
from model.baselines.visit_frequency import (
    Frequency,
    context_frequency,
    frequency,
    own_frequency,
    staying,
)
from model.baselines.visit_history import Origins
from model.baselines.visit_markov import (
    continued_frequency,
    discounted,
    kneser_ney,
    markov_1,
    markov_2,
)
from model.features.places import NUM_SPECIAL, Special

NUM_ANY = 17  # sixteen regions and an unknown one


def told(law, history, letters):
    """Probabilities of regions behind a row of letters, or behind a batch of one row."""
    batch = row_of(history) if isinstance(history, str) else history
    return law.probability(batch)[0, ids(letters)].tolist()


def test_frequency_is_the_share_of_targets_and_a_visit_spread_evenly():
    law, told_N = frequency(past_of("ABAB"))  # targets B, A, B
    even = 1 / NUM_ANY
    assert told(law, "C", "ABC") == pytest.approx([(1 + even) / 4, (2 + even) / 4, even / 4])
    assert told_N.tolist() == pytest.approx([(1 + even) / 3, even / 3, (1 + even) / 3])
    probability_R = law.probability(row_of("A"))[0]
    assert float(probability_R[Special.UNKNOWN]) == pytest.approx(even / 4)
    assert probability_R[1:NUM_SPECIAL].tolist() == [0.0] * 4


def test_the_hour_is_that_at_which_the_last_visit_ends():
    """Half an hour after the beginning of its hour, and its duration later; weeks go round."""
    batch = at_hours(row_of("ABC", stay_s=2 * 3_600.0), [9, 33, 167])
    assert Origins.last(batch).hour_N.tolist() == [1]
    assert past_of(batch).origins.hour_N.tolist() == [11, 35]


def test_hours_of_the_week_have_shares_of_their_own():
    rows = [at_hours(row_of("AB"), [9, 10])] * 3 + [at_hours(row_of("AC"), [33, 34])]
    every = frequency(past_of(*rows))
    law = context_frequency(past_of(*rows), "hour", every).law
    share_b, share_c = told(every.law, "A", "BC")
    drawn = law.strength
    nine, next_day = at_hours(row_of("D"), [9]), at_hours(row_of("D"), [33])
    assert told(law, nine, "B") == pytest.approx([(3 + drawn * share_b) / (3 + drawn)])
    assert told(law, next_day, "C") == pytest.approx([(1 + drawn * share_c) / (1 + drawn)])
    assert told(law, at_hours(row_of("D"), [50]), "BC") == [share_b, share_c]


def test_markov_chains_count_what_followed():
    past = past_of("ABABAC", "BAC")
    every = frequency(past)
    one, two = markov_1(past, every).law, markov_2(past, every).law
    share_c = told(every.law, "A", "C")[0]
    # After A: B, B, C, C; after B: A, A, A.
    from_a = (2 + one.strength * share_c) / (4 + one.strength)
    assert told(one, "BA", "C") == pytest.approx([from_a])
    assert told(one, "D", "C") == [share_c]
    # After B and A: B, C, C; after a beginning and A: B.
    expected = (2 + two.strength * from_a) / (3 + two.strength)
    assert told(two, "ABA", "C") == pytest.approx([expected])
    assert told(two, "CA", "C") == pytest.approx([from_a])


def test_the_strength_is_the_one_with_which_left_out_targets_are_likeliest():
    letters = "ABACABADABAEABABAC"
    targets = list(pairwise(letters))
    even = 1 / NUM_ANY

    def log_likelihood(strength):
        total = 0.0
        for place, (origin, region) in enumerate(targets):
            rest = targets[:place] + targets[place + 1 :]
            share = (sum(other == region for _, other in rest) + even) / (len(rest) + 1)
            there = [other for before, other in rest if before == origin]
            total += math.log((there.count(region) + strength * share) / (len(there) + strength))
        return total

    past = past_of(letters)
    law, told_N = markov_1(past, frequency(past))
    assert law.strength == max(STRENGTHS, key=log_likelihood)
    assert STRENGTHS[0] < law.strength < STRENGTHS[-1]
    assert np.log(told_N).sum() == pytest.approx(log_likelihood(law.strength))


def test_the_own_history_counts_less_with_age():
    past = past_of("ABCABCABDA", "CCCDCCCD")
    every = frequency(past)
    law = own_frequency(past, every, [1.0]).law
    share_a, share_b, share_c = told(every.law, "A", "ABC")
    whole = 1.75 + law.strength
    assert told(law, "AAB", "ABC") == pytest.approx(
        [
            (0.75 + law.strength * share_a) / whole,
            (1.0 + law.strength * share_b) / whole,
            law.strength * share_c / whole,
        ]
    )
    whole = own_frequency(past, every).law
    assert told(whole, "AAB", "A") == pytest.approx(
        [(2 + whole.strength * share_a) / (3 + whole.strength)]
    )


def test_the_half_life_is_the_likeliest():
    changing = past_of("AAAAAAAABBBBBBBBCCCCCCCC", "DDDDDDDDEEEEEEEE")
    mixed = past_of("ABBAABABBBAABABAABBA", "CDDCDCCDDCDC")
    lives = (1.0, 8.0, math.inf)
    assert own_frequency(changing, frequency(changing), lives).law.half_life == 1.0
    assert own_frequency(mixed, frequency(mixed), lives).law.half_life > 1.0


def test_staying_is_always_the_first_answer():
    rare, often = past_of("ABABAB"), past_of("AAAAAAAAAB")
    for past, share in ((rare, 0.5), (often, 9 / 11)):
        every = frequency(past)
        law = staying(past, every)
        (share_d,) = told(every.law, "D", "D")
        assert told(law, "BD", "D") == pytest.approx([share + (1 - share) * share_d])


# ------------------------------------------------------------------ Kneser-Ney

CORPUS = ("ABACABAD", "BACDABAB", "CABAC")
# KneserNeyInterpolated(3, discount=0.75) of NLTK 3.9, fitted on the threes, the first one of a row
# with <s> before it, twos and ones of the rows: P(A), ..., P(D) after two regions.
TOLD_BY_NLTK = {
    "AB": [0.9598214285714286, 0.010044642857142856, 0.010044642857142856, 0.020089285714285712],
    "BA": [0.07232142857142856, 0.31785714285714284, 0.4928571428571429, 0.11696428571428572],
    "DC": [0.6309523809523809, 0.07142857142857142, 0.07142857142857142, 0.22619047619047616],
    "CD": [0.6785714285714286, 0.08035714285714285, 0.08035714285714285, 0.1607142857142857],
}


@pytest.mark.parametrize("history", TOLD_BY_NLTK)
def test_kneser_ney_is_that_of_nltk(history):
    past = past_of(*CORPUS)
    every = continued_frequency(past, spread=0.0)
    one = discounted(past, "region", every, is_continuation=True, discount=0.75)
    two = discounted(past, "pair", one, discount=0.75)
    assert told(two, history, "ABCD") == pytest.approx(TOLD_BY_NLTK[history], rel=1e-12)


def test_discounts_are_those_of_counts_that_are_one_and_two():
    assert discount_of(np.array([1, 1, 1, 2, 5])) == 3 / 5
    assert discount_of(np.array([3, 4])) == 0.1, "nothing may be certain"
    assert discount_of(np.array([1, 1])) == 0.9


def test_kneser_ney_backs_off_to_the_own_history_the_hour_and_all():
    """By hand: after D the pair and the region are unknown, so the own history tells."""
    past = past_of(*[at_hours(row_of(row), [9] * len(row)) for row in CORPUS])
    history = at_hours(row_of("EED"), [9, 9, 9])
    law = kneser_ney(past)
    own = law.parent.parent
    by_hour, every = own.parent, own.parent.parent
    # From how many regions train went to A, B, C, D: 3, 1, 1, 2, and one more among all.
    even = 1 / NUM_ANY
    share_e = even / 8
    assert told(every, history, "ABCDE") == pytest.approx(
        [(num + even) / 8 for num in (3, 1, 1, 2, 0)]
    )
    # Ended at ten o'clock: all 18 targets, seven A, five B, four C and two D.
    rest = by_hour.discount * 4 / 18
    assert by_hour.discount == discount_of(np.array([7, 5, 4, 2]))
    assert told(by_hour, history, "E") == pytest.approx([rest * share_e])
    # Rows were once or twice at 3 of 8, 8 and 3 places; two E and a D in the own history.
    own_e = (2 - own.discount + 2 * own.discount * rest * share_e) / 3
    assert told(own, history, "E") == pytest.approx([own_e])
    # D was followed by A, after C; E and D never followed each other.
    one = law.parent
    assert told(law, history, "E") == pytest.approx([one.discount * own_e])


# ------------------------------------------------------------------ exploration


def test_newness_is_fitted_by_the_shares_of_new_visits():
    """Of those who know one region 60 %, of those who know four 30 %: a power of -1/2."""
    num_known_N = np.repeat([1, 4], [1_000, 2_000])
    is_new_N = np.concatenate([np.arange(1_000) < 600, np.arange(2_000) < 600]).astype(int)
    rho, gamma = fitted_newness(num_known_N, is_new_N)
    assert (rho, gamma) == pytest.approx((0.6, 0.5), rel=1e-4)


def test_one_explores_by_distance_and_returns_by_frequency():
    places, count_R = places_of(), np.zeros(places_of().num_ids, int)
    count_R[ids("ABCD")] = [5, 4, 2, 2]
    law = Exploration(0.6, 0.5, 2.0, Frequency.of(np.repeat(np.arange(21), count_R), 21), places)
    probability_R = law.probability(row_of("AABA"))[0]
    new = 0.6 / math.sqrt(2)
    assert probability_R[ids("AB")].tolist() == pytest.approx([(1 - new) * 0.75, (1 - new) * 0.25])
    assert float(probability_R.sum()) == pytest.approx(1)
    # C lies two cells of 2 km to the east of A, D three; both were seen twice.
    nearer, farther = told(law, "AABA", "CD")
    assert nearer / farther == pytest.approx(((6_000 + NEAR_M) / (4_000 + NEAR_M)) ** 2)


def test_the_power_of_distance_is_the_likeliest():
    """Walks that go on to the cell next door, and walks that go anywhere."""
    generator = np.random.default_rng(0)
    near = ["ABCDHGFEIJKLPONM", "MNOPLKJIEFGHDCBA", "AEIMNJFBCGKOPLHD"]
    anywhere = ["".join(generator.permutation(list("ABCDEFGHIJKLMNOP"))) for _ in range(3)]
    assert exploration(past_of(*near)).power >= 2
    assert exploration(past_of(*anywhere)).power <= 0.5


def test_who_was_everywhere_goes_back():
    everywhere = row_of("ABCDEFGHIJKLMNOPA")
    region_BV = everywhere.region_BV.clone()
    region_BV[0, 0] = Special.UNKNOWN
    law = exploration(past_of("ABCAB"))
    probability_R = law.probability(replace(everywhere, region_BV=region_BV))[0]
    assert probability_R[ids("AP")].tolist() == pytest.approx([1 / 17, 1 / 17])
    assert float(probability_R.sum()) == pytest.approx(1)
