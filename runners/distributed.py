"""One job in several processes (torchrun): the first tells and records, the others only compute."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.check import UserError
from runners.progress import Progress
from runners.run_names import RunLabel
from runners.tracking import Tracker, Watcher

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def is_follower() -> bool:
    """Whether this process is one of several and not the first."""
    return int(os.environ.get("RANK", "0")) > 0 and int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_parallel(runner: Any, name: str | None) -> None:
    """Raise `UserError` if torchrun started several processes of a runner that works in one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and not getattr(runner, "parallel", False):
        raise UserError(f"runner={name}: works in one process; torchrun started {size} (WORLD_SIZE)")


def silent_progress() -> Progress:
    """Progress that nobody sees."""
    return Progress(Path(os.devnull).open("w", encoding="utf-8"))


class SilentTracker(Tracker):
    """Records nothing: the first process does."""

    def start(self, label: RunLabel, resume: bool = True, go_on_with: Collection[str] = ("KILLED",)) -> None:
        """Nothing to begin."""

    def end(self, status: str = "FINISHED", error: BaseException | None = None) -> None:
        """Nothing to close."""

    def params(self, config: Mapping[str, Any]) -> None:
        """Not recorded."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Not recorded."""

    def watch(self, watcher: Watcher) -> None:
        """Nobody is told."""

    def flush(self) -> None:
        """Nothing is kept."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Not recorded."""

    def input(self, name: str, digest: str, source: str, context: str = "training", profile: str | None = None) -> None:
        """Not recorded."""

    def artifact(self, path: Path | str, folder: str = "") -> None:
        """Not stored."""

    def figure(self, figure: Figure, name: str) -> None:
        """Not stored."""

    def text(self, text: str, name: str) -> None:
        """Not stored."""

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Not timed."""
        yield
