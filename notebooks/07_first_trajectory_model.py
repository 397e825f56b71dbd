# %% [markdown]
# # How does a model learn to move?
#
# You know the parts: attention, positions, coordinates that a network can read. Here they become a
# model that reads the points of a trip and says where the next one will be. It is `chemin`, the
# smallest *family* (kind of model) of this project, after the educational model CheminTF. We begin
# with plain places and times and add one thing after the other. A table says what each of them gained.
#
# When you have worked through this notebook, you will be able to
#
# - read trips from files that need not fit into memory;
# - build a causal model of steps, and keep pads out of its loss;
# - test any such model for leaks of the future, and of the neighbours in a batch;
# - say what a density tells that a squared error does not;
# - roll a model out on the sphere as a fan of samples.
#
# You need notebooks 02 and 05. Of 03 it is enough to know that waves can be added to a point, which
# tell its place in the row, and of 04 that a *block* is attention followed by a small network. Every
# number is computed here.

# %%
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from model.data.loader import TripLoader
from model.earth.geometry import haversine_m, step_between, step_from
from model.families import build, read_fitted
from model.features.point_features import point_features
from model.interface.batch import Batch, index_of, scored_targets
from model.interface.contexts import Context, calendar_at
from model.layers.distributions import Noise, StepMixture
from model.layers.position_encodings import sinusoidal_positions
from model.layers.transformer import Transformer
from model.synthetic.world import World, trajectories
from notebooks.pictures import fan, loss_curve, mask_bars, track_map
from notebooks.vehicles import write_vehicles

# %% [markdown]
# Shapes: B counts trips, T their points, S the steps between these, C the coordinates (east, north),
# F and M the numbers that are read of a point, and D those that it has inside a network. (`.double()`
# makes a tensor `float64`.)
#
# ## 1. Vehicles that tell the truth
#
# Our vehicles are made up. They drive on a grid of streets at 56 degrees north, slow down before a
# turn and wait at lights. A receiver reports where they are about every ten seconds, some metres
# off. Of made-up vehicles we know what no receiver tells: where they really were.

# %%
clean = {"outlier_share": 0.0, "gap_share": 0.0, "anomaly_share": 0.0}  # no faults to be cleaned
world = World(num_points=40, lat_deg=56.0, seed=7, **clean)
TRAIN, TEST = range(1_500), range(1_500, 1_800)
tested = list(trajectories(world, TEST.start, TEST.stop))
one = tested[0]
reported, true = (one.lon_deg_T, one.lat_deg_T), (one.true_lon_deg_T, one.true_lat_deg_T)
off_m_T = haversine_m(*map(torch.from_numpy, reported), *map(torch.from_numpy, true))
print(f"reports are {off_m_T.mean():.1f} m off")
track_map({"reported": reported, "true": true}, "A vehicle")

# %% [markdown]
# **What to notice.** A square marks the start. The streets meet at right angles, and a slanted line
# cuts a corner that was driven between two reports. Where points lie close together the vehicle waits
# or turns. Which way it turns at a crossing is chance: no model can know.
#
# ## 2. A stream of trips
#
# Real data do not fit into memory. They lie in files, called *shards*, and a reader streams them: it
# holds a part, makes batches of it, and goes on to the next. `write_vehicles` writes what a run of
# this project would write. A row of a shard is one trip, its columns are lists.
#
# We stream the shards of train once by hand, one file at a time. What we want is the mean place and
# how far places are spread around it, which a network needs to see places in numbers of ordinary
# size. One pass is enough for both, since the variance is the mean of squares minus the square of
# the mean.


# %%
shards = write_vehicles(Path("shards"), world, {"train": TRAIN, "test": TEST})


def streamed(paths: Iterable[Path]) -> Iterator[Tensor]:
    """The places of each file, (N, 2) in degrees, one file at a time."""
    for path in paths:
        trips = pd.read_parquet(path, columns=["lon_deg", "lat_deg"])
        columns = [np.concatenate(trips[name].to_numpy()) for name in trips]
        yield torch.from_numpy(np.stack(columns, axis=1))


count, sum_C, square_C = 0, torch.zeros(2).double(), torch.zeros(2).double()
for place_deg_NC in streamed(shards.files["train"]):
    # Seen from the middle of the town: the squares of large numbers would cost digits.
    off_deg_NC = place_deg_NC - torch.tensor([world.lon_deg, world.lat_deg]).double()
    count += len(off_deg_NC)
    sum_C, square_C = sum_C + off_deg_NC.sum(0), square_C + off_deg_NC.square().sum(0)
mean_deg_C = torch.tensor([world.lon_deg, world.lat_deg]).double() + sum_C / count
spread_deg_C = (square_C / count - (sum_C / count).square()).sqrt()
print(f"{len(TRAIN):,} trips in {len(shards.files['train'])} files, {count:,} points")

# %% [markdown]
# The project's `TripLoader` does the same, and four things that a training needs beside: it mixes the
# trips, puts trips of like length into one batch, goes on from any place where it was stopped, and
# shares the trips out between several processes, so that none is read twice. What it gives is a
# `Batch`, whose columns are tables with a row for each trip. `time_s_BT` counts seconds since the first
# point of the trip, and `step_BTF` is the step that **led to** each point: metres to the east, metres
# to the north, and seconds.


# %% tags=["claim"]
def read(split: str, batch_size: int = 32, **options) -> TripLoader:
    sizes = {"batch_size": batch_size, "max_points": world.num_points, "pool_points": 20_000}
    return TripLoader(shards, split, seed=1, **sizes, **options)


batch = next(iter(read("train")))
test_batches = list(read("test", 100, num_epochs=1))
epoch = list(read("train", num_epochs=1))
assert sum(one_batch.num_points for one_batch in epoch) == count  # nothing lost, nothing twice
stopped = read("train")
for _ in zip(range(3), stopped, strict=False):  # three batches, then a stop
    pass
resumed = read("train")
resumed.load_state_dict(stopped.state_dict())
assert torch.equal(next(iter(resumed)).window_id_B, epoch[3].window_id_B)
# The two readers of two processes, of which each has a number, its rank:
ranks = [list(read("train", num_epochs=1, rank=rank, world=2)) for rank in (0, 1)]
ids = [torch.cat([one_batch.window_id_B for one_batch in rank]).tolist() for rank in ranks]
assert sorted(ids[0] + ids[1]) == sorted(torch.cat([one.window_id_B for one in epoch]).tolist())
rows = {f"trip {row}": ~test_batches[0].is_pad_BT[row] for row in range(0, 100, 12)}
mask_bars(rows, "Points and pads", ("point", "pad"))

# %% [markdown]
# **What to notice.** Trips differ in length. The shorter ones of a batch are filled up with *pads*,
# here hatched ("hidden"), which are no points. The cell also holds the loader to its word: an epoch
# has every point once, a stopped reader goes on with the very next batch, and two processes share
# all trips.
#
# ## 3. A causal model by hand
#
# The plainest inputs are the place of each point and its calendar: weekday, hour, minute, second.
# Both go through a linear layer, and come out side by side. Positions are added (notebook 03). Two
# blocks of causal attention follow (notebook 04), so that each point knows itself and those before
# it. A last layer says three numbers about the **next step**: to the east, to the north, and in
# time.
#
# In torch, a network is an `nn.Module`. It keeps the weights that are learnt, and `forward` says what
# it answers. `nn.Linear(a, b)` is a linear layer from `a` numbers to `b`, `Transformer` is the blocks,
# and `index_of` numbers the points of each row.
#
# This is what the project's `chemin` does with plain inputs. The second cell shows it: with the same
# weights both give the same numbers, and the mean and the spread that we streamed are those that the
# project fits.

# %%
WIDTH = 48
READ = ("lon_deg_BT", "lat_deg_BT", "time_s_BT", "step_BTF", "calendar_BTK")
normaliser = read_fitted(shards.folder, "chemin")  # typical sizes of the steps of train
SCALE_M = normaliser.extent_scale_m


def plain_inputs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Places in units of their spread, and the calendar."""
    place_deg_BTC = torch.stack([batch.lon_deg_BT, batch.lat_deg_BT], dim=-1)
    return ((place_deg_BTC - mean_deg_C) / spread_deg_C).float(), batch.calendar_BTK


class First(nn.Module):
    def __init__(self, inputs_of, num_numbers: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inputs_of = inputs_of
        num_spatial, num_temporal = (value.shape[-1] for value in inputs_of(batch))
        self.spatial = nn.Linear(num_spatial, WIDTH // 2)
        self.temporal = nn.Linear(num_temporal, WIDTH // 2)
        self.transformer = Transformer(WIDTH, num_layers=2, num_heads=4)
        self.head = nn.Linear(WIDTH, num_numbers)

    def hidden(self, batch: Batch) -> Tensor:
        spatial_BTF, temporal_BTM = self.inputs_of(batch)
        x_BTD = torch.cat([self.spatial(spatial_BTF), self.temporal(temporal_BTM)], dim=-1)
        x_BTD = x_BTD + sinusoidal_positions(x_BTD.shape[1], WIDTH)
        return self.transformer(x_BTD, index_of(batch.time_s_BT))

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.hidden(batch))


# %% tags=["claim"]
def chemin(inputs: str):
    torch.manual_seed(1)
    config = {"width": WIDTH, "num_layers": 2, "num_heads": 4, "inputs": inputs}
    return build("chemin", config, normaliser)


def states(model, batch: Batch) -> tuple[Tensor, Tensor]:
    """What the project's chemin knows at each point: its state, and recent velocities."""
    points = batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT, batch.calendar_BTK
    return model.encode(*points, index_of(batch.time_s_BT))


theirs, mine = chemin("plain"), First(plain_inputs, 3)
theirs.fit_inputs(epoch)
assert_close(theirs.plain.mean_deg_C, mean_deg_C)
assert_close(theirs.plain.spread_deg_C, spread_deg_C, rtol=1e-6, atol=0)
mine.load_state_dict(theirs.state_dict(), strict=False)  # all but the last layer
is_point_BT = ~batch.is_pad_BT
assert_close(mine.hidden(batch)[is_point_BT], states(theirs, batch)[0][is_point_BT])

# %% [markdown]
# The *target* at each point is the step to the next one. Such deltas have the size of a step wherever
# the trip is, while places are far from each other. The *loss*, the number that training makes small,
# is the squared error, averaged. But over what?
#
# ### Exercise 1: pads out of the loss
#
# Write the mean of some values over the steps that are scored. All others do not count, whatever
# stands there: it may even be `nan`. Where nothing is scored, the mean is zero.


# %% tags=["exercise"]
def mean_over_steps(value_BS: Tensor, is_scored_BS: Tensor) -> Tensor:
    """The mean of the values that are scored."""
    # BEGIN SOLUTION: select the values, do not multiply by zero; divide their sum by their number
    return value_BS[is_scored_BS].sum() / is_scored_BS.sum().clamp(min=1)
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(2)
for _ in range(10):
    value_BS = torch.rand(4, 9, generator=draw) + 1
    is_scored_BS = torch.rand(4, 9, generator=draw) < torch.rand(4, 1, generator=draw)
    expected = np.mean(value_BS[is_scored_BS].tolist() or [0.0])
    padded_BS = torch.where(is_scored_BS, value_BS, torch.nan).requires_grad_()
    found = mean_over_steps(padded_BS, is_scored_BS)
    assert math.isclose(found.item(), expected, rel_tol=1e-5), "not the mean of what is scored"
    found.backward()
    assert padded_BS.grad.isfinite().all(), "what is not scored has a gradient"
assert mean_over_steps(torch.ones(2, 3), torch.zeros(2, 3).bool()) == 0
print("right: pads do not count")


# %% tags=["wrong"]
def mean_over_steps(value_BS, is_scored_BS):
    return value_BS.nan_to_num().mean()  # pads count as zeros


# %% tags=["wrong"]
def mean_over_steps(value_BS, is_scored_BS):
    return (value_BS * is_scored_BS).sum() / is_scored_BS.sum().clamp(min=1)  # nan times 0 is nan


# %% tags=["wrong"]
def mean_over_steps(value_BS, is_scored_BS):
    total_B = value_BS.nan_to_num().mul(is_scored_BS).sum(1)
    return (total_B / is_scored_BS.sum(1).clamp(min=1)).mean()  # a mean of means


# %% [markdown]
# We train twice. The first target is that of CheminTF: thousandths of a degree, and minutes. The
# second one is ours: metres and the logarithm of seconds, each in its typical size. `scored_targets`
# says which points count: all but the pads and the first point of each trip, to which no step leads.
#
# Training shows the model one batch after the other. `backward` finds the derivative of the loss by
# each weight, and the optimiser moves each weight a little downhill. (`OneCycleLR` lets the moves grow
# at first and shrink later, and `clip_grad_norm_` keeps one odd batch from making a huge one.)
#
# Then the model is asked about trips that it was not trained on, and judged by the mean distance in
# metres between the point that it tells and the one that is reported next. Two answers need no
# training: the vehicle stays where it is, or it keeps its velocity until the next report.


# %%
def published_target(batch: Batch) -> Tensor:
    columns = 1000 * batch.lon_deg_BT, 1000 * batch.lat_deg_BT, batch.time_s_BT / 60
    return torch.stack(columns, dim=-1).diff(dim=1).float()


def our_target(batch: Batch) -> Tensor:
    step_m_BSC, step_s_BS1 = batch.step_BTF[:, 1:].split([2, 1], dim=-1)
    return torch.cat([step_m_BSC / SCALE_M, normaliser.encode_step_s(step_s_BS1)], dim=-1)


def step_inputs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Plain inputs, and the step that led to each point."""
    place_BTC, calendar_BTK = plain_inputs(batch)
    return torch.cat([place_BTC, batch.step_BTF[..., :2] / SCALE_M], dim=-1), calendar_BTK


def squared_loss(target_of):
    def loss_of(model: First, batch: Batch) -> Tensor:
        error_BS3 = model(batch)[:, :-1] - target_of(batch)
        return mean_over_steps(error_BS3.square().sum(-1), scored_targets(batch)[:, 1:])

    return loss_of


# %%
losses, NUM_STEPS = {}, 100


def trained(name: str, model: nn.Module, loss_of) -> nn.Module:
    """The model after some steps; all models read the same batches."""
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, NUM_STEPS)
    losses[name] = []
    for _, batch in zip(range(NUM_STEPS), read("train"), strict=False):
        loss = loss_of(model, batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses[name].append(loss.item())
    return model.eval()


degrees = trained("in degrees", First(plain_inputs, 3), squared_loss(published_target))
metres = trained("in metres", First(plain_inputs, 3), squared_loss(our_target))
loss_curve(
    {"in metres": losses["in metres"]}, "A first model of steps"
)  # the other has other units

# %% tags=["claim"]
error_m = {}


def step_m_of(batch: Batch) -> Tensor:
    return batch.step_BTF[:, 1:, :2]


def judge(name: str, mean_m_of) -> None:
    """Keep the mean distance from the step that is told to the step that was reported."""
    with torch.no_grad():
        away_m = [(mean_m_of(one) - step_m_of(one)).norm(dim=-1) for one in test_batches]
    is_scored = [scored_targets(one)[:, 1:] for one in test_batches]
    pairs = zip(away_m, is_scored, strict=True)
    error_m[name] = float(torch.cat([away_BS[is_BS] for away_BS, is_BS in pairs]).mean())


def of_degrees(batch: Batch) -> Tensor:
    place = batch.lon_deg_BT[:, :-1], batch.lat_deg_BT[:, :-1]
    move_BSC = degrees(batch)[:, :-1, :2].double() / 1000
    ends = (start + move for start, move in zip(place, move_BSC.unbind(-1), strict=True))
    return torch.stack(step_between(*place, *ends), dim=-1)


def same_velocity(batch: Batch) -> Tensor:
    rate_BS = batch.step_BTF[:, 1:, 2] / batch.step_BTF[:, :-1, 2].clamp(min=1)
    return batch.step_BTF[:, :-1, :2] * rate_BS[..., None]


judge("stay", lambda batch: torch.zeros_like(step_m_of(batch)))
judge("keep the velocity", same_velocity)
judge("plain, in degrees", of_degrees)
judge("plain, in metres", lambda batch: SCALE_M * metres(batch)[:, :-1, :2])
assert min(error_m["plain, in degrees"], error_m["plain, in metres"]) > 0.95 * error_m["stay"]
assert error_m["keep the velocity"] < 0.85 * error_m["stay"]
pd.Series(error_m).round(1).to_frame("m")

# %% [markdown]
# **What to notice.** With plain inputs the model is no better than to stay, in degrees or in metres.
# The motion is hidden in small differences of large numbers, and we have not trained for long enough
# to find it there.
#
# ## 4. Give it the last step, and look for leaks
#
# So we give it motion: with `step_inputs`, above, each point shows beside its place the step that
# led to it. And now be careful. The step that led to a point was made before it and may be shown.
# The step that leads away from it is the answer. The two are one index apart.
#
# ### Exercise 2: the leak test
#
# Write a test for any model, without a look inside. `say(batch)` gives numbers about each point, of
# the shape (B, T) or (B, T, any). Change all that is read of the points **after** a place (the names of
# the columns are in `READ`), and tell the largest change of what is said **up to and at** the place.
# For a causal model that is zero. `replace(batch, **columns)` gives a batch with other columns. An easy
# way to change a column is to take the row of the neighbour in the batch, plus one. Why plus one? A
# mere exchange would leave the mean of the whole batch as it is, and hide a leak through that mean.


# %% tags=["exercise"]
def future_change(say, batch: Batch, place: int) -> float:
    """The largest change of what is said of points up to a place, when all after it is changed."""
    # BEGIN SOLUTION: columns rolled along the batch where the index is larger; dataclasses.replace
    is_later_T = torch.arange(batch.time_s_BT.shape[1]) > place
    changed = {}
    for name in READ:
        value = getattr(batch, name)
        is_later = is_later_T if value.ndim == 2 else is_later_T[:, None]
        changed[name] = torch.where(is_later, value.roll(1, dims=0) + 1, value)
    with torch.no_grad():
        change = say(replace(batch, **changed)) - say(batch)
    return float(change[:, : place + 1].abs().max())
    # END SOLUTION


# %% tags=["check"]
probe = next(iter(read("test", 8)))
said = First(step_inputs, 3).eval()
leaks = {f"the next {name}": (lambda b, name=name: getattr(b, name).roll(-1, 1)) for name in READ}
leaks["the mean of the window"] = lambda b: said(b) + b.step_BTF.mean(1, keepdim=True)
leaks["the mean of the batch"] = lambda b: b.time_s_BT - b.time_s_BT.mean()
leaks["the last place"] = lambda b: b.lon_deg_BT - b.lon_deg_BT[:, -1:]
leaks["four points on"] = lambda b: b.time_s_BT.roll(-4, 1)
before = {name: getattr(probe, name).clone() for name in READ}
for place in (0, 3, 10):
    assert future_change(said, probe, place) < 1e-4, "a causal model is accused"
    assert future_change(lambda b: b.lon_deg_BT.cumsum(1), probe, place) < 1e-4, (
        "a running sum is accused"
    )
    for name, leak in leaks.items():
        assert future_change(leak, probe, place) > 1e-9, f"not found: {name}"
assert all(torch.equal(before[name], getattr(probe, name)) for name in READ), "the batch is changed"
print("right: nothing that comes from the future is missed")


# %% tags=["wrong"]
def future_change(say, batch, place):
    is_later_T = torch.arange(batch.time_s_BT.shape[1]) > place
    lon_deg_BT = torch.where(is_later_T, batch.lon_deg_BT.roll(1, dims=0), batch.lon_deg_BT)
    change = say(replace(batch, lon_deg_BT=lon_deg_BT)) - say(batch)  # longitudes only
    return float(change[:, : place + 1].abs().max())


# %% tags=["wrong"]
def future_change(say, batch, place):
    changed = {}
    for name in READ:
        changed[name] = getattr(batch, name).clone()
        changed[name][:, place + 1 :] = getattr(batch, name).roll(1, dims=0)[:, place + 1 :]
    change = say(replace(batch, **changed)) - say(batch)  # an exchange, which no mean tells
    return float(change[:, : place + 1].abs().max())


# %% tags=["wrong"]
def future_change(say, batch, place):
    changed = {}
    for name in READ:
        changed[name] = getattr(batch, name).clone()
        changed[name][:, place + 1 :] = getattr(batch, name).roll(1, dims=0)[:, place + 1 :]
    change = say(replace(batch, **changed)) - say(batch)
    return float(change[:, place:].abs().max())  # what comes after the place may change


# %% tags=["wrong"]
def future_change(say, batch, place):
    changed = {}
    for name in READ:
        changed[name] = getattr(batch, name).clone()
        changed[name][:, place + 2 :] = 0  # the next point stays as it is
    change = say(replace(batch, **changed)) - say(batch)
    return float(change[:, : place + 1].abs().max())


# %% [markdown]
# ### Exercise 3: plant a leak
#
# Now be the villain. Write inputs that look like `step_inputs`, with an index that is off by one:
# each point shows, beside its own place, the step that leads **away** from it. At the last point of
# a row anything may stand. Your test must find it.


# %% tags=["exercise"]
def planted_inputs(batch: Batch) -> tuple[Tensor, Tensor]:
    """Plain inputs, and the step that leads away from each point: the answer."""
    # BEGIN SOLUTION: as step_inputs, with the steps rolled by one along the row
    place_BTC, calendar_BTK = plain_inputs(batch)
    next_step_BTC = batch.step_BTF[..., :2].roll(-1, dims=1) / SCALE_M
    return torch.cat([place_BTC, next_step_BTC], dim=-1), calendar_BTK
    # END SOLUTION


# %% tags=["check"]
for one_batch in (probe, batch):
    spatial_BTF, temporal_BTM = planted_inputs(one_batch)
    honest_BTF, honest_BTM = step_inputs(one_batch)
    assert spatial_BTF.shape == honest_BTF.shape, "not a place and a step, of two numbers each"
    assert torch.equal(spatial_BTF[..., :2], honest_BTF[..., :2]), "the own place has changed"
    assert torch.equal(temporal_BTM, honest_BTM), "the calendar has changed"
    assert_close(spatial_BTF[:, :-1, 2:] * SCALE_M, step_m_of(one_batch), msg="not the next step")
    for place in (0, 3, 10):
        assert future_change(First(planted_inputs, 3).eval(), one_batch, place) > 1e-3
        assert future_change(First(step_inputs, 3).eval(), one_batch, place) < 1e-4
print("right: the leak is planted, and the test finds it")


# %% tags=["wrong"]
def planted_inputs(batch):
    place_BTC, calendar_BTK = plain_inputs(batch)
    step_BTC = batch.step_BTF[..., :2].roll(1, dims=1) / SCALE_M  # off by one to the other side
    return torch.cat([place_BTC, step_BTC], dim=-1), calendar_BTK


# %% tags=["wrong"]
def planted_inputs(batch):
    place_BTC, calendar_BTK = plain_inputs(batch)
    return torch.cat([place_BTC.roll(-1, dims=1), batch.step_BTF[..., :2]], dim=-1), calendar_BTK


# %% tags=["claim"]
squared = trained("last step", First(step_inputs, 3), squared_loss(our_target))
planted = trained("planted leak", First(planted_inputs, 3), squared_loss(our_target))
judge("plain and last step", lambda batch: SCALE_M * squared(batch)[:, :-1, :2])
judge("plain and planted leak", lambda batch: SCALE_M * planted(batch)[:, :-1, :2])
assert error_m["plain and last step"] < 0.85 * error_m["plain, in metres"]
assert error_m["plain and planted leak"] < 0.2 * error_m["plain and last step"]
loss_curve({name: losses[name] for name in ("in metres", "last step", "planted leak")}, "A leak")

# %% [markdown]
# **What to notice.** Whoever does not test for leaks sees only this: with the planted inputs the
# same model becomes wonderfully good. A loss that falls much lower than all others is a reason to
# look for a leak before it is a reason to rejoice. The planted model has learned to copy its answer,
# and knows nothing of vehicles.
#
# ## 5. A density instead of a squared error
#
# A squared error makes a model say one place, the mean. It cannot say how sure it is: a vehicle that
# waits at a light and one at a crossing get the same kind of answer. Let the model also say a spread
# $\sigma$: then it gives a density $p$ to each place where the vehicle might come next. The loss is the
# *surprise* $-\log p$ at what came, in nats (natural logarithms), and low is good. For a Gaussian in K
# dimensions with error $e$ it is
#
# $$ -\log p = \frac{|e|^2}{2\sigma^2} + K \log \sigma + \frac{K}{2} \log 2\pi $$
#
# With one $\sigma$ for all points, this is the squared error again, up to a factor and a constant. So the
# density contains the squared error, and the surprises of both can be compared.


# %%
def surprise(error_K: Tensor, spread: Tensor) -> Tensor:
    """Of an error, for a Gaussian of this spread, in nats."""
    num = error_K.shape[-1]
    fall = error_K.square().sum(-1) / (2 * spread**2)
    return fall + num * (spread.log() + 0.5 * math.log(2 * math.pi))


def told(model: First, batch: Batch) -> tuple[Tensor, ...]:
    """Mean and spread of the next step, in metres, and of the logarithm of its seconds."""
    east_BS, north_BS, code_BS, *log_BS = model(batch)[:, :-1].unbind(-1)
    spread_BS, width_BS = (one_BS.clamp(-5, 3).exp() for one_BS in log_BS)
    mean_BSC = torch.stack([east_BS, north_BS], dim=-1)
    return SCALE_M * mean_BSC, 0.1 + SCALE_M * spread_BS, code_BS, 0.02 + width_BS


def density_loss(model: First, batch: Batch) -> Tensor:
    mean_m_BSC, spread_m_BS, code_BS, width_BS = told(model, batch)
    place_BS = surprise(step_m_of(batch) - mean_m_BSC, spread_m_BS)
    off_BS = our_target(batch)[..., 2] - code_BS
    time_BS = surprise(off_BS[..., None], width_BS)
    return mean_over_steps(place_BS + time_BS, scored_targets(batch)[:, 1:])


density = trained("density", First(step_inputs, 5), density_loss)
judge("a density", lambda batch: told(density, batch)[0])


# %% tags=["claim"]
def scored(batches, value_of) -> Tensor:
    """Values (N) of the steps that are scored."""
    with torch.no_grad():
        return torch.cat([value_of(one)[scored_targets(one)[:, 1:]] for one in batches])


def own_spread(batch: Batch, model: First = density) -> Tensor:
    mean_m_BSC, spread_m_BS, *_ = told(model, batch)
    return surprise(step_m_of(batch) - mean_m_BSC, spread_m_BS)


def error_of(batch: Batch) -> Tensor:
    return step_m_of(batch) - SCALE_M * squared(batch)[:, :-1, :2]


spread_m = scored(epoch, error_of).square().mean().sqrt()  # the best one for all of train
nats = {
    "plain and last step": scored(test_batches, lambda b: surprise(error_of(b), spread_m)),
    "a density": scored(test_batches, own_spread),
}
nats = {name: value_N.mean().item() for name, value_N in nats.items()}
at_rest_N = scored(test_batches, lambda b: b.step_BTF[:, :-1, :2].norm(dim=-1) < 10)
spread_m_N = scored(test_batches, lambda b: told(density, b)[1])
for name, is_N in (("at rest", at_rest_N), ("moving", ~at_rest_N)):
    print(f"{name}: a spread of {spread_m_N[is_N].median():.0f} m")
assert nats["a density"] < nats["plain and last step"]
assert spread_m_N[at_rest_N].median() < 0.95 * spread_m_N[~at_rest_N].median()
mixture = torch.zeros(1), torch.zeros(1, 2), torch.full((1, 2), 7.0), torch.tensor([1.0, 0.0])
step_m_C = torch.tensor([3.0, 4.0])
theirs = -StepMixture(*mixture, reach_m=torch.tensor(1.0)).log_density(step_m_C)
assert_close(surprise(step_m_C, torch.tensor(7.0)), theirs)

# %% [markdown]
# **What to notice.** The first model says one place, with the spread that is best for all its
# errors. The second one says how sure it is, step by step: a vehicle at rest will more likely stay
# near. It is less surprised, but only a little. A round cloud is a poor picture of a street, along
# which a vehicle may be far, and beside which it hardly ever is.
#
# ## 6. The kinematic inputs, and all of chemin
#
# `chemin` by default reads no place and no degree at all. `point_features` gives the velocities over
# the last 1, 2, 4 and 8 points, in metres and seconds, the way since the first point, and the
# seconds of the last step. What is learned with them holds anywhere on Earth.
#
# Its last layers are richer as well. The head of steps is told how many seconds the next step takes,
# it damps and turns the recent velocities, and tells a *mixture of Gaussians* around their sum: several
# clouds, each with a weight. A second head tells the logarithm of the seconds. That is the whole family.


# %% tags=["claim"]
def kinematic_inputs(batch: Batch) -> tuple[Tensor, Tensor]:
    index_BT = index_of(batch.time_s_BT)
    points = batch.lon_deg_BT, batch.lat_deg_BT, batch.time_s_BT, batch.calendar_BTK
    seen = point_features(*points, index_BT, torch.zeros_like(index_BT), normaliser)
    return seen.spatial_BQS, seen.temporal_BQM


def next_step(model, batch: Batch) -> StepMixture:
    """What the project's chemin says of each next step, given its seconds."""
    hidden_BTD, velocity_BTLC = states(model, batch)
    return model.step_head(hidden_BTD[:, :-1], velocity_BTLC[:, :-1], batch.step_BTF[:, 1:, 2])


kinematic = trained("kinematic", First(kinematic_inputs, 5), density_loss)
judge("kinematic inputs", lambda batch: told(kinematic, batch)[0])
nats["kinematic inputs"] = scored(test_batches, lambda b: own_spread(b, kinematic)).mean().item()
whole = trained("chemin", chemin("kinematic"), lambda model, batch: model.loss(batch).mean)
judge("chemin", lambda batch: next_step(whole, batch).mean())
log_of = scored(test_batches, lambda b: next_step(whole, b).log_density(step_m_of(b)))
nats["chemin"] = -log_of.mean().item()
assert future_change(lambda batch: states(whole, batch)[0], probe, 3) < 1e-4
assert abs(error_m["a density"] - error_m["plain and last step"]) < 3
assert error_m["kinematic inputs"] < error_m["plain and last step"] + 1
assert error_m["chemin"] < 0.98 * min(error_m["kinematic inputs"], error_m["keep the velocity"])
assert min(error_m["a density"], error_m["kinematic inputs"]) > 0.95 * error_m["keep the velocity"]
assert nats["chemin"] < nats["kinematic inputs"] - 0.3
pd.DataFrame({"error in m": error_m, "surprise in nats": nats}).reindex(list(error_m)).round(2)

# %% [markdown]
# **What to notice.** The first two lines need no training. Each further one adds one thing, but for the
# planted leak, which is no gain. `NaN` stands where no density was asked for.
#
# - Motion at the input gained most. Without it the model is as bad as to stay, in degrees or metres.
#   With it the model is only as good as a vehicle that keeps its velocity. That one is told the seconds
#   of the next step, as `chemin` is, and only `chemin` beats it.
# - A density gained no metres, and was not meant to: it tells how sure the model is.
# - Kinematic inputs gained little here, where all vehicles drive in one town. They are made for what
#   the table does not ask: other places, and steps of other lengths.
# - The heads of `chemin` gained the rest. Besides, its clouds are long along the way and narrow across.
#   That shows in nats more than in metres.
#
# ## 7. A fan on the sphere
#
# One step is not a forecast. For more, the model answers itself: draw a step from the density, walk
# it on the sphere, read the new point as if it had been reported, and go on. Many such walks are a
# *fan*. The times of the points are given here, and only places are asked. All that is needed is
# this loop, in which S counts walks and H points ahead. The project's `forecast` gives the same walks
# for the same random numbers (`noise`), and is faster, for it keeps keys and values.


# %%
KNOWN, AHEAD, NUM_SAMPLES = 20, 15, 60


def walked(model, context: Context, time_s_BH: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
    """Samples of one trip: longitudes and latitudes (S, H)."""
    rows_S = torch.zeros(NUM_SAMPLES).long()
    lon_deg, lat_deg, time_s = (
        getattr(context, name)[rows_S] for name in ("lon_deg_BT", "lat_deg_BT", "time_s_BT")
    )
    for step in range(AHEAD):
        calendar = calendar_at(context.started_us_B[rows_S], time_s, "UTC")
        hidden, velocity = model.encode(lon_deg, lat_deg, time_s, calendar, index_of(time_s))
        next_s_S = time_s_BH[rows_S, step]
        density = model.step_head(
            hidden[:, -1], velocity[:, -1], (next_s_S - time_s[:, -1]).float()
        )
        draws = noise.uniform_SHE[:, step, 1], noise.normal_SHE[:, step, 1:]
        step_m_SC = density.sample(*draws).double()
        lon_S, lat_S = step_from(lon_deg[:, -1], lat_deg[:, -1], *step_m_SC.unbind(-1))
        lon_deg, lat_deg, time_s = (
            torch.cat([old, new[:, None]], dim=1)
            for old, new in [(lon_deg, lon_S), (lat_deg, lat_S), (time_s, next_s_S)]
        )
    return lon_deg[:, -AHEAD:], lat_deg[:, -AHEAD:]


# %%
columns = ("lon_deg_T", "lat_deg_T", "true_lon_deg_T", "true_lat_deg_T", "tracked_us_T")
lon_NT, lat_NT, true_lon_NT, true_lat_NT, tracked_us_NT = (
    torch.from_numpy(np.stack([getattr(trip, name) for trip in tested[:60]])) for name in columns
)
time_s_NT = (tracked_us_NT - tracked_us_NT[:, :1]) / 1e6
until, ahead = slice(None, KNOWN), slice(KNOWN, KNOWN + AHEAD)
known = (lon_NT[:, until], lat_NT[:, until], time_s_NT[:, until].double())
is_pad = torch.zeros(known[0].shape).bool()
contexts = Context(*known, tracked_us_NT[:, 0], "UTC", is_pad)
time_s_NH = time_s_NT[:, ahead].double()
with torch.no_grad():
    found = whole.forecast(contexts, AHEAD, time_s_NH, NUM_SAMPLES, 3)
    by_hand = walked(
        whole, contexts.at(slice(0, 1)), time_s_NH[:1], Noise.drawn(NUM_SAMPLES, AHEAD, 3)
    )
assert_close(by_hand[0], found.sample_lon_deg_BSH[0], rtol=0, atol=1e-6)
assert_close(by_hand[1], found.sample_lat_deg_BSH[0], rtol=0, atol=1e-6)
true_deg = tuple(axis_NT[0, KNOWN - 1 : KNOWN + AHEAD] for axis_NT in (true_lon_NT, true_lat_NT))
track_map({"known": (known[0][0], known[1][0]), "true": true_deg}, "A fan of walks", by_hand)

# %% tags=["claim"]
true_places = true_lon_NT[:, ahead], true_lat_NT[:, ahead]
away_m_NH = haversine_m(found.lon_deg_BH, found.lat_deg_BH, *true_places)
share_H = (away_m_NH < found.radius_p80_m_BH).double().mean(dim=0)
print(f"forecasts are off by {away_m_NH[:, 0].mean():.0f} and {away_m_NH[:, -1].mean():.0f} m")
print(f"in circles of 80 %: {share_H[0]:.0%} after one step, {share_H[-1]:.0%} after {AHEAD}")
start = (axis_NT[:, KNOWN - 1 : KNOWN] for axis_NT in (lon_NT, lat_NT))
moved_m_NH = haversine_m(*start, *true_places)
print(f"from where they were: {moved_m_NH[:, 0].mean():.0f} and {moved_m_NH[:, -1].mean():.0f} m")
assert away_m_NH[:, 0].mean() < 0.9 * moved_m_NH[:, 0].mean()
assert 0.8 < away_m_NH[:, -1].mean() / moved_m_NH[:, -1].mean() < 1.2
assert 0.65 < share_H[0] < 0.95
assert share_H[-1] > 0.85
last = (lon_NT[0, KNOWN - 1], lat_NT[0, KNOWN - 1])
since_s_T = time_s_NT[0] - time_s_NT[0, KNOWN - 1]
fan(
    (since_s_T[until], haversine_m(*last, lon_NT[0, until], lat_NT[0, until])),
    since_s_T[ahead],
    haversine_m(*last, *by_hand),
    "How far it will be from where it is",
    ("seconds", "metres"),
    haversine_m(*last, true_lon_NT[0, ahead], true_lat_NT[0, ahead]),
)

# %% [markdown]
# **What to notice.** Walks go straight on, stop, or turn at any place, for the model has no map: it
# does not know where the streets are. Is the fan as wide as it says? Of many vehicles, four fifths
# of the true places should lie in the circle that holds four fifths of the samples. After one step
# that is nearly so. After fifteen steps more than that lie in it: the walks spread too far. And as a
# single answer the forecast is then hardly better than to say that the vehicle stays, since turns are
# chance. A fan that admits it is worth more than a line that does not.
#
# ## What can go wrong: a batch that is read as one
#
# The published CheminTF brings its features to ordinary size by their mean and spread over **the
# batch and its time axis**, pads included, at each call. Then what the model says of a point depends
# on the points after it, and also on which other trips happen to be in the batch. Asked about one
# trip, it gives another answer than the test did.
#
# Two more defects of the same code need no model to be seen. It averages its loss over pads as well,
# whose targets are zero, and so pulls every answer to zero: the constant that is best for all slots
# of a padded batch is no typical time of a step. And it takes errors in degrees. At 56 degrees north
# a degree of longitude is much shorter than one of latitude, so the same 100 metres cost more to the
# east than to the north. The questions that find them: **does the loss change when I append pads,
# and when I turn the map?**
#
# ### Exercise 4: alone, or with others
#
# The leak test of exercise 2 finds that the future is read. Write a test that finds the neighbours:
# tell the largest change of what is said about a trip when it is asked alone, in a batch of one,
# instead of with the others. `batch.part(row, row + 1)` is a batch of one trip.


# %% tags=["exercise"]
def alone_change(say, batch: Batch) -> float:
    """The largest change of what is said of any trip when it is asked alone."""
    # BEGIN SOLUTION: say the batch, then each row of it alone; the largest difference of all rows
    with torch.no_grad():
        together_BTN = say(batch)
        alone = [say(batch.part(row, row + 1)) for row in range(len(together_BTN))]
    return float((torch.cat(alone) - together_BTN).abs().max())
    # END SOLUTION


# %% tags=["check"]
def by_batch(batch: Batch) -> tuple[Tensor, Tensor]:
    """The published way: mean and spread of whatever is in the batch."""
    place_deg_BTC = torch.stack([batch.lon_deg_BT, batch.lat_deg_BT], dim=-1)
    center_C, width_C = place_deg_BTC.mean((0, 1)), place_deg_BTC.std((0, 1))
    return ((place_deg_BTC - center_C) / width_C).float(), batch.calendar_BTK


published = First(by_batch, 3).eval()
for inputs in (plain_inputs, step_inputs, kinematic_inputs):
    assert alone_change(First(inputs, 3).eval(), probe) < 1e-4, (
        "a model is accused that reads no neighbour"
    )
assert alone_change(lambda b: b.lon_deg_BT - b.lon_deg_BT.mean(1, keepdim=True), probe) < 1e-9
assert alone_change(published, probe) > 0.05, "batch statistics are not found"
leak = alone_change(lambda b: b.lon_deg_BT - b.lon_deg_BT[:1], probe)
assert leak > 1e-3, "not found: all trips read the first one"
assert alone_change(lambda b: b.lon_deg_BT.cumsum(0), probe) > 1e-3, "not found: rows above"
print(f"right: alone, what is said changes by {alone_change(published, probe):.2f}")


# %% tags=["wrong"]
def alone_change(say, batch):
    together, alone = say(batch), say(batch.part(0, 1))  # the first trip only
    return float((alone - together[:1]).abs().max())


# %% tags=["wrong"]
def alone_change(say, batch):
    return float((say(batch) - say(batch)).abs().max())  # the same batch twice


# %% tags=["claim"]
assert future_change(published, probe, 3) > 0.01  # the future is read
assert alone_change(published, probe) > 0.05  # and the neighbours
[padded] = read("test", len(TEST), num_epochs=1)
step_s_BS, is_step_BS = padded.step_BTF[:, 1:, 2], scored_targets(padded)[:, 1:]
with_pads_s, without_s = float(step_s_BS.mean()), float(mean_over_steps(step_s_BS, is_step_BS))
print(
    f"best constant for the seconds of a step: {with_pads_s:.1f} with pads, {without_s:.1f} without"
)
home = torch.tensor([world.lon_deg, world.lat_deg]).double()
costs = []
for east_m, north_m in ((100.0, 0.0), (0.0, 100.0)):
    moved = torch.stack(step_from(*home, *torch.tensor([east_m, north_m]).double()))
    costs.append(float((1000 * (moved - home)).square().sum()))
print(f"the same 100 m cost {costs[0]:.2f} to the east and {costs[1]:.2f} to the north")
assert with_pads_s < 0.8 * without_s
assert 3 < costs[0] / costs[1] < 3.4

# %% [markdown]
# The cures are all in this notebook: scales that are fitted on train once and kept with the model, a
# loss that is a sum over what is scored and divided by its number, and steps in metres.
#
# ## Summary
#
# A first trajectory model is a projection of what is known of each point, some causal blocks, and a
# head that tells the next step, best as a density in metres and seconds. It gained most from its
# inputs: motion beside places. Two tests belong to every model, whatever it is made of: change the
# future, and nothing said of the past may change; ask alone, and the answer must stay.
#
# **Next:** `08_gaps_and_masks`, how do you fill what is missing?
