"""Where data are read and where runs are written."""

from __future__ import annotations

import os
from pathlib import Path


def home_folder(configured: str) -> Path:
    """Folder of everything that runs write: LSMRUN_HOME, else `paths.home`; absolute."""
    return _absolute(os.environ.get("LSMRUN_HOME") or configured)


def data_folder(configured: str) -> Path:
    """Folder of the data sets: LSMRUN_DATA, else `paths.data`; absolute."""
    return _absolute(os.environ.get("LSMRUN_DATA") or configured)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
