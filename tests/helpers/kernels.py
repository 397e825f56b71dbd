"""Kernels that run the cells of a notebook: one thread, no display, no network, an empty folder.

The kernel talks over Unix sockets in a folder with a short name, for such paths have few letters.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupytext
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from .places import PROJECT

LIMIT_S = 480  # of one cell: what hangs is ended, and a busy machine is not blamed
REFUSES_NETWORK = '''
import sys


def refuse(event, arguments):
    """Unix sockets have a path for an address, and sockets of this machine its own one."""
    address = arguments[-1] if event in ("socket.connect", "socket.bind") else None
    if event == "socket.getaddrinfo":
        address = arguments[:2]
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise OSError(f"a notebook asks the network for {address[0]}")


sys.addaudithook(refuse)
'''


class Kernel:
    """A running kernel that is asked cell by cell."""

    def __init__(self, client: NotebookClient) -> None:
        self.client = client

    def run(self, source: str) -> list[Any]:
        """The outputs of a cell; `nbclient.exceptions.CellExecutionError` where it fails."""
        cell = jupytext.reads(f"# %%\n{source}", fmt="py:percent").cells[0]
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        return list(cell.outputs)


@contextmanager
def kernel() -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory(prefix="nb-") as name:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(REFUSES_NETWORK)
        (folder / "empty").mkdir()
        manager = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=str(folder / "k.json")
        )
        client = NotebookClient(
            jupytext.reads("", fmt="py:percent"),
            km=manager,
            timeout=LIMIT_S,
            resources={"metadata": {"path": str(folder / "empty")}},
        )
        with client.setup_kernel(env=environment(folder), cleanup_kc=True):
            yield Kernel(client)


def environment(folder: Path) -> dict[str, str]:
    places = (str(folder), str(PROJECT), os.environ.get("PYTHONPATH", ""))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
    }
