"""Several force fields to one: a student learns what they say of liquids on the average, and the labels of clusters."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.checkpoint import Cache, Throttle, cache_key, code_digest, read_arrays, write_arrays
from runners.context import Subject
from runners.force_fields import (
    SavedForceField,
    choices_of,
    config_of,
    data_subject,
    frames_only,
    load_labels,
    log_labels,
    own_split,
    read_committee,
    record_errors,
    saved_data,
    write_force_field,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlff.datasets import LabelSet
    from mlff.distillation import Distillation, Sorted
    from mlff.distiller import Distiller
    from mlff.frames import Configuration
    from mlff.model import ForceField
    from mlff.opinions import Opinions
    from mlff.training.losses import Weights
    from runners.context import Context

LEAST = 3


@plain_dataclass(frozen=True)
class Prepared:
    """Models, their labels, and frames of liquids with the name of each."""

    members: list[SavedForceField]
    labels: list[LabelSet]
    """The same frames for each member, divided as it was trained with."""
    frames: list[Configuration]
    names: list[str]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Distill:
    """`checkpoint=[a,b,c]` names the members, `data=` the labelled clusters (else those the first one learned)."""

    distillation: Any
    trajectories: Annotated[list[str], Field(description="H5MD files of liquids, from runner=md")] = field(
        default_factory=list
    )
    skip_ps: Annotated[float, Field(ge=0, description="left out at the start of each trajectory")] = 0.0
    stable_ps: Annotated[float, Field(ge=0, description="how long members and student are tried in MD; 0 = not")] = 5.0
    stable_K: Annotated[float, Field(gt=0, le=3000, description="temperature of that trial")] = 500.0
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True

    needs: ClassVar[tuple[str, ...]] = ("data",)
    committee: ClassVar[bool] = True

    def prepare(self, context: Context) -> Prepared:
        """Open models, labels and trajectories before a run exists."""
        from mlff.alignment.liquid_frames import configurations, liquid_name
        from mlff.dynamics.trajectory import read_trajectory

        members = open_members(context)
        if not self.trajectories:
            raise UserError(
                "runner.trajectories: has no value; give runner.trajectories=[<H5MD file of runner=md>, ...]"
            )
        frames: list[Configuration] = []
        names: list[str] = []
        for path in self.trajectories:
            trajectory = read_trajectory(path)
            found = configurations(trajectory, self.distillation.frames, self.skip_ps)
            frames, names = frames + found, names + [liquid_name(trajectory)] * len(found)
        for name in set(names):
            if names.count(name) < 3:
                raise UserError(f"runner.trajectories: {names.count(name)} frames of {name}, at least 3 are needed")
        return Prepared(members, self._labels(context, members), frames, names)

    def _labels(self, context: Context, members: list[SavedForceField]) -> list[LabelSet]:
        first = frames_only(context, saved_data(context, members[0]))
        divided = [first, *(own_split(replace(first, split_seed=None), m) for m in members[1:])]
        learned = {m.path.parent.name: m.dispersion for m in members}
        by_seed = {d.split_seed: d for d in divided}
        loaded = {seed: load_labels(context, data, learned) for seed, data in by_seed.items()}
        for labels in loaded.values():
            check_weights(self.distillation, labels, [m.model for m in members], context.overrides)
        return [loaded[d.split_seed] for d in divided]

    def subject(self, context: Context) -> Subject:
        """The data are those of the checkpoint unless others are typed."""
        return data_subject(context, context.prepared.members[0])

    def run(self, context: Context) -> dict[str, float]:
        """Do everything and return the key results."""
        import torch

        torch.set_num_threads(1)
        p: Prepared = context.prepared
        models = [member.model for member in p.members]
        base, results = best_member(context, models, p.labels)
        labels = p.labels[base]
        log_labels(context, labels)
        opinions, liquids, found = _asked(context, models, base, p, self.distillation)
        results |= found
        student = taught(context, models[base], liquids, labels, self.distillation)
        made = config_of(context, p.members[0]), choices_of(context, p.members[0])
        write_force_field(context.output_dir / "model", student, labels, *made)
        context.tracker.artifact(context.output_dir / "model", "model")
        results |= _gain(context, models, base, student, opinions, p.names, labels, pictures=self.pictures)
        if self.stable_ps:
            results |= _stability(context, {"student": student, "best_member": models[base]}, p, self)
        context.tracker.metrics(results)
        return {name: results[name] for name in SHOWN if name in results}


def open_members(context: Context) -> list[SavedForceField]:
    """The models of `checkpoint=[a,b,c]`; raises `UserError` where there are fewer than three."""
    names = context.checkpoints
    if len(names) < LEAST:
        raise UserError(
            f"checkpoint={context.config['checkpoint'] or 'null'}: runner={context.choices.get('runner')} needs at least "
            f"{LEAST} models: checkpoint=[a,b,c]"
        )
    return read_committee(context)


SHOWN = (
    "forces/mae_meV_per_A",
    "best_member/forces_mae_meV_per_A",
    "energy/mae_meV_per_atom",
    "best_member/energy_mae_meV_per_atom",
    "committee/spread_kcal_mol_A",
    "committee/offset_kcal_mol_atom",
    "committee/rejected_frames",
    "student/from_mean_kcal_mol_A",
    "best_member/from_mean_kcal_mol_A",
    "student/stable_ps",
    "best_member/stable_ps",
)


def best_member(context: Context, models: list[ForceField], labels: list[LabelSet]) -> tuple[int, dict[str, float]]:
    """The member with the smallest force error on its own validation clusters (training ones where there are none)."""
    from mlff.scores import compare

    errors = []
    with context.phase("members", total=len(models), unit="models") as advance:
        for k, (model, own) in enumerate(zip(models, labels, strict=True)):
            frames = own.valid or own.train
            errors.append(compare(model, frames, own.dispersion).errors()["forces/mae_meV_per_A"])
            advance(k + 1)
    base = errors.index(min(errors))
    told = ", ".join(f"{e:.1f}" for e in errors)
    context.progress.say(
        f"force MAE of the members on validation clusters, meV/Å: {told}; the student starts as {base}"
    )
    return base, {f"member/{k}/valid_forces_mae_meV_per_A": e for k, e in enumerate(errors)}


def usable_weights(d: Distillation, labels: LabelSet, models: Sequence[ForceField]) -> Weights:
    """Weights of the clusters' labels that the set has and the models predict; the others are null."""
    from mlff.training.losses import Weights

    return Weights(**{name: w for name, w in d.clusters.given().items() if not _lacking(name, labels, models)})


def check_weights(d: Distillation, labels: LabelSet, models: Sequence[ForceField], overrides: Sequence[str]) -> None:
    """Raise `UserError` for a typed weight above zero on a label that the set lacks, or that the models do not predict."""
    for name, weight in d.clusters.given().items():
        key = f"distillation.clusters.{name}"
        if not weight or not any(o.lstrip("+").startswith(f"{key}=") for o in overrides):
            continue
        if lacking := _lacking(name, labels, models):
            raise UserError(f"{key}={weight:g}: {lacking} (labels: {', '.join(labels.labels)})")


def _lacking(term: str, labels: LabelSet, models: Sequence[ForceField]) -> str:
    """Why clusters cannot teach this term of the loss; empty where they can."""
    from mlff.training.trainable import has_molecules, label_of, why_no_molecules

    if label_of(term) not in labels.labels:
        return f"{labels.name} has no label {label_of(term)}"
    if term in ("charges", "dipole") and any(m.charge is None for m in models):
        return "the models have no charges"
    together = [m.parameters_of for m in models if not has_molecules(labels, m.parameters_of)]
    if term == "net_forces" and together:
        return why_no_molecules(labels, together[0])
    return ""


def _asked(
    context: Context, models: list[ForceField], base: int, p: Prepared, d: Distillation
) -> tuple[list[Opinions], Sorted, dict[str, float]]:
    """What the members say of the liquids, energies without offsets, and frames weighed by their disagreement."""
    import numpy as np

    from mlff.distillation import sort_by_spread
    from mlff.opinions import ask, offsets, without_offsets

    with context.phase("committee", total=len(p.frames), unit="frames") as advance:
        opinions = ask(models, p.frames, threads=context.threads, progress=advance)
    away = float(np.abs(offsets(opinions, base)).max())
    if d.remove_offsets:
        opinions = without_offsets(opinions, base)
    liquids = sort_by_spread(opinions, p.names, d)
    spread = float(np.sqrt(np.mean(np.concatenate([o.spread for o in opinions]) ** 2)))
    verb = {"weight": "halves an atom's weight", "reject": "rejects a frame", "none": "has no effect"}[d.spread]
    context.progress.say(
        f"{len(p.frames)} frames of {', '.join(dict.fromkeys(p.names))}: forces of the members spread by {spread:.3g} "
        f"kcal/mol/Å (rms); a spread of {liquids.limit_kcal_mol_A:.3g} {verb}; {liquids.rejected} rejected"
    )
    return (
        opinions,
        liquids,
        {
            "committee/spread_kcal_mol_A": spread,
            "committee/offset_kcal_mol_atom": away,
            "committee/rejected_frames": float(liquids.rejected),
        },
    )


def taught(context: Context, model: ForceField, liquids: Sorted, labels: LabelSet, d: Distillation) -> ForceField:
    """The student at the end of its lessons; a killed run goes on where it was."""
    from mlff.distiller import Distiller, lessons

    d = replace(d, clusters=usable_weights(d, labels, [model]))
    with context.phase("lessons"):
        made = lessons(model, liquids, labels.train, labels.valid, labels.dispersion, d)
    distiller = Distiller(made, d, context.seed, context.threads)
    about = {k: context.config.get(k) for k in ("runner", "data", "distillation", "checkpoint")}
    about |= {"seed": context.seed, "labels": dict(labels.checksums), "weights": _digest(model, liquids)}
    about |= {"code": code_digest("mlff/**/*")}
    cache = Cache(context.home, cache_key("distillation", about), about)
    path, throttle = cache.folder / "state.npz", Throttle()
    with cache.alone(context.progress.say):
        saved = read_arrays(path) if context.resume else None
        if saved is not None:
            distiller.restore(saved)
        student = _run(context, distiller, path, throttle)
        path.unlink(missing_ok=True)
    return student


def _run(context: Context, distiller: Distiller, path: Path, throttle: Throttle) -> ForceField:
    def on_epoch(epoch: int, values: dict[str, float]) -> None:
        context.tracker.metrics({f"epoch/{name}": value for name, value in values.items()}, step=epoch)

    def save(state: Any) -> None:
        if throttle.ready():
            context.tracker.flush()
            write_arrays(path, state())

    total = distiller.options.epochs * len(distiller.lessons.taught)
    with context.phase("distillation", total=total, unit="steps") as advance:
        student = distiller.run(on_epoch=on_epoch, progress=advance, save=save)
    context.progress.say(f"kept the weights after epoch {distiller.best_epoch} of {distiller.options.epochs}")
    return student


def _digest(model: ForceField, liquids: Sorted) -> str:
    from runners.checkpoint import fingerprint

    weights = [v.detach().cpu().numpy() for v in model.state_dict().values()]
    return fingerprint(*weights, *(o.forces for o in liquids.opinions))


def _gain(
    context: Context,
    models: list[ForceField],
    base: int,
    student: ForceField,
    opinions: list[Opinions],
    names: list[str],
    labels: LabelSet,
    *,
    pictures: bool,
) -> dict[str, float]:
    """Errors on held-out clusters and distance from the committee's mean on liquids, beside the best member's."""
    import numpy as np

    from mlff.distillation import held_out
    from mlff.opinions import ask
    from mlff.scores import compare

    part = "test" if labels.test else "valid" if labels.valid else "train"
    frames = getattr(labels, part)
    context.tracker.tags({"lsmrun.scored_on": part})
    with context.phase(f"errors on {part}", total=len(frames), unit="frames") as advance:
        compared = compare(student, frames, labels.dispersion, advance)
    results = record_errors(context, compared, part, pictures=pictures)
    best = compare(models[base], frames, labels.dispersion).errors()
    results |= {f"best_member/{name.replace('/', '_')}": value for name, value in best.items()}
    held = [k for k, out in enumerate(held_out(names)) if out]
    said = ask([student], [opinions[k].configuration for k in held], threads=context.threads)

    def away(forces: list[Any]) -> float:
        gaps = [f - opinions[k].forces.mean(axis=0) for f, k in zip(forces, held, strict=True)]
        return float(np.sqrt(np.mean(np.concatenate(gaps) ** 2) * 3))

    results["student/from_mean_kcal_mol_A"] = away([o.forces[0] for o in said])
    results["best_member/from_mean_kcal_mol_A"] = away([opinions[k].forces[base] for k in held])
    return results


def _stability(context: Context, models: dict[str, ForceField], p: Prepared, runner: Distill) -> dict[str, float]:
    """Least time over the liquids that each model's dynamics holds out at a high temperature."""
    from mlff.dynamics.stability import stable_ps

    starts = {name: p.frames[p.names.index(name)] for name in dict.fromkeys(p.names)}
    results = {}
    with context.phase("stability", total=len(starts) * len(models), unit="runs") as advance:
        done = 0
        for which, model in models.items():
            times = []
            for start in starts.values():
                times.append(
                    stable_ps(model, start, runner.stable_ps, runner.stable_K, context.seed, threads=context.threads)
                )
                done += 1
                advance(done)
            results[f"{which}/stable_ps"] = min(times)
    return results
