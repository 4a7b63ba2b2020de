"""The one pool of threads of an engine: kernels release the GIL and work on shares of the atoms.

Nothing else may bring threads of its own: a threaded BLAS beside these costs a factor of four.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Each:
    """An argument of which each thread takes its own row."""

    rows: NDArray[Any]


class Team:
    """`threads` workers, of which the calling thread is one; by default as many as cores are at hand."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        if self.threads < 1:
            raise ValueError(f"threads={threads}: at least 1")
        self._pool = ThreadPoolExecutor(self.threads)

    def run(self, work: Callable[[int, int, int], None], n: int, block: int = 1) -> None:
        """`work(thread, lo, hi)` on a share of 0..n for each thread, in whole blocks; returns when all are done."""
        size = -(-n // (self.threads * block)) * block
        shares = [(t, min(t * size, n), min((t + 1) * size, n)) for t in range(self.threads)]
        waiting = [self._pool.submit(work, *s) for s in shares[1:] if s[1] < s[2]]
        work(*shares[0])
        for w in waiting:
            w.result()

    def over(self, n: int, kernel: Callable[..., None], *arguments: Any, block: int = 1) -> None:
        """`kernel(lo, hi, ...)` on shares of 0..n; of an `Each` every thread gets its own row."""

        def share(thread: int, lo: int, hi: int) -> None:
            kernel(lo, hi, *(a.rows[thread] if isinstance(a, Each) else a for a in arguments))

        self.run(share, n, block)
