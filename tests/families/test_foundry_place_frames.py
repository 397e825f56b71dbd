"""Frames of named places: what is no table is refused, and what is one is read alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.named import KNOWING, TEXTS, table_near
from helpers.served import frame_of
from helpers.walks import shaken, walk

from model.families.foundry.network import Foundry
from model.features.letters import NUM_NUMBERS
from model.inference.point_frames import PointFrames
from model.inference.serving import Params, Trained


def asked_amid(model, places=None):
    model.places = places
    return PointFrames(Trained(model), Params(horizon=3, num_samples=0))


def test_a_text_that_is_missing_is_no_text():
    """However it is missing: it is not the word for that."""
    points = walk(3, 9)
    frame, table = frame_of(*points, (9, 9, 9)), table_near(points)
    asked = asked_amid(shaken(Foundry, KNOWING), table)
    given = {"lon_deg": table.lon_deg_P, "lat_deg": table.lat_deg_P}
    empty = asked.forecast(frame, places=pd.DataFrame(given | {"text": ""}))
    for missing in ([np.nan] * 3, [None] * 3, pd.array([pd.NA] * 3, "string")):
        found = asked.forecast(frame, places=pd.DataFrame(given | {"text": missing}))
        pd.testing.assert_frame_equal(found, empty)


def test_the_order_of_a_table_does_not_matter_where_many_places_are_one():
    points = walk(1, 9)
    asked, frame = asked_amid(shaken(Foundry, KNOWING)), frame_of(*points, (9,))
    places = pd.DataFrame(
        {"lon_deg": float(points[0][0, 5]), "lat_deg": float(points[1][0, 5])}, range(9)
    )
    places = places.assign(text=[f"shop of {one}" for one in "ahgdefcbi"])
    told = [asked.forecast(frame, places=one) for one in (places, places[::-1])]
    pd.testing.assert_frame_equal(*told)


@pytest.mark.parametrize("number", [np.inf, np.nan, 1e300])
def test_numbers_of_a_text_that_are_none_are_refused(number):
    """They would have made each forecast NaN, or have been taken for zero."""
    points = walk(3, 9)
    table = table_near(points, way="mine:vectors")
    told = {f"v{one}": table.vector_PV[:, one].astype(float) for one in range(NUM_NUMBERS)}
    places = pd.DataFrame({"lon_deg": table.lon_deg_P, "lat_deg": table.lat_deg_P} | told)
    places.loc[1, "v7"] = number
    asked = asked_amid(shaken(Foundry, KNOWING), table)
    with pytest.raises(ValueError, match="v0 to v31 must be finite numbers: in 1 of 3 rows"):
        asked.forecast(frame_of(*points, (9, 9, 9)), places=places)


def test_what_looks_up_no_place_still_knows_how_texts_are_told_and_how_far():
    points = walk(3, 9)
    frame, own = frame_of(*points, (9, 9, 9)), table_near(points, reach_m=300.0)
    asked = asked_amid(shaken(Foundry, KNOWING), own)
    given = pd.DataFrame({"lon_deg": own.lon_deg_P, "lat_deg": own.lat_deg_P, "text": TEXTS})
    none = asked.amid(pd.DataFrame())
    plain = asked_amid(shaken(Foundry, KNOWING)).forecast(frame)
    pd.testing.assert_frame_equal(none.forecast(frame), plain)
    pd.testing.assert_frame_equal(none.forecast(frame, places=given), asked.forecast(frame))
    mine = asked_amid(shaken(Foundry, KNOWING), replace(own, way="mine:vectors"))
    with pytest.raises(ValueError, match="column v0 is missing"):
        mine.amid(pd.DataFrame()).forecast(frame, places=given)
