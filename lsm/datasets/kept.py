"""Simulated recordings kept in the data folder for the next run: complete or not at all, and never needed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsm.encode import Events


def read_kept(folder: Path, mapped: bool = False) -> tuple[NDArray[np.uint32], NDArray[np.int64]] | None:
    """`packed` and `offsets` (see `lsm.encode`) of what was kept, or `None` where there is nothing, or something damaged.

    `mapped` leaves `packed` on disk, for those who want a few samples.
    """
    try:
        packed = np.load(folder / "packed.npy", mmap_mode="r" if mapped else None)
        offsets = np.load(folder / "offsets.npy")
    except (OSError, ValueError, EOFError):
        return None
    return (packed, offsets) if len(offsets) and offsets[-1] == len(packed) else None


def write_kept(folder: Path, events: Events) -> None:
    """Keep recordings; a folder that cannot be written is no error, since nothing is lost."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        unfinished.chmod(0o755)  # what others may read, as any file of the data folder
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            _fill(unfinished, folder, events)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fill(unfinished: Path, folder: Path, events: Events) -> None:
    np.save(unfinished / "packed.npy", events.packed)
    np.save(unfinished / "offsets.npy", events.offsets)
    if folder.exists():  # damaged, or made meanwhile by another run: the same
        shutil.rmtree(folder)
    unfinished.replace(folder)
