"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

PROJECT = Path(__file__).resolve().parent.parent
QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
for name, value in QUIET.items():
    os.environ.setdefault(name, value)

# A busy machine is slow, not wrong: properties have no deadline, tests have their timeout.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real samples beside the project; a clone without it skips."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of real samples is not here")
    return folder


@pytest.fixture(scope="session")
def prefect_api_url() -> Iterator[str]:
    """The address of a Prefect server of this test session, on loopback."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        url = PREFECT_API_URL.value()
        assert url is not None
        yield url


@pytest.fixture
def store(tmp_path: Path):
    """An empty store."""
    from tasks.runtime.store import Store

    made = Store(tmp_path / "store")
    made.prepare()
    return made


@pytest.fixture(scope="module")
def connection():
    """A database in memory with the project's macros, for SQL that is tested by itself."""
    import duckdb

    import sql

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set timezone = 'UTC'")
        for text in sql.macros().values():
            connection.execute(text)
        yield connection
