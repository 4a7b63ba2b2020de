"""Parts of a run in processes of their own: what they say, record, return and raise, and that they end with the run."""

from __future__ import annotations

import os
import time
from dataclasses import fields, replace
from functools import partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from ase import Atoms

from mlff.dynamics.simulation import BlowUp
from runners.context import Context
from runners.progress import Progress
from runners.side_by_side import side_by_side


def _context(tmp_path: Path, **more: Any) -> tuple[Context, StringIO, list[Any]]:
    told, recorded = StringIO(), list[Any]()
    tracker = SimpleNamespace(
        run_id="of the parent", metrics=lambda values, step: recorded.append((values, step)), flush=lambda: None
    )
    nothing: dict[str, Any] = {f.name: None for f in fields(Context)}
    bare = Context(**nothing)
    return replace(bare, threads=2, home=tmp_path, tracker=tracker, progress=Progress(told), **more), told, recorded


def _square(x: int, context: Context) -> tuple[int, int, int, str | None]:
    time.sleep(0.2 * (3 - x))  # the first is ready last
    with context.phase(f"part {x}", total=1, unit="steps") as advance:
        advance(1)
    context.progress.warn(f"{x} is small")
    context.tracker.metrics({"x": x}, step=x)
    return x * x, context.threads, os.getpid(), context.tracker.run_id


def _blow_up(context: Context) -> None:
    raise BlowUp("atom 1 left", Atoms("HF", [(0, 0, 0), (0, 0, 1)]), np.array([1]))


def _die(context: Context) -> None:
    os._exit(3)


def _wait(context: Context) -> None:
    time.sleep(60)


def test_results_come_in_order_and_what_parts_tell_and_record_reaches_the_parent(tmp_path: Path) -> None:
    context, told, recorded = _context(tmp_path)
    found = side_by_side(context, [partial(_square, x) for x in range(4)])
    assert [square for square, *_ in found] == [0, 1, 4, 9]
    assert {(threads, run_id) for _, threads, _, run_id in found} == {(1, "of the parent")}
    assert len({pid for _, _, pid, _ in found}) == 2 and os.getpid() not in {pid for _, _, pid, _ in found}
    assert all(f"warning: {x} is small\n" in told.getvalue() for x in range(4))
    assert "part 3: done in" in told.getvalue()
    assert sorted(step for values, step in recorded if "x" in values) == [0, 1, 2, 3]
    assert len([values for values, _ in recorded if "time/part 2_s" in values]) == 1


def test_what_a_part_raises_is_raised_here_and_ends_the_others(tmp_path: Path) -> None:
    context, _, _ = _context(tmp_path)
    started = time.monotonic()
    with pytest.raises(BlowUp, match="atom 1 left") as caught:
        side_by_side(context, [_wait, _blow_up])
    assert time.monotonic() - started < 50
    assert caught.value.atoms.get_chemical_formula() == "HF" and caught.value.culprits.tolist() == [1]
    assert not [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


def test_a_part_that_dies_without_a_word_is_told(tmp_path: Path) -> None:
    context, _, _ = _context(tmp_path)
    with pytest.raises(RuntimeError, match="died \\(exit status 3\\)"):
        side_by_side(context, [_die, _wait])
