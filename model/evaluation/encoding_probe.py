"""Encoding probe: an autoencoder must tell from a point's encoding where and when it was.

If it cannot, nor can a model: the encoding has lost what it should carry. The features of a point
go through the input layer of `chemin`, are squeezed to fewer numbers than there are of them, and
come out as the place and the time since the window's first point. It is asked six times:

- `features`: through the input layer alone;
- `positions later`: the same trained autoencoder, once positions of the sequence are added to what
  it reads. What it loses so is told and not judged: nobody trains a model without and asks it with;
- `with positions`: an autoencoder that was trained with them;
- `elsewhere`: that of `features`, asked about the same motions on another part of the Earth. An
  encoding that reads the axes in the wrong order, or degrees as if they were metres, is found out
  here although it can be learned at one place;
- `some hidden`: points are hidden, and told by the features of their neighbours. These say how fast
  one moved and for how long, from which so small a network computes places only roughly. What it
  tells of hidden points is reported and not judged: among vessels and people it was not enough;
- `lossy control`: all features but those of the place and the time in the window. It shows that
  the gate can fail.

Errors are told in metres and seconds, and as shares of the window's extent and duration.

Shapes: B windows, T points, F features, N points of all windows, D width, W window sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..earth.geometry import step_between, step_from, wrap_lon_deg
from ..features.normaliser import Normaliser
from ..features.point_features import LAGS, NUM_SPATIAL, NUM_TEMPORAL, point_features
from ..interface.batch import Batch, index_of
from ..layers.position_encodings import sinusoidal_positions

WIDTH, BOTTLENECK = 64, 6
MODEL_WIDTH = 96  # of the space that positions share with features
AWAY_LON_DEG, AWAY_LAT_DEG = 60.0, 45.0  # how far other parts of the Earth are
BATCH_POINTS, NUM_STEPS, LEARNING_RATE = 512, 600, 1e-2
HIDDEN_SHARE, NEIGHBOURS = 0.15, (-2, -1, 1, 2)
MAX_SHARE, MAX_OF_CONTROL, MAX_ELSEWHERE = 0.01, 0.1, 0.05
FEATURES, WITH_POSITIONS = "features", "with positions"
POSITIONS_LATER, ELSEWHERE = "positions later", "elsewhere"
SOME_HIDDEN, CONTROL = "some hidden", "lossy control"
# The features that tell the place and the time since the window's first point.
SINCE_FIRST = (4 * len(LAGS), 4 * len(LAGS) + 1, NUM_SPATIAL + 1)


Points = tuple[Tensor, Tensor, Tensor]  # shown (N, F), truth (N, 3) and sizes (N, W)


@dataclass(frozen=True)
class Recovery:
    """How well places and times were told; shares are of a window's extent and duration."""

    p50_m: float
    p99_m: float
    p50_s: float
    p99_s: float
    p50_share: float
    p99_share: float


@dataclass(frozen=True)
class ProbeWindows:
    """What is asked of some windows: the place and the time since the first point, in m and s.

    Sizes are the extent (the diagonal of what a window covers) and the duration. None is below a
    typical step: a window that stands still has no extent to be measured by.
    """

    feature_BTF: Tensor
    truth_BT3: Tensor
    size_BW: Tensor
    is_point_BT: Tensor


class ProbeNetwork(nn.Module):
    """What is shown of points, through a bottleneck, to the place and the time of each."""

    center_F: Tensor
    scale_F: Tensor

    def __init__(self, shown_NF: Tensor) -> None:
        super().__init__()
        self.register_buffer("center_F", shown_NF.mean(0))
        self.register_buffer("scale_F", shown_NF.std(0).clamp(min=1e-3))
        self.squeeze = nn.Linear(shown_NF.shape[1], BOTTLENECK)
        self.straight = nn.Linear(BOTTLENECK, 3)
        last = nn.Linear(WIDTH, 3)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.bent = nn.Sequential(nn.Linear(BOTTLENECK, WIDTH), nn.GELU(), last)

    @torch.no_grad()
    def start(self, shown_NF: Tensor, asked_N3: Tensor) -> None:
        """The least squares of a straight reader: three of the squeezed numbers are its answers."""
        scaled_NF = functional.pad((shown_NF - self.center_F) / self.scale_F, (0, 1), value=1.0)
        weight_F3 = torch.linalg.lstsq(
            scaled_NF.double(), asked_N3.double(), driver="gelsd"
        ).solution.float()
        self.squeeze.weight[:3], self.squeeze.bias[:3] = weight_F3[:-1].T, weight_F3[-1]
        self.straight.weight.copy_(torch.eye(3, BOTTLENECK))
        self.straight.bias.zero_()

    def forward(self, shown_NF: Tensor) -> Tensor:
        code_NC = self.squeeze((shown_NF - self.center_F) / self.scale_F)
        return self.straight(code_NC) + self.bent(code_NC)


class InputLayer(nn.Module):
    """The layer by which `chemin` reads the features of points, to a width D."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Linear(NUM_SPATIAL, MODEL_WIDTH // 2)
        self.temporal = nn.Linear(NUM_TEMPORAL, MODEL_WIDTH - MODEL_WIDTH // 2)

    @torch.no_grad()
    def forward(self, feature_F: Tensor) -> Tensor:
        spatial_S, temporal_M = feature_F.split([NUM_SPATIAL, NUM_TEMPORAL], dim=-1)
        return torch.cat([self.spatial(spatial_S), self.temporal(temporal_M)], dim=-1)


def probe(
    learnt: Sequence[Batch], judged: Sequence[Batch], normaliser: Normaliser, seed: int
) -> dict[str, Recovery]:
    """How well each variant tells the points of `judged`, once it has learnt from others."""
    scale = scale_of(normaliser)
    first, second, away = (
        [probe_windows(batch, normaliser, scale) for batch in batches]
        for batches in (learnt, judged, [moved_away(batch) for batch in judged])
    )
    found = {}
    for name in VARIANTS:
        reader = trained_reader(name, first, scale, seed)
        found[name] = recovery(reader, probe_points(name, second, seed), scale)
        if name == FEATURES:
            asked = {POSITIONS_LATER: (WITH_POSITIONS, second), ELSEWHERE: (FEATURES, away)}
            for title, (shown_as, windows) in asked.items():
                found[title] = recovery(reader, probe_points(shown_as, windows, seed), scale)
    return found


def trained_reader(
    name: str, learnt: Sequence[ProbeWindows], scale: Tensor, seed: int
) -> ProbeNetwork:
    """The autoencoder of a variant, trained on some windows; random numbers of others stay."""
    points = probe_points(name, learnt, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fitted(points, scale)


def moved_away(batch: Batch) -> Batch:
    """The same motions with their first points elsewhere: a rotation of the whole sphere.

    Displacements since the first point stay what they were, to the millimetre.
    """
    lon_deg_B1, lat_deg_B1 = batch.lon_deg_BT[:, :1], batch.lat_deg_BT[:, :1]
    since_first = step_between(lon_deg_B1, lat_deg_B1, batch.lon_deg_BT, batch.lat_deg_BT)
    toward_equator = torch.where(lat_deg_B1 > 0, -AWAY_LAT_DEG, AWAY_LAT_DEG)
    start = wrap_lon_deg(lon_deg_B1 + AWAY_LON_DEG), lat_deg_B1 + toward_equator
    lon_deg_BT, lat_deg_BT = step_from(*start, *since_first)
    return replace(batch, lon_deg_BT=lon_deg_BT, lat_deg_BT=lat_deg_BT)


def refusals(recoveries: dict[str, Recovery]) -> list[str]:
    """Why an encoding does not pass; none where it does. Hidden points are told of, not judged.

    Where the control would pass too, the points lie so evenly that they tell themselves: then an
    encoding cannot be ten times better, and need not be.
    """
    control = recoveries[CONTROL].p99_share
    limit = MAX_SHARE if control < MAX_SHARE else min(MAX_SHARE, MAX_OF_CONTROL * control)
    limits = {FEATURES: limit, WITH_POSITIONS: limit, ELSEWHERE: MAX_ELSEWHERE}
    return [
        f"{name}: the p99 error is {recoveries[name].p99_share:.2%} of the window and may be "
        f"{most:.2%}"
        for name, most in limits.items()
        if not recoveries[name].p99_share < most
    ]


def scale_of(normaliser: Normaliser) -> Tensor:
    """A typical step: east and north in metres, and seconds."""
    extent_m = normaliser.extent_scale_m
    return torch.tensor([extent_m, extent_m, normaliser.typical_step_s], dtype=torch.float64)


# What is shown ------------------------------------------------------------------------------------


def probe_windows(batch: Batch, normaliser: Normaliser, scale: Tensor) -> ProbeWindows:
    """The features of the points of a batch, and what they must tell."""
    lon_deg_BT, lat_deg_BT, index_BT = batch.lon_deg_BT, batch.lat_deg_BT, index_of(batch.is_pad_BT)
    points = lon_deg_BT, lat_deg_BT, batch.time_s_BT, batch.calendar_BTK
    seen = point_features(*points, index_BT, torch.zeros_like(index_BT), normaliser)
    since_first = step_between(lon_deg_BT[:, :1], lat_deg_BT[:, :1], lon_deg_BT, lat_deg_BT)
    since_first_s = batch.time_s_BT - batch.time_s_BT[:, :1]
    truth_BT3 = torch.stack([*since_first, since_first_s], dim=-1)
    is_pad_BT1 = batch.is_pad_BT.unsqueeze(-1)
    low_B3 = truth_BT3.masked_fill(is_pad_BT1, math.inf).amin(1)
    high_B3 = truth_BT3.masked_fill(is_pad_BT1, -math.inf).amax(1)
    side_B3 = torch.maximum(high_B3 - low_B3, scale)
    size_B2 = torch.stack([side_B3[:, :2].norm(dim=-1), side_B3[:, 2]], dim=-1)
    feature_BTF = torch.cat([seen.spatial_BQS, seen.temporal_BQM], dim=-1)
    return ProbeWindows(feature_BTF, truth_BT3, size_B2, ~batch.is_pad_BT)


def probe_points(name: str, windows: Sequence[ProbeWindows], seed: int) -> Points:
    """What a variant shows of the points of some windows, their truth and their windows' sizes."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for one in windows:
        shown_BTF, is_asked_BT = VARIANTS[name](one, generator)
        size_BTW = one.size_BW.unsqueeze(1).expand(*is_asked_BT.shape, -1)
        chosen.append([value[is_asked_BT] for value in (shown_BTF, one.truth_BT3, size_BTW)])
    shown, truth, size = (torch.cat(column) for column in zip(*chosen, strict=True))
    return shown, truth, size


def embedded(windows: ProbeWindows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Through an input layer of fresh weights, the same for all windows of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        return InputLayer()(windows.feature_BTF), windows.is_point_BT


def with_positions(windows: ProbeWindows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same, with the sinusoids of their places in the sequence added."""
    embedded_BTD, is_asked_BT = embedded(windows, generator)
    return embedded_BTD + sinusoidal_positions(*embedded_BTD.shape[1:]), is_asked_BT


def some_hidden(windows: ProbeWindows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The neighbours of hidden points; what is hidden or beyond the ends is told by a mark."""
    is_point_BT = windows.is_point_BT
    is_hidden_BT = torch.rand(is_point_BT.shape, generator=generator) < HIDDEN_SHARE
    is_shown_BT1 = (is_point_BT & ~is_hidden_BT).unsqueeze(-1)
    marked_BTF = torch.cat([windows.feature_BTF * is_shown_BT1, is_shown_BT1.float()], dim=-1)
    reach = max(NEIGHBOURS)
    wide = functional.pad(marked_BTF, (0, 0, reach, reach))
    num_points = is_point_BT.shape[1]
    around = [wide[:, reach + k : reach + k + num_points] for k in NEIGHBOURS]
    return torch.cat(around, dim=-1), is_point_BT & is_hidden_BT


def lossy(windows: ProbeWindows, _generator: torch.Generator) -> tuple[Tensor, Tensor]:
    kept = [k for k in range(windows.feature_BTF.shape[-1]) if k not in SINCE_FIRST]
    return windows.feature_BTF[..., kept], windows.is_point_BT


VARIANTS = {
    FEATURES: embedded,
    WITH_POSITIONS: with_positions,
    SOME_HIDDEN: some_hidden,
    CONTROL: lossy,
}


# Learning and judging -----------------------------------------------------------------------------


def fitted(points: Points, scale: Tensor) -> ProbeNetwork:
    """A reader trained on points; far places count by their logarithm, so that none outweighs.

    It starts from the best linear one, and bends from there.
    """
    shown_NF, truth_N3, _size_NW = points
    reader = ProbeNetwork(shown_NF)
    asked_N3 = torch.asinh(truth_N3 / scale).float()
    reader.start(shown_NF, asked_N3)
    optimizer = torch.optim.Adam(reader.parameters(), betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, NUM_STEPS)
    for _ in range(NUM_STEPS):
        row_M = torch.randint(len(shown_NF), (BATCH_POINTS,))
        loss = functional.smooth_l1_loss(reader(shown_NF[row_M]), asked_N3[row_M], beta=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return reader


@torch.no_grad()
def recovery(reader: ProbeNetwork, points: Points, scale: Tensor) -> Recovery:
    """The errors on points that a reader was not trained on; the worse of place and time counts."""
    shown_NF, truth_N3, size_NW = points
    error_N3 = torch.sinh(reader(shown_NF).double()) * scale - truth_N3
    miss_NW = torch.stack([error_N3[:, :2].norm(dim=-1), error_N3[:, 2].abs()], dim=-1)
    share_N = (miss_NW / size_NW).amax(-1)
    quantiles = [
        float(value_N.quantile(q)) for value_N in (*miss_NW.T, share_N) for q in (0.5, 0.99)
    ]
    return Recovery(*quantiles)
