"""Journeys: how long one takes, told from its ends alone or from its path as well.

Around the duration that its length alone tells of train, the network puts a mixture on logarithms
of seconds. It sees where the ends lie and when it begins, and of a path its length and how the
places at even shares of its points are spread along it, but not how many points there are.

Shapes: N journeys, K places, D width, C coordinates (east, north).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...earth.geometry import heading_of, step_between
from ...features.normaliser import Normaliser
from ...interface.journey_rows import NUM_PLACES, JourneyRows, whole_journeys
from ...interface.masking import Loss
from ...layers.distributions import GaussianMixture
from ...layers.heads import NumberHead
from . import place
from .blocks import Residual
from .config import FoundryConfig
from .place import PlaceCode, tells_place

LEAST_S = 1.0  # is added before a logarithm
NUM_CLOCK = 4  # numbers of the weekday and of the hour, which come first in a calendar
NUM_ENDS = 1 + 2 + NUM_CLOCK + 2
NUM_PATH = 3 + 3 * (NUM_PLACES - 1)
DROPOUT = 0.2  # there are fewer journeys than points
FINEST = 10  # parts of a typical step that lengths are told apart by


class JourneyHead(nn.Module):
    """p(log seconds) of journeys; `usual` is what their length alone tells, by what is known.

    Its numbers are (known: ends or path; a, b, center, spread): log seconds are a + b z, where z is
    the logarithm of the length less its center, over its spread.
    """

    usual_KE: Tensor

    def __init__(self, config: FoundryConfig, usual: Normaliser) -> None:
        super().__init__()
        width, has_place = config.width, config.has_place
        self.share_placeless = config.share_placeless
        self.least_m = usual.extent_scale_m / FINEST
        num_seen = NUM_ENDS + NUM_PATH + (3 * place.NUM_SEEN + 1) * has_place
        self.embed = nn.Linear(num_seen, width)
        self.layers = nn.ModuleList(Residual(width, DROPOUT) for _ in range(config.num_layers))
        self.tell = NumberHead(width, config.num_components, 1.5)
        log_mps = torch.tensor(usual.speed_scale_mps).log()
        plain_E = torch.stack([-log_mps, torch.ones(()), torch.zeros(()), torch.ones(())])
        self.register_buffer("usual_KE", plain_E.repeat(2, 1))

    @torch.no_grad()
    def fit(self, batches: Iterable[JourneyRows]) -> None:
        """How the duration goes with the length, by least squares on whole journeys."""
        whole = whole_journeys(batches)
        if not whole:
            return
        log_s_N = torch.cat([log_seconds(one.duration_s_BG[:, 0]) for one in whole])
        for known, name in enumerate(("straight_m", "path_m")):
            log_m_N = torch.cat([self._log_m(getattr(Seen.of(one), name)) for one in whole])
            center, spread = log_m_N.mean(), log_m_N.std().clamp(min=1e-3)
            z_N = (log_m_N - center) / spread
            rise = (z_N * (log_s_N - log_s_N.mean())).mean() / z_N.square().mean().clamp(min=1e-6)
            self.usual_KE[known] = torch.stack([log_s_N.mean(), rise, center, spread])

    def _log_m(self, length_m_N: Tensor) -> Tensor:
        return torch.log(length_m_N + self.least_m)

    def loss(self, journeys: JourneyRows | None, where: PlaceCode | None) -> Loss:
        """Surprise of how long journeys take, told from their ends and from their paths."""
        if journeys is None:
            nothing = self.usual_KE.new_zeros(())
            return Loss.of(nothing.long(), {"journey_nll": nothing})
        ways = journeys.flat()
        log_s_N = log_seconds(ways.duration_s_BG[:, 0])
        asked = (ways, ways.with_ends_alone())
        nll_N = torch.cat([-self(one, where).log_density(log_s_N) for one in asked])
        return Loss.of(torch.tensor(len(nll_N)), {"journey_nll": nll_N.sum()})

    def forward(self, journeys: JourneyRows, where: PlaceCode | None) -> GaussianMixture:
        """Of flat journeys."""
        seen, has_path_N1 = Seen.of(journeys), journeys.has_path_BG.float()
        z_NK = torch.stack(
            [
                (self._log_m(length_m_N) - center) / spread
                for length_m_N, (center, spread) in zip(
                    (seen.straight_m, seen.path_m), self.usual_KE[:, 2:], strict=True
                )
            ],
            dim=-1,
        )
        parts = [
            z_NK[:, :1],
            seen.heading_NC,
            journeys.calendar_BGU[:, 0, :NUM_CLOCK],
            journeys.is_whole_BG,
            has_path_N1,
            has_path_N1 * torch.cat([z_NK[:, 1:], self._shape(seen)], dim=-1),
        ]
        if where is not None:
            is_told_N1 = tells_place(has_path_N1, self.training * self.share_placeless)
            code_NKV = is_told_N1.unsqueeze(-1) * codes_of(journeys, seen, where)
            parts += [code_NKV[:, 0], code_NKV[:, -1], has_path_N1 * code_NKV.mean(1), is_told_N1]
        x_ND = self.embed(torch.cat([part.float() for part in parts], dim=-1))
        for layer in self.layers:
            x_ND = layer(x_ND)
        usual_NK = self.usual_KE[:, 0] + self.usual_KE[:, 1] * z_NK
        usual_N1 = torch.where(journeys.has_path_BG, usual_NK[:, 1:], usual_NK[:, :1])
        return self.tell.around(usual_N1, 1.0, x_ND)

    def density(self, journeys: JourneyRows, where: PlaceCode | None) -> JourneyDensity:
        """How long flat journeys take."""
        return JourneyDensity(self(journeys, where))

    def _shape(self, seen: Seen) -> Tensor:
        """How a path winds, and how its points are spread along it, in shares of its length."""
        whole_m_N1 = (seen.path_m + self.least_m).unsqueeze(-1)
        step_m_NK = seen.step_m_NKC.norm(dim=-1)
        even_m_NK = step_m_NK * step_m_NK.shape[-1]
        along_NK = (seen.step_m_NKC * seen.heading_NC.unsqueeze(-2)).sum(-1)
        return torch.cat(
            [
                torch.log((seen.straight_m.unsqueeze(-1) + self.least_m) / whole_m_N1),
                torch.log((step_m_NK.sum(-1, keepdim=True) + self.least_m) / whole_m_N1),
                torch.log((even_m_NK + 0.01 * whole_m_N1) / whole_m_N1),
                torch.log((step_m_NK + self.least_m) / self.least_m) / 3,
                along_NK / (step_m_NK + self.least_m),
            ],
            dim=-1,
        )


def codes_of(journeys: JourneyRows, seen: Seen, where: PlaceCode) -> Tensor:
    """The code (N, K, V) of each place."""
    lon_deg_NK, lat_deg_NK = journeys.lon_deg_BGK[:, 0], journeys.lat_deg_BGK[:, 0]
    heading_NKC = seen.heading_NC.unsqueeze(1).expand(-1, lon_deg_NK.shape[1], -1)
    return where(lon_deg_NK, lat_deg_NK, heading_NKC)


@dataclass(frozen=True)
class Seen:
    """What the places of journeys show: lengths, steps between places, and the way to the end."""

    straight_m: Tensor
    path_m: Tensor
    heading_NC: Tensor
    step_m_NKC: Tensor

    @classmethod
    def of(cls, journeys: JourneyRows) -> Seen:
        lon_deg_NK, lat_deg_NK = journeys.lon_deg_BGK[:, 0], journeys.lat_deg_BGK[:, 0]
        straight_m_NC = _steps(lon_deg_NK[:, [0, -1]], lat_deg_NK[:, [0, -1]])[:, 0]
        return cls(
            straight_m_NC.norm(dim=-1),
            journeys.path_m_BG[:, 0].float(),
            heading_of(straight_m_NC),
            _steps(lon_deg_NK, lat_deg_NK),
        )


@dataclass(frozen=True)
class JourneyDensity:
    """p(seconds) of journeys, whose logarithms are a mixture."""

    log: GaussianMixture

    def quantile(self, share: float) -> Tensor:
        """The seconds (N) with a share of the mass below them."""
        log_s_N = self.log.median() if share == 0.5 else self.log.quantile(share)
        return (log_s_N.double().exp() - LEAST_S).clamp(min=0)

    def log_density(self, seconds_N: Tensor) -> Tensor:
        """In nats, of seconds."""
        log_s_N = log_seconds(seconds_N)
        return self.log.log_density(log_s_N).double() - log_s_N


def log_seconds(seconds_N: Tensor) -> Tensor:
    return torch.log(seconds_N + LEAST_S).float()


def _steps(lon_deg_NK: Tensor, lat_deg_NK: Tensor) -> Tensor:
    ends = lon_deg_NK[:, :-1], lat_deg_NK[:, :-1], lon_deg_NK[:, 1:], lat_deg_NK[:, 1:]
    return torch.stack(step_between(*ends), dim=-1).float()
