"""What the loop will take on this machine, from one epoch of training and one step of dynamics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runners.progress import format_seconds

if TYPE_CHECKING:
    from mlff.system import System
    from runners.context import Context
    from runners.loop import Loop, Made

LONGEST_UNIT_S = 1800.0
"""A unit of work (one model's epochs, one box) should not be longer."""
SAMPLE = 48
"""Labelled frames that one epoch is measured with."""
STEPS = 20


def predicted(loop: Loop, context: Context, made: Made, systems: Mapping[str, System]) -> dict[str, float]:
    """Measure, and tell the cost of every kind of stage, the total and the longest unit of work."""
    relaxation = loop.relaxation.steps + round(1000 * loop.relaxation.soft_start_ps / loop.relaxation.time_step_fs)
    with context.phase("cost"):
        by_atom = _second_of_training(context, made)
        by_step = _second_of_a_step(loop, context, systems)
    explore = (1000 * loop.explore_ps / context.md.time_step_fs + relaxation) * by_step * loop.members
    box = (context.md.n_steps + relaxation) * by_step
    first = made.frames[0]
    largest = first + loop.rounds * loop.chosen * len(loop.labelled)
    atoms_of_frame = by_atom["atoms"]
    epoch = by_atom["seconds"] * atoms_of_frame
    n_explored = (loop.rounds + 1) * len(loop.labelled)
    trained = context.training.epochs * epoch * first + loop.rounds * loop.round_epochs * epoch * (first + largest) / 2
    lesson = loop.n_atoms + loop.distillation.batch * atoms_of_frame
    lessons = loop.distillation.epochs * loop.distil_frames * 2 / 3 * len(loop.labelled) * lesson * by_atom["seconds"]
    runs = (loop.align_rounds + 1) * len(loop.aligned) + 2 * len(loop.watched)
    labels = loop.rounds * loop.chosen * len(loop.labelled) * made.cpu_s_per_label / context.threads
    parts = {
        "training": loop.members * trained,
        "labels of the rounds": labels,
        "exploring": n_explored * explore,
        "distillation": lessons,
        "densities": runs * box,
    }
    total = sum(parts.values())
    unit = max(box, explore, context.training.epochs * epoch * first, loop.round_epochs * epoch * largest)
    told = ", ".join(f"{name} {format_seconds(s)}" for name, s in parts.items())
    context.progress.say(
        f"one epoch of {first} labels takes {format_seconds(epoch * first)}, one step of {loop.n_atoms} atoms "
        f"{1000 * by_step:.1f} ms; predicted: {told}; at most {format_seconds(total)} in all"
    )
    if unit > LONGEST_UNIT_S:
        context.progress.warn(
            f"the longest unit of work takes about {format_seconds(unit)}; it can be stopped and goes on"
        )
    values = {f"predicted/{name.replace(' ', '_')}_s": s for name, s in parts.items()}
    values |= {"predicted/total_s": total, "predicted/longest_unit_s": unit}
    context.tracker.metrics(values)
    return values


def _second_of_training(context: Context, made: Made) -> dict[str, float]:
    """Seconds by atom of one pass over labels, forward and back, and atoms of a frame."""
    from dataclasses import replace

    from mlff.trainable import start
    from mlff.trainer import Trainer

    labels = _some_labels(made)
    training = replace(context.training, epochs=1, batch=min(context.training.batch, len(labels.train)))
    made_ready = start(context.model, training, labels, context.seed)
    trainer = _trainer(Trainer, made_ready, training, context)
    batches = trainer.batches(0)
    trainer.step(batches[0])  # the first one compiles
    began = time.perf_counter()
    for batch in batches:
        trainer.step(batch)
    seconds = time.perf_counter() - began
    atoms = sum(len(f) for f in made_ready.train)
    return {"seconds": seconds / atoms, "atoms": atoms / len(made_ready.train)}


def _trainer(kind: Any, ready: Any, training: Any, context: Context) -> Any:
    from mlff.parallel import Ranks

    parts = (ready.model, ready.train, ready.valid, training, ready.weights, ready.scale, context.seed, Ranks())
    return kind(*parts, threads=context.threads)


def _some_labels(made: Made) -> Any:
    from mlff.datasets import FrameFiles
    from mlff.labelled import LabelKeys

    keys = LabelKeys(
        virial="virial", charges="charges", dipole="dipole", fragments="fragments", fragment_charges="fragment_charges"
    )
    files = FrameFiles(name="sample", train=[str(p) for p in made.labels], keys=keys, valid_fraction=0.0)
    found = files.load(made.labels[0].parent, 0)
    step = max(1, len(found.train) // SAMPLE)
    from dataclasses import replace

    return replace(found, train=found.train[::step])


def _second_of_a_step(loop: Loop, context: Context, systems: Mapping[str, System]) -> float:
    """Seconds of one force call of a box with an untrained model: the time does not depend on the weights."""
    from mlff.calculator import configuration
    from mlff.engine import Engine
    from mlff.system import pack
    from mlff.trainable import initialised

    model = initialised(context.model.parameters(True), 0)
    c = configuration(pack(systems[loop.labelled[0]], context.seed).atoms)
    engine = None
    with contextlib.suppress(ValueError):  # a network of another size runs by torch
        engine = Engine(model, threads=context.threads)

    def evaluate() -> Any:
        return engine.evaluate(c) if engine else model.predict(model.batch(c))

    evaluate()
    began = time.perf_counter()
    for _ in range(STEPS):
        evaluate()
    return (time.perf_counter() - began) / STEPS
