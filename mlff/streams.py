"""Named random streams: one seed gives a separate, reproducible stream for each purpose (split, data order, ...)."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator on the stream of one purpose; 0 is a seed like any other."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def replica_seeds(seed: int, n: int) -> list[int]:
    """A seed for each replica; the first replicas of a larger number are those of a smaller one."""
    return [int(np.random.SeedSequence([seed, k]).generate_state(1)[0]) for k in range(n)]
