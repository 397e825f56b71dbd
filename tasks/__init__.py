import os
import sys

# Arrow's default pool keeps a quarter more memory for itself. Arrow asks once, when it is loaded.
if sys.platform == "linux":
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
