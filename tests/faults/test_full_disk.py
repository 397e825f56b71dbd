"""A full disk: each stage meets one and says so in a line, and once there is room all goes on.

The disk is a small file system in memory, which Linux lets an unprivileged process mount for
itself alone; where it may not, these tests are skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fault_runs import SMALL_FLAGS, content, environment, storm_file, whole
from helpers.places import PROJECT

MOUNTED = 'mount -t tmpfs -o size="$0" tmpfs "$1" && cd "$2" && shift 2 && exec "$@"'
EVERY_STAGE = {
    *("part", "snapshot", "clean", "split", "features", "regions", "quality", "shards"),
    *("train", "probe", "evaluate", "report"),
}

# Fills the disk when a stage opens its draft, so that only so many bytes are left to it.
FILLING = """
import contextlib, json, os, sys
from pathlib import Path
from helpers.fault_runs import content, storm_file, whole
from tasks.catalog import warehouse
from tasks.registry import client
from tasks.runtime.errors import StorageFull
from tasks.runtime.stage import Stage
from tasks.runtime.store import Store

disk, source = Path(sys.argv[1]), Path(sys.argv[2])
ballast, room, said = disk / "ballast", None, {}


def fill():
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(1 << 12))
    os.truncate(ballast, max(0, ballast.stat().st_size - room))


def short_of_room(name, action):
    global room
    if room is not None:
        return action()  # a step within one that is being tried
    for room in (0, 1 << 14):
        try:
            return action()
        except StorageFull as error:
            said.setdefault(name, []).append(str(error))
        finally:
            room = None
            ballast.unlink(missing_ok=True)
    return action()


plain, draft, prepare = Stage.plain, Store.draft, client.prepare


@contextlib.contextmanager
def full_draft(self):
    with draft(self) as folder:
        if room is not None:
            fill()
        yield folder


def full_prepare(*given):
    if room is not None:
        fill()
    return prepare(*given)


Stage.plain = lambda self, job: short_of_room(self.name, lambda: plain(self, job))
Store.draft, client.prepare = full_draft, full_prepare
from tasks.release import released
register = released.register
released.register = lambda *given: short_of_room("register", lambda: register(*given))
registered = whole(disk / "store", source)

rebuild, store = warehouse.rebuild, Store(disk / "store")
room = 0
fill()
try:
    rebuild(store)
except BaseException as error:
    said["warehouse"] = [str(error)]
ballast.unlink()
rebuild(store)
left = [path.name for path in (disk / "store" / ".tmp").iterdir()]
print(json.dumps([content(disk / "store"), said, left, registered.version]))
"""


@pytest.fixture(scope="module")
def mounting(tmp_path_factory) -> tuple[str, ...]:
    command = ("unshare", "-rm", "sh", "-c", MOUNTED)
    place = str(tmp_path_factory.mktemp("tried"))
    try:
        subprocess.run([*command, "1m", place, place, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a process may not mount a file system of its own here")
    return command


def on_small_disk(mounting, size: str, disk: Path, *command: str | Path):
    disk.mkdir()
    return subprocess.run(
        [*mounting, size, str(disk), str(PROJECT), sys.executable, *map(str, command)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


@pytest.mark.slow
def test_each_stage_says_that_the_disk_is_full_and_goes_on_when_it_is_not(mounting, tmp_path):
    source = storm_file(tmp_path)
    whole(tmp_path / "oracle", source)
    disk = tmp_path / "disk"
    done = on_small_disk(mounting, "64m", disk, "-c", FILLING, disk, source)
    assert done.returncode == 0, done.stderr
    published, said, left, version = json.loads(done.stdout.splitlines()[-1])
    assert published == content(tmp_path / "oracle")
    assert set(said) == EVERY_STAGE | {"register", "warehouse"}
    for name, lines in said.items():
        for line in lines:
            assert "\n" not in line
            assert name == "warehouse" or line.startswith("no room to write"), (name, line)
    assert (left, version) == ([], "1")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["5m", "7m"])
def test_a_run_on_a_full_disk_ends_at_once_with_one_line(mounting, tmp_path, size):
    """Where Prefect's own database finds no room either."""
    disk, source = tmp_path / "disk", storm_file(tmp_path)
    command = ("-m", "flows.cli", "run", "--store", disk / "store", "--source", source)
    failed = on_small_disk(mounting, size, disk, *command, *SMALL_FLAGS)
    said = [line for line in failed.stderr.splitlines() if line.startswith("trajfoundry: ")]
    assert failed.returncode == 4, failed.stderr
    assert len(said) == 1
    assert said[0].startswith("trajfoundry: no room to write ")
    assert "Traceback" not in failed.stderr
    assert "Retry" not in failed.stderr
