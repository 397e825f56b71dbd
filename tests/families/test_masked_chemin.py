"""What recovery promises, with random weights; each guard also catches a planted fault."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.masked_guards import (
    astride_the_date_line,
    check_a_resumed_run_ends_alike,
    check_hidden_points_are_unseen,
    check_rows_are_independent,
    check_windows_count_alike,
    hiding_others,
)
from helpers.walks import HIDDEN, STILL, WALKING, batch_of, shaken, standing, walk, window_of

from model.earth.geometry import haversine_m
from model.families.chemin.gap import gap_around
from model.families.chemin.masked import MaskedChemin, imputation_targets
from model.families.chemin.network import PRESETS
from model.interface.masked_input import masked_input_of
from model.interface.masking import dimensions, masked, places_of_segments, random_points, segments
from model.layers.attention_masks import causal_mask

TINY = PRESETS["tiny"]


def random_weights(family=MaskedChemin, config=TINY):
    return shaken(family, config)


def hidden_of(model, batch):
    return model.encode(masked_input_of(batch))[0]


def moved(points, index, lon_deg=0.0, time_s=0.0):
    lon_deg_BT, lat_deg_BT, time_s_BT = (value.clone() for value in points)
    lon_deg_BT[:, index] += lon_deg
    time_s_BT[:, index] += time_s
    return lon_deg_BT, lat_deg_BT, time_s_BT


# ------------------------------------------------------------------ planted faults


class ReadsCenter(MaskedChemin):
    """Leaks: places relative to the middle of the whole window, hidden points and all."""

    def loss(self, batch):
        self.center_deg_B1 = batch.lon_deg_BT.mean(1, keepdim=True)
        return super().loss(batch)

    def encode(self, shown):
        hidden_BTD, gap = super().encode(shown)
        shift_BT = shown.lon_deg_BT - self.center_deg_B1
        return hidden_BTD + shift_BT.unsqueeze(-1).float(), gap


class Forward(MaskedChemin):
    """Cannot see the known future beyond the next point, as in TransferTraj."""

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        plain = self.transformer.forward

        def one_way(x_BTD, index_BT, mask_BTT):
            return plain(x_BTD, index_BT, causal_mask(None))

        self.transformer.forward = one_way


class BatchStatistics(MaskedChemin):
    """Leaks: normalises by the batch."""

    def encode(self, shown):
        hidden_BTD, gap = super().encode(shown)
        return hidden_BTD - hidden_BTD.mean(dim=(0, 1)), gap


class AbsolutePlace(MaskedChemin):
    """Knows where on Earth it is."""

    def encode(self, shown):
        hidden_BTD, gap = super().encode(shown)
        return hidden_BTD + shown.lon_deg_BT.unsqueeze(-1).float() / 180, gap


# ------------------------------------------------------------------ guards


NUM_SCORED = 3  # windows


def test_hidden_points_are_unseen():
    check_hidden_points_are_unseen(random_weights(), NUM_SCORED)
    with pytest.raises(AssertionError):
        check_hidden_points_are_unseen(random_weights(ReadsCenter), NUM_SCORED)


@pytest.mark.parametrize("draw", [segments, places_of_segments, dimensions, random_points])
def test_what_is_hidden_is_no_input(draw):
    """No hidden state moves with a hidden place or time, the asked ones included."""
    model = random_weights()
    batch = masked(batch_of(*walk(3, 20), num_pads=3), draw, 0)
    before = hidden_of(model, batch)
    assert torch.equal(hidden_of(model, hiding_others(batch)), before)
    moved_lon_BT = torch.where(batch.shows_place_BT, batch.lon_deg_BT + 1e-3, batch.lon_deg_BT)
    moved_lon_BT[:, 0] = batch.lon_deg_BT[:, 0]
    assert not torch.equal(hidden_of(model, replace(batch, lon_deg_BT=moved_lon_BT)), before)


def check_both_sides_are_seen(model):
    points = walk(3, 12)
    before = hidden_of(model, window_of(points))
    for known in (0, 11):
        after = hidden_of(model, window_of(moved(points, known, 1e-3)))
        assert (before[:, 6] != after[:, 6]).any(-1).all(), known
        assert (before[:, HIDDEN] != after[:, HIDDEN]).any(-1).all(), known


def test_a_hidden_point_sees_the_known_ones_on_both_sides():
    check_both_sides_are_seen(random_weights())
    with pytest.raises(AssertionError):
        check_both_sides_are_seen(random_weights(Forward))


def check_a_row_stands_alone(model):
    check_rows_are_independent(partial(hidden_of, model), rtol=1e-4, atol=1e-5)


def test_a_row_depends_on_itself_alone():
    check_a_row_stands_alone(random_weights())
    with pytest.raises(AssertionError):
        check_a_row_stands_alone(random_weights(BatchStatistics))


def check_meridian_does_not_matter(model):
    points = walk(3, 12)
    moved, _ = astride_the_date_line(points)
    home, away = (hidden_of(model, window_of(one)) for one in (points, moved))
    torch.testing.assert_close(away, home, rtol=1e-4, atol=1e-4)


def test_the_date_line_is_no_border():
    check_meridian_does_not_matter(random_weights())
    with pytest.raises(AssertionError):
        check_meridian_does_not_matter(random_weights(AbsolutePlace))


def check_evaluation_is_pure(model):
    batch = window_of(walk(3, 12))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(model.loss(batch).total, model.loss(batch).total)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_evaluation_is_pure():
    model = random_weights(config=replace(TINY, dropout=0.5))
    check_evaluation_is_pure(model)
    with pytest.raises(AssertionError):
        check_evaluation_is_pure(model.train())


def test_sequences_of_a_packed_row_do_not_see_each_other():
    model = random_weights()
    first, second = walk(2, 12, seed=1), walk(2, 9, seed=2, lon_deg=20.0)
    together = [torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)]
    packed = window_of(together, hidden=[*HIDDEN, 12 + 3, 12 + 4])
    alone = [window_of(first), window_of(second, hidden=[3, 4])]
    packed = replace(
        packed,
        sequence_BT=torch.tensor([[0] * 12 + [1] * 9] * 2),
        calendar_BTK=torch.cat([batch.calendar_BTK for batch in alone], dim=1),
    )
    found = hidden_of(model, packed)
    torch.testing.assert_close(found[:, :12], hidden_of(model, alone[0]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 12:], hidden_of(model, alone[1]), rtol=1e-4, atol=1e-5)
    expected = sum(model.loss(batch).total for batch in alone)
    torch.testing.assert_close(model.loss(packed).total, expected, rtol=1e-5, atol=1e-3)


# ------------------------------------------------------------------ loss


def parts_of(model, batch):
    loss = model.loss(batch)
    return int(loss.count), {name: float(value) for name, value in loss.parts.items()}


def test_with_timestamps_the_places_alone_are_asked():
    model = random_weights()
    count, parts = parts_of(model, window_of(walk(3, 12)))
    assert count == 3
    assert parts["time_nll"] == 0
    assert parts["place_nll"] != 0


def test_without_timestamps_the_times_are_asked_too():
    model = random_weights()
    batch = batch_of(*walk(3, 20))
    hidden, given = masked(batch, segments, 0), masked(batch, places_of_segments, 0)
    count, parts = parts_of(model, hidden)
    given_count, given_parts = parts_of(model, given)
    assert count == given_count == 3
    assert parts["time_nll"] != 0
    assert given_parts["time_nll"] == 0
    assert parts["place_nll"] != given_parts["place_nll"]  # the states do not know the times
    total = float(model.loss(hidden).total.detach())
    summed = parts["time_nll"] + parts["place_nll"] + TINY.mean_weight * parts["miss"]
    assert total == pytest.approx(summed, rel=1e-5)


def test_a_dimension_that_is_shown_is_not_asked():
    """Each term is asked for where it is hidden, and the two never of one point."""
    model = random_weights()
    batch = masked(batch_of(*walk(3, 30)), dimensions, 0)
    for name, silent, asked_BT in zip(
        ("time_nll", "place_nll"), ("shows_time_BT", "shows_place_BT"), asked_of(batch), strict=True
    ):
        shown = getattr(batch, silent)
        assert torch.equal(asked_BT, batch.is_target_BT & ~shown)
        none = replace(batch, is_target_BT=batch.is_target_BT & shown)
        assert parts_of(model, none)[1][name] == 0


def asked_of(batch):
    """Points whose times and whose places are asked."""
    shown = masked_input_of(batch)
    return imputation_targets(shown, gap_around(shown, WALKING))


def test_a_window_is_the_same_as_its_mask():
    """Stored windows hide places and give times, as `places_of_segments` does."""
    model = random_weights()
    drawn = masked(batch_of(*walk(3, 20)), places_of_segments, 0)
    stored = replace(
        batch_of(*walk(3, 20)), is_observed_BT=drawn.shows_place_BT, is_target_BT=drawn.is_target_BT
    )
    assert torch.equal(model.loss(stored).total, model.loss(drawn).total)


def test_pads_never_count():
    model = random_weights()
    points = walk(3, 12)
    plain, padded = model.loss(window_of(points)), model.loss(window_of(points, num_pads=5))
    assert int(plain.count) == int(padded.count) == 3
    torch.testing.assert_close(padded.total, plain.total, rtol=1e-5, atol=1e-3)


def test_a_point_without_two_sides_is_not_scored():
    model = random_weights()
    batch = window_of(walk(2, 12), hidden=[0, 5, 10, 11])
    assert int(model.loss(batch).count) == 2
    is_recovered_BT = model.recover(batch).is_recovered_BT
    assert is_recovered_BT.nonzero()[:, 1].tolist() == [5, 5]


def test_what_is_shown_for_doubt_is_asked_too():
    """A tenth of BERT's targets show another's place, a tenth their own."""
    batch = masked(batch_of(*walk(8, 40)), random_points, 0)
    num_shown = int((batch.is_target_BT & batch.shows_place_BT).sum())
    inner = gap_around(masked_input_of(batch), WALKING).has_both_BT
    assert num_shown > 4
    assert torch.equal(asked_of(batch)[1], batch.is_target_BT & inner)
    assert torch.isfinite(random_weights().loss(batch).total)


class CountsPoints(MaskedChemin):
    """A window counts as much as it hides points, so that wide gaps are learnt and no others."""

    def loss(self, batch):
        loss = super().loss(batch)
        return replace(loss, total=loss.total * batch.is_target_BT.sum())


def test_windows_count_alike():
    batch = window_of(walk(2, 12), hidden=range(1, 10))
    check_windows_count_alike(random_weights().loss, batch)
    with pytest.raises(AssertionError):
        check_windows_count_alike(random_weights(CountsPoints).loss, batch)


def test_what_is_observed_is_not_asked():
    loss = random_weights().loss(batch_of(*walk(2, 6)))
    assert (float(loss.total.detach()), int(loss.count)) == (0.0, 0)


@pytest.mark.parametrize("still", STILL)
def test_gaps_without_time_or_way_are_finite(still):
    model = random_weights().train()
    loss = model.loss(masked(batch_of(*standing(still)), segments, 0))
    loss.mean.backward()
    assert torch.isfinite(loss.total)
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("draw", [segments, places_of_segments])
@pytest.mark.parametrize("has_tails", [False, True])
def test_training_learns_to_recover(draw, has_tails):
    """Better than the great circle at even speed, on walks that it has not seen."""
    torch.manual_seed(0)
    model = MaskedChemin(replace(TINY, has_tails=has_tails), WALKING)
    fresh = masked(batch_of(*walk(64, 24, seed=99)), draw, 1)
    even_m = away_m(goes_straight(model).recover(fresh), fresh)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = float(model.loss(fresh).mean.detach())
    for step in range(60):
        batch = masked(batch_of(*walk(64, 24, seed=step)), draw, 0)
        optimiser.zero_grad()
        model.loss(batch).mean.backward()
        optimiser.step()
    assert float(model.loss(fresh).mean.detach()) < first - 0.5
    assert away_m(model.recover(fresh), fresh) < 0.9 * even_m


def goes_straight(model):
    """A copy that goes along the great circle at even speed."""
    straight = deepcopy(model)
    with torch.no_grad():
        for value in straight.place_head.project.parameters():
            value.zero_()
        straight.place_head.project.bias[straight.place_head.sizes[0]] = 1.0
    return straight


def test_a_training_run_goes_on_with_the_same_masks(tmp_path):
    check_a_resumed_run_ends_alike(lambda: MaskedChemin(TINY, WALKING), segments, tmp_path)


def away_m(recovered, batch):
    places = recovered.lon_deg_BT, recovered.lat_deg_BT, batch.lon_deg_BT, batch.lat_deg_BT
    return float(haversine_m(*places)[recovered.is_recovered_BT].mean().detach())
