"""How a process that computes for another begins: one thread for each library, and an end with its parent."""

from __future__ import annotations

import os
import threading
import time

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_POLL_S = 0.5


def begin(parent: int) -> None:
    """To be called before the libraries that compute are loaded; the process ends when `parent` is gone, by `kill -9` too."""
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    threadpool_limits(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
