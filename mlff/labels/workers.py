"""Processes that label: spawned, one thread each, ended with their parent; one that dies takes only its cluster along."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from mlff.labels.heating import Heat, heated
from mlff.labels.methods import Computed, Method, NotLabelled
from mlff.processes import begin

Found = tuple[NDArray[np.float64], Computed]
"""Positions `(n_atoms, 3)` in Å and their labels."""


@dataclass(frozen=True, eq=False)
class Task:
    """One arrangement to be labelled as it is, or (with `heat`) at some times of a short simulation from it."""

    key: str
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    charge: int
    heat: Heat | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a task: what was `found`, and the `reason` where that is less than asked for; `seconds` of
    processor time."""

    key: str
    found: tuple[Found, ...]
    reason: str = ""
    seconds: float = 0.0


def outcomes(method: Method, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    """Label `tasks` in `workers` processes; outcomes come as they are ready."""
    queue, running = deque(tasks), dict[Future[Outcome], Task]()
    pool = _pool(workers)
    try:
        while queue or running:
            try:
                while queue and len(running) < 2 * workers:
                    running[pool.submit(_work, method, queue[0])] = queue[0]
                    queue.popleft()
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    outcome = done.result()
                    del running[done]
                    yield outcome
            except BrokenProcessPool:
                suspects = list(running.values())
                running.clear()
                pool.shutdown(wait=False, cancel_futures=True)
                for task in suspects:
                    yield _alone(method, task)
                pool = _pool(workers)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(method: Method, task: Task) -> Outcome:
    """A task in a process of its own: it was running when one died."""
    with _pool(1) as pool:
        try:
            return pool.submit(_work, method, task).result()
        except BrokenProcessPool:
            return Outcome(task.key, (), "the process died without a word")


def _work(method: Method, task: Task) -> Outcome:
    started, found, reason = time.process_time(), list[Found](), ""
    try:
        if task.heat is None:
            found.append((task.positions, method.compute(task.numbers, task.positions, task.charge)))
        else:
            for arrangement in heated(method, task.numbers, task.positions, task.charge, task.heat, task.seed):
                found.append(arrangement)
    except NotLabelled as error:
        reason = str(error)
    finite = tuple(f for f in found if _finite(f[1]))
    if len(finite) < len(found):
        reason = reason or "a result is not finite"
    return Outcome(task.key, finite, reason, time.process_time() - started)


def _finite(c: Computed) -> bool:
    return bool(np.isfinite(np.concatenate([c.forces.ravel(), c.charges, c.dipole, [c.energy]])).all())


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin, initargs=(os.getpid(),))
