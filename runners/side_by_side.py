"""Independent parts of a run in processes of their own.

Worth it for boxes so small that threads within one do not help. A part is given the run's context, but for its data, with
lines and metrics that go to the parent; what it keeps on disk is found by the next start, as if it had run there.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runners.progress import PLAIN_INTERVAL_S, Progress

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from runners.context import Context
    from runners.tracking import Tracker

T = TypeVar("T")
LONGEST_END_S = 30.0
"""For what a process does when it is asked to end, which is to close its MLflow run where it has one."""
WORTH_STEPS = 4000
"""Steps of dynamics in all from which on processes pay, which begin in some 5 s."""
ALONE_ATOMS = 120
"""Atoms' worth of a step's time that threads do not share: of 200, 500 and 1,000 atoms two threads gain 1.1, 1.6 and 1.8."""


def pays(context: Context, n_parts: int, n_atoms: int, n_steps: int) -> bool:
    """Whether boxes of `n_atoms`, one a part, with `n_steps` left in all, are done earlier side by side."""
    workers = min(context.threads, n_parts)
    if workers == 1 or context.debug or n_steps < WORTH_STEPS:
        return False
    turns = math.ceil(n_parts / workers)
    return turns / _gain(n_atoms, context.threads // workers) <= n_parts / _gain(n_atoms, context.threads)


def _gain(n_atoms: int, threads: int) -> float:
    """By how much threads within a box make its steps shorter."""
    return threads * n_atoms / (n_atoms + ALONE_ATOMS * (threads - 1))


def side_by_side(context: Context, parts: Sequence[Callable[[Context], T]]) -> list[T]:
    """Results of all parts, in their order; as many at a time as there are threads, which they share.

    Parts, their results and what they raise travel by pickle. One that raises ends the others; `RuntimeError` for one
    that died without a word.
    """
    n_workers = min(context.threads, len(parts))
    waiting, results = deque(range(len(parts))), dict[int, T]()
    workers: dict[Connection, BaseProcess] = {}
    busy: dict[Connection, int] = {}
    try:
        for _ in range(n_workers):
            here, there = get_context("spawn").Pipe()
            given = pickle.dumps(_bare(context, n_workers))
            arguments = (there, os.getpid(), given, context.tracker.run_id, PLAIN_INTERVAL_S * n_workers)
            process: BaseProcess = get_context("spawn").Process(target=_serve, args=arguments, daemon=True)
            process.start()
            there.close()
            workers[here] = process
        for connection in workers:
            busy[connection] = waiting.popleft()
            connection.send(pickle.dumps(parts[busy[connection]]))
        while busy:
            for connection in cast("list[Connection]", wait(list(busy))):
                ended, value = _received(context, connection, workers[connection])
                if not ended:
                    continue
                results[busy.pop(connection)] = value
                if waiting:
                    busy[connection] = waiting.popleft()
                    connection.send(pickle.dumps(parts[busy[connection]]))
    finally:
        for process in workers.values():
            process.terminate()
        for process in workers.values():
            process.join(LONGEST_END_S)
            process.kill()
    return [results[i] for i in range(len(parts))]


def _bare(context: Context, n_workers: int) -> Context:
    """What of a context can travel: no data, no tracking."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("model", "data", "readout", "training", "labels", "prepared", "tracker", "progress")
    )
    return replace(context, threads=max(1, context.threads // n_workers), **nothing)


def _received(context: Context, connection: Connection, process: BaseProcess) -> tuple[bool, Any]:
    """Take one message of a process: whether its part has ended, and the result."""
    try:
        kind, content = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise RuntimeError(f"a process of this run died (exit status {process.exitcode})") from None
    if kind == "line":
        context.progress.say(content)
    elif kind == "metrics":
        context.tracker.metrics(*content)
    elif kind == "flush":
        context.tracker.flush()
    elif kind == "artifact":
        context.tracker.artifact(*content)
    elif kind == "failed":
        raise pickle.loads(content)
    return kind == "done", pickle.loads(content) if kind == "done" else None


# --- in the other process


class _Lines(io.TextIOBase):
    """A stream whose lines go to the parent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, text: str) -> int:
        for line in text.splitlines():
            self._connection.send(("line", line))
        return len(text)


class _Recorded:
    """What a part may record, said to the parent, which does it."""

    def __init__(self, connection: Connection, run_id: str | None) -> None:
        self._connection, self.run_id = connection, run_id

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self._connection.send(("metrics", ({k: float(v) for k, v in values.items()}, step)))

    def flush(self) -> None:
        self._connection.send(("flush", None))

    def artifact(self, path: Path | str, folder: str = "") -> None:
        self._connection.send(("artifact", (path, folder)))

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.metrics({f"time/{name}_s": time.perf_counter() - started})


def _serve(connection: Connection, parent: int, given: bytes, run_id: str | None, interval_s: float) -> None:
    """One part after another, until the parent ends this process."""
    from mlff.processes import begin

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends this one
    begin(parent)
    bare: Context = pickle.loads(given)
    lines = Progress(cast("Any", _Lines(connection)), interval_s)
    context = replace(bare, tracker=cast("Tracker", _Recorded(connection, run_id)), progress=lines)
    with contextlib.suppress(EOFError, KeyboardInterrupt):  # a part may have its own answer to SIGTERM
        while True:
            part = pickle.loads(connection.recv())
            try:
                answer = "done", pickle.dumps(part(context))
            except Exception as error:
                answer = "failed", _packed(error)
            connection.send(answer)


def _packed(error: Exception) -> bytes:
    """An exception as bytes; one that cannot travel by its words."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return packed
