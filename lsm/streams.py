"""Named random streams: one seed gives a separate, reproducible stream for each purpose."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, purpose: str) -> np.random.SeedSequence:
    """The seed sequence of one purpose ("wiring", "init order" ...); 0 is a seed like any other."""
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A NumPy generator on the stream of one purpose."""
    return np.random.default_rng(stream(seed, purpose))


def key(seed: int, purpose: str) -> np.uint64:
    """A 64-bit key of one purpose, for counter-based random numbers inside numba."""
    return np.uint64(stream(seed, purpose).generate_state(1, np.uint64)[0])
