# %% [markdown]
# # How do we make new trajectories?
#
# A forecast goes on from what happened. To *generate* is to make trajectories up that never
# happened, and that look as if they could have: to fill a simulation, to ask "what if", or to pass
# on data that must not be passed on. A *diffusion model* does it in an odd way. It learns to take
# noise away, a little at a time, and then it begins with nothing but noise. This notebook builds
# one, and asks the harder question: how do we know that what it makes is any good?
#
# When you have worked through this notebook, you will be able to
#
# - turn a storm into noise by a schedule that really ends in noise;
# - train a network to tell noise from signal, and sample from it in twenty steps;
# - recover hidden points with the same network, by training that shows it the known ones;
# - judge made-up trajectories beside real ones, and say why each measure needs a floor;
# - find out a generator that only copies what it was trained on.
#
# You need notebooks 02, 05 and 08. Every number is computed here. At the end of names, N counts
# things of any kind, T the points of a track, S its steps or levels of noise, C the coordinates
# east and north, F the numbers of a step, and G the tracks that are made from one start.

# %%
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from model.earth.frame import Frame
from model.families.gdm.denoiser import waves_of
from model.families.gdm.diffusion import ddim, noise_of, noised, signal_of, velocity_of
from model.features.point_features import steps_of
from notebooks.latent import latent_view
from notebooks.pictures import histogram_pair, lines, loss_curve, track_map
from notebooks.tracks import storms

# %% [markdown]
# ## 1. A storm turns into noise
#
# Our tracks are storms of the Atlantic and the Pacific since 1980, in pieces of five days: twenty
# reports, six hours apart. Every fourth storm is kept for the *test*, with all of its pieces. The
# others, *train*, are there to learn from.
#
# We tell a storm by its steps, in metres to the east and to the north, scaled to mean zero and
# variance one over all steps of train. Call these numbers $x_0$. Let $e$ be as many numbers of pure
# noise, drawn from a Gaussian of mean zero and variance one. At the time $t$ of a diffusion, from 0
# to 1, both are mixed:
#
# $$ x_t = a_t \, x_0 + s_t \, e \qquad a_t = \cos(\pi t / 2) \qquad s_t = \sin(\pi t / 2) $$
#
# $a$ is the share of the signal and $s$ that of the noise. Since $a^2 + s^2 = 1$, the variance is
# one at every time. The time of a diffusion has nothing to do with hours: it says how much noise
# there is.


# %%
def pieces(is_test: bool) -> tuple[Tensor, np.ndarray]:
    """Longitudes, latitudes and seconds of pieces of storms, (3, N, 20), and whose they are (N)."""
    found, storm_N = [], []
    for number, track in enumerate(storms(20)):
        is_even_T = track.time_s_T % 21_600 == 0
        points_3T = np.stack([track.lon_deg_T, track.lat_deg_T, track.time_s_T])[:, is_even_T]
        for start in range(0, points_3T.shape[1] - 19, 10):
            piece_3T = points_3T[:, start : start + 20]
            is_chosen = track.year >= 1980 and (number % 4 == 0) == is_test
            if is_chosen and (np.diff(piece_3T[2]) == 21_600).all():
                found.append(piece_3T)
                storm_N.append(number)
    return torch.from_numpy(np.stack(found, axis=1)), np.array(storm_N)


train_3NT, train_storm_N = pieces(is_test=False)
test_3NT, test_storm_N = pieces(is_test=True)
print(f"{train_3NT.shape[1]:,} pieces of {len(set(train_storm_N))} storms to learn from")
print(f"{test_3NT.shape[1]:,} pieces of {len(set(test_storm_N))} other storms for the test")


# %% tags=["claim"]
def shares(time: float) -> tuple[float, float]:
    """The share of the signal and that of the noise."""
    return math.sin(math.pi / 2 * (1 - time)), math.sin(math.pi / 2 * time)


step_m_NSC = steps_of(*train_3NT)[:, 1:, :2]
MEAN_M_C, SPREAD_M_C = step_m_NSC.mean(dim=(0, 1)), step_m_NSC.std(dim=(0, 1), correction=0)
clean_NSC = (step_m_NSC - MEAN_M_C) / SPREAD_M_C
draw = torch.Generator().manual_seed(1)
noise_NSC = torch.randn(clean_NSC.shape, generator=draw).double()
number = [one.storm_id for one in storms(20)].index("AL112004")
JEANNE = int(np.flatnonzero(test_storm_N == number)[2])  # its third piece
jeanne_3T = test_3NT[:, JEANNE]
jeanne_SC = (steps_of(*jeanne_3T)[1:, :2] - MEAN_M_C) / SPREAD_M_C
tracks, start = {}, Frame(*jeanne_3T[:2, 0].tolist())
for time in (0.0, 0.2, 0.5, 1.0):
    (signal, share), now = shares(time), torch.tensor(time).double()
    assert_close((signal, share), (float(signal_of(now)), float(noise_of(now))))
    x_NSC = signal * clean_NSC + share * noise_NSC
    assert_close(x_NSC, noised(clean_NSC, noise_NSC, now))  # the project's
    assert abs(x_NSC.var() - 1) < 0.02
    step_m_SC = (signal * jeanne_SC + share * noise_NSC[0]) * SPREAD_M_C + MEAN_M_C
    place_m_CT = functional.pad(step_m_SC.cumsum(dim=0), (0, 0, 1, 0)).T.contiguous()
    tracks[f"t = {time}"] = start.degrees(*place_m_CT.numpy())
assert torch.equal(x_NSC, noise_NSC)  # at the end there is nothing left of any storm
track_map(tracks, "Jeanne, 2004, and the same with more and more noise")

# %% [markdown]
# **What to notice.** A little noise shakes the track, and half-way one can still guess where the
# storm went. At $t = 1$ the signal has the share zero: what is left is a walk at random, the same
# for any storm. (The code writes the cosine as a sine, since the cosine of $\pi/2$ is not quite
# zero in a computer.)
#
# That the end is pure noise is no matter of course. The first diffusion models, and TrajGDM, a
# published one of trajectories, add noise in a thousand small steps. Their last $a$ is what is left
# after all of them.
#
# ### Exercise 1: a schedule that ends in noise
#
# You are given the shares of the signal $a$ of some schedule, in falling order. Stretch them, so
# that the last one is **exactly** zero, the first one stays as it is, and all differences between
# neighbours stay in proportion. Give back the new shares of the signal, and those of the noise.


# %% tags=["exercise"]
def ends_in_noise(signal_S: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the signal, which end at zero, and of the noise."""
    # BEGIN SOLUTION: subtract the last, multiply by first / (first - last); s is sqrt(1 - a^2)
    first, last = signal_S[0], signal_S[-1]
    signal_S = (signal_S - last) * first / (first - last)
    return signal_S, (1 - signal_S.square()).sqrt()
    # END SOLUTION


# %% tags=["check"]
def published(num_levels: int, least: float, most: float) -> Tensor:
    """The signal after each small step; the variance of the noise in a step goes up evenly."""
    added_S = torch.linspace(least**0.5, most**0.5, num_levels).double().square()
    return (1 - added_S).cumprod(dim=0).sqrt()


TRAJGDM_S = published(1_000, 0.00085, 0.012)
assert abs(TRAJGDM_S[-1] - 0.068) < 0.001
for signal_S in (TRAJGDM_S, published(50, 0.001, 0.2), torch.tensor([0.9, 0.5, 0.4]).double()):
    new_S, share_S = ends_in_noise(signal_S)
    assert new_S[-1] == 0, "the last is not zero"
    assert_close(new_S[0], signal_S[0], msg="the first has changed")
    ratio_S = new_S.diff() / signal_S.diff()
    assert_close(ratio_S, ratio_S[:1].expand_as(ratio_S), msg="differences are not in proportion")
    assert_close(
        new_S.square() + share_S.square(), torch.ones_like(new_S), msg="variance is not one"
    )
print("right: it ends in noise")


# %% tags=["wrong"]
def ends_in_noise(signal_S):
    signal_S = torch.cat([signal_S[:-1], torch.zeros(1).double()])  # a jump at the end
    return signal_S, (1 - signal_S.square()).sqrt()


# %% tags=["wrong"]
def ends_in_noise(signal_S):
    signal_S = signal_S - signal_S[-1]  # the beginning is noised as well
    return signal_S, (1 - signal_S.square()).sqrt()


# %% tags=["wrong"]
def ends_in_noise(signal_S):
    first, last = signal_S[0], signal_S[-1]
    signal_S = (signal_S - last) * first / (first - last)
    return signal_S, 1 - signal_S  # the variance is not one


# %% [markdown]
# The schedule of TrajGDM ends at $a = 0.068$: a little of the signal is still there. What follows
# from that is told at the end of this notebook.
#
# ## 2. A toy: tell the noise from the signal
#
# Let us build a diffusion model for something that can be seen at a glance. People walk from one
# village to the next, ten kilometres to the east. Between them lies a lake, and everybody goes
# round it, on the north shore or on the south shore. A path is ten places.
#
# A network is given $x_t$ and $t$. What shall it tell? If it told the noise, the signal would be
# $(x_t - s e) / a$. That divides by $a$, which is zero at the end. So it tells a mixture, $v$, from
# which both follow at any time without a division (Salimans and Ho, 2022):
#
# $$ v = a \, e - s \, x_0 \qquad x_0 = a \, x_t - s \, v \qquad e = s \, x_t + a \, v $$
#
# The network below is as plain as can be: all numbers of a path go through four layers. It has one
# more input, which we need in section 4: some places may be **known**. They enter as they are,
# whatever the time, with a flag. In half of the lessons nothing is known, in the other half a part
# of the places.


# %%
def walks(num: int, seed: int) -> Tensor:
    """Paths round the lake, (N, T, C) in kilometres."""
    draw, share_T = torch.Generator().manual_seed(seed), torch.linspace(0, 1, 10)
    shore_N1 = 2 * torch.randint(2, (num, 1), generator=draw) - 1
    width_km_N1 = 4 + 0.7 * torch.randn(num, 1, generator=draw)
    north_km_NT = shore_N1 * width_km_N1 * (math.pi * share_T).sin()
    place_km_NTC = torch.stack([(10 * share_T).expand(num, -1), north_km_NT], dim=-1)
    return place_km_NTC + 0.2 * torch.randn(num, 10, 2, generator=draw)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = (66, 128, 128, 128)
        layers = [(nn.Linear(*pair), nn.SiLU()) for pair in pairwise(sizes)]
        self.layers = nn.Sequential(*sum(layers, ()), nn.Linear(128, 20))

    def forward(self, x_NTC: Tensor, time_N1: Tensor, is_known_NT: Tensor) -> Tensor:
        """v of paths, told from noised places, known places, flags, and waves of the time."""
        is_known_NT1 = is_known_NT[..., None]
        parts = x_NTC.masked_fill(is_known_NT1, 0), x_NTC.masked_fill(~is_known_NT1, 0)
        told = [part.flatten(1) for part in (*parts, is_known_NT.float(), waves_of(time_N1, 16))]
        return self.layers(torch.cat(told, dim=1)).view_as(x_NTC)


# %%
learnt_km = walks(4_000, 1)
MIDDLE_KM_TC = learnt_km.mean(dim=0)
SCALE_KM = float((learnt_km - MIDDLE_KM_TC).std())
torch.manual_seed(0)
toy, draw, losses = Toy(), torch.Generator().manual_seed(2), []
optimiser = torch.optim.Adam(toy.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.005, total_steps=1_000)
for _ in range(1_000):
    chosen_N = torch.randint(4_000, (256,), generator=draw)
    clean_NTC = (learnt_km[chosen_N] - MIDDLE_KM_TC) / SCALE_KM
    noise_NTC = torch.randn(clean_NTC.shape, generator=draw)
    time_N11 = (1.1 * torch.rand(256, 1, 1, generator=draw)).clamp(max=1)  # t = 1 now and then
    share_N2 = torch.rand(256, 2, generator=draw)
    is_known_NT = torch.rand(256, 10, generator=draw) < share_N2[:, :1] * (share_N2[:, 1:] < 0.5)
    signal_N11, share_N11 = (math.pi / 2 * time_N11).cos(), (math.pi / 2 * time_N11).sin()
    x_NTC = signal_N11 * clean_NTC + share_N11 * noise_NTC
    x_NTC = torch.where(is_known_NT[..., None], clean_NTC, x_NTC)
    v_NTC = signal_N11 * noise_NTC - share_N11 * clean_NTC
    loss = (toy(x_NTC, time_N11[..., 0], is_known_NT) - v_NTC).square()[~is_known_NT].mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()
    losses.append(loss.item())

# %% tags=["claim"]
assert_close(v_NTC, velocity_of(clean_NTC, noise_NTC, time_N11), atol=1e-5, rtol=0)  # the project's
noised_NTC = signal_N11 * clean_NTC + share_N11 * noise_NTC
assert_close(signal_N11 * noised_NTC - share_N11 * v_NTC, clean_NTC, atol=1e-5, rtol=0)
assert_close(share_N11 * noised_NTC + signal_N11 * v_NTC, noise_NTC, atol=1e-5, rtol=0)
assert 0.9 < np.mean(losses[:5]) < 1.1
assert 0.2 < np.mean(losses[-100:]) < 0.4
loss_curve({"squared error of v": losses}, "Learning to tell noise from paths")

# %% [markdown]
# **What to notice.** The loss begins at one, the variance of what is to be told, and ends far above
# zero. It must: of much noise nobody can tell which path is in it. What the network tells then is
# the mean of all that could be. That is a poor path, and a good direction.
#
# ## 3. Twenty steps back
#
# To make a path up, begin with noise alone, at $t = 1$. Ask the network for $v$, from which follow
# the path $x_0$ and the noise $e$ that it believes in. Then mix these two anew, as they are mixed a
# little earlier, where there is less noise. Ask again, and go on to $t = 0$. Each question to the
# network is one *pass*. This is DDIM (Song et al., 2021).
#
# ### Exercise 2: one step back
#
# Write one such step. You are given $x$, the $v$ of it, and two pairs $(a, s)$: of now, and of
# where to go.


# %% tags=["exercise"]
def step_back(x: Tensor, v: Tensor, now: tuple[float, float], later: tuple[float, float]) -> Tensor:
    """x with the noise of `later`, from x with the noise of `now`."""
    # BEGIN SOLUTION: the clean part and the noise of x and v by (a, s) of now; mix them as later
    signal, share = now
    clean, noise = signal * x - share * v, share * x + signal * v
    return later[0] * clean + later[1] * noise
    # END SOLUTION


# %% tags=["check"]
def way_back(velocity, x: Tensor, num_passes: int) -> list[Tensor]:
    """x from noise alone to none, with one pass of the network between two of them."""
    found = [x]
    for number in range(num_passes):
        now, later = 1 - number / num_passes, 1 - (number + 1) / num_passes
        v = velocity(found[-1], now)
        found.append(step_back(found[-1], v, shares(now), shares(later)))
    return found


def ask(x: Tensor, time: float) -> Tensor:
    return (2 * x).sin() + time * x.roll(1, -1)  # of no law at all


draw = torch.Generator().manual_seed(3)
for now, later in [(1.0, 0.9), (0.7, 0.2), (0.3, 0.0), (1.0, 0.0)]:
    clean_N, noise_N = torch.randn(2, 50, generator=draw).double()
    (signal, share), (next_signal, next_share) = shares(now), shares(later)
    x_N, v_N = signal * clean_N + share * noise_N, signal * noise_N - share * clean_N
    kept_N, expected_N = x_N.clone(), next_signal * clean_N + next_share * noise_N
    assert_close(step_back(x_N, v_N, shares(now), shares(later)), expected_N, msg="not the mixture")
    assert torch.equal(x_N, kept_N), "x is changed in place"
for num_passes in (1, 7, 20):
    x_NT = torch.randn(6, 4, generator=draw).double()
    assert_close(
        way_back(ask, x_NT, num_passes)[-1], ddim(ask, x_NT, num_passes), atol=1e-6, rtol=0
    )
print("right: one step back, and the same way as the project's")


# %% tags=["wrong"]
def step_back(x, v, now, later):
    clean = now[0] * x - now[1] * v
    return later[0] * clean + later[1] * x  # x is not the noise


# %% tags=["wrong"]
def step_back(x, v, now, later):
    return x - (now[1] - later[1]) * v  # a little of v is taken off


# %% tags=["wrong"]
def step_back(x, v, now, later):
    clean, noise = now[0] * x + now[1] * v, now[1] * x - now[0] * v  # signs of v
    return later[0] * clean + later[1] * noise


# %%
@torch.no_grad()
def made_km(
    num: int, num_passes: int, seed: int, known_km=MIDDLE_KM_TC, is_known=(), has_flag=True
) -> list[Tensor]:
    """Paths (N, T, C) at each level of noise; some of their places may be known."""
    is_known_NT = torch.tensor([place in is_known for place in range(10)]).expand(num, -1)
    clean_NTC = (known_km - MIDDLE_KM_TC) / SCALE_KM

    def put(x_NTC: Tensor) -> Tensor:
        return torch.where(is_known_NT[..., None], clean_NTC, x_NTC)

    def velocity(x_NTC: Tensor, time: float) -> Tensor:
        return toy(put(x_NTC), torch.full((num, 1), time), is_known_NT & has_flag)

    noise_NTC = torch.randn(num, 10, 2, generator=torch.Generator().manual_seed(seed))
    found = way_back(velocity, noise_NTC, num_passes)
    return [MIDDLE_KM_TC + SCALE_KM * put(x_NTC) for x_NTC in found]


frames = torch.stack(made_km(40, 20, 4))  # (frames, N, T, C)
up = torch.linspace(-4, 4, 10).expand(*frames.shape[:3])[..., None]
shore_N = ["north" if north_km > 0 else "south" for north_km in frames[-1, :, 5, 1]]
latent_view(
    torch.cat([frames, up], dim=-1).flatten(1, 2),
    [shore for shore in shore_N for _ in range(10)],
    [f"path {number}" for number in range(40) for _ in range(10)],
    "Forty paths come out of noise",
    [f"t = {1 - number / 20:.2f}" for number in range(21)],
)


# %% tags=["claim"]
def share_in_lake(place_km_NTC: Tensor) -> float:
    """The share of paths with a place in the lake, which is three kilometres wide."""
    return float((place_km_NTC[:, 3:7, 1].abs() < 1.5).any(dim=1).float().mean())


new_km, wet, passes = walks(1_000, 5), {}, (1, 2, 3, 5, 10, 20, 50)
for num_passes in passes:
    told_km = made_km(1_000, num_passes, 6)[-1]
    wet[num_passes] = share_in_lake(told_km)
    if num_passes == 1:
        assert (told_km - MIDDLE_KM_TC).norm(dim=-1).mean() < 0.5  # about the mean of all paths
assert wet[1] > 0.9
assert 0.05 < wet[5] < 0.2
assert wet[20] < 0.07
assert share_in_lake(new_km) < min(0.02, wet[20])
is_north_N = told_km[:, 5, 1] > 0
assert 0.4 < is_north_N.float().mean() < 0.6
assert abs(told_km[:, 4, 1].abs().mean() - new_km[:, 4, 1].abs().mean()) < 0.3
real = [100 * share_in_lake(new_km)] * len(passes)
series = {"made up": (passes, [100 * wet[num] for num in passes]), "real": (passes, real)}
lines(series, "Paths through the lake", ("passes of the network", "% of paths"))

# %% [markdown]
# **What to notice.** Press Play in the view above, in which up is the order of the places: a cloud
# turns into two bundles of paths, and colours tell the shore on which each will end.
#
# With one pass nearly every path goes through the lake. For of noise alone the network tells the
# mean of all paths, and the mean of the north shore and the south shore is water. A network that is
# trained by a squared error on paths would answer just this, however good it is. It takes steps to
# come to a decision: a little off the middle, then a little more, and the rest follows. With twenty
# passes few paths are wet, though still more than of the real ones, and both shores are chosen
# about equally often.
#
# ## 4. Recovery: what is known stays
#
# The same network fills gaps. Its lessons have shown it known places, clean and with a flag, at
# every level of noise. In sampling we do exactly the same: known places enter as they are, and only
# the others begin in noise. What comes out is not one answer, but as many as we like.


# %% tags=["claim"]
def on_map(place_km_NTC: Tensor) -> tuple[np.ndarray, ...]:
    """Longitudes and latitudes (N, T) in a country that is nowhere."""
    east_m, north_m = (1_000 * place_km_NTC).double().unbind(dim=-1)
    flat = Frame(8.0, 50.0).degrees(east_m.flatten().numpy(), north_m.flatten().numpy())
    return tuple(axis.reshape(east_m.shape) for axis in flat)


begun = made_km(1_000, 20, 7, new_km, (0, 1, 2))[-1]
untold = made_km(1_000, 20, 7, new_km, (0, 1, 2), has_flag=False)[-1]
ends = made_km(1_000, 20, 7, new_km, (0, 9))[-1]
truth_N = new_km[:, 5, 1] > 0
kept, kept_untold, kept_ends = (
    float(((told_km[:, 5, 1] > 0) == truth_N).float().mean()) for told_km in (begun, untold, ends)
)
print(f"right shore: {kept:.0%}; without the flag {kept_untold:.0%}; from the ends {kept_ends:.0%}")
assert_close(begun[:, :3], new_km[:, :3], atol=1e-4, rtol=0)
assert kept > 0.98
assert 0.6 < kept_untold < 0.85
assert 0.4 < kept_ends < 0.6
assert share_in_lake(ends) < 0.1 < 0.8 < share_in_lake(made_km(1_000, 1, 7, new_km, (0, 9))[-1])
one_km = new_km[truth_N][0]
paths = {"first three places": on_map(one_km[:3]), "truth": on_map(one_km)}
samples = [made_km(20, 20, 9, one_km, is_known)[-1] for is_known in ((0, 1, 2), (0, 9))]
track_map(paths, "Recovered from its beginning, or its ends", on_map(torch.cat(samples)))

# %% [markdown]
# **What to notice.** Three places tell on which shore the walk goes on, and nearly all samples
# follow. From the two ends alone nobody can know it, so that about half of the samples take either
# shore; those of the other shore in the figure were made from the ends. One pass would again go
# through the water, for it tells the mean.
#
# One thing must be as it was in training: the flag. Put known places into $x_t$ without it, and the
# network takes them for noised ones, and believes them less. A good part of the walks then ends up
# on the wrong shore. TrajGDM does so: it holds known places clean in a network that has seen only
# noised ones.
#
# ## 5. The family `gdm`
#
# The project's family `gdm` is the same model for real tracks. What it adds to the toy:
#
# - it reads **steps** in metres, as in section 1, and the time that each takes; a start is given,
#   and nothing tells where on Earth it lies;
# - the network is a **transformer** (notebook 02) in which all points read each other, and $t$
#   moves and stretches what its norms give;
# - in half of the lessons nothing but the start is known, in the other half some mask of notebook
#   08;
# - errors of much and of little noise are **weighted**, so that no level rules the others;
# - the weights that we use are a running **mean** of those of the last steps of training.
#
# We train a tiny one, for some seconds. Is it really the same as ours? The third cell below takes
# the network of the project, and everything else from above: the scales of section 1, and the steps
# back of exercise 2. Both ways make the same storms.

# %%
from model.baselines.recovery import HERMITE, LINEAR
from model.earth.geometry import haversine_m
from model.families.gdm.network import PRESETS, Gdm, start_or_some
from model.families.gdm.noise import sample_noise
from model.families.gdm.steps import known_steps, start_alone
from model.features.normaliser import Normaliser, Quantiles
from model.inference.api import generate_trips, recover
from model.interface.batch import Cursor
from model.interface.contexts import Context, Partial
from model.interface.masked_input import masked_input_of
from model.interface.masking import masked
from model.training.averaging import AveragedWeights
from model.training.config import FitConfig, learning_rate


def context_of(points_3NT: Tensor) -> Context:
    """Known points, as models of the project read them."""
    lon_deg_NT, lat_deg_NT, unix_s_NT = points_3NT
    time_s_NT, started_us_N = unix_s_NT - unix_s_NT[:, :1], (unix_s_NT[:, 0] * 1e6).long()
    is_pad_NT = torch.zeros_like(lon_deg_NT).bool()
    return Context(lon_deg_NT, lat_deg_NT, time_s_NT, started_us_N, "UTC", is_pad_NT)


def deciles(value: Tensor) -> Quantiles:
    return Quantiles(*np.quantile(value.numpy(), [0.1, 0.5, 0.9]).tolist())


# %%
way_m_NS, every = step_m_NSC.norm(dim=-1), context_of(train_3NT).batch()
sizes = [deciles(value_NS) for value_NS in (0 * way_m_NS + 21_600, way_m_NS / 21_600, way_m_NS)]
torch.manual_seed(9)
config = replace(PRESETS["tiny"], sampler="ddim", share_told=0.0)  # without controls
learner = Gdm(config, Normaliser(way_m_NS.numel(), *sizes))
learner.fit_inputs([every])
fit = FitConfig(max_steps=400, warmup_steps=20, learning_rate=0.005, ema_decay=0.975)
average, losses = AveragedWeights(learner, fit.ema_decay), []
optimiser = torch.optim.AdamW(learner.parameters(), weight_decay=fit.weight_decay)
draw = torch.Generator().manual_seed(10)
for number in range(fit.max_steps):
    optimiser.param_groups[0]["lr"] = learning_rate(number, fit)
    part = every.at(torch.randint(train_3NT.shape[1], (64,), generator=draw))
    part = replace(part, cursor=Cursor(number, 1))  # masks and noise are drawn by its number
    loss = learner.loss(masked(part, start_or_some, 0)).mean
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(learner.parameters(), fit.max_gradient_norm)
    optimiser.step()
    average.take_in(number + 1)
    losses.append(loss.item())
model = average.model.eval()
mean_losses = np.reshape(losses, (-1, 20)).mean(axis=1)
loss_curve({"weighted error of v": mean_losses}, "Learning to tell noise from storms", 20)

# %% tags=["claim"]
assert_close(model.code.center_F[:2], MEAN_M_C)
assert_close(model.code.spread_F[:2], SPREAD_M_C)
shown = masked_input_of(context_of(jeanne_3T[:, None]).batch())
known = known_steps(start_alone(shown), model.code)
noise_GTF = sample_noise(range(5), 20, 1, seed=4)[0]


@torch.no_grad()
def velocity(x_GTF: Tensor, time: float) -> Tensor:
    own = known.at(torch.zeros(len(x_GTF)).long())  # all begin where Jeanne does
    return model.denoiser(x_GTF, torch.full((1, 1), time), own, ~own.is_pad_BT)


back = way_back(velocity, noise_GTF, 20)
with torch.no_grad():
    [theirs_GTF] = model.sampled_code(known, range(5), seed=4)
assert_close(back[-1][:, 1:], theirs_GTF[:, 1:], atol=1e-4, rtol=1e-4)
clean_TF = model.code.encode(steps_of(*jeanne_3T)).float()
forth = [noised(clean_TF, noise_GTF, torch.tensor(number / 20)) for number in range(21)]
step_km = [model.code.decode(x_GTF)[:, 1:, :2] / 1_000 for x_GTF in forth + back[1:]]
place_km = functional.pad(torch.stack(step_km).cumsum(dim=2), (0, 0, 1, 0))
up_km = 50 * torch.arange(20.0).double().expand(*place_km.shape[:3])[..., None]
names = [f"there, t = {number / 20:.2f}" for number in range(21)]
names += [f"back, t = {1 - number / 20:.2f}" for number in range(1, 21)]
label = [f"noise {number + 1}" for number in range(5) for _ in range(20)]
points = torch.cat([place_km, up_km], dim=-1).flatten(1, 2)
latent_view(points, label, label, "Jeanne into noise, five storms out of it", names)

# %% [markdown]
# **What to notice.** Drag it, and press Play. On the way there, one storm becomes five walks at
# random; on the way back, each of these becomes a storm of its own. All begin where Jeanne did, and
# none is Jeanne: the noise knows nothing of her.
#
# The same weights recover. We hide two days of each piece in the test, and compare with the
# straight line and with the cubic of Hermite (notebook 08). One answer of `gdm` is the mean of what
# can be.

# %% tags=["claim"]
shows_T = (torch.arange(20) < 6) | (torch.arange(20) > 13)  # two days are hidden
context = context_of(test_3NT)
points = context.lon_deg_BT, context.lat_deg_BT, context.time_s_BT
shows_NT = shows_T.expand_as(context.is_pad_BT)
masks = shows_NT, torch.ones_like(shows_NT), context.started_us_B, "UTC", context.is_pad_BT
question, error_km = Partial(*points, *masks), {}
answers = {"gdm": recover(model, question)}
answers |= {"straight line": LINEAR.recover(question), "Hermite": HERMITE.recover(question)}
for name, told in answers.items():
    miss_m_NT = haversine_m(told.lon_deg_BT, told.lat_deg_BT, *points[:2])
    error_km[name] = float(miss_m_NT[:, ~shows_T].mean()) / 1_000
    print(f"{name:14} {error_km[name]:.0f} km")
assert error_km["Hermite"] < error_km["gdm"] < 0.95 * error_km["straight line"]
with torch.no_grad():
    asked = masked_input_of(question.at(slice(JEANNE, JEANNE + 1)).batch())
    lon_deg_GT, lat_deg_GT, _ = (path_1GT[0] for path_1GT in model.paths(asked, 30, 1))
paths = {"truth": jeanne_3T[:2], "one answer": (lon_deg_GT[0], lat_deg_GT[0])}
track_map(paths, "Jeanne, of whom two days are hidden", (lon_deg_GT[1:], lat_deg_GT[1:]))

# %% [markdown]
# **What to notice.** After seconds of training the mean is nearer to the truth than a straight
# line, and not as near as the cubic, which costs nothing. What the cubic cannot do is to be unsure:
# the samples show where else the storm may have been.
#
# ## 6. How to judge
#
# A forecast has a true answer. A made-up storm has none, so we can only compare all that is made up
# with all that is real. We let `gdm` make one track up from each start in the test. (One track is
# called a *trip* from here on, as in the code.) Beside it stand two generators that have learnt
# nothing:
#
# - the **copy machine** draws pieces of train again;
# - **independent steps** draws each step from those of train, whatever came before.
#
# The plainest measure is a histogram: the first figure below shows how long all tracks are. How far
# apart are two histograms? The *Wasserstein* distance is the mean way that values have to be moved
# until both sets are the same. With as many values in each, sort both and compare them in order.
#
# Two sets of real storms are not the same either. So a distance means nothing without its
# **floor**: what real storms of train have from real storms of the test. The row "real (train)" of
# the table is that floor.
#
# A histogram tells one number at a time, and a track can be wrong in ways that no histogram shows.
# So we also let a **classifier** learn to tell made-up tracks from real ones: boosted trees that
# read some numbers of each track, and are asked about storms that they were not fitted on. Its
# *area* (under the ROC curve) is the chance that it finds a made-up track likelier to be made up
# than a real one. It is one half where it cannot tell them apart, and one where it always can.

# %%
from model.baselines.generators import IndependentSteps, ResampledTrain
from model.earth.frame import Grid
from model.evaluation.generation.copying import Outlines, copied, duplicates, outline_m
from model.evaluation.generation.discriminator import TreeScorer, told_apart
from model.evaluation.generation.distances import Ruler, distances, numbers
from model.evaluation.generation.made_up import generated_trips, made_up, starts_of
from model.interface.trips import Trips


def trips_of(points_3NT: Tensor, storm_N: np.ndarray) -> Trips:
    lon_deg_N, lat_deg_N, unix_s_N = (axis_NT.flatten().numpy() for axis_NT in points_3NT)
    size_N = np.full(len(storm_N), points_3NT.shape[2])
    return Trips.of(size_N, (unix_s_N * 1e6).astype(np.int64), lon_deg_N, lat_deg_N, storm_N)


train, test = trips_of(train_3NT, train_storm_N), trips_of(test_3NT, test_storm_N)
starts, NUM = starts_of(test, "UTC"), len(test)
sets = {
    "real (train)": train.drawn(NUM, seed=1),
    "copy machine": ResampledTrain(train).generate(NUM, 1),
}
sets["gdm"] = generated_trips(generate_trips(model, starts, 20, seed=1), starts, test_storm_N)
sets["independent steps"] = made_up(IndependentSteps.fit(train), test, "UTC", 1)
length_km = {name: numbers(trips, "UTC")["trip_m"].value_N / 1_000 for name, trips in sets.items()}
length_km["test"] = numbers(test, "UTC")["trip_m"].value_N / 1_000
shown_km = {name: length_km[name] for name in ("test", "real (train)", "gdm", "independent steps")}
histogram_pair(shown_km, "How long tracks are", "km in five days")

# %% tags=["claim"]
RULER = Ruler.fit(train, "UTC", (300_000.0,))
table = {}
print("                    length    step  spread    area")
for name, trips in sets.items():
    told = distances(trips, test, RULER)
    told |= told_apart(trips, test, "places", TreeScorer(RULER, 0, reads_times=False), 5)
    keys = "w1_trip_m", "w1_step_m", "w1_gyration_m", "discriminator_auc_of_places"
    table[name] = [told[key].value() for key in keys]
    *ways_m, area = table[name]
    print(f"{name:18}", *(f"{way_m / 1_000:4.0f} km" for way_m in ways_m), f"{area:7.2f}")
    by_hand_km = np.abs(np.sort(length_km[name]) - np.sort(length_km["test"])).mean()
    assert math.isclose(by_hand_km, table[name][0] / 1_000, rel_tol=1e-6)  # the project's
floor, copies, made, steps = (np.array(row) for row in table.values())
assert (np.abs(copies - floor) < [15_000, 3_000, 6_000, 0.1]).all()
assert (made[:3] > 1.5 * copies[:3]).all()
assert steps[1] < floor[1] < made[1]
assert copies[3] < 0.6 < made[3] < 0.9 < 0.97 < steps[3]

# %% [markdown]
# **What to notice.** Independent steps have the best steps of all, as near to the test as real
# ones. Yet the classifier finds nearly all of them, for a storm that forgets its direction at each
# report is no storm. So one good number proves nothing. `gdm` is in between: some seconds of
# training do not make storms that nobody can tell from real ones.
#
# And the winner? **It is the copy machine.** It stands at the floor in every column, and its area
# is one half, as good as can be. It knows nothing, and would give away every trip that it was
# trained on. So a table without a measure of copying is worthless. The next two exercises make two
# such measures.
#
# ### Exercise 3: why no duplicates at all are not the best
#
# A common measure of variety is the share of trips that were there before in the same sample, in
# cells of a map. It is tempting to call zero the best. But real trips repeat themselves: of the
# test, in their first day and in cells of 300 km, about one in twenty. And as the next cell shows,
# the share depends on how many trips one looks at: of all real ones it is many times that of a
# hundred.
#
# Write a measure that is fair: how far the share of duplicates in a sample is from that of real
# trips, **of as many**, drawn at random. It must never be below zero, and be small for a sample
# that repeats itself as real trips do, whatever the sizes of the two sets. Rows are trips, as in
# `first_days`; `repeated` is given.

# %% tags=["claim"]
CELLS = Grid(RULER.frame, 300_000.0)


def first_days(trips: Trips) -> np.ndarray:
    """The cells of the first five points of each track, (N, 5)."""
    points = trips.points
    return CELLS.cells(points.lon_deg_N, points.lat_deg_N).reshape(len(trips), -1)[:, :5]


def repeated(cell_NT: np.ndarray) -> float:
    """The share of rows that were there before."""
    return 1 - len(np.unique(cell_NT, axis=0)) / len(cell_NT)


shares_of = [repeated(first_days(train.drawn(num, 1))) for num in (100, NUM, len(train))]
print("of 100, 479 and all real tracks of train:", [f"{share:.1%}" for share in shares_of])
print(f"of the test: {repeated(first_days(test)):.1%}")
beginnings = trips_of(test_3NT[:, :, :5], test_storm_N)
told = duplicates(beginnings, RULER)["duplicates_300km"].value()  # the project's
assert math.isclose(repeated(first_days(test)), told, rel_tol=1e-9)
assert 0.02 < repeated(first_days(test)) < 0.08
assert 3 * shares_of[0] < shares_of[1] < 0.1 < shares_of[2]


# %% tags=["exercise"]
def duplicates_off(
    sample_NT: np.ndarray, real_MT: np.ndarray, generator: np.random.Generator
) -> float:
    """How far the share of repeated rows of a sample is from that of as many real rows."""
    # BEGIN SOLUTION: draw min(N, M) rows of each without replacement; the absolute difference
    num = min(len(sample_NT), len(real_MT))
    drawn = [rows[generator.permutation(len(rows))[:num]] for rows in (sample_NT, real_MT)]
    return abs(repeated(drawn[0]) - repeated(drawn[1]))
    # END SOLUTION


# %% tags=["check"]
generator = np.random.default_rng(11)


def trips_by_law(num: int) -> np.ndarray:
    """Some routes are popular; in the order of how popular they are, as files often are."""
    route_N = np.sort((generator.pareto(0.35, num) * 40).clip(max=1e9).astype(np.int64))
    return np.stack([route_N, route_N % 7, route_N // 7], axis=1)


real_MT = trips_by_law(800)
for num in (400, 800, 4_000):
    rows_NT = np.arange(3 * num).reshape(num, 3) + 10**12
    samples = trips_by_law(num), rows_NT, np.repeat(rows_NT[:20], num // 20, axis=0)
    honest, unique, few = (
        np.mean([duplicates_off(one, real_MT, generator) for _ in range(20)]) for one in samples
    )
    assert min(honest, unique, few) >= 0, "below zero"
    assert honest < 0.05, f"{num} trips of the same law are not as real ones"
    assert unique > 0.1, "to have no duplicates is called good"
    assert few > 0.4, "the same twenty trips again and again are called good"
print("right: duplicates as real trips have them")


# %% tags=["wrong"]
def duplicates_off(sample_NT, real_MT, generator):
    return repeated(sample_NT)  # zero is the best


# %% tags=["wrong"]
def duplicates_off(sample_NT, real_MT, generator):
    return abs(repeated(sample_NT) - repeated(real_MT))  # of different numbers


# %% tags=["wrong"]
def duplicates_off(sample_NT, real_MT, generator):
    num = min(len(sample_NT), len(real_MT))  # of sorted files, the most popular
    return abs(repeated(sample_NT[:num]) - repeated(real_MT[:num]))


# %% tags=["wrong"]
def duplicates_off(sample_NT, real_MT, generator):
    num = min(len(sample_NT), len(real_MT))
    drawn = [generator.permutation(rows)[:num] for rows in (sample_NT, real_MT)]
    return max(0.0, repeated(drawn[0]) - repeated(drawn[1]))  # none at all is fine


# %% [markdown]
# ### Exercise 4: catch the copy machine
#
# Duplicates are looked for within a sample. Copies are looked for in train. But how near is a copy?
# A generator may move its copies a little, and a real storm may come near to an old one by chance.
# Real trips of the test answer that: nobody has copied them. So a trip counts as *copied* if it is
# nearer to its nearest trip of train than all but one in a hundred of the test are to theirs.
#
# Take as the distance of two tracks that of Hausdorff: no place of either is farther than this from
# the nearest place of the other. `nearest` tells it, in any unit, from each track to the nearest of
# others.


# %% tags=["exercise"]
def nearest(track_NTC: Tensor, other_MTC: Tensor) -> Tensor:
    """The distance (N) from each track to the nearest one of the others."""
    found = torch.empty(len(track_NTC), dtype=track_NTC.dtype)
    for place, track_TC in enumerate(track_NTC):
        away_MTT = torch.cdist(other_MTC, track_TC)
        farthest_M2 = torch.stack([away_MTT.amin(axis).amax(1) for axis in (1, 2)], dim=1)
        found[place] = farthest_M2.amax(dim=1).min()
    return found


def copied_share(sample_NTC: Tensor, train_MTC: Tensor, test_LTC: Tensor) -> float:
    """The share of the sample that is nearer to train than all but 1 % of the test."""
    # BEGIN SOLUTION: `nearest` of sample and of test to train; a quantile of the second
    near = nearest(test_LTC, train_MTC).quantile(0.01)
    return float((nearest(sample_NTC, train_MTC) < near).float().mean())
    # END SOLUTION


# %% tags=["check"]
draw = torch.Generator().manual_seed(12)
for unit, spread in [(1.0, 1.0), (1_000.0, 0.3)]:
    walk_RTC = unit * (spread * torch.randn(700, 8, 2, generator=draw)).cumsum(dim=1)
    old, unseen, fresh = walk_RTC[:300], walk_RTC[300:500], walk_RTC[500:]
    shaken = old[:200] + 0.01 * unit * spread * torch.randn(200, 8, 2, generator=draw)
    half = torch.cat([shaken[:100], fresh[:100]])
    assert copied_share(fresh, old, unseen) < 0.06, "fresh trips are accused"
    assert copied_share(old[:200], old, unseen) == 1, "copies are not found"
    assert copied_share(shaken, old, unseen) > 0.98, "copies that are moved a little are not found"
    assert abs(copied_share(half, old, unseen) - 0.5) < 0.05, "half of them are copies"
    assert copied_share(unseen, old, unseen) < 0.03, "the test has copied nothing"
    assert copied_share(fresh + 100 * unit, old, unseen) == 0, "they are far from anything"
print("right: copies are found, moved or not, and nobody else is")


# %% tags=["wrong"]
def copied_share(sample_NTC, train_MTC, test_LTC):
    return float((nearest(sample_NTC, train_MTC) == 0).float().mean())  # exact copies only


# %% tags=["wrong"]
def copied_share(sample_NTC, train_MTC, test_LTC):
    near = nearest(test_LTC, train_MTC).median()  # half of all that is honest
    return float((nearest(sample_NTC, train_MTC) < near).float().mean())


# %% tags=["wrong"]
def copied_share(sample_NTC, train_MTC, test_LTC):
    near = nearest(test_LTC, train_MTC).quantile(0.01)
    return float((nearest(sample_NTC, test_LTC) < near).float().mean())  # near to the test


# %% tags=["claim"]
past, generator = Outlines.of(train), np.random.default_rng(13)
judged = {"half of the test": test.drawn(NUM // 2, 1)}
judged |= {name: sets[name] for name in ("gdm", "independent steps", "copy machine")}
for moved_km in (20, 300):
    machine = ResampledTrain(train, noise_m=1_000.0 * moved_km)  # each place by itself
    judged[f"copies, {moved_km} km off"] = machine.generate(NUM, 1)
told = {}
print("                     copied  duplicates    off")
for name, trips in judged.items():
    cell_NT, copies = first_days(trips), copied(trips, test, past)["copied_share"].value()
    off = np.mean([duplicates_off(cell_NT, first_days(test), generator) for _ in range(20)])
    told[name] = copies, repeated(cell_NT), off
    print("{:18} {:8.1%} {:11.1%} {:6.1%}".format(name, *told[name]))
outlines = (torch.from_numpy(outline_m(one)[:, :20]) for one in (sets["gdm"], train, test))
assert abs(copied_share(*outlines) - told["gdm"][0]) < 0.005  # the project's
assert max(told[name][0] for name in ("half of the test", "gdm", "independent steps")) < 0.04
assert told["copy machine"][0] == 1
assert told["copies, 20 km off"][0] > 0.95
assert told["gdm"][2] < 0.02 < 0.05 < told["copy machine"][2]
assert told["copies, 300 km off"][:2] == (0, 0)
assert told["copies, 300 km off"][2] > max(told["gdm"][2], told["half of the test"][2])
blurred = told_apart(judged["copies, 300 km off"], test, "places", TreeScorer(RULER, 0, False), 5)
assert blurred["discriminator_auc_of_places"].value() > 0.99

# %% [markdown]
# **What to notice.** The copy machine, at the floor of every distance above, is found out by one
# number, and so it is when each place is moved by 20 km. Trips of `gdm` are no nearer to train than
# real ones are.
#
# Copies with 300 km of noise on each place are no copies any more, and no two of them are alike. By
# the count of duplicates they would be the best of all. They are rubbish: the classifier finds
# nearly every one. So read all measures together, each beside what real trips have.
#
# ## What can go wrong: an end that is not noise
#
# The schedule of TrajGDM ends at $a = 0.068$ (exercise 1). A sampler that begins with pure noise
# there begins with something that training has never shown: its last lessons still held a little of
# each trip. How much that matters depends on how large the numbers of a trip are. In TrajGDM they
# come from an encoder, which nothing holds to variance one. The larger they grow, the less the
# noise hides.
#
# No network is needed to see it. Of numbers from a Gaussian the best answer for $x_0$ is known, and
# `come_back` samples with it. If all is right, the numbers that come back have the mean and the
# spread of those that went.
#
# The published code has a way round it: the option `--according_real`. Sampling then begins at the
# mean and the spread of noised **real** trips, and these are the ones that the result is compared
# with afterwards. The option cannot even be switched off: it is read by `type=bool`, and of any
# text that is not empty `bool` says true, even of "False". The second cell asks whether what is
# made up depends on the real trips that were looked at.


# %% tags=["claim"]
def come_back(start_N: Tensor, signal_S: Tensor, mean: float, spread: float) -> Tensor:
    """Numbers made from `start_N` by a sampler that knows the law of what it makes."""
    levels, x_N = [(float(a), math.sqrt(1 - float(a) ** 2)) for a in signal_S.flip(0)], start_N
    for (signal, share), later in pairwise([*levels, (1.0, 0.0)]):
        trust = signal * spread**2 / (signal**2 * spread**2 + share**2)
        clean_N = mean + trust * (x_N - signal * mean)  # the mean of what can be
        x_N = step_back(x_N, (signal * x_N - clean_N) / share, (signal, share), later)
    return x_N


noise_N = torch.randn(4_000, generator=torch.Generator().manual_seed(14)).double()
noise_N, kept = (noise_N - noise_N.mean()) / noise_N.std(), {}
for name, one_S in {"published": TRAJGDM_S, "cured": ends_in_noise(TRAJGDM_S)[0]}.items():
    ten = float(come_back(noise_N, one_S, 10.0, 1.0).mean())
    spreads = (1, 2, 5, 10, 20, 40)
    back = [100 * come_back(noise_N, one_S, 0.0, size).std() / size for size in spreads]
    print(f"{name}: a mean of 10 comes back as {ten:.2f}, a spread of 40 as {0.4 * back[-1]:.1f}")
    kept[name] = (spreads, torch.stack(back))
    assert abs(ten - {"published": 9.3, "cured": 10.0}[name]) < 0.1
assert kept["published"][1][0] > 99
assert kept["published"][1][-1] < 40
assert kept["cured"][1].min() > 98
lines(kept, "What comes back of the spread", ("spread of x_0", "% of it"))

# %% tags=["claim"]
assert bool("False")


def according_to(real_N: Tensor) -> Tensor:
    """Made-up numbers, begun at the mean and the spread of noised real ones."""
    noised_N = TRAJGDM_S[-1] * real_N + (1 - TRAJGDM_S[-1] ** 2).sqrt() * noise_N[: len(real_N)]
    return come_back(noised_N.mean() + noised_N.std() * noise_N, TRAJGDM_S, 0.0, 40.0)


east = 40 * noise_N.sort().values[2_000:]  # those real trips that go east
assert abs(according_to(40 * noise_N.flip(0)).mean()) < 4
assert according_to(east).mean() > 15
before = generate_trips(model, starts, 20, seed=1)
model.loss(masked(every.part(0, 64), start_or_some, 1))  # whatever the model may see
after = generate_trips(model, starts, 20, seed=1)
assert torch.equal(before.lon_deg_NT, after.lon_deg_NT)

# %% [markdown]
# With numbers of variance one nearly all of the spread comes back, and of a spread of forty not
# half. The mean is wrong too: ten comes back as 9.3. And begun according to those real trips alone
# that go east, what is made up goes east as well.
#
# The cure is a schedule that ends in noise, as in exercise 1, and numbers whose variance is one by
# construction. Then a sampler needs no data. The weights and the seed alone tell what is made up,
# as the last lines check for `gdm`.
#
# ## Summary
#
# A diffusion model learns to tell noise from signal at every level of noise, and makes a trajectory
# in some twenty steps, from noise alone. The same network recovers what is hidden, if training has
# shown it what is known in just that way. What is made up is judged beside real trips, by
# distances, a classifier, duplicates and copies together, since each of these alone can be won by
# something worthless.
#
# **Next:** `12_judging_and_using`, is it any good, and how do I use it?
