"""Where a number comes from: code, packages, machine and process, as tags of a run."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

PROCESS_START_TOLERANCE_S = 2.0
"""Start times of one process read at two moments may differ by the rounding of the boot time."""


def provenance(threads: int) -> dict[str, str]:
    """Tags that name the code, the machine, the process and the command line of this run."""
    return {
        "lsmrun.version": package_version("lsmrun"),
        "lsmrun.cpu": cpu_model(),
        "lsmrun.cores": str(os.cpu_count()),
        "lsmrun.threads": str(threads),
        "lsmrun.python": platform.python_version(),
        "lsmrun.platform": platform.platform(),
        "lsmrun.command": shlex.join(["lsmrun", *sys.argv[1:]]),
        "lsmrun.packages": ", ".join(f"{name} {version}" for name, version in package_versions().items()),
        "mlflow.user": _user(),
        "mlflow.source.name": "lsmrun",
        "mlflow.source.type": "LOCAL",
        **git_state(),
        **process_identity(),
    }


def git_state() -> dict[str, str]:
    """Commit and dirty flag of the checkout that this code is in; empty for an installed package.

    The folder a run is started from says nothing about the code, so its repository is not asked.
    """
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return {}
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        dirty = bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"lsmrun.git.commit": commit, "lsmrun.git.dirty": str(dirty).lower(), "mlflow.source.git.commit": commit}


def package_versions() -> dict[str, str]:
    """Version of every package that lsmrun requires, by name; those that are not installed are left out."""
    required = importlib.metadata.requires("lsmrun") or []
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in required}
    found = {}
    for name in sorted(names):
        try:
            found[name] = package_version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists() and (match := re.search(r"model name\s*:\s*(.+)", info.read_text(errors="replace"))):
        return match.group(1).strip()
    return platform.processor() or platform.machine()


def process_identity() -> dict[str, str]:
    """Tags by which a later start can tell whether this process is still alive."""
    import psutil

    started = psutil.Process().create_time()
    return {"lsmrun.host": socket.gethostname(), "lsmrun.pid": str(os.getpid()), "lsmrun.pid_started": f"{started:.3f}"}


def process_is_gone(tags: dict[str, str]) -> bool:
    """Whether the process named by `process_identity` tags ran on this host and is no more."""
    import psutil

    if tags.get("lsmrun.host") != socket.gethostname() or "lsmrun.pid" not in tags:
        return False
    try:
        process = psutil.Process(int(tags["lsmrun.pid"]))
        started = process.create_time()
        zombie = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
    return zombie or abs(started - float(tags.get("lsmrun.pid_started", "nan"))) > PROCESS_START_TOLERANCE_S


def package_version(name: str) -> str:
    """Version of an installed package; raises `PackageNotFoundError`."""
    return importlib.metadata.version(name)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return str(os.getuid())


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
