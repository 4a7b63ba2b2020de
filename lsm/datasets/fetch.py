"""Downloads: several mirrors, a checksum, resumed where they broke off; and the check of files already there.

A file gets its final name only after its checksum holds, so whatever interrupts a download leaves no file that later
passes as good. What came through is kept as `<name>.part` and continued at the next attempt.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

Progress = Callable[[int, int], None]

CONNECT_S, READ_S = 5, 30  # short enough that three dead mirrors cost 15 s, long enough for a slow server
CHUNK = 1 << 16


class DownloadError(FileNotFoundError):
    """A file is missing and no mirror delivered it."""


class ChecksumError(ValueError):
    """A file on disk is not the one it should be."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download; `digest` is written `md5:...` or `sha256:...`, `mirrors` are full URLs.

    `digest=None` is for a file that its server packs anew each time: then the caller checks what is in it.
    """

    name: str
    digest: str | None
    mirrors: tuple[str, ...]


def digest_of(data: bytes | Path, algorithm: str = "sha256") -> str:
    """`<algorithm>:<hex digest>` of bytes or of a file."""
    if isinstance(data, Path):
        with data.open("rb") as handle:
            return f"{algorithm}:{hashlib.file_digest(handle, algorithm).hexdigest()}"
    return f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}"


def check_digest(path: Path, found: str, expected: str) -> None:
    """Raise `ChecksumError` unless the digest `found` in `path` is the `expected` one."""
    if found != expected:
        raise ChecksumError(
            f"{path}: checksum {found}, not {expected} as the official file; move it away to download it again"
        )


def fetch(remote: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """The path of `remote` in `folder`, downloaded from the first mirror that delivers it if it is not there.

    `progress` is called with (bytes so far, bytes in all). Raises `ChecksumError` where a wrong file has the name,
    `PermissionError` where `folder` cannot be written and `DownloadError` where every mirror failed.
    """
    from filelock import FileLock

    target = folder / remote.name
    if not target.exists():
        _make_writable(folder, remote.name)
        with FileLock(folder / f".{remote.name}.lock"):  # two runs that need the same file: one downloads
            if not target.exists():
                _download(remote, target, progress)
    if remote.digest is not None:
        check_digest(target, digest_of(target, remote.digest.partition(":")[0]), remote.digest)
    return target


def _make_writable(folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "no write permission"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise PermissionError(f"{folder}: {reason}, so {name} cannot be downloaded; choose another data folder")


def _download(remote: RemoteFile, target: Path, progress: Progress | None) -> None:
    failures = []
    for url in remote.mirrors:
        try:
            _download_from(url, remote, target, progress)
            return
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            failures.append(f"{urlsplit(url).netloc}: {_in_short(error)}")
    raise DownloadError(
        f"{remote.name} is not in {target.parent} and could not be downloaded ({'; '.join(failures)}); "
        f"go online, put the file there by hand ({remote.digest or 'any copy'}), or give data.path=<folder that has it>"
    )


def _download_from(url: str, remote: RemoteFile, target: Path, progress: Progress | None) -> None:
    """Get the file from one mirror, going on as long as a broken connection still brought something."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it announces each download on stderr; progress is the caller's business
    resume = _Resume(target.with_name(f"{target.name}.part"), progress)
    try:
        while True:
            before, resumed = resume.size(), resume.size() > 0
            try:
                pooch.retrieve(url, remote.digest, fname=target.name, path=target.parent, downloader=resume)
                return
            except (OSError, ValueError):
                # A wrong checksum or a refused range consumes the part file: then the whole file is worth one more try.
                if not (resume.size() > before or (resumed and resume.size() == 0)):
                    raise
    finally:
        if resume.size() == 0:
            resume.part.unlink(missing_ok=True)


class _Resume:
    """A downloader for pooch that continues `part` and hands it over when it is complete."""

    def __init__(self, part: Path, progress: Progress | None) -> None:
        self.part = part
        self.progress = progress

    def size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        from pooch import HTTPDownloader

        start = self.size()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self.part.open("ab") as handle:
            meter = _Meter(self.progress, start)
            get = HTTPDownloader(
                progressbar=meter,
                chunk_size=CHUNK,
                headers=headers,
                timeout=(CONNECT_S, READ_S),
                hooks={"response": lambda response, **_: self._begin(response.status_code, handle, meter)},
            )
            get(url, handle, pooch)
        self.part.replace(output_file)

    def _begin(self, status: int, handle: IO[bytes], meter: _Meter) -> None:
        """Drop what is there where the server sends the whole file (200) or has no such range (416)."""
        if status in (200, 416):
            handle.truncate(0)
            meter.start = 0


class _Meter:
    """The four members that pooch expects of a progress bar, turned into `progress(done, total)`."""

    def __init__(self, progress: Progress | None, start: int) -> None:
        self.progress = progress
        self.start = start
        self.total = 0
        self.done = 0

    def update(self, n: int) -> None:
        self.done = min(self.done + n, self.total)
        if self.progress and self.total:
            self.progress(self.start + self.done, self.start + self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing to release."""


def _in_short(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    return "wrong checksum" if isinstance(error, ValueError) else type(error).__name__
