"""The diffusion over cells: what the published one got wrong, and a chain whose law is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from model.families.gdm.cells import CellConfig, CellDiffusion
from model.families.gdm.diffusion import MAX_PASSES, noise_of, signal_of
from model.synthetic.processes import RegionChain

torch.set_num_threads(1)

CHAIN = RegionChain(side=3, stay=0.4)
CONFIG = CellConfig(CHAIN.num_regions, num_numbers=16, width=32, num_layers=2, num_heads=2)
NUM_POINTS, LEARNING_RATE = 12, 1e-2


def walks(num, seed):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([CHAIN.draw(generator, NUM_POINTS) for _ in range(num)]))


def learnt(model, max_steps, num_seen=2_000, num_rows=128):
    """Half of the rows know nothing, in the others a share that is drawn for each."""
    torch.manual_seed(0)
    whole_NT = walks(num_seen, seed=0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for step in range(max_steps):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / max_steps)
        cell_BT = whole_NT[torch.randint(len(whole_NT), (num_rows,))]
        share_B1 = torch.rand(num_rows, 1) * (torch.rand(num_rows, 1) < 0.5)
        is_known_BT = torch.rand(cell_BT.shape) < share_B1
        noise_BTE = torch.randn(*cell_BT.shape, model.config.num_numbers)
        optimiser.zero_grad()
        model.loss(cell_BT, is_known_BT, torch.rand(num_rows, 1), noise_BTE).mean.backward()
        optimiser.step()
    return model.eval()


def shaken_model(family=CellDiffusion):
    torch.manual_seed(5)
    model = family(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


# ------------------------------------------------------------------ planted faults


class FreeVectors(CellDiffusion):
    """Vectors are trained, so that they may grow."""

    def __init__(self, config):
        super().__init__(config)
        drawn_RE = self.vector_RE
        del self.vector_RE
        self.vector_RE = nn.Parameter(drawn_RE.clone())


class NeighboursByNumber(CellDiffusion):
    """Cells are near whose numbers are: the last one of a row is beside the first of the next."""

    def __init__(self, config):
        super().__init__(config)
        ramp_R1 = torch.linspace(-1, 1, config.num_cells).unsqueeze(1)
        self.vector_RE += ramp_R1 / 2


class BeginsAtTruth(CellDiffusion):
    """What is unknown is there with a little noise from the start, as latents of real trips."""

    def filled(self, cell_BT, is_known_BT, numbers, seed):
        self.true_BTE = self.vector_RE[cell_BT]
        return super().filled(cell_BT, is_known_BT, numbers, seed)

    def log_probability(self, x_BTE, time_B1, is_known_BT):
        true_BTE = self.true_BTE.repeat(len(x_BTE) // len(self.true_BTE), 1, 1)
        return super().log_probability(x_BTE + true_BTE, time_B1, is_known_BT)


class FadingConditions(CellDiffusion):
    """What is known fades with the level of noise like what is not."""

    def log_probability(self, x_BTE, time_B1, is_known_BT):
        faded_BTE = signal_of(time_B1).unsqueeze(-1) * x_BTE
        shown_BTE = torch.where(is_known_BT.unsqueeze(-1), faded_BTE, x_BTE)
        return super().log_probability(shown_BTE, time_B1, is_known_BT)


# ------------------------------------------------------------------ guards


def check_vectors_keep_their_size(family):
    model = learnt(family(CONFIG), 3, num_seen=20, num_rows=8)
    norm_R = model.vector_RE.norm(dim=-1)
    torch.testing.assert_close(norm_R, torch.ones_like(norm_R), rtol=0, atol=1e-5)
    assert not any("vector" in name for name, _ in model.named_parameters())


def test_vectors_keep_their_size():
    check_vectors_keep_their_size(CellDiffusion)
    with pytest.raises(AssertionError):
        check_vectors_keep_their_size(FreeVectors)


def check_no_two_cells_are_neighbours(family):
    """All are alike far from each other: what is next to what is learnt, and never their number."""
    vector_RE = family(CellConfig(100, num_numbers=64)).vector_RE
    apart_RR = torch.cdist(vector_RE, vector_RE)
    assert float(apart_RR.diagonal(1).mean()) == pytest.approx(2**0.5, abs=0.05)
    assert float(apart_RR.diagonal(50).mean()) == pytest.approx(2**0.5, abs=0.05)


def test_no_two_cells_are_neighbours():
    check_no_two_cells_are_neighbours(CellDiffusion)
    with pytest.raises(AssertionError):
        check_no_two_cells_are_neighbours(NeighboursByNumber)


def check_what_is_unknown_is_not_read(model):
    cell_BT = walks(4, seed=1)
    is_known_BT = torch.rand(cell_BT.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    found_SBT = model.filled(cell_BT, is_known_BT, range(3), seed=2)
    other_BT = torch.where(is_known_BT, cell_BT, (cell_BT + 1) % CHAIN.num_regions)
    assert torch.equal(model.filled(other_BT, is_known_BT, range(3), seed=2), found_SBT)
    assert (found_SBT == cell_BT)[:, is_known_BT].all()
    alone_BT = model.filled(cell_BT[2:3], is_known_BT[2:3], range(2, 3), seed=2)
    assert torch.equal(alone_BT[0, 0], found_SBT[2, 2])  # whoever stands beside it


def test_what_is_unknown_is_not_read():
    check_what_is_unknown_is_not_read(shaken_model())
    with pytest.raises(AssertionError):
        check_what_is_unknown_is_not_read(shaken_model(BeginsAtTruth))


@torch.no_grad()
def check_known_cells_enter_clean(model):
    """Each with its vector and its flag, at any level of noise, in training as in sampling."""
    cell_BT, seen = walks(4, seed=1), []
    is_known_BT = torch.arange(NUM_POINTS).expand_as(cell_BT) % 3 == 0
    model.features.register_forward_pre_hook(lambda part, given: seen.append(given[0]))
    noise_BTE = torch.randn(*cell_BT.shape, CONFIG.num_numbers)
    for level in (0.1, 0.9):
        model.loss(cell_BT, is_known_BT, torch.full((4, 1), level), noise_BTE)
    model.filled(cell_BT, is_known_BT, range(1), seed=2)
    assert len(seen) == 2 + CONFIG.num_passes
    expected_NE = model.vector_RE[cell_BT[is_known_BT]]
    for part in seen:
        own_NE = part[is_known_BT][:, : CONFIG.num_numbers + 1]
        torch.testing.assert_close(own_NE, torch.cat([expected_NE, torch.ones(16, 1)], dim=1))


def test_known_cells_enter_clean_at_every_level():
    check_known_cells_enter_clean(shaken_model())
    with pytest.raises(AssertionError):
        check_known_cells_enter_clean(shaken_model(FadingConditions))


def test_the_loss_is_of_unknown_cells():
    model, cell_BT = shaken_model(), walks(4, seed=1)
    noise_BTE, time_B1 = torch.randn(4, NUM_POINTS, 16), torch.full((4, 1), 0.5)
    none_BT = torch.zeros_like(cell_BT, dtype=torch.bool)
    assert int(model.loss(cell_BT, none_BT, time_B1, noise_BTE).count) == cell_BT.numel()
    observed = model.loss(cell_BT, ~none_BT, time_B1, noise_BTE)
    assert (float(observed.total.detach()), int(observed.count)) == (0.0, 0)


def test_a_sample_takes_few_passes():
    model, seen = shaken_model(), []
    model.features.register_forward_hook(lambda *_: seen.append(1))
    made = model.generate(5, NUM_POINTS, seed=1)
    assert len(seen) == CONFIG.num_passes <= MAX_PASSES
    assert torch.equal(model.generate(2, NUM_POINTS, seed=1), made[:2])
    assert not torch.equal(model.generate(5, NUM_POINTS, seed=2), made)


# ------------------------------------------------------------------ a law that is known


@cache
def chain_model():
    return learnt(CellDiffusion(CONFIG), 600)


def shares_of_steps(model):
    """Of each step from cell to cell (R, R): in made-up sequences, and by the law."""
    made_NT = model.generate(1_000, NUM_POINTS, seed=3).numpy()
    count_RR = np.zeros((CHAIN.num_regions, CHAIN.num_regions))
    np.add.at(count_RR, (made_NT[:, :-1].ravel(), made_NT[:, 1:].ravel()), 1)
    return count_RR / count_RR.sum(), CHAIN.stationary_R[:, None] * CHAIN.transition_RR


class Exact(CellDiffusion):
    """The network's place is taken by the exact law, which goes through the chain and back."""

    def log_probability(self, x_BTE, time_B1, is_known_BT):
        share_B11 = noise_of(time_B1).square().unsqueeze(-1)
        near_BTR = signal_of(time_B1).unsqueeze(-1) / share_B11 * x_BTE @ self.vector_RE.T
        near_TBR = near_BTR.log_softmax(-1).transpose(0, 1)
        step_RR = torch.from_numpy(CHAIN.transition_RR).float()
        ahead = self._passed(near_TBR, torch.from_numpy(CHAIN.stationary_R).float(), step_RR)
        back = self._passed(near_TBR.flip(0), torch.ones(len(step_RR)), step_RR.T).flip(0)
        return (ahead + back + near_TBR).transpose(0, 1).log_softmax(-1)

    def _passed(self, near_TBR, first_R, step_RR):
        """What all points before each one tell of it."""
        told = [first_R.log().expand(near_TBR[0].shape)]
        for near_BR in near_TBR[:-1]:
            told.append(((told[-1] + near_BR).softmax(-1) @ step_RR).clamp(min=1e-30).log())
        return torch.stack(told)


def test_with_the_exact_law_made_up_cells_are_of_the_chain():
    """What is amiss below is the network's, and not the sampler's."""
    share_RR, law_RR = shares_of_steps(Exact(CONFIG))
    assert share_RR[law_RR == 0].sum() < 1e-3
    assert np.abs(share_RR - law_RR).sum() / 2 < 0.03


def check_follows_the_chain(model):
    share_RR, law_RR = shares_of_steps(model)
    assert np.abs(share_RR - law_RR).sum() / 2 < 0.15


@pytest.mark.slow
def test_made_up_cells_follow_the_chain():
    check_follows_the_chain(chain_model())
    with pytest.raises(AssertionError):
        check_follows_the_chain(CellDiffusion(CONFIG))


@pytest.mark.slow
@pytest.mark.xfail(
    reason="after 600 steps 7 in 100 of its steps are none of the chain", strict=True
)
def test_made_up_cells_take_no_step_that_the_chain_never_takes():
    """Between t = 0.2 and 0.5, where cells are decided, P(cell) is 0.02 to 0.07 nats off.

    It was 10 in 100 when the network read noise and not what it tells. A learning rate of 0.004
    and ten times as many sequences (6 in 100) change little; longer trainings were not tried.
    """
    share_RR, law_RR = shares_of_steps(chain_model())
    assert share_RR[law_RR == 0].sum() < 0.03


@pytest.mark.slow
def test_a_filled_gap_follows_what_is_known_around_it():
    """One cell between two: by Bayes' rule, averaged over what lies around the gap."""
    cell_BT = walks(200, seed=9)
    is_known_BT = torch.ones_like(cell_BT, dtype=torch.bool)
    is_known_BT[:, 6] = False
    found_SB = chain_model().filled(cell_BT, is_known_BT, range(50), seed=4)[:, :, 6].numpy()
    before_B, after_B = cell_BT[:, 5].numpy(), cell_BT[:, 7].numpy()
    exact_BR = CHAIN.transition_RR[before_B] * CHAIN.transition_RR[:, after_B].T
    exact_BR /= exact_BR.sum(axis=1, keepdims=True)
    share_BR = np.stack([(found_SB == cell).mean(axis=0) for cell in range(CHAIN.num_regions)], 1)
    # 0.05 by chance; the share of each cell over all of the data would be 0.5 off.
    assert np.abs(share_BR - exact_BR).sum(axis=1).mean() / 2 < 0.25
    assert np.abs(CHAIN.stationary_R - exact_BR).sum(axis=1).mean() / 2 > 0.4
