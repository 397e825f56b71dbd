"""Machine: the places and limits that come from the environment. None changes a result.

One can be asked to change when a result is made again: `libraries_in_recipes`.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Machine(BaseSettings):
    """Places and limits of this machine, read from `TRAJFOUNDRY_*` variables."""

    model_config = SettingsConfigDict(env_prefix="TRAJFOUNDRY_", frozen=True, extra="ignore")

    store: Path = Field(Path("store"), description="Folder that holds every result.")
    mlflow_tracking_uri: str = Field("", description="MLflow server; the store's own if empty.")
    mlflow_page: str = Field("http://127.0.0.1:5000", description="MLflow's pages, for links.")
    memory_limit_mb: int = Field(4_000, ge=256, description="Memory that DuckDB may use.")
    num_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Threads of a stage."
    )
    checkpoint_every_s: float = Field(
        30.0, ge=0, description="Seconds between checkpoints of a training."
    )
    libraries_in_recipes: bool = Field(
        False, description="Whether other versions of the libraries make every result again."
    )

    @property
    def tracking_uri(self) -> str:
        """The MLflow address: as given, else a database file inside the store."""
        given = self.mlflow_tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        # Quoted, for MLflow reads it as an address: a % or # in a folder's name is no escape.
        return given or f"sqlite:///{quote(str(self.store.expanduser().absolute() / 'mlflow.db'))}"


def engine_settings(spill: Path) -> dict[str, str | int | bool]:
    """DuckDB's configuration: bounded memory, private spilling, no extensions."""
    machine = Machine()
    return {
        "memory_limit": f"{machine.memory_limit_mb}MB",
        "threads": machine.num_threads,
        "temp_directory": str(spill),
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
    }
