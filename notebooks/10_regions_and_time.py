# %% [markdown]
# # How does a life become a row of visits?
#
# A phone that writes a point a minute writes half a million of them in a year, and nearly all say that
# nothing has changed. A life goes in *visits*: somebody is at a place, stays for a while, and goes to
# the next one. This notebook makes visits out of points, and then asks for the next visit: where it is,
# how long the way takes, and how long the stay.
#
# When you have worked through this notebook, you will be able to
#
# - find stays in points, and make visits to regions of them;
# - say what waves tell a network of a place and of a time;
# - choose between regions and coordinates, with four numbers in hand;
# - fit a mixture to travel times, and say what is wrong with a Gaussian of hours;
# - build a chain of regions that backs off, and say how much any model could still gain.
#
# You need notebooks 03 and 05, and some Python. All people here are made up.

# %%
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn import functional
from torch.testing import assert_close

from model.baselines.visit_baselines import VisitBaseline
from model.baselines.visit_counts import shrunk
from model.baselines.visit_frequency import context_frequency, frequency, staying
from model.baselines.visit_history import PastVisits
from model.baselines.visit_markov import kneser_ney
from model.baselines.visit_times import region_hour_times
from model.earth.cells import cells_of, centres_of
from model.earth.frame import Frame
from model.earth.point_rules import location_numbers, stays
from model.families.trajgpt.network import PRESETS, TrajGpt
from model.features.normaliser import Quantiles
from model.features.places import NUM_SPECIAL, Places
from model.interface.next_visit import parted
from model.interface.visit_batch import VisitBatch, calendar_of_visits
from model.layers.distributions import LOG_TWO_PI
from model.layers.durations import DurationMixture, DurationMixtureHead, log_normals
from model.layers.embeddings import Space2Vec, Time2Vec
from model.layers.heads import RegionHead
from model.synthetic.people import DAY_S, HOUR_S, WAKES_S, Diary, Person, routine
from model.synthetic.processes import RegionChain
from model.synthetic.visit_law import VisitLaw
from notebooks.pictures import heat_map, lines, loss_curve, track_map

# %% [markdown]
# Shapes: T counts points, V visits, N whatever is asked, R regions, M parts of a mixture, and C is the
# two coordinates, metres to the east and to the north.
#
# ## 1. From points to visits
#
# Here are the points of a made-up person in a town that is not there. She lives at one place, works at
# another, and has three that she likes. A point comes each half minute on the way, and each six
# minutes while she stays. Each is a few metres off.

# %%
FRAME = Frame(4.35, 50.85)  # the middle of the town
generator = np.random.default_rng(3)
path = routine(generator, 0, np.arange(0.0, 150_000.0, 30.0), is_unusual=False)
place_m_TC = path.place_TC + 5 * generator.standard_normal(path.place_TC.shape)
lon_deg_T, lat_deg_T = FRAME.degrees(*np.ascontiguousarray(place_m_TC.T))
time_s_T = path.elapsed_T  # since the first midnight, which begins a Monday
print(f"{len(time_s_T):,} points in {(time_s_T[-1] - time_s_T[0]) / DAY_S:.1f} days")

# %% [markdown]
# A *stay* is a piece of a track that does not leave a circle around its own first point, for twenty
# minutes or longer. So we walk along the points, with one of them as the anchor. The first point that
# is out of the circle ends the piece, and is the next anchor.


# %%
def stays_by_hand(place_m_TC, time_s_T, radius_m=200.0, least_s=1_200.0) -> list[tuple[int, int]]:
    """The first and the last point of each stay."""
    found, anchor = [], 0
    for t in range(1, len(time_s_T) + 1):
        is_end = t == len(time_s_T)
        if not is_end and np.hypot(*(place_m_TC[t] - place_m_TC[anchor])) < radius_m:
            continue
        if time_s_T[t - 1] - time_s_T[anchor] >= least_s:
            found.append((anchor, t - 1))
        anchor = t
    return found


first_S, last_S = np.array(stays_by_hand(place_m_TC, time_s_T)).T
is_start_T = np.arange(len(time_s_T)) == 0
points = is_start_T, (time_s_T * 1e6).astype(np.int64), lon_deg_T, lat_deg_T
theirs = stays(*points, 200.0, 1_200.0, DAY_S, False)
assert np.array_equal(first_S, theirs[0])
assert np.array_equal(last_S, theirs[1])

# %% [markdown]
# A stay becomes a *visit* when it is told where it was. Stays that begin within the same circle are at
# one place, and each place lies in a *region*, a hexagon of H3 (notebook 05). So two weeks of points
# become a short table: a region, an arrival, a departure.

# %%
founder_S = location_numbers(first_S == first_S[0], lon_deg_T[first_S], lat_deg_T[first_S], 200.0)
cell_V = cells_of(lon_deg_T[first_S], lat_deg_T[first_S], 8)[founder_S]
arrived_s_V, left_s_V = time_s_T[first_S], time_s_T[last_S]
cell_R, region_V = np.unique(cell_V, return_inverse=True)
hours_R = np.bincount(region_V, (left_s_V - arrived_s_V) / HOUR_S)
rank_R = (-hours_R).argsort().argsort() + 1  # 1 is where she spends most of her time
quarter_D96 = np.zeros((14, 96))
for rank, start_s, end_s in zip(rank_R[region_V], arrived_s_V, left_s_V, strict=True):
    quarter_D96.ravel()[round(start_s / 900) : round(end_s / 900)] = rank
print(f"{len(cell_V)} visits, {len(set(founder_S))} places, {len(cell_R)} regions")
for visit in range(4):
    start_h, end_h = arrived_s_V[visit] / HOUR_S, left_s_V[visit] / HOUR_S
    print(f"region {rank_R[region_V[visit]]}, hours {start_h:.1f} to {end_h:.1f}")
heat_map(quarter_D96, "Two weeks of a life", "day", "quarter of an hour", "region")

# %% [markdown]
# **What to notice.** Thousands of points have become a few dozen visits. Zero is the way from one
# to the next, which takes little of the day. The weeks look alike, and weekends differ: what happens
# next depends on where she is and when.

# %% tags=["claim"]
told = [event for event in path.events if event.event == "visit"]
assert len(time_s_T) > 4_000
assert 24 <= len(cell_V) <= 60
assert (quarter_D96 == 0)[1:].mean() < 0.1
true_m_EC = np.array([(event.east_m, event.north_m) for event in told])
for first, last in zip(first_S, last_S, strict=True):  # each stay is at a place of her diary
    middle_m_C = place_m_TC[first : last + 1].mean(axis=0)
    assert np.hypot(*(true_m_EC - middle_m_C).T).min() < 100

# %% [markdown]
# ## 2. Waves of places and of times
#
# A network that is to tell where she goes must be told where she is. Two coordinates are little: a
# layer can only add them up, and "near the station" is no sum. *Space2Vec* (Mai et al., 2020) does for
# places what sinusoidal positions do for indices (notebook 03). It looks at a place $x$ along three
# directions $a_j$, at 120 degrees, and makes waves of it, at scales $\lambda_s$ from short to long:
#
# $$ \cos(x \cdot a_j / \lambda_s) \qquad \sin(x \cdot a_j / \lambda_s) $$


# %%
def waves_of_places(place_m_NC: Tensor, scale_m_S: Tensor) -> Tensor:
    """Places as waves along three directions, (N, 6 S)."""
    angle_3 = torch.arange(3).double() * 2 * torch.pi / 3
    direction_3C = torch.stack([angle_3.cos(), angle_3.sin()], dim=1)
    along_m_N3 = place_m_NC @ direction_3C.T
    angle_NS3 = along_m_N3[:, None] / scale_m_S[:, None]
    return torch.stack([angle_NS3.cos(), angle_NS3.sin()], dim=-1).flatten(1)


space = Space2Vec(width=8, num_scales=6, shortest_m=200.0, longest_m=10_000.0)
axis_m = torch.linspace(-4_000, 4_000, 81).double()
map_m_NC = torch.cartesian_prod(axis_m.flip(0), axis_m).flip(1)  # rows from north to south
wave_NK = waves_of_places(map_m_NC, space.scale_m_S)
assert_close(wave_NK, space.grid(map_m_NC))
middle_K = waves_of_places(torch.zeros(1, 2).double(), space.scale_m_S)[0]
like_RC = (wave_NK @ middle_K / 18).view(81, 81)
heat_map(like_RC, "Likeness to the place in the middle", "100 m", "100 m", "dot product / 18")

# %% [markdown]
# **What to notice.** What is near is alike, in all directions, and the dot product depends only on the
# difference of two places, as it did for positions. It falls off within some hundred metres by the
# short waves, and slowly by the long ones.
#
# What is it good for? Give each neighbourhood of the map a number of its own, say a rent, at random.
# How much of it can a single layer tell?


# %% tags=["claim"]
def share_untold(told_NK: Tensor, truth_N: Tensor) -> float:
    """What part of the variance the best single layer leaves over."""
    told_NK = torch.cat([told_NK, torch.ones(len(told_NK), 1).double()], dim=1)
    best_K = torch.linalg.lstsq(told_NK, truth_N[:, None]).solution
    return float((truth_N - (told_NK @ best_K)[:, 0]).var() / truth_N.var())


draw = torch.Generator().manual_seed(1)
degrees = FRAME.degrees(*map_m_NC.T.contiguous().numpy())
neighbourhood_N = np.unique(cells_of(*degrees, 7), return_inverse=True)[1]
rent_N = torch.randn(neighbourhood_N.max() + 1, generator=draw).double()[neighbourhood_N]
untold = {
    name: share_untold(given, rent_N) for name, given in (("two", map_m_NC), ("waves", wave_NK))
}
print({name: f"{share:.0%} left over" for name, share in untold.items()})
moved_m_NC = map_m_NC[:50] + 700.0
moved_like_N = (waves_of_places(moved_m_NC, space.scale_m_S) * waves_of_places(
    torch.full((1, 2), 700.0).double(), space.scale_m_S)).sum(dim=1) / 18
assert_close(moved_like_N, like_RC.flatten()[:50])
assert untold["two"] > 0.8
assert untold["waves"] < 0.5

# %% [markdown]
# Two coordinates leave nearly all of the rents untold, and the waves less than half.
#
# *Time2Vec* (Kazemi et al., 2019) does the same for times, with one difference: it *learns* the
# frequencies. The first number is a line, all others are sines:
#
# $$ (\omega_0 t + \varphi_0, \;\; \sin(\omega_1 t + \varphi_1), \;\; \sin(\omega_2 t + \varphi_2), \ldots) $$
#
# We let it learn when our person is at home. One Time2Vec begins at random, as its paper has it. The
# other begins with the waves of a day and of a week.


# %%
def home_by(time2vec: Time2Vec, num_steps: int = 300) -> tuple[Tensor, list[float]]:
    """P(at home) at all times by a Time2Vec and a layer, and the losses of their training."""
    torch.manual_seed(2)
    model = nn.Sequential(time2vec, nn.Linear(8, 1))
    optimiser, losses = torch.optim.Adam(model.parameters(), 0.05), []
    for _ in range(num_steps):
        logit_T = model(day_T)[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logit_T, is_home_T)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return logit_T.detach().sigmoid(), losses


day_T = torch.arange(14 * 96) / 96
is_home_T = torch.tensor(quarter_D96.ravel() == 1).float()
torch.manual_seed(5)
at_random, with_clock = Time2Vec(8), Time2Vec(8)
with torch.no_grad():
    cycles_a_day_7 = torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0, 1 / 7, 2 / 7])
    with_clock.frequency_D[1:] = 2 * torch.pi * cycles_a_day_7

# %%
told, losses = {}, {}
for name, time2vec in (("begun at random", at_random), ("begun with a clock", with_clock)):
    told[name], losses[name] = home_by(time2vec)
angle_TD = day_T[:, None] * with_clock.frequency_D + with_clock.phase_D
by_hand_TD = torch.cat([angle_TD[:, :1], angle_TD[:, 1:].sin()], dim=1)
assert_close(by_hand_TD, with_clock(day_T))
week = slice(4 * 96, 8 * 96)  # from Friday to Monday
series = {"truth": (day_T[week], is_home_T[week])}
series |= {name: (day_T[week], chance_T[week]) for name, chance_T in told.items()}
lines(series, "Is she at home?", ("day", "P(at home)"))

# %% [markdown]
# **What to notice.** The one that was begun with a clock tells mornings from evenings, and Saturdays
# from Fridays. The one that was begun at random has hardly found the day: a wave that is a little too
# fast agrees with the truth on one day and not on the next, so the loss does not lead to the right
# frequency. Here are the numbers that the better one gives, in a week.

# %%
heat_map(with_clock(day_T[: 7 * 96]).detach()[:, 1:].T, "Time2Vec", "wave", "quarter of an hour", "")

# %% tags=["claim"]
last = {name: loss[-1] for name, loss in losses.items()}
print({name: f"{loss:.2f} nats" for name, loss in last.items()})
share_home = float(is_home_T.mean())
guess = -share_home * math.log(share_home) - (1 - share_home) * math.log(1 - share_home)
assert last["begun with a clock"] < 0.6 * last["begun at random"]
assert last["begun with a clock"] < 0.5 * guess

# %% [markdown]
# So the family `trajgpt` reads Time2Vec of arrivals and departures, and the sines of hour and weekday
# beside them.
#
# ## 3. Regions or coordinates?
#
# Where does she go next? A *region head* gives a probability to each region that training has seen. A
# *coordinate head* gives a density over the plane, such as a mixture of Gaussians. To see what each
# costs, we need more people: 120 to learn from, in their first three weeks. Both heads will be asked
# about the fourth week of the same people, and of forty strangers.


# %%
def life(seed: int, num_days: int = 28) -> np.ndarray:
    """The visits of a made-up person: metres east and north, seconds of arrival and departure."""
    generator, visits = np.random.default_rng(seed), []
    person = Person(generator)
    diary = Diary(WAKES_S, person.home)
    for day in range(num_days):
        person.live(diary, generator, day * DAY_S, day % 7)
    for event in diary.events:
        if visits and (event.east_m, event.north_m) == tuple(visits[-1][:2]):
            visits[-1][3] = event.finished_s  # she has not left
        else:
            visits.append([event.east_m, event.north_m, event.started_s, event.finished_s])
    return np.array(visits)


def asked_of(seeds, first_day: int, last_day: int) -> tuple[Tensor, Tensor]:
    """What is known of those who leave a place (before, here, clock), and where they go (N, C)."""
    rows = []
    for seed in seeds:
        visit_V4 = life(seed)
        visit_V4[:, :2] += 30 * np.random.default_rng(seed).standard_normal((len(visit_V4), 2))
        rows.append(np.hstack([visit_V4[:-2, :2], visit_V4[1:-1], visit_V4[2:, :2]]))
    row_N8 = torch.from_numpy(np.concatenate(rows))
    day_N = row_N8[:, 5] / DAY_S
    chosen_N = (first_day <= day_N) & (day_N < last_day)
    angle_N2 = 2 * torch.pi * day_N[:, None] / torch.tensor([1.0, 7.0])
    known_N8 = torch.cat([row_N8[:, :4], angle_N2.sin(), angle_N2.cos()], dim=1)
    return known_N8[chosen_N], row_N8[chosen_N, 6:]


# %% [markdown]
# A head of regions says a probability, a head of coordinates a density. The two cannot be compared,
# until the probability of a cell is spread over its area. We keep one hundredth for all places that
# nobody has seen in training, and spread it over the whole map of 40 by 40 km.


# %%
SCALES = Space2Vec(8, 8, 100.0, 20_000.0)
MAP_M2, SEEN = 40_000.0**2, 0.99
axis_m = torch.linspace(-20_000, 20_000, 200).double()
degrees = FRAME.degrees(*torch.cartesian_prod(axis_m, axis_m).T.contiguous().numpy())
_, num_C = np.unique(cells_of(*degrees, 7), return_counts=True)
AREA_7_M2 = MAP_M2 * float(np.median(num_C)) / num_C.sum()  # of a cell; one finer is a seventh


class Reader(nn.Module):
    """A state (N, 64) of those who leave: from waves of two places, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(104, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU())

    def forward(self, known_N8: Tensor) -> Tensor:
        wave_NK = SCALES.grid(known_N8[:, :4].unflatten(1, (2, 2))).flatten(1)
        plain_N8 = torch.cat([known_N8[:, :4] / 5_000, known_N8[:, 4:]], dim=1)
        return self.body(torch.cat([wave_NK, plain_N8], dim=1).float())


# %%
class Regions(nn.Module):
    """P(region), spread over the areas of cells."""

    def __init__(self, resolution: int, target_m_NC: Tensor) -> None:
        super().__init__()
        self.resolution, self.area_m2 = resolution, AREA_7_M2 / 7.0 ** (resolution - 7)
        self.cell_R = np.unique(self.cells(target_m_NC))
        centres_m = FRAME.metres(*centres_of(self.cell_R))
        self.centre_m_RC = torch.stack([torch.from_numpy(axis_R) for axis_R in centres_m], dim=1)
        self.read, self.head = Reader(), RegionHead(64, len(self.cell_R))

    def cells(self, place_m_NC: Tensor) -> np.ndarray:
        return cells_of(*FRAME.degrees(*place_m_NC.T.contiguous().numpy()), self.resolution)

    def shares(self, known_N8: Tensor, place_m_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Of all regions (N, R), and of the one that a place is in: none if that is unseen."""
        share_NR = self.head.log_probability(self.read(known_N8)).exp()
        cell_N = self.cells(place_m_NC)
        id_N = np.searchsorted(self.cell_R, cell_N).clip(max=len(self.cell_R) - 1)
        is_seen_N = torch.from_numpy(self.cell_R[id_N] == cell_N)
        return share_NR, share_NR.gather(1, torch.from_numpy(id_N)[:, None])[:, 0] * is_seen_N


# %%
class Mixture(nn.Module):
    """A mixture of round Gaussians over the plane, or one of them."""

    def __init__(self, num_components: int) -> None:
        super().__init__()
        self.num, self.read = num_components, Reader()
        self.head = nn.Linear(64, 4 * num_components)
        self.shift = nn.Linear(4, 2 * num_components)  # places go straight through as well

    def parts(self, known_N8: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and deviations in metres."""
        sizes = [self.num, 2 * self.num, self.num]
        logit_NM, mean, log_scale_NM = self.head(self.read(known_N8)).split(sizes, dim=1)
        mean_km = (mean + self.shift(known_N8[:, :4].float() / 1_000)).unflatten(1, (-1, 2))
        return logit_NM.log_softmax(1), 1_000 * mean_km, 20 + 1_000 * log_scale_NM.exp()


def log_density(parts: tuple[Tensor, Tensor, Tensor], place_m_NC: Tensor) -> Tensor:
    """Of places, in nats of square metres."""
    log_weight_NM, mean_m_NMC, scale_m_NM = parts
    away_NM = (place_m_NC.float().unsqueeze(-2) - mean_m_NMC).norm(dim=-1) / scale_m_NM
    log_NM = log_weight_NM - away_NM.square() / 2 - 2 * scale_m_NM.log() - LOG_TWO_PI
    return log_NM.logsumexp(dim=-1)


# %% [markdown]
# Four numbers tell what a head is worth:
#
# - *unseen*: how often the truth lies in a cell of which training knows nothing;
# - *error*: the distance in metres from the likeliest place to the truth, in the middle case;
# - *surprise*: minus the logarithm of the density at the truth, in nats, of which fewer is better;
# - *calibration*: how often the truth lies in the smallest area that holds 80 % of the probability.
#   A head that knows how unsure it is says 80 %.


# %%
def judged_regions(head: Regions, known_N8: Tensor, place_m_NC: Tensor) -> tuple[Tensor, ...]:
    """Unseen, metres off, surprise, and the mass of what is likelier than the truth."""
    share_NR, own_N = head.shares(known_N8, place_m_NC)
    off_m_N = (head.centre_m_RC[share_NR.argmax(dim=1)] - place_m_NC).norm(dim=1)
    nll_N = -(SEEN * own_N / head.area_m2 + (1 - SEEN) / MAP_M2).log()
    above_N = (share_NR * (share_NR > own_N[:, None])).sum(dim=1)
    return own_N == 0, off_m_N, nll_N, above_N + torch.rand(len(own_N)) * own_N


def judged_mixture(head: Mixture, known_N8: Tensor, place_m_NC: Tensor) -> tuple[Tensor, ...]:
    log_weight_NM, mean_m_NMC, scale_m_NM = parts = head.parts(known_N8)
    best_N11 = (log_weight_NM - 2 * scale_m_NM.log()).argmax(dim=1)[:, None, None]
    off_m_N = (mean_m_NMC.gather(1, best_N11.expand(-1, 1, 2))[:, 0] - place_m_NC).norm(dim=1)
    nll_N = -log_density(parts, place_m_NC)
    chosen_NS = torch.multinomial(log_weight_NM.exp(), 100, replacement=True)
    mean_m_NSC = mean_m_NMC.gather(1, chosen_NS[..., None].expand(-1, -1, 2))
    scale_m_NS1 = scale_m_NM.gather(1, chosen_NS)[..., None]
    sample_m_NSC = mean_m_NSC + scale_m_NS1 * torch.randn(mean_m_NSC.shape)
    each = tuple(part.unsqueeze(1) for part in parts)
    above_N = (log_density(each, sample_m_NSC) > -nll_N[:, None]).float().mean(dim=1)
    return torch.zeros(len(nll_N)), off_m_N, nll_N, above_N


# %%
def trained(head: nn.Module, known_N8: Tensor, place_m_NC: Tensor, num_steps: int = 400):
    """A head that has learnt by its surprise."""
    draw, optimiser = torch.Generator().manual_seed(4), torch.optim.Adam(head.parameters(), 0.004)
    for _ in range(num_steps):
        chosen = torch.randint(len(known_N8), (256,), generator=draw)
        known, place = known_N8[chosen], place_m_NC[chosen]
        if isinstance(head, Regions):
            loss = -head.shares(known, place)[1].log().mean()
        else:
            loss = -log_density(head.parts(known), place).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head


past, later = asked_of(range(120), 0, 21), asked_of(range(120), 21, 28)
strangers = asked_of(range(500, 540), 21, 28)
torch.manual_seed(6)
heads = {f"regions {size}": Regions(size, past[1]) for size in (7, 8, 9, 10)}
heads |= {"Gaussian": Mixture(1), "mixture": Mixture(8)}
heads = {name: trained(head, *past) for name, head in heads.items()}

# %%
table = {}
print("                        unseen   error  surprise  80 % hold")
for who, asked in (("later", later), ("strangers", strangers)):
    for name, head in heads.items():
        judge = judged_regions if isinstance(head, Regions) else judged_mixture
        with torch.no_grad():
            unseen_N, off_m_N, nll_N, above_N = judge(head, *asked)
        row = unseen_N.float().mean(), off_m_N.median(), nll_N.mean(), (above_N < 0.8).float().mean()
        table[who, name] = unseen, off_m, nll, held = [float(value) for value in row]
        print(f"{who:10} {name:11} {unseen:7.0%} {off_m:6,.0f}m {nll:9.1f} {held:10.0%}")
sizes = [7, 8, 9, 10]
series = {
    f"{kind}, {who}": (sizes, [table[who, f"regions {size}" if kind == "regions" else kind][2] for size in sizes])
    for who in ("later", "strangers")
    for kind in ("regions", "mixture")
}
lines(series, "The price of cells, once more", ("resolution of the cells", "surprise in nats"))

# %% [markdown]
# **What to notice.** TODO

# %% tags=["claim"]
later_9, strange_9 = table["later", "regions 9"], table["strangers", "regions 9"]

# %% [markdown]
# ## 4. How long does the way take?
#
# Here are the ways of one person in half a year. Some are on foot, to a place around the corner, and
# some go to work. The published TrajGPT tells such times by a mixture of Gaussians, in hours. Let us
# see what one Gaussian says, and what three say.
#
# ### Exercise 1: fit a mixture by hand
#
# A mixture says: first a component is chosen, by its weight $w_m$, and then a number is drawn from
# its Gaussian. *Expectation and maximisation* (EM) finds weights, means and deviations in rounds of
# two halves. In the first half each number $x_n$ is shared out, by how likely each component is
# to have made it:
#
# $$ r_{nm} = \frac{w_m \, \mathcal{N}(x_n; \mu_m, \sigma_m)}{\sum_k w_k \, \mathcal{N}(x_n; \mu_k, \sigma_k)} $$
#
# In the second half each component becomes the weight, the mean and the deviation of its shares. The
# deviation is taken around the new mean. Write it.


# %% tags=["exercise"]
def fit_mixture(
    x_N: Tensor, weight_M: Tensor, mean_M: Tensor, scale_M: Tensor, num_rounds: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and deviations after so many rounds of EM."""
    # BEGIN SOLUTION: log density of each part (N, M), plus log weight; softmax; weighted moments
    for _ in range(num_rounds):
        error_NM = (x_N[:, None] - mean_M) / scale_M
        share_NM = (weight_M.log() - scale_M.log() - error_NM.square() / 2).softmax(dim=1)
        count_M = share_NM.sum(dim=0)
        weight_M = count_M / len(x_N)
        mean_M = (share_NM * x_N[:, None]).sum(dim=0) / count_M
        away_NM = x_N[:, None] - mean_M
        scale_M = ((share_NM * away_NM.square()).sum(dim=0) / count_M).sqrt()
    return weight_M, mean_M, scale_M
    # END SOLUTION


# %% tags=["check"]
def nll_of(x_N: Tensor, weight_M: Tensor, mean_M: Tensor, scale_M: Tensor) -> float:
    """The mean surprise of numbers by a mixture."""
    each_NM = Normal(mean_M, scale_M).log_prob(x_N[:, None]) + weight_M.log()
    return float(-each_NM.logsumexp(dim=1).mean())


draw = torch.Generator().manual_seed(7)
start = torch.tensor([0.5, 0.5]), torch.tensor([5.5, 7.5]), torch.tensor([1.0, 1.0])
for weight, mean_M, scale_M in [(0.5, (6, 8), (0.3, 0.3)), (0.8, (6, 7), (0.4, 0.3))]:
    is_first_N = torch.rand(4_000, generator=draw) < weight
    normal_N = torch.randn(4_000, generator=draw)
    first_N, second_N = (m + s * normal_N for m, s in zip(mean_M, scale_M, strict=True))
    x_N = torch.where(is_first_N, first_N, second_N)
    one = fit_mixture(x_N, torch.ones(1), torch.zeros(1), torch.ones(1), 1)
    assert_close(torch.stack(one)[:, 0], torch.stack([torch.ones(()), x_N.mean(), x_N.std(correction=0)]))
    path = [nll_of(x_N, *fit_mixture(x_N, *start, rounds)) for rounds in (0, 1, 2, 5, 20, 200)]
    assert all(a >= b - 1e-5 for a, b in zip(path[:-1], path[1:], strict=True)), "a round made it worse"
    weight_M, mean_found_M, scale_found_M = fit_mixture(x_N, *start, 200)
    assert_close(weight_M.sum(), torch.tensor(1.0))
    assert abs(weight_M[0] - weight) < 0.05
    assert (mean_found_M - torch.tensor(mean_M)).abs().max() < 0.1
    # The project asks scikit-learn for the same:
    log_weight_M, *others, log_scale_M = log_normals(x_N.exp(), 2).float()
    theirs = nll_of(x_N, log_weight_M.exp(), *others, log_scale_M.exp())
    assert path[-1] < theirs + 1e-3, "not the likeliest mixture"
print("right: the mixture")


# %% tags=["wrong"]
def fit_mixture(x_N, weight_M, mean_M, scale_M, num_rounds):
    for _ in range(num_rounds):
        error_NM = (x_N[:, None] - mean_M) / scale_M
        density_NM = weight_M.log() - scale_M.log() - error_NM.square() / 2
        share_NM = functional.one_hot(density_NM.argmax(dim=1), len(mean_M)).float()  # all or none
        count_M = share_NM.sum(dim=0)
        weight_M, mean_M = count_M / len(x_N), (share_NM * x_N[:, None]).sum(dim=0) / count_M
        away_NM = x_N[:, None] - mean_M
        scale_M = ((share_NM * away_NM.square()).sum(dim=0) / count_M).sqrt()
    return weight_M, mean_M, scale_M


# %% tags=["wrong"]
def fit_mixture(x_N, weight_M, mean_M, scale_M, num_rounds):
    for _ in range(num_rounds):
        error_NM = (x_N[:, None] - mean_M) / scale_M
        share_NM = (-scale_M.log() - error_NM.square() / 2).softmax(dim=1)  # weights are forgotten
        count_M = share_NM.sum(dim=0)
        weight_M, mean_M = count_M / len(x_N), (share_NM * x_N[:, None]).sum(dim=0) / count_M
        away_NM = x_N[:, None] - mean_M
        scale_M = ((share_NM * away_NM.square()).sum(dim=0) / count_M).sqrt()
    return weight_M, mean_M, scale_M


# %% tags=["wrong"]
def fit_mixture(x_N, weight_M, mean_M, scale_M, num_rounds):
    for _ in range(num_rounds):
        away_NM = x_N[:, None] - mean_M
        share_NM = (weight_M.log() - scale_M.log() - (away_NM / scale_M).square() / 2).softmax(dim=1)
        count_M = share_NM.sum(dim=0)
        scale_M = ((share_NM * away_NM.square()).sum(dim=0) / count_M).sqrt()  # of the old mean
        weight_M, mean_M = count_M / len(x_N), (share_NM * x_N[:, None]).sum(dim=0) / count_M
    return weight_M, mean_M, scale_M


# %% [markdown]
# Times that cannot be negative, and of which a few are very long, are better told by their logarithm:
# a *log-normal* mixture is a mixture of Gaussians of $\ln s$. Its density over seconds is divided by
# $s$, since a second is a smaller step of the logarithm where s is large:
#
# $$ p(s) = \frac{1}{s} \sum_m w_m \, \mathcal{N}(\ln s; \mu_m, \sigma_m) $$
#
# So all four ways below are judged in the same unit, nats of seconds, on the second half of the year.

# %%
visit_V4 = life(7, 364)
way_s_N = torch.from_numpy(visit_V4[1:, 2] - visit_V4[:-1, 3]).float()
learnt_N, judged_N = way_s_N.chunk(2)


def spread_start(x_N: Tensor, num: int) -> tuple[Tensor, Tensor, Tensor]:
    """A mixture to begin with: means at even shares of the numbers."""
    share_M = (torch.arange(num) + 0.5) / num
    return torch.full((num,), 1 / num), x_N.quantile(share_M), x_N.std().repeat(num) / num


ways = {
    "one Gaussian": (fit_mixture(learnt_N, *spread_start(learnt_N, 1), 1), False),
    "three Gaussians": (fit_mixture(learnt_N, *spread_start(learnt_N, 3), 100), False),
    "one log-normal": (fit_mixture(learnt_N.log(), *spread_start(learnt_N.log(), 1), 1), True),
    "three log-normals": (fit_mixture(learnt_N.log(), *spread_start(learnt_N.log(), 3), 100), True),
}
seconds_N = torch.linspace(-600, 3_600, 421)
density = {}
for name, (parts, is_log) in ways.items():
    x_N = seconds_N.clamp(min=1e-9).log() if is_log else seconds_N
    each_NM = Normal(*parts[1:]).log_prob(x_N[:, None]).exp() @ parts[0]
    density[name] = each_NM / seconds_N.clamp(min=1e-9) * (seconds_N > 0) if is_log else each_NM
lines({name: (seconds_N / 60, value_N * 60) for name, value_N in density.items()},
    "How long the way takes", ("minutes", "density a minute"))

# %% tags=["claim"]
nll, below = {}, {}
for name, (parts, is_log) in ways.items():
    x_N = judged_N.log() if is_log else judged_N
    nll[name] = nll_of(x_N, *parts) + (float(judged_N.log().mean()) if is_log else 0.0)
    zero = torch.zeros(1)
    below[name] = 0.0 if is_log else float(Normal(*parts[1:]).cdf(zero) @ parts[0])
    print(f"{name:18} {nll[name]:.2f} nats, {below[name]:.1%} below zero")
weight_M, mean_M, scale_M = ways["three log-normals"][0]
never = torch.tensor(-torch.inf)
theirs = DurationMixture(never, weight_M.log().double(), mean_M.double(), scale_M.double())
assert math.isclose(-float(theirs.log_density(judged_N).mean()), nll["three log-normals"], abs_tol=1e-3)

# %% [markdown]
# **What to notice.** TODO
#
# ## 5. Chains of regions
#
# Before a network, count. Four plain ways to tell the next region:
#
# - *stay*: she is where she was, as often as training stayed;
# - *frequency*: how often anybody was there;
# - *Markov 1*: how often one went there from here;
# - *Markov 2*: how often one went there from here, having come from there.
#
# The longer the context, the more it tells and the less often it was seen. So one *backs off*: what a
# context has counted is mixed with what the shorter context says, as if that were some more visits.
# With counts $c$ of a context, $n$ in all, and a strength $k$:
#
# $$ P(\text{next}) = \frac{c(\text{next}) + k \, P_{\text{shorter}}(\text{next})}{n + k} $$
#
# ### Exercise 2: Markov with back-off
#
# Count triples in a row of regions, and build $P(\text{next} \mid \text{before}, \text{last})$ as a
# table for all pairs. It backs off to P(next | last), this to P(next), and this to equal shares.


# %% tags=["exercise"]
def markov_with_backoff(region_V: Tensor, num_regions: int, strength: float = 2.0) -> Tensor:
    """P(next | before, last), a table (before, last, next)."""
    # BEGIN SOLUTION: a table of triples; its sums are the counts of shorter contexts
    count_RRR = torch.zeros(3 * [num_regions])
    triples = region_V[:-2], region_V[1:-1], region_V[2:]
    count_RRR.index_put_(triples, torch.ones(len(region_V) - 2), accumulate=True)
    share = torch.full((num_regions,), 1 / num_regions)
    for count in (count_RRR.sum(dim=(0, 1)), count_RRR.sum(dim=0), count_RRR):
        share = (count + strength * share) / (count.sum(dim=-1, keepdim=True) + strength)
    return share
    # END SOLUTION


# %% tags=["check"]
def judged(share_RRR: Tensor, region_V: Tensor) -> tuple[float, float]:
    """The share of right answers, and the surprise in nats."""
    share_NR = share_RRR[region_V[:-2], region_V[1:-1]]
    right = (share_NR.argmax(dim=1) == region_V[2:]).float().mean()
    return float(right), float(-share_NR.gather(1, region_V[2:, None]).log().mean())


def staying_table(region_V: Tensor, num_regions: int) -> Tensor:
    """"Stay" as a table: the last region with the share of train, others by frequency."""
    share = float((region_V[1:] == region_V[:-1]).float().mean())
    frequency_R = (torch.bincount(region_V, minlength=num_regions) + 1) / (len(region_V) + num_regions)
    table_RR = share * torch.eye(num_regions) + (1 - share) * frequency_R
    return table_RR.expand(num_regions, -1, -1)


for seed, chain, num in [(1, RegionChain(), 3_000), (2, RegionChain(side=3, stay=0.6), 400)]:
    drawn_V = torch.from_numpy(chain.draw(np.random.default_rng(seed), num + 2_000))
    share_RRR = markov_with_backoff(drawn_V[:num], chain.num_regions)
    assert_close(share_RRR.sum(dim=2), torch.ones(2 * [chain.num_regions]), msg="no shares")
    assert (share_RRR > 0).all(), "nothing is impossible"
    far = chain.num_regions - 1  # a corner that nobody reaches from the first two regions at once
    after_far_V = drawn_V[1:num][drawn_V[: num - 1] == far]
    share_R = torch.bincount(after_far_V, minlength=chain.num_regions) / len(after_far_V)
    assert_close(share_RRR[:2, far], share_R.expand(2, -1), atol=0.07, rtol=0, msg="no back-off")
    stay_right, stay_nll = judged(staying_table(drawn_V[:num], chain.num_regions), drawn_V[num:])
    right, nll_found = judged(share_RRR, drawn_V[num:])
    assert right > stay_right
    assert nll_found < stay_nll - 0.2, "does not beat stay"
print("right: the chain backs off")


# %% tags=["wrong"]
def markov_with_backoff(region_V, num_regions, strength=2.0):
    count_RRR = torch.zeros(3 * [num_regions])
    triples = region_V[:-2], region_V[1:-1], region_V[2:]
    count_RRR.index_put_(triples, torch.ones(len(region_V) - 2), accumulate=True)
    return count_RRR / count_RRR.sum(dim=-1, keepdim=True).clamp(min=1)  # no way back


# %% tags=["wrong"]
def markov_with_backoff(region_V, num_regions, strength=2.0):
    count_RRR = torch.zeros(3 * [num_regions])
    triples = region_V[:-2], region_V[1:-1], region_V[2:]
    count_RRR.index_put_(triples, torch.ones(len(region_V) - 2), accumulate=True)
    even = strength / num_regions  # straight to equal shares
    return (count_RRR + even) / (count_RRR.sum(dim=-1, keepdim=True) + strength)


# %% tags=["wrong"]
def markov_with_backoff(region_V, num_regions, strength=2.0):
    count_RRR = torch.zeros(3 * [num_regions])
    triples = region_V[1:-1], region_V[:-2], region_V[2:]  # before and last are swapped
    count_RRR.index_put_(triples, torch.ones(len(region_V) - 2), accumulate=True)
    share = torch.full((num_regions,), 1 / num_regions)
    for count in (count_RRR.sum(dim=(0, 1)), count_RRR.sum(dim=0), count_RRR):
        share = (count + strength * share) / (count.sum(dim=-1, keepdim=True) + strength)
    return share


# %% [markdown]
# How good can it get? Of a chain that we have made we know the answer. With the share of time $\pi_r$
# spent in each region, the *entropy rate* is the surprise of one who knows the chain itself, and
# nobody can do with less in the long run:
#
# $$ H = - \sum_r \pi_r \sum_s P(s \mid r) \ln P(s \mid r) $$


# %%
def entropy_rate(chain: RegionChain) -> float:
    each_R = torch.special.entr(torch.from_numpy(chain.transition_RR)).sum(dim=1)
    return float(torch.from_numpy(chain.stationary_R) @ each_R)


def tables_of(region_V: Tensor, num_regions: int = 16) -> dict[str, Tensor]:
    """Four laws of the next region as tables; back-off by the part of the project."""
    count_RRR = torch.zeros(3 * [num_regions]).double()
    ones = torch.ones(len(region_V) - 2).double()
    count_RRR.index_put_((region_V[:-2], region_V[1:-1], region_V[2:]), ones, accumulate=True)
    even_1R = torch.full((1, num_regions), 1 / num_regions)
    often_1R = shrunk(count_RRR.sum(dim=(0, 1))[None], even_1R, 2.0)
    one_RR = shrunk(count_RRR.sum(dim=0), often_1R.expand(num_regions, -1), 2.0)
    two_RRR = markov_with_backoff(region_V, num_regions)
    for before in range(num_regions):
        assert_close(two_RRR[before], shrunk(count_RRR[before], one_RR, 2.0).float())
    shape = (num_regions, num_regions, -1)
    laws = often_1R.expand(shape), one_RR.expand(shape), two_RRR
    return {"stay": staying_table(region_V, num_regions)} | dict(
        zip(("frequency", "Markov 1", "Markov 2"), laws, strict=True)
    )


# %%
chain = RegionChain(side=4, stay=0.4)
row_V = torch.from_numpy(chain.draw(np.random.default_rng(9), 60_000))
sizes, surprise = [30, 100, 300, 1_000, 3_000, 10_000, 50_000], {}
for size in sizes:
    for name, table_RRR in tables_of(row_V[:size]).items():
        surprise.setdefault(name, []).append(judged(table_RRR, row_V[50_000:])[1])
series = {name: (sizes, found) for name, found in surprise.items()}
series["entropy rate"] = (sizes, [entropy_rate(chain)] * len(sizes))
labels = ("visits learnt from", "surprise in nats")
lines(series, "What counting learns", labels, is_log_x=True)

# %% [markdown]
# **What to notice.** TODO

# %% tags=["claim"]
above = {name: found[-1] - entropy_rate(chain) for name, found in surprise.items()}
print({name: round(value, 3) for name, value in above.items()})

# %% [markdown]
# ## 6. People whose law is known
#
# Now all three questions at once. The project has a law for made-up visits: regions follow such a
# chain, but nobody stays twice. A way is log-normal around a median of the region that it leads to,
# and one in ten takes no time. A stay is log-normal around a median that depends on the region and on
# the way there. So we know the least surprise of each of the three.


# %%
LAW, CELL_M = VisitLaw(), 2_000.0


def windows_of_law(seed: int, num_rows: int, num_visits: int = 24) -> tuple[np.ndarray, ...]:
    """Regions, seconds of ways, seconds of stays (B, V)."""
    generator = np.random.default_rng(seed)
    drawn = [LAW.draw(generator, num_visits) for _ in range(num_rows)]
    return tuple(np.stack(column) for column in zip(*drawn, strict=True))


def batch_of(region_BV, way_s_BV, stay_s_BV) -> VisitBatch:
    """The same as models read it; all visits but the first of a window are asked."""
    left_s_BV = (way_s_BV + stay_s_BV).cumsum(axis=1)
    arrived_s_BV = left_s_BV - stay_s_BV
    calendar_BVK = calendar_of_visits((arrived_s_BV * 1e6).astype(np.int64), "UTC")
    column_BV, row_BV = LAW.chain.places(region_BV)
    yes_BV = np.ones(region_BV.shape, bool)
    is_asked_BV = yes_BV & (np.arange(region_BV.shape[1]) > 0)
    columns = region_BV + NUM_SPECIAL, CELL_M * column_BV, CELL_M * row_BV, arrived_s_BV, left_s_BV
    masks = ~yes_BV, is_asked_BV, ~yes_BV, yes_BV
    tensors = map(torch.from_numpy, (*columns, calendar_BVK, *masks))
    return VisitBatch(*tensors, torch.arange(len(region_BV)))


# %%
def deciles(value_N: np.ndarray) -> Quantiles:
    return Quantiles(*np.quantile(value_N, [0.1, 0.5, 0.9]).tolist())


learnt = windows_of_law(1, 2_000)
east_m_R, north_m_R = (CELL_M * axis_R for axis_R in LAW.chain.places(np.arange(16)))
away_m_R = np.hypot(east_m_R, north_m_R)
places = Places(
    resolution=8,
    cells=tuple(cells_of(*FRAME.degrees(east_m_R, north_m_R), 8).tolist()),
    centroid_lon_deg=FRAME.lon_deg,
    centroid_lat_deg=FRAME.lat_deg,
    east_m=tuple(east_m_R.tolist()),
    north_m=tuple(north_m_R.tolist()),
    num_visits=learnt[0].size,
    min_stay_s=LAW.least_stay_s,
    duration_s=deciles(learnt[2]),
    travel_s=deciles(learnt[1][:, 1:]),
    distance_m=deciles(away_m_R),
    max_distance_m=float(away_m_R.max()),
    max_elapsed_s=1e7,
)

# %% [markdown]
# The family `trajgpt` is a causal transformer (notebook 02) over visits. What it reads of a visit are
# the parts of section 2: Space2Vec of the place, Time2Vec of arrival and departure, an embedding of
# the region. Three heads read the state after a visit: P(next region), p(way | region) and
# p(stay | region, way). Both times are mixtures of log-normals. We train a tiny one for some seconds.

# %%
every = batch_of(*learnt)
torch.manual_seed(8)
model = TrajGpt(PRESETS["tiny"], places)
model.fit_inputs([every])
optimiser = torch.optim.AdamW(model.parameters(), lr=0.007)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.007, total_steps=120)
draw, region_nats = torch.Generator().manual_seed(9), []
for _ in range(120):
    begin = int(torch.randint(2_000 - 64, (), generator=draw))
    loss = model.loss(every.part(begin, begin + 64))
    optimiser.zero_grad()
    loss.mean.backward()
    optimiser.step()
    schedule.step()
    region_nats.append(float(loss.parts["region_nll"] / loss.count))
floor = [entropy_rate(LAW.chain)] * len(region_nats)
loss_curve({"trajgpt": region_nats, "entropy rate": floor}, "Learning where one goes next")

# %% [markdown]
# The rivals count: where train went at all, where it went from here, and how long ways and stays of a
# region were. All are asked about the last visit of 2,000 new windows of eight.


# %%
def surprises(told, asked) -> list[float]:
    """Of the region, the way and the stay, in nats."""
    region_N = told.log_region_NR.gather(1, asked.region_N[:, None])[:, 0]
    way_N = told.travel(asked.region_N).log_density(asked.travel_s_N)
    stay_N = told.stay(asked).log_density(asked.duration_s_N)
    return [float(-value_N.mean()) for value_N in (region_N, way_N, stay_N)]


new = windows_of_law(2, 2_000, 8)
history, asked = parted(batch_of(*new))
past_visits = PastVisits.of([every], places)
often, times = frequency(past_visits), region_hour_times(past_visits)
laws = {
    "stay": staying(past_visits, often),
    "frequency": often.law,
    "Markov 1": context_frequency(past_visits, "region", often).law,
    "Kneser-Ney": kneser_ney(past_visits),
}
tellers = {name: VisitBaseline(name, law, times) for name, law in laws.items()}
with torch.no_grad():
    found = {name: surprises(one.next_visit(history), asked) for name, one in tellers.items()}
    found["trajgpt"] = surprises(model.eval().next_visit(history), asked)
before_N, (region_N, way_s_N, stay_s_N) = new[0][:, -2], (column[:, -1] for column in new)
found["the law itself"] = [
    float(-np.log(LAW.chain.transition_RR[before_N, region_N]).mean()),
    float(LAW.travel_nll(region_N, way_s_N).mean()),
    float(LAW.stay_nll(region_N, way_s_N, stay_s_N).mean()),
]
for name, nats in found.items():
    print(f"{name:15} region {nats[0]:.3f}, way {nats[1]:.3f}, stay {nats[2]:.3f}")

# %% [markdown]
# **What to notice.** TODO

# %% tags=["claim"]
trajgpt, least = found["trajgpt"], found["the law itself"]

# %% [markdown]
# ## What can go wrong: the answer among the inputs
#
# In the released code of TrajGPT a visit is four blocks side by side: its place, its arrival, its
# departure, and its region. The head of ways is to be told the region that is asked for. It takes the
# first two blocks, which the comment there calls "region_id, location". They are the place and the
# **arrival**: the very time that it is to tell is among its inputs, and the region is not. (Whether the
# numbers of the paper come from this code is not known.)
#
# Here are two heads of ways, alike but for the blocks that they are given.


# %%
def blocks_of(region_N, way_s_N, stay_s_N) -> dict[str, Tensor]:
    """What is known of a visit, block by block, on scales of one."""
    place_km_N2 = torch.stack([torch.from_numpy(axis) for axis in LAW.chain.places(region_N)], 1)
    return place_km_N2


# %% tags=["claim"]
pass

# %% [markdown]
# ## Summary
#
# TODO
#
# **Next:** `11_generation_by_diffusion`, how do we make new trajectories?
