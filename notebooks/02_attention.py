# %% [markdown]
# # How do points look at each other?
#
# A model of trajectories must connect points that lie far apart: the way home in the evening has
# much to do with the way to work in the morning, and little with the hours between. *Attention*
# lets every point look at every other one and take from it what it needs. It is the one part of a
# *transformer*, the kind of network that this project is built of, in which points exchange anything.
#
# When you have worked through this notebook, you will be able to
#
# - compute attention by hand: scores, softmax, values;
# - say why scores are divided by a square root;
# - write the mask that hides the future, and say which cells of a map must be zero;
# - prove by a test that a mask does what its name says.
#
# You need some Python and the idea of a derivative. Every figure and every number is computed here.

# %%
import torch
from torch import Tensor
from torch.testing import assert_close

from model.layers.attention_masks import bidirectional_mask, causal_mask
from model.layers.transformer import Attention
from notebooks.pictures import attention_map, heat_map, histogram_pair

# %% [markdown]
# *Tensors* are the arrays of torch. They work much as those of numpy do; what numpy calls `axis` is
# `dim` here. Letters at the end of a name tell the shape of a tensor: T counts points, Q the points
# that ask, K the numbers that describe a point, and N draws of random numbers. `score_QT` is a table
# with a row for each point that asks and a column for each point that is asked.
#
# ## 1. A score for each pair
#
# Take one day of one person as six points. Each point is described by eight numbers. For now these
# are made by hand: every place has a slot of its own, which holds a 4, and all else is zero.

# %%
day = ["home", "street", "work", "street", "shop", "home"]
slot = {"home": 0, "street": 1, "work": 2, "shop": 3}
point_TK = 4 * torch.eye(8)[[slot[place] for place in day]]
point_TK

# %% [markdown]
# How much does one point matter to another? The simplest measure of likeness is the dot product. It
# is large where two points have their large numbers in the same slots, and zero where they share
# nothing. One matrix product gives it for all pairs at once:
#
# $$ s_{qt} = \sum_k x_{qk} \, x_{tk} $$

# %%
score_QT = point_TK @ point_TK.T
heat_map(score_QT, "Scores of all pairs of points", "point that asks", "point asked", "score")

# %% [markdown]
# **What to notice.** Each point has its highest score with itself, and with those that are like it.
# The morning and the evening at home (points 0 and 5) find each other over the whole day, and so do
# the two streets (1 and 3). No distance in time is too long, for time plays no part yet.
#
# ## 2. From scores to a mean
#
# A score can be any number. The *softmax* turns a row of scores into shares, the weights, which are
# positive and add up to one:
#
# $$ a_{qt} = \frac{e^{s_{qt}}}{\sum_u e^{s_{qu}}} $$
#
# We divide the scores by the square root of K first. Section 3 tells why.

# %%
weight_QT = (score_QT / 8**0.5).softmax(dim=1)
attention_map(weight_QT, "Who reads whom", day)

# %% [markdown]
# **What to notice.** Each row is one point that reads. The shop stands alone in its day, so it reads
# almost only itself. Home has two equal points to read, and gives each of them half.
#
# What is read need not be what was compared. Each point also has *values*, and a point that reads
# gets the mean of the values, weighted by its row of the map:
#
# $$ y_q = \sum_t a_{qt} \, v_t $$
#
# Let the value of a point be the hours spent there.

# %%
hours_T1 = torch.tensor([[7.0], [0.5], [8.0], [0.5], [1.0], [3.0]])
read_Q1 = weight_QT @ hours_T1
for place, hours in zip(day, read_Q1[:, 0], strict=True):
    print(f"{place:6} reads {hours:.2f} hours")

# %% tags=["claim"]
assert weight_QT[4, 4] > 0.9  # the shop reads itself with nine tenths of its weight, and more
assert_close(weight_QT[0, 0], weight_QT[0, 5])  # home reads its two points alike
assert 0.45 < weight_QT[0, 0] <= 0.5
assert abs(read_Q1[0] - 5) < 0.1  # hours, the mean of both
assert_close(weight_QT.sum(dim=1), torch.ones(6))

# %% [markdown]
# A cell with `assert`, such as the last one, holds what the text claims, and fails if it is not so.
#
# **What to notice.** Home in the morning, seven hours long, has read five: the mean of the morning
# and the evening, neither of which is five. So each point knows something now of the day as a whole.
#
# In a transformer the three parts are told apart. A point has a *query* (what it looks for), a *key*
# (what it can be found by) and a *value* (what it gives away), and a network learns how to make all
# three from the numbers of the point. A value may have as many numbers as it likes; V counts them.
# With a loop, the whole of attention reads like this:


# %%
def attention_with_loop(query_QK: Tensor, key_TK: Tensor, value_TV: Tensor) -> Tensor:
    """What each query reads, one query after the other."""
    rows = []
    for query_K in query_QK:
        score_T = key_TK @ query_K / key_TK.shape[1] ** 0.5
        rows.append(score_T.softmax(dim=0) @ value_TV)
    return torch.stack(rows)


assert_close(attention_with_loop(point_TK, point_TK, hours_T1), read_Q1)

# %% [markdown]
# ### Exercise 1: attention without a loop
#
# Write the same in two or three lines, without a loop over queries. The last argument is for later:
# where it is given, cells in which it is false must get the weight zero. (A score of minus infinity
# has the weight zero, and `table.masked_fill(where, number)` gives a copy of a table that holds the
# number in each cell in which `where` is true.)


# %% tags=["exercise"]
def attention(
    query_QK: Tensor, key_TK: Tensor, value_TV: Tensor, is_allowed_QT: Tensor | None = None
) -> Tensor:
    """What each query reads of the points that it may read."""
    # BEGIN SOLUTION: scores of all pairs, scaled; minus infinity where not allowed; softmax; mean
    score_QT = query_QK @ key_TK.T / key_TK.shape[1] ** 0.5
    if is_allowed_QT is not None:
        score_QT = score_QT.masked_fill(~is_allowed_QT, -torch.inf)
    return score_QT.softmax(dim=1) @ value_TV
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(2)
for num_queries, num_points, width in [(1, 1, 2), (3, 7, 5), (6, 4, 64)]:
    query_QK = torch.randn(num_queries, width, generator=draw)
    key_TK, value_TV = torch.randn(2, num_points, width, generator=draw)
    expected_QV = attention_with_loop(query_QK, key_TK, value_TV)
    read_QV = attention(query_QK, key_TK, value_TV)
    assert_close(read_QV, expected_QV, msg="not what the loop reads")
    # One point is hidden from all, and what it would have given away must not matter.
    is_allowed_QT = (torch.arange(num_points) != num_points - 1).expand(num_queries, -1)
    if num_points > 1:
        short_QV = attention_with_loop(query_QK, key_TK[:-1], value_TV[:-1])
        read_QV = attention(query_QK, key_TK, value_TV, is_allowed_QT)
        assert_close(read_QV, short_QV, msg="not what is read where the last point is hidden")
print("right: attention without a loop")


# %% tags=["wrong"]
def attention(query_QK, key_TK, value_TV, is_allowed_QT=None):
    score_QT = query_QK @ key_TK.T / key_TK.shape[1] ** 0.5
    if is_allowed_QT is not None:
        score_QT = score_QT.masked_fill(~is_allowed_QT, -torch.inf)
    return score_QT.softmax(dim=0) @ value_TV  # shares of each column


# %% tags=["wrong"]
def attention(query_QK, key_TK, value_TV, is_allowed_QT=None):
    score_QT = query_QK @ key_TK.T  # no scale
    if is_allowed_QT is not None:
        score_QT = score_QT.masked_fill(~is_allowed_QT, -torch.inf)
    return score_QT.softmax(dim=1) @ value_TV


# %% tags=["wrong"]
def attention(query_QK, key_TK, value_TV, is_allowed_QT=None):
    score_QT = query_QK @ key_TK.T / key_TK.shape[1] ** 0.5
    if is_allowed_QT is not None:
        score_QT = score_QT.masked_fill(~is_allowed_QT, 0.0)  # zero is a score like any other
    return score_QT.softmax(dim=1) @ value_TV


# %% [markdown]
# ## 3. Why the square root?
#
# Draw two vectors of K independent numbers with mean zero and variance one. Their dot product is a
# sum of K products, each of variance one, so its variance is K: the wider the points, the larger the
# scores, though the points are no more alike. Divided by the square root of K, the variance is one at
# any width.

# %%
draw = torch.Generator().manual_seed(3)
scores = {}
for width in (16, 256):
    query_NK, key_NK = torch.randn(2, 20_000, width, generator=draw)
    scores[f"width {width}"] = (query_NK * key_NK).sum(dim=1)
scores["width 256, scaled"] = scores["width 256"] / 256**0.5
histogram_pair(scores, "Scores of random points", "score", num_bins=80)

# %% [markdown]
# **What to notice.** The wide points have scores four times as spread as the narrow ones. Scaled,
# they have a spread of one.
#
# Why does it matter? The softmax of large scores puts all weight on one point. And where it does,
# nothing more is learnt: a network learns by derivatives, and that of a weight by its own score is
# $a_t (1 - a_t)$, which is zero where a weight is zero or one. The next cell draws the scores of ten
# random points of width 256, again and again, and asks how large the largest weight is, and its
# derivative.

# %% tags=["claim"]
score_NT = torch.randn(2_000, 10, generator=draw) * 256**0.5  # as spread as in the figure
unscaled_N, scaled_N = (
    (score_NT / divisor).softmax(dim=1).max(dim=1).values for divisor in (1, 256**0.5)
)
for name, weight_N in [("unscaled", unscaled_N), ("scaled", scaled_N)]:
    slope = (weight_N * (1 - weight_N)).median()
    print(f"{name:9} largest weight {weight_N.median():.3f}, derivative {slope:.4f}")
assert unscaled_N.median() > 0.99
assert scaled_N.median() < 0.5
assert abs(scores["width 256"].std() / scores["width 16"].std() - 4) < 0.1
assert abs(scores["width 256, scaled"].std() - 1) < 0.05

# %% [markdown]
# ## 4. No point may read the future
#
# A model that forecasts is trained on whole trajectories, and at each point it must tell the next
# one. If that point could read later ones, it would find the answer there and learn nothing. So a
# *causal mask* hides them: the point q may read the point t only where t is not later than q.
#
# ### Exercise 2: the causal mask
#
# Write a function that gives a table of true and false, with a row for each point that reads.


# %% tags=["exercise"]
def my_causal_mask(num_points: int) -> Tensor:
    """True where a point (row) may read a point (column): itself, and what came before."""
    # BEGIN SOLUTION: compare the numbers of rows with the numbers of columns
    place_T = torch.arange(num_points)
    return place_T[None, :] <= place_T[:, None]
    # END SOLUTION


# %% tags=["check"]
for num_points in (1, 2, 9):
    mask_QT = my_causal_mask(num_points)
    assert mask_QT.shape == (num_points, num_points)
    assert mask_QT.dtype == torch.bool, "a mask holds true and false"
    assert mask_QT.diagonal().all(), "a point may read itself"
    assert not mask_QT.triu(1).any(), "no point may read a later one"
    assert mask_QT.sum() == num_points * (num_points + 1) // 2, "all that came before may be read"
print("right: the causal mask")


# %% tags=["wrong"]
def my_causal_mask(num_points):
    return torch.ones(num_points, num_points, dtype=torch.bool).triu()  # only the future


# %% tags=["wrong"]
def my_causal_mask(num_points):
    return torch.ones(num_points, num_points, dtype=torch.bool).tril(-1)  # nobody reads itself


# %% [markdown]
# With the mask the map of the day has a closed half, which is hatched in the figure.

# %%
mask_QT = my_causal_mask(len(day))
own_slot_TV = torch.eye(len(day))  # with these values, what a point reads is its row of weights
seen_QT = attention(point_TK, point_TK, own_slot_TV, mask_QT)
attention_map(seen_QT, "Who reads whom, without the future", day, is_allowed_QT=mask_QT)

# %% [markdown]
# **What to notice.** The first point reads itself alone, for there is nothing before it. The last
# one reads the whole day, as before. In the morning, home no longer knows that the day will end
# there.
#
# A picture proves little. This is the test that every causal model of this project has to pass:
# change one point, and see which answers change. Earlier ones must not, by not a single bit, and
# later ones must, or the test would also pass for a model that reads nothing.

# %%
changed_TK = point_TK.clone()
changed_TK[3] = torch.arange(8.0)
before_TK, after_TK = (attention(one, one, one, mask_QT) for one in (point_TK, changed_TK))
assert torch.equal(before_TK[:3], after_TK[:3])
assert not torch.isclose(before_TK[3:], after_TK[3:]).all(dim=1).any()

# %% [markdown]
# ### Exercise 3: which cells must be zero?
#
# Short trips waste room, so several of them are often put into one row, one after the other. A
# point must read no other trip, and no later point of its own. `trip_T` tells the trip of each
# point, for example `[7, 7, 7, 2, 2]`. Which cells of the map must be zero?


# %% tags=["exercise"]
def must_be_zero(trip_T: Tensor) -> Tensor:
    """True in each cell of the attention map (Q, T) whose weight must be zero."""
    # BEGIN SOLUTION: either the trips differ, or the column comes later than the row
    is_other_QT = trip_T[:, None] != trip_T[None, :]
    return is_other_QT | ~my_causal_mask(len(trip_T))
    # END SOLUTION


# %% tags=["check"]
for trips in ([7, 7, 7, 2, 2], [0, 1, 2], [5, 5], [1, 0, 0, 0, 3, 3]):
    trip_T = torch.tensor(trips)
    zero_QT = must_be_zero(trip_T)
    for q, asking in enumerate(trips):
        for t, asked in enumerate(trips):
            assert zero_QT[q, t] == (asking != asked or t > q), f"row {q}, column {t} of {trips}"
# The mask of the project says the same from the other side: true where a point may read.
assert torch.equal(~zero_QT, causal_mask(trip_T[None])[0])
print("right: the cells that must be zero")


# %% tags=["wrong"]
def must_be_zero(trip_T):
    return ~my_causal_mask(len(trip_T))  # reads the trips before


# %% tags=["wrong"]
def must_be_zero(trip_T):
    return trip_T[:, None] != trip_T[None, :]  # reads the future of its own trip


# %% [markdown]
# ## 5. Several heads ask several questions
#
# One map can ask one question, such as "who is at my place?". The numbers of a point are therefore
# cut into parts of equal width, the *heads*. Each head has a map of its own, and what all heads have
# read is put side by side again. Let us describe a point by its place in the first eight numbers,
# and by its hour in eight more: sines and cosines, as the hands of a clock show it. H counts the
# heads, and D all numbers of a point.

# %% tags=["claim"]
hour_T = torch.tensor([6.0, 8.0, 12.0, 18.0, 19.0, 20.0])
angle_TP = hour_T[:, None] * 2 * torch.pi / 24 * torch.arange(1, 5)
wave_TK = 1.5 * torch.cat([angle_TP.sin(), angle_TP.cos()], dim=1)
both_TD = torch.cat([point_TK, wave_TK], dim=1)
heads_HTK = both_TD.unflatten(1, (2, 8)).transpose(0, 1)
maps_HQT = torch.stack([attention(head_TK, head_TK, torch.eye(6)) for head_TK in heads_HTK])
evening_QT = maps_HQT[1, 3:, 3:]
assert evening_QT.min() > maps_HQT[1, 3:, :3].max()
attention_map(maps_HQT, "Two heads, two questions", day, ["place", "hour"])

# %% [markdown]
# **What to notice.** The first head finds the same place at any hour. The second finds what was near
# in time at any place: street, shop and home in the evening read each other more than anything
# before.
#
# Here we chose by hand what each head compares. In the project a *linear layer*, a matrix product
# whose matrix is learnt, makes queries, keys and values from the point, and another one mixes what
# the heads have read. This is `Attention` of `model.layers.transformer`, whose weights are random
# until it is trained. With the same weights, a few lines by hand give the same numbers.

# %%
torch.manual_seed(5)
layer = Attention(width=16, num_heads=2, dropout=0.0)
parts = layer.qkv(both_TD).chunk(3, dim=1)  # queries, keys and values lie side by side
query_HTK, key_HTK, value_HTK = (part.unflatten(1, (2, 8)).transpose(0, 1) for part in parts)
read = [attention(*head, mask_QT) for head in zip(query_HTK, key_HTK, value_HTK, strict=True)]
by_hand_TD = layer.out(torch.cat(read, dim=1))
# It reads batches of rows, here of one row. Where no mask is given, it hides the future.
[theirs_TD] = layer(both_TD[None], torch.arange(6)[None], None, None, None)
assert_close(by_hand_TD, theirs_TD)

# %% [markdown]
# ## 6. Without positions, order is invisible
#
# But for the mask, nothing above knows which point came first. If the points are shuffled, a point
# reads exactly what it read before, from wherever its partners now stand. So the answers are shuffled
# in the same way, and nothing else happens.

# %%
order_T = torch.tensor([3, 0, 5, 1, 4, 2])
place_1T, all_1QT = torch.arange(6)[None], torch.ones(1, 6, 6).bool()  # every point reads all
[straight_TD] = layer(both_TD[None], place_1T, all_1QT, None, None)
[shuffled_TD] = layer(both_TD[order_T][None], place_1T, all_1QT, None, None)
assert_close(shuffled_TD, straight_TD[order_T])

# %% [markdown]
# For a set of places this is a virtue. For a trajectory it is a fault: the way to work and the way
# home have the same points. The next notebook mends it.
#
# ## What can go wrong: a mask that hides nothing
#
# A published model of trajectories, TransferTraj, hides points so that it can learn to recover them.
# Several lines of its code say `x.masked_fill(is_hidden, 0)` and leave it at that. But only
# `masked_fill_`, with the line at its end, changes a tensor; the other form gives a new one, which is
# dropped here. So nothing is blanked, and the model goes on reading whatever stands in the place of a
# hidden point. No error comes, and no warning. The first function below has the same slip.
#
# What finds it is a question that can be asked of any model: **does a hidden value change an
# answer?** We give the hidden point another value, and look at the answers of all other points.


# %%
def read_with_the_fault(value_TK: Tensor, is_hidden_T: Tensor) -> Tensor:
    score_QT = value_TK @ value_TK.T / value_TK.shape[1] ** 0.5
    score_QT.masked_fill(is_hidden_T, -torch.inf)  # the result is dropped
    return score_QT.softmax(dim=1) @ value_TK


def read_rightly(value_TK: Tensor, is_hidden_T: Tensor) -> Tensor:
    return attention(value_TK, value_TK, value_TK, ~is_hidden_T.expand(len(value_TK), -1))


# %% tags=["claim"]
is_hidden_T = torch.tensor([False, False, True, False, False, False])
other_TK = torch.where(is_hidden_T[:, None], torch.arange(8.0), point_TK)
moved = {}
for read in (read_with_the_fault, read_rightly):
    moved_TK = (read(point_TK, is_hidden_T) - read(other_TK, is_hidden_T))[~is_hidden_T]
    moved[read.__name__] = float(moved_TK.abs().max())
print(moved)
assert moved["read_with_the_fault"] > 0.1
assert moved["read_rightly"] == 0.0
mask_BQT = bidirectional_mask(~is_hidden_T[None])  # of the project
assert not mask_BQT[0, ~is_hidden_T][:, is_hidden_T].any()

# %% [markdown]
# The mask of the project keeps one thing that ours does not: a hidden point may still read itself.
# For a row that may read nothing at all, the softmax would divide zero by zero.
#
# ## Summary
#
# Attention compares each point with each other one, turns the scores into shares, and reads the mean
# of the values. A mask takes pairs out by a score of minus infinity, and one test tells whether it
# works: what is hidden must not change an answer. Scores are divided by the square root of the width,
# so that a wide model begins as a narrow one does, with maps that can still learn.
#
# **Next:** `03_positions`, where is "third"?
