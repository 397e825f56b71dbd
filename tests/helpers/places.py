"""Places of the project that tests need to know."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PROJECT = TESTS.parent
FIXTURES = TESTS / "fixtures"
