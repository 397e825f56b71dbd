"""Ingest, stays and cleaning of GeoLife beside what others do; run with `make bench`.

Each measurement is a new process, and the contestants take turns, so that a busy moment hits all
of them. Only a wrong answer fails here: a slow machine is not a fault. The table with the ratios
is printed and kept in `benchmarks/results`.

`TRAJFOUNDRY_GEOLIFE` names another release of GeoLife (a zip), `TRAJFOUNDRY_BENCH_ROUNDS` the
number of rounds; the peers that take a minute run in the first `TRAJFOUNDRY_BENCH_SLOW_ROUNDS`.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tasks.archive import opened

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
PEERS = Path(os.environ.get("TRAJFOUNDRY_PEERS", PROJECT / ".venv-peers")) / "bin" / "python"
OURS, THEIRS = "bench_ours.py", "bench_peers.py"
NUM_ROUNDS = int(os.environ.get("TRAJFOUNDRY_BENCH_ROUNDS", "3"))
NUM_SLOW_ROUNDS = int(os.environ.get("TRAJFOUNDRY_BENCH_SLOW_ROUNDS", "1"))
NUM_COPIES = 4
SAMPLE_POINTS, SAMPLE_STAYS, SAMPLE_STAY_S = 2_944_570, 6_598, 4_954_672

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(4 * 3_600)]


@dataclass(frozen=True)
class Contestant:
    """A program and its arguments; `is_slow` limits its rounds, `makes` is a folder it fills."""

    name: str
    script: str
    arguments: tuple[str | Path, ...]
    is_slow: bool = False
    makes: Path | None = None

    def run(self) -> dict[str, Any]:
        """The measures of one new process."""
        if self.makes is not None:
            shutil.rmtree(self.makes, ignore_errors=True)
        python = sys.executable if self.script == OURS else str(PEERS)
        done = subprocess.run(
            [python, PROJECT / "tests" / self.script, *self.arguments],
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{self.name}: {done.stderr[-2_000:]}"
        return json.loads(done.stdout.splitlines()[-1])


@dataclass
class Bench:
    """All measures so far: (measure, contestant) to the readings of its rounds."""

    readings: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    def take_turns(self, *contestants: Contestant) -> None:
        for i in range(NUM_ROUNDS):
            for contestant in contestants:
                if i < NUM_SLOW_ROUNDS or not contestant.is_slow:
                    for measure, reading in contestant.run().items():
                        self.readings.setdefault((measure, contestant.name), []).append(reading)

    def answers(self, measure: str, name: str) -> dict[str, float]:
        """What a contestant found, which must be the same in each round."""
        first, *others = [reading["answers"] for reading in self.readings[measure, name]]
        assert all(other == pytest.approx(first, rel=1e-12) for other in others)
        return first

    def median(self, measure: str, name: str, quantity: str) -> float:
        readings = self.readings.get((measure, name), [])
        return statistics.median(r[quantity] for r in readings) if readings else float("nan")


GOALS = (
    # title, (measure, contestant) above and below, what is divided, goal, whether it is a floor
    ("parse: trackintel / ours", ("parse", "trackintel"), ("parse", "folder"), "s", 12.0, True),
    ("parse: raw / ours", ("parse", "pyarrow-raw"), ("parse", "folder"), "s", 0.5, True),
    ("parse of zip: trackintel / ours", ("parse", "trackintel"), ("parse", "zip"), "s", 12, True),
    ("parse: pandas loop / ours", ("parse", "pandas-loop"), ("parse", "folder"), "s", 4.5, True),
    ("parse: polars / ours", ("parse", "polars-scan"), ("parse", "folder"), "s", 1.0, True),
    ("ingest: trackintel / ours", ("parse", "trackintel"), ("ingest", "folder"), "s", 8.0, True),
    ("ingest of zip: trackintel / ours", ("parse", "trackintel"), ("ingest", "zip"), "s", 8, True),
    ("stays: trackintel / ours", ("stays", "trackintel"), ("stays", "ours"), "s", 60.0, True),
    ("cleaning: pandas / our stage", ("clean", "pandas-clean"), ("clean", "ours"), "s", 1.4, True),
    ("four rules: pandas / ours", ("clean", "pandas-clean"), ("rules", "arrays"), "s", 1.4, True),
    ("four rules: pandas / our SQL", ("clean", "pandas-clean"), ("rules", "SQL"), "s", 1.4, True),
    ("memory: 4x / 1x", ("ingest", "folder 4x"), ("ingest", "folder"), "peak_mb", 1.15, False),
)  # fmt: skip
MAX_PEAK_MB = 400


@pytest.fixture(scope="module")
def geolife_zip() -> Path:
    given = os.environ.get("TRAJFOUNDRY_GEOLIFE")
    path = Path(given) if given else PROJECT.parent / "shared" / "data" / "geolife-sample.zip"
    if not path.is_file():
        pytest.skip("GeoLife is not here; TRAJFOUNDRY_GEOLIFE may name its zip")
    return path


@pytest.fixture(scope="module")
def is_sample(geolife_zip: Path) -> bool:
    return geolife_zip.name == "geolife-sample.zip"


@pytest.fixture(scope="module")
def folder(geolife_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked `Data` folder."""
    root = tmp_path_factory.mktemp("geolife")
    with opened([geolife_zip]) as entries:
        for entry in entries:
            parts = Path(entry.path).parts
            path = root.joinpath(*parts[parts.index("Data") :]) if "Data" in parts else None
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"".join(entry.chunks()))
    return root / "Data"


@pytest.fixture(scope="module")
def copies(folder: Path) -> Path:
    """The same users several times under new names; the files are links that take no room."""
    root = folder.parent / "copies" / "Data"
    for copy in range(NUM_COPIES):
        for user in sorted(folder.iterdir()):
            (root / f"{copy}{user.name}").mkdir(parents=True)
            shutil.copytree(
                user, root / f"{copy}{user.name}", copy_function=os.link, dirs_exist_ok=True
            )
    return root


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    """The place of the store that the ingest of the folder leaves; it is made anew each round."""
    return folder.parent / "store"


@pytest.fixture(scope="module")
def has_peers() -> bool:
    return PEERS.is_file()


@pytest.fixture(scope="module")
def bench(
    folder: Path, copies: Path, geolife_zip: Path, store: Path, has_peers: bool, capture: Any
) -> Iterator[Bench]:
    """The finished measurements, shown and kept when the answers have been judged."""
    made = Bench()
    others = store.with_name("store of others")
    made.take_turns(
        *[
            Contestant("trackintel", THEIRS, ("trackintel", folder), is_slow=True),
            Contestant("pandas-loop", THEIRS, ("pandas-loop", folder)),
            Contestant("polars-scan", THEIRS, ("polars-scan", folder)),
            Contestant("pyarrow-raw", THEIRS, ("pyarrow-raw", folder)),
        ][: 4 * has_peers],
        Contestant("folder", OURS, ("parse", folder)),
        Contestant("zip", OURS, ("parse", geolife_zip)),
        Contestant("zip", OURS, ("ingest", geolife_zip, others), makes=others),
        Contestant("folder", OURS, ("ingest", folder, store), makes=store),
        Contestant("ours", OURS, ("stays", store)),
        Contestant("ours", OURS, ("clean", store)),
        Contestant("arrays", OURS, ("array-rules", store)),
        Contestant("SQL", OURS, ("stage-rules", store)),
        *[
            Contestant("pandas-clean", THEIRS, ("pandas-clean", store)),
            Contestant("loop", THEIRS, ("exact-loop", store), is_slow=True),
        ][: 2 * has_peers],
        Contestant("folder 4x", OURS, ("ingest", copies, others), is_slow=True, makes=others),
    )
    yield made
    text = as_markdown(made)
    RESULTS.mkdir(parents=True, exist_ok=True)
    stamp = f"geolife-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    (RESULTS / f"{stamp}.md").write_text(text)
    (RESULTS / f"{stamp}.json").write_text(as_json(made))
    with capture.global_and_fixture_disabled():
        print(f"\n\n{text}\nKept in {RESULTS.relative_to(PROJECT)}/{stamp}.md and .json")


@pytest.fixture(scope="module")
def capture(request: pytest.FixtureRequest) -> Any:
    """Pytest's capture manager: the table must be seen whatever is captured."""
    return request.config.pluginmanager.getplugin("capturemanager")


def test_all_readers_find_the_same_points(bench: Bench, is_sample: bool) -> None:
    found = {name: bench.answers(m, name) for m, name in bench.readings if m == "parse"}
    assert found["folder"].pop("lost") == found["zip"].pop("lost") == 0
    if is_sample:
        assert found["folder"]["points"] == SAMPLE_POINTS
    for name, answers in found.items():
        assert answers == pytest.approx(found["folder"], rel=1e-12), name


def test_the_ingest_loses_no_record(bench: Bench, is_sample: bool) -> None:
    folder, copies = (bench.answers("ingest", name) for name in ("folder", "folder 4x"))
    assert bench.answers("ingest", "zip") == folder
    assert folder["lost"] == copies["lost"] == 0
    assert copies["points"] == NUM_COPIES * folder["points"]
    if is_sample:
        assert folder["points"] == SAMPLE_POINTS - 1  # one is out of range


def test_the_stays_are_those_of_trackintel(bench: Bench, is_sample: bool, has_peers: bool) -> None:
    ours = bench.answers("stays", "ours")
    if has_peers:
        assert ours == bench.answers("stays", "trackintel")
    if is_sample:
        assert ours == {"stays": SAMPLE_STAYS, "stay_s": SAMPLE_STAY_S}


def test_cleaning_accounts_for_each_point(bench: Bench, has_peers: bool) -> None:
    """The exact rule drops a little more than one pass on raw neighbours, and never much more."""
    ours = bench.answers("clean", "ours")
    assert ours["lost"] == 0
    assert ours["points"] == bench.answers("ingest", "folder")["points"]
    if has_peers:
        assert ours["kept"] == pytest.approx(
            bench.answers("clean", "pandas-clean")["kept"], rel=0.02
        )


def test_the_four_rules_keep_the_points_that_a_loop_keeps(bench: Bench, has_peers: bool) -> None:
    """And each point of difference from pandas is accounted for."""
    ours = bench.answers("rules", "arrays")
    assert bench.answers("rules", "SQL") == ours
    if has_peers:
        loop, pandas = bench.answers("rules", "loop"), bench.answers("clean", "pandas-clean")
        assert {name: loop[name] for name in ours} == ours
        only_ours = loop["first_of_source_trips"] + loop["after_spikes"]
        assert ours["kept"] == pandas["kept"] - loop["slow_beside_spikes"] + only_ours


def test_the_peers_took_part(bench: Bench, has_peers: bool) -> None:
    if not has_peers:
        pytest.skip(f"no peers in {PEERS.parent.parent.name}; `make bench` installs them")
    assert ("parse", "trackintel") in bench.readings


# The report ------------------------------------------------------------------------------------


def as_json(bench: Bench) -> str:
    readings = [
        {"measure": measure, "contestant": name, "readings": readings}
        for (measure, name), readings in bench.readings.items()
    ]
    return json.dumps({"machine": machine(), "readings": readings, "goals": goals(bench)}, indent=1)


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "load_1_min": round(os.getloadavg()[0], 1),
        **{name: version(name) for name in ("duckdb", "pyarrow", "numpy", "numba")},
    }


def goals(bench: Bench) -> list[dict[str, Any]]:
    """Each goal with the ratio of the medians, by wall and by CPU seconds.

    Seconds by the wall say little on a busy machine: where the two disagree, the verdict says so.
    """
    rows = []
    for title, above, below, quantity, goal, is_floor in GOALS:
        kinds = ("wall_s", "cpu_s") if quantity == "s" else (quantity, quantity)
        ratios = [bench.median(*above, kind) / bench.median(*below, kind) for kind in kinds]
        rows.append(judged(title, goal, is_floor, *ratios))
    peak_mb = bench.median("ingest", "folder 4x", "peak_mb")
    return [*rows, judged("memory of the ingest of 4x, MiB", MAX_PEAK_MB, False, peak_mb, peak_mb)]


def judged(title: str, goal: float, is_floor: bool, wall: float, cpu: float) -> dict[str, Any]:
    is_met = tuple(bool(found >= goal if is_floor else found <= goal) for found in (wall, cpu))
    words = {
        (True, True): "met",
        (True, False): "by wall only",
        (False, True): "by CPU only",
        (False, False): "missed",
    }
    verdict = "not measured" if math.isnan(wall) else words[is_met]
    sign = "≥" if is_floor else "≤"
    return {"title": title, "goal": f"{sign} {goal:g}", "wall": wall, "cpu": cpu, "is": verdict}


def as_markdown(bench: Bench) -> str:
    told = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [
        f"GeoLife, medians of n new processes in turn; {told}",
        "",
        "| measure | contestant | wall s | CPU s | peak MiB | points or stays | n |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for (measure, name), readings in sorted(bench.readings.items()):
        wall_s, cpu_s, peak_mb = (
            bench.median(measure, name, kind) for kind in ("wall_s", "cpu_s", "peak_mb")
        )
        number = next(iter(readings[0]["answers"].values()))
        lines.append(
            f"| {measure} | {name} | {wall_s:.2f} | {cpu_s:.2f} | {peak_mb:,.0f} "
            f"| {number:,.0f} | {len(readings)} |"
        )
    lines += ["", "| ratio | goal | wall | CPU | |", "|---|---:|---:|---:|---|"]
    lines += [
        f"| {row['title']} | {row['goal']} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['is']} |"
        for row in goals(bench)
    ]
    if ("rules", "loop") in bench.readings:
        lines += ["", differences(bench)]
    return "\n".join(lines) + "\n"


def differences(bench: Bench) -> str:
    """What parts the rows of our rules from those of pandas, each point counted once."""
    loop, theirs = bench.answers("rules", "loop"), bench.answers("clean", "pandas-clean")
    return (
        "Four rules: points in order, one an instant, none too fast, parted at silences; from the "
        "same Parquet files, the rows in memory. `arrays` is the stage's functions on arrays, "
        "`SQL` its tables up to here, which screens places and instants too. "
        f"Both keep the {loop['kept']:,.0f} points and {loop['segments']:,.0f} segments of the "
        "loop, which judges against the last kept point of a source trip. Pandas judges against "
        f"the raw neighbour of an entity: of its {theirs['kept']:,.0f} points "
        f"{loop['slow_beside_spikes']:,.0f} are slow only beside a spike, and it lacks "
        f"{loop['after_spikes']:,.0f} that come after a spike and "
        f"{loop['first_of_source_trips']:,.0f} that begin a source trip. It finds "
        f"{theirs['segments']:,.0f} segments, for a new source trip starts none. Our whole stage "
        "also screens places, exact copies and short trips, names each rejected point's rule, "
        "marks stays, visits and triplegs, checks, and writes six tables."
    )
