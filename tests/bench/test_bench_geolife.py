"""Ingest, stays and cleaning of GeoLife beside what others do; run with `make bench`.

Each measurement is a new process, and the contestants take turns, so that a busy moment hits all
of them. Only a wrong answer fails here: a slow machine is not a fault. The table with the ratios
is printed and kept in `benchmarks/results`.

`TRAJFOUNDRY_GEOLIFE` names another release of GeoLife (a zip), `TRAJFOUNDRY_BENCH_ROUNDS` the
number of rounds; the peers that take a minute run in the first `TRAJFOUNDRY_BENCH_SLOW_ROUNDS`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_rounds import PEERS, Bench, Contestant, Goal, geolife_sample, judged, report

from tasks.ingest.archive import opened_sources

OURS, THEIRS = "bench_ours.py", "bench_peers.py"
NUM_COPIES = 4
SAMPLE_POINTS, SAMPLE_STAYS, SAMPLE_STAY_S = 2_944_570, 6_598, 4_954_672

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(4 * 3_600)]

GOALS = (
    Goal("parse: trackintel / ours", ("parse", "trackintel"), ("parse", "folder"), 12),
    Goal("parse: raw / ours", ("parse", "pyarrow-raw"), ("parse", "folder"), 0.5),
    Goal("parse of zip: trackintel / ours", ("parse", "trackintel"), ("parse", "zip"), 12),
    Goal("parse: pandas loop / ours", ("parse", "pandas-loop"), ("parse", "folder"), 4.5),
    Goal("parse: polars / ours", ("parse", "polars-scan"), ("parse", "folder"), 1),
    Goal("ingest: trackintel / ours", ("parse", "trackintel"), ("ingest", "folder"), 8),
    Goal("ingest of zip: trackintel / ours", ("parse", "trackintel"), ("ingest", "zip"), 8),
    Goal("stays: trackintel / ours", ("stays", "trackintel"), ("stays", "ours"), 60),
    Goal("cleaning: pandas / our stage", ("clean", "pandas-clean"), ("clean", "ours"), 1.4),
    Goal("four rules: pandas / ours", ("clean", "pandas-clean"), ("rules", "arrays"), 1.4),
    Goal("four rules: pandas / our SQL", ("clean", "pandas-clean"), ("rules", "SQL"), 1.4),
    Goal("memory: 4x / 1x", ("ingest", "folder 4x"), ("ingest", "folder"), 1.15, False, "peak_mb"),
)
MAX_PEAK_MB = 400


@pytest.fixture(scope="module")
def geolife_zip() -> Path:
    return geolife_sample()


@pytest.fixture(scope="module")
def is_sample(geolife_zip: Path) -> bool:
    return geolife_zip.name == "geolife-sample.zip"


@pytest.fixture(scope="module")
def folder(geolife_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked `Data` folder."""
    root = tmp_path_factory.mktemp("geolife")
    with opened_sources([geolife_zip]) as entries:
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
    text = report(made, "geolife", goals(made), differences(made) if has_peers else "")
    with capture.global_and_fixture_disabled():
        print(text)


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


def goals(bench: Bench) -> list[dict[str, Any]]:
    """Each goal, and how it was met."""
    peak_mb = bench.median("ingest", "folder 4x", "peak_mb")
    most = judged("memory of the ingest of 4x, MiB", MAX_PEAK_MB, False, peak_mb, peak_mb)
    return [*(goal.judged(bench) for goal in GOALS), most]


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
