"""Flows: the doors to everything. Through them nothing comes in from the working folder.

`python -m` puts that folder first; a `secrets.py` there would be taken for the library's own. Only
where this source itself lies there it stays.
"""

import os
import sys

if sys.argv[0] == "-m" and not sys.flags.safe_path and sys.path[0] == os.getcwd():
    if not os.path.samefile(sys.path[0], os.path.dirname(os.path.dirname(__file__))):
        del sys.path[0]
