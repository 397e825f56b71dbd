"""Drift watch: whether a registered model has fallen behind the baselines on the newest data.

What it finds stands at the version, as the tags `drift` and `drift_checked_at`, and a fall is an
event of Prefect, `trajfoundry.model.fell-behind`, on which an automation can send a message.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from model.evaluation.verdict import TOO_FEW
from tasks.evaluate.transfer import title_of
from tasks.registry.client import registry
from tasks.registry.initial_weights import REGISTERED
from tasks.registry.models import alias_version
from tasks.release.gate_metrics import is_judged, questions_behind
from tasks.runtime.errors import ConfigError
from tasks.runtime.frozen import Frozen
from tasks.runtime.progress import is_in_run, log
from tasks.runtime.store import Receipt, Store

if TYPE_CHECKING:
    from tasks.registry.client import MlflowClient

WATCHED_SPLIT = "test"
FELL_BEHIND = "trajfoundry.model.fell-behind"
HOLDS = "none"


class Watched(Frozen):
    """A registered model on the newest data: the questions at which it is behind the bar."""

    dataset: str
    model: str
    version: str
    behind: tuple[str, ...]
    is_judged: bool
    scores: Receipt

    @property
    def line(self) -> str:
        """What was found, in one sentence."""
        if not self.is_judged:
            return f"{self.dataset} has {TOO_FEW} {self.model} on: nothing is said of it."
        if not self.behind:
            return f"{self.model} is behind the best baseline of {self.dataset} nowhere."
        return (
            f"{self.model} has fallen behind the best baseline of {self.dataset} at "
            f"{'; '.join(self.behind)}."
        )


def watched(dataset: str, address: str, scores: Receipt, store: Store) -> Watched:
    """Mark a registered model by its errors on new data, and raise an event if it is behind."""
    title = title_of(address, "")
    asked = store.verify(scores), title, WATCHED_SPLIT
    behind, has_enough = questions_behind(*asked), is_judged(*asked)
    with registry(store) as client:
        name, number = version_at(client, address)
        tags = {
            "drift": "; ".join(behind) or (HOLDS if has_enough else TOO_FEW),
            "drift_dataset": dataset,
            "drift_checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        for tag, text in tags.items():
            client.set_model_version_tag(name, number, tag, text)
    found = Watched(
        dataset=dataset,
        model=address,
        version=number,
        behind=behind,
        is_judged=has_enough,
        scores=scores,
    )
    log(found.line)
    if behind and is_in_run():
        raise_event(name, found)
    return found


def require_registered(address: str) -> None:
    """Refuse a model that has no version to be marked."""
    if not address.startswith(REGISTERED):
        raise ConfigError(
            f"model: {address} is not registered, so nothing of it can be marked; give "
            "models:/NAME@champion, or judge it with assess"
        )


def version_at(client: MlflowClient, address: str) -> tuple[str, str]:
    """The name and the number of the version at an address that has just been read."""
    name, _, alias = address.removeprefix(REGISTERED).partition("@")
    if alias:
        return name, alias_version(client, name, alias) or ""
    name, _, number = name.rpartition("/")
    return name, number


def raise_event(name: str, found: Watched) -> None:
    from prefect.events import emit_event

    emit_event(
        event=FELL_BEHIND,
        resource={
            "prefect.resource.id": f"trajfoundry.model.{name}",
            "prefect.resource.name": found.model,
        },
        payload={
            "dataset": found.dataset,
            "version": found.version,
            "behind": list(found.behind),
        },
    )
