"""Recovery, travel times, embeddings and scores of flat points: the same as the model's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.served import frame_of, served_from, stored
from helpers.walks import STARTED_US, context_of, walk
from hypothesis import given
from hypothesis import strategies as st

from model.earth.geometry import step_between, step_from
from model.inference import api
from model.inference.api import Partial
from model.inference.serving import load_trained
from model.interface.flat_points import between_known, consecutive, sorted_sketch
from model.interface.lines import line_of
from tasks.release.bundle import example_points, write_bundle

LENGTHS = (12, 7, 9)
HIDDEN = {0: (2, 3, 7), 1: (1, 5), 2: (4, 5, 6)}  # places, by walk
RECOVERING = ("masked_chemin", "trajfm")
LONGEST = 64  # points that a tiny model reads at once


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    families = ("chemin", "gru", "patch", *RECOVERING)
    return {name: stored(tmp_path_factory.mktemp(name), name, is_shaken=True) for name in families}


@pytest.fixture(scope="module")
def models(folders, tmp_path_factory) -> dict[str, Any]:
    """What the registry serves of each family."""
    made = {}
    for name, folder in folders.items():
        task = load_trained(folder).tasks[0]
        params = {"task": task, "horizon": 4, "num_samples": 8, "seed": 3, "zone": "UTC"}
        made[name] = served_from(
            write_bundle(tmp_path_factory.mktemp(f"served-{name}") / "bundle", folder, params)
        )
    return made


def own(folders: dict[str, Path], family: str) -> Any:
    return load_trained(folders[family]).model


def gapped(nonsense: float = float("nan")) -> pd.DataFrame:
    """Three walks whose hidden places are missing."""
    frame = frame_of(*walk(3, max(LENGTHS)), LENGTHS)
    first = 0
    for number, length in enumerate(LENGTHS):
        rows = [first + place for place in HIDDEN[number]]
        frame.loc[rows, ["lon_deg", "lat_deg"]] = nonsense
        first += length
    return frame


def partial_of(lengths, hidden_places, hidden_times=None, seed: int = 0) -> Partial:
    """The walks as the model itself takes them."""
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(len(lengths), max(lengths), seed)
    # To the microsecond, as the frame tells them.
    time_s_BT = (time_s_BT * 1e6).round() / 1e6
    shows_place_BT = torch.ones_like(time_s_BT, dtype=torch.bool)
    shows_time_BT = shows_place_BT.clone()
    for row, places in hidden_places.items():
        shows_place_BT[row, list(places)] = False
    for row, places in (hidden_times or {}).items():
        shows_time_BT[row, list(places)] = False
    is_pad_BT = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return Partial(
        lon_deg_BT,
        lat_deg_BT,
        time_s_BT,
        shows_place_BT,
        shows_time_BT,
        torch.full((len(lengths),), STARTED_US),
        "UTC",
        is_pad_BT,
    )


def assert_same_places(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    for name in ("lon_deg", "lat_deg"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-8, err_msg=name)


# Recover ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", RECOVERING)
def test_it_recovers_what_the_model_recovers(models, folders, family):
    frame = gapped()
    found = models[family].recover(frame)
    partial = partial_of(LENGTHS, HIDDEN)
    expected = api.recover(own(folders, family), partial)
    is_point_BT = ~partial.is_pad_BT
    assert found["is_recovered"].tolist() == frame["lon_deg"].isna().tolist()
    assert found["is_recovered"].tolist() == expected.is_recovered_BT[is_point_BT].tolist()
    for name in ("lon_deg", "lat_deg"):
        theirs = getattr(expected, f"{name}_BT")[is_point_BT].numpy()
        np.testing.assert_allclose(found[name], theirs, rtol=0, atol=1e-8)
        is_given = ~frame["lon_deg"].isna()
        assert found[name][is_given].tolist() == frame[name][is_given].tolist()
    assert found["tracked_at"].tolist() == frame["tracked_at"].tolist()
    truth = frame_of(*walk(3, max(LENGTHS)), LENGTHS)
    assert (found["lon_deg"] != truth["lon_deg"]).sum() == sum(map(len, HIDDEN.values()))


@pytest.mark.parametrize("family", RECOVERING)
@pytest.mark.parametrize("seed", range(2))
def test_neither_the_order_of_rows_nor_company_changes_an_answer(models, family, seed):
    frame = gapped()
    expected = models[family].recover(frame)
    mixed = frame.sample(frac=1.0, random_state=seed)
    found = models[family].recover(pd.concat([mixed, mixed.head(9)], ignore_index=True))
    found = found.sort_values(["trajectory_id", "tracked_at"], ignore_index=True)
    ordered = expected.sort_values(["trajectory_id", "tracked_at"], ignore_index=True)
    pd.testing.assert_frame_equal(found, ordered, check_exact=False, rtol=1e-9)
    alone = models[family].recover(frame[frame["trajectory_id"] == "walk-8"])
    together = expected[expected["trajectory_id"] == "walk-8"].reset_index(drop=True)
    assert_same_places(alone, together)
    moved = frame.copy()
    moved.loc[frame["trajectory_id"] == "walk-9", "lat_deg"] += 1.0
    others = models[family].recover(moved)
    is_other = others["trajectory_id"] != "walk-9"
    assert_same_places(others[is_other], expected[is_other])
    assert not np.allclose(others["lat_deg"][~is_other], expected["lat_deg"][~is_other])


def long_walk(lengths=(200, 30), seed: int = 4) -> tuple[pd.DataFrame, pd.Series]:
    """Walks longer than a model reads at once, many of whose places are hidden."""
    frame = frame_of(*walk(len(lengths), max(lengths), seed), lengths)
    is_hidden = pd.Series(np.random.default_rng(seed).random(len(frame)) < 0.6)
    ends = np.cumsum([0, *lengths])
    is_hidden[[*ends[:-1], *(ends[1:] - 1)]] = False
    frame.loc[is_hidden, ["lon_deg", "lat_deg"]] = np.nan
    return frame, is_hidden


@pytest.mark.parametrize("family", RECOVERING)
def test_a_long_trajectory_is_recovered_alike_alone_and_in_company(models, family):
    frame, is_hidden = long_walk()
    together = models[family].recover(frame)
    assert together["is_recovered"].tolist() == is_hidden.tolist()
    assert together[["lon_deg", "lat_deg"]].notna().all(axis=None)
    is_long = frame["trajectory_id"] == "walk-9"
    alone = models[family].recover(frame[is_long])
    assert_same_places(alone, together[is_long])
    other = models[family].recover(
        pd.concat([gapped(), frame]).assign(
            trajectory_id=lambda rows: ["x"] * sum(LENGTHS) + frame["trajectory_id"].tolist(),
        )[sum(LENGTHS) :]
    )
    assert_same_places(other, together)


def test_a_long_trajectory_is_read_piece_by_piece(models, folders):
    """The first piece answers as the model does of its first points alone."""
    frame, _ = long_walk()
    found = models["masked_chemin"].recover(frame)
    lon_deg_BT, lat_deg_BT, time_s_BT = (v[:1, :LONGEST] for v in walk(2, 200, 4))
    shows_place_BT = torch.tensor(frame["lon_deg"][:LONGEST].notna().tolist())[None]
    everything = torch.ones_like(shows_place_BT)
    partial = Partial(
        lon_deg_BT,
        lat_deg_BT,
        (time_s_BT * 1e6).round() / 1e6,
        shows_place_BT,
        everything,
        torch.tensor([STARTED_US]),
        "UTC",
        ~everything,
    )
    expected = api.recover(own(folders, "masked_chemin"), partial)
    known = np.flatnonzero(shows_place_BT[0].numpy())
    border = int(known[known < LONGEST // 2][-1])
    np.testing.assert_allclose(
        found["lon_deg"][:border], expected.lon_deg_BT[0, :border], rtol=0, atol=1e-8
    )


@given(st.lists(st.booleans(), min_size=1, max_size=90), st.integers(4, 12))
def test_pieces_keep_hidden_stretches_whole(is_known, longest):
    """Each point is answered once, by a piece that reads all of its stretch and both its ends."""
    place = np.where(is_known, 1.0, np.nan)
    number = np.zeros(len(place), np.int64)
    rows = sorted_sketch(number, np.arange(len(place)), place, place, number == 0)
    stretch = np.cumsum(is_known)
    known = [-1, *np.flatnonzero(is_known), len(place)]
    # A border is read in both pieces; the two ends of a trajectory count as borders.
    widest = np.diff([0, *[k for k in known if 0 < k < len(place) - 1], len(place) - 1]).max()
    if len(place) > longest and widest >= longest:
        with pytest.raises(ValueError, match="missing in a row"):
            between_known(rows, longest)
        return
    pieces = between_known(rows, longest)
    answered = []
    for first, end, kept, kept_end in zip(
        pieces.first_P, pieces.end_P, pieces.kept_P, pieces.kept_end_P, strict=True
    ):
        assert first <= kept < kept_end <= end <= len(place)
        assert end - first == min(longest, len(place))
        answered += range(kept, kept_end)
        if first > 0 and end < len(place):  # as much is read before as after
            assert abs((kept - first) - (end - 1 - kept_end)) <= 1
        for point in range(kept, kept_end):
            if not is_known[point]:
                (same,) = np.nonzero((stretch == stretch[point]) & ~np.array(is_known))
                before, after = max(0, same[0] - 1), min(len(place) - 1, same[-1] + 1)
                assert first <= before
                assert after < end
    assert answered == list(range(len(place)))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(3, 9))
def test_consecutive_pieces_count_every_point_and_every_step_once(sizes, longest):
    number = np.repeat(np.arange(len(sizes)), sizes)
    place = np.zeros(len(number))
    rows = sorted_sketch(number, np.arange(len(number)), place, place, place == 0)
    pieces = consecutive(rows, longest)
    read = [p for a, b in zip(pieces.first_P, pieces.end_P, strict=True) for p in range(a, b)]
    assert read == list(range(len(number)))
    pieces = consecutive(rows, longest, num_shared=1)
    steps = [p for a, b in zip(pieces.first_P, pieces.end_P, strict=True) for p in range(a + 1, b)]
    assert steps == [p for p in range(1, len(number)) if number[p] == number[p - 1]]
    assert (pieces.end_P - pieces.first_P).max() <= longest
    assert set(number[pieces.first_P]) == set(range(len(sizes)))


def test_what_cannot_be_told_stays_missing(models):
    frame = frame_of(*walk(1, 8), (8,))
    frame.loc[[0, 4, 7], ["lon_deg", "lat_deg"]] = np.nan
    between = models["masked_chemin"].recover(frame)
    assert between["lon_deg"].isna().tolist() == [True] + [False] * 6 + [True]
    assert between["is_recovered"].tolist() == [False] * 4 + [True] + [False] * 3
    ahead = models["trajfm"].recover(frame)
    assert ahead[["lon_deg", "lat_deg"]].notna().all(axis=None)


@pytest.mark.parametrize("family", RECOVERING)
def test_missing_times_are_told_too(models, folders, family):
    frame = gapped()
    frame.loc[frame["lon_deg"].isna(), "tracked_at"] = pd.NaT
    found = models[family].recover(frame)
    partial = partial_of(LENGTHS, HIDDEN, HIDDEN)
    expected = api.recover(own(folders, family), partial)
    is_point_BT = ~partial.is_pad_BT
    for name in ("lon_deg", "lat_deg"):
        theirs = getattr(expected, f"{name}_BT")[is_point_BT].numpy()
        np.testing.assert_allclose(found[name], theirs, rtol=0, atol=1e-8)
    instant_us = found["tracked_at"].dt.as_unit("us").astype("int64").to_numpy()
    theirs_us = STARTED_US + expected.time_s_BT[is_point_BT].numpy() * 1e6
    np.testing.assert_allclose(instant_us, theirs_us, rtol=0, atol=20)
    assert found["is_recovered"].tolist() == frame["lon_deg"].isna().tolist()
    text = frame.assign(tracked_at=frame["tracked_at"].astype(str).replace("NaT", None))
    pd.testing.assert_frame_equal(models[family].recover(text), found)


def test_files_are_answered_as_frames_are(models, tmp_path):
    frame, _ = long_walk((20, 30, 25))
    table = pa.table({name: frame[name].tolist() for name in frame})
    with pq.ParquetWriter(tmp_path / "points.parquet", table.schema) as writer:
        writer.write_table(table.slice(0, 50))
        writer.write_table(table.slice(50))
    models["masked_chemin"].recover_files(tmp_path / "points.parquet", tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_row_groups == 2
    found = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(found, models["masked_chemin"].recover(frame), rtol=1e-9)


# Travel time ------------------------------------------------------------------------------------


def with_goal(is_bare: bool = False) -> pd.DataFrame:
    """Walks of which only the first time is given, and of a bare one only the ends."""
    frame = frame_of(*walk(3, max(LENGTHS)), LENGTHS)
    place = frame.groupby("trajectory_id", sort=False).cumcount()
    frame.loc[place > 0, "tracked_at"] = pd.NaT
    if not is_bare:
        return frame
    is_last = ~frame["trajectory_id"].duplicated(keep="last")
    return frame[(place == 0) | is_last].reset_index(drop=True)


def along_its_line(whole):
    """The same, each path told at even shares of its way."""
    columns = [
        line_of(
            whole.lon_deg_BT[row],
            whole.lat_deg_BT[row],
            torch.tensor([0]),
            torch.tensor([n - 1]),
            LONGEST,
        )
        for row, n in enumerate(LENGTHS)
    ]
    lon_deg, lat_deg, path_m = (torch.cat(parts) for parts in zip(*columns, strict=True))
    is_first = (torch.arange(LONGEST) == 0).expand_as(lon_deg)
    every = torch.ones_like(is_first)
    given = torch.zeros_like(lon_deg), every, is_first, whole.started_us_B, "UTC", ~every
    return Partial(lon_deg, lat_deg, *given, path_m)


@pytest.mark.parametrize("is_bare", [False, True])
def test_travel_times_are_the_models_own(models, folders, is_bare):
    found = models["trajfm"].travel_time(with_goal(is_bare))
    whole = partial_of(LENGTHS, {}, {row: range(1, n) for row, n in enumerate(LENGTHS)})
    if is_bare:
        ends_B2 = torch.tensor([[0, n - 1] for n in LENGTHS])
        columns = ("lon_deg_BT", "lat_deg_BT", "time_s_BT", "shows_place_BT", "shows_time_BT")
        ends = [getattr(whole, name).gather(1, ends_B2) for name in columns]
        whole = Partial(*ends, whole.started_us_B, "UTC", torch.zeros(3, 2, dtype=torch.bool))
    else:
        whole = along_its_line(whole)
    expected = api.travel_time(own(folders, "trajfm"), whole)
    assert found["trajectory_id"].tolist() == ["walk-9", "walk-8", "walk-7"]
    np.testing.assert_allclose(found["travel_s"], expected.median_s_B, rtol=1e-6)
    np.testing.assert_allclose(found["travel_p10_s"], expected.p10_s_B, rtol=1e-6)
    np.testing.assert_allclose(found["travel_p90_s"], expected.p90_s_B, rtol=1e-6)
    assert (found["travel_p10_s"] < found["travel_p90_s"]).all()


def test_a_path_is_read_in_its_order(models):
    frame = with_goal()
    backwards = frame.iloc[[0, *range(10, 0, -1), 11]]
    forwards = models["trajfm"].travel_time(frame[:12])
    assert not np.allclose(
        models["trajfm"].travel_time(backwards)["travel_s"], forwards["travel_s"]
    )


@pytest.mark.parametrize("family", ["gru", "patch", "trajfm"])
def test_forecasts_are_the_models_own(models, folders, family):
    points = walk(3, max(LENGTHS))
    found = models[family].forecast(frame_of(*points, LENGTHS))
    context = context_of(*points[:2], (points[2] * 1e6).round() / 1e6, list(LENGTHS))
    expected = api.forecast(own(folders, family), context, 4, num_samples=8, seed=3)
    for name in ("lon_deg", "lat_deg", "radius_p50_m", "radius_p80_m"):
        theirs = getattr(expected, f"{name}_BH").numpy().ravel()
        np.testing.assert_allclose(found[name], theirs, rtol=1e-4, err_msg=name)


# Embed and score --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["chemin", "masked_chemin", "patch", "trajfm"])
def test_embeddings_and_scores_are_the_models_own(models, folders, family):
    frame = frame_of(*walk(3, max(LENGTHS)), LENGTHS)
    lon_deg_BT, lat_deg_BT, time_s_BT = walk(3, max(LENGTHS))
    context = context_of(lon_deg_BT, lat_deg_BT, (time_s_BT * 1e6).round() / 1e6, list(LENGTHS))
    found = models[family].embed(frame)
    expected_BD = api.embed(own(folders, family), context).numpy()
    assert list(found) == ["trajectory_id", *(f"e{n}" for n in range(expected_BD.shape[1]))]
    np.testing.assert_allclose(found.iloc[:, 1:].to_numpy(), expected_BD, rtol=1e-4, atol=1e-5)
    if "score" not in models[family].tasks:
        return
    scored = models[family].score(frame)
    assert list(scored) == ["trajectory_id", "surprise_nats"]
    expected_B = api.score(own(folders, family), context).numpy()
    np.testing.assert_allclose(scored["surprise_nats"], expected_B, rtol=1e-4)
    assert models[family].score(frame[:1])["surprise_nats"].isna().all()


def test_a_long_trajectory_is_the_mean_of_its_pieces(models):
    frame = frame_of(*walk(1, 150), (150,))
    model = models["chemin"]
    parts = [frame[:64], frame[64:128], frame[128:]]
    each = np.stack([model.embed(part).iloc[0, 1:].astype(float) for part in parts])
    mean = np.average(each, axis=0, weights=[64, 64, 22])
    found = model.embed(frame).iloc[0, 1:].astype(float)
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-5)
    parts = [frame[:64], frame[63:127], frame[126:]]
    each = [model.score(part)["surprise_nats"][0] for part in parts]
    mean = np.average(each, weights=[63, 63, 23])
    np.testing.assert_allclose(model.score(frame)["surprise_nats"][0], mean, rtol=1e-4)


# What is asked ----------------------------------------------------------------------------------


def test_predict_asks_what_the_task_names(models):
    frame, whole = gapped(), frame_of(*walk(3, max(LENGTHS)), LENGTHS)
    asked = {
        "forecast": models["trajfm"].forecast(whole),
        "recover": models["trajfm"].recover(frame),
        "travel_time": models["trajfm"].travel_time(with_goal()),
        "embed": models["trajfm"].embed(whole),
        "score": models["trajfm"].score(whole),
    }
    given = {"recover": frame, "travel_time": with_goal()}
    for task, expected in asked.items():
        found = models["trajfm"].predict(None, given.get(task, whole), {"task": task})
        pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(models["trajfm"].predict(None, whole), asked["forecast"])
    recovered = models["masked_chemin"].predict(None, frame)
    pd.testing.assert_frame_equal(recovered, models["masked_chemin"].recover(frame))
    assert models["masked_chemin"].tasks == ("recover", "embed")


def test_the_example_of_a_recovery_is_answered(models):
    found = models["masked_chemin"].predict(None, example_points("recover").to_pandas())
    assert found["is_recovered"].tolist() == [False, False, True, False, False]
    assert found.notna().all(axis=None)


@pytest.mark.parametrize(
    ("family", "task", "words"),
    [
        (
            "masked_chemin",
            "forecast",
            "masked_chemin does not serve 'forecast'; it serves: recover",
        ),
        ("masked_chemin", "score", "masked_chemin does not serve 'score'"),
        ("patch", "recover", "patch does not serve 'recover'; it serves: forecast, embed, score"),
        ("gru", "embed", "gru does not serve 'embed'; it serves: forecast"),
        ("chemin", "travel_time", "chemin does not serve 'travel_time'"),
        ("trajfm", "load_context", "trajfm does not serve 'load_context'; it serves: forecast"),
    ],
)
def test_a_task_that_is_not_served_is_refused(models, family, task, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        models[family].predict(None, gapped(), {"task": task})
    if task != "load_context":
        with pytest.raises(ValueError, match=re.escape(words)):
            getattr(models[family], task)(gapped())


def changed(column: str, rows: list[int], value: Any) -> pd.DataFrame:
    frame = gapped()
    frame.loc[rows, column] = value
    return frame


BAD_FRAMES = {
    "half a place": (lambda: changed("lat_deg", [0], np.nan), "missing in 1 of 28 rows; give both"),
    "infinite": (lambda: changed("lon_deg", [0], np.inf), "lon_deg must be finite and from -180"),
    "too far north": (lambda: changed("lat_deg", [0, 1], 91.234), "2 of 28 rows are not"),
    "nothing known": (
        lambda: changed("tracked_at", list(range(12)), pd.NaT),
        "each trajectory: 1 of 3 have none",
    ),
    "known and hidden at once": (
        lambda: changed("tracked_at", [2], gapped()["tracked_at"][1]),
        "share trajectory_id and tracked_at",
    ),
    "back in time": (
        lambda: changed("tracked_at", [2, 3], pd.NaT).iloc[[0, 4, 2, 1, *range(5, 28)]],
        "not later than the one before: 1",
    ),
    "no points": (lambda: gapped()[:0], "no points were given"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_refused_in_plain_words(models, name):
    make, message = BAD_FRAMES[name]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        models["masked_chemin"].recover(make())
    assert "91.2" not in str(caught.value)


def test_a_stretch_longer_than_a_model_reads_is_refused(models):
    frame = frame_of(*walk(1, 90), (90,))
    frame.loc[2:64, ["lon_deg", "lat_deg"]] = np.nan
    with pytest.raises(ValueError, match="over 62 points of a trajectory are missing in a row"):
        models["masked_chemin"].recover(frame)
    frame = frame_of(*walk(1, 90), (90,))
    frame.loc[2:63, ["lon_deg", "lat_deg"]] = np.nan
    assert models["masked_chemin"].recover(frame).notna().all(axis=None)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gapped(), "2 of 2 trajectories are not so"),
        (lambda: with_goal()[:1], "1 of 1 trajectories are not so"),
        (lambda: with_goal()[1:12], "1 of 1 trajectories are not so"),
    ],
)
def test_a_travel_time_needs_its_ends(models, make, words):
    frame = make()
    frame = frame[frame["trajectory_id"] != "walk-7"]
    with pytest.raises(ValueError, match=words):
        models["trajfm"].travel_time(frame)


def test_how_many_points_a_path_has_does_not_matter(models):
    """Nor what has no place: a line on the map is asked, whatever it was recorded at."""
    frame = frame_of(*walk(1, 127), (127,))
    frame.loc[1:, "tracked_at"] = pd.NaT
    step_m = step_between(
        *(
            torch.tensor(frame[name].to_numpy()[part])
            for part in (slice(None, -1), slice(1, None))
            for name in ("lon_deg", "lat_deg")
        )
    )
    starts = (torch.tensor(frame[name].to_numpy()[:-1]) for name in ("lon_deg", "lat_deg"))
    middle = step_from(*starts, *(axis_m / 2 for axis_m in step_m))
    more = pd.DataFrame(
        {"trajectory_id": frame["trajectory_id"][0], "lon_deg": middle[0], "lat_deg": middle[1]},
        index=frame.index[:-1] + 0.5,
    )
    lost = pd.DataFrame(
        {"trajectory_id": frame["trajectory_id"][0], "lon_deg": [np.nan]}, index=[3.2]
    )
    finer = pd.concat([frame, more, lost]).sort_index()
    finer["tracked_at"] = pd.to_datetime(finer["tracked_at"], utc=True)
    found, other = (models["trajfm"].travel_time(one) for one in (frame, finer))
    np.testing.assert_allclose(found["travel_s"], other["travel_s"], rtol=1e-4)
    together = models["trajfm"].travel_time(
        pd.concat([with_goal(), frame.assign(trajectory_id="x")])
    )
    np.testing.assert_allclose(together["travel_s"].iloc[-1], found["travel_s"][0], rtol=1e-6)


def test_missing_places_are_refused_by_what_needs_them_all(models):
    for task in ("forecast", "embed", "score"):
        with pytest.raises(ValueError, match="lon_deg must be finite"):
            getattr(models["trajfm"], task)(gapped())
