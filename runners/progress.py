"""What the user sees while a run works: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol, TextIO

PLAIN_INTERVAL_S = 5.0
"""Least time between two plain lines of one phase."""


class Advance(Protocol):
    """Callback of a phase; the cores call it with the work done so far."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Report that `done` of `total` units are finished."""


class Progress:
    """Writes to `stream` (standard output by default); a bar if that is a terminal, else lines."""

    def __init__(self, stream: TextIO | None = None, interval_s: float = PLAIN_INTERVAL_S) -> None:
        self._stream = stream or sys.stdout
        self._interval_s = interval_s
        self._console: Any = None
        if self._stream.isatty():
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
        started = time.monotonic()
        with RichProgress(*columns, console=self._console, refresh_per_second=5) as bars:
            task = bars.add_task(name, total=total, rate="")

            def advance(done: int, total: int | None = None) -> None:
                rate = format_rate(done, time.monotonic() - started, unit)
                bars.update(task, completed=done, total=total, rate=rate)

            yield advance

    @contextlib.contextmanager
    def _lines(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        started = time.monotonic()
        last_line, last_done, known_total = started, 0, total

        def advance(done: int, total: int | None = None) -> None:
            nonlocal last_line, last_done, known_total
            now = time.monotonic()
            last_done, known_total = done, total or known_total
            if now - last_line < self._interval_s:
                return
            last_line = now
            self._write(f"{name}: {_amount(done, known_total, unit)}{_left(done, known_total, now - started)}")

        yield advance
        seconds = time.monotonic() - started
        rate = format_rate(last_done, seconds, unit)
        self._write(f"{name}: done in {format_seconds(seconds)}" + (f" ({rate})" if rate else ""))

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


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


def _left(done: int, total: int | None, seconds: float) -> str:
    if not done or not total or seconds <= 0:
        return ""
    left = format_seconds(seconds * (total - done) / done)
    return f", {format_rate(done, seconds, '').replace(' /s', '/s')}, {left} left"
