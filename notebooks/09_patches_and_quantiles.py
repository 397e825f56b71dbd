# %% [markdown]
# # How do you tell 100 points ahead in one pass?
#
# A model that tells the next point must be asked a hundred times to see a hundred points ahead. Each
# answer waits for the one before and is built upon its errors. Models of time series, such as
# TimesFM (Das et al., 2024) and PatchTST (Nie et al., 2023), go another way. They read many points as
# one token, a *patch*, and tell many points at once. And since nobody knows the future, a point can be
# told by *quantiles*, numbers below which the truth lies with a known probability. The family
# `patch` of this project does all of that on the sphere.
#
# When you have worked through this notebook, you will be able to
#
# - cut a trip into patches, and count what that saves;
# - say which points a patch may know, and prove it by a test;
# - scale a trip by its past, and repair a normaliser that sees the future;
# - learn quantiles with the pinball loss, draw them as a fan, and check how often they hold the truth;
# - compare one pass with a hundred, in metres and in operations.
#
# You need notebooks 02, 03 and 07. Every number is computed here. Shapes: R counts trips, T points, S
# steps between points, P patches, K the points of a patch, J points ahead, Q quantiles, N anything
# else, and C two coordinates: east and north, or along a heading and across it.

# %%
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from model.baselines.forecast import LAST_POSITION, fitted_damped_velocity
from model.data.loader import TripLoader
from model.earth.geometry import haversine_m, heading_of, step_between, to_heading
from model.families import build, read_fitted
from model.families.patch.network import PRESETS
from model.families.patch.patching import cut, moved_until, steps_in
from model.interface.contexts import Context
from model.interface.sequence_rows import sequence_rows
from model.layers.distributions import MIN_STEP_SCALE_M
from model.layers.heads import DECILES, pinball, value_at
from model.layers.position_encodings import angles_of
from model.synthetic.world import World, trajectories
from notebooks.pictures import fan, lines, loss_curve, mask_bars, track_map
from notebooks.vehicles import write_vehicles

# %% [markdown]
# ## 1. A trip in patches
#
# Our trips are like those of notebook 07: made-up vehicles on a grid of streets, which report about
# every five seconds. We know the first 60 points of a trip and ask for the next 100, which takes them some
# eight minutes. The times of these points are given, and only places are asked.

# %%
clean = {"outlier_share": 0.0, "gap_share": 0.0, "anomaly_share": 0.0}  # no faults to be cleaned
world = World(num_points=200, interval_s=5.0, lat_deg=56.0, seed=7, **clean)
TRAIN, TEST, KNOWN, AHEAD = range(1_500), range(1_500, 1_700), 60, 100
shards = write_vehicles(Path("shards"), world, {"train": TRAIN})
normaliser = read_fitted(shards.folder, "patch")  # typical sizes of the steps of train


def vehicles(span: range) -> Context:
    """Whole trips, all points of them."""
    columns = ("lon_deg_T", "lat_deg_T", "tracked_us_T")
    drawn = list(trajectories(world, span.start, span.stop))
    lon_deg_RT, lat_deg_RT, us_RT = (
        torch.from_numpy(np.stack([getattr(trip, name) for trip in drawn])) for name in columns
    )
    time_s_RT = (us_RT - us_RT[:, :1]) / 1e6
    is_pad_RT = torch.zeros_like(us_RT, dtype=torch.bool)
    return Context(lon_deg_RT, lat_deg_RT, time_s_RT.double(), us_RT[:, 0], "UTC", is_pad_RT)


def points(trips: Context, start: int, stop: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Longitudes, latitudes and seconds of some points."""
    values = trips.lon_deg_BT, trips.lat_deg_BT, trips.time_s_BT
    lon_deg, lat_deg, time_s = (value_RT[:, start:stop] for value_RT in values)
    return lon_deg, lat_deg, time_s


def first(trips: Context, num_points: int) -> Context:
    return trips.part(0, None, num_points)


tested = vehicles(TEST)
known = first(tested, KNOWN)
given_s_RJ = points(tested, KNOWN, KNOWN + AHEAD)[2]

# %% [markdown]
# A trip may have any number of points, and the newest ones matter most. So it is cut **from its end**:
# the last patch is whole, and the first one may have empty slots before its first point. The next cell
# numbers the points of each patch, -1 where a slot is empty. `cut` of the project does the same. It
# repeats the first point in the empty slots, and keeps a note of which these are.


# %% tags=["claim"]
def slots(num_points: int, num_patch: int) -> Tensor:
    """The number of the point in each slot (P, K), -1 where there is none."""
    num_lead = -num_points % num_patch
    slot_S = torch.arange(num_lead + num_points) - num_lead
    return slot_S.clamp(min=-1).view(-1, num_patch)


print(slots(23, 5))
assert 7.5 < float((given_s_RJ[:, -1:] - known.time_s_BT[:, -1:]).mean()) / 60 < 9.5  # minutes
for num_points in (23, 60):
    rows = sequence_rows(first(tested, num_points))
    slot_S, theirs = slots(num_points, 5).flatten(), cut(rows, 5)
    assert torch.equal(theirs.is_point_RS[0], slot_S >= 0)
    assert torch.equal(theirs.lon_deg_RS, tested.lon_deg_BT[:, slot_S.clamp(min=0)])
SHOWN, pieces = 26, {}
for number, slot_K in enumerate(slots(KNOWN, 10)[1:], 2):
    lon_deg_RK, lat_deg_RK, _ = points(known, slot_K[0] - 1, slot_K[-1] + 1)
    pieces[f"patch {number}"] = lon_deg_RK[SHOWN], lat_deg_RK[SHOWN]
track_map(pieces, "Fifty points, five tokens")

# %% [markdown]
# **What to notice.** Each colour is one token, ten steps that begin at a square. (The trip's first patch is
# left out, so that five colours are enough.) A patch may hold a straight street, a turn, or a wait
# at lights. The network reads each as a whole.
#
# ## 2. What a token holds, and what that saves
#
# A token holds the K steps of its patch, and some numbers more: seconds, the time of day, how fast the
# vehicle was before. Two choices make steps easy to read wherever the trip is. They are told *along
# and across the recent heading*, which is the mean motion since 1, 2, 4 and 8 points. And they count
# in a *scale*, a typical step of this trip; section 3 tells which. Then two small layers make a token
# of the numbers, and the tokens go through a causal transformer (notebook 04) with rotary positions
# (notebook 03).
#
# The next cell catches what the network of the project is given. It makes the steps of the last
# patch by hand, and the states of all patches, and has the same numbers.


# %%
def patch_model(num_patch: int):
    """The tiny network of the project, for patches of this size, which tells 100 points at once."""
    shape = {"num_patch": num_patch, "num_output": AHEAD // num_patch}
    torch.manual_seed(1)
    return build("patch", replace(PRESETS["tiny"], **shape), normaliser).eval()


def way_m(trips: Context, start: int, ends_N: Tensor | int) -> Tensor:
    """Metres (R, N, 2) east and north from a point to others."""
    lon_deg_RT, lat_deg_RT, _ = points(trips, 0, None)
    start_deg = lon_deg_RT[:, [start]], lat_deg_RT[:, [start]]
    return torch.stack(step_between(*start_deg, lon_deg_RT[:, ends_N], lat_deg_RT[:, ends_N]), -1)


# %% tags=["claim"]
model, patches, seen = patch_model(10), cut(sequence_rows(known), 10), []
model.skip.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
with torch.no_grad():
    state_RPD, moved = model.encode(patches)

end = KNOWN - 1  # steps of the last patch, and the heading at its end
step_m_RKC = way_m(known, end, torch.arange(end - 10, end + 1)).diff(dim=1)
lag_N = torch.tensor([1, 2, 4, 8])
heading_R1C = heading_of((-way_m(known, end, end - lag_N) / lag_N[:, None]).mean(1, keepdim=True))
mine_RN = (to_heading(step_m_RKC, heading_R1C) / moved.scale_m_RP[:, -1, None, None]).flatten(1)
assert_close(mine_RN.float(), seen[0][:, -1, :20], rtol=1e-4, atol=1e-4)

with torch.no_grad():  # tokens, and what they read of each other
    token_RPD = model.skip(seen[0]) + model.narrow(functional.silu(model.widen(seen[0])))
    index_RP = torch.arange(KNOWN // 10).expand(len(token_RPD), -1)
    angle_RPP = angles_of(index_RP[..., None].double(), model.frequency_CP)
    mine_RPD = model.transformer(token_RPD, index_RP, angle_BQP=angle_RPP)
assert_close(mine_RPD, state_RPD)
print(f"{seen[0].shape[2]} numbers go into a token, {token_RPD.shape[2]} numbers are the token")

# %% [markdown]
# How much do patches save? Seconds depend on the machine and on what else it does. Operations do not:
# we count the multiplications and additions of all products of matrices. The columns tell tokens,
# pairs that attention compares, operations that read the 60 points, and operations that then tell
# the next 100. The last column counts *lessons*: the ends of patches, for each of which a trip of
# 200 points asks in training what follows.


# %% tags=["claim"]
def operations(ask, *inputs) -> int:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        ask(*inputs)
    return int(counter.get_total_flops())


one, one_s_1J, counted = known.at(slice(0, 1)), given_s_RJ[:1], {}
for num_patch in (1, 2, 5, 10, 20):
    model, tokens = patch_model(num_patch), len(slots(KNOWN, num_patch))
    reading = operations(model.read_last, one)
    whole = operations(model.forecast, one, AHEAD, one_s_1J, 0, 0)
    pairs, lessons = tokens * (tokens + 1) // 2, len(slots(200, num_patch))
    counted[num_patch] = tokens, pairs, reading, whole - reading, lessons
columns = ["tokens", "pairs", "to read", "to tell", "lessons"]
cost = pd.DataFrame.from_dict(counted, "index", columns=columns).rename_axis("patch size")
assert cost["pairs"][1] > 80 * cost["pairs"][10]
assert 9 < cost["to read"][1] / cost["to read"][10] < 11
assert cost["to tell"].max() < 1.1 * cost["to tell"].min()
cost

# %% [markdown]
# **What to notice.** With patches of ten there are a tenth of the tokens, and fewer than an eightieth of
# the pairs. Reading takes about a tenth of the operations. To tell 100 points costs the same whatever
# the patch. And there is a price: each trip holds fewer lessons, for only the end of a patch is one.
#
# ### Exercise 1: which points may a patch know?
#
# A patch is read as a whole, so its first point is known together with its last one. **The patch is
# the unit of causality**: what is said at its end may depend on all of its own points and on all
# earlier patches, and on nothing behind. Write the table, with a row for each patch and a column for
# each point. Mind the empty slots of the first patch.


# %% tags=["exercise"]
def may_know(num_points: int, num_patch: int) -> Tensor:
    """True (P, T) where what is said at the end of a patch may depend on a point."""
    # BEGIN SOLUTION: the number of the last point of each patch; compare it with all points
    end_P = torch.arange(num_points - 1, -1, -num_patch).flip(0)
    return torch.arange(num_points) <= end_P[:, None]
    # END SOLUTION


# %% tags=["check"]
for num_points, num_patch in ((23, 5), (20, 5), (7, 10), (40, 8), (12, 3)):
    table_PT = may_know(num_points, num_patch)
    assert table_PT.shape == (len(slots(num_points, num_patch)), num_points), "patches, points"
    for number, slot_K in enumerate(slots(num_points, num_patch)):
        for point in range(num_points):
            is_before = point <= slot_K[-1]
            assert table_PT[number, point] == is_before, f"patch {number}, point {point}"
    # Row 0 is a trip, and in row t + 1 the point t has been moved north. Whose state has changed?
    trip = first(tested, num_points).at(torch.zeros(num_points + 1).long())
    moved_deg = 1e-3 * torch.eye(num_points + 1, dtype=torch.float64)[:, 1:]
    shifted = sequence_rows(replace(trip, lat_deg_BT=trip.lat_deg_BT + moved_deg))
    state_RPD, _ = patch_model(num_patch).encode(cut(shifted, num_patch))
    change_TP = (state_RPD[1:] - state_RPD[:1]).abs().amax(dim=2)
    assert torch.equal(change_TP.T > 1e-5, table_PT), "the project's patches know something else"
print("right: a patch knows what it holds, and what came before")


# %% tags=["wrong"]
def may_know(num_points, num_patch):
    num_patches = -(-num_points // num_patch)
    end_P = torch.arange(1, num_patches + 1) * num_patch - 1  # cut from the start of the trip
    return torch.arange(num_points) <= end_P[:, None]


# %% tags=["wrong"]
def may_know(num_points, num_patch):
    end_P = torch.arange(num_points - 1, -1, -num_patch).flip(0)
    return torch.arange(num_points) <= (end_P + num_patch)[:, None]  # the next patch: the answer


# %% tags=["wrong"]
def may_know(num_points, num_patch):
    end_P = torch.arange(num_points - 1, -1, -num_patch).flip(0)
    point_T = torch.arange(num_points)  # its own points only
    return (point_T <= end_P[:, None]) & (point_T > end_P[:, None] - num_patch)


# %%
mask_bars(
    {f"patch {number + 1}": row_T for number, row_T in enumerate(may_know(23, 5))},
    "Who may know what",
)

# %% [markdown]
# **What to notice.** The steps of the stairs are as wide as a patch. Only the first one is shorter: of
# 23 points, three are left for it.
#
# ## 3. A scale that does not know the future
#
# Two vehicles may move in the same manner, one slowly and the other one fast. If the steps of each
# trip are divided by a typical step of its own, the network needs to learn that manner only once. The
# popular way is to take the mean and the spread of the **whole window** (RevIN, Kim et al., 2022). For
# a window that is known as a whole, as when the context alone is normalised, that is fine. But a
# causal model learns at every patch of its window, and there the whole window contains the answer.
#
# How much does it tell? Take 20 steps, and ask after ten how long the next ten will be. In units of
# the root mean square of the whole window, the mean square of all steps is one. So those of the two
# halves add up to two, always. A rule that is learned from such windows is perfect: the second is two
# minus the first, and no vehicle is needed to know it.
#
# Then somebody asks. Now the window ends with the ten steps that are known. Their mean square in
# units of their own is one, the rule says two minus one, and so it says of every vehicle that it goes
# on as before. The cell compares that, in metres, with a straight line that is fitted to what is
# known at the time: it tells the next ten steps from the first ten, both in metres.


# %% tags=["claim"]
def scaled_by_all(step_m_RS: Tensor) -> Tensor:
    """Steps in units of the root mean square of the whole window."""
    return step_m_RS / step_m_RS.square().mean(dim=1, keepdim=True).sqrt()


trips = vehicles(range(600))
step_m_RS = torch.stack([way_m(trips, t, [t + 1])[:, 0].norm(dim=1) for t in range(20)], dim=1)
first_R, second_R = scaled_by_all(step_m_RS).square().unflatten(1, (2, 10)).mean(dim=2).T
assert_close(first_R + second_R, torch.full_like(first_R, 2))
first_m_R, second_m_R = step_m_RS.square().unflatten(1, (2, 10)).mean(dim=2).sqrt().T
slope, offset_m = np.polyfit(first_m_R[:300], second_m_R[:300], 1)
told_m = {
    "the rule, in its lessons": (2 - first_R).clamp(min=0).sqrt()
    * step_m_RS.square().mean(1).sqrt(),
    "the rule, when asked": first_m_R,
    "a line of what is known": slope * first_m_R + offset_m,
}
error_m = {name: (told_m_R - second_m_R)[300:].abs() for name, told_m_R in told_m.items()}
in_lessons_m, asked_m, honest_m = (float(error_m_R.mean()) for error_m_R in error_m.values())
print(f"mean error in metres: {in_lessons_m:.1f}, {asked_m:.1f} and {honest_m:.1f}")
assert in_lessons_m < 1e-6
assert honest_m < 0.9 * asked_m
share_N = torch.linspace(0, 100, 300)
curves = {name: (share_N, error_m_R.sort().values) for name, error_m_R in error_m.items()}
lines(curves, "The next ten steps", ("% of the vehicles", "error in metres a step, at most"))

# %% [markdown]
# **What to notice.** In its lessons the rule has no error at all. When it is asked, it is worse than a
# straight line, which was worse in the lessons. No warning comes, and the loss of the training
# looks wonderful.
#
# The cure is a scale of the **past**: each patch counts in the root mean square of all steps up to its
# own end. Later patches have another scale, and the network is told which. So does `patch`, and so
# does TimesFM in its version 2.5, with a running mean and spread.
#
# ### Exercise 2: repair the normaliser
#
# Repair `scaled_by_all`. Divide the steps of each patch by one number, the root mean square of all
# steps **up to the end of that patch**. A vehicle that stands still must not divide by zero, so add
# `floor_m` squared under the root. Trips have a whole number of patches here.


# %% tags=["exercise"]
def scaled(step_m_RS: Tensor, num_patch: int, floor_m: float) -> Tensor:
    """Steps (R, S) of each patch in units of all steps up to its end."""
    # BEGIN SOLUTION: squares summed along the trip, taken at ends of patches, by their number; root
    num_P = torch.arange(num_patch, step_m_RS.shape[1] + 1, num_patch)
    square_RP = step_m_RS.square().cumsum(dim=1)[:, num_P - 1]
    scale_m_RP = (square_RP / num_P + floor_m**2).sqrt()
    return step_m_RS / scale_m_RP.repeat_interleave(num_patch, dim=1)
    # END SOLUTION


# %% tags=["check"]
floor_m = 0.05 * normaliser.extent_scale_m
for num_patch, num_patches in ((1, 4), (5, 3), (10, 6)):
    patches = cut(sequence_rows(first(tested, num_patch * num_patches + 1)), num_patch)
    steps_RSF = steps_in(patches)[:, num_patch:]  # the first patch of the project holds one point
    scale_m_RP = moved_until(patches, steps_in(patches), normaliser).scale_m_RP[:, 1:]
    step_m_RS = steps_RSF[..., :2].norm(dim=-1)
    said_RS = scaled(step_m_RS, num_patch, floor_m)
    assert said_RS.shape == step_m_RS.shape, "as many steps as before"
    for end in range(num_patch, num_patch * num_patches, num_patch):
        part_RS = scaled(step_m_RS[:, :end], num_patch, floor_m)
        assert torch.allclose(part_RS, said_RS[:, :end]), "a later patch has changed an earlier one"
    alone_RS = scaled(step_m_RS[:1], num_patch, floor_m)
    assert torch.allclose(alone_RS, said_RS[:1]), "another trip has an effect"
    theirs_RS = step_m_RS / scale_m_RP.repeat_interleave(num_patch, dim=1)
    assert torch.allclose(said_RS, theirs_RS), "not what the project does"
assert (scaled(torch.zeros(2, 20), 5, 1.0) == 0).all(), "to stand still is no step"
print("right: the scale knows the past alone")


# %% tags=["wrong"]
def scaled(step_m_RS, num_patch, floor_m):
    return step_m_RS / (step_m_RS.square().mean(dim=1, keepdim=True) + floor_m**2).sqrt()


# %% tags=["wrong"]
def scaled(step_m_RS, num_patch, floor_m):
    square_RP = step_m_RS.square().unflatten(1, (-1, num_patch)).mean(dim=2)  # forgets the past
    return step_m_RS / (square_RP + floor_m**2).sqrt().repeat_interleave(num_patch, dim=1)


# %% tags=["wrong"]
def scaled(step_m_RS, num_patch, floor_m):
    num_P = torch.arange(num_patch, step_m_RS.shape[1] + 1, num_patch)
    square_RP = step_m_RS.square().cumsum(dim=1)[:, num_P - 1] / num_P
    square_RP = torch.cat([square_RP[:, 1:], square_RP[:, -1:]], dim=1)  # one patch too late
    return step_m_RS / (square_RP + floor_m**2).sqrt().repeat_interleave(num_patch, dim=1)


# %% tags=["wrong"]
def scaled(step_m_RS, num_patch, floor_m):
    num_P = torch.arange(num_patch, step_m_RS.shape[1] + 1, num_patch)
    square_RP = step_m_RS.square().cumsum(dim=1)[:, num_P - 1] / num_P
    square_RP = square_RP.mean(dim=0, keepdim=True)  # one scale for all trips
    return step_m_RS / (square_RP + floor_m**2).sqrt().repeat_interleave(num_patch, dim=1)


# %% [markdown]
# ## 4. The pinball loss
#
# Where will the vehicle be in eight minutes? One place is a poor answer. Better are *quantiles*: the
# quantile of level 0.9 is the number below which the truth lies with a probability of 90 %. The nine
# levels 0.1 to 0.9 are the *deciles*. How does a network learn them, when each trip shows one truth and
# never a probability? By a loss that is lopsided. With the error $e$, the truth minus the quantile $q$ that
# was told, and the level $\alpha$, it is
#
# $$ \max(\alpha \, e, \; (\alpha - 1) \, e) $$
#
# Take the level 0.9. If the quantile is moved up a little, each truth above it costs 0.9 of that less,
# and each truth below it costs 0.1 more. Both are in balance where nine truths of ten lie below. There
# the loss is least.
#
# ### Exercise 3: the pinball loss
#
# Write it for any shapes that fit together, without a mean.


# %% tags=["exercise"]
def my_pinball(quantile: Tensor, truth: Tensor, level: Tensor) -> Tensor:
    """The loss of each quantile that is told, given what came."""
    # BEGIN SOLUTION: the larger of two products, with the error as truth minus quantile
    error = truth - quantile
    return torch.maximum(level * error, (level - 1) * error)
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(3)
level_Q = torch.tensor(DECILES)
for truth_N in (torch.randn(999, generator=draw), torch.rand(499, generator=draw) ** 3 - 2):
    constant_M = torch.linspace(float(truth_N.min()), float(truth_N.max()), 800)
    loss_MQN = my_pinball(constant_M[:, None, None], truth_N, level_Q[:, None])
    assert loss_MQN.shape == (800, 9, len(truth_N)), "one loss for each pair"
    assert (loss_MQN >= 0).all(), "no loss is below zero"
    best_Q = constant_M[loss_MQN.mean(dim=2).argmin(dim=0)]
    share_Q = (truth_N < best_Q[:, None]).float().mean(dim=1)
    assert (share_Q - level_Q).abs().max() < 0.02, "the best constant is not the quantile"
    theirs_N = pinball(best_Q.expand(len(truth_N), -1), truth_N, level_Q)  # a mean over levels
    mine_N = my_pinball(best_Q[:, None], truth_N, level_Q[:, None]).mean(dim=0)
    assert torch.allclose(mine_N, theirs_N), "not the project's loss"
print("right: the best constant is the quantile")


# %% tags=["wrong"]
def my_pinball(quantile, truth, level):
    return level * (truth - quantile).abs()  # the same on both sides: all levels tell the median


# %% tags=["wrong"]
def my_pinball(quantile, truth, level):
    error = quantile - truth  # the other sign: level 0.1 tells the quantile of 0.9
    return torch.maximum(level * error, (level - 1) * error)


# %% tags=["wrong"]
def my_pinball(quantile, truth, level):
    error = truth - quantile
    return torch.where(error > 0, level, 1 - level) * error.square()  # lopsided, and no quantile


# %% [markdown]
# Which constant is best for a real quantity? We ask how far our vehicles are, after 100 points, from
# where they were, and try all constants.

# %% tags=["claim"]
to_go_m_R = way_m(trips, KNOWN - 1, [KNOWN - 1 + AHEAD])[:, 0].norm(dim=1)
constant_m_M = torch.linspace(0, 2500, 251).double()
curves = {}
for level in (0.1, 0.5, 0.9):
    loss_m_M = my_pinball(constant_m_M[:, None], to_go_m_R, torch.tensor(level)).mean(dim=1)
    best_m = float(constant_m_M[loss_m_M.argmin()])
    share = float((to_go_m_R < best_m).double().mean())
    print(f"level {level}: best constant {best_m:.0f} m, below which {share:.0%} of the truth lies")
    assert abs(share - level) < 0.02
    curves[f"level {level}"] = constant_m_M, loss_m_M
lines(curves, "The loss of a constant", ("constant in metres", "mean pinball loss in metres"))

# %% [markdown]
# **What to notice.** Each curve has one valley, and it lies where its share of the truth is below. So
# a mean over trips teaches a probability, though no trip shows one. The curves of 0.1 and 0.9 are
# steep on one side only.
#
# ## 5. A hundred points, nine quantiles, one pass
#
# Now the family of the project learns. At the end of each patch it tells, for each of the next 100
# points, nine quantiles **along** the heading and nine **across** it. They are told around the motion
# carried on, in the scale of the past, and the loss is the pinball loss in that scale. Nine
# quantiles that are told one by one may cross, so that the quantile of 0.3 lies above that of 0.4.
# Here they cannot: the head tells the median and, up and down from it, gaps above zero.

# %%
losses, NUM_STEPS = {}, 150


def trained(name: str, model):
    """The model after some steps; all models read the same batches."""
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.02, NUM_STEPS)
    batches = TripLoader(shards, "train", 1, 16, world.num_points, pool_points=20_000)
    losses[name] = []
    for _, batch in zip(range(NUM_STEPS), batches, strict=False):
        loss = model.loss(batch).mean
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses[name].append(loss.item())
    return model.eval()


model = trained("patch", patch_model(10))
loss_curve(losses, "Learning quantiles")

# %% [markdown]
# One pass reads the 60 points of each vehicle and tells it all. *Coverage* is how often the truth lies
# where a forecast says that it does. Below the quantile of 0.3 there should be three truths of ten,
# and between the first and the last decile eight of ten, at **every** step ahead.


# %% tags=["claim"]
truth_lon_RJ, truth_lat_RJ, _ = points(tested, KNOWN, KNOWN + AHEAD)
moved_m_RJC = way_m(tested, KNOWN - 1, torch.arange(KNOWN, KNOWN + AHEAD))
with torch.no_grad():
    state_RD, moved = model.read_last(known)
    told = model.place_head(state_RD, moved, given_s_RJ - known.time_s_BT[:, -1:])
    median = model.forecast(known, AHEAD, given_s_RJ, 0, 0)
truth_m_RJC = told.away_m(moved_m_RJC)  # along and across, from the motion carried on
assert (told.away_m_NJCQ.diff(dim=-1) > 0).all()  # no quantiles cross
below_JCQ = (truth_m_RJC[..., None] < told.away_m_NJCQ).double().mean(dim=0)
held_JC = below_JCQ[..., -1] - below_JCQ[..., 0]
for start, stop in ((0, 10), (10, 50), (50, 100)):
    held = held_JC[start:stop].mean()
    print(f"points {start + 1} to {stop}: {held:.0%} between the first and the last decile")
    assert 0.65 < held < 0.95
reliability = {"as promised": (DECILES, DECILES)} | {
    f"{ahead} ahead": (DECILES, below_JCQ[ahead - 1, 0]) for ahead in (1, 10, 100)
}
assert (below_JCQ[[0, 9, 99], 0] - torch.tensor(DECILES)).abs().max() < 0.2
lines(reliability, "How often the truth lies below, along the way", ("level told", "share"))

# %% [markdown]
# **What to notice.** The dashed lines lie near the full one: what is told happens about as often as it
# says, one point ahead and a hundred. They are not on it. The network is small and has learned for
# 150 steps, and the last points have few lessons: only a trip longer than 100 points holds any.
#
# A *fan* shows the quantiles over time. It needs shares between the deciles and beyond the outer ones,
# where the project draws on with parts of Gaussians. What the figure calls samples are 199 evenly
# spaced shares. It is the fan of the vehicle in the first figure, along its heading.

# %%
share_N = torch.linspace(0.005, 0.995, 199).double()
normal_NJ = torch.special.ndtri(share_N)[:, None].expand(-1, AHEAD)
level_Q = torch.tensor(DECILES)
away_JQ = told.away_m_NJCQ[SHOWN, :, 0]
away_m_NJ = value_at(away_JQ.expand(len(share_N), -1, -1), level_Q, normal_NJ, MIN_STEP_SCALE_M)
heading_1C = told.heading_N1C[SHOWN]
center_m_J = to_heading(told.center_m_NJC[SHOWN].double(), heading_1C)[:, 0]
since_s_T = (tested.time_s_BT - known.time_s_BT[:, -1:])[SHOWN]
past_m_TC = way_m(tested, KNOWN - 1, torch.arange(KNOWN - 20, KNOWN))[SHOWN]
fan(
    (since_s_T[KNOWN - 20 : KNOWN], to_heading(past_m_TC, heading_1C)[:, 0]),
    since_s_T[KNOWN : KNOWN + AHEAD],
    center_m_J + away_m_NJ,
    "A hundred points in one pass",
    ("seconds", "metres along the heading"),
    to_heading(moved_m_RJC[SHOWN], heading_1C)[:, 0],
)

# %% [markdown]
# ## 6. One pass against a hundred
#
# `chemin` of notebook 07 is as wide and as deep, learns from the same batches for as many steps, and tells
# one point at a time. Its walks are 100 passes long, each of which waits for the one before, and a
# fan needs many walks. Two answers need no training: to stay, and to go on at a velocity that decays.
# How fast it decays is fitted to train.
#
# All are asked the same 100 vehicles, and judged by the distance from the place they name, a median
# or a mean, to the place that is reported. *Held* is the coverage as above; of `chemin` we take the
# deciles of its walks.


# %%
NUM_WALKS = 50
few, few_s_RJ = known.at(slice(0, 100)), given_s_RJ[:100]
answer = points(trips, KNOWN, KNOWN + AHEAD)  # of vehicles of train
is_target_RJ = torch.ones_like(answer[2], dtype=torch.bool)
damped = fitted_damped_velocity(first(trips, KNOWN), *answer, is_target_RJ)
torch.manual_seed(1)
shape = {"width": 32, "num_layers": 1, "num_heads": 2, "max_points": world.num_points}
chemin = trained("chemin", build("chemin", shape, normaliser))
with torch.no_grad():
    walks = chemin.forecast(few, AHEAD, few_s_RJ, NUM_WALKS, 3)
found = {
    "stay": LAST_POSITION.forecast(few, AHEAD, few_s_RJ),
    "damped velocity": damped.forecast(few, AHEAD, few_s_RJ),
    "chemin, 100 passes": walks,
    "patch, one pass": median.at(slice(0, 100)),
}


# %% tags=["claim"]
def coverage(low_RJC: Tensor, high_RJC: Tensor, truth_RJC: Tensor) -> Tensor:
    """Coverage (J), along and across alike."""
    return ((truth_RJC > low_RJC) & (truth_RJC < high_RJC)).double().mean(dim=(0, 2))


start_deg = (axis_R1[:100, None] for axis_R1 in points(known, KNOWN - 1, KNOWN)[:2])
ends_deg = walks.sample_lon_deg_BSH, walks.sample_lat_deg_BSH
walked_m_RNJC = torch.stack(step_between(*start_deg, *ends_deg), dim=-1)
heading_R1C, shares = told.heading_N1C[:100], torch.tensor([0.1, 0.9]).double()
low_RJC, high_RJC = to_heading(walked_m_RNJC, heading_R1C[:, None]).quantile(shares, dim=1)
by_walks = low_RJC, high_RJC, to_heading(moved_m_RJC[:100], heading_R1C)
low_RJC, *_, high_RJC = told.away_m_NJCQ[:100].unbind(-1)
held_J = {
    "chemin, 100 passes": coverage(*by_walks),
    "patch, one pass": coverage(low_RJC, high_RJC, truth_m_RJC[:100]),
}
one_given = one, AHEAD, one_s_1J


def read_and_told() -> None:
    model.place_head(*model.read_last(one), one_s_1J - one.time_s_BT[:, -1:])


fan_cost = {
    "chemin, 100 passes": operations(chemin.forecast, *one_given, NUM_WALKS, 3),
    "patch, one pass": operations(read_and_told),
}
one_walk = operations(chemin.forecast, *one_given, 0, 3)

# %% tags=["claim"]
ASKED, table = (1, 10, 100), {}
for name, answer in found.items():
    place_deg = answer.lon_deg_BH, answer.lat_deg_BH
    away_m_RJ = haversine_m(*place_deg, truth_lon_RJ[:100], truth_lat_RJ[:100])
    row = {f"error at {ahead}, m": float(away_m_RJ[:, ahead - 1].mean()) for ahead in ASKED}
    if name in held_J:
        row |= {f"held at {ahead}": float(held_J[name][ahead - 1]) for ahead in ASKED}
        row["million operations"] = fan_cost[name] / 1e6
    table[name] = row
print(f"one walk of chemin: {one_walk / 1e6:.1f} million operations")
stay, moving, walked, one_pass = (row["error at 100, m"] for row in table.values())
assert one_pass < 1.02 * walked
assert stay < 0.98 * walked
assert 0.9 < one_pass / stay < 1.15
assert 0.9 < moving / stay < 1.05
stay, moving, walked, one_pass = (row["error at 1, m"] for row in table.values())
assert max(moving, walked, one_pass) < 0.75 * stay
assert max(moving, walked) < one_pass
assert one_walk > 5 * fan_cost["patch, one pass"]
assert fan_cost["chemin, 100 passes"] > 100 * fan_cost["patch, one pass"]
assert all(0.6 < float(held_J[name][ahead - 1]) < 0.98 for name in held_J for ahead in ASKED)
pd.DataFrame(table).T.round(2)

# %% [markdown]
# **What to notice.**
#
# - One walk takes over five times the operations of the one pass, and a fan of 50 walks over a hundred
#   times. And the passes of a walk cannot be done side by side: each begins where the one before ended.
# - At the next point all three that move are far better than to stay, and `patch` is the last of them. Its
#   loss is a mean over a hundred points, of which the next one is one.
# - At 100 points the walks are worse than to stay. A mean step that is read again a hundred times
#   carries its errors along. `patch` never reads what it told.
# - As a **single answer** for 100 points ahead, `patch` is no better than to stay, and neither is a
#   damped velocity. Which way a vehicle turns is chance. What both networks add is how far that
#   chance may lead: what they hold is near the 80 % that they promise, and not right on it.
# - The edge of the fan is ragged, for each point ahead has quantiles of its own. They tell each
#   point by itself, and not how one point hangs together with the next. A walk is a path; a fan of
#   quantiles is none. The samples of `patch.forecast` keep one share for all points, and so keep
#   to their side of the fan.
#
# ## What can go wrong: a scale that knows what is hidden
#
# PatchTST can also learn by hiding: 40 % of the patches are hidden, and it has to tell them. In the
# published code a window is **first** brought to mean zero and spread one, and **then** patches are
# hidden. No patch is read that should not be. But all values sum to zero, so those that are shown
# sum to what the hidden ones lack. The last two lines of the cell read from them the mean of what is
# hidden, and its mean square, without any network. Whoever learns to add has a lower loss, and knows
# nothing of vehicles.
#
# The question that finds it is that of notebooks 02 and 08: **does a hidden value change what is shown?**
# The cure is to take mean and spread of what is shown.


# %% tags=["claim"]
def scaled_and_hidden(value_RS: Tensor, is_read_RS: Tensor, is_hidden_RS: Tensor) -> Tensor:
    """Values in mean and spread of those that may be read for it; hidden ones are zero."""
    num_R1 = is_read_RS.sum(dim=1, keepdim=True)
    away_RS = value_RS - (value_RS * is_read_RS).sum(dim=1, keepdim=True) / num_R1
    spread_R1 = ((away_RS.square() * is_read_RS).sum(dim=1, keepdim=True) / num_R1).sqrt()
    return (away_RS / spread_R1).masked_fill(is_hidden_RS, 0)


draw = torch.Generator().manual_seed(4)
east_m_RS = way_m(tested, 0, torch.arange(101))[..., 0].diff(dim=1)
is_hidden_RP = torch.rand(len(east_m_RS), 10, generator=draw).argsort(dim=1) < 4  # of ten patches
is_hidden_RS = is_hidden_RP.repeat_interleave(10, dim=1)
is_any_RS, nothing_RS = torch.ones_like(is_hidden_RS), torch.zeros_like(is_hidden_RS)
other_m_RS = torch.where(is_hidden_RS, east_m_RS.flip(0), east_m_RS)  # of another vehicle
for name, is_read_RS in (("published", is_any_RS), ("cured", ~is_hidden_RS)):
    shown_RS = scaled_and_hidden(east_m_RS, is_read_RS, is_hidden_RS)
    change = scaled_and_hidden(other_m_RS, is_read_RS, is_hidden_RS) - shown_RS
    print(f"{name}: what is shown changes by {change.abs().max():.2f}")
    assert (change.abs().max() > 0.1) == (name == "published")
shown_RS = scaled_and_hidden(east_m_RS, is_any_RS, is_hidden_RS)
truth_RN = scaled_and_hidden(east_m_RS, is_any_RS, nothing_RS)[is_hidden_RS].view(-1, 40)
assert_close(-shown_RS.sum(dim=1) / 40, truth_RN.mean(dim=1))
assert_close((100 - shown_RS.square().sum(dim=1)) / 40, truth_RN.square().mean(dim=1))

# %% [markdown]
# A second defect needs no mathematics. The published test loader of PatchTST, and of the models whose
# code it took over, dropped the last batch unless it was full. So the size of a batch decided which windows
# were judged. The next cell asks our model for its error 100 points ahead in this way.

# %% tags=["claim"]
away_m_R = haversine_m(median.lon_deg_BH, median.lat_deg_BH, truth_lon_RJ, truth_lat_RJ)[:, -1]
judged = {}
for size in (8, 64, 128):
    kept = len(away_m_R) // size * size
    judged[size] = float(away_m_R[:kept].mean())
    print(f"batches of {size}: {kept} of {len(away_m_R)} vehicles, {judged[size]:.0f} m")
assert judged[8] == float(away_m_R.mean())
assert len(set(judged.values())) == 3

# %% [markdown]
# One model has three errors. The cure is to keep the last batch, and to divide the sum of all errors by
# their number: a mean of the means of batches would weigh a small batch too much.
#
# ## Summary
#
# A patch is several points in one token, and the unit of causality: it makes sequences short, and
# lets one pass tell many points. Whatever scales a trip must know no more than the patch that it
# scales, be it the future or what is hidden. The pinball loss makes quantiles out of single truths,
# and a fan is worth something if it holds the truth as often as it says, which is to be counted at
# every distance.
#
# **Next:** `10_regions_and_time`, how does a life become a row of visits?
