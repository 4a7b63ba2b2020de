"""Label clusters of molecules with quantum chemistry: cut, perturbed, without duplicates, chosen by a committee or all."""

from __future__ import annotations

from dataclasses import asdict, field
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.labels.clusters import Cluster, Cut
from mlff.labels.committee import Choice
from mlff.labels.heating import Heat
from mlff.labels.labelling import Limits
from mlff.labels.perturbation import Perturbation
from runners.check import UserError
from runners.checkpoint import Cache, cache_key
from runners.explain import show
from runners.systems import tell_composition

if TYPE_CHECKING:
    from mlff.labels.labelling import LabelledClusters
    from mlff.model import ForceField
    from runners.context import Context

Count = Annotated[int, Field(ge=1)]
TOLD = 5
"""Failures that are shown; all are in the list that is stored."""


@plain_dataclass(frozen=True)
class _Prepared:
    clusters: list[Cluster]
    duplicates: int
    committee: list[ForceField]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Label:
    """Settings of the runner; the level of theory stands in `labels`, the liquid in `system`."""

    boxes: Annotated[list[str], Field(description="trajectories or boxes; [] = packed from system")] = field(
        default_factory=list
    )
    n_boxes: Annotated[Count, Field(description="packed, or frames of each file")] = 4
    clusters: Annotated[list[str], Field(description="clusters that are labelled as they are")] = field(
        default_factory=list
    )
    n_clusters: Annotated[Count, Field(description="to be cut; candidates where there is a committee")] = 200
    known: Annotated[list[str], Field(description="label sets that are there already")] = field(default_factory=list)
    duplicates_A: Annotated[float, Field(ge=0, description="rms of distances below which clusters are the same")] = 0.02
    authors_format: Annotated[bool, Field(description="write train_data.pt as well")] = False
    cut: Cut = field(default_factory=Cut)
    perturbation: Perturbation | None = field(default_factory=Perturbation)
    heat: Heat | None = None
    limits: Limits = field(default_factory=Limits)
    choice: Choice = field(default_factory=Choice)

    needs: ClassVar[tuple[str, ...]] = ("labels", "system")
    committee: ClassVar[bool] = True

    def prepare(self, context: Context) -> _Prepared:
        """Cut the clusters and open the committee before a run exists."""
        from mlff.labels.duplicates import without_duplicates
        from mlff.labels.sampling import clusters_in

        committee = self._committee(context)
        with context.phase("clusters"):
            found = self._clusters(context)
            known = [cluster for name in self.known for cluster in clusters_in(Path(name).expanduser())]
            clusters, dropped = without_duplicates(found, self.duplicates_A, known)
        if not found:
            raise UserError(f"runner.clusters={show(self.clusters)}: no cluster in there")
        if not clusters:
            raise UserError("runner.known: holds every cluster that was found; nothing is left to label")
        return _Prepared(clusters, dropped, committee)

    def run(self, context: Context) -> dict[str, float]:
        """Choose, label, write, and return the key results."""
        p: _Prepared = context.prepared
        atoms = sum(map(len, p.clusters)) / len(p.clusters)
        context.progress.say(
            f"{len(p.clusters)} clusters of {atoms:.0f} atoms on average ({p.duplicates} duplicates dropped); "
            f"{context.labels.title}, dispersion: {context.labels.dispersion}"
        )
        if not (self.clusters or self.boxes):
            tell_composition(context, context.system)
        chosen, results = self._chosen(context, p)
        if chosen:
            labelled = self._label(context, chosen)
            results |= _told(context, labelled)
            _write(context, labelled, authors=self.authors_format)
        context.tracker.metrics(results)
        return results

    def _committee(self, context: Context) -> list[ForceField]:
        from runners.force_fields import read_committee

        if len(context.checkpoints) == 1:
            raise UserError(f"checkpoint={context.checkpoint}: one model cannot disagree; give two or more, or none")
        return [saved.model for saved in read_committee(context)]

    def _clusters(self, context: Context) -> list[Cluster]:
        from mlff.labels.sampling import boxes_in, clusters_in, packed_boxes, sample
        from mlff.streams import generator

        if self.clusters:
            return [cluster for name in self.clusters for cluster in clusters_in(Path(name).expanduser())]
        if self.boxes:
            sources = [box for name in self.boxes for box in boxes_in(Path(name).expanduser(), self.n_boxes)]
            if not sources:
                raise UserError(f"runner.boxes={show(self.boxes)}: no box in there to cut clusters from")
        else:
            sources = packed_boxes(context.system, self.n_boxes, context.seed)
        return sample(sources, self.n_clusters, self.cut, self.perturbation, generator(context.seed, "clusters"))

    def _chosen(self, context: Context, p: _Prepared) -> tuple[list[Cluster], dict[str, float]]:
        """All clusters, or those that the committee asks for."""
        from mlff.labels.committee import next_clusters
        from mlff.streams import generator

        if not p.committee:
            return p.clusters, {}
        with context.phase("committee", total=len(p.clusters), unit="clusters") as advance:
            rng = generator(context.seed, "committee")
            clusters, chosen = next_clusters(p.committee, p.clusters, self.choice, rng, advance)
        shares = f"certain of {100 * chosen.certain:.0f} %, lost on {100 * chosen.absurd:.0f} %"
        end = "it has seen enough: nothing is labelled" if chosen.stop else f"{len(clusters)} clusters are labelled"
        context.progress.say(f"the committee of {len(p.committee)} is {shares}; {end}")
        results = {"committee/certain": chosen.certain, "committee/absurd": chosen.absurd}
        return clusters, results | {"committee/chosen": float(len(clusters)), "committee/stop": float(chosen.stop)}

    def _label(self, context: Context, clusters: list[Cluster]) -> LabelledClusters:
        from mlff.labels.labelling import label

        # every label is named by its cluster: the folder is that of the method and of how it is used
        about = {"labels": context.config["labels"], "heat": None if self.heat is None else asdict(self.heat)}
        cache = Cache(context.home, cache_key("labels", about), about)
        with (
            cache.alone(context.progress.say),
            context.phase("labels", total=len(clusters), unit="clusters") as advance,
        ):
            return label(
                clusters,
                context.labels,
                cache.folder,
                limits=self.limits,
                heat=self.heat,
                workers=context.threads,
                seed=context.seed,
                resume=context.resume,
                progress=advance,
            )


def _told(context: Context, labelled: LabelledClusters) -> dict[str, float]:
    """Say what became of the clusters; the same as metrics."""
    counts = labelled.counts()
    context.progress.say(", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()))
    for composition, source, reason in labelled.failures[:TOLD]:
        context.progress.warn(f"no label for {composition} of {source}: {reason}")
    if len(labelled.failures) > TOLD:
        context.progress.warn(f"{len(labelled.failures) - TOLD} more failures are in failures.csv")
    results = {f"labels/{name}": float(n) for name, n in counts.items()}
    frames = labelled.kept + [one for one, _ in labelled.set_aside]
    if frames:
        results["labels/atoms"] = sum(len(one.cluster) for one in frames) / len(frames)
        results["cost/cpu_s_per_label"] = labelled.seconds / len(frames)
    return results


def _write(context: Context, labelled: LabelledClusters, *, authors: bool) -> None:
    """The frames, those set aside and the failures, in the run's folder and among its artifacts."""
    from mlff.labels.files import write_extxyz

    folder = context.output_dir / "labels"
    folder.mkdir(exist_ok=True)
    kept = [one.frame() for one in labelled.kept]
    said = {"dispersion": context.labels.dispersion, "method": context.labels.title}
    write_extxyz(kept, folder / "frames.xyz", notes=[one.notes for one in labelled.kept], **said)
    aside = [one.frame() for one, _ in labelled.set_aside]
    notes = [one.notes | {"reason": reason} for one, reason in labelled.set_aside]
    write_extxyz(aside, folder / "set_aside.xyz", notes=notes, **said)
    lines = [",".join(f'"{word}"' for word in row) for row in [("composition", "source", "reason"), *labelled.failures]]
    (folder / "failures.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if authors and kept:
        from mlff.authors_format import write_train_data

        write_train_data(kept, folder / "train_data.pt")
    context.tracker.artifact(folder, "labels")
    if kept:
        context.progress.say(f"to train on them: lsmrun model=mlff data=labelled data.train={folder / 'frames.xyz'}")
