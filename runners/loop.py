"""From SMILES to an aligned force field: label, train, explore, distil, align, as one job of resumable stages."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.dynamics.relaxation import Relaxation
from runners.check import UserError
from runners.systems import load_system, size_of, target_of

if TYPE_CHECKING:
    from mlff.system.liquid import System
    from runners.context import Context

Count = Annotated[int, Field(ge=1)]
Names = Annotated[list[str], Field(description="options of system=")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Loop:
    """Sizes of the loop; level of theory, training, dynamics and the rest are choices of their own.

    `md` is for the runs that densities come from; exploring takes its own length and temperature.
    """

    distillation: Any
    alignment: Any
    labelled: Names = field(default_factory=list)
    aligned: Names = field(default_factory=list)
    watched: Annotated[
        list[str], Field(description="simulated before and after only; best in neither of the others")
    ] = field(default_factory=list)
    members: Annotated[int, Field(ge=3, le=16, description="models of the committee")] = 3
    rounds: Annotated[int, Field(ge=1, le=10, description="rounds of labels from the models' own dynamics")] = 2
    n_atoms: Annotated[Count, Field(description="atoms of every box")] = 200
    sizes: Annotated[list[str], Field(description="NAME=ATOMS for boxes of another size")] = field(default_factory=list)
    packed_boxes: Count = 4
    packed_clusters: Annotated[Count, Field(description="first labels of each liquid, from packed boxes")] = 300
    candidates: Annotated[
        Count, Field(description="clusters of each liquid that the committee looks at in a round")
    ] = 600
    chosen: Annotated[Count, Field(description="most labels of each liquid in a round")] = 200
    certain_eV_A: Annotated[
        float, Field(gt=0, description="clusters on which the committee disagrees by less are not labelled")
    ] = 0.15
    explore_ps: Annotated[float, Field(gt=0, description="dynamics of each liquid in a round")] = 10.0
    explore_K: Annotated[float | None, Field(gt=0, description="its temperature; null = the liquid's")] = None
    explore_at: Annotated[
        Literal["pressure", "density"],
        Field(description="that of md, or constant volume at the start density; the last one is by md"),
    ] = "pressure"
    round_epochs: Annotated[Count, Field(description="epochs with the labels of a round, from the last weights on")] = (
        50
    )
    round_learning_rate: Annotated[float, Field(gt=0, description="largest rate of these epochs")] = 2e-3
    test_fraction: Annotated[float, Field(gt=0, lt=0.5, description="of all labels, held out from everything")] = 0.1
    distil_frames: Annotated[int, Field(ge=3, description="frames of each liquid")] = 60
    align_rounds: Annotated[int, Field(ge=1, le=20)] = 3
    precision_g_cm3: Annotated[
        float,
        Field(gt=0, description="half a 95 % interval that the blocks of a density should say; runs go on until then"),
    ] = 0.01
    longest: Annotated[int, Field(ge=1, le=100, description="but at most this many times md.length_ps")] = 3
    replicas: Annotated[int, Field(ge=1, le=100, description="boxes of every liquid whose density is taken")] = 1
    final_ps: Annotated[
        float | None, Field(gt=0, description="last runs with the aligned model; null = those of its round")
    ] = None
    check_ps: Annotated[float, Field(gt=0, description="runs that check the sign of the first alignment")] = 5.0
    stable_ps: Annotated[float, Field(ge=0, description="trial of student and best member in hot dynamics")] = 5.0
    relaxation: Relaxation = field(default_factory=Relaxation)
    pictures: bool = True

    needs: ClassVar[tuple[str, ...]] = ("model", "training", "labels", "md")
    reads_checkpoint: ClassVar[bool] = False

    def size(self, name: str) -> int:
        """Atoms of a liquid's box, about."""
        return size_of(name, self.sizes, "runner.sizes", self.n_atoms) or self.n_atoms

    def prepare(self, context: Context) -> dict[str, System]:
        """Check all liquids before a run exists."""
        systems: dict[str, System] = {}
        for key in ("labelled", "aligned", "watched"):
            names = getattr(self, key)
            if not names and key != "watched":
                raise UserError(f"runner.{key}: has no value; give runner.{key}=[<option of system=>, ...]")
            for name in names:
                systems[name] = load_system(name, f"runner.{key}", self.size(name))
                if key != "labelled":
                    target_of(systems[name], f"runner.{key}")
        known = {z for n in self.labelled for m in systems[n].molecules().values() for z in m.numbers.tolist()}
        for name in (*self.aligned, *self.watched):
            strange = {z for m in systems[name].molecules().values() for z in m.numbers.tolist()} - known
            if strange:
                raise UserError(
                    f"runner: {name} has elements that no labelled liquid has (atomic number {min(strange)})"
                )
        return systems

    def run(self, context: Context) -> dict[str, float]:
        """All stages in order; returns the key results."""
        from runners.loop_report import report
        from runners.loop_stages import LoopStages

        stages = LoopStages(self, context)
        made = Made()
        stages.first_labels(made)
        stages.tell_cost(made, context.prepared)
        stages.train(made, 0)
        for index in range(1, self.rounds + 1):
            stages.explore(made, index)
            if not stages.label(made, index):
                context.progress.say(f"round {index}: the committee has seen enough of every liquid")
                break
            stages.train(made, index)
        else:
            stages.explore(made, self.rounds + 1)
        stages.distil(made)
        stages.align(made)
        results = report(context, self, stages, made)
        context.tracker.metrics(results)
        return results


@plain_dataclass
class Made:
    """What the stages so far have left: files of labels, models of the committee, trajectories, and their figures."""

    labels: list[Path] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    """Labels after each round."""
    cpu_s_per_label: float = 0.0
    members: list[Path] = field(default_factory=list)
    trajectories: list[Path] = field(default_factory=list)
    errors: list[list[dict[str, float]]] = field(default_factory=list)
    """Results of training: of each round the members'."""
    student: Path | None = None
    distilled: dict[str, float] = field(default_factory=dict)
    model: Path | None = None
    aligned: dict[str, float] = field(default_factory=dict)
    densities: Path | None = None
