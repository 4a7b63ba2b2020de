"""Folders and zip archives behind one face: a list of members and their bytes, nothing unpacked onto the data disk."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO

COPY_BYTES = 1 << 20
SPOOL_BYTES = 1 << 26  # an archive inside an archive is kept in memory up to this size


class Folder:
    """All files below a folder; `files` and `folders` are relative paths with forward slashes, sorted."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._root = path
        self.files: list[str] = []
        self.folders: list[str] = []
        for where, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not _hidden(name))
            prefix = Path(where).relative_to(path).as_posix() + "/"
            prefix = "" if prefix == "./" else prefix
            self.folders += [prefix + name for name in folders]
            self.files += [prefix + name for name in files if not _hidden(name)]
        self.files.sort()

    def read(self, name: str) -> bytes:
        """Bytes of one member."""
        return (self._root / name).read_bytes()


class Archive:
    """All members of a zip archive; closed by the `ExitStack` it is opened in."""

    def __init__(self, path: str, source: Path | IO[bytes], stack: ExitStack) -> None:
        self.path = path
        try:
            self._zip = stack.enter_context(zipfile.ZipFile(source))
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{path}: not a readable zip archive ({error})") from error
        names = [n for n in self._zip.namelist() if not any(_hidden(part) for part in n.split("/"))]
        self.files = sorted(n for n in names if not n.endswith("/"))
        parents = {str(parent) for n in self.files for parent in _parents(n)}
        self.folders = sorted(parents | {n.rstrip("/") for n in names if n.endswith("/")})

    def read(self, name: str) -> bytes:
        """Bytes of one member; raises `ValueError` where it is damaged or encrypted."""
        buffer = io.BytesIO()
        self._copy(name, buffer)
        return buffer.getvalue()

    def _copy(self, name: str, buffer: IO[bytes]) -> None:
        try:
            with self._zip.open(name) as member:
                shutil.copyfileobj(member, buffer, COPY_BYTES)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise ValueError(f"{self.path}: {name} cannot be unpacked ({error})") from error
        buffer.seek(0)

    def nested(self, stack: ExitStack) -> list[Archive]:
        """The zip archives inside this one, each spooled to memory or to a temporary file without a name."""
        inner = []
        for name in self.files:
            if name.lower().endswith(".zip"):
                buffer = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115
                self._copy(name, buffer)
                inner.append(Archive(f"{self.path}/{name}", buffer, stack))
        return inner


class SingleFile:
    """One file given by itself."""

    def __init__(self, path: Path) -> None:
        self.path = str(path.parent)
        self.files = [path.name]
        self.folders: list[str] = []

    def read(self, name: str) -> bytes:
        """Bytes of the file."""
        return (Path(self.path) / name).read_bytes()


Container = Folder | Archive | SingleFile


def open_container(path: Path, stack: ExitStack) -> Container:
    """The folder or zip archive at `path`; raises `FileNotFoundError` or `ValueError` where it is neither."""
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    return Archive(str(path), path, stack)


def _hidden(name: str) -> bool:
    """What operating systems leave behind: dot files, `__MACOSX`, thumbnail stores."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _parents(name: str) -> list[str]:
    steps = name.split("/")[:-1]
    return ["/".join(steps[: k + 1]) for k in range(len(steps))]
