"""Properties of a liquid with error bars: boxes packed, relaxed, simulated at constant pressure, then at constant volume."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.dynamics.relaxation import Relaxation
from mlff.streams import replica_seeds
from runners.properties_report import report
from runners.properties_stages import Found, Simulation, read_runs
from runners.simulation import Models, open_models, start_box

if TYPE_CHECKING:
    from mlff.system.box import Box
    from runners.context import Context


@plain_dataclass(frozen=True)
class _Prepared:
    models: Models | None
    boxes: tuple[Box, ...]
    found: Found | None


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Properties:
    """Settings of the runner; the liquid stands in `system`, the stages in `properties`, the model in `checkpoint`."""

    trajectory: Annotated[list[str], Field(description="files of runner=md instead of a simulation")] = field(
        default_factory=list
    )
    keep_trajectories: Annotated[bool, Field(description="store the trajectories among the artifacts")] = False
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True
    relaxation: Relaxation = field(default_factory=Relaxation)

    needs: ClassVar[tuple[str, ...]] = ("system", "properties")
    committee: ClassVar[bool] = True

    def prepare(self, context: Context) -> _Prepared:
        """Open the models and pack a box for each replica, or read the trajectories, before a run exists."""
        if self.trajectory:
            return _Prepared(None, (), read_runs(self.trajectory, context.properties))
        models = open_models(context)
        seeds = replica_seeds(context.seed, context.properties.replicas)
        first = start_box(context, models, seeds[0])
        if context.system.file is not None and len(seeds) > 1:
            return _Prepared(models, (first,) * len(seeds), None)
        return _Prepared(models, (first, *(start_box(context, models, s) for s in seeds[1:])), None)

    def run(self, context: Context) -> dict[str, float]:
        """Simulate what is not there yet, analyse, report, and return the resolved results."""
        p: _Prepared = context.prepared
        if p.models is None:
            assert p.found is not None
            if p.found.warning:
                context.progress.warn(p.found.warning)
            return report(context, p.found, pictures=self.pictures)
        for caution in p.models.cautions(p.boxes[0]):
            context.progress.warn(caution)
        simulation = Simulation(context, p.models, p.boxes, self.relaxation)
        simulation.announce()
        with simulation.alone():
            found = simulation.run()
            results = report(context, found, pictures=self.pictures)
            if self.keep_trajectories:
                simulation.store()
            simulation.clear()
        return results
