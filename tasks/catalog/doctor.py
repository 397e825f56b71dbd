"""Doctor of a store: verifies all it holds, tells what hangs on what is bad, mends what it can.

Nothing is deleted: what is bad is set aside, and the next run makes it again.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import Field

from tasks.catalog.warehouse import rebuild
from tasks.registry.orphans import RegistryState, registry_state
from tasks.runtime.errors import ConfigError, Unavailable, UnreadableVersion
from tasks.runtime.file_hashes import fault_of, is_whole
from tasks.runtime.frozen import Frozen
from tasks.runtime.manifest import LIBRARIES, Manifest, library_versions, read_manifest
from tasks.runtime.progress import progress
from tasks.runtime.run_records import read_record
from tasks.runtime.store import Store
from tasks.runtime.words import counted

RECIPE = re.compile(r"[0-9a-f]{32}")
SHOWN = 8


class BadFolder(Frozen):
    """A folder that is not as it was written, and the places of what was made of it."""

    place: str
    fault: str
    dependants: tuple[str, ...] = ()


class Findings(Frozen):
    """What was found in a store."""

    store: str
    num_folders: int
    num_files: int
    num_bytes: int
    bad: tuple[BadFolder, ...]
    newer: tuple[str, ...] = Field(description="Folders that only a newer version can read.")
    records: tuple[str, ...] = Field(description="Run records that cannot be read.")
    drafts: tuple[str, ...] = Field(description="Whole folders among the drafts.")
    aside: tuple[str, ...] = Field(description="What was set aside earlier.")
    registry: RegistryState
    registry_error: str = ""
    libraries: dict[str, dict[str, int]] = Field(description="Folders by library and version.")
    installed: dict[str, str]

    @property
    def num_faults(self) -> int:
        """How many things are wrong; what was set aside earlier is not."""
        found = self.registry
        orphans = (len(found.running) + len(found.models)) if found.is_own else 0
        return len(self.bad) + len(self.newer) + len(self.records) + orphans


def examine(store: Store) -> Findings:
    """Read every file of every finished folder, and look through records, drafts and registry."""
    if not store.root.is_dir():
        raise ConfigError(f"there is no store at {store.root}; name it with --store DIR")
    manifests, faults, newer = verified(store)
    registry, registry_error = RegistryState(), ""
    try:
        registry = registry_state(store)
    except Unavailable as error:
        registry_error = str(error)
    files = [file for manifest in manifests.values() for file in manifest.files]
    records = [path for path in store.runs.glob("*.json") if read_record(path) is None]
    bad = [
        BadFolder(place=place, fault=fault, dependants=hanging_on(place, manifests, registry))
        for place, fault in sorted(faults.items())
    ]
    return Findings(
        store=str(store.root),
        num_folders=len(manifests.keys() | faults.keys()),
        num_files=len(files),
        num_bytes=sum(file.num_bytes for file in files),
        bad=tuple(bad),
        newer=tuple(newer),
        records=tuple(sorted(path.name for path in records)),
        drafts=tuple(sorted(path.name for path in store.drafts.glob("*") if is_whole(path))),
        aside=tuple(sorted(path.name for path in store.aside.glob("*"))),
        registry=registry,
        registry_error=registry_error,
        libraries=makers(manifests.values()),
        installed=library_versions(LIBRARIES),
    )


def verified(store: Store) -> tuple[dict[str, Manifest], dict[str, str], list[str]]:
    """The manifests by place, what is wrong by place, and who wrote what cannot be read."""
    manifests: dict[str, Manifest] = {}
    faults: dict[str, str] = {}
    newer: list[str] = []
    folders = sorted(path for path in store.root.glob("*/*/*/") if RECIPE.fullmatch(path.name))
    with progress("doctor", f"Verifying {len(folders):,} folders") as tell:
        for number, folder in enumerate(folders, 1):
            place = folder.relative_to(store.root).as_posix()
            try:
                if fault := fault_of(folder):
                    faults[place] = fault
            except UnreadableVersion as error:
                newer.append(str(error))
            if (manifest := read_manifest(folder)) is not None:
                manifests[place] = manifest
            tell(number / len(folders), place)
    for place, manifest in manifests.items():
        if lost := [one for one in manifest.requires if not (store.root / one).is_dir()]:
            faults.setdefault(place, f"it points to {lost[0]}, which is not there")
    return manifests, faults, newer


def hanging_on(
    place: str, manifests: Mapping[str, Manifest], registry: RegistryState
) -> tuple[str, ...]:
    """All that was made of a folder, and of what was made of it: places, then model versions."""
    reached, waiting = [place], [place]
    while waiting:
        recipe = recipe_at(waiting.pop())
        for other, manifest in manifests.items():
            if other not in reached and recipe in made_of(manifest):
                reached.append(other)
                waiting.append(other)
    recipes = {recipe_at(one) for one in reached}
    versions = [found for found in registry.versions if recipes.intersection(found.recipes)]
    return (*sorted(reached[1:]), *(f"version {one.version} of {one.name}" for one in versions))


def made_of(manifest: Manifest) -> set[str]:
    """The recipes of the folders that one was made of or points to."""
    found = {recipe_at(place) for place in manifest.requires}
    for given in manifest.lineage.values():
        found.update([given] if isinstance(given, str) else given)
    return found


def recipe_at(place: str) -> str:
    return place.rpartition("/")[2]


def makers(manifests: Iterable[Manifest]) -> dict[str, dict[str, int]]:
    """How many folders each version of each library has made."""
    found: dict[str, Counter[str]] = {name: Counter() for name in LIBRARIES}
    for manifest in manifests:
        for name, versions in found.items():
            versions[manifest.versions.get(name, "unknown")] += 1
    return {name: dict(sorted(versions.items())) for name, versions in found.items()}


# Mend -------------------------------------------------------------------------------------------


def mend(store: Store, findings: Findings) -> list[str]:
    """Set aside what is bad, end what nobody will end, and bring the warehouse up to date."""
    store.prepare()
    places = [*(bad.place for bad in findings.bad), *(f"runs/{name}" for name in findings.records)]
    told = [f"{place} is set aside as {store.set_aside(store.root / place)}." for place in places]
    store.sweep()
    if findings.drafts:
        told.append(f"{counted(len(findings.drafts), 'whole draft')} taken out of the drafts.")
    if findings.registry.running or findings.registry.models:
        registry_state(store, mends=True)
        left = registry_state(store)
        if num := len(findings.registry.running) - len(left.running):
            told.append(f"{counted(num, 'run')} of MLflow ended as killed.")
        if num := len(findings.registry.models) - len(left.models):
            told.append(f"{counted(num, 'model')} without a version set aside.")
    told.append(f"The warehouse {rebuild(store)} is up to date.")
    datasets = sorted({bad.place.split("/")[1] for bad in findings.bad})
    here = shlex.quote(str(store.root))
    told += [
        "What was set aside is made again by the same command as before: "
        f"trajfoundry run --dataset {name} --store {here}"
        for name in datasets
    ]
    return told


# Tell -------------------------------------------------------------------------------------------


def lines_of(findings: Findings) -> list[str]:
    """What was found, in sentences."""
    return [
        f"{counted(findings.num_folders, 'folder')} with {counted(findings.num_files, 'file')} "
        f"({findings.num_bytes / 1e6:,.1f} MB) were verified in {findings.store}.",
        *(line for bad in findings.bad for line in bad_lines(bad)),
        *(f"{text}." for text in findings.newer),
        *(f"The run record {name} cannot be read or was changed." for name in findings.records),
        *registry_lines(findings),
        *aside_lines(findings),
        *library_lines(findings),
        *(() if findings.num_faults else ("Nothing is wrong.",)),
    ]


def bad_lines(bad: BadFolder) -> Iterator[str]:
    yield f"{bad.place} is bad: {bad.fault}."
    if bad.dependants:
        more = len(bad.dependants) - SHOWN
        yield f"  Made of it ({len(bad.dependants):,}):"
        yield from (f"    {name}" for name in bad.dependants[:SHOWN])
        if more > 0:
            yield f"    and {more:,} more"


def registry_lines(findings: Findings) -> Iterator[str]:
    if findings.registry_error:
        yield f"The registry of models was not looked at: {findings.registry_error}."
    state = findings.registry
    untold = "" if state.is_own else "; perhaps somebody is at work on it"
    yield from (f"The MLflow run {run_id} was left running{untold}." for run_id in state.running)
    yield from (f"The model {name} in MLflow has no version{untold}." for name in state.models)


def aside_lines(findings: Findings) -> Iterator[str]:
    if findings.drafts:
        yield f"{counted(len(findings.drafts), 'draft')} of ended processes hold whole folders."
    if findings.aside:
        yield (
            f"{counted(len(findings.aside), 'folder')} set aside earlier can be looked at, or "
            f"deleted, in {Path(findings.store) / '.aside'}."
        )


def library_lines(findings: Findings) -> Iterator[str]:
    """Which folders other versions of the libraries have made, or that none have."""
    others = [
        f"{counted(num, 'folder')} made with {name} {version}; now {findings.installed[name]} is "
        "installed, and might make others."
        for name, versions in findings.libraries.items()
        for version, num in versions.items()
        if version != findings.installed[name]
    ]
    installed = ", ".join(f"{name} {version}" for name, version in findings.installed.items())
    yield from others or [f"All were made with the libraries that are installed: {installed}."]
