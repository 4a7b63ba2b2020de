"""What survives a kill: cached INIT states, spike counts and states of fits, and the digests that they are named by.

Caches are named by a hash of everything that determines their content (`cache_key`). A file is either complete or not
there: it is written beside its place and moved, or written block by block with a journal of checksums. Whatever fails its
checksum is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
SAVE_INTERVAL_S = 5.0


def cache_key(kind: str, *parts: Any) -> str:
    """`kind-` and 16 hex digits of all `parts`, which are plain values, and of the code that computes the liquid."""
    text = json.dumps([source_digest(), *parts], sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def source_digest() -> str:
    """Digest of the files whose change may change a spike: a cache made by other code is not used."""
    return code_digest(*(f"lsm/{name}" for name in ("encode", "kernel", "liquid", "parameters", "protocol", "streams")))


@cache
def code_digest(*names: str) -> str:
    """Digest of source files, such as `lsm/kernel`; `lsm/rram/*` are all of a folder, `mlff/**/*` those below it, too."""
    folder = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for name in names:
        if not (files := sorted(folder.glob(f"{name}.py"))):
            raise FileNotFoundError(f"{name}: no such source file")  # a cache would outlive its code
        for path in files:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fingerprint(*arrays: NDArray[Any]) -> str:
    """Digest of the contents of arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an npz file that is either complete or not there at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    with unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_arrays(path: Path) -> Arrays | None:
    """The arrays of an npz file; None if there is none or its checksums do not hold."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


class Throttle:
    """Lets a call through every `interval_s` seconds."""

    def __init__(self, interval_s: float = SAVE_INTERVAL_S) -> None:
        self.interval_s = interval_s
        self.last = time.monotonic()

    def ready(self) -> bool:
        """True if the interval has passed since the last True."""
        if time.monotonic() - self.last < self.interval_s:
            return False
        self.last = time.monotonic()
        return True


class Cache:
    """The folder of one hash under `<home>/cache`; only one process works on it at a time."""

    def __init__(self, home: Path, key: str, description: Mapping[str, Any]) -> None:
        self.folder = home / "cache" / key
        self.folder.mkdir(parents=True, exist_ok=True)
        about = self.folder / "about.json"
        if not about.exists():
            about.write_text(json.dumps(description, indent=1, default=str, sort_keys=True), encoding="utf-8")

    @contextmanager
    def alone(self, waiting: Callable[[str], object]) -> Iterator[None]:
        """Wait until no other process works on the same content; a killed one does not block the next."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting(f"another run computes the same {self.folder.name}; waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


class CountStore:
    """Spike counts of one split on disk, written in blocks; each line of the journal vouches for one of them.

    `counts` `(n_samples, n)` uint16 is a memory map, so memory stays flat with the number of samples; `stats`
    `(n_samples, n_stats)` float64. `done` is the number of leading samples that are complete and pass their checksum.
    """

    def __init__(self, folder: Path, part: str, shape: tuple[int, int], n_stats: int, resume: bool = True) -> None:
        self._journal = folder / f"{part}.journal"
        paths = (folder / f"{part}.counts.npy", folder / f"{part}.stats.npy")
        shapes = (shape, (shape[0], n_stats))
        if not resume or not all(map(_has_shape, paths, shapes)):
            self._journal.unlink(missing_ok=True)
            for path, size, dtype in zip(paths, shapes, (np.uint16, np.float64), strict=True):
                np.lib.format.open_memmap(path, "w+", dtype, size).flush()
        self.counts = np.lib.format.open_memmap(paths[0], "r+")
        self.stats = np.lib.format.open_memmap(paths[1], "r+")
        self.seconds = 0.0
        self.done = self._verified()

    @property
    def complete(self) -> bool:
        """Whether every sample is there."""
        return self.done == len(self.counts)

    def write(self, block: slice, counts: NDArray[np.uint16], stats: NDArray[np.float64], seconds: float = 0.0) -> None:
        """Add the next block, which took `seconds` to compute; it counts once the journal says so."""
        self.counts[block], self.stats[block] = counts, stats
        self.counts.flush()
        self.stats.flush()
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(f"{block.start} {block.stop} {self._checksum(block)} {seconds:.6f}\n")
            file.flush()
            os.fsync(file.fileno())
        self.done, self.seconds = block.stop, self.seconds + seconds

    def _checksum(self, block: slice) -> int:
        return zlib.crc32(self.stats[block].tobytes(), zlib.crc32(self.counts[block].tobytes()))

    def _verified(self) -> int:
        """Follow the journal as far as it holds, and cut it there."""
        done, kept = 0, []
        text = self._journal.read_text(encoding="utf-8") if self._journal.exists() else ""
        for line in text.splitlines():
            try:
                start, stop, checksum, seconds = line.split()
                block = slice(int(start), int(stop))
                holds = block.start == done < block.stop <= len(self.counts) and self._checksum(block) == int(checksum)
                spent = float(seconds)
            except ValueError:
                break
            if not holds:
                break
            done, self.seconds = block.stop, self.seconds + spent
            kept.append(line + "\n")
        if "".join(kept) != text:
            unfinished = self._journal.with_suffix(".part")
            unfinished.write_text("".join(kept), encoding="utf-8")
            unfinished.replace(self._journal)
        return done


def _has_shape(path: Path, shape: tuple[int, int]) -> bool:
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False
