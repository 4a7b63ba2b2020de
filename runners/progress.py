"""What the user sees while a run works: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol, TextIO

PLAIN_INTERVAL_S = 5.0
"""Least time between two plain lines of one phase."""
AT_ONCE_S = 0.1
"""What is reported within this time after a phase began was done before: it is not counted in the rate."""


class Advance(Protocol):
    """Callback of a phase; the cores call it with the work done so far."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Report that `done` of `total` units are finished."""


class Progress:
    """Writes to `stream` (standard output by default); a bar if that is a terminal, else lines.

    With a `name`, which each line then begins with, others write to the same place: no bars.
    """

    def __init__(self, stream: TextIO | None = None, interval_s: float = PLAIN_INTERVAL_S, name: str = "") -> None:
        self._stream = stream or sys.stdout
        self._interval_s = interval_s
        self._begin = f"{name} " if name else ""
        self._console: Any = None
        if self._stream.isatty() and not name:
            from rich.console import Console

            self._console = Console(file=self._stream, highlight=False)

    @contextlib.contextmanager
    def phase(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """Show one phase of `total` units of work; yields `advance(done, total=None)`."""
        make = self._bar if self._console else self._lines
        with make(name, total, unit) as advance:
            yield advance

    def say(self, text: str) -> None:
        """One line for the user, above a bar if one is shown."""
        if self._console:
            self._console.print(text, markup=False, soft_wrap=True)
        else:
            self._write(text)

    def warn(self, text: str) -> None:
        """One line that says what looks wrong and what to change."""
        self.say(f"warning: {text}")

    @contextlib.contextmanager
    def _bar(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
        )
        pace = _Pace()
        with RichProgress(*columns, console=self._console, refresh_per_second=5) as bars:
            task = bars.add_task(name, total=total, rate="")

            def advance(done: int, total: int | None = None) -> None:
                rate = format_rate(pace.work(done), pace.seconds, unit)
                bars.update(task, completed=done, total=total, rate=rate)

            yield advance

    @contextlib.contextmanager
    def _lines(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        pace = _Pace()
        last_line, work, known_total = time.monotonic(), 0, total

        def advance(done: int, total: int | None = None) -> None:
            nonlocal last_line, work, known_total
            now = time.monotonic()
            work, known_total = pace.work(done), total or known_total
            if now - last_line < self._interval_s:
                return
            last_line = now
            self._write(
                f"{name}: {_amount(done, known_total, unit)}{_left(work, known_total and known_total - done, pace.seconds)}"
            )

        yield advance
        seconds = pace.seconds
        rate = format_rate(work, seconds, unit)
        self._write(f"{name}: done in {format_seconds(seconds)}" + (f" ({rate})" if rate else ""))

    def _write(self, line: str) -> None:
        self._stream.write(f"{self._begin}{line}\n")  # one piece: other workers write to the same place
        self._stream.flush()


class _Pace:
    """Time since a phase began, and the work done in it; what an earlier start had done is told right away."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._before: int | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def work(self, done: int) -> int:
        if self._before is None:
            self._before = done if self.seconds < AT_ONCE_S else 0
        return max(0, done - self._before)


def format_rate(done: int, seconds: float, unit: str) -> str:
    """`1234 snippets/s`; empty before the first unit is done."""
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    return f"{rate:.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `73 s`, `12 min 5 s` or `3 h 20 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _amount(done: int, total: int | None, unit: str) -> str:
    return f"{done}/{total} {unit}".rstrip() if total else f"{done} {unit}".rstrip()


def _left(work: int, rest: int | None, seconds: float) -> str:
    """Rate and time left, from the work of this start alone."""
    if not work or rest is None or seconds <= 0:
        return ""
    left = format_seconds(seconds * rest / work)
    return f", {format_rate(work, seconds, '').replace(' /s', '/s')}, {left} left"
