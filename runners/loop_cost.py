"""What the loop will take on this machine, from one epoch of training and one step of dynamics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runners.progress import format_seconds

if TYPE_CHECKING:
    from mlff.datasets import LabelSet
    from mlff.system.liquid import System
    from runners.context import Context
    from runners.loop import Loop, Made

LONGEST_UNIT_S = 1800.0
"""A unit of work (one model's epochs, one box) should not be longer."""
SAMPLE = 48
"""Labelled frames that one epoch is measured with."""
STEPS = 20
STILL_FS = 1e-6
"""A time step in which nothing moves."""
NO_LIMIT = 1e12
"""For limits of dynamics: an untrained model has forces of any size."""


def predicted(loop: Loop, context: Context, made: Made, systems: Mapping[str, System]) -> dict[str, float]:
    """Measure, and tell the cost of every kind of stage, the total and the longest unit of work."""
    beside = min(context.threads, loop.members) if context.training.device == "cpu" else 1
    with context.phase("cost"):
        training = _second_of_training(context, made, max(1, context.threads // beside))
        step = _second_of_a_step(loop, context, systems)
    first, n = made.frames[0], len(loop.labelled)
    largest = first + loop.rounds * loop.chosen * n
    epoch = training.seconds_by_atom * training.atoms_of_frame
    explore, box = _dynamics(loop, context, step)
    trained = context.training.epochs * epoch * first + loop.rounds * loop.round_epochs * epoch * (first + largest) / 2
    lesson = (loop.n_atoms + loop.distillation.batch * training.atoms_of_frame) * training.seconds_by_atom
    last = (loop.final_ps or 0.0) / context.md.length_ps
    runs = dict.fromkeys(loop.aligned, (loop.align_rounds + 1) * loop.longest + last)
    runs |= dict.fromkeys(loop.watched, loop.longest + (last or loop.longest))
    tried = 2 * sum(loop.size(n) for n in loop.labelled) * 1000 * loop.stable_ps / context.md.time_step_fs * step
    parts = {
        "training": math.ceil(loop.members / beside) * trained,
        "labels of the rounds": loop.rounds * loop.chosen * n * made.cpu_s_per_label / context.threads,
        "exploring": (loop.rounds + 1) * sum(explore[name] for name in loop.labelled) / _at_once(loop, context),
        "distillation": loop.distillation.epochs * loop.distil_frames * 2 / 3 * n * lesson + tried,
        "densities": loop.replicas * sum(times * box[name] for name, times in runs.items()) / _at_once(loop, context),
    }
    total = sum(parts.values())
    epochs = max(context.training.epochs * epoch * first, loop.round_epochs * epoch * largest)
    unit = max(epochs, *box.values(), *explore.values())
    told = ", ".join(f"{name} {format_seconds(s)}" for name, s in parts.items())
    context.progress.say(
        f"one epoch of {first} labels takes {format_seconds(epoch * first)}, one step of {loop.n_atoms} atoms "
        f"{1000 * step * loop.n_atoms:.1f} ms; predicted: {told}; about {format_seconds(total)} in all"
    )
    if unit > LONGEST_UNIT_S:
        told = format_seconds(unit)
        context.progress.warn(f"the longest unit of work takes about {told}; it can be stopped and goes on")
    values = {f"predicted/{name.replace(' ', '_')}_s": s for name, s in parts.items()}
    values |= {"predicted/total_s": total, "predicted/longest_unit_s": unit}
    context.tracker.metrics(values)
    return values


def _at_once(loop: Loop, context: Context) -> int:
    """Boxes that are simulated side by side."""
    return min(context.threads, len(loop.labelled), loop.replicas * len(loop.aligned))


def _dynamics(loop: Loop, context: Context, step: float) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of exploring, and of a run for a density, by liquid; `step` is one force call by atom and model."""
    r, md = loop.relaxation, context.md
    start = r.steps + round(1000 * r.soft_start_ps / r.time_step_fs)
    liquids = {*loop.labelled, *loop.aligned, *loop.watched}
    explored = start + 1000 * loop.explore_ps / md.time_step_fs
    return (
        {name: explored * step * loop.size(name) * loop.members for name in liquids},
        {name: (start + md.n_steps) * step * loop.size(name) for name in liquids},
    )


@dataclass(frozen=True)
class _Training:
    seconds_by_atom: float
    atoms_of_frame: float


def _second_of_training(context: Context, made: Made, threads: int) -> _Training:
    """One pass over some of the labels, forward and back, with the threads that a member has."""
    from mlff.training.parallel import Ranks
    from mlff.training.trainable import start
    from mlff.training.trainer import Trainer

    labels = _some_labels(made)
    options = replace(context.training, epochs=1, batch=min(context.training.batch, len(labels.train)))
    s = start(context.model, options, labels, context.seed)
    parts = (s.model, s.train, s.valid, options, s.weights, s.scale, context.seed, Ranks())
    trainer = Trainer(*parts, threads=threads)
    batches = trainer.batches(0)
    trainer.step(batches[0])  # the first one compiles
    began = time.perf_counter()
    for batch in batches:
        trainer.step(batch)
    seconds = time.perf_counter() - began
    atoms = sum(len(f) for f in s.train)
    return _Training(seconds / atoms, atoms / len(s.train))


def _some_labels(made: Made) -> LabelSet:
    from mlff.datasets import FrameFiles
    from mlff.labelled import LabelKeys

    keys = LabelKeys(
        virial="virial", charges="charges", dipole="dipole", fragments="fragments", fragment_charges="fragment_charges"
    )
    files = FrameFiles(name="sample", train=[str(p) for p in made.labels], keys=keys, valid_fraction=0.0)
    found = files.load(made.labels[0].parent, 0)
    return replace(found, train=found.train[:: max(1, len(found.train) // SAMPLE)])


def _second_of_a_step(loop: Loop, context: Context, systems: Mapping[str, System]) -> float:
    """Seconds by atom of one step of `md` with an untrained model: the time does not depend on the weights.

    With the threads that a box has where others are simulated beside it, and so short that nothing moves.
    """
    from mlff.calculator import MLFFCalculator
    from mlff.dynamics.simulation import simulate
    from mlff.system.liquid import pack
    from mlff.training.trainable import initialised

    model = initialised(context.model.parameters(True), 0)
    atoms = pack(systems[loop.labelled[0]], context.seed).atoms
    try:
        calculator = MLFFCalculator(model, fast=True, threads=max(1, context.threads // _at_once(loop, context)))
    except ValueError:  # a network of another size runs by torch
        calculator = MLFFCalculator(model)
    still = {"time_step_fs": STILL_FS, "length_ps": STEPS * STILL_FS / 1000}
    still |= {"max_temperature_K": NO_LIMIT, "max_force_eV_A": NO_LIMIT}
    dynamics = replace(context.md, **still)

    def steps() -> float:
        began = time.perf_counter()
        simulate(atoms, calculator, dynamics, seed=0, temperature_K=300.0)
        return time.perf_counter() - began

    steps()  # the first ones compile
    return steps() / STEPS / len(atoms)
