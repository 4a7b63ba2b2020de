"""The stages of the loop as commands: what each reads, and what it leaves for the next."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runners.check import UserError
from runners.explain import show
from runners.side_by_side import pays, side_by_side
from runners.stages import Ended, Stage, Stages, as_value, differing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlff.system.liquid import System
    from runners.context import Context
    from runners.loop import Loop, Made

SHORTER = 4.0
"""By how much the next try of a run that broke off is shorter."""
SHORTEST_PS = 0.05
"""Exploring dynamics that breaks off earlier teaches nothing that a packed box does not."""


class LoopStages:
    """Runs the stages of one loop in a folder that is named by its job."""

    def __init__(self, loop: Loop, context: Context) -> None:
        self.loop, self.context = loop, context
        self.folder = context.home / "loop" / context.job
        self.stages = Stages(context, self.folder)
        self.config, self.choices = context.config, context.choices

    def first_labels(self, made: Made) -> None:
        """Clusters of packed boxes, of every liquid."""
        o = self.loop
        sizes = (f"runner.n_boxes={o.packed_boxes}", f"runner.n_clusters={o.packed_clusters}")
        for name in o.labelled:
            self._label(made, f"label-0-{name}", (*self._sized(name), *sizes))
        self._count(made)

    def label(self, made: Made, index: int) -> bool:
        """Clusters of the models' own dynamics on which the committee disagrees; False where there are none."""
        o = self.loop
        known = tuple(made.labels)
        for name, path in zip(o.labelled, made.trajectories, strict=True):
            self._label(
                made,
                f"label-{index}-{name}",
                (
                    *self._sized(name),
                    f"runner.boxes={as_value([str(path)])}",
                    f"runner.n_boxes={o.packed_boxes * 5}",
                    f"runner.n_clusters={o.candidates}",
                    f"runner.choice.most={o.chosen}",
                    f"runner.choice.certain_eV_A={o.certain_eV_A}",
                    "runner.perturbation=null",
                    f"runner.known={as_value([str(p) for p in known])}",
                    self._checkpoints(made.members),
                ),
            )
        if len(made.labels) == len(known):
            return False
        self._count(made)
        return True

    def train(self, made: Made, index: int) -> None:
        """Every member of the committee on all labels so far; later rounds go on from the last weights."""
        stages = []
        for member in range(self.loop.members):
            command = [*self._training(made), f"seed={self.context.seed * 1000 + member}"]
            if index:
                command += [
                    f"training.epochs={self.loop.round_epochs}",
                    f"training.learning_rate={self.loop.round_learning_rate}",
                    f"checkpoint={as_value(str(made.members[member]))}",
                ]
            else:
                command += differing("model", ["model=mlff"], self.config)
            stages.append(Stage(f"train-{index}-{member}", tuple(command)))
        ended = self._members(stages)
        made.members = [e.folder / "model" for e in ended]
        made.errors.append([dict(e.results) for e in ended])

    def _members(self, stages: list[Stage]) -> list[Ended]:
        """Side by side on a CPU, where the threads of one model share less than half of the work; a GPU has one at a time."""
        if self.context.threads == 1 or self.context.debug or self.config["training"]["device"] != "cpu":
            return [self.stages.run(stage) for stage in stages]
        beside = min(self.context.threads, len(stages))
        ended = side_by_side(self.context, [partial(_trained_apart, self.loop, stage, beside) for stage in stages])
        self.stages.seconds |= {stage.name: e.seconds for stage, e in zip(stages, ended, strict=True)}
        return ended

    def explore(self, made: Made, index: int) -> None:
        """Dynamics of every liquid with the committee, side by side; where it breaks off, as far as it goes."""
        names = self.loop.labelled
        steps = round(len(names) * 1000 * self.loop.explore_ps / self.context.md.time_step_fs)
        if not pays(self.context, len(names), max(map(self.loop.size, names)), steps):
            made.trajectories = [self.explored(made, index, name) for name in names]
            return
        beside = min(self.context.threads, len(names))
        found = side_by_side(
            self.context, [partial(_explored_apart, self.loop, made, index, name, beside) for name in names]
        )
        made.trajectories = [path for path, _ in found]
        for _, seconds in found:
            self.stages.seconds |= seconds

    def distil(self, made: Made) -> None:
        """One model of the committee."""
        o = self.loop
        ended = self._run(
            "distill",
            [
                "model=mlff",
                "runner=distill",
                *self._data(made),
                *self._section("distillation", "runner=distill"),
                f"distillation.frames={o.distil_frames}",
                f"runner.trajectories={as_value([str(p) for p in made.trajectories])}",
                f"runner.stable_ps={o.stable_ps}",
                f"runner.pictures={show(o.pictures)}",
                self._checkpoints(made.members),
            ],
        )
        made.student, made.distilled = ended.folder / "model", dict(ended.results)

    def align(self, made: Made) -> None:
        """Densities before, alignment, densities after."""
        o = self.loop
        ended = self._run(
            "align",
            [
                "model=mlff",
                "runner=align",
                *self._data(made),
                *self._section("alignment", "runner=align"),
                *self._section("md", "runner=align"),
                f"runner.systems={as_value(o.aligned)}",
                f"runner.watched={as_value(o.watched)}",
                f"runner.n_atoms={o.n_atoms}",
                f"runner.sizes={as_value(o.sizes)}",
                f"runner.rounds={o.align_rounds}",
                f"runner.precision_g_cm3={o.precision_g_cm3}",
                f"runner.longest={o.longest}",
                f"runner.replicas={o.replicas}",
                f"runner.final_ps={show(o.final_ps)}",
                f"runner.check_ps={o.check_ps}",
                *self._relaxation("runner=align"),
                f"runner.pictures={show(o.pictures)}",
                f"checkpoint={as_value(str(made.student))}",
            ],
        )
        made.model, made.aligned = ended.folder / "model", dict(ended.results)
        made.densities = ended.folder / "densities.csv"

    def tell_cost(self, made: Made, systems: Mapping[str, System]) -> None:
        """Measure one epoch and one step, and say what the rest will take."""
        from runners.loop_cost import predicted

        predicted(self.loop, self.context, made, systems)

    # --- what commands are made of

    def _run(self, name: str, overrides: list[str]) -> Ended:
        return self.stages.run(Stage(name, tuple(overrides)))

    def _sized(self, name: str) -> tuple[str, str]:
        return f"system={name}", f"system.n_atoms={self.loop.size(name)}"

    def _checkpoints(self, paths: list[Path]) -> str:
        return f"checkpoint={as_value([str(p) for p in paths])}"

    def _section(self, group: str, *command: str) -> list[str]:
        """The choice of a group and what was changed of it."""
        chosen = f"{group}={self.choices[group]}"
        return [chosen, *differing(group, ["model=mlff", *command, chosen], self.config)]

    def _relaxation(self, runner: str) -> list[str]:
        """How boxes are relaxed, where that differs from the runner's own way."""
        own = {"relaxation": self.config["runner"]["relaxation"]}
        return differing("runner", ["model=mlff", runner], {"runner": own})

    def _data(self, made: Made) -> list[str]:
        files = as_value([str(p) for p in made.labels])
        return [
            "data=labelled",
            f"data.train={files}",
            "data.split=growing",  # no model of an early round has learned what a later one is tested with
            f"data.split_seed={self.context.seed}",  # all members are judged by the same frames
            f"data.test_fraction={self.loop.test_fraction}",
        ]

    def _training(self, made: Made) -> list[str]:
        pictures = f"runner.pictures={show(self.loop.pictures)}"
        return ["model=mlff", "runner=train", *self._data(made), *self._section("training"), pictures]

    def _label(self, made: Made, name: str, overrides: tuple[str, ...]) -> None:
        ended = self._run(name, ["model=mlff", "runner=label", *self._section("labels", "runner=label"), *overrides])
        path = ended.folder / "labels" / "frames.xyz"
        made.cpu_s_per_label = ended.results.get("cost/cpu_s_per_label", made.cpu_s_per_label)
        if path.exists() and ended.results.get("labels/kept", 0.0) > 0:
            made.labels.append(path)

    def _count(self, made: Made) -> None:
        """How many labels there are after a round."""
        if not made.labels:
            raise UserError("runner: no cluster of any liquid could be labelled")
        n = sum(map(_frames, made.labels))
        made.frames.append(n)
        self.context.progress.say(f"{n} labelled clusters so far")

    def explored(self, made: Made, index: int, name: str, beside: int = 1) -> Path:
        """Dynamics of one liquid, of `beside` at a time."""
        from mlff.dynamics.simulation import BlowUp

        o, length = self.loop, self.loop.explore_ps
        conditions = [] if o.explore_K is None else [f"md.temperature_K={o.explore_K}"]
        if o.explore_at == "density" and index <= o.rounds:  # the last trajectories are what distillation learns from
            conditions += ["md.ensemble=csvr", "md.pressure_atm=null", "md.pressure_damping_fs=null"]
        while True:
            command = [
                "model=mlff",
                "runner=md",
                *self._sized(name),
                *self._section("md", "runner=md"),
                f"md.length_ps={length:g}",
                "md.max_spread_eV_A=null",
                f"md.frame_every_fs={max(1.0, 10.0 * length):g}",
                *conditions,
                *self._relaxation("runner=md"),
                f"runner.pictures={show(o.pictures)}",
                self._checkpoints(made.members),
            ]
            try:
                ended = self.stages.run(Stage(f"md-{index}-{name}", tuple(command)), beside)
            except BlowUp as error:
                length /= SHORTER
                if length < SHORTEST_PS:
                    raise
                self.context.progress.warn(f"{name}: {error}; trying {length:g} ps instead")
                continue
            return ended.folder / "trajectory" / "trajectory.h5md"


def _trained_apart(loop: Loop, stage: Stage, beside: int, context: Context) -> Ended:
    """One member in a process of its own."""
    return LoopStages(loop, context).stages.run(stage, beside)


def _explored_apart(
    loop: Loop, made: Made, index: int, name: str, beside: int, context: Context
) -> tuple[Path, dict[str, float]]:
    """One liquid in a process of its own: the trajectory, and wall times by stage."""
    stages = LoopStages(loop, context)
    return stages.explored(made, index, name, beside), stages.stages.seconds


def _frames(path: Path) -> int:
    """Frames of an extended XYZ file: each begins with a line that is its number of atoms alone."""
    with path.open(encoding="utf-8") as lines:
        return sum(line.strip().isdigit() for line in lines)
