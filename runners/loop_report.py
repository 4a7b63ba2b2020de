"""What the loop came to: learning curve, densities before and after, cost of every stage; figures, tables, pictures."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runners.context import Context
    from runners.loop import Loop, Made
    from runners.loop_stages import LoopStages

FORCES = "forces/mae_meV_per_A"


def report(context: Context, loop: Loop, stages: LoopStages, made: Made) -> dict[str, float]:
    """Key results of the whole; tables and pictures among the run's artifacts and in the loop's folder."""
    errors = [[r[FORCES] for r in members] for members in made.errors]
    results = {"loop/labels": float(made.frames[-1])}
    for index, members in enumerate(errors):
        results[f"loop/members_forces_mae_meV_per_A_round_{index}"] = sum(members) / len(members)
    shown = (FORCES, "best_member/forces_mae_meV_per_A", "student/stable_ps", "best_member/stable_ps")
    results |= {f"student/{name.replace('/', '_')}": made.distilled[name] for name in shown if name in made.distilled}
    results |= {k: v for k, v in made.aligned.items() if k.startswith(("density/", "watched/", "alignment/"))}
    results["aligned/forces_mae_meV_per_A"] = made.aligned[FORCES]
    seconds = stages.stages.seconds
    results["loop/hours"] = sum(seconds.values()) / 3600
    _tables(context, stages, made, errors, seconds)
    if made.model is not None:
        context.tracker.artifact(made.model, "model")
        context.progress.say(f"the aligned force field: {made.model}")
    if loop.pictures:
        _pictures(context, stages, made, errors, seconds)
    return results


def kinds(seconds: dict[str, float]) -> dict[str, float]:
    """Seconds by kind of stage: `label`, `train`, `md`, `distill`, `align`."""
    total: dict[str, float] = {}
    for name, spent in seconds.items():
        kind = name.partition("-")[0]
        total[kind] = total.get(kind, 0.0) + spent
    return total


def _tables(
    context: Context, stages: LoopStages, made: Made, errors: list[list[float]], seconds: dict[str, float]
) -> None:
    curve = ["round,labels,member,forces_mae_meV_per_A"]
    for index, (n, members) in enumerate(zip(made.frames, errors, strict=True)):
        curve += [f"{index},{n},{member},{error:.6g}" for member, error in enumerate(members)]
    cost = ["stage,seconds", *(f"{name},{spent:.1f}" for name, spent in seconds.items())]
    tables = {"learning_curve.csv": "\n".join(curve) + "\n", "cost.csv": "\n".join(cost) + "\n"}
    if made.densities is not None:
        tables["densities.csv"] = made.densities.read_text(encoding="utf-8")
    for name, text in tables.items():
        (stages.folder / name).write_text(text, encoding="utf-8")
        context.tracker.text(text, name)


def _pictures(
    context: Context, stages: LoopStages, made: Made, errors: list[list[float]], seconds: dict[str, float]
) -> None:
    from runners.plots import loop as loop_plots

    figures = {
        "learning_curve": loop_plots.learning_curve(made.frames, errors, made.distilled.get(FORCES)),
        "cost": loop_plots.cost(kinds(seconds)),
    }
    if made.densities is not None:
        with made.densities.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        figures["densities"] = loop_plots.densities(rows)
    for name, figure in figures.items():
        figure.savefig(stages.folder / f"{name}.png", bbox_inches="tight")
        context.tracker.figure(figure, f"pictures/{name}.png")
