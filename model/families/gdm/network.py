"""GDM: a diffusion model of trajectories, after Chu et al. 2024 (TrajGDM), in continuous space.

A trajectory is its start and the steps behind it: metres east and north, and the rank of seconds
among those of train, with mean 0 and variance 1 over train. Steps are noised and a denoiser learns
to tell them again, in one pass over all points. In half of the training nothing but the start is
known, in the other half some points are: those enter as they are, at every level of noise, and only
what is hidden is noised and counts. So the same weights generate, recover and forecast, each by
what training has shown them. Nothing tells where on Earth a trajectory lies; how long one that is
made up is to be can be told (`controls.py`).

What is told as one answer is the mean of what can be: v at t = 1, where there is no signal, is
minus the mean of x_0 given what is known. Samples begin with noise of their own number. Noise has
no part that the known points forbid: between two known places steps keep the mean that is known.

Shapes: B windows, T points, H points of the horizon, S samples, G = 1 + S paths of a window,
F numbers of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...earth.geometry import middle_of
from ...features.normaliser import Normaliser
from ...interface.answers import Forecast, Generated, Recovered
from ...interface.batch import Batch
from ...interface.contexts import Context, Partial
from ...interface.family import Family, Model
from ...interface.masked_input import MaskedInput, masked_input_of
from ...interface.masking import (
    Draw,
    Loss,
    Mask,
    dimensions,
    endings,
    from_start,
    places_of_endings,
    places_of_middles,
    places_of_segments,
    segments,
)
from ...layers.transformer import check_shape
from .controls import CONTROLS, ControlCode, extents_of_batch, guided
from .denoiser import Denoiser
from .diffusion import (
    MAX_PASSES,
    NUM_TURNS,
    clean_of,
    ddim,
    dpm_solver,
    noised,
    repaint,
    velocity_of,
    weight_of,
)
from .lessons import Lesson
from .noise import sample_noise, training_noise
from .paths import paths_of
from .steps import (
    KnownSteps,
    StepCode,
    known_steps,
    start_alone,
    steps_of_batches,
    true_steps,
)

Sampler = Literal["dpm_solver", "ddim"]
Conditioning = Literal["trained", "repainted"]
SHARE_OF_STARTS = 0.5  # of training: nothing but the start is known
NUM_LEVELS = 10  # of noise, whose losses are told apart
NUM_MEANS = 8  # noises from which the mean is told
MEAN_TIME = 0.95  # whence it is told again
NUM_REPAINTED = 16  # samples whose mean is the one answer
ROWS_AT_ONCE = 2_048


@dataclass(frozen=True)
class GdmConfig:
    """Shape of the network, and how it is sampled.

    A sample takes `num_passes` passes. `eta` is the share of fresh noise of `ddim`; the other
    sampler has none. What is known enters as training has shown it, `trained`; or the network is
    told of the start alone and the rest of what is known is `repainted` after each pass: the answer
    of weights that have learnt to generate and nothing else. Of what controls change in a made-up
    trajectory, `guidance` times as much is done: at 1 what was learnt, at 0 none of it. All lessons
    are learnt without controls; each is told beside `share_told` of those that know the start
    alone, and at 0 none is learnt.
    """

    width: int = 128
    num_layers: int = 6
    num_heads: int = 4
    max_points: int = 64
    dropout: float = 0.0
    sampler: Sampler = "dpm_solver"
    num_passes: int = 20
    eta: float = 0.0
    conditioning: Conditioning = "trained"
    guidance: float = 1.0
    share_told: float = 0.3

    def __post_init__(self) -> None:
        check_shape(self, max_points=4, num_passes=1, eta=0, guidance=0, share_told=0)
        if self.share_told > 1:
            raise ValueError(f"share_told must be at most 1, not {self.share_told}")
        if self.num_passes > MAX_PASSES:
            raise ValueError(f"num_passes must be at most {MAX_PASSES}, not {self.num_passes}")
        for name, known in (("sampler", Sampler), ("conditioning", Conditioning)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of: {', '.join(get_args(known))}")
        if self.eta > (self.sampler == "ddim"):
            raise ValueError(f"eta must be 0 with dpm_solver, at most 1 with ddim, not {self.eta}")


PRESETS: Mapping[str, GdmConfig] = {
    "tiny": GdmConfig(width=32, num_layers=2, num_heads=2),
    "small": GdmConfig(),
}


class Gdm(Model):
    """The network: `loss` teaches it to tell noise from steps, `paths` fills in what is hidden.

    `start_deg_C` is the middle of where the windows of train begin, for a generation that is
    given no start; the network does not read it.
    """

    family = "gdm"
    controls: ClassVar[tuple[str, ...]] = CONTROLS
    start_deg_C: Tensor

    def __init__(self, config: GdmConfig, normaliser: Normaliser) -> None:
        super().__init__(config, normaliser)
        self.code = StepCode(normaliser)
        self.register_buffer("start_deg_C", torch.zeros(2, dtype=torch.float64))
        self.denoiser = Denoiser(config.width, config.num_layers, config.num_heads, config.dropout)
        self.control_code = ControlCode(config.width)

    def fit_inputs(self, batches: Iterable[Batch]) -> None:
        batches = list(batches)
        step_NF, lon_deg_N, lat_deg_N = steps_of_batches(batches)
        self.code.fit(step_NF)
        extents = zip(*map(extents_of_batch, batches), strict=True)
        self.control_code.fit(*map(torch.cat, extents))
        start_deg = middle_of(lon_deg_N, lat_deg_N, torch.ones_like(lon_deg_N))
        self.start_deg_C.copy_(torch.stack(start_deg))

    # ------------------------------------------------------------------ training

    def loss(self, batch: Batch) -> Loss:
        """Weighted squared error of v of the hidden numbers, which are asked for or shown.

        A number is that of a step to the east, to the north or in time. The parts are the errors
        at each tenth of the levels of noise, from little to all. Controls are told while it is
        trained alone, and in lessons of their own: whatever is judged by its loss has none.
        """
        lesson = self._lesson(batch)
        known, time_BT1 = lesson.known, lesson.time_BT.unsqueeze(-1)
        told_BTF = self.denoiser(
            noised(lesson.clean_BTF, lesson.noise_BTF, time_BT1),
            lesson.time_BT[:, :1] if batch.window_id_BS is None else lesson.time_BT,
            known,
            lesson.is_readable_BT,
        )
        miss_BTF = told_BTF - velocity_of(lesson.clean_BTF, lesson.noise_BTF, time_BT1)
        error_BTF = weight_of(time_BT1) * miss_BTF.square()
        error_BT = torch.where(lesson.is_scored_BTF, error_BTF, 0.0).sum(-1)
        level_BT = (NUM_LEVELS * lesson.time_BT).long().clamp(max=NUM_LEVELS - 1)
        parts = {f"noise_{level}": error_BT[level_BT == level].sum() for level in range(NUM_LEVELS)}
        return Loss.of(lesson.is_scored_BTF.sum(), parts)

    def _lesson(self, batch: Batch) -> Lesson:
        """What a batch teaches; in training, once more what controls tell of some of it."""
        shown = masked_input_of(batch)
        known = known_steps(shown, self.code)
        step_BTF, has_BTF = true_steps(batch, shown)
        is_scored_BTF = known.hides_BTF & has_BTF
        is_readable_BT = ~(known.is_pad_BT | (known.hides_BTF & ~has_BTF).any(-1))
        clean_BTF = self.code.encode(step_BTF).float()
        clean_BTF = torch.where(is_scored_BTF, clean_BTF, known.told_BTF)
        time_BT, noise_BTF = training_noise(batch)
        noise_BTF = known.freed(noise_BTF)
        free = Lesson(known, clean_BTF, noise_BTF, time_BT, is_scored_BTF, is_readable_BT)
        if not self.training or not self.config.share_told:
            return free
        told_BQD, is_told_BT = self.control_code.taught(
            known, batch, step_BTF, has_BTF, self.config.share_told
        )
        return free.beside(told_BQD, is_told_BT)

    # ------------------------------------------------------------------ paths

    def paths(
        self, shown: MaskedInput, num_samples: int, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Longitudes, latitudes and seconds (B, G, T): the mean path of each window, and samples.

        All windows share the noise of a sample.
        """
        known = known_steps(shown, self.code)
        if self.config.conditioning == "repainted":
            alone = known_steps(start_alone(shown), self.code)
            mean_BTF = self.repainted_code(known, alone, range(NUM_REPAINTED), 0).mean(1)
            sample_BGTF = self.repainted_code(known, alone, range(num_samples), seed)
        else:
            mean_BTF = self.mean_code(known)
            sample_BGTF = self.sampled_code(known, range(num_samples), seed)
        codes_BGTF = torch.cat([mean_BTF.unsqueeze(1), sample_BGTF], dim=1)
        return self._points(codes_BGTF, shown, known)

    def mean_code(self, known: KnownSteps) -> Tensor:
        """The codes (B, T, F) of the mean of what the steps can be, given what is known."""
        num_points = known.is_pad_BT.shape[1]
        half_STF = sample_noise(range(NUM_MEANS // 2), num_points, 1, 0)[0]
        noise_STF = torch.cat([half_STF, -half_STF])
        return self._each(noise_STF.unsqueeze(0), self._told_from_noise, known).mean(1)

    def sampled_code(self, known: KnownSteps, numbers: range, seed: int) -> Tensor:
        """The codes (B, S, T, F) of samples by their numbers."""
        noise_PSTF = self._noise(numbers, known, seed)
        return self._each(noise_PSTF, self._sampled_from_noise, known)

    def _noise(self, numbers: range, known: KnownSteps, seed: int) -> Tensor:
        num_draws = 1 + self.config.num_passes * (self.config.eta > 0)
        return sample_noise(numbers, known.is_pad_BT.shape[1], num_draws, seed)

    def repainted_code(
        self, known: KnownSteps, alone: KnownSteps, numbers: range, seed: int
    ) -> Tensor:
        """The same by a network that is told of the start alone."""
        num_draws = 1 + 2 * max(self.config.num_passes, NUM_TURNS)
        noise_PSTF = sample_noise(numbers, known.is_pad_BT.shape[1], num_draws, seed)
        return self._each(noise_PSTF, self._repainted_from_noise, known, alone)

    def _each(
        self,
        noise_PSTF: Tensor,
        told: Callable[..., Tensor],
        known: KnownSteps,
        *others: KnownSteps,
    ) -> Tensor:
        """What is told (B, S, T, F) of each window from each of the noises."""
        num_rows, num_samples = len(known.is_pad_BT), noise_PSTF.shape[1]
        if not num_samples:
            return known.told_BTF.unsqueeze(1)[:, :0]
        noise_PSTF = noise_PSTF.to(known.told_BTF)
        row_R = torch.arange(num_rows, device=noise_PSTF.device).repeat_interleave(num_samples)
        sample_R = torch.arange(num_samples, device=noise_PSTF.device).repeat(num_rows)
        pairs = zip(row_R.split(ROWS_AT_ONCE), sample_R.split(ROWS_AT_ONCE), strict=True)
        parts = []
        for row_N, sample_N in pairs:
            own, *rest = (one.at(row_N) for one in (known, *others))
            told_NTF = told(noise_PSTF[:, sample_N], own, *rest)
            parts.append(torch.where(own.hides_BTF, told_NTF, own.told_BTF))
        return torch.cat(parts).unflatten(0, (num_rows, num_samples))

    def _told_from_noise(self, noise_PBTF: Tensor, known: KnownSteps) -> Tensor:
        """The mean of x_0, told twice: from noise alone, and again from there with little in sight.

        A network is least sure of itself at the end of all times; what it tells a little before it
        hardly depends on the noise either.
        """
        noise_BTF = known.freed(noise_PBTF[0])
        clean_BTF = -self._velocity(noise_BTF, 1.0, known)
        time = noise_BTF.new_tensor(MEAN_TIME)
        x_BTF = noised(clean_BTF, noise_BTF, time)
        return clean_of(x_BTF, self._velocity(x_BTF, MEAN_TIME, known), time)

    def _sampled_from_noise(self, noise_PBTF: Tensor, known: KnownSteps) -> Tensor:
        velocity = guided(self._velocity, known, self.config.guidance)
        noise_PBTF = torch.stack([known.freed(noise_BTF) for noise_BTF in noise_PBTF])
        num_passes, first_BTF = self.config.num_passes, noise_PBTF[0]
        if self.config.sampler == "dpm_solver":
            return dpm_solver(velocity, first_BTF, num_passes)
        fresh = noise_PBTF[1:]
        return ddim(velocity, first_BTF, num_passes, self.config.eta, lambda number: fresh[number])

    def _repainted_from_noise(
        self, noise_PBTF: Tensor, known: KnownSteps, alone: KnownSteps
    ) -> Tensor:
        def velocity(x_BTF: Tensor, time: float) -> Tensor:
            return self._velocity(x_BTF, time, alone)

        fresh = iter(noise_PBTF)
        return repaint(velocity, next(fresh), self.config.num_passes, known.painted, fresh)

    def _velocity(self, x_BTF: Tensor, time: float, known: KnownSteps) -> Tensor:
        told_BTF: Tensor = self.denoiser(
            x_BTF, x_BTF.new_full((1, 1), time), known, ~known.is_pad_BT
        )
        return told_BTF

    def _points(
        self, code_BGTF: Tensor, shown: MaskedInput, known: KnownSteps
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_rows, num_paths = code_BGTF.shape[:2]
        row_R = torch.arange(num_rows, device=code_BGTF.device).repeat_interleave(num_paths)
        step_RTF = self.code.decode(code_BGTF.flatten(0, 1))
        lon_deg_RT, lat_deg_RT, time_s_RT = paths_of(step_RTF, shown.at(row_R), known.at(row_R))
        shape = (num_rows, num_paths)
        return (
            lon_deg_RT.unflatten(0, shape),
            lat_deg_RT.unflatten(0, shape),
            time_s_RT.unflatten(0, shape),
        )

    # ------------------------------------------------------------------ tasks

    def recover(self, batch: Batch) -> Recovered:
        """The batch with what is hidden filled in by the mean path, behind a known point."""
        shown = masked_input_of(batch)
        known = known_steps(shown, self.code)
        lon_deg_BT, lat_deg_BT, time_s_BT = (path[:, 0] for path in self.paths(shown, 0, 0))
        tells_BT = (shown.shows_place_BT | known.place.has_start_BT) & (
            shown.shows_time_BT | known.time.has_start_BT
        )
        is_hidden_BT = ~(shown.shows_place_BT & shown.shows_time_BT)
        is_recovered_BT = shown.is_asked_BT & is_hidden_BT & tells_BT
        return Recovered(lon_deg_BT, lat_deg_BT, time_s_BT, is_recovered_BT)

    def forecast(
        self,
        context: Context,
        num_horizon: int,
        target_time_s_BH: Tensor | None,
        num_samples: int,
        seed: int,
    ) -> Forecast:
        """The points that follow each context, all at once; half the window is context."""
        kept = context.latest(self.config.max_points // 2)
        shown = masked_input_of(Partial.of(kept, num_horizon, target_time_s_BH).batch())
        ahead_H = torch.arange(num_horizon, device=kept.is_pad_BT.device)
        slot_B1H = (kept.num_points_B.unsqueeze(1) + ahead_H).unsqueeze(1)
        paths = self.paths(shown, num_samples, seed)
        return Forecast.of(
            [value_BGT.gather(2, slot_B1H.expand(-1, 1 + num_samples, -1)) for value_BGT in paths]
        )

    def generate(
        self,
        num: int,
        num_points: int,
        seed: int,
        start_deg: Tensor | tuple[float, float] | None = None,
        first: int = 0,
        controls: Mapping[str, Any] | None = None,
    ) -> Generated:
        """Trajectories from weights, seed and where they begin: at one place, or each at its own.

        `start_deg` holds longitude and latitude, (2) or (N, 2); None stands for the middle of the
        starts of train, their median. `controls` holds `length_m` or `duration_s`, or both, one
        number or (N), NaN where nothing is asked. A trajectory is a function of its number, its
        start and its controls, however many others are asked for; they are numbered from `first`.
        """
        if controls and not self.config.share_told:
            raise ValueError("share_told is 0: these weights have learnt no controls")
        place_deg = self.start_deg_C if start_deg is None else torch.as_tensor(start_deg)
        place_deg_NC = place_deg.to(self.start_deg_C).expand(num, 2)
        asked_NK = self.control_code.asked(controls or {}, num)
        numbers = range(first, first + num)
        chunks = (slice(at, at + ROWS_AT_ONCE) for at in range(0, num, ROWS_AT_ONCE))
        parts = [
            self._generated(place_deg_NC[chunk], asked_NK[chunk], numbers[chunk], num_points, seed)
            for chunk in chunks
        ]
        return Generated(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _generated(
        self, place_deg_NC: Tensor, asked_NK: Tensor, numbers: range, num_points: int, seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Longitudes, latitudes and seconds (N, T) of the trajectories by their numbers."""
        lon_deg_N1, lat_deg_N1 = place_deg_NC.split(1, dim=1)
        origin_N1 = torch.zeros_like(lon_deg_N1)
        started_us_N = torch.zeros_like(origin_N1[:, 0], dtype=torch.long)  # no clock is read
        start = Context(lon_deg_N1, lat_deg_N1, origin_N1, started_us_N, "UTC", origin_N1.bool())
        shown = masked_input_of(Partial.of(start, num_points - 1, None).batch())
        known = known_steps(shown, self.code)
        alone = known.at(started_us_N)  # row 0: nothing known tells them apart
        noise_PNTF = self._noise(numbers, known, seed)
        asked = self.control_code.added(alone, asked_NK)
        told_NTF = self._sampled_from_noise(noise_PNTF.to(known.told_BTF), asked)
        code_NTF = torch.where(known.hides_BTF, told_NTF, known.told_BTF)
        return paths_of(self.code.decode(code_NTF), shown, known)


# What is hidden where some points are known.
CONDITIONS: tuple[Draw, ...] = (
    segments,
    places_of_segments,
    dimensions,
    endings,
    places_of_endings,
    places_of_middles,
)


def start_or_some(generator: np.random.Generator, num_points: int) -> Mask:
    """As often as not the start alone is known; else what one of these tasks shows."""
    if generator.random() < SHARE_OF_STARTS:
        return from_start(generator, num_points)
    return CONDITIONS[generator.integers(len(CONDITIONS))](generator, num_points)


FAMILY = Family(Gdm, GdmConfig, PRESETS, ("generate", "forecast", "recover"), start_or_some)
