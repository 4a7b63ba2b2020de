"""Align a force field's densities to measured ones: simulate, change the pressures it exerts, simulate again."""

from __future__ import annotations

from dataclasses import asdict, field
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.dynamics.relaxation import Relaxation
from runners.check import UserError
from runners.context import Subject
from runners.force_fields import (
    SavedForceField,
    choices_of,
    config_of,
    data_subject,
    frames_only,
    load_labels,
    log_labels,
    open_force_field,
    saved_data,
    write_force_field,
)
from runners.systems import Target, load_system, size_of, target_of, tell_composition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlff.datasets import LabelSet
    from runners.context import Context
    from runners.densities import Run
    from runners.rounds import Round

IMPATIENT = 2
"""Rounds in a row without a smaller mean error after which no more are made."""


@plain_dataclass(frozen=True)
class _Prepared:
    saved: SavedForceField
    labels: LabelSet
    aligned: list[Target]
    watched: list[Target]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Align:
    """`checkpoint=` names the model, `data=` labelled clusters that must stay right (else those that it learned)."""

    alignment: Any
    systems: Annotated[list[str], Field(description="options of system= or YAML files, aligned together")] = field(
        default_factory=list
    )
    watched: Annotated[list[str], Field(description="simulated before and after as well, but not aligned")] = field(
        default_factory=list
    )
    n_atoms: Annotated[int | None, Field(ge=1, description="atoms of a box; null = as the system says")] = None
    sizes: Annotated[list[str], Field(description="NAME=ATOMS for boxes of another size")] = field(default_factory=list)
    rounds: Annotated[int, Field(ge=1, le=20, description="most rounds of alignment")] = 4
    tolerance_g_cm3: Annotated[float, Field(ge=0, description="wide enough where the error bar is narrower")] = 0.0
    precision_g_cm3: Annotated[
        float,
        Field(gt=0, description="half a 95 % interval that the blocks of a density should say; runs go on until then"),
    ] = 0.01
    longest: Annotated[int, Field(ge=1, le=100, description="but at most this many times md.length_ps")] = 3
    replicas: Annotated[int, Field(ge=1, le=100, description="boxes of every liquid, packed independently")] = 1
    final_ps: Annotated[
        float | None,
        Field(gt=0, description="last runs with the kept model, which are reported; null = those of its round"),
    ] = None
    check_ps: Annotated[float, Field(gt=0, description="length of the runs that check the sign in the first round")] = (
        5.0
    )
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True
    relaxation: Relaxation = field(default_factory=Relaxation)

    needs: ClassVar[tuple[str, ...]] = ("data", "md")

    def prepare(self, context: Context) -> _Prepared:
        """Open model and labels, find the targets, before a run exists."""
        if context.md.ensemble not in ("npt", "npt_full"):
            raise UserError(f"md.ensemble={context.md.ensemble}: a density needs npt or npt_full")
        if context.md.temperature_K is not None:
            raise UserError("md.temperature_K: must be null; every liquid has the temperature of its measured density")
        if not self.systems:
            raise UserError("runner.systems: has no value; give runner.systems=[<option of system=>, ...]")
        parts = []
        for key, names in (("runner.systems", self.systems), ("runner.watched", self.watched)):
            sized = [(name, size_of(name, self.sizes, "runner.sizes", self.n_atoms)) for name in names]
            parts.append([target_of(load_system(name, key, atoms), key) for name, atoms in sized])
        doubled = {t.name for t in parts[0]} & {t.name for t in parts[1]}
        if doubled:
            raise UserError(f"runner.watched: {min(doubled)} is aligned as well")
        saved = open_force_field(context)
        data = frames_only(context, saved_data(context, saved))
        labels = load_labels(context, data, {"checkpoint": saved.dispersion})
        return _Prepared(saved, labels, *parts)

    def subject(self, context: Context) -> Subject:
        """The data are those of the checkpoint unless others are typed."""
        return data_subject(context, context.prepared.saved)

    def run(self, context: Context) -> dict[str, float]:
        """Rounds until every error bar covers its target, or no more help; the best round is kept."""
        import torch

        from runners.densities import Ask, Densities, Precision
        from runners.rounds import Rounds

        torch.set_num_threads(1)
        p: _Prepared = context.prepared
        log_labels(context, p.labels)
        _tell_targets(context, p)
        precision = Precision(self.precision_g_cm3, self.longest)
        runs = Densities(context, context.md, self.relaxation, precision, self.replicas)
        rounds = Rounds(context, self.alignment, p.labels, runs)
        model = p.saved.model
        everything = (*p.aligned, *p.watched)
        found = _by_name(everything, runs.all([Ask(t, model, "round 0") for t in everything]))
        done = [rounds.close(0, model, found, p.aligned)]
        while not self._enough(context, done, p.aligned):
            model = rounds.align(len(done), done[-1], done[-2] if len(done) > 1 else None, p.aligned)
            decided = len(done) > 1 or rounds.check_sign(p.aligned, done[0], model, self.check_ps)
            label = f"round {len(done)}"
            found = _by_name(p.aligned, runs.all([Ask(t, model, label, done[-1].runs[t.name]) for t in p.aligned]))
            if not decided:
                rounds.check_round(p.aligned, done[0], found)
            done.append(rounds.close(len(done), model, found, p.aligned))
        best = min(done, key=lambda r: r.error_g_cm3)
        return self._finish(context, p, rounds, done, best)

    def _enough(self, context: Context, done: list[Round], targets: list[Target]) -> bool:
        """The stop rule, told."""
        from mlff.alignment.pressure import covers

        last = done[-1]
        if all(covers(last.believed[t.name], t.density_g_cm3, self.tolerance_g_cm3) for t in targets):
            context.progress.say("every error bar covers its target")
            return True
        if len(done) > self.rounds:
            context.progress.say(f"stopped after runner.rounds={self.rounds}")
            return True
        best = min(range(len(done)), key=lambda k: done[k].error_g_cm3)
        if len(done) - 1 - best >= IMPATIENT:
            context.progress.say(f"the mean error has not fallen for {IMPATIENT} rounds")
            return True
        return False

    def _finish(self, context: Context, p: _Prepared, rounds: Any, done: list[Round], best: Round) -> dict[str, float]:
        """Simulate with the model that is kept what was only watched, or everything, report, write the model."""
        from runners.densities import Ask

        first = done[0]
        after: dict[str, Run] = {**first.runs, **best.runs}
        if best.index:  # else nothing has changed
            last = p.watched if self.final_ps is None else [*p.aligned, *p.watched]
            asks = [Ask(t, best.model, "after", after[t.name], self.final_ps) for t in last]
            after |= _by_name(last, rounds.runs.all(asks))
        made = config_of(context, p.saved), choices_of(context, p.saved)
        write_force_field(context.output_dir / "model", best.model, p.labels, *made)
        context.tracker.artifact(context.output_dir / "model", "model")
        results = _report(context, p, first, best, after)
        results |= rounds.errors(first.model, best.model)
        results |= {"alignment/rounds": float(len(done) - 1), "alignment/kept_round": float(best.index)}
        context.tracker.metrics(results)
        if self.pictures:
            from runners.plots.alignment import densities

            context.tracker.figure(densities(p.aligned, p.watched, done, after, best.index), "pictures/densities.png")
        rounds.clear()
        return results


def _by_name(targets: Sequence[Target], runs: Sequence[Run]) -> dict[str, Run]:
    return {t.name: run for t, run in zip(targets, runs, strict=True)}


def _tell_targets(context: Context, p: _Prepared) -> None:
    for target in (*p.aligned, *p.watched):
        what = "target" if target in p.aligned else "watched, not aligned"
        counts = ", ".join(f"{n} {species}" for species, n in target.system.counts().items())
        context.progress.say(
            f"{target.name}: {target.density_g_cm3:.4f} g/cm3 at {target.temperature_K:g} K ({target.source}); {what}; "
            f"box of {counts}"
        )
        system = target.system
        tell_composition(context, system, f"'runner.sizes=[\"{system.name}={{}}\"]'", f"{system.name}_")


def _report(context: Context, p: _Prepared, first: Round, best: Round, after: dict[str, Run]) -> dict[str, float]:
    """Densities before and after as metrics and as a table."""
    results: dict[str, float] = {}
    lines = ["system,aligned,temperature_K,measured_g_cm3,before_g_cm3,before_error,after_g_cm3,after_error,source"]
    for part, targets in (("density", p.aligned), ("watched", p.watched)):
        errors: tuple[list[float], list[float]] = ([], [])
        for t in targets:
            pair = (first.runs[t.name].measured, after[t.name].measured)
            values = []
            for when, m, gathered in zip(("before", "after"), pair, errors, strict=True):
                gathered.append(m.density_g_cm3 - t.density_g_cm3)
                results[f"{part}/{t.name}_{when}_g_cm3"] = m.density_g_cm3
                results[f"{part}/{t.name}_{when}_error_g_cm3"] = m.error_g_cm3
                values += [f"{m.density_g_cm3:.5f}", f"{m.error_g_cm3:.5f}"]
            row = [t.name, str(part == "density").lower(), f"{t.temperature_K:g}", f"{t.density_g_cm3:g}", *values]
            lines.append(",".join([*row, f'"{t.source}"']))
        for when, gathered in zip(("before", "after"), errors, strict=True):
            if gathered:
                results[f"{part}/mae_{when}_g_cm3"] = sum(map(abs, gathered)) / len(gathered)
    context.tracker.text("\n".join(lines) + "\n", "densities.csv")
    (context.output_dir / "densities.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    context.tracker.yaml({"targets": [_about(t) for t in (*p.aligned, *p.watched)]}, "targets.yaml")
    return results


def _about(target: Target) -> dict[str, Any]:
    return {k: v for k, v in asdict(target).items() if k != "system"} | {"name": target.name}
