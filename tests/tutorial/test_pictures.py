"""Pictures of the tutorial: images with words, and pages that ask for nothing."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from notebooks import latent, pictures

WALK = (np.linspace(8.0, 8.1, 5), np.linspace(56.0, 56.02, 5))
MADE = {
    "attention": lambda: pictures.attention_map(
        torch.eye(3, requires_grad=True), "Who reads whom", "abc", is_allowed_QT=np.eye(3)
    ),
    "heads": lambda: pictures.attention_map(np.ones((2, 3, 3)) / 3, "Two heads", names=("1", "2")),
    "heat": lambda: pictures.heat_map([[-1.0, 0.5]], "Waves", "row", "column", "value"),
    "masks": lambda: pictures.mask_bars({"place": [1, 0, 1], "time": [1, 1, 1]}, "Masks"),
    "lines": lambda: pictures.lines({"a": ([0, 1], [1, 2])}, "A line", ("x", "y")),
    "loss": lambda: pictures.loss_curve({"train": [2.0, 1.0]}, "Loss", every=10),
    "histograms": lambda: pictures.histogram_pair({"a": [1, 2], "b": [2, 9]}, "Two", "metres"),
    "many": lambda: pictures.histogram_pair({name: [1, 2] for name in "abcdefg"}, "Many", "metres"),
    "fan": lambda: pictures.fan(
        ([0, 1], [0, 1]), [2, 3], np.ones((9, 2)), "A fan", ("hour", "km"), [2, 3]
    ),
    "intervals": lambda: pictures.intervals(
        {"a_model": (-5.0, -9.0, -1.0), "another": (2.0, 1.0, 4.0)}, "Skills", "skill, %"
    ),
    "map": lambda: pictures.track_map(
        {"a walk": WALK}, "A map", (np.stack([WALK[0]] * 2), np.stack([WALK[1]] * 2))
    ),
}
CLOUD = np.random.default_rng(1).normal(size=(4, 6, 3))


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_picture_fits_a_phone_and_says_what_it_shows(make):
    picture = make()
    pixels = imread(io.BytesIO(picture.png))
    assert pixels.shape[1] == pictures.WIDTH * 144
    assert np.ptp(pixels[..., :3]) > 0.5
    shown = picture._repr_html_()
    assert 20 < len(picture.alt) < len(repr(picture)) < 400  # a notebook keeps this text too
    assert f'alt="{picture.alt}"' in shown
    assert "http" not in shown


def test_words_follow_what_is_drawn():
    assert MADE["attention"]().alt.endswith("in map: a, b, c.")
    assert "Points marked as hidden are, of place: 1; of time: none" in MADE["masks"]().alt
    pads = pictures.mask_bars({"trip": [1, 0]}, "Rows", ("point", "pad"))
    assert pads.alt == "Rows. Points marked as pad are, of trip: 1."
    assert "train goes from 2 to 1" in MADE["loss"]().alt
    assert "the bar is 1000 m" in MADE["map"]().alt


def test_intervals_tell_their_ends():
    assert "a_model -5 from -9 to -1; another 2 from 1 to 4" in MADE["intervals"]().alt


def test_several_pictures_stand_below_each_other():
    parts = MADE["lines"](), MADE["loss"]()
    shown = pictures.Several(parts)._repr_html_()
    places = [shown.index(part._repr_html_()) for part in parts]
    assert places == sorted(places)
    assert pictures.Text("| a |")._repr_markdown_() == "| a |"


def test_equal_pictures_are_equal_bytes():
    assert MADE["map"]().png == MADE["map"]().png


@pytest.mark.parametrize("least", [1.6, 0.2, 1e-3], ids=str)
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(monkeypatch, least):
    drawn = []
    monkeypatch.setattr(pictures, "png", lambda figure: drawn.append(figure) or b"")
    pictures.loss_curve({"train": [2.3, least]}, "Loss")
    ticks = drawn[0].axes[0].get_yticklabels(which="both")
    named = [(tick.get_position()[1], tick.get_text()) for tick in ticks if tick.get_text()]
    assert len(named) > 2
    assert [float(text) for _, text in named] == pytest.approx([place for place, _ in named])


def test_a_latent_view_holds_its_points_and_asks_for_nothing():
    view = latent.latent_view(CLOUD, list("aabbcc"), ["<x>", *"uvwxy"], "Six & more")
    [data] = re.findall(r'id="points">(.*)</script>', view.page)
    held = json.loads(data)
    assert np.shape(held["frames"]) == CLOUD.shape
    assert np.linalg.norm(held["frames"][-1], axis=-1).max() == pytest.approx(1, abs=0.01)
    assert held["labels"][0] == "<x>"
    assert "<x>" not in view.page
    assert "Six &amp; more" in view.page
    assert "default-src 'none'" in view.page
    assert re.findall(r"https?:|@import|url\(|fetch|XMLHttp|<!--", view.page) == []
    assert len(set(held["colours"])) == 3
    assert view._repr_html_().count("<img alt=") == 1
    assert len(repr(view)) < 200


def test_numbers_are_coloured_from_dark_to_bright():
    held = json.loads(
        re.findall(
            r'id="points">(.*)</script>', latent.latent_view(CLOUD[0], range(6), "abcdef").page
        )[0]
    )
    brightness = [sum(bytes.fromhex(colour[1:])) for colour in held["colours"]]
    assert brightness == sorted(brightness)
    assert len(held["frames"]) == 1
