"""Tracks of storms as the notebooks read them: as many as a run has, and over the date line."""

from __future__ import annotations

import datetime as dt

import numpy as np

from notebooks.tracks import storm, storms


def test_every_point_of_the_embedded_storms_is_there():
    assert sum(map(len, storms(min_points=1))) == 49_535
    assert {track.storm_id[:2] for track in storms()} == {"AL", "CP", "EP"}
    assert all((np.diff(track.time_s_T) > 0).all() for track in storms())


def test_a_storm_crosses_the_date_line():
    john = storm("EP101994")
    assert (john.name, john.year, len(john)) == ("John", 1994, 121)
    assert np.abs(np.diff(john.lon_deg_T)).max() > 350
    assert (john.lat_deg_T > 0).all()
    assert john.time_s_T[0] == dt.datetime(1994, 8, 11, 6, tzinfo=dt.UTC).timestamp()
