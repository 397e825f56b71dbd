"""Visits, regions and times: `network.py` reads and tells them, `generation.py` draws new ones."""
