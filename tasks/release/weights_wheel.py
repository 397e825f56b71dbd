"""Weights wheel: a registered model as a package of safetensors and JSON that answers offline.

    trajfoundry weights --model models:/trajfoundry-foundry-open@candidate --out dist

The package is `tasks/release/weights_module.py` and a folder of weights; setuptools builds it. Only
what was trained on data that may be passed on is built.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from model.families import POINTS, reads, tasks_of
from tasks.prepare.conventions import MEMORY_FILE
from tasks.registry.client import registry
from tasks.registry.initial_weights import CONFIG, REGISTERED, SERVING, WEIGHTS, initial_model
from tasks.registry.installed_weights import DISTRIBUTION, MODULE
from tasks.registry.model_code import UnknownCode, carried_modules
from tasks.release.bundle import example_points, served_source
from tasks.release.drift_watch import version_at
from tasks.release.origin import ORIGIN_FILE, Origin, Source
from tasks.runtime.errors import ConfigError, DataError, StorageError
from tasks.runtime.frozen import Frozen
from tasks.runtime.store import Store, canonical_json, sha256_file, write_synced

if TYPE_CHECKING:
    from model.interface.memory.memory import Memory

FLAG = "--model"
CARD = "card.md"
PACKAGE = Path(__file__).with_name("weights_module.py")
MAX_BYTES = 10_000_000  # of safetensors in a wheel
VERSION = re.compile(r"\d+(\.\d+){1,3}((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?")
BUILT_AT_S = "1577836800"  # the same weights make the same wheel, whenever they are built
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "Weights of Trajectory Foundry: {title}"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["trajfoundry~={needs}"]

[tool.setuptools]
packages = ["{module}"]

[tool.setuptools.package-data]
{module} = ["weights/*"]
"""


class WeightsWheel(Frozen):
    """A wheel that was built, and what is in it."""

    path: str
    model: str
    num_bytes: int
    num_tensor_bytes: int
    weights_sha256: str
    has_memory: bool

    @property
    def line(self) -> str:
        memory = "with" if self.has_memory else "without"
        return (
            f"{self.path}: {self.model}, {self.num_tensor_bytes:,} bytes of safetensors {memory} a "
            f"memory, weights {self.weights_sha256[:16]}"
        )


def build_weights(address: str, version: str, out: Path, store: Store) -> WeightsWheel:
    """The wheel of a registered model, which is refused if its weights may not be passed on."""
    check_request(address, version)
    card, title = version_texts(address, store)
    with store.draft() as scratch, initial_model(address, store, FLAG) as bundle:
        origin = origin_of(bundle, address)
        check_origin(origin, address)
        check_code(bundle, address)
        folder = scratch / "sources" / MODULE / "weights"
        fill(folder, bundle, origin, card)
        project = write_project(folder, version or own_version(), title)
        wheel = built(project, out)
        return WeightsWheel(
            path=str(wheel),
            model=address,
            num_bytes=wheel.stat().st_size,
            num_tensor_bytes=tensor_bytes(folder),
            weights_sha256=sha256_file(folder / WEIGHTS),
            has_memory=(folder / MEMORY_FILE).exists(),
        )


def check_request(address: str, version: str) -> None:
    """Refuse what cannot become a wheel, before anything is read."""
    if not address.startswith(REGISTERED):
        raise ConfigError(f"{FLAG}: {address} is not registered; give models:/NAME@candidate")
    if version and not VERSION.fullmatch(version):
        raise ConfigError(f"--version: {version} is no version; give one such as 0.1.0")
    if importlib.util.find_spec("setuptools") is None:
        raise ConfigError("the wheel is built by setuptools: pip install 'setuptools>=77' first")


def own_version() -> str:
    return version_of("trajfoundry")


def version_texts(address: str, store: Store) -> tuple[str, str]:
    """The card of a registered version, and its title."""
    from tasks.registry.models import known_model

    with registry(store) as client, known_model(address, store, FLAG):
        card = str(client.get_model_version(*version_at(client, address)).description or "")
    return card, card.partition("\n")[0].removeprefix("# ")


# What is refused --------------------------------------------------------------------------------


def origin_of(bundle: Path, address: str) -> Origin:
    """What the weights were trained on, as they carry it along."""
    if not (bundle / SERVING).is_file():
        raise ConfigError(f"{FLAG}: {address} is no registered model of this project")
    try:
        return Origin.model_validate_json((bundle / ORIGIN_FILE).read_bytes())
    except (OSError, ValidationError):
        raise ConfigError(
            f"{FLAG}: {address} does not tell what it was trained on, as versions of before did "
            "not; run what made it again, in another store"
        ) from None


def check_origin(origin: Origin, address: str) -> None:
    """Refuse weights that somebody's terms, or what nobody can tell of them, keep here."""
    if origin.init:
        raise ConfigError(
            f"{FLAG}: {address} went on from other weights, {origin.init}, and nobody can tell "
            "here what these were trained on; train it from fresh ones"
        )
    told = [f"{one.title} ({one.licence})" for one in origin.sources if not one.is_redistributable]
    if not origin.sources:
        told = ["nothing that is known"]
    if told:
        raise ConfigError(
            f"{FLAG}: {address} was trained on {told[0]}, which may not be passed on; train on "
            "data that may be, such as --corpus open"
        )


def check_code(bundle: Path, address: str) -> None:
    """Refuse weights that other code is to ask than what is installed here."""
    family = json.loads((bundle / CONFIG).read_bytes())["family"]
    if reads(family) != POINTS or "forecast" not in tasks_of(family):
        raise ConfigError(f"{FLAG}: {family} does not forecast points; choose a family that does")
    try:
        is_same = carried_modules(bundle / "model") == served_source(family)
    except (UnknownCode, OSError, SyntaxError):
        is_same = False
    if not is_same:
        raise ConfigError(
            f"{FLAG}: {address} is answered by other code than this trajfoundry's; run what made "
            "it again, so that it is registered with this one's"
        )


# What is built ----------------------------------------------------------------------------------


def fill(folder: Path, bundle: Path, origin: Origin, card: str) -> None:
    """Put into a folder what a bundle holds beside its code, an example, the card, and hashes."""
    from model.inference.point_frames import opened
    from model.inference.shipped import EXAMPLE, MANIFEST, example_of, manifest_of

    folder.mkdir(parents=True)
    for path in sorted(bundle.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    keep_memory_of_things(folder, origin.sources)
    keep_to_size(folder)
    facts = json.loads((folder / SERVING).read_bytes())
    asked = opened(folder, facts["params"], facts["weights_sha256"])
    example = example_of(asked, example_points().to_pylist())
    write_synced(folder / EXAMPLE, canonical_json(example) + "\n")
    write_synced(folder / CARD, card + note(folder, origin.sources))
    write_synced(folder / MANIFEST, canonical_json(manifest_of(folder, own_version())) + "\n")


def note(folder: Path, sources: Sequence[Source]) -> str:
    """What the card says of the wheel itself."""
    told = "It carries no memory of past trips."
    if (folder / MEMORY_FILE).exists():
        titles = "; ".join(source.title for source in sources if is_remembered(source))
        told = f"Its memory holds trips of train of: {titles}."
    return f"\n## In this wheel\n\nFor trajfoundry {own_version()} and its bug fixes. {told}\n"


def is_remembered(source: Source) -> bool:
    """Whether a wheel may hold trips: none of people, and none that are made up in a real place."""
    return not source.is_personal and not source.is_generated


def keep_memory_of_things(folder: Path, sources: Sequence[Source]) -> None:
    """Leave out of a memory what is made up; refuse one of people."""
    from model.interface.memory.joint import JointMemory, joint, read_memory, write_memory

    if not (folder / MEMORY_FILE).exists():
        return
    memory = read_memory(folder)
    if memory is None or memory.is_personal:
        raise DataError(f"{FLAG}: its memory holds the trips of people, so it is not built")
    members: Sequence[Memory | None] = (
        memory.members if isinstance(memory, JointMemory) else (memory,)
    )
    remembered = [source for source in sources if not source.is_personal]
    if len(remembered) != len(members):
        raise DataError(f"{FLAG}: its memory is of other data than it was trained on")
    pairs = zip(members, remembered, strict=True)
    real = joint([one for one, source in pairs if is_remembered(source)])
    (folder / MEMORY_FILE).unlink()
    if real is not None:
        write_memory(folder, real)


def keep_to_size(folder: Path) -> None:
    """Leave the memory out of what would be too large, and refuse what is without it, too."""
    if tensor_bytes(folder) > MAX_BYTES:
        (folder / MEMORY_FILE).unlink(missing_ok=True)
    if (size := tensor_bytes(folder)) > MAX_BYTES:
        weights = (folder / WEIGHTS).stat().st_size
        smaller = "preset" if weights > MAX_BYTES else "table of places"
        raise ConfigError(
            f"{FLAG}: {size:,} bytes of safetensors, and a wheel holds {MAX_BYTES:,} at most; "
            f"train with a smaller {smaller}"
        )


def tensor_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def write_project(folder: Path, version: str, title: str) -> Path:
    """The sources of the wheel around its weights: what builds it, its module, its page."""
    project = folder.parents[1]
    shutil.copyfile(PACKAGE, folder.parent / "__init__.py")
    shutil.copyfile(folder / CARD, project / "README.md")
    told = PROJECT.format(
        name=DISTRIBUTION,
        module=MODULE,
        version=version,
        needs=own_version(),
        title=re.sub(r'["\\\x00-\x1f]', "", title),
    )
    write_synced(project / "pyproject.toml", told)
    return project


def built(project: Path, out: Path) -> Path:
    """The wheel of sources, in the folder that is asked."""
    target = project / "dist"
    target.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(target)],
        cwd=project,
        env=os.environ | {"SOURCE_DATE_EPOCH": BUILT_AT_S},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StorageError(f"setuptools could not build the wheel: {done.stderr[-500:]}")
    (wheel,) = target.glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(wheel, out / wheel.name))
