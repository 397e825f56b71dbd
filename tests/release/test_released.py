"""Released models: what the same registry answers again is not asked, and nothing else is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from helpers import ships

from tasks.config.pipeline import AssessConfig
from tasks.registry.client import registry
from tasks.release import released
from tasks.release.register import Registration
from tasks.runtime import code_closure
from tasks.runtime.stage import without_orchestrator
from tasks.runtime.store import Store


@pytest.fixture(scope="module")
def registered(tmp_path_factory) -> ships.Assessed:
    """A good model that is registered, in a store of its own."""
    root = tmp_path_factory.mktemp("released") / "store"
    shutil.copytree(ships.good().store.root, root)
    own = replace(ships.good(), store=Store(root))
    with without_orchestrator():
        released.released(own, own.reported)
    return own


@pytest.fixture
def made(registered) -> Iterator[ships.Assessed]:
    """The same, put right after each test."""
    root = registered.store.root
    held = {
        path: path.read_bytes()
        for path in [
            root / "mlflow.db",
            *root.glob("mlflow-artifacts/**/MLmodel"),
            released.record_of(registered),
        ]
    }
    yield registered
    for path, content in held.items():
        path.write_bytes(content)
    (root / "mlflow.db-journal").unlink(missing_ok=True)


def not_asked(*given: object) -> Registration:
    raise AssertionError("the registry was asked")


def test_the_same_question_is_not_asked_again(made, monkeypatch):
    first = released.kept(made, made.reported)
    assert first is not None
    monkeypatch.setattr(released, "register", not_asked)
    monkeypatch.setattr(released, "promote", not_asked)
    with without_orchestrator():
        registration, promotion = released.released(made, made.reported)
    assert (registration, promotion) == (first.registration, first.promotion)
    assert (registration.is_new, promotion.is_new) == (False, False)
    monkeypatch.undo()
    with without_orchestrator():
        asked = released.register(made, made.reported)
        judged = released.promote(made, asked)
    assert (asked, judged) == (registration, promotion)


def move_alias(made: ships.Assessed) -> None:
    with registry(made.store) as client:
        client.set_registered_model_alias(released.registered_name(made.config), "best", "1")


def lose_files(made: ships.Assessed) -> None:
    for path in made.store.root.glob("mlflow-artifacts/**/MLmodel"):
        path.unlink()


def half_write(made: ships.Assessed) -> None:
    (made.store.root / "mlflow.db-journal").touch()


def damage_record(made: ships.Assessed) -> None:
    released.record_of(made).write_text("{}")


@pytest.mark.parametrize("change", [move_alias, lose_files, half_write, damage_record])
def test_what_has_changed_is_asked_again(made, change: Callable[[ships.Assessed], None]):
    assert released.kept(made, made.reported) is not None
    change(made)
    assert released.kept(made, made.reported) is None


def test_another_question_is_asked(made, monkeypatch, tmp_path):
    config = made.config.model_copy(update={"assess": AssessConfig(num_bootstrap=101)})
    assert released.kept(replace(made, config=config), made.reported) is None
    report = made.reported.model_copy(update={"content": "0" * 32})
    assert released.kept(made, report) is None
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert released.kept(made, made.reported) is None
    with monkeypatch.context() as patch:
        patch.setattr(released, "source_hashes", lambda: {"tasks/release/register.py": "other"})
        assert released.kept(made, made.reported) is None
    shutil.copytree(made.store.root, tmp_path / "copy")
    assert released.kept(replace(made, store=Store(tmp_path / "copy")), made.reported) is None
    assert released.kept(made, made.reported) is not None


def test_the_source_is_that_of_all_that_a_version_holds():
    hashes = released.source_hashes()
    for module in ("tasks.release.register", "tasks.report.report", "model.families"):
        path = code_closure.module_path(module)
        assert path is not None
        assert any(path.match(place) for place in hashes)
