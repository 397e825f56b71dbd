# %% [markdown]
# # How do you fill what is missing?
#
# Trajectories have holes: a receiver is off, a battery is empty, a ship leaves the coast. Who fills a
# hole may look at both of its sides, and a causal model cannot (notebook 07). And a hole need not be
# a whole point: a place can be known and its time not, or the other way round. So one model that
# fills whatever is hidden can answer many questions, and a mask says which one is asked.
#
# When you have worked through this notebook, you will be able to
#
# - hide points, stretches and single dimensions, and say what each teaches;
# - turn a question into a mask: recovery, path, forecast and travel time, with one network;
# - give attention the distance of two points in space and in time;
# - show by a test that a hidden value has no effect;
# - compare a model with a straight line and a cubic, and say what each of its parts gained.
#
# You need notebooks 02, 03 and 05. B counts tracks, N tracks or points of one, T the points of a
# track, S its steps, C the coordinates east and north, K the numbers of a vector, P its pairs, and W the
# ways to go on.

# %%
import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

import model.interface.masking as masking
from model.baselines.recovery import HERMITE, LINEAR
from model.earth.columns import Columns, joined
from model.earth.geometry import haversine_m, step_between, step_from
from model.families.trajfm.network import PRESETS, TrajFm
from model.features.normaliser import Normaliser
from model.interface.batch import index_of
from model.interface.contexts import Partial, calendar_at
from model.interface.masked_input import neighbours
from model.layers.attention_masks import bidirectional_mask
from model.layers.embeddings import LearnableFourier
from model.layers.position_encodings import angles_of, rotate, spatio_temporal_frequencies
from model.layers.transformer import Transformer
from notebooks.pictures import heat_map, mask_bars, track_map
from notebooks.tracks import storm, storms

# %% [markdown]
# ## 1. Three ways to hide
#
# A masked model learns from tracks that are whole: we hide a part, let it guess, and know the truth.
# What is hidden decides what it learns. Three ways are common:
#
# - **single points**, the rule of BERT (Devlin et al., 2019), a model of sentences: 15 % of the points
#   are asked;
# - **segments**, whole stretches, as a receiver that is off leaves them;
# - **dimensions**: a point loses either its place or its time and keeps the other.
#
# The project draws them in `model/interface/masking.py`. Here is one of each, for 40 points.

# %%
generator = np.random.default_rng(5)
single, stretch, part = (
    draw(generator, 40) for draw in (masking.random_points, masking.segments, masking.dimensions)
)
mask_bars(
    {
        "single points": single.shows_place_N,
        "segments": stretch.shows_place_N,
        "dimensions: place": part.shows_place_N,
        "dimensions: time": part.shows_time_N,
    },
    "Three masks",
)

# %% [markdown]
# **What to notice.** A single hidden point has two neighbours, and lies about half-way between them:
# there is little to learn. A segment asks for more. In the last two rows no point loses both.
#
# A model that sees a mark on each hidden point learns that points without a mark are right. Data are
# not so kind. The rule of BERT therefore asks for 15 % of the points and marks only most of them: 80 %
# of those asked are hidden, 10 % show the place of another point of the track, and 10 % stay as they
# are. The loss counts what is asked, and nothing else. So the model must doubt whatever it sees.
#
# ### Exercise 1: the rule of BERT
#
# Draw such a mask. The two ends are never asked, so that the number of points asked is 15 % of the
# inner points, rounded. Give back which points are asked, which of these are hidden, and for each
# point the number of the point whose place stands there, which is its own for nearly all.


# %% tags=["exercise"]
def single_points(generator: np.random.Generator, num_points: int):
    """Points asked (N), points hidden (N), and the number of the point that each shows (N)."""
    # BEGIN SOLUTION: choice without replacement among inner points; a uniform number is the fate
    own_N = np.arange(num_points)
    num_asked = round(0.15 * (num_points - 2))
    is_asked_N = np.isin(own_N, generator.choice(own_N[1:-1], num_asked, replace=False))
    fate_N = generator.random(num_points)
    is_other_N = is_asked_N & (fate_N >= 0.8) & (fate_N < 0.9)
    other_N = generator.integers(num_points, size=num_points)
    return is_asked_N, is_asked_N & (fate_N < 0.8), np.where(is_other_N, other_N, own_N)
    # END SOLUTION


# %% tags=["check"]
for num_points in (22, 42, 102):
    generator, count_3 = np.random.default_rng(num_points), np.zeros(3)
    for _ in range(400):
        is_asked_N, is_hidden_N, shown_N = single_points(generator, num_points)
        assert is_asked_N.sum() == round(0.15 * (num_points - 2)), "15 % of the inner points"
        assert not is_asked_N[[0, -1]].any(), "an end is asked"
        assert not (is_hidden_N & ~is_asked_N).any(), "a point is hidden that nobody asks for"
        is_other_N = shown_N != np.arange(num_points)
        assert not (is_other_N & (is_hidden_N | ~is_asked_N)).any(), "only points asked lie"
        count_3 += is_asked_N.sum(), is_hidden_N.sum(), is_other_N.sum()
    assert 0.76 < count_3[1] / count_3[0] < 0.84, "80 % of the points asked are hidden"
    assert 0.06 < count_3[2] / count_3[0] < 0.13, "10 % show another's place"
    drawn = [masking.random_points(generator, num_points) for _ in range(400)]  # the project's
    assert sum(mask.is_target_N.sum() for mask in drawn) == count_3[0]
    assert abs(sum((~mask.shows_place_N).sum() for mask in drawn) / count_3[1] - 1) < 0.1
print("right: the rule of BERT")


# %% tags=["wrong"]
def single_points(generator, num_points):
    own_N = np.arange(num_points)
    num_asked = round(0.15 * (num_points - 2))
    is_asked_N = np.isin(own_N, generator.choice(own_N[1:-1], num_asked, replace=False))
    return is_asked_N, is_asked_N, own_N  # all are hidden: the model learns to trust the rest


# %% tags=["wrong"]
def single_points(generator, num_points):
    own_N = np.arange(num_points)
    is_asked_N = generator.random(num_points) < 0.15  # the ends as well, and now and then none
    fate_N = generator.random(num_points)
    is_other_N = is_asked_N & (fate_N >= 0.8) & (fate_N < 0.9)
    other_N = generator.integers(num_points, size=num_points)
    return is_asked_N, is_asked_N & (fate_N < 0.8), np.where(is_other_N, other_N, own_N)


# %% [markdown]
# ## 2. A question is a mask
#
# Once a model can fill whatever is hidden, a new task needs no new network. It needs a mask. With the
# times known and places hidden, a hidden stretch is **recovery**, all but the two ends is a **path**,
# and everything after some point is a **forecast**.
#
# ### Exercise 2: from recovery to travel time
#
# A courier knows the whole way and the minute of departure, and wants to know when each point of it
# is reached. The lines below draw the mask of recovery. Change what they return so that it asks for
# **travel time**. Mind that a time shown late on the way would tell most of the answer.


# %% tags=["exercise"]
def travel_time(generator: np.random.Generator, num_points: int) -> masking.Mask:
    """Asks how long a known way takes: `shows_place_N`, `shows_time_N` and `is_target_N`."""
    recovery = masking.places_of_segments(generator, num_points)
    # BEGIN SOLUTION: which places are known before we leave, and which times? the rest is asked
    is_first_N = np.arange(num_points) == 0
    is_place_N = np.ones(num_points, bool)
    return replace(
        recovery, shows_place_N=is_place_N, shows_time_N=is_first_N, is_target_N=~is_first_N
    )
    # END SOLUTION


# %% tags=["check"]
for num_points in (3, 12, 40):
    mask = travel_time(np.random.default_rng(num_points), num_points)
    assert mask.shows_place_N.all(), "the whole way is known"
    assert mask.shows_time_N[0], "we know when we leave"
    assert not mask.shows_time_N[1:].any(), "a later time tells what is asked"
    assert (mask.is_target_N == ~mask.shows_time_N).all(), "all that is hidden is asked"
    theirs = masking.arrivals(np.random.default_rng(0), num_points)  # the project's
    for name in ("shows_place_N", "shows_time_N", "is_target_N"):
        assert (getattr(mask, name) == getattr(theirs, name)).all(), name
print("right: travel time")


# %% tags=["wrong"]
def travel_time(generator, num_points):
    recovery = masking.places_of_segments(generator, num_points)
    is_last_N = np.arange(num_points) == num_points - 1
    is_place_N = np.ones(num_points, bool)
    return replace(  # the time before the last point tells nearly all
        recovery, shows_place_N=is_place_N, shows_time_N=~is_last_N, is_target_N=is_last_N
    )


# %% tags=["wrong"]
def travel_time(generator, num_points):
    recovery = masking.places_of_segments(generator, num_points)
    is_first_N = np.arange(num_points) == 0  # places after it are hidden too: a forecast
    return replace(
        recovery, shows_place_N=is_first_N, shows_time_N=is_first_N, is_target_N=~is_first_N
    )


# %%
TASKS = {
    "recovery": masking.places_of_segments,
    "path": masking.places_of_middles,
    "forecast": masking.places_of_endings,
    "travel time": masking.arrivals,
}
generator, bars = np.random.default_rng(7), {}
for name, hide in TASKS.items():
    mask = hide(generator, 12)
    bars |= {f"{name}: place": mask.shows_place_N, f"{name}: time": mask.shows_time_N}
mask_bars(bars, "Four tasks")

# %% [markdown]
# ## 3. What is hidden must have no effect
#
# Our tracks are storms. They report every six hours, which would make travel time a matter of counting.
# So we keep twelve points of a stretch, each track at a pace of its own: one report, one or two, or
# one to three from point to point. The network learns from the storms of 1980 to 2009 and is judged by
# those since 2010.
#
# A question is a track with two masks, a `Partial` in the words of the project. The hidden values still
# stand in it: they are the truth that we compare with. **Whoever answers must not read them.**


# %%
def stretches_of(first_year: int, last_year: int) -> Tensor:
    """Stretches of 34 reports: longitudes, latitudes and seconds since 1970, (3, N, 34)."""
    found = []
    for track in storms(34):
        if first_year <= track.year <= last_year:
            points_3T = np.stack([track.lon_deg_T, track.lat_deg_T, track.time_s_T])
            found += [points_3T[:, start : start + 34] for start in range(0, len(track) - 33, 8)]
    return torch.from_numpy(np.stack(found, axis=1))


def thinned(points_3NT: Tensor, seed: int) -> Tensor:
    """Twelve points of each stretch, (3, N, 12)."""
    draw = torch.Generator().manual_seed(seed)
    num_tracks = points_3NT.shape[1]
    pace_N1 = torch.randint(1, 4, (num_tracks, 1), generator=draw)
    step_NS = 1 + (torch.rand(num_tracks, 11, generator=draw) * pace_N1).long()
    place_NT = functional.pad(step_NS.cumsum(dim=1), (1, 0))
    return points_3NT.gather(2, place_NT.expand(3, -1, -1))


past_3NT, later_3NT = stretches_of(1980, 2009), stretches_of(2010, 2100)


# %%
def asked(points_3BT: Tensor, hide, seed: int) -> Partial:
    """Tracks, and what is shown of each; the truth stands where something is hidden."""
    generator = np.random.default_rng(seed)
    lon_deg_BT, lat_deg_BT, unix_s_BT = points_3BT
    masks = [hide(generator, lon_deg_BT.shape[1]) for _ in lon_deg_BT]
    shows_place_BT, shows_time_BT = (
        torch.from_numpy(np.stack([getattr(mask, name) for mask in masks]))
        for name in ("shows_place_N", "shows_time_N")
    )
    start_us_B = (unix_s_BT[:, 0] * 1e6).long()
    points = lon_deg_BT, lat_deg_BT, unix_s_BT - unix_s_BT[:, :1]
    is_pad_BT = torch.zeros_like(shows_place_BT)
    return Partial(*points, shows_place_BT, shows_time_BT, start_us_B, "UTC", is_pad_BT)


questions = {name: asked(thinned(later_3NT, 1), hide, 2) for name, hide in TASKS.items()}


def straight_line(question: Partial) -> Tensor:
    told = LINEAR.recover(question)
    return torch.stack([told.lon_deg_BT, told.lat_deg_BT, told.time_s_BT])


def middle_of_known(question: Partial) -> Tensor:
    known_BT = question.lat_deg_BT.masked_fill(~question.shows_place_BT, 0)
    return known_BT.sum(dim=1) / question.shows_place_BT.sum(dim=1)


def centred_line(question: Partial) -> Tensor:
    return straight_line(question) + 1e-3 * question.lat_deg_BT.mean()  # of all points


def timed_line(question: Partial) -> Tensor:
    return straight_line(replace(question, shows_time_BT=torch.ones_like(question.is_pad_BT)))


# %% [markdown]
# ### Exercise 3: a test of hiding
#
# The cell above ends with four fillers. The first is the straight line of the project: along the great
# circle between the known neighbours, at an even speed. Two of the others read what is hidden. Write
# the test that tells which: it is given a filler and a question, and says whether a hidden place or a
# hidden time has any effect on any answer. What is shown may of course have an effect.


# %% tags=["exercise"]
def reads_hidden(fill, question: Partial) -> bool:
    """Whether an answer of `fill(question)` changes with a hidden place or a hidden time."""
    # BEGIN SOLUTION: put other values under the masks, one mask for places, one for times; compare
    draw = torch.Generator().manual_seed(9)
    size = question.lon_deg_BT.shape
    lon_deg_BT, lat_deg_BT, time_s_BT = torch.rand(3, *size, generator=draw, dtype=torch.float64)
    shows_place_BT, shows_time_BT = question.shows_place_BT, question.shows_time_BT
    other = replace(
        question,
        lon_deg_BT=torch.where(shows_place_BT, question.lon_deg_BT, 50 * lon_deg_BT),
        lat_deg_BT=torch.where(shows_place_BT, question.lat_deg_BT, 50 * lat_deg_BT),
        time_s_BT=torch.where(shows_time_BT, question.time_s_BT, 1e6 * time_s_BT),
    )
    return not torch.equal(fill(question), fill(other))
    # END SOLUTION


# %% tags=["check"]
for seed in range(3):
    question = asked(thinned(later_3NT[:, :50], seed), masking.dimensions, seed)
    kept = question.lon_deg_BT.clone(), question.time_s_BT.clone()
    told = {
        fill.__name__: reads_hidden(fill, question)
        for fill in (straight_line, middle_of_known, centred_line, timed_line)
    }
    assert not told["straight_line"], "the straight line reads what is shown alone"
    assert not told["middle_of_known"], "a known value may have an effect"
    assert told["centred_line"], "it is moved by hidden latitudes, if only a little"
    assert told["timed_line"], "it reads hidden times"
    assert not reads_hidden(timed_line, questions["recovery"]), "no time is hidden there"
    assert torch.equal(kept[0], question.lon_deg_BT), "the question has been changed"
    assert torch.equal(kept[1], question.time_s_BT), "the question has been changed"
print("right: what is hidden has no effect, or you would know")


# %% tags=["wrong"]
def reads_hidden(fill, question):
    lat_deg_BT = question.lat_deg_BT + 10 * ~question.shows_place_BT  # times stay as they are
    return not torch.equal(fill(question), fill(replace(question, lat_deg_BT=lat_deg_BT)))


# %% tags=["wrong"]
def reads_hidden(fill, question):
    other = replace(question, lat_deg_BT=question.lat_deg_BT / 2, time_s_BT=question.time_s_BT / 2)
    return not torch.equal(fill(question), fill(other))  # what is shown is changed as well


# %% [markdown]
# ## 4. Where and when: waves and turns
#
# TrajFM (Lin et al., 2024) is a model that answers many tasks by masks. Two of its parts tell a network
# where and when a point is. The first is an embedding of a number, a time for instance, as D waves
# with learned frequencies $w$ and phases $b$:
#
# $$ \sqrt{1/D} \; \cos(w\,x + b) $$
#
# In the code that descends from it, frequencies begin between 1 and $10^{-9}$, and phases at zero. A
# cosine is even, so that with such phases $-x$ looks as $x$ does. We therefore tell times in waves, which
# count from the first point, and leave places as they are.
#
# The second part is rotary (notebook 03), with one change. There a pair of numbers of a query or key
# was turned by the *index* of its point. Here some pairs turn with the metres to the east, some with
# those to the north, and some with the seconds. Points that lie far apart in the row and near each
# other on the map can then find each other. In that code the rates are learned, and time turns
# nothing; the project fixes the rates, and gives time its share.
#
# The first figure shows waves of a time. The second one shows the score of a query and a key of ones,
# for all ways from one to the other.


# %%
def waves(value_N: Tensor, frequency_D: Tensor, phase_D: Tensor) -> Tensor:
    """Each number as D waves, (N, D)."""
    return torch.cos(value_N[:, None] * frequency_D + phase_D) / math.sqrt(len(frequency_D))


step_N, frequency_D = torch.arange(0, 32, 0.5), 10.0 ** -torch.linspace(0, 9, 12)
wave_ND = waves(step_N, frequency_D, torch.zeros(12))
assert_close(wave_ND, LearnableFourier(1, 12)(step_N[:, None]))  # the project's
span_D = wave_ND.amax(dim=0) - wave_ND.amin(dim=0)
print("range of each wave:", [f"{float(span):.4f}" for span in span_D])
heat_map(wave_ND.T, "A time as twelve waves, before training", "wave", "half steps", "value")

# %%
FREQUENCY_CP = spatio_temporal_frequencies(12, 4, 256, 4, 256)  # wavelengths in typical steps


def turned(vector_NK: Tensor, where_N3: Tensor) -> Tensor:
    """Vectors, whose pairs are turned by east, north and time."""
    angle_NP = where_N3.double() @ FREQUENCY_CP
    real_NP, imaginary_NP = vector_NK.double().unflatten(1, (-1, 2)).unbind(dim=2)
    turned_NP = torch.complex(real_NP, imaginary_NP) * torch.polar(
        torch.ones(()).double(), angle_NP
    )
    return torch.view_as_real(turned_NP).flatten(1)


offset_N = torch.arange(-20, 21).float()
north_N, east_N = torch.cartesian_prod(offset_N.flip(0), offset_N).unbind(dim=1)
way_N3 = torch.stack([east_N, north_N, torch.zeros(41 * 41)], dim=1)
score_N = turned(torch.ones(41 * 41, 24), way_N3) @ torch.ones(24).double()
heat_map(
    score_N.view(41, 41), "Scores by the way", "step, north is up", "step to the east", "score"
)

# %% [markdown]
# **What to notice.** Only the first waves move at all within a track. The others are so slow that
# training must first find them better frequencies: the unit in which a time is told matters.
#
# The score is highest in the middle, where both points are the same. Around it stand echoes, one
# for each turn of the fastest pair; the slower pairs tell them from the middle. It does not matter
# where on the map the two points are: move the map, or put the clock forward, and all scores stay. But
# **turn** the map, and they change. East is not north, and a storm knows the difference.

# %% tags=["claim"]
draw = torch.Generator().manual_seed(10)
vector_NK, where_N3 = torch.randn(12, 24, generator=draw), 9 * torch.randn(12, 3, generator=draw)
query_NK = turned(vector_NK, where_N3)
theirs_NK = rotate(vector_NK[None, None], angles_of(where_N3[None].double(), FREQUENCY_CP))[0, 0]
assert_close(query_NK.float(), theirs_NK, atol=1e-4, rtol=1e-4)  # the project's
score_NN = query_NK @ query_NK.T
moved_NK = turned(vector_NK, where_N3 + torch.tensor([300.0, -120.0, 70.0]))
assert_close(moved_NK @ moved_NK.T, score_NN, atol=1e-3, rtol=0)
quarter_33 = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
other_NK = turned(vector_NK, where_N3 @ quarter_33)
assert (other_NK @ other_NK.T - score_NN).abs().max() > 1
assert score_N.argmax() == 41 * 41 // 2
assert_close(waves(-step_N, frequency_D, torch.zeros(12)), wave_ND)  # a cosine is even
assert (span_D > 0.01 * span_D.max()).sum() < 6

# %% [markdown]
# ## 5. One network
#
# The network is given each point in *typical steps*: how far it is from the first point, and how long
# after it. What is hidden has a guess, made from what is shown alone: the straight line for a place,
# and one typical step for each point for a time. The guess turns queries and keys, and is later what
# answers are counted from. As *motion* we note how far a cubic (Hermite) bends from the line, and how
# far the last known step would lead ahead.
#
# A *plain* variant gets degrees on the map and a calendar in place of metres and elapsed time, as the
# plain inputs of the project's family `chemin` do.

# %%
lon_NT, lat_NT, unix_NT = thinned(past_3NT, 0)
step_m_NS = haversine_m(lon_NT[:, :-1], lat_NT[:, :-1], lon_NT[:, 1:], lat_NT[:, 1:])
STEP_M, STEP_S = float(step_m_NS.mean()), float(unix_NT.diff(dim=1).mean())
MIDDLE_DEG_C, STEP_DEG = torch.stack([lon_NT.median(), lat_NT.median()]), STEP_M / 111_195
print(f"a typical step: {STEP_M / 1000:.0f} km in {STEP_S / 3600:.0f} hours")


def place_of(points, question: Partial, is_plain: bool) -> Tensor:
    """Places (B, T, C) in typical steps, from the first point; plain ones are degrees."""
    places = points.lon_deg_BT, points.lat_deg_BT
    if is_plain:
        return (torch.stack(places, dim=-1) - MIDDLE_DEG_C) / STEP_DEG
    first = question.lon_deg_BT[:, :1], question.lat_deg_BT[:, :1]
    return torch.stack(step_between(*first, *places), dim=-1) / STEP_M


# %%
@dataclass(frozen=True)
class Seen(Columns):
    """What a network may see of tracks; guesses are the truth where it is shown."""

    guess_BTC: Tensor
    time_BT: Tensor
    clock_BTK: Tensor
    way_BTWC: Tensor
    shows_place_BT: Tensor
    shows_time_BT: Tensor


def length_of(seen: Seen) -> Tensor:
    """How long the way up to each point is, (B, T), in typical steps."""
    return functional.pad(seen.guess_BTC.diff(dim=1).norm(dim=-1).cumsum(dim=1), (1, 0))


def straight_on(guess_BTC: Tensor, time_BT: Tensor, shows_place_BT: Tensor) -> Tensor:
    """How far the last known step leads beyond the last known point, (B, T, C)."""
    before_BT, after_BT = neighbours(shows_place_BT, torch.zeros_like(index_of(time_BT)))
    last_BT = before_BT.clamp(min=0)
    earlier_BT = before_BT.gather(1, last_BT).clamp(min=0)
    ends = [guess_BTC.gather(1, at[..., None].expand(-1, -1, 2)) for at in (earlier_BT, last_BT)]
    earlier_time_BT, last_time_BT = time_BT.gather(1, earlier_BT), time_BT.gather(1, last_BT)
    ratio_BT = (time_BT - last_time_BT) / (last_time_BT - earlier_time_BT).clamp(min=0.1)
    is_ahead_BT = ~shows_place_BT & (after_BT < 0)
    return (ends[1] - ends[0]) * (ratio_BT * is_ahead_BT)[..., None]


# %%
def see(question: Partial, is_plain: bool = False) -> Seen:
    """What is shown of tracks, with a guess for what is hidden."""
    shows_place_BT, shows_time_BT = question.shows_place_BT, question.shows_time_BT
    own_BTC = place_of(question, question, is_plain)
    guess_BTC, curve_BTC = (
        torch.where(
            shows_place_BT[..., None], own_BTC, place_of(one.recover(question), question, is_plain)
        )
        for one in (LINEAR, HERMITE)
    )
    time_s_BT = question.time_s_BT.masked_fill(~shows_time_BT, 0)
    clock_BTK = calendar_at(question.started_us_B, time_s_BT, question.zone)
    time_BT = torch.where(shows_time_BT, time_s_BT / STEP_S, index_of(time_s_BT).double())
    ahead_BTC = straight_on(guess_BTC, time_BT, shows_place_BT)
    way_BTWC = torch.stack([curve_BTC - guess_BTC, ahead_BTC], dim=2)
    shown = (guess_BTC, time_BT, clock_BTK, way_BTWC)
    return Seen(*(value.float() for value in shown), shows_place_BT, shows_time_BT)


def reach_of(seen: Seen) -> Tensor:
    """How long before or after the nearest known place each point is, (B, T), in typical steps."""
    apart_BTT = (seen.time_BT[:, :, None] - seen.time_BT[:, None, :]).abs()
    return apart_BTT.masked_fill(~seen.shows_place_BT[:, None, :], torch.inf).amin(dim=2)


# %% [markdown]
# The network is a transformer without a causal mask. Each point may read all points whose place is
# shown, before it and after it, and itself. A hidden place has nothing to tell, so nobody else reads
# it. A learned vector says of each place and of each time whether it is hidden. `parts` names what
# is switched on:
#
# - with `line`, a place is the guess and a step away from it, counted in the time to the nearest known
#   place, since far from it more can happen; otherwise it is told from the first point;
# - with `motion`, the bend of the cubic and the lead of the last step are added, each times a weight.
#
# The last layer begins with zeros, and the weights of motion with one. So the untrained network with
# `line` *is* the straight line, and with `motion` it is the cubic.
#
# It learns all four tasks at once, each as often as the others. The loss of a hidden place is its miss
# divided by the time to the nearest known place, and that of a hidden time is the difference of the
# logarithms.


# %%
class Filler(nn.Module):
    """Tells hidden places and times from what is shown on both sides."""

    def __init__(self, parts: tuple[str, ...], width: int = 48) -> None:
        super().__init__()
        self.parts, has_waves = parts, "waves" in parts
        self.waves = LearnableFourier(1, 12)
        self.place = nn.Linear(2, width)
        self.time = nn.Linear(12 if has_waves else 8 if "plain" in parts else 1, width)
        self.kind = nn.Parameter(0.1 * torch.randn(2, 2, width))  # (place, time) by (hidden, shown)
        self.index = nn.Parameter(0.1 * torch.randn(12, width))
        self.motion = nn.Linear(5, width)
        self.transformer = Transformer(width, num_layers=2, num_heads=2)
        self.head = nn.Linear(width, 5)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, seen: Seen) -> tuple[Tensor, Tensor]:
        mask_BTT = bidirectional_mask(seen.shows_place_BT)
        where_BT3 = torch.cat([seen.guess_BTC, seen.time_BT[..., None]], dim=-1).double()
        angle_BTP = angles_of(where_BT3, FREQUENCY_CP) if "turns" in self.parts else None
        index_BT = index_of(seen.time_BT)
        x_BTK = self.transformer(inputs(self, seen), index_BT, mask_BTT, angle_BQP=angle_BTP)
        return answers(self, seen, self.head(x_BTK))


# %%
def inputs(filler: Filler, seen: Seen) -> Tensor:
    """Vectors of the points, (B, T, K): nothing of what is hidden goes in."""
    place_BTC = (seen.guess_BTC / 8).masked_fill(~seen.shows_place_BT[..., None], 0)
    time_BTK = seen.clock_BTK if "plain" in filler.parts else seen.time_BT[..., None] / 8
    time_BTK = time_BTK.masked_fill(~seen.shows_time_BT[..., None], 0)
    if "waves" in filler.parts:
        time_BTK = filler.waves(time_BTK)
    x_BTK = filler.place(place_BTC) + filler.kind[0][seen.shows_place_BT.long()]
    x_BTK = x_BTK + filler.time(time_BTK) + filler.kind[1][seen.shows_time_BT.long()] + filler.index
    if "motion" in filler.parts:
        length_BT1 = length_of(seen).log1p()[..., None]
        x_BTK = x_BTK + filler.motion(torch.cat([seen.way_BTWC.flatten(2), length_BT1], dim=-1))
    return x_BTK


def answers(filler: Filler, seen: Seen, told_BTK: Tensor) -> tuple[Tensor, Tensor]:
    """Places (B, T, C) and times (B, T) of all points, in typical steps."""
    step_BTC, weight_BTW, log_time_BT = told_BTK[..., :2], told_BTK[..., 2:4], told_BTK[..., 4]
    place_BTC = 8 * step_BTC  # in the unit of `inputs`
    if "line" in filler.parts:
        place_BTC = seen.guess_BTC + reach_of(seen)[..., None] * step_BTC
    if "motion" in filler.parts:
        place_BTC = place_BTC + ((1 + weight_BTW)[..., None] * seen.way_BTWC).sum(dim=2)
    return place_BTC, seen.time_BT * log_time_BT.exp()


# %%
def lessons(hides, is_plain: bool) -> tuple[Seen, Tensor, Tensor]:
    """What is seen of many tracks, and the true places and times, in typical steps."""
    drawn = [asked(thinned(past_3NT, seed), hide, seed) for seed in range(3) for hide in hides]
    question = joined(drawn)
    truth_BTC = place_of(question, question, is_plain).float()
    return see(question, is_plain), truth_BTC, (question.time_s_BT / STEP_S).float()


def trained(parts: tuple[str, ...], hides=tuple(TASKS.values()), num_steps: int = 200) -> Filler:
    torch.manual_seed(1)
    draw, filler = torch.Generator().manual_seed(2), Filler(parts)
    seen, truth_BTC, time_BT = lessons(hides, "plain" in parts)
    reach_BT = reach_of(seen)
    optimiser = torch.optim.Adam(filler.parameters(), 5e-3)
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, num_steps)
    for _ in range(num_steps):
        at_B = torch.randint(len(truth_BTC), (64,), generator=draw)
        place_BTC, told_BT = filler(seen.at(at_B))
        hides_place_BT, hides_time_BT = ~seen.shows_place_BT[at_B], ~seen.shows_time_BT[at_B]
        miss_BT = (place_BTC - truth_BTC[at_B]).norm(dim=-1) / reach_BT[at_B].clamp(min=0.1)
        late_N = (told_BT[hides_time_BT] / time_BT[at_B][hides_time_BT]).log().abs()
        optimiser.zero_grad()
        (miss_BT[hides_place_BT].mean() + late_N.sum() / max(1, len(late_N))).backward()
        optimiser.step()
        slower.step()
    return filler


# %%
def on_earth(question: Partial, place_BTC: Tensor, time_BT: Tensor, is_plain=False) -> Tensor:
    """Longitudes, latitudes and seconds, (3, B, T), from typical steps."""
    time_s_BT = time_BT.double() * STEP_S
    if is_plain:
        lon_deg_BT, lat_deg_BT = (place_BTC * STEP_DEG + MIDDLE_DEG_C).unbind(dim=-1)
        return torch.stack([lon_deg_BT, lat_deg_BT, time_s_BT])
    first = question.lon_deg_BT[:, :1], question.lat_deg_BT[:, :1]
    step_m_BTC = place_BTC.double() * STEP_M
    return torch.stack([*step_from(*first, *step_m_BTC.unbind(dim=-1)), time_s_BT])


def filled(filler: Filler, question: Partial) -> Tensor:
    is_plain = "plain" in filler.parts
    with torch.no_grad():
        return on_earth(question, *filler(see(question, is_plain)), is_plain)


# %% [markdown]
# ## 6. What each part gains
#
# Beside the networks stand two rivals that learn nothing. The **straight line** stays at the last known
# point in a forecast, and counts points for a time. **Hermite** is the cubic, goes straight on in a
# forecast, and divides the length of the way by the typical speed for a time.


# %%
def rival(question: Partial, is_bent: bool) -> Tensor:
    seen = see(question)
    if not is_bent:
        return on_earth(question, seen.guess_BTC, seen.time_BT)
    place_BTC = seen.guess_BTC + seen.way_BTWC.sum(dim=2)
    return on_earth(question, place_BTC, length_of(seen))  # a typical step in a typical time


def misses(fill) -> dict[str, float]:
    """The mean miss by task: kilometres of hidden places, hours of the last time."""
    found = {}
    for name, question in questions.items():
        lon_deg_BT, lat_deg_BT, time_s_BT = fill(question)
        miss_m_BT = haversine_m(lon_deg_BT, lat_deg_BT, question.lon_deg_BT, question.lat_deg_BT)
        late_s_B = (time_s_BT - question.time_s_BT)[:, -1].abs()
        is_place = name != "travel time"
        miss_m_N = miss_m_BT[~question.shows_place_BT]
        found[name] = float(miss_m_N.mean() / 1000 if is_place else late_s_B.mean() / 3600)
    return found


# %%
WHOLE = ("waves", "turns", "line", "motion")
fillers = {
    "degrees and calendar": trained(("plain",)),
    "metres and seconds": trained(()),
    "+ waves": trained(WHOLE[:1]),
    "+ turns": trained(WHOLE[:2]),
    "+ counted from the line": trained(WHOLE[:3]),
    "+ motion": trained(WHOLE),
}
table = {name: misses(partial(filled, one)) for name, one in fillers.items()}
table["straight line"] = misses(partial(rival, is_bent=False))
table["Hermite"] = misses(partial(rival, is_bent=True))
print(f"{'':24} {'recovery':>11} {'path':>11} {'forecast':>11} {'travel time':>13}")
for name, row in table.items():
    *places, late_h = row.values()
    print(f"{name:24}", *(f"{miss_km:8.0f} km" for miss_km in places), f"{late_h:11.1f} h")

# %%
danielle = storm("AL062010")
points_3T = np.stack([danielle.lon_deg_T, danielle.lat_deg_T, danielle.time_s_T])[:, 16:40:2]
is_known_T = torch.ones(12).bool()
is_known_T[4:9] = False
question = asked(torch.from_numpy(points_3T)[:, None], masking.arrivals, 0)
question = replace(
    question, shows_place_BT=is_known_T[None], shows_time_BT=torch.ones_like(question.is_pad_BT)
)
told = {"truth": torch.from_numpy(points_3T)[:, None], "straight line": rival(question, False)}
told |= {"Hermite": rival(question, True), "network": filled(fillers["+ motion"], question)}
tracks = {name: (points_3BT[0, 0], points_3BT[1, 0]) for name, points_3BT in told.items()}
track_map(tracks, f"{danielle.name}, {danielle.year}: five points of twelve are hidden")

# %% [markdown]
# **What to notice.** Most is gained by the plainest step, from degrees on a map to metres from the first
# point. To count answers from the straight line, and to be told of known motion, gain most of the rest.
# Waves alone gain nothing here, and turns help recovery and harm a forecast: a network of this size,
# trained for some seconds, has little use for them.
#
# The whole network is the best of all in a forecast and in travel times, and hardly better than a line
# in a path, of which only the two ends are known. In recovery it does not beat the cubic. On a short
# gap in a smooth track there is little that a network could add to two places and two velocities: on
# the map it goes about where the cubic goes. So **never leave out the rival that learns nothing**.
#
# The next cell says so in numbers. It also asks whether any hidden value has an effect, in our network
# and, untrained, in the family `trajfm` of the project.

# %% tags=["claim"]
degrees, metres, _, turns, from_line, moving, line, hermite = table.values()
assert moving["recovery"] < from_line["recovery"] < turns["recovery"] < metres["recovery"]
assert metres["recovery"] < 0.5 * degrees["recovery"]
assert metres["forecast"] < turns["forecast"]
assert moving["forecast"] < 0.95 * hermite["forecast"] < line["forecast"]
assert moving["travel time"] < 0.9 * min(line["travel time"], hermite["travel time"])
assert 0.85 < moving["path"] / line["path"] < 1.02
assert 0.95 < moving["recovery"] / hermite["recovery"] < 1.2
whole = fillers["+ motion"]
for name, question in questions.items():
    assert not reads_hidden(partial(filled, whole), question), name
question = questions["recovery"]
assert_close(rival(question, False), straight_line(question), atol=1e-3, rtol=1e-6)
assert_close(filled(Filler(("line",)), question), rival(question, False))  # before training
mask_BTT = question.shows_place_BT[:, None, :] | torch.eye(12).bool()
assert torch.equal(mask_BTT, bidirectional_mask(question.shows_place_BT))
sizes = {"step_s": STEP_S, "step_m": STEP_M, "speed_mps": STEP_M / STEP_S}
spread = {name: {"p10": size / 2, "p50": size, "p90": 2 * size} for name, size in sizes.items()}
trajfm = TrajFm(PRESETS["tiny"], Normaliser.from_json({"num_steps": 1, **spread})).eval()


def project(question: Partial) -> Tensor:
    points = {name: getattr(question, name) for name in ("lon_deg_BT", "lat_deg_BT", "time_s_BT")}
    with torch.no_grad():
        told = trajfm.recover(replace(question.batch(), **points))
    return torch.stack([told.lon_deg_BT, told.lat_deg_BT, told.time_s_BT])


assert not any(reads_hidden(project, question) for question in questions.values())

# %% [markdown]
# ## What can go wrong: a hidden point that is not hidden
#
# TransferTraj is a later model, and texts in its code still name TrajFM. Where it means to blank what is
# hidden, it calls `masked_fill` and does not keep what comes back. In torch only `masked_fill_`, with an
# underscore, changes a tensor in place; the other one makes a new tensor. So a hidden point is encoded
# by whatever stands beneath its mask. If that is the truth, it leaks. If it is zero, the hidden point
# looks exactly as the first point of the track, from which all places are counted.
#
# The same code recovers gaps with a causal mask: points in a gap cannot see the known points after it,
# and interpolation becomes a forecast.
#
# Both are found by one question to any model: **if I change this value, does that answer change?** It
# must not for a hidden value, and it must for a known one on either side.

# %% tags=["claim"]
layer = nn.Linear(2, 4)


def careless(question: Partial) -> Tensor:
    x_BTK = layer(place_of(question, question, is_plain=False).float())
    x_BTK.masked_fill(~question.shows_place_BT[..., None], 0)  # a new tensor, and nobody keeps it
    return x_BTK


def careful(question: Partial) -> Tensor:
    return careless(question).masked_fill(~question.shows_place_BT[..., None], 0)


assert reads_hidden(careless, question)
assert not reads_hidden(careful, question)
zero_BTK = layer(torch.zeros_like(see(question).guess_BTC))
assert_close(zero_BTK[:, 0], careless(question)[:, 0])  # zero is the place of the first point
seen_BTK, index_BT = inputs(whole, see(question)), index_of(question.time_s_BT)
sign_T1 = 1 - 2 * (index_BT[0, :, None] == 11).float()  # the last point, which is known
moved, read = {}, bidirectional_mask(question.shows_place_BT)
for name, mask_BTT in {"causal": None, "both sides": read}.items():
    as_it_is, changed = (
        whole.transformer(x, index_BT, mask_BTT) for x in (seen_BTK, seen_BTK * sign_T1)
    )
    moved[name] = (as_it_is - changed).detach()[~question.shows_place_BT].abs().max()
print({name: f"{float(most):.2g}" for name, most in moved.items()})
assert moved["causal"] == 0 < moved["both sides"]

# %% [markdown]
# The cure is to keep the result, and to add a mark that says "hidden": zero is a place like any other.
#
# ## Summary
#
# A mask is a question: what is shown, what is hidden, and what is asked. One network that reads both
# sides of a gap answers recovery, paths, forecasts and travel times, and it gains most where it starts
# from what a straight line and known motion already tell. What is hidden must have no effect, and a
# few lines show whether that is so.
#
# **Next:** `09_patches_and_quantiles`, how do you tell 100 points ahead in one pass?
