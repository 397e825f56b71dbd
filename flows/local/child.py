"""Child process: a module that ends with the process that started it, even a killed one.

`python -P child.py PARENT MODULE ARGUMENTS...`; PARENT is that process's number.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def follow(parent: int) -> None:
    """Ask the kernel for a polite request to end once the parent is gone; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit("the process that started this one is gone")


if __name__ == "__main__":
    follow(int(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
