"""Named places beside walks, and a small foundry that looks them up, for the tests of both."""

from __future__ import annotations

from dataclasses import replace

from model.families.foundry.config import FoundryConfig
from model.features.letters import NUM_NUMBERS, text_vectors
from model.interface.named_places import NamedPlaces

TINY = FoundryConfig(width=16, num_layers=2, max_points=20, has_place=False)
KNOWING = replace(TINY, num_text=NUM_NUMBERS)
TEXTS = ("Harbour of the north", "Harbour of the south", "Airport")


def table_near(points, texts=TEXTS, reach_m=5_000.0, **facts) -> NamedPlaces:
    """A place beside the last known point of each of three walks."""
    lon_deg, lat_deg = (value[:, -1].numpy().copy() + 0.001 for value in points[:2])
    return NamedPlaces(lon_deg, lat_deg, text_vectors(texts), reach_m=reach_m, **facts)
