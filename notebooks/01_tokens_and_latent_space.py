# %% [markdown]
# # How does a machine read a sentence, and what is a latent space?
#
# A network can only add and multiply, so whatever it reads must become numbers first. A sentence
# becomes a list of whole numbers, and each of these becomes a point in a space that nobody drew: the
# network arranges it while it learns. The models of trajectories in this tutorial work in such
# spaces too, and here is one that is small enough to look at.
#
# When you have worked through this notebook, you will be able to
#
# - turn a text into tokens and back, with merges that were learnt from reports of storms;
# - say what an embedding is, and why it is a look-up and a matrix product at once;
# - train an embedding in three dimensions, watch it, and read neighbours from it;
# - tell what a latent space says, and what it does not.
#
# You need some Python and the idea of a derivative. Every figure and every number is computed here.

# %%
from collections import Counter
from itertools import pairwise

import torch
from torch import Tensor
from torch.testing import assert_close

from model.earth.geometry import step_between
from model.families.gpt2.network import (
    END,
    GPT2,
    NUM_BYTES,
    PRESETS,
    GPT2Config,
    text_of,
    tokens_of,
)
from notebooks.latent import latent_view
from notebooks.pictures import heat_map, lines
from notebooks.tracks import Track, storms

# %% [markdown]
# ## 1. A text is a list of bytes
#
# A computer keeps a text as *bytes*, which are whole numbers from 0 to 255. So the first way to read
# a sentence costs nothing: take the bytes as they are. A piece of a text with a number of its own is
# called a *token*, and its number is the *id*. Here every byte is a token, and its value is its id.

# %% tags=["claim"]
assert len("El Niño") == 7
assert tokens_of("El Niño") == [*"El Niño".encode(), END]
assert NUM_BYTES == END == 256
assert text_of(tokens_of("El Niño")) == "El Niño"
list("El Niño".encode())

# %% [markdown]
# **What to notice.** There are seven letters and eight numbers. All letters of English take one byte,
# but the ñ takes two. Any text of any language can be read like this, and no letter is ever unknown.
# The project reads texts in the same way, and puts one more token after each, with the id 256, which
# says that the text ends here. (A cell with `assert`, such as the last one, holds what the text
# claims, and fails if it is not so.)
#
# For sentences to read we let the storms that come with the project report themselves. A track is a
# list of places, one in each six hours. From each place to the next a storm moves in some direction,
# and we call it by the nearest of the 16 names of the compass. (`step_between` gives the way in
# metres to the east and to the north. A `Tensor` is an array of torch. It works much as one of numpy
# does; what numpy calls `axis` is `dim` here.)

# %%
COMPASS = "N NNE NE ENE E ESE SE SSE S SSW SW WSW W WNW NW NNW".split()


def directions(track: Track) -> Tensor:
    """The number of the compass name, 0 to 15, of each step of a storm; -1 where it stands still."""
    lon_deg_T, lat_deg_T = torch.from_numpy(track.lon_deg_T), torch.from_numpy(track.lat_deg_T)
    east_m_S, north_m_S = step_between(lon_deg_T[:-1], lat_deg_T[:-1], lon_deg_T[1:], lat_deg_T[1:])
    bearing_deg_S = torch.atan2(east_m_S, north_m_S).rad2deg()
    name_S = (bearing_deg_S / 22.5).round().long() % 16
    return name_S.masked_fill(torch.hypot(east_m_S, north_m_S) < 1, -1)


def reports(year: int) -> str:
    """A sentence for each step of the storms in the Atlantic in a year."""
    return "\n".join(
        f"{track.name} moves {COMPASS[name]} with winds of {wind_kn:.0f} knots."
        for track in storms()
        if track.year == year and track.storm_id.startswith("AL")
        for name, wind_kn in zip(directions(track).tolist(), track.wind_kn_T[1:], strict=True)
        if name >= 0
    )


print(reports(2004)[:152])

# %% [markdown]
# ## 2. Frequent pairs become tokens
#
# Bytes are very short pieces. A model that reads them spends most of its work on spelling, and looks
# back only a few sentences. *Byte pair encoding*, which GPT-2 uses, makes the pieces longer: find the
# pair of neighbouring tokens that occurs most often, give the pair an id of its own, put the new
# token in place of the pair everywhere, and begin again. What occurs often is then one token, and
# what is rare is still made of bytes.
#
# ### Exercise 1: one merge
#
# Write the step in the middle: put `new_id` in place of each `pair` in a list of ids. Go from left to
# right. Where pairs overlap, as in `[7, 7, 7]` with the pair `(7, 7)`, the first one counts, and the
# result is `[new_id, 7]`.


# %% tags=["exercise"]
def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """The ids, with a new one in place of each pair."""
    # BEGIN SOLUTION: walk along the list, two places on after a pair, one place on otherwise
    merged, place = [], 0
    while place < len(ids):
        is_pair = tuple(ids[place : place + 2]) == pair
        merged.append(new_id if is_pair else ids[place])
        place += 2 if is_pair else 1
    return merged
    # END SOLUTION


# %% tags=["check"]
assert merge([], (1, 2), 9) == []
assert merge([7, 7, 7], (7, 7), 9) == [9, 7], "the first pair counts"
assert merge([5, 1, 2], (1, 2), 9) == [5, 9], "a pair at the end"
draw = torch.Generator().manual_seed(1)
for length in (1, 2, 5, 50, 200):
    ids = torch.randint(3, (length,), generator=draw).tolist()
    given = list(ids)
    for pair in [(0, 1), (2, 2), (1, 0)]:
        expected = bytes(ids).replace(bytes(pair), bytes([9]))  # Python can do it for bytes
        assert bytes(merge(ids, pair, 9)) == expected, f"{pair} in {ids}"
        assert ids == given, "the list that was given must stay as it was"
print("right: one merge")


# %% tags=["wrong"]
def merge(ids, pair, new_id):
    merged = []
    for place, one in enumerate(ids):
        is_pair = tuple(ids[place : place + 2]) == pair
        merged.append(new_id if is_pair else one)  # the second of the pair stays
    return merged


# %% tags=["wrong"]
def merge(ids, pair, new_id):
    merged, place = [], 0
    while place < len(ids) - 1:  # the last token is lost where it is in no pair
        is_pair = (ids[place], ids[place + 1]) == pair
        merged.append(new_id if is_pair else ids[place])
        place += 2 if is_pair else 1
    return merged


# %% tags=["wrong"]
def merge(ids, pair, new_id):
    for place in range(len(ids) - 1):
        if (ids[place], ids[place + 1]) == pair:
            return [*ids[:place], new_id, *ids[place + 2 :]]  # only the first one
    return list(ids)


# %% [markdown]
# The rest is a loop. It keeps the merges in their order, for a text is read later by the same merges
# in the same order. To get the text back, each id is spelled by what it was made of. New ids begin
# after the one that ends a text. The second cell below reads a year that the merges were not learnt
# from, and prints how it begins, cut into tokens.


# %%
def learn_merges(ids: list[int], num_merges: int) -> dict[tuple[int, int], int]:
    """The most frequent pair, again and again, and the id that it gets."""
    merges = {}
    for new_id in range(END + 1, END + 1 + num_merges):
        pair = Counter(pairwise(ids)).most_common(1)[0][0]
        ids, merges[pair] = merge(ids, pair, new_id), new_id
    return merges


def encode(text: str, merges: dict[tuple[int, int], int]) -> list[int]:
    ids = list(text.encode())
    for pair, new_id in merges.items():
        ids = merge(ids, pair, new_id)
    return ids


merges = learn_merges(encode(reports(2004), {}), 60)
spelled = {one: bytes([one]) for one in range(NUM_BYTES)}
for (first, second), new_id in merges.items():
    spelled[new_id] = spelled[first] + spelled[second]
print("first merges:", [spelled[new_id].decode() for new_id in list(merges.values())[:8]])
print("longest:", sorted((spelled[new_id].decode() for new_id in merges.values()), key=len)[-1:])

# %%
unseen = reports(2006)
ids, bytes_per_token = encode(unseen, {}), [1.0]
for pair, new_id in merges.items():
    ids = merge(ids, pair, new_id)
    bytes_per_token.append(len(unseen.encode()) / len(ids))
print(" | ".join(spelled[one].decode() for one in ids[:24]).replace("\n", "⏎"))
lines(
    {"storms of 2006": (range(61), bytes_per_token)},
    "How much text a token holds",
    ("merges that were learnt in 2004", "bytes in a token"),
)

# %% tags=["claim"]
assert encode(unseen, merges) == ids
assert b"".join(spelled[one] for one in ids).decode() == unseen
assert bytes_per_token[-1] > 4
assert b" with winds of " in spelled.values()
assert b"".join(spelled[one] for one in ids[:7]) == b"Alberto"
wind = {kn: set(encode(f"winds of {kn} knots.\n", merges)) for kn in (30, 130, 95, 100)}
of_30_knots = next(one for one, piece in spelled.items() if piece == b"30 knots.\n")
assert of_30_knots in wind[30] & wind[130]
assert wind[95] & wind[100] == set(encode("winds of ", merges))

# %% [markdown]
# **What to notice.** After 60 merges a token holds more than four bytes. Phrases that all reports
# share have become single tokens, while the name Alberto, which 2004 did not have, is still spelled
# out. Nothing is lost: the bytes of all tokens in a row are the text. (Sentences from one mould are
# easy to shorten. GPT-2 learnt 50 000 merges for all that people write.)
#
# Notice also what happens to the winds. The end of `30 knots.` is one token, and so 130 knots are the
# token `1` and the token of 30 knots. By their tokens 30 and 130 are alike, and 95 and 100, which are
# nearly the same wind, share nothing. For measured numbers tokens are a poor choice, which is why
# notebook 05 takes another way.
#
# ## 3. From an id to a vector
#
# An id is a name and not a size: the token 259 is not larger than the token 258 in any sense that
# matters. So a network does not compute with ids. It keeps a table, the *embedding matrix*, with a
# row of D numbers for each of the V ids, and takes the row of each token. The letters at the end of a
# name tell the shape of a tensor: `table_VD` has V rows and D columns, and T counts tokens.

# %%
draw = torch.Generator().manual_seed(2)
num_ids = END + 1 + len(merges)
table_VD = torch.randn(num_ids, 3, generator=draw)
id_T = torch.tensor(ids[:5])
table_VD[id_T]

# %% [markdown]
# This is the whole layer. It is often drawn as a matrix product instead, $x = h E$, where $h$ is a
# *one-hot* vector: zero everywhere, and one at the place of the id. The product adds up all rows of
# the table, each times zero, but for the one that is wanted.
#
# ### Exercise 2: show that the product is a look-up
#
# Write the one-hot vectors of some ids, as floating-point numbers. The check multiplies them by
# tables, and compares the result with the rows.


# %% tags=["exercise"]
def one_hot(id_T: Tensor, num_ids: int) -> Tensor:
    """A row of zeros for each id, (T, V), with a one at the place of the id."""
    # BEGIN SOLUTION: compare each id with the numbers of all columns
    return (id_T[:, None] == torch.arange(num_ids)).float()
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(3)
for num_tokens, num_rows, width in [(1, 1, 2), (4, 9, 3), (30, 5, 7)]:
    table_RD = torch.randn(num_rows, width, generator=draw, requires_grad=True)
    asked_T = torch.randint(num_rows, (num_tokens,), generator=draw)
    hot_TR = one_hot(asked_T, num_rows)
    assert hot_TR.shape == (num_tokens, num_rows), "a row for each token, a column for each id"
    assert hot_TR.dtype == torch.float32, "a product with the table needs numbers of its kind"
    assert torch.equal(hot_TR @ table_RD, table_RD[asked_T]), "another row than that of the id"
    # Both learn alike: the same rows of the table get the same derivative.
    by_product, by_look_up = (
        torch.autograd.grad(read_TD.square().sum(), table_RD)[0]
        for read_TD in (hot_TR @ table_RD, table_RD[asked_T])
    )
    assert_close(by_product, by_look_up)
print("right: a one-hot vector times a matrix is a look-up")


# %% tags=["wrong"]
def one_hot(id_T, num_ids):
    return (id_T[:, None] == torch.arange(1, num_ids + 1)).float()  # counts from one


# %% tags=["wrong"]
def one_hot(id_T, num_ids):
    return (id_T[:, None] <= torch.arange(num_ids)).float()  # a one at every later place as well


# %% tags=["wrong"]
def one_hot(id_T, num_ids):
    return torch.eye(num_ids)[:, id_T]  # a column for each token


# %% [markdown]
# The product is for understanding, and the look-up is for use. For a thousand tokens of GPT-2 the
# product would take 39 thousand million multiplications, and the look-up takes none. The derivative
# tells one thing more: through a look-up, only the rows that were looked up learn. What never occurs
# is never learnt.

# %% tags=["claim"]
base = PRESETS["base"]
assert base.width == 768
assert round(1000 * base.num_tokens * base.width / 1e9) == 39
table_VD.requires_grad_()
[slope_VD] = torch.autograd.grad(table_VD[id_T].square().sum(), table_VD)
assert set(slope_VD.abs().sum(dim=1).nonzero()[:, 0].tolist()) == set(id_T.tolist())

# %% [markdown]
# ## 4. A space that arranges itself
#
# Where do good rows come from? From a task. Let us take a very small language: its 16 words are the
# names of the compass, and its sentences are the ways of the storms, such as `W W WNW W NW NW`. The
# task is to tell the next word from the present one. We count which word follows which, in the years
# before 2010 and in the years after. A step of standing still ends a sentence.

# %%
counts = {"past": torch.zeros(16, 16), "later": torch.zeros(16, 16)}
for track in storms():
    now_S, next_S = directions(track)[:-1], directions(track)[1:]
    is_word_S = (now_S >= 0) & (next_S >= 0)
    places = now_S[is_word_S], next_S[is_word_S]
    one_S = torch.ones(len(places[0]))
    counts["past" if track.year < 2010 else "later"].index_put_(places, one_S, accumulate=True)
share_VV = counts["past"] / counts["past"].sum(dim=1, keepdim=True)
heat_map(share_VV, "Which direction follows", "present word", "next word", "share")

# %% [markdown]
# **What to notice.** Words are numbered clockwise from the north: 4 is E, 8 is S and 12 is W. Storms
# go on as they did, or turn a little, so that the shares lie around the diagonal. The network will
# see the pairs of numbers and nothing else. Nobody tells it that 15 and 0 are neighbours, nor that
# there is such a thing as a compass.
#
# Each word gets three numbers, and the score of a next word is the dot product of both, plus a number
# $b$ that says how common the next word is. The *softmax* makes shares of the scores:
#
# $$ p(v \mid u) = \frac{e^{E_u \cdot E_v + b_v}}{\sum_w e^{E_u \cdot E_w + b_w}} $$
#
# The loss is the mean of $-\log_2 p$ of the words that came next. Its unit is the *bit*: to be sure
# costs nothing, and one of 16 words that are equally likely costs four bits.


# %%
def bits_per_word(table_VD: Tensor, bias_V: Tensor, count_VV: Tensor) -> Tensor:
    log2_share_VV = (table_VD @ table_VD.T + bias_V).log_softmax(dim=1) / torch.log(torch.tensor(2))
    return -(log2_share_VV * count_VV).sum() / count_VV.sum()


def trained(width: int, num_steps: int = 400, seed: int = 0) -> tuple[list[Tensor], Tensor, list]:
    """The table after each step, the last bias, and the losses."""
    draw = torch.Generator().manual_seed(seed)
    table_VD = (0.1 * torch.randn(16, width, generator=draw)).requires_grad_()
    bias_V = torch.zeros(16, requires_grad=True)
    optimizer = torch.optim.Adam([table_VD, bias_V], lr=0.05)
    tables, losses = [], []
    for _ in range(num_steps):
        tables.append(table_VD.detach().clone())
        loss = bits_per_word(table_VD, bias_V, counts["past"])
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()  # the derivative of the loss by each number that is learnt
        optimizer.step()  # each number moves a little downhill
    return [*tables, table_VD.detach()], bias_V.detach(), losses


# %% tags=["claim"]
tables, bias_V, losses = trained(width=3)
counted = float(-(share_VV.clamp(min=1e-9).log2() * counts["past"]).sum() / counts["past"].sum())
later_bits = float(bits_per_word(tables[-1], bias_V, counts["later"]))
print(f"{losses[-1]:.2f} bits a word, {later_bits:.2f} for storms that it has not seen")
assert abs(losses[0] - 4) < 0.05
assert losses[-1] - counted < 0.05
assert later_bits < losses[-1]
lines(
    {"3 numbers for a word": (range(400), losses), "all pairs": ((0, 399), (counted, counted))},
    "Learning what follows",
    ("training step", "bits for a word"),
)

# %% [markdown]
# **What to notice.** It begins with four bits, for it knows nothing. In the end it is within a
# twentieth of a bit of a table of all 256 shares, which no way of saying the next word from the
# present one can beat on these storms. And it has not learnt them by heart: of the storms since 2010,
# which it never saw, it tells the next word at least as well. What has it found out?

# %%
frames = range(0, 401, 10)
quarter = [name for name in ("N to E", "E to S", "S to W", "W to N") for _ in range(4)]  # clockwise
latent_view(
    torch.stack([tables[step] for step in frames]),
    quarter,
    COMPASS,
    "Sixteen words in three dimensions",
    [f"step {step}" for step in frames],
)

# %% [markdown]
# **What to notice.** Press *Play*: all words begin in one heap, and spread out into a ring. Drag it
# until you look through the ring, and tap on the points one after the other: the ring is the compass,
# in its right order. The network was never told of it. It had to put words near to each other that
# are used alike, and the way in which storms turn has the shape of a ring.
#
# Such a space, whose axes nobody chose, and where near means alike for a task, is a *latent space*.
#
# ### Exercise 3: who are the neighbours?
#
# Write a function that gives all other ids, the nearest first, by the distance of their rows.


# %% tags=["exercise"]
def nearest(table_VD: Tensor, asked: int) -> list[int]:
    """The other ids, by the distance of their rows from that of the id that is asked about."""
    # BEGIN SOLUTION: distances of all rows from one, sorted, without the one itself
    distance_V = (table_VD - table_VD[asked]).norm(dim=1)
    return [one for one in distance_V.argsort().tolist() if one != asked]
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(4)
for num_rows, width in [(2, 1), (9, 2), (40, 6)]:
    table_RD = (
        torch.randn(num_rows, width, generator=draw) * torch.arange(1.0, num_rows + 1)[:, None]
    )
    for asked in range(num_rows):
        found = nearest(table_RD, asked)
        assert sorted([*found, asked]) == list(range(num_rows)), "all the others, each once"
        away = [float((table_RD[one] - table_RD[asked]).square().sum()) for one in found]
        assert away == sorted(away), "nearer ones come first"
print("right: the neighbours")


# %% tags=["wrong"]
def nearest(table_VD, asked):
    return (table_VD - table_VD[asked]).norm(dim=1).argsort().tolist()  # nearest of all is itself


# %% tags=["wrong"]
def nearest(table_VD, asked):
    score_V = table_VD @ table_VD[asked]  # a long row has large products with all
    return [one for one in score_V.argsort(descending=True).tolist() if one != asked]


# %% tags=["claim"]
def num_both_beside(table_VD: Tensor) -> int:
    """Words whose two nearest are those beside them on the compass."""
    pairs = [(one, set(nearest(table_VD, one)[:2])) for one in range(16)]
    return sum(found == {(one - 1) % 16, (one + 1) % 16} for one, found in pairs)


for asked, name in enumerate(COMPASS):
    first, second = nearest(tables[-1], asked)[:2]
    print(f"{name:3} is near to {COMPASS[first]} and {COMPASS[second]}")
    assert first in {(asked - 1) % 16, (asked + 1) % 16}
assert num_both_beside(tables[-1]) >= 14

# %% [markdown]
# Each word has a neighbour on the compass as its nearest, and nearly all words have both neighbours as
# the nearest two.
#
# ## 5. What a latent space says, and what it does not
#
# The axes mean nothing. Turn the whole cloud, and every dot product stays as it was, so that the
# network says exactly the same. A cloud from other random numbers is turned in another way, and its
# neighbours are the same. So ask for distances and angles, and never for "the second number".
#
# GPT-2 is no different. Its first layer is a table like ours, and its last one scores the next token by
# dot products with the rows of that same table, as we did by hand. So the network of the project must
# give the scores that we computed, once it is given our table.

# %% tags=["claim"]
table_VD = tables[-1]
turn_DD = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0]
turned_VD = table_VD @ turn_DD
assert not torch.isclose(turned_VD, table_VD, atol=0.1).all(dim=1).any()
as_before = bits_per_word(table_VD, bias_V, counts["later"])
assert_close(bits_per_word(turned_VD, bias_V, counts["later"]), as_before)
assert num_both_beside(trained(width=3, seed=1)[0][-1]) >= 14
gpt2 = GPT2(GPT2Config(width=3, num_layers=1, num_heads=1, num_positions=8, num_tokens=16))
with torch.no_grad():
    gpt2.token.weight.copy_(table_VD)
word_T = torch.tensor([12, 12, 13, 14])  # W W WNW NW
assert torch.equal(gpt2.token(word_T), table_VD[word_T])
assert_close(gpt2.head(gpt2.token(word_T)), table_VD[word_T] @ table_VD.T)

# %% [markdown]
# The width says what can be arranged. On a line, a ring cannot be laid without a tear or a fold, and
# in a plane it can. Let us ask for the bits of the later storms by width.

# %% tags=["claim"]
later_bits = {}
for width in (1, 2, 3, 4, 8):
    [*_, wide_VD], wide_bias_V, _ = trained(width)
    later_bits[width] = float(bits_per_word(wide_VD, wide_bias_V, counts["later"]))
assert later_bits[1] - later_bits[2] > 0.15
assert later_bits[1] - later_bits[3] > 10 * (later_bits[3] - later_bits[8])
lines(
    {"storms since 2010": (list(later_bits), list(later_bits.values()))},
    "How wide must a word be?",
    ("numbers for each word", "bits for a word"),
)

# %% [markdown]
# **What to notice.** From one number to three much is gained, and hardly anything beyond. This
# language has a ring in it and little else, so three numbers are enough. English has more in it:
# GPT-2 gives each token 768 numbers.
#
# ## What can go wrong: ids that are counted twice
#
# Besides its words, a vocabulary has some special ids, for the end of a text or for a pad. TrajGPT, a
# published model of visits to regions, has four. In October 2025 a repair of its code added them in
# two places: for R regions the network then gives R + 8 scores, and the loss expects R + 4. This is
# what happens with 50 regions and six visits:

# %%
num_regions, num_special = 50, 4
num_expected = num_regions + num_special  # counted here
table_VD = torch.randn(num_expected + num_special, 3)  # and counted again
score_TV = torch.randn(6, 3) @ table_VD.T
try:
    score_TV.reshape(-1, num_expected)
except RuntimeError as error:
    print(error)

# %% [markdown]
# An error is the lucky case. With 27 visits the numbers happen to fit, `reshape` says nothing, and 27
# rows of scores have become 29, of which nearly all mix the scores of two visits. And where nothing is
# reshaped, the surplus rows just stay: they get a share of the probability, and one day the model
# draws an id that means nothing.
#
# What finds it is a question for any vocabulary: **does each row of the table have an id, and each id
# a row?** The cure is to count in one place. In the project the network has a row for each byte and
# one for the end, and both the table and the reader of texts take that from the same constant.


# %% tags=["claim"]
def unmatched(num_rows: int, ids: list[int]) -> list[int]:
    """Rows without an id, and ids without a row."""
    return sorted(set(range(num_rows)) ^ set(ids))


assert torch.zeros(27, 58).reshape(-1, num_expected).shape == (29, 54)
print("with the fault:", unmatched(len(table_VD), list(range(num_expected))))
assert unmatched(len(table_VD), list(range(num_expected))) == [54, 55, 56, 57]
bytes_and_end = [*range(NUM_BYTES), tokens_of("")[-1]]
assert unmatched(PRESETS["tiny"].num_tokens, bytes_and_end) == []
assert unmatched(num_ids, [*spelled, END]) == []  # and our own vocabulary of merges

# %% [markdown]
# ## Summary
#
# A text is cut into tokens, each token has an id, and an embedding matrix gives each id a row of
# numbers, which is a look-up. Training moves the rows until those that are used alike lie near each
# other, so that the space shows what the data are like: here a compass, which nobody had told of. Read
# distances and neighbours from such a space, never its axes.
#
# **Next:** `02_attention`, how do points look at each other?
