"""From clusters to labelled frames: in parallel, resumable, with everything that went wrong counted and listed.

`label` keeps a journal in its folder, one line for each finished cluster, so that it goes on where it was killed.
Frames that a method gives but that cannot be trusted (a small gap: separated ions in vacuum; a huge force: atoms on top of
each other) are set aside, not dropped.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.labelled import LabelledFrame
from mlff.labels.clusters import Cluster
from mlff.labels.heating import Heat
from mlff.labels.methods import Computed, Method
from mlff.labels.workers import Outcome, Task, outcomes
from mlff.units import KCAL_PER_EV

JOURNAL = "journal.jsonl"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Limits:
    """What is set aside. Raises pydantic's `ValidationError` on a bad value."""

    smallest_gap_eV: Annotated[float, Field(ge=0, description="between occupied and empty orbitals; 0 takes all")] = 1.0
    largest_force_eV_A: Annotated[float | None, Field(gt=0, description="on an atom; null takes all")] = 25.0


@plain_dataclass(frozen=True, eq=False)
class Labelled:
    """A cluster where it was labelled, and what the method says of it."""

    cluster: Cluster
    computed: Computed

    def frame(self, name: str = "") -> LabelledFrame:
        """As training takes it, with the virial of the cluster: sum of r F over its atoms, symmetrised."""
        c = self.computed
        virial = self.cluster.positions.T @ c.forces
        return LabelledFrame(
            self.cluster.configuration(),
            energy=c.energy,
            forces=c.forces,
            virial=0.5 * (virial + virial.T),
            charges=c.charges,
            dipole=c.dipole,
            composition=self.cluster.composition,
            name=name,
        )

    @property
    def notes(self) -> dict[str, Any]:
        """What files say of it beside the labels."""
        return {"gap_eV": round(self.computed.gap_eV, 4), "source": self.cluster.source or "unknown"}


@plain_dataclass(frozen=True, eq=False)
class LabelledClusters:
    """`kept` and `set_aside` (with the reason); `failures` are (composition, source, reason)."""

    kept: list[Labelled]
    set_aside: list[tuple[Labelled, str]]
    failures: list[tuple[str, str, str]]
    seconds: float

    def counts(self) -> dict[str, int]:
        """How many frames became what; the reasons of those that were set aside are told apart."""
        reasons = Counter(reason for _, reason in self.set_aside)
        told = {f"set_aside_{reason}": n for reason, n in sorted(reasons.items())}
        return {"kept": len(self.kept), **told, "failures": len(self.failures)}


def label(
    clusters: Sequence[Cluster],
    method: Method,
    folder: Path,
    *,
    limits: Limits | None = None,
    heat: Heat | None = None,
    workers: int = 1,
    seed: int = 0,
    resume: bool = True,
    progress: Progress = lambda done, total: None,
) -> LabelledClusters:
    """Label every cluster by `method`, in the order given; `folder` keeps the journal.

    With `heat` each cluster gives some frames of a short simulation instead of itself. Raises `ValueError` where the
    folder holds labels of another method.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [_task(cluster, heat, seed) for cluster in clusters]
    about = {"method": method.title, "settings": asdict(method) if hasattr(method, "__dataclass_fields__") else {}}  # type: ignore[call-overload]
    with _journal(folder / JOURNAL, about, resume) as (known, write):
        missing = list({task.key: task for task in tasks if task.key not in known}.values())
        done = len({task.key for task in tasks}) - len(missing)
        total = done + len(missing)
        progress(done, total)
        for outcome in outcomes(method, missing, workers):
            write(outcome)
            done += 1
            progress(done, total)
    return _sorted_out(clusters, tasks, known, limits or Limits())


def _task(cluster: Cluster, heat: Heat | None, seed: int) -> Task:
    key = cluster.key
    if heat is None:
        return Task(key, cluster.numbers, cluster.positions, cluster.charge)
    told = json.dumps([key, asdict(heat), seed])
    return Task(told, cluster.numbers, cluster.positions, cluster.charge, heat, seed ^ int(key[:8], 16))


def _sorted_out(
    clusters: Sequence[Cluster], tasks: Sequence[Task], known: dict[str, Outcome], limits: Limits
) -> LabelledClusters:
    kept: list[Labelled] = []
    aside: list[tuple[Labelled, str]] = []
    failures: list[tuple[str, str, str]] = []
    for cluster, task in zip(clusters, tasks, strict=True):
        outcome = known[task.key]
        for positions, computed in outcome.found:
            one = Labelled(replace(cluster, positions=positions), computed)
            reason = _mistrusted(computed, limits)
            if reason:
                aside.append((one, reason))
            else:
                kept.append(one)
        if outcome.reason:
            failures.append((cluster.composition, cluster.source, outcome.reason))
    return LabelledClusters(kept, aside, failures, sum(known[key].seconds for key in {t.key for t in tasks}))


def _mistrusted(computed: Computed, limits: Limits) -> str:
    if computed.gap_eV < limits.smallest_gap_eV:
        return "gap"
    largest = float(np.linalg.norm(computed.forces, axis=1).max()) / KCAL_PER_EV
    if limits.largest_force_eV_A is not None and largest > limits.largest_force_eV_A:
        return "force"
    return ""


@contextmanager
def _journal(
    path: Path, about: dict[str, Any], resume: bool
) -> Iterator[tuple[dict[str, Outcome], Callable[[Outcome], None]]]:
    """What the file knows, and how to add to it; a line that was cut short by a kill is cut off."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if resume and path.exists() else []
    known: dict[str, Outcome] = {}
    if lines and lines[0].endswith("\n"):
        if json.loads(lines[0]) != json.loads(json.dumps(about)):
            raise ValueError(
                f"{path.parent}: holds labels by {json.loads(lines[0])['method']}, not by {about['method']}"
            )
        whole = [line for line in lines[1:] if line.endswith("\n")]
        known = {outcome.key: outcome for outcome in map(_read, whole)}
    else:
        whole = []
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(json.dumps(about) + "\n" + "".join(whole), encoding="utf-8")
    unfinished.replace(path)
    with path.open("a", encoding="utf-8") as file:

        def write(outcome: Outcome) -> None:
            known[outcome.key] = outcome
            _append(file, outcome)

        yield known, write
        os.fsync(file.fileno())


def _append(file: TextIO, outcome: Outcome) -> None:
    found = [
        [p.tolist(), c.energy, c.forces.tolist(), c.charges.tolist(), c.dipole.tolist(), c.gap_eV]
        for p, c in outcome.found
    ]
    file.write(json.dumps([outcome.key, outcome.reason, outcome.seconds, found]) + "\n")
    file.flush()


def _read(line: str) -> Outcome:
    key, reason, seconds, found = json.loads(line)
    return Outcome(
        key,
        tuple(
            (np.array(p), Computed(energy, np.array(forces), np.array(charges), np.array(dipole), gap))
            for p, energy, forces, charges, dipole, gap in found
        ),
        reason,
        seconds,
    )
