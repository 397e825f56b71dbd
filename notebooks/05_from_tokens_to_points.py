# %% [markdown]
# # Why can coordinates not be tokens, or can they?
#
# A language model reads tokens from a finite list. A storm is a list of places and times, and there is
# no list of all places. This notebook turns points into numbers that a network can learn from, and
# shows what each way costs: in metres, in seconds, and in places that were never seen before. Most
# published faults of trajectory models lie here, long before the first layer.
#
# When you have worked through this notebook, you will be able to
#
# - say what a vocabulary of cells loses, and what a continuous projection keeps;
# - encode a track as steps in metres and seconds, and get it back to the millimetre;
# - tell why neither degrees nor the seconds since 1970 belong into a network;
# - write the question that finds swapped coordinates.
#
# You need some Python, and what a tensor is (notebook 02). Shapes are said by the ends of names, as
# before: T counts the points of a track, S its steps, N any points, C cells and K numbers.

# %%
import numpy as np
import torch
from torch import Tensor
from torch.testing import assert_close

from model.earth.calendar import calendar_features
from model.earth.cells import cells_of, centres_of
from model.earth.constants import EARTH_RADIUS_M
from model.earth.geometry import haversine_m, step_between, step_from
from notebooks.pictures import heat_map, lines, track_map
from notebooks.tracks import storm, storms

# %% [markdown]
# ## 1. A degree is no unit of length
#
# A degree of latitude is 111 km everywhere. A degree of longitude is as long only on the equator:
# meridians meet at the poles, so it shrinks with the cosine of the latitude.
#
# $$ \text{north} = R \, \Delta\varphi \qquad \text{east} = R \, \cos\varphi \, \Delta\lambda $$
#
# Here $\varphi$ is the latitude and $\lambda$ the longitude, both in radians, and $R$ is the radius of
# the Earth, `EARTH_RADIUS_M` in code. To measure, we use `haversine_m`, the distance in metres along
# the great circle.

# %%
lat_deg_N = torch.arange(0.0, 90.0, dtype=torch.float64)
zero_N = torch.zeros_like(lat_deg_N)
east_km_N = haversine_m(zero_N, lat_deg_N, zero_N + 1, lat_deg_N) / 1000
north_km_N = haversine_m(zero_N, lat_deg_N, zero_N, lat_deg_N + 1) / 1000
lines(
    {"one degree east": (lat_deg_N, east_km_N), "one degree north": (lat_deg_N, north_km_N)},
    "How long a degree is",
    ("latitude in degrees", "kilometres"),
)

# %% [markdown]
# **What to notice.** In Denmark, at 56 degrees north, a degree east is 62 km and a degree north
# 111 km. A network that is trained on the squared error in degrees thinks both are the same. An error
# of a kilometre to the east then counts three times as much as one to the north, for $(111/62)^2$ is
# about 3.2.

# %% tags=["claim"]
assert abs(east_km_N[56] - 62) < 0.5
assert abs(north_km_N[56] - 111) < 0.5
assert abs((north_km_N[56] / east_km_N[56]) ** 2 - 3.2) < 0.05

# %% [markdown]
# ## 2. Cells as tokens
#
# The Earth can be cut into cells, and each cell be given a number. Then a track is a sentence, and all
# of a language model can be used. We take the hexagons of H3, whose resolution says how small they
# are, and the storms that come with the project. The *vocabulary*, the list of known cells, holds those
# that storms before 2010 went through. It is asked about the storms from 2010 on.

# %%
past, later = (
    [track for track in storms() if (track.year < 2010) == is_past] for is_past in (True, False)
)
places = {
    name: [
        np.concatenate([getattr(track, axis) for track in tracks])
        for axis in ("lon_deg_T", "lat_deg_T")
    ]
    for name, tracks in (("past", past), ("later", later))
}
resolutions = (0, 1, 2, 3, 4, 5)
unseen_share, error_km, vocabulary = [], [], []
for resolution in resolutions:
    known_C = np.unique(cells_of(*places["past"], resolution))
    cell_N = cells_of(*places["later"], resolution)
    centres = [torch.from_numpy(axis_N) for axis_N in centres_of(cell_N)]
    truth = [torch.from_numpy(axis_N) for axis_N in places["later"]]
    unseen_share.append(float(1 - np.isin(cell_N, known_C).mean()))
    error_km.append(float(haversine_m(*truth, *centres).mean()) / 1000)
    vocabulary.append(len(known_C))

# %% [markdown]
# Two things go wrong with a cell. The model can say only which cell it is, not where in it: the
# *quantisation error* is the distance from a place to the middle of its cell. And a cell that was
# never visited in training is a word without a meaning.

# %%
for resolution, num_cells, unseen, error in zip(
    resolutions, vocabulary, unseen_share, error_km, strict=True
):
    print(
        f"resolution {resolution}: {num_cells:6,} cells, {unseen:5.1%} unseen, {error:5.0f} km off"
    )
lines(
    {"later points": (error_km, np.array(unseen_share) * 100)},
    "The price of cells",
    ("distance to the middle of the cell in km", "points in unseen cells in %"),
    is_log_x=True,
)

# %% [markdown]
# **What to notice.** No size is good for both. At resolution 3 one point in twenty lies in a cell
# that no storm before 2010 has touched, and the answer is 44 km off even where the cell is right,
# farther than most storms move in two hours. With smaller cells the first gets worse, with larger
# ones the second.
#
# So coordinates *can* be tokens, at a price. Where places repeat, as the homes and shops of people do,
# the price is low, and notebook 10 pays it. Storms do not repeat.

# %% tags=["claim"]
assert sorted(unseen_share) == unseen_share
assert sorted(error_km, reverse=True) == error_km
assert abs(unseen_share[3] - 1 / 20) < 0.005
assert abs(error_km[3] - 44) < 1
lon_N, lat_N = (torch.from_numpy(axis_N) for axis_N in places["later"])
in_six_hours_m_N = haversine_m(lon_N[:-1], lat_N[:-1], lon_N[1:], lat_N[1:])
assert in_six_hours_m_N.median() / 3 < 44_000

# %% [markdown]
# ## 3. A continuous projection
#
# The other way needs no list. An embedding table gives each token a vector of its own; a *linear
# projection* gives each place $x$ the vector $x W$ with one matrix $W$ for all. What a network has
# learnt at one place, it can use nearby, for near places have near vectors. In a table, neighbours are
# strangers. We move away from a place, to the east, and see how far its vector is left behind.

# %%
draw = torch.Generator().manual_seed(4)
apart_km_N = torch.arange(401.0)
place_N2 = torch.stack([apart_km_N / 400, torch.zeros(401)], dim=1)  # places to the east of a start
weight_2K = torch.randn(2, 64, generator=draw)
projected_N = (place_N2 @ weight_2K).norm(dim=1)

east_deg_N = (apart_km_N / 111).numpy().astype(float)
cell_N = cells_of(east_deg_N, np.zeros(401), 3)
table = {cell: torch.randn(64, generator=draw) for cell in np.unique(cell_N)}
in_table_N = torch.stack([(table[cell] - table[cell_N[0]]).norm() for cell in cell_N])
lines(
    {"projection": (apart_km_N, projected_N), "table of cells": (apart_km_N, in_table_N)},
    "How far two vectors lie apart",
    ("distance of the places in km", "distance of the vectors"),
)

# %% [markdown]
# **What to notice.** In the projection the vectors move apart as the places do. In the table each step
# of the line is a cell. Within the first one nothing changes, and a kilometre beyond its edge the
# vectors are about as far apart as they will ever be.
#
# ## 4. Steps in metres
#
# A projection does not say *what* is projected. Longitude and latitude would be a poor choice, as
# section 1 has shown. And a model that sees absolute places can learn only about places that it has
# seen: what it learnt of a turn near Florida would not help it near Japan. So we describe a track by
# its first place and by the steps from each point to the next, in metres to the east and to the
# north. This is the *delta encoding*.
#
# The hurricane John of 1994 is our test, since it crossed the date line twice: there its longitude
# jumps from one side of the map to the other, though the storm does not. (A square marks where a track
# begins.)

# %%
john = storm("EP101994")
print(
    f"largest change of longitude in six hours: {np.abs(np.diff(john.lon_deg_T)).max():.1f} degrees"
)
track_map({"John, 1994": (john.lon_deg_T, john.lat_deg_T)}, "A storm over the date line")

# %% [markdown]
# ### Exercise 1: encode a track, and decode it
#
# Use the two formulas of section 1. The cosine is that of the latitude where the step begins. Take
# care of the date line on both ways: a step from 179.8 to -179.6 degrees goes 0.6 degrees to the east,
# and a decoded longitude lies from -180 up to, and not including, 180. (In Python and torch,
# `(x + 180) % 360 - 180` does this.)


# %% tags=["exercise"]
def encode(lon_deg_T: Tensor, lat_deg_T: Tensor) -> Tensor:
    """The steps in metres, (T - 1, 2), to the east and to the north."""
    # BEGIN SOLUTION: differences in degrees, the eastern ones wrapped; radians; times R, and cos
    turn_deg_S = (lon_deg_T.diff() + 180) % 360 - 180
    north_m_S = lat_deg_T.diff().deg2rad() * EARTH_RADIUS_M
    east_m_S = turn_deg_S.deg2rad() * EARTH_RADIUS_M * lat_deg_T[:-1].deg2rad().cos()
    return torch.stack([east_m_S, north_m_S], dim=1)
    # END SOLUTION


def decode(lon_deg: Tensor, lat_deg: Tensor, step_m_S2: Tensor) -> tuple[Tensor, Tensor]:
    """All longitudes and latitudes again, from the first place and the steps."""
    # BEGIN SOLUTION: sum up the latitudes first, for the longitudes need their cosines
    north_deg_S = (step_m_S2[:, 1] / EARTH_RADIUS_M).rad2deg()
    lat_deg_T = lat_deg + torch.cat([torch.zeros(1), north_deg_S]).cumsum(0)
    cosine_S = lat_deg_T[:-1].deg2rad().cos()
    east_deg_S = (step_m_S2[:, 0] / EARTH_RADIUS_M / cosine_S).rad2deg()
    lon_deg_T = lon_deg + torch.cat([torch.zeros(1), east_deg_S]).cumsum(0)
    return (lon_deg_T + 180) % 360 - 180, lat_deg_T
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(6)
east_walk_T, north_walk_T = torch.randn(2, 200, generator=draw, dtype=torch.float64).cumsum(1)
tracks = {
    "John": (torch.from_numpy(john.lon_deg_T), torch.from_numpy(john.lat_deg_T)),
    "a walk in the north": ((east_walk_T / 10 + 180 + 180) % 360 - 180, 70 + north_walk_T / 10),
    "a walk in the south": (east_walk_T / 10, -33 + north_walk_T / 10),
}
for name, (lon_T, lat_T) in tracks.items():
    steps_S2 = encode(lon_T, lat_T)
    truth_m_S = haversine_m(lon_T[:-1], lat_T[:-1], lon_T[1:], lat_T[1:])
    is_as_long = (steps_S2.norm(dim=1) - truth_m_S).abs() < 0.05 * truth_m_S + 100
    assert is_as_long.all(), f"{name}: a step is not as long as the way"
    back_lon_T, back_lat_T = decode(lon_T[0], lat_T[0], steps_S2)
    missed_m = haversine_m(lon_T, lat_T, back_lon_T, back_lat_T).max()
    assert missed_m < 0.001, f"{name}: decoded places are up to {missed_m:,.3f} m off"
    assert ((back_lon_T >= -180) & (back_lon_T < 180)).all(), f"{name}: longitudes leave the map"
print("right: every track comes back to the millimetre")


# %% tags=["wrong"]
def encode(lon_deg_T, lat_deg_T):
    north_m_S = lat_deg_T.diff().deg2rad() * EARTH_RADIUS_M
    east_m_S = lon_deg_T.diff().deg2rad() * EARTH_RADIUS_M * lat_deg_T[:-1].deg2rad().cos()
    return torch.stack([east_m_S, north_m_S], dim=1)  # once around the Earth at the date line


def decode(lon_deg, lat_deg, step_m_S2):
    north_deg_S = (step_m_S2[:, 1] / EARTH_RADIUS_M).rad2deg()
    lat_deg_T = lat_deg + torch.cat([torch.zeros(1), north_deg_S]).cumsum(0)
    east_deg_S = (step_m_S2[:, 0] / EARTH_RADIUS_M / lat_deg_T[:-1].deg2rad().cos()).rad2deg()
    lon_deg_T = lon_deg + torch.cat([torch.zeros(1), east_deg_S]).cumsum(0)
    return (lon_deg_T + 180) % 360 - 180, lat_deg_T


# %% tags=["wrong"]
def encode(lon_deg_T, lat_deg_T):
    turn_deg_S = (lon_deg_T.diff() + 180) % 360 - 180
    step_deg_S2 = torch.stack([turn_deg_S, lat_deg_T.diff()], dim=1)
    return step_deg_S2.deg2rad() * EARTH_RADIUS_M  # a degree east as long as one north


def decode(lon_deg, lat_deg, step_m_S2):
    step_deg_S2 = (step_m_S2 / EARTH_RADIUS_M).rad2deg()
    lon_deg_T, lat_deg_T = torch.cat([torch.zeros(1, 2), step_deg_S2]).cumsum(0).T
    return (lon_deg + lon_deg_T + 180) % 360 - 180, lat_deg + lat_deg_T


# %% [markdown]
# The project goes along great circles instead: `step_between` gives the step in the direction in which
# one sets out, and `step_from` goes it. For steps of a storm both ways differ little. At a pole ours
# has no east any more, since the cosine is zero, and theirs still works.

# %% tags=["claim"]
lon_T, lat_T = tracks["John"]
theirs_m_S2 = torch.stack(step_between(lon_T[:-1], lat_T[:-1], lon_T[1:], lat_T[1:]), dim=1)
away_m_S = (encode(lon_T, lat_T) - theirs_m_S2).norm(dim=1)
print(
    f"John: the two differ by at most {away_m_S.max():,.0f} m, in steps up to {theirs_m_S2.norm(dim=1).max():,.0f} m"
)
assert (away_m_S < 0.04 * theirs_m_S2.norm(dim=1) + 100).all()
pole = torch.tensor([0.0, 180.0], dtype=torch.float64), torch.full((2,), 89.9, dtype=torch.float64)
over_the_pole_m = torch.stack(step_between(pole[0][0], pole[1][0], pole[0][1], pole[1][1]))
assert 22_000 < over_the_pole_m.norm() < 22_500  # a tenth of a degree up, and one down
assert encode(*pole).norm() > 34_000  # half around the pole
assert_close(step_from(pole[0][0], pole[1][0], *over_the_pole_m)[1], pole[1][1])

# %% [markdown]
# ## 5. Seconds, and clocks
#
# A network computes in `float32`, which has about seven digits. The seconds since 1970 have ten.

# %%
minutes_s_T = 1_700_000_000 + 60 * torch.arange(8, dtype=torch.float64)
print("true steps:   ", minutes_s_T.diff().tolist())
print("after float32:", minutes_s_T.float().diff().tolist())

# %% [markdown]
# **What to notice.** Of reports a minute apart, two share one moment, and the next two come 128 seconds
# later: numbers of this size have gaps of 128 in `float32`. Two published models read time in this way.
# One of them, CheminTF, asserts that times are `float64`, and then rounds them all the same. The cure
# is to take differences first, in `float64`, and to round then.

# %% tags=["claim"]
assert set(minutes_s_T.float().diff().tolist()) == {0.0, 128.0}
assert minutes_s_T.diff().float().tolist() == [60.0] * 7
now = torch.tensor(1.7e9)
assert torch.nextafter(now, now + 1000) - now == 128

# %% [markdown]
# Steps lose what a clock says: that people sleep, and that hurricanes come in autumn. A clock goes in
# circles, though: 23:00 is next to 00:00, and the numbers 23 and 0 are not. So each field of the
# calendar becomes a place on a circle, its sine and its cosine.
#
# $$ \left( \sin \tfrac{2\pi h}{24}, \; \cos \tfrac{2\pi h}{24} \right) $$

# %%
hour_T = torch.arange(24)
by_hand_T2 = torch.stack([f(2 * torch.pi * hour_T / 24) for f in (torch.sin, torch.cos)], dim=1)
instant_us_T = hour_T.numpy() * 3_600_000_000  # the first day of 1970
theirs_TK = calendar_features(instant_us_T, "UTC")  # pairs for weekday, hour, minute and second
assert_close(by_hand_T2, torch.from_numpy(theirs_TK[:, 2:4]))
apart_TT = torch.cdist(by_hand_T2, by_hand_T2)
heat_map(apart_TT, "How far two hours lie apart", "hour", "hour", "distance on the circle")

# %% [markdown]
# **What to notice.** The corners are dark: midnight is near to both of its neighbours.
#
# ## What can go wrong: longitude and latitude change places
#
# Half of the world writes longitude first, the other half latitude. In CheminTF one function gives
# (longitude, latitude) and the next one takes (latitude, longitude). A point in Denmark, at 56 degrees
# north and 8 degrees east, was encoded in a zone of the map off Somalia. This code does the same:


# %%
def places_of(track) -> Tensor:
    return torch.from_numpy(np.stack([track.lon_deg_T, track.lat_deg_T], axis=1))


def steps_with_the_fault(place_T2: Tensor) -> Tensor:
    lat_deg_T, lon_deg_T = place_T2.unbind(dim=1)
    return encode(lon_deg_T, lat_deg_T)


# %% [markdown]
# Nothing fails. The decoder has the same fault, so that even the round trip of exercise 1 is perfect,
# and the model learns something. But the lengths are not those of the world: swapped, a step is
# measured at another place of the Earth, and a degree east as if it went north.
#
# ### Exercise 2: the question that finds it
#
# Write a test for an encoder that takes `place_T2`, (longitude, latitude) in degrees, and gives steps in
# metres. It shall tell whether the encoder has swapped the two. You know how far one degree to the east
# is at 60 degrees north.


# %% tags=["exercise"]
def is_swapped(encoder) -> bool:
    """Whether an encoder takes longitudes for latitudes."""
    # BEGIN SOLUTION: encode two points, one degree apart, and look at the length of the step
    east_T2 = torch.tensor([[10.0, 60.0], [11.0, 60.0]], dtype=torch.float64)
    [[east_m, north_m]] = encoder(east_T2).tolist()
    return abs(north_m) > 1_000 or abs(east_m - 55_600) > 1_000
    # END SOLUTION


# %% tags=["check"]
def rightly(place_T2):
    return encode(*place_T2.unbind(dim=1))


def along_great_circles(place_T2):
    starts, ends = place_T2[:-1].unbind(1), place_T2[1:].unbind(1)
    return torch.stack(step_between(*starts, *ends), dim=1)


assert not is_swapped(rightly), "a right encoder is called swapped"
assert not is_swapped(along_great_circles), "a right encoder is called swapped"
assert is_swapped(steps_with_the_fault), "the fault is not found"
assert is_swapped(lambda place_T2: rightly(place_T2.flip(1)).flip(1)), (
    "not found: steps swapped too"
)
print("right: the question finds swapped coordinates")


# %% tags=["wrong"]
def is_swapped(encoder):
    place_T2 = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    return bool(encoder(place_T2).norm() > 112_000)  # on the equator both are alike


# %% tags=["wrong"]
def is_swapped(encoder):
    place_T2 = torch.tensor([[10.0, 60.0], [11.0, 60.0]], dtype=torch.float64)
    east_m, north_m = encoder(place_T2)[0].tolist()
    return abs(north_m) > abs(east_m)  # not the length, which is wrong as well


# %% [markdown]
# ### Exercise 3: mend the code
#
# Write `steps_with_the_fault` again, without the fault.


# %% tags=["exercise"]
def steps_of(place_T2: Tensor) -> Tensor:
    """The steps in metres of places (longitude, latitude) in degrees."""
    # BEGIN SOLUTION: take the columns in the order in which they are given
    lon_deg_T, lat_deg_T = place_T2.unbind(dim=1)
    return encode(lon_deg_T, lat_deg_T)
    # END SOLUTION


# %% tags=["check"]
assert not is_swapped(steps_of)
assert_close(steps_of(places_of(john)), encode(*tracks["John"]))
print("right: the steps of John")


# %% tags=["wrong"]
def steps_of(place_T2):
    return steps_with_the_fault(place_T2).flip(1)  # east and north are named rightly again


# %% [markdown]
# ## Summary
#
# Coordinates can be tokens where places repeat; elsewhere cells are unseen or coarse, and a continuous
# projection of steps in metres and seconds is better. An encoding is right when it comes back to the
# millimetre **and** its steps are as long as the way was: either alone misses a published fault. Take
# differences of times in `float64`, before anything is rounded.
#
# **Next:** `06_pretext_autoencoder`, is the information still there?
