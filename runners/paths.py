"""Where data are read and where runs are written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def home_folder(configured: str) -> Path:
    """Folder of everything that runs write: LSMRUN_HOME, else `paths.home`; absolute."""
    return _absolute(os.environ.get("LSMRUN_HOME") or configured)


def data_folder(configured: str) -> Path:
    """Folder of the data sets: LSMRUN_DATA, else `paths.data`; absolute."""
    return _absolute(os.environ.get("LSMRUN_DATA") or configured)


def check_folder(folder: Path, what: str) -> None:
    """Raise `UserError` if `folder` cannot be made or written to; `what` says what the folder is for."""
    from runners.check import UserError

    found = next(p for p in (folder, *folder.parents) if p.exists() or p.is_symlink())
    if not found.is_dir():
        raise UserError(f"{folder}: cannot be the folder {what}: {found} is a file")
    if problem := _unwritable(found):
        raise UserError(f"{folder}: cannot be the folder {what}: {found} cannot be written to ({problem})")


def check_file(path: str, key: str) -> Path:
    """The absolute place of a file that is to be written; raises `UserError`, which names `key`, if it cannot be there."""
    from runners.check import UserError

    target = Path(path).expanduser().resolve()
    if target.is_dir():
        raise UserError(f"{key}={path}: is a folder, not a file to write")
    if not target.parent.is_dir():
        raise UserError(f"{key}={path}: there is no folder {target.parent}")
    if problem := _unwritable(target.parent):
        raise UserError(f"{key}={path}: {target.parent} cannot be written to ({problem})")
    return target


@contextlib.contextmanager
def complete_or_not(target: Path) -> Iterator[Path]:
    """A place beside `target` to write to, moved there at the end; after an error nothing is left of it."""
    unfinished = target.with_name(f"{target.name}.part")
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _unwritable(folder: Path) -> str:
    """Why nothing can be made in a folder, found out by trying: permissions do not tell all; empty if it can."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".lsmrun-"):
            return ""
    except OSError as error:
        return str(error.strerror or error)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
