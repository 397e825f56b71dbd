"""Released model: a version that was registered and judged, or what the same registry said before.

Asking MLflow takes seconds, and most of them load it. A database of the same bytes answers the same
question alike, so the answer is kept beside the store's own registry with the hash of both.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from tasks.registry.client import tracking_uri
from tasks.registry.moved import opened
from tasks.release.promote import Promotion, promote
from tasks.release.register import Registration, register, registered_name
from tasks.report.facts import RunSteps
from tasks.runtime.code_closure import package_folder
from tasks.runtime.file_hashes import sha256_file
from tasks.runtime.frozen import Frozen
from tasks.runtime.manifest import canonical_json, library_versions
from tasks.runtime.progress import flow_run_id, log
from tasks.runtime.stage import as_task
from tasks.runtime.store import Receipt, replacing, sha256_text, write_synced

LOCATION = "select storage_location from model_versions where name = ? and version = ?"


class Released(Frozen):
    """A version, what the gate said of it, and the names of the question and of the registry."""

    question: str
    database: str
    registration: Registration
    promotion: Promotion


def released(steps: RunSteps, reported: Receipt) -> tuple[Registration, Promotion]:
    """Register a trained model and put it to the gate, unless nothing has changed since."""
    if (known := kept(steps, reported)) is not None:
        log(f"register and promote {known.registration.name}: done before, kept")
        return known.registration, known.promotion
    registration = as_task(register)(steps, reported, flow_run_id())
    promotion = as_task(promote)(steps, registration)
    keep(steps, reported, registration, promotion)
    return registration, promotion


def kept(steps: RunSteps, reported: Receipt) -> Released | None:
    """What was answered to the same question, if the registry and the model's files still stand."""
    try:
        known = Released.model_validate_json(record_of(steps).read_bytes())
        database = own_database(steps)
        if (
            database is not None
            and known.database == sha256_file(database)
            and known.question == question(steps, reported)
            and has_files(database, known.registration)
        ):
            return known
    except (OSError, ValidationError, sqlite3.Error):
        pass
    return None


def keep(
    steps: RunSteps, reported: Receipt, registration: Registration, promotion: Promotion
) -> None:
    """Note the answer, as it will be given again: nothing of it is new then."""
    database = own_database(steps)
    if database is None:
        return
    known = Released(
        question=question(steps, reported),
        database=sha256_file(database),
        registration=registration.model_copy(update={"is_new": False}),
        promotion=promotion.model_copy(update={"is_new": False}),
    )
    path = record_of(steps)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with replacing(path) as beside:
        write_synced(beside, known.model_dump_json())


def record_of(steps: RunSteps) -> Path:
    return steps.store.root / ".released" / f"{registered_name(steps.config)}.json"


def own_database(steps: RunSteps) -> Path | None:
    """The store's own registry, whole in one file; none where the registry is anywhere else."""
    path = steps.store.root.absolute() / "mlflow.db"
    is_own = unquote(tracking_uri(steps.store)) == f"sqlite:///{path}"
    is_whole = not any(path.with_name(f"{path.name}-{end}").exists() for end in ("wal", "journal"))
    return path if is_own and is_whole and path.is_file() else None


def question(steps: RunSteps, reported: Receipt) -> str:
    """The name of what is asked: what was made of which data, by which code, in which store."""
    receipts = {
        "shards": steps.shards,
        "trained": steps.trained,
        "evaluated": steps.evaluated,
        "quality": steps.quality,
        "reported": reported,
    }
    asked = {
        "store": str(steps.store.root.absolute()),
        "config": steps.config.model_dump(mode="json"),
        "code": source_hashes(),
        "libraries": library_versions(("mlflow-skinny", "mlflow")),
        **{name: [one.recipe, one.content] for name, one in receipts.items() if one is not None},
    }
    return sha256_text(canonical_json(asked))


def source_hashes() -> dict[str, str]:
    """The hash of every file of the packages that decide what a version holds and is told of it."""
    return {
        str(path.relative_to(folder.parent)): sha256_file(path)
        for folder in (package_folder("model"), package_folder("tasks"))
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".json", ".toml")
    }


def has_files(database: Path, registration: Registration) -> bool:
    """Whether the files of a version are where the registry says."""
    with opened(database) as connection:
        found = connection.execute(LOCATION, (registration.name, registration.version)).fetchone()
    parts = urlsplit(found[0] or "" if found else "")
    return parts.scheme == "file" and (Path(unquote(parts.path)) / "MLmodel").is_file()
