# %% [markdown]
# # What is the whole of GPT-2?
#
# GPT-2 tells, of a row of tokens, which token comes next, and that is all. From notebooks 01 to 03 you
# know nearly every part: tokens, attention, the causal mask, positions. This notebook puts them
# together. The whole network fits on a screen, and we let it read storms as plain text, byte by byte.
#
# When you have worked through this notebook, you will be able to
#
# - write GPT-2 in some twenty lines that give the numbers of the project's network;
# - count the parameters of a transformer by hand;
# - judge a language model in bits a byte, beside a model that only counts;
# - sample with a temperature, and save most of the work by keeping keys and values.
#
# Every number is computed here. The training of section 4 takes most of the time.

# %%
import math
import re
from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from model.families.gpt2.network import GPT2, GPT2Config, TokenBatch, generate, text_of
from notebooks.pictures import lines, loss_curve, track_map
from notebooks.tracks import Track, storm, storms

# %% [markdown]
# Shapes, as before: B rows, T tokens of a row, D numbers of a point, H heads, K numbers of a head,
# V tokens that there are.
#
# ## 1. Storms as text
#
# A storm becomes a line of text. Each word is a step of six hours in tenths of a degree, first to the
# north and then to the east: `+03-12` says 0.3 degrees to the north and 1.2 to the west. A byte is a
# token, so there are 256 of them, and every text can be written. The network reads storms before 2010
# and is asked about those from 2010 on.


# %%
def words_of(track: Track) -> str:
    """The steps between the reports at full six hours, as one line."""
    is_full = track.time_s_T % 21_600 == 0
    north_T, east_T = (
        np.rint(10 * axis_T[is_full]).astype(int) for axis_T in (track.lat_deg_T, track.lon_deg_T)
    )
    steps = zip(np.diff(north_T), (np.diff(east_T) + 1_800) % 3_600 - 1_800, strict=True)
    words = [f"{north:+03d}{east:+03d}" for north, east in np.clip(list(steps), -99, 99)]
    return " ".join(words) + "\n"


long_ones = storms(min_points=12)
train = "".join(words_of(track) for track in long_ones if track.year < 2010).encode()
later = [words_of(track).encode() for track in long_ones if track.year >= 2010]
print(f"{len(train):,} bytes to learn from, {sum(map(len, later)):,} to be asked about")
print(later[0].decode())

# %% [markdown]
# ## 2. A block: read, work, and add
#
# A block has two parts. *Attention* lets points read each other. The *feed-forward* layer then works
# on each point by itself: it widens the point to four times its numbers, bends them, and narrows them
# again. Two simple tricks make it possible to pile up many blocks. What a part computes is **added**
# to its input, and the input is **normalised before** each part, to mean zero and variance one:
#
# $$ x \leftarrow x + \text{attention}(\text{norm}(x)) \qquad x \leftarrow x + \text{feed}(\text{norm}(x)) $$
#
# Why add? Learning goes from the last layer back to the first. We pile up 24 feed-forward layers, and
# ask how large the gradient is that arrives at each of them.


# %% tags=["claim"]
def gradient_sizes(is_added: bool, depth: int = 24, width: int = 64) -> list[float]:
    """The size of the gradient at the input of each layer, against that at the last output."""
    torch.manual_seed(0)
    state_BD = torch.randn(32, width, requires_grad=True)
    states = [state_BD]
    for _ in range(depth):
        widen, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        normed_BD = functional.layer_norm(states[-1], (width,)) if is_added else states[-1]
        made_BD = narrow(functional.gelu(widen(normed_BD)))
        states.append(states[-1] + made_BD if is_added else made_BD)
    gradients = torch.autograd.grad(states[-1].square().sum(), states)
    return [float(one.norm() / gradients[-1].norm()) for one in gradients]


sizes = {"added, norm before": gradient_sizes(True), "neither": gradient_sizes(False)}
assert sizes["neither"][0] < 1e-9
assert 0.3 < sizes["added, norm before"][0] < 10
depths = range(25)
lines(
    {name: (depths, size) for name, size in sizes.items()},
    "What arrives of the gradient",
    ("layer", "size of the gradient"),
    is_log=True,
)

# %% [markdown]
# **What to notice.** Without the two tricks next to nothing arrives at the first layer: it cannot
# learn. With them the gradient is about as large at the first layer as at the last, since a sum hands
# it on as it is.
#
# ## 3. The whole network
#
# First the parts. `w` holds the weights by name, and the names are those of the project.


# %%
def linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w: dict[str, Tensor], name: str, x_BTD: Tensor) -> Tensor:
    centred_BTD = x_BTD - x_BTD.mean(dim=-1, keepdim=True)
    spread_BT1 = (centred_BTD.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred_BTD / spread_BT1 * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attend(w: dict[str, Tensor], name: str, x_BTD: Tensor, num_heads: int) -> Tensor:
    parts = linear(w, f"{name}.qkv", x_BTD).chunk(3, dim=-1)
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in parts)
    score_BHTT = q @ k.mT / k.shape[-1] ** 0.5
    is_later_TT = torch.ones_like(score_BHTT[0, 0]).triu(1).bool()
    share_BHTT = score_BHTT.masked_fill(is_later_TT, -torch.inf).softmax(dim=-1)
    return linear(w, f"{name}.out", (share_BHTT @ v).transpose(1, 2).flatten(2))


# %% [markdown]
# Then the network. The head, which makes scores of next tokens, is the embedding table once more: a
# token is likely where its own vector points along the state. This is called a *tied* head.


# %%
def my_gpt2(w: dict[str, Tensor], token_BT: Tensor, num_layers: int, num_heads: int) -> Tensor:
    """Scores (B, T, V) of each next token."""
    x_BTD = w["token.weight"][token_BT] + w["position.weight"][: token_BT.shape[1]]
    for block in (f"transformer.blocks.{layer}" for layer in range(num_layers)):
        normed_BTD = norm(w, f"{block}.norm_attention", x_BTD)
        x_BTD = x_BTD + attend(w, f"{block}.attention", normed_BTD, num_heads)
        wide = linear(w, f"{block}.widen", norm(w, f"{block}.norm_forward", x_BTD))
        x_BTD = x_BTD + linear(w, f"{block}.narrow", gelu(wide))
    return norm(w, "transformer.norm", x_BTD) @ w["token.weight"].T


# %% [markdown]
# That is all of it, in some twenty lines. With the weights of the project's network they give its
# numbers. To be sure that no part is silent, all weights are random here, biases too.

# %%
config = GPT2Config(
    width=64, num_layers=2, num_heads=4, num_positions=126, num_tokens=257, dropout=0
)
torch.manual_seed(1)
model = GPT2(config)
random_w = {name: 0.2 * torch.randn_like(one) for name, one in model.named_parameters()}
token_BT = torch.randint(257, (3, 50))
theirs_BTV = torch.func.functional_call(model, random_w, token_BT)
assert_close(my_gpt2(random_w, token_BT, 2, 4), theirs_BTV, atol=1e-4, rtol=1e-4)

# %% [markdown]
# ### Exercise 1: count the parameters
#
# How many numbers does GPT-2 learn? Go through the code above, weight by weight. The tied head
# counts once, and every `linear` and every `norm` has a bias.


# %% tags=["exercise"]
def num_parameters(width: int, num_layers: int, num_positions: int, num_tokens: int) -> int:
    """How many numbers the network learns."""
    # BEGIN SOLUTION: two tables; in a block 3 + 1 + 4 + 4 squares, their biases and two norms; a norm
    tables = (num_tokens + num_positions) * width
    squares = (3 + 1 + 4 + 4) * width**2
    biases = (3 + 1 + 4 + 1) * width
    norms = 2 * 2 * width
    return tables + num_layers * (squares + biases + norms) + 2 * width
    # END SOLUTION


# %% tags=["check"]
for width, num_layers, num_positions, num_tokens in [
    (8, 1, 4, 5),
    (12, 3, 7, 30),
    (64, 2, 126, 257),
]:
    shape = GPT2Config(width, num_layers, 4, num_positions, num_tokens)
    truth = sum(one.numel() for one in GPT2(shape).parameters())
    counted = num_parameters(width, num_layers, num_positions, num_tokens)
    assert counted == truth, f"{counted:,} are not {truth:,} (width {width}, {num_layers} layers)"
print(f"right: and the smallest published GPT-2 has {num_parameters(768, 12, 1024, 50_257):,}")


# %% tags=["wrong"]
def num_parameters(width, num_layers, num_positions, num_tokens):
    block = 12 * width**2 + 9 * width + 4 * width
    return (2 * num_tokens + num_positions) * width + num_layers * block + 2 * width  # head twice


# %% tags=["wrong"]
def num_parameters(width, num_layers, num_positions, num_tokens):
    block = 12 * width**2 + 4 * width  # no biases of linear layers
    return (num_tokens + num_positions) * width + num_layers * block + 2 * width


# %% tags=["wrong"]
def num_parameters(width, num_layers, num_positions, num_tokens):
    block = 12 * width**2 + 9 * width + 4 * width
    return (num_tokens + num_positions) * width + num_layers * block  # no last norm


# %% tags=["claim"]
with torch.device("meta"):  # the shapes alone, without memory
    published = GPT2(GPT2Config())
count = sum(one.numel() for one in published.parameters())
in_blocks = sum(one.numel() for one in published.transformer.blocks.parameters())
print(f"{count:,} parameters, {in_blocks / count:.0%} of them in the blocks")
assert count == num_parameters(768, 12, 1024, 50_257) == 124_439_808

# %% [markdown]
# ## 4. Training, in bits a byte
#
# The loss is the surprise at the byte that really comes: minus the logarithm of the share that the
# model gave to it. With logarithms to the base two it is counted in *bits*. Who knows nothing gives
# each of 256 bytes the same share, and pays 8 bits a byte. We train on pieces of 126 bytes, which are
# 18 words. The size of the steps rises at first, and then falls to zero. On the way we let the network
# go on with the text `+01-10 `, to see what it has learned so far.


# %%
tokens, losses, NUM_STEPS = torch.tensor(list(train)), [], 400
draw = torch.Generator().manual_seed(3)
optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)


def train_until(end: int) -> None:
    """Go on with the training up to a step."""
    for step in range(len(losses), end):
        falling = (1 + math.cos(math.pi * step / NUM_STEPS)) / 2
        optimiser.param_groups[0]["lr"] = 4e-3 * min((step + 1) / 30, falling)
        start_B1 = 7 * torch.randint((len(tokens) - 126) // 7, (16, 1), generator=draw)
        token_BT = tokens[start_B1 + torch.arange(126)]
        score_NV = model(token_BT)[:, :-1].flatten(0, 1)
        loss = functional.cross_entropy(score_NV, token_BT[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item() / math.log(2))


word_1T = torch.tensor([list(b"+01-10 ")])
for end in (0, 20, 60, 200):
    train_until(end)
    [new_T] = generate(model, word_1T, 35, temperature=1.0, seed=1).tolist()
    print(f"after {end} steps: {text_of(new_T)!r}")

# %%
train_until(NUM_STEPS)
loss_curve({"bits a byte": losses}, "GPT-2 reads storms")

# %% [markdown]
# **What to notice.** The first texts are noise. Soon it writes words of the right form, whose steps leap
# about. There the loss stands still for a while. Then it falls again: now each word resembles the one
# before, as the steps of a storm do.
#
# Is that good? A number alone says nothing, so we ask a rival that needs no network: **counting**. It
# looks at the last n bytes, and tells the next one by how often each byte came after these n in
# training. Where they came seldom, it mixes in what it would say from the last n - 1, and so on down
# to none: it *backs off*. How much it mixes in follows a rule of Witten and Bell (1991): the more
# different bytes came after these n, the more likely is one that never did.

# %%
ORDER = 10
ends = range(ORDER + 2)
num_of = Counter(train[at : at + n] for at in range(len(train) - ORDER) for n in ends)
kinds_of = Counter(string[:-1] for string in num_of if string)  # different bytes after it


def counted_shares(past: bytes, byte: bytes) -> list[float]:
    """The share of a byte after a past, from its last 0, 1, ..., ORDER bytes."""
    share, shares = 1 / 256, []
    for n in range(ORDER + 1):
        end = past[len(past) - n :]
        if n <= len(past) and num_of[end]:
            kinds = kinds_of[end]
            share = (num_of[end + byte] + kinds * share) / (num_of[end] + kinds)
        shares.append(share)
    return shares


all_bytes = [bytes([byte]) for byte in range(256)]
summed = np.sum([counted_shares(b"+00-15 +0", byte) for byte in all_bytes], axis=0)
assert np.allclose(summed, 1)  # shares, at each order

# %% [markdown]
# Both are asked about the same bytes, the later storms in rows of 126, and both may read only what
# stands before in the row.

# %% tags=["claim"]
text = b"".join(later)
rows = [text[at : at + 126] for at in range(0, len(text) - 126, 126)]
row_RT = torch.tensor([list(row) for row in rows])
asked = [(row[:at], row[at : at + 1]) for row in rows for at in range(1, 126)]
counted_bits = -np.log2([counted_shares(*one) for one in asked]).mean(axis=0)
with torch.no_grad():
    score_RTV = torch.cat([model(part_BT) for part_BT in row_RT.split(32)])
nats_RT = functional.cross_entropy(score_RTV[:, :-1].mT, row_RT[:, 1:], reduction="none")
gpt2_bits = float(nats_RT.mean()) / math.log(2)
print(f"GPT-2 {gpt2_bits:.3f} bits a byte; counting", counted_bits.round(3))
assert counted_bits.argmin() == 7
assert counted_bits[10] > counted_bits[7] + 0.05
assert gpt2_bits < counted_bits.min()
orders = np.arange(ORDER + 1)
lines(
    {"counting": (orders, counted_bits), "GPT-2": (orders, np.full(ORDER + 1, gpt2_bits))},
    "Bits a byte of later storms",
    ("bytes that counting looks back", "bits a byte"),
)

# %% [markdown]
# **What to notice.** Counting is best with seven bytes. A word has seven, so the same letter of the word
# before is in sight then, and storms move on much as they did. With more bytes it gets worse, for long
# strings are rare. GPT-2 pays less than the best count, though it had to find out by itself what a
# word is. It need not see the very same string again: it learns that words resemble those before.
#
# ## 5. Sampling, and the temperature
#
# To write on, we draw the next byte from its shares, put it at the end of the row, and ask again. The scores
# are divided by a *temperature* first. Below one, likely bytes become likelier; above one, unlikely
# ones get a chance; towards zero only the likeliest is ever drawn.
#
# ### Exercise 2: the temperature
#
# Write the shares of the next tokens. They must be numbers even if scores are large and the
# temperature is small.


# %% tags=["exercise"]
def shares(score_V: Tensor, temperature: float) -> Tensor:
    """The chance of each token to be drawn."""
    # BEGIN SOLUTION: divide, then softmax, which takes care of large numbers
    return (score_V / temperature).softmax(dim=0)
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(4)
for temperature in (0.1, 0.5, 1.0, 3.0):
    score_V = 3 * torch.randn(20, generator=draw)
    share_V = shares(score_V, temperature)
    assert_close(share_V.sum(), torch.tensor(1.0), msg="shares add up to one")
    first, second = score_V.topk(2).indices
    truth = float((score_V[first] - score_V[second]) / temperature)
    ratio = math.log(share_V[first]) - math.log(share_V[second])
    assert math.isclose(ratio, truth, rel_tol=1e-3), "small temperatures favour the likely"
large_3 = shares(torch.tensor([100.0, 300.0, 200.0]), 0.01)
assert_close(large_3, torch.tensor([0.0, 1.0, 0.0]), msg="large scores are no numbers any more")
print("right: the temperature")


# %% tags=["wrong"]
def shares(score_V, temperature):
    return (score_V * temperature).softmax(dim=0)  # the wrong way round


# %% tags=["wrong"]
def shares(score_V, temperature):
    return score_V.softmax(dim=0) ** (1 / temperature)  # add up to one no more


# %% tags=["wrong"]
def shares(score_V, temperature):
    power_V = (score_V / temperature).exp()  # infinite for large scores
    return power_V / power_V.sum()


# %% [markdown]
# Now let the network go on with the hurricane Odile of 2014, of which it gets the first eight steps,
# two days. It writes the ten steps after them, forty times.

# %% tags=["claim"]
WORD = re.compile(r"[+-]\d\d[+-]\d\d[ \n]")
odile = storm("EP152014")
known = words_of(odile)[:56].encode()
known_1T = torch.tensor([list(known)])
written = {}
for temperature in (0.0, 0.7, 1.0, 2.0):
    new_BT = generate(model, known_1T.expand(40, -1), 70, temperature, seed=5)
    written[temperature] = [text_of(row) for row in new_BT.tolist()]
    print(f"{temperature}: {written[temperature][0]!r}")
right = {
    temperature: np.mean([len(WORD.findall(one)) / 10 for one in texts])
    for temperature, texts in written.items()
}
print({temperature: f"{share:.1%} right words" for temperature, share in right.items()})
assert right[0.0] == 1.0
assert right[1.0] > 0.95
assert right[2.0] < 0.5
assert len(set(written[0.0][0].split())) <= 3

# %% [markdown]
# **What to notice.** At a temperature of zero the storm makes the same step again and again, for at each
# point that is the likeliest one. Yet a storm that never turns is not likely at all. At one, more than
# nineteen words of twenty are well formed. At two, most are broken.
#
# As a picture, at a temperature of one:


# %% tags=["claim"]
def track_of(text: str, lon_deg: float, lat_deg: float) -> tuple[list[float], list[float]]:
    """The ten places that words lead to; after its end, or a word that is none, a storm stays."""
    lons_deg, lats_deg, goes_on = [lon_deg], [lat_deg], True
    for word in (text[at : at + 7] for at in range(0, 70, 7)):
        goes_on = goes_on and WORD.fullmatch(word) is not None
        north, east = (int(word[:3]), int(word[3:6])) if goes_on else (0, 0)
        lons_deg.append(lons_deg[-1] + east / 10)
        lats_deg.append(lats_deg[-1] + north / 10)
        goes_on = goes_on and word.endswith(" ")
    return lons_deg, lats_deg


full = odile.time_s_T % 21_600 == 0
lon_T, lat_T = odile.lon_deg_T[full], odile.lat_deg_T[full]
samples = [track_of(one, lon_T[8], lat_T[8]) for one in written[1.0]]
lon_SH, lat_SH = (np.array(axis) for axis in zip(*samples, strict=True))
assert (lon_SH[:, -1] < lon_T[8]).mean() > 0.7
assert lon_SH[:, -1].min() < lon_T[18] < lon_SH[:, -1].max()
assert lat_SH[:, -1].min() < lat_T[18] < lat_SH[:, -1].max()
track_map(
    {"known": (lon_T[:9], lat_T[:9]), "truth": (lon_T[8:19], lat_T[8:19])},
    "Forty ways on for Odile",
    (lon_SH, lat_SH),
)

# %% [markdown]
# **What to notice.** Most of the forty go on to the west, as storms there do, and the truth lies among
# them. All this comes from predicting bytes. The network knows neither what a degree is nor that the
# first digit of a number matters more than the second: notebook 05 asks what else points can be.
#
# ## 6. Keep what was computed
#
# For each new byte the network would read the whole row again, though nothing in it has changed. The
# causal mask says more: a point does not depend on later ones, so its key and its value stay as they
# are for ever. So we keep them, in the *key-value cache*, and compute only the new point.
#
# ### Exercise 3: attention with a cache
#
# A new point comes with its query, key and value. Put the last two into the cache, and let the query
# read all that is in it, the new point included. Keys and values stand in the list in pairs.


# %% tags=["exercise"]
def read_next(
    query_K: Tensor, key_K: Tensor, value_K: Tensor, cache: list[tuple[Tensor, Tensor]]
) -> Tensor:
    """What a new point reads; its key and value are added to the cache."""
    # BEGIN SOLUTION: append first; stack keys and values; scores, softmax and mean for one query
    cache.append((key_K, value_K))
    key_TK, value_TK = (torch.stack(column) for column in zip(*cache, strict=True))
    share_T = (key_TK @ query_K / len(query_K) ** 0.5).softmax(dim=0)
    return share_T @ value_TK
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(6)
for num_points in (1, 2, 30):
    q_TK, k_TK, v_TK = torch.randn(3, num_points, 16, generator=draw)
    whole_TK = functional.scaled_dot_product_attention(q_TK, k_TK, v_TK, is_causal=True)
    cache, other = [], []
    read_TK = torch.stack([read_next(*one, cache) for one in zip(q_TK, k_TK, v_TK, strict=True)])
    assert_close(read_TK, whole_TK, atol=1e-5, rtol=1e-4)
    assert len(cache) == num_points, "each point joins the cache once"
    assert_close(read_next(q_TK[0], k_TK[0], v_TK[0], other), v_TK[0], msg="caches are mixed up")
print("right: the cache gives the numbers of the whole")


# %% tags=["wrong"]
def read_next(query_K, key_K, value_K, cache):
    past = list(cache) or [(key_K, value_K)]  # itself is not read, but for the first
    cache.append((key_K, value_K))
    key_TK, value_TK = (torch.stack(column) for column in zip(*past, strict=True))
    return (key_TK @ query_K / len(query_K) ** 0.5).softmax(dim=0) @ value_TK


# %% tags=["wrong"]
def read_next(query_K, key_K, value_K, cache):
    cache.append((key_K, value_K))
    key_TK, value_TK = (torch.stack(column) for column in zip(*cache[-8:], strict=True))
    return (key_TK @ query_K / len(query_K) ** 0.5).softmax(dim=0) @ value_TK  # forgets


# %% tags=["wrong"]
def read_next(query_K, key_K, value_K, cache):
    cache.append((query_K, value_K))  # not the key
    key_TK, value_TK = (torch.stack(column) for column in zip(*cache, strict=True))
    return (key_TK @ query_K / len(query_K) ** 0.5).softmax(dim=0) @ value_TK


# %% [markdown]
# The function `generate` of the project works with such a cache in each layer. We write on without
# one as well, take always the likeliest byte, and count the multiplications of both.


# %% tags=["claim"]
def generate_without_cache(token_BT: Tensor, num_new: int) -> Tensor:
    """The likeliest bytes, each told by reading the whole row again."""
    with torch.no_grad():
        for _ in range(num_new):
            next_B1 = model(token_BT)[:, -1:].argmax(dim=2)
            token_BT = torch.cat([token_BT, next_B1], dim=1)
    return token_BT[:, -num_new:]


counted = {}
ways = {"without": generate_without_cache, "with": lambda *asked: generate(model, *asked)}
for name, way in ways.items():
    with FlopCounterMode(display=False) as counter:
        new_BT = way(known_1T, 70)
    counted[name] = (counter.get_total_flops(), new_BT.tolist())
    print(f"{name} a cache: {counted[name][0]:,} operations")
assert counted["with"][1] == counted["without"][1]
times_as_many = counted["without"][0] / counted["with"][0]
print(f"without a cache {times_as_many:.1f} times as many operations")
assert times_as_many > 30

# %% [markdown]
# **What to notice.** The bytes are the same. Without the cache the network does more than thirty times
# the work, and the longer the row, the more.
#
# ## What can go wrong: a mean of means
#
# Storms differ in length, and a batch of long ones has more bytes than one of short ones. TrajGPT, a
# published model of visits, takes the mean loss of each batch, and then the mean of these means, in
# which a short batch counts as much as a long one. So its score depends on how the rows were packed
# into batches.
#
# What finds it is a question that can be asked of any score: **does it change with the batch size?**
# The loss of the project is therefore a total and a count, and is divided once, at the end.


# %%
def batch_of(texts: list[bytes]) -> TokenBatch:
    token_BT = pad_sequence([torch.tensor(list(text)) for text in texts], batch_first=True)
    length_B1 = torch.tensor([[len(text)] for text in texts])
    is_pad_BT = torch.arange(token_BT.shape[1]) >= length_B1
    return TokenBatch(token_BT, is_pad_BT, torch.arange(len(texts)))


def scores_of(texts: list[bytes], batch_size: int) -> tuple[float, float]:
    """Bits a byte as a mean of means, and as one total by one count."""
    batches = [texts[at : at + batch_size] for at in range(0, len(texts), batch_size)]
    with torch.no_grad():
        found = [model.loss(batch_of(batch)) for batch in batches]
    mean_of_means = sum(loss.mean for loss in found) / len(found)
    by_count = sum(loss.total for loss in found) / sum(loss.count for loss in found)
    return float(mean_of_means) / math.log(2), float(by_count) / math.log(2)


# %% tags=["claim"]
every = [words_of(track).encode() for track in storms() if track.year >= 2010]
beginnings = [text[:126] for text in every if len(text) > 7]
scored = {size: scores_of(beginnings, size) for size in (1, 8, 64)}
for size, (of_means, by_count) in scored.items():
    print(f"batches of {size}: mean of means {of_means:.4f}, by count {by_count:.4f}")
(most, by_count), (least, same) = scored[1], scored[64]
assert abs(most - least) > 0.01
assert math.isclose(by_count, same, abs_tol=1e-4)
assert counted_bits.min() - gpt2_bits < 0.1

# %% [markdown]
# By its count the score stays as it is. The mean of means moves by more than a hundredth of a bit, and
# the whole lead of GPT-2 over counting is below a tenth. So who may choose the batch size can choose a
# part of the result.
#
# ## Summary
#
# GPT-2 is a table of tokens, a table of positions, blocks that add attention and a feed-forward layer
# to what they are given, and the table of tokens again as a head. Bits a byte say how well it tells
# what comes, and only beside a rival such as counting do they say whether that is good. A causal
# model never needs to compute a point twice, so keys and values are kept.
#
# **Next:** `05_from_tokens_to_points`, why can coordinates not be tokens, or can they?
