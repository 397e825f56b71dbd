"""What trajfm promises, with random weights; each guard also catches a planted fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.journey_guards import journeys_along
from helpers.masked_guards import astride_the_date_line, check_windows_count_alike
from helpers.walks import WALKING, batch_of, context_of, shaken, spoilt, walk, window_of

from model.earth.geometry import haversine_m, step_from
from model.families import FAMILIES, build
from model.families.trajfm.motion_candidates import code_of_time, time_of_code, ways_of
from model.families.trajfm.network import TrajFm, TrajFmConfig
from model.families.trajfm.surroundings import Surroundings, guess_of, surroundings_of
from model.inference.api import forecast, recover, score
from model.interface.contexts import Partial
from model.interface.masked_input import masked_input_of
from model.interface.masking import (
    TASKS,
    any_task,
    endings,
    masked,
    places_of_middles,
    random_points,
    segments,
)

TINY = FAMILIES["trajfm"].presets["tiny"]


def random_weights(family=TrajFm, config=TINY):
    return shaken(family, config)


def hidden_of(model, batch):
    model.truth = batch  # for those that peek
    return model.encode(masked_input_of(batch))[0]


# ------------------------------------------------------------------ planted faults


class Peeks(TrajFm):
    """Leaks: the state of a point is turned by where it truly lies; `hidden_of` gives the truth."""

    def encode(self, shown):
        hidden_BTD, near = super().encode(shown)
        return self.spoil(hidden_BTD), near

    def spoil(self, hidden_BTD):
        lon_deg_BT = self.truth.lon_deg_BT
        turn_BT1 = (lon_deg_BT - lon_deg_BT[:, :1]).unsqueeze(-1).float()
        return hidden_BTD * torch.cos(1e3 * turn_BT1)


class PeeksAtSteps(Peeks):
    """Leaks: the step that arrives at a hidden point."""

    def spoil(self, hidden_BTD):
        return hidden_BTD + self.truth.step_BTF[..., :1]


class PeeksAtCalendar(Peeks):
    """Leaks: the clock of a hidden time."""

    def encode(self, shown):
        return TrajFm.encode(self, replace(shown, calendar_BTK=self.truth.calendar_BTK))


class Forward(TrajFm):
    """Cannot see the known future, as in TransferTraj."""

    def __init__(self, config, normaliser):
        super().__init__(config, normaliser)
        plain = self.transformer.forward

        def one_way(x_BTD, index_BT, mask_BTT, **named):
            return plain(x_BTD, index_BT, None, **named)

        self.transformer.forward = one_way


class ReadsHidden(TrajFm):
    """Lets all points read what is asked, so a forecast depends on how far it goes."""

    def encode(self, shown):
        seen = replace(shown, shows_place_BT=~shown.is_pad_BT)
        hidden_BTD, _ = super().encode(seen)
        return hidden_BTD, super().encode(shown)[1]


class BatchStatistics(TrajFm):
    """Leaks: normalises by the batch."""

    def encode(self, shown):
        hidden_BTD, near = super().encode(shown)
        return hidden_BTD - hidden_BTD.mean(dim=(0, 1)), near


class AbsolutePlace(TrajFm):
    """Knows where on Earth it is."""

    def encode(self, shown):
        hidden_BTD, near = super().encode(shown)
        return hidden_BTD + shown.lon_deg_BT.unsqueeze(-1).float() / 180, near


# ------------------------------------------------------------------ what is hidden


def check_what_is_hidden_is_unseen(model, draw):
    """Hidden points that are not asked may hold anything: the loss of the others stays."""
    batch = masked(batch_of(*walk(3, 20), num_pads=3), draw, 0)
    is_target_BT = batch.is_target_BT.clone()
    is_target_BT[:, 1::2] = False
    batch = replace(batch, is_target_BT=is_target_BT)
    plain = model.loss(batch)
    assert int(plain.count) > 1
    for nonsense in (float("nan"), 66.0):
        assert torch.equal(model.loss(spoilt(batch, nonsense)).total, plain.total)


@pytest.mark.parametrize("draw", TASKS)
def test_what_is_hidden_is_unseen(draw):
    check_what_is_hidden_is_unseen(random_weights(), draw)


def check_no_state_moves(model, draw):
    batch = masked(batch_of(*walk(3, 20), num_pads=3), draw, 0)
    before = hidden_of(model, batch)
    other = replace(
        batch,
        lon_deg_BT=torch.where(batch.shows_place_BT, batch.lon_deg_BT, 66.0),
        time_s_BT=torch.where(batch.shows_time_BT, batch.time_s_BT, 1e6),
        calendar_BTK=torch.where(batch.shows_time_BT.unsqueeze(-1), batch.calendar_BTK, 9.0),
        step_BTF=torch.full_like(batch.step_BTF, 1e3),
    )
    assert torch.equal(hidden_of(model, other), before)


@pytest.mark.parametrize("draw", [draw for draw in TASKS if draw is not random_points])
def test_no_state_moves_with_what_is_hidden(draw):
    """Also not those of the asked points, whose truth the loss knows."""
    check_no_state_moves(random_weights(), draw)


@pytest.mark.parametrize(
    ("fault", "draw"),
    [(Peeks, segments), (PeeksAtSteps, places_of_middles), (PeeksAtCalendar, endings)],
)
def test_a_peek_is_caught(fault, draw):
    with pytest.raises(AssertionError):
        check_no_state_moves(random_weights(fault), draw)


def test_states_move_with_what_is_shown():
    model, points = random_weights(), walk(3, 12)
    before = hidden_of(model, window_of(points))
    for changed in range(3):
        moved = [value.clone() for value in points]
        moved[changed][:, 7] += 1e-3 if changed < 2 else 1.0
        after = hidden_of(model, window_of(moved))
        assert (before != after).any(-1).all()


def check_both_sides_are_seen(model):
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, 24)
    before = hidden_of(model, window_of((lon_deg_BT, lat_deg_BT, time_s_BT)))
    for known in (0, 23):
        moved_BT = lon_deg_BT.clone()
        moved_BT[:, known] += 1e-3
        after = hidden_of(model, window_of((moved_BT, lat_deg_BT, time_s_BT)))
        # The last point is beyond the lags of this one: attention alone tells of it.
        assert (before[:, 6] != after[:, 6]).any(-1).all(), known


def test_a_gap_sees_the_known_future():
    check_both_sides_are_seen(random_weights())
    with pytest.raises(AssertionError):
        check_both_sides_are_seen(random_weights(Forward))


def check_horizon_does_not_matter(model):
    """Neither how far a forecast goes, nor later times, change its beginning."""
    points = walk(3, 12)
    context = context_of(*points, [12, 7, 1])
    first_s_B1 = points[2].gather(1, torch.tensor([[11], [6], [0]]))
    target_s_BH = first_s_B1 + 7.5 * torch.arange(1, 9)
    other_s_BH = target_s_BH.clone()
    other_s_BH[:, 4:] += 100
    for long_s_BH, short_s_BH in (
        (target_s_BH, target_s_BH[:, :4]),
        (other_s_BH, target_s_BH[:, :4]),
        (None, None),
    ):
        whole = forecast(model, context, 8, long_s_BH)
        begun = forecast(model, context, 4, short_s_BH)
        assert_same_m(whole.lon_deg_BH[:, :4], whole.lat_deg_BH[:, :4], begun, 0.05)


def assert_same_m(lon_deg_BH, lat_deg_BH, other, tolerance_m):
    away_m = haversine_m(lon_deg_BH, lat_deg_BH, other.lon_deg_BH, other.lat_deg_BH)
    assert float(away_m.max()) < tolerance_m


def test_a_forecast_does_not_depend_on_how_far_it_goes():
    check_horizon_does_not_matter(random_weights())
    with pytest.raises(AssertionError):
        check_horizon_does_not_matter(random_weights(ReadsHidden))


# ------------------------------------------------------------------ rows, places, instants


def check_rows_are_independent(model):
    points = walk(4, 12)
    batch = masked(batch_of(*points), segments, 0)
    together = hidden_of(model, batch)
    for row in range(4):
        for num_pads in (0, 7):
            alone = batch_of(*(value[row : row + 1] for value in points), num_pads=num_pads)
            alone = masked(replace(alone, window_id_B=torch.tensor([row])), segments, 0)
            found = hidden_of(model, alone)[0, :12]
            torch.testing.assert_close(found, together[row], rtol=1e-4, atol=1e-5)


def test_a_row_depends_on_itself_alone():
    check_rows_are_independent(random_weights())
    with pytest.raises(AssertionError):
        check_rows_are_independent(random_weights(BatchStatistics))


def check_meridian_does_not_matter(model):
    points = walk(3, 12)
    moved, _ = astride_the_date_line(points)
    home, away = (hidden_of(model, window_of(one)) for one in (points, moved))
    torch.testing.assert_close(away, home, rtol=1e-3, atol=1e-3)


def test_the_date_line_is_no_border():
    check_meridian_does_not_matter(random_weights())
    with pytest.raises(AssertionError):
        check_meridian_does_not_matter(random_weights(AbsolutePlace))


def test_sequences_of_a_packed_row_do_not_see_each_other():
    model = random_weights()
    first, second = walk(2, 12, seed=1), walk(2, 9, seed=2, lon_deg=20.0)
    together = [torch.cat(pair, dim=1) for pair in zip(first, second, strict=True)]
    alone = [window_of(first), window_of(second, hidden=[3, 4, 8])]
    packed = replace(
        window_of(together, hidden=[3, 4, 8, 15, 16, 20]),
        sequence_BT=torch.tensor([[0] * 12 + [1] * 9] * 2),
        calendar_BTK=torch.cat([batch.calendar_BTK for batch in alone], dim=1),
    )
    found = hidden_of(model, packed)
    torch.testing.assert_close(found[:, :12], hidden_of(model, alone[0]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 12:], hidden_of(model, alone[1]), rtol=1e-4, atol=1e-5)
    expected = sum(model.loss(batch).total for batch in alone)
    torch.testing.assert_close(model.loss(packed).total, expected, rtol=1e-5, atol=1e-3)


def test_an_instant_keeps_its_second():
    """Windows that begin at any second of 2026 are told to the microsecond, beside a year's."""
    points = walk(2, 12)
    partial = Partial.of(context_of(*points), 0, None)
    shifted = replace(partial, started_us_B=partial.started_us_B + 60_000_000_000_000)
    asks_BT = torch.zeros_like(partial.is_pad_BT)
    asks_BT[:, 5] = True
    hide = {"shows_time_BT": ~asks_BT, "shows_place_BT": ~asks_BT}
    model = random_weights()
    with torch.no_grad():  # the calendar is another one
        model.time.weight[:, TINY.num_waves :] = 0
    found, later = (recover(model, replace(one, **hide)) for one in (partial, shifted))
    torch.testing.assert_close(found.time_s_BT, later.time_s_BT, rtol=0, atol=1e-4)
    since = replace(batch_of(*points), time_s_BT=batch_of(*points).time_s_BT + 31_536_000.0)
    expected = hidden_of(model, replace(batch_of(*points)))
    torch.testing.assert_close(hidden_of(model, since), expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ loss and tasks


def test_pads_never_count():
    model = random_weights()
    points = walk(3, 12)
    plain, padded = model.loss(window_of(points)), model.loss(window_of(points, num_pads=5))
    assert int(plain.count) == int(padded.count) == 3
    torch.testing.assert_close(padded.total, plain.total, rtol=1e-5, atol=1e-3)


class CountsPoints(TrajFm):
    """A window counts as much as it hides points, so that wide gaps are learnt and no others."""

    def loss(self, batch):
        loss = super().loss(batch)
        return replace(loss, total=loss.total * batch.is_target_BT.sum())


def test_windows_count_alike():
    check_windows_count_alike(random_weights())
    with pytest.raises(AssertionError):
        check_windows_count_alike(random_weights(CountsPoints))


@pytest.mark.parametrize("still", ["no time", "no way", "neither"])
def test_sequences_without_time_or_way_are_finite(still):
    model = random_weights().train()
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(16, 20)
    if still != "no time":
        lon_deg_BT, lat_deg_BT = (value[:, :1].expand(16, 20) for value in (lon_deg_BT, lat_deg_BT))
    if still != "no way":
        time_s_BT = torch.zeros_like(time_s_BT)
    batch = masked(batch_of(lon_deg_BT, lat_deg_BT, time_s_BT), any_task, 0)
    loss = model.loss(replace(batch, journeys=journeys_along(lon_deg_BT, lat_deg_BT, time_s_BT)))
    loss.mean.backward()
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(value.grad).all() for value in model.parameters())


def test_path_inference_needs_the_ends_alone():
    points = walk(3, 12)
    partial = Partial.of(context_of(*points), 0, None)
    is_end_BT = torch.zeros_like(partial.is_pad_BT)
    is_end_BT[:, [0, -1]] = True
    found = recover(random_weights(), replace(partial, shows_place_BT=is_end_BT))
    assert torch.equal(found.is_recovered_BT, ~is_end_BT)
    assert torch.equal(found.time_s_BT, partial.time_s_BT)
    assert torch.isfinite(found.lon_deg_BT).all()


def test_recovered_times_do_not_descend():
    partial = Partial.of(context_of(*walk(4, 20)), 0, None)
    hides_BT = torch.zeros_like(partial.is_pad_BT)
    hides_BT[:, 3:9] = hides_BT[:, 12:15] = hides_BT[:, 18:] = True
    hide = {"shows_place_BT": ~hides_BT, "shows_time_BT": ~hides_BT}
    found = recover(random_weights(), replace(partial, **hide))
    assert torch.equal(found.is_recovered_BT, hides_BT)
    assert (found.time_s_BT.diff(dim=1) >= 0).all()


def test_a_score_is_the_surprise_of_each_step_given_its_past():
    """Slowly: one window for each step, whose last point is hidden and asked."""
    model, points = random_weights(), walk(2, 6)
    found = score(model, context_of(*points, [6, 3]))
    for row, count in enumerate((6, 3)):
        total = 0.0
        for end in range(1, count):
            own = [value[row : row + 1, : end + 1] for value in points]
            loss = model.loss(window_of(own, hidden=[end]))
            timed = masked(batch_of(*own), lambda generator, num: endings_at(num), 0)
            total += float(model.loss(timed).parts["time_nll"] + loss.parts["place_nll"])
            both = model.loss(timed).parts
            total += float(both["place_nll"] - loss.parts["place_nll"])
        assert float(found[row]) == pytest.approx(total / (count - 1), rel=1e-4)


def endings_at(num_points):
    """The mask that hides the last point."""
    mask = segments(np.random.default_rng(0), 2)
    is_shown_N = np.arange(num_points) < num_points - 1
    return replace(
        mask,
        shows_place_N=is_shown_N,
        shows_time_N=is_shown_N,
        is_target_N=~is_shown_N,
        shown_N=np.arange(num_points),
        span_N=np.zeros(num_points, np.int64),
    )


def test_training_learns_every_task():
    torch.manual_seed(0)
    model = build("trajfm", "tiny", WALKING)
    fresh = {draw: masked(batch_of(*walk(64, 16, seed=99)), draw, 1) for draw in TASKS}
    first = {draw: float(model.loss(batch).mean.detach()) for draw, batch in fresh.items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        optimiser.zero_grad()
        model.loss(masked(batch_of(*walk(64, 16, seed=step)), any_task, step)).mean.backward()
        optimiser.step()
    for draw, batch in fresh.items():
        assert float(model.loss(batch).mean.detach()) < first[draw] - 0.1, draw


# ------------------------------------------------------------------ what lies around


def surroundings(batch):
    shown = masked_input_of(batch)
    return surroundings_of(shown, guess_of(shown, WALKING), WALKING)


def test_times_come_back_from_their_codes():
    for hidden in ([3, 4, 8], [9, 10, 11]):
        batch = masked(batch_of(*walk(3, 12)), lambda generator, num: hidden_at(hidden, num), 0)  # noqa: B023
        near: Surroundings = surroundings(batch).at(batch.is_target_BT)
        time_s_N = batch.time_s_BT[batch.is_target_BT]
        found = time_of_code(code_of_time(time_s_N, near), near)
        torch.testing.assert_close(found, time_s_N, rtol=0, atol=1e-6)


def hidden_at(hidden, num_points):
    is_shown_N = ~np.isin(np.arange(num_points), hidden)
    mask = endings_at(num_points)
    return replace(mask, shows_place_N=is_shown_N, shows_time_N=is_shown_N, is_target_N=~is_shown_N)


@pytest.mark.parametrize(("lon_deg", "lat_deg"), [(8.0, 50.0), (179.999, 0.0), (30.0, 89.99)])
def test_untrained_places_go_on_along_the_great_circle(lon_deg, lat_deg):
    """At even speed: between known points, ahead of the last and before the first."""
    model = build("trajfm", "tiny", WALKING)
    with torch.no_grad():
        model.place_head.project.weight.zero_()
    away_m_T = torch.arange(12, dtype=torch.float64) * 20
    origin = torch.tensor(lon_deg).double(), torch.tensor(lat_deg).double()
    lon_deg_T, lat_deg_T = step_from(*origin, away_m_T * 0.6, away_m_T * 0.8)
    points = [value.unsqueeze(0) for value in (lon_deg_T, lat_deg_T, away_m_T / 2)]
    partial = Partial.of(context_of(*points), 0, None)
    hides_BT = torch.zeros_like(partial.is_pad_BT)
    hides_BT[:, [0, 5, 6, 10, 11]] = True
    found = recover(model, replace(partial, shows_place_BT=~hides_BT))
    away_m_BT = haversine_m(found.lon_deg_BT, found.lat_deg_BT, points[0], points[1])
    assert int(found.is_recovered_BT.sum()) == 5
    assert float(away_m_BT.max()) < 0.01


def test_ways_end_where_the_known_places_are():
    batch = window_of(walk(3, 12))
    near = surroundings(batch).at(batch.is_target_BT)
    edge = torch.zeros_like(near.before.time_s_BT)
    start = ways_of(near, near.before.time_s_BT + edge, WALKING).way_m_NWC
    assert float(start[:, 0].abs().max()) == 0.0
    assert float(start[:, 2:8].abs().max()) == 0.0
    end = ways_of(near, near.after.time_s_BT, WALKING).way_m_NWC
    torch.testing.assert_close(end[:, 0], near.chord_m_BTC.float())
    assert float(end[:, 2:8].abs().max()) == 0.0


# ------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "wrong",
    [{"width": 30}, {"num_layers": 0}, {"max_points": 2}, {"dropout": 1.0}, {"shortest_steps": 0}],
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrajFmConfig(**wrong)


def test_presets_have_their_size():
    count = {
        name: sum(parameter.numel() for parameter in build("trajfm", name, WALKING).parameters())
        for name in FAMILIES["trajfm"].presets
    }
    assert count["tiny"] < 40_000
    assert 200_000 < count["small"] < 3_000_000
