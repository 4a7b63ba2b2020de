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


def check_folder(folder: Path, what: str) -> None:
    """Raise `UserError` if `folder` is a file, or has one on its way; `what` says what the folder is for."""
    from runners.check import UserError

    found = next((p for p in (folder, *folder.parents) if p.exists() or p.is_symlink()), None)
    if found is not None and not found.is_dir():
        raise UserError(f"{folder}: cannot be the folder {what}: {found} is a file")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
