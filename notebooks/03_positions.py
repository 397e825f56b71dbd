# %% [markdown]
# # Where is "third"?
#
# Attention reads a set: it does not know which point came first. For a trajectory that is fatal, for
# the way to work and the way home have the same points. So each point must be told its place in the
# row, its *position*. There are three common ways to do this. Within the lengths that a model was
# trained on, all three work, and beyond them they differ.
#
# When you have worked through this notebook, you will be able to
#
# - tell a model the order of its points in three ways: by a table, by waves and by turns;
# - turn a pair of numbers, and build rotary positions from it;
# - show by a test whether scores depend on differences of positions only;
# - say what each way does past the trained length.
#
# You need notebook 02, and what a sine and a cosine are. Every number is computed here.

# %%
import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from model.interface.batch import index_of
from model.layers.position_encodings import (
    angles_of,
    index_frequencies,
    rotate,
    sinusoidal_positions,
)
from model.layers.transformer import Attention
from notebooks.pictures import attention_map, heat_map, lines, loss_curve
from notebooks.tracks import storm

# %% [markdown]
# Shapes, as before: B counts rows, T the points of a row, Q the points that ask, K the numbers of a
# vector, P = K / 2 its pairs.
#
# ## 1. A table of positions
#
# We need a task that nobody can solve without positions. Each point of a row carries one of eight
# symbols, drawn at random. At each point, the model shall say **which symbol stood three points
# before**. One layer of attention is enough for it: the point at place 10 has to find the point at
# place 7, whatever symbols the two carry.
#
# In torch, a network is an `nn.Module`. It keeps the weights that are learnt, and `forward` says what
# it answers. `nn.Embedding` is a table with a row for each symbol, or for each position, and
# `nn.Linear` is a product with a matrix. Here the last one gives a score to each symbol.
#
# This little model can be told positions in three ways, which the sections below explain, or not
# at all. Its `first` says how the first point of a row is numbered, which is 0 if nothing is said.


# %%
class Echo(nn.Module):
    """One layer of attention, which is told positions in one of three ways, or not at all."""

    def __init__(self, way: str, width: int = 32, num_symbols: int = 8) -> None:
        super().__init__()
        self.way = way
        self.symbol = nn.Embedding(num_symbols, width)
        self.table = nn.Embedding(64, width)
        self.attention = Attention(width, num_heads=1, dropout=0.0)
        self.head = nn.Linear(width, num_symbols)

    def inputs(self, symbol_BT: Tensor, first: int = 0) -> tuple[Tensor, Tensor | None]:
        """What attention is given: points, and angles to turn them by."""
        x_BTK, index_BT = self.symbol(symbol_BT), index_of(symbol_BT) + first
        if self.way == "table":
            return x_BTK + self.table(index_BT), None
        if self.way == "waves":
            return x_BTK + sinusoidal_positions(128, 32)[index_BT], None
        is_turned = self.way == "turns"
        return x_BTK, angles_of(index_BT[..., None].double(), FREQUENCY_1P) if is_turned else None

    def forward(self, symbol_BT: Tensor, first: int = 0) -> Tensor:
        x_BTK, angle_BTP = self.inputs(symbol_BT, first)
        return self.head(self.attention(x_BTK, index_of(symbol_BT), None, None, angle_BTP))


# %% [markdown]
# It is trained on rows of 24 points. The first three points of a row have nothing to say, so they are
# left out of the *loss*, the number that training makes small. It is the cross-entropy, which is low
# where the right symbols get high scores. At each step `backward` finds the derivative of the loss by
# each weight, and the optimiser moves the weight a little downhill.

# %%
FREQUENCY_1P = index_frequencies(16)
TRAINED, BEFORE = 24, 3


def trained(way: str, num_steps: int = 160) -> tuple[Echo, list[float]]:
    """A model that has learned to say the symbol three before, and its losses."""
    torch.manual_seed(2)
    draw = torch.Generator().manual_seed(3)
    model, losses = Echo(way), []
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(num_steps):
        symbol_BT = torch.randint(8, (32, TRAINED), generator=draw)
        said_NV = model(symbol_BT)[:, BEFORE:].flatten(0, 1)
        loss = functional.cross_entropy(said_NV, symbol_BT[:, :-BEFORE].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses


# %% [markdown]
# GPT-2 has a table with one row for each position, 1024 of them. The row $p_t$ is added to the vector
# $e_t$ of what stands there, and is learned like any other weight:
#
# $$ x_t = e_t + p_t $$

# %%
models, losses = {}, {}
for way in ("none", "table"):
    models[way], losses[way] = trained(way)
loss_curve(losses, "With a table of positions, and without")

# %% [markdown]
# **What to notice.** With the table the task is soon solved. Without it the model gets no farther
# than to say what is frequent in the row, however long it trains. The next cell counts the right
# answers, in new rows as long as those of training.


# %% tags=["claim"]
def right_T(model: Echo, num_points: int = TRAINED, first: int = 0) -> Tensor:
    """The share of right answers, for each point that has something to say."""
    draw = torch.Generator().manual_seed(4)
    symbol_BT = torch.randint(8, (400, num_points), generator=draw)
    with torch.no_grad():
        said_BT = model(symbol_BT, first).argmax(dim=-1)
    return (said_BT[:, BEFORE:] == symbol_BT[:, :-BEFORE]).float().mean(dim=0)


share = {way: float(right_T(model).mean()) for way, model in models.items()}
print({way: f"{right:.1%}" for way, right in share.items()})
assert share["table"] > 0.99
assert share["none"] < 0.4

# %% [markdown]
# ## 2. Waves instead of a table
#
# A table must be learned, row by row, and it ends. The first transformer (Vaswani et al., 2017) used a
# fixed rule in its place. Think of the hands of a clock: the second hand tells near moments apart,
# and the hour hand tells far ones. In the same way a position becomes the sines and cosines of many
# angles, some of which grow fast and some slowly:
#
# $$ p_{t,\,2i} = \sin(t\, \omega_i) \qquad p_{t,\,2i+1} = \cos(t\, \omega_i) \qquad \omega_i = 10000^{-2i/K} $$
#
# ### Exercise 1: the waves
#
# Write the table of all $p_{t,k}$, with a row for each position. Even columns are sines, odd ones are
# cosines.


# %% tags=["exercise"]
def my_waves(num_positions: int, width: int) -> Tensor:
    """The sinusoidal positions, (num_positions, width)."""
    # BEGIN SOLUTION: one rate for each pair of columns; angles are positions times rates
    rate_P = 10_000 ** (-torch.arange(0, width, 2) / width)
    angle_TP = torch.arange(num_positions)[:, None] * rate_P
    return torch.stack([angle_TP.sin(), angle_TP.cos()], dim=2).flatten(1)
    # END SOLUTION


# %% tags=["check"]
for num_positions, width in [(1, 2), (5, 8), (60, 32)]:
    wave_TK = my_waves(num_positions, width)
    assert wave_TK.shape == (num_positions, width)
    assert_close(wave_TK[0], torch.tensor([0.0, 1.0]).repeat(width // 2), msg="the sine of 0 is 0")
    assert_close(wave_TK.square().sum(dim=1), torch.full((num_positions,), width / 2))
    for row in range(num_positions):
        assert math.isclose(wave_TK[row, 0], math.sin(row), abs_tol=1e-5), "the first rate is 1"
    # And as the project has it:
    assert_close(wave_TK, sinusoidal_positions(num_positions, width), atol=1e-5, rtol=0)
print("right: the waves")


# %% tags=["wrong"]
def my_waves(num_positions, width):
    rate_P = 10_000 ** (-torch.arange(0, width, 2) / width)
    angle_TP = torch.arange(num_positions)[:, None] * rate_P
    return torch.cat([angle_TP.sin(), angle_TP.cos()], dim=1)  # first all sines, then all cosines


# %% tags=["wrong"]
def my_waves(num_positions, width):
    rate_P = 10_000 ** (-torch.arange(width // 2) / width)  # slows down half as fast
    angle_TP = torch.arange(num_positions)[:, None] * rate_P
    return torch.stack([angle_TP.sin(), angle_TP.cos()], dim=2).flatten(1)


# %%
heat_map(my_waves(64, 32), "Sinusoidal positions", "position", "column", "value")

# %% [markdown]
# **What to notice.** The left columns change from each position to the next, and the right ones hardly
# change at all. Together they tell any two positions apart.
#
# How alike are two positions? The next figure shows the dot product of a position with those around
# it. For the waves this is a known sum, since $\sin a \sin b + \cos a \cos b = \cos(a - b)$:
#
# $$ p_m \cdot p_n = \sum_i \cos\big((m - n)\, \omega_i\big) $$

# %%
wave_TK = my_waves(64, 32)
distance_N = torch.arange(-15, 16)
table_TK = models["table"].table.weight
lines(
    {
        "waves, around 20": (distance_N, wave_TK[5:36] @ wave_TK[20]),
        "waves, around 40": (distance_N, wave_TK[25:56] @ wave_TK[40]),
        "learned table, around 20": (distance_N, table_TK[5:36] @ table_TK[20]),
    },
    "How alike two positions are",
    ("distance of the positions", "dot product"),
)

# %% tags=["claim"]
assert_close(wave_TK[5:36] @ wave_TK[20], wave_TK[25:56] @ wave_TK[40], atol=1e-4, rtol=0)
curve_N = wave_TK[5:36] @ wave_TK[20]
assert_close(curve_N, torch.cos(distance_N[:, None] * FREQUENCY_1P).sum(dim=1).float())
assert curve_N.argmax() == 15  # the position itself
assert (curve_N[15:20].diff() < 0).all()  # the nearer, the more alike
assert not ((table_TK[20:25] @ table_TK[20]).diff() < 0).all()
query_KK, key_KK = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(5))
mixed_TT = (wave_TK @ query_KK) @ (wave_TK @ key_KK).T
score_N = mixed_TT.diagonal(-BEFORE)  # all pairs of positions that lie three apart
print(f"scores of positions three apart: mean {score_N.mean():.0f}, spread {score_N.std():.0f}")
assert score_N.std() > score_N.mean().abs()

# %% [markdown]
# **What to notice.** Around a position, the waves are the more alike the nearer they are, and the curve
# is the same around 20 as around 40. The learned table has no such order: it has learned what this
# task needs and nothing more.
#
# But the curve of the waves does not last. Attention first multiplies each point by the matrices that
# make queries and keys, and after these the scores of pairs three apart are all different, as the
# last cell shows. What "three before" means has to be learned at each place anew.
#
# ## 3. Turn instead of add
#
# Rotary positions (Su et al., 2021) come *after* these matrices. They take the numbers of a query,
# and of a key, in pairs, and see each pair as an arrow in the plane. The arrow is turned by an angle
# that grows with the position. If the query at position m is turned by $m\,\omega$, and the key at
# position n by $n\,\omega$, then the angle between them has changed by $(m - n)\,\omega$. The dot
# product of two arrows depends on their lengths and on the angle between them, so it knows the
# difference of the positions, and nothing else of them.
#
# ### Exercise 2: turn a pair
#
# To turn an arrow $(a, b)$ by the angle $\alpha$ against the clock, compute
#
# $$ (a \cos\alpha - b \sin\alpha, \;\; a \sin\alpha + b \cos\alpha) $$


# %% tags=["exercise"]
def turn(pair_N2: Tensor, angle_N: Tensor) -> Tensor:
    """Arrows, each turned by its angle in radians."""
    # BEGIN SOLUTION: take both columns first; the second formula needs the old a
    a_N, b_N = pair_N2.unbind(dim=1)
    cosine_N, sine_N = angle_N.cos(), angle_N.sin()
    return torch.stack([a_N * cosine_N - b_N * sine_N, a_N * sine_N + b_N * cosine_N], dim=1)
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(6)
pair_N2, angle_N = torch.randn(50, 2, generator=draw), 10 * torch.randn(50, generator=draw)
before_N2 = pair_N2.clone()
turned_N2 = turn(pair_N2, angle_N)
assert torch.equal(pair_N2, before_N2), "what is given is not to be changed"
assert_close(turned_N2.norm(dim=1), pair_N2.norm(dim=1), msg="a turn leaves the length as it is")
quarter_12 = turn(torch.tensor([[1.0, 0.0]]), torch.tensor([math.pi / 2]))
assert_close(quarter_12, torch.tensor([[0.0, 1.0]]), msg="a quarter turn of (1, 0) gives (0, 1)")
assert_close(turn(turned_N2, -angle_N), pair_N2, atol=1e-5, rtol=0)
assert_close(turn(turned_N2, angle_N), turn(pair_N2, 2 * angle_N), atol=1e-4, rtol=0)
print("right: turned pairs")


# %% tags=["wrong"]
def turn(pair_N2, angle_N):
    a_N, b_N = pair_N2.unbind(dim=1)
    cosine_N, sine_N = angle_N.cos(), angle_N.sin()
    return torch.stack([a_N * cosine_N + b_N * sine_N, b_N * cosine_N - a_N * sine_N], dim=1)


# %% tags=["wrong"]
def turn(pair_N2, angle_N):
    pair_N2 = pair_N2.clone()
    pair_N2[:, 0] = pair_N2[:, 0] * angle_N.cos() - pair_N2[:, 1] * angle_N.sin()
    pair_N2[:, 1] = pair_N2[:, 0] * angle_N.sin() + pair_N2[:, 1] * angle_N.cos()  # the new a
    return pair_N2


# %% [markdown]
# A whole vector has K / 2 pairs, and each pair turns at a rate of its own. The rates are those of the
# waves. This is all of rotary positions, and it equals the part of the project.


# %%
def rotary(vector_TK: Tensor, index_T: Tensor) -> Tensor:
    """Vectors, whose pairs are turned by angles that grow with the index."""
    angle_TP = index_T[:, None].double() * index_frequencies(vector_TK.shape[1] // 2)
    pair_N2 = vector_TK.reshape(-1, 2)
    return turn(pair_N2, angle_TP.flatten().float()).view_as(vector_TK)


draw = torch.Generator().manual_seed(7)
vector_TK, index_T = torch.randn(24, 32, generator=draw), torch.arange(24)
angle_BTP = angles_of(index_T[None, :, None].double(), FREQUENCY_1P)
assert_close(rotary(vector_TK, index_T), rotate(vector_TK[None, None], angle_BTP)[0, 0])

# %% [markdown]
# ### Exercise 3: differences only
#
# Here are four ways to give a score to a query at position m and a key at position n. Which of them
# depend on the positions through m - n only? Write the test that tells. It is given a function
# `score_of(query_K, key_K, m, n)` for vectors of eight numbers, and positions are whole numbers from
# 0 to some hundreds.


# %%
def plain_score(query_K, key_K, m, n):
    return float(query_K @ key_K)


def rotary_score(query_K, key_K, m, n):
    query_1K, key_1K = (
        rotary(one[None], torch.tensor([at])) for one, at in [(query_K, m), (key_K, n)]
    )
    return float(query_1K[0] @ key_1K[0])


def wave_score(query_K, key_K, m, n):
    wave_TK = my_waves(1_000, 8)
    return float((query_K + wave_TK[m]) @ (key_K + wave_TK[n]))


def short_score(query_K, key_K, m, n):
    return rotary_score(query_K, key_K, min(m, 50), min(n, 50))  # it counts to 50


# %% tags=["exercise"]
def knows_differences_only(score_of) -> bool:
    """Whether a score stays as it is when both positions move on by the same number."""
    # BEGIN SOLUTION: draw vectors; compare each score with that of both positions moved, far too
    draw = torch.Generator().manual_seed(8)
    for m, n in [(0, 0), (3, 1), (5, 20)]:
        query_K, key_K = torch.randn(2, 8, generator=draw)
        score = score_of(query_K, key_K, m, n)
        for shift in (1, 10, 200):
            moved = score_of(query_K, key_K, m + shift, n + shift)
            if not math.isclose(score, moved, abs_tol=1e-3):
                return False
    return True
    # END SOLUTION


# %% tags=["check"]
assert knows_differences_only(plain_score), "it knows no position at all, so nothing can move it"
assert knows_differences_only(rotary_score), "rotary scores differ by rounding only"
assert knows_differences_only(lambda q, k, m, n: float(q @ k) - 0.1 * abs(m - n))
assert not knows_differences_only(wave_score), "waves that are added meet the vectors themselves"
assert not knows_differences_only(lambda q, k, m, n: rotary_score(q, k, m, 0)), "only m counts"
assert not knows_differences_only(short_score), "far from the start this one counts no more"
print("right: the test of differences")


# %% tags=["wrong"]
def knows_differences_only(score_of):
    query_K, key_K = torch.randn(2, 8, generator=torch.Generator().manual_seed(8))
    return score_of(query_K, key_K, 3, 1) == score_of(query_K, key_K, 203, 201)  # no rounding


# %% tags=["wrong"]
def knows_differences_only(score_of):
    query_K, key_K = torch.randn(2, 8, generator=torch.Generator().manual_seed(8))
    two = [score_of(query_K, key_K, at, at) for at in (3, 203)]  # both at one place only
    return math.isclose(*two, abs_tol=1e-3)


# %% tags=["wrong"]
def knows_differences_only(score_of):
    query_K, key_K = torch.randn(2, 8, generator=torch.Generator().manual_seed(8))
    two = [score_of(query_K, key_K, 3 + shift, 1 + shift) for shift in (0, 10)]  # never far
    return math.isclose(*two, abs_tol=1e-3)


# %% [markdown]
# ## 4. Past the trained length
#
# All models were trained on rows of 24 points. Now they get rows of 64. Nothing in the task has
# changed: the answer still stands three points before.

# %%
for way in ("waves", "turns"):
    models[way], losses[way] = trained(way)
right = {way: right_T(models[way], 64) for way in ("table", "waves", "turns")}
lines(
    {way: (torch.arange(BEFORE, 64), 100 * right_N) for way, right_N in right.items()},
    "Trained on 24 points, asked about 64",
    ("position", "right answers in %"),
)

# %% tags=["claim"]
for way, right_N in right.items():
    moved = float(right_T(models[way], TRAINED, first=20).mean())
    inside, outside = float(right_N[:21].mean()), float(right_N[21:].mean())
    print(f"{way}: {inside:.1%} inside, {outside:.1%} past it, {moved:.1%} if rows begin at 20")
longest = right_T(models["turns"], 512)[-100:].mean()
print(f"turns, at the end of rows of 512: {longest:.1%}")
assert right["table"][21:].mean() < 0.2
assert right["waves"][21:].mean() < 0.67
assert right["turns"][21:].mean() > 0.95
assert right_T(models["turns"], first=20).mean() > 0.99
assert right_T(models["table"], first=20).mean() < 0.3
assert longest < 0.9

# %% [markdown]
# **What to notice.** From position 24 on, the table falls to guessing one symbol of eight: its later
# rows were never trained, and are as random as on the first day. The waves lose more than a third of
# the answers. They are known at every position, but the layers have not learned what to make of the
# later ones. The turns go on as if nothing had happened.
#
# A row need not even be long. If the points of a short row are numbered from 20 on, the table gets
# less than a third right, and the turns still all but a hundredth. But no way lasts for ever. At the
# end of rows of 512 points, the turns too are right in less than nine tenths: differences that were
# never seen in training have come into play, and each of them takes some of the weight away.
#
# The maps tell why. They show what each point reads, in a row of 40 points.


# %%
def map_QT(model: Echo, symbol_1T: Tensor) -> Tensor:
    """The attention map of a row."""
    x_BTK, angle_BTP = model.inputs(symbol_1T)
    query_BQK, key_BTK, _ = model.attention.qkv(x_BTK).chunk(3, dim=-1)
    if angle_BTP is not None:
        query_BQK, key_BTK = (
            rotate(part[:, None], angle_BTP)[:, 0] for part in (query_BQK, key_BTK)
        )
    score_QT = query_BQK[0] @ key_BTK[0].T / 32**0.5
    is_later_QT = torch.ones_like(score_QT).triu(1).bool()
    return score_QT.masked_fill(is_later_QT, -torch.inf).softmax(dim=1)


symbol_1T = torch.randint(8, (1, 40), generator=torch.Generator().manual_seed(9))
maps_MQT = torch.stack([map_QT(models[way], symbol_1T) for way in ("table", "turns")])
attention_map(maps_MQT, "Who reads whom", names=["table", "turns"])

# %% tags=["claim"]
third_MN = maps_MQT.diagonal(-BEFORE, 1, 2)  # the weight that each point gives to the third before
for way, third_N in zip(("table", "turns"), third_MN, strict=True):
    print(f"{way}: {third_N[:21].mean():.2f} inside, {third_N[21:].mean():.2f} past it")
    assert third_N[:21].mean() > 0.8
assert third_MN[0, 21:].mean() < 0.1
assert third_MN[1, 21:].mean() > 0.8

# %% [markdown]
# **What to notice.** A bright line three cells below the diagonal is what "third" looks like. With the
# table it stops at point 24, where training stopped, and with the turns it goes on. There, points past
# the end give more than four fifths of their weight to the right one; with the table less than a
# tenth.
#
# ## 5. A position may be a time
#
# Nothing says that the angle must grow with an *index*. Storms are reported every six hours, but some
# reports are missing, and others come between. So let the angle grow with the hours since the first
# report instead. We compare reports 5 and 20 of the hurricane John, and then lose four reports
# between the two.

# %% tags=["claim"]
john = storm("EP101994")
hour_T = torch.from_numpy(john.time_s_T - john.time_s_T[0]) / 3_600
is_kept_T = torch.ones(len(john), dtype=torch.bool)
is_kept_T[10:14] = False
query_K, key_K = torch.randn(2, 8, generator=torch.Generator().manual_seed(10))


def score_of(position_T: Tensor, at: int) -> float:
    return rotary_score(query_K, key_K, float(position_T[at]), float(position_T[5]))


index_T = torch.arange(len(john))
by_index = score_of(index_T, 20), score_of(index_T, 20 - 4)
by_hour = score_of(hour_T, 20), score_of(hour_T[is_kept_T], 20 - 4)
print(f"score by index: {by_index[0]:.3f}, and {by_index[1]:.3f} with lost reports")
print(f"score by hours: {by_hour[0]:.3f}, and {by_hour[1]:.3f} with lost reports")
assert abs(by_index[0] - by_index[1]) > 0.1
assert by_hour[0] == by_hour[1]

# %% [markdown]
# **What to notice.** By the index, the lost reports have moved the two others together, and their
# score is another one. By the hours, nothing has happened to them. The family `trajfm` of the project
# turns by times in this way, and by places too (notebook 08).
#
# Take hours since something near, though, and not seconds since 1970. Those are so large that
# `float32` cannot tell their angles apart. We ask by how much two moments, one minute apart, are
# turned against each other, at one radian a minute.

# %% tags=["claim"]
unix_s_2 = torch.tensor([1.7e9, 1.7e9 + 60], dtype=torch.float64)
turned = {}
for kind in (torch.float64, torch.float32):
    first, second = unix_s_2.to(kind) / 60
    turned[kind] = float(second - first)
print(turned)
assert math.isclose(turned[torch.float64], 1.0, abs_tol=1e-6)
assert turned[torch.float32] == 0.0  # both moments have become the same number

# %% [markdown]
# ## What can go wrong: positions of the wrong points
#
# UniTraj, a published model of trajectories, hides a part of the points and encodes the others. Its
# code shuffles the points that are kept, and only then turns them, by their place in the *shuffled*
# row. Nothing else tells it the order. So the order of the trajectory is invisible to the encoder,
# and its answer depends on how the points happened to be shuffled. No error comes, and the loss falls.
#
# What finds it is a question that can be asked of any model: **if the points come in another order,
# each with its own time, do the answers stay as they are?** The first function has the fault, and the
# second one is cured: a position belongs to a point, and not to its place in memory.

# %%
torch.manual_seed(11)
layer = Attention(32, num_heads=2, dropout=0.0)
ALL = torch.ones(1, 24, 24, dtype=torch.bool)


def encode(x_TD: Tensor, index_T: Tensor) -> Tensor:
    angle_BTP = angles_of(index_T[None, :, None].double(), index_frequencies(8))
    return layer(x_TD[None], index_T[None], ALL, None, angle_BTP)[0]


def read_by_slot(x_TD: Tensor, index_T: Tensor) -> Tensor:
    return encode(x_TD, torch.arange(len(x_TD)))  # the place in memory


def read_by_index(x_TD: Tensor, index_T: Tensor) -> Tensor:
    return encode(x_TD, index_T)


# %% tags=["claim"]
draw = torch.Generator().manual_seed(12)
x_TD, order_T = 3 * torch.randn(24, 32, generator=draw), torch.randperm(24, generator=draw)
place_T, changed = torch.arange(24), {}
with torch.no_grad():
    for read in (read_by_slot, read_by_index):
        straight_TD, shuffled_TD = read(x_TD, place_T), read(x_TD[order_T], place_T[order_T])
        changed[read.__name__] = float((shuffled_TD - straight_TD[order_T]).abs().max())
print(changed)
assert changed["read_by_slot"] > 0.1
assert changed["read_by_index"] < 1e-5

# %% [markdown]
# ## Summary
#
# A table of positions is learned where there were examples and knows nothing beyond; waves are known
# everywhere, but what they mean is learned only where there were examples; turns make scores depend
# on differences alone, so what is learned once holds at every place. A test can tell: move all
# positions by the same number, and see what changes. A position may be a time or a place, and it
# belongs to its point wherever that lies in memory.
#
# **Next:** `04_gpt2`, what is the whole of GPT-2?
