"""What a search found, in its parent run: best values, table of trials, course and importance."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from runners.sweeps.space import Space
from runners.tracking import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from runners.sweeps.search import SearchSettings


def tell_trial(study: Study, number: int, metric: str, tracker: Tracker | None) -> None:
    """One line about a trial that ended, and its value in the parent run."""
    trial, best = study.get_trials(deepcopy=False)[number], best_trial(study)
    if trial.state != TrialState.COMPLETE or trial.value is None or best is None or best.value is None:
        print(f"trial {number}: {'pruned' if trial.state == TrialState.PRUNED else 'failed'}", flush=True)
        return
    print(f"trial {number}: {metric} {trial.value:.6g} (best {best.value:.6g}, trial {best.number})", flush=True)
    if tracker:
        tracker.metrics({"search/value": trial.value, "search/best": best.value}, step=number)


def best_trial(study: Study) -> FrozenTrial | None:
    """The complete trial with the best value; None before the first."""
    complete = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.value is not None]
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    return max(complete, key=lambda t: sign * float(t.value or 0), default=None)


def report_search(
    study: Study, settings: SearchSettings, space: Space, shared: Sequence[str], tracker: Tracker
) -> None:
    """Write everything that is known so far to the parent run."""
    trials = study.get_trials(deepcopy=False)
    tracker.text(trials_table(trials, list(space)), "trials.csv")
    if (best := best_trial(study)) is None:
        return
    found = [space[key].override(value) for key, value in best.params.items()]
    about: dict[str, Any] = {"study": study.study_name, "metric": settings.metric, "value": best.value}
    command = " ".join(["lsmrun", *shared, *found])
    tracker.yaml(about | {"trial": best.number, "params": best.params, "command": command}, "best.yaml")
    tracker.tags({"lsmrun.best": " ".join(found), "lsmrun.best.value": best.value, "lsmrun.best.trial": best.number})
    tracker.figure(history_plot(study, settings.metric), "pictures/history.png")
    if (importance := importances(study)) is not None:
        tracker.figure(importance_plot(importance, settings.metric), "pictures/importance.png")
        tracker.metrics({f"importance/{key}": value for key, value in importance.items()}, step=len(trials))


def trials_table(trials: Sequence[FrozenTrial], keys: Sequence[str]) -> str:
    """All trials as CSV: number, state, value, the keys of the space, seconds."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "value", *keys, "seconds"])
    for t in trials:
        state = "interrupted" if t.user_attrs.get("interrupted") else t.state.name.lower()
        seconds = f"{t.duration.total_seconds():.3f}" if t.duration else ""
        value = "" if t.value is None else t.value
        rows.writerow([t.number, state, value, *(t.params.get(key, "") for key in keys), seconds])
    return text.getvalue()


def importances(study: Study) -> dict[str, float] | None:
    """Share of each key in the variance of the values (fANOVA: Hutter et al. 2014); None where nothing can be told."""
    if len({t.value for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        try:
            return {k: float(v) for k, v in optuna.importance.get_param_importances(study, evaluator=evaluator).items()}
        except (ValueError, RuntimeError):  # all trials at one point of the space
            return None


def history_plot(study: Study, metric: str) -> Figure:
    """Value of each trial and the best so far; pruned trials where they were left."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 3.5))
    axes = figure.add_subplot()
    trials = study.get_trials(deepcopy=False)
    complete = [(t.number, t.value) for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    pruned = [(t.number, t.value) for t in trials if t.state == TrialState.PRUNED and t.value is not None]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color="0.6", label="pruned")
    numbers, values = (np.array(v, dtype=float) for v in zip(*complete, strict=True))
    best = np.maximum if study.direction == StudyDirection.MAXIMIZE else np.minimum
    axes.plot(numbers, values, "o", ms=4, label="trial")
    axes.step(numbers, best.accumulate(values), where="post", color="C1", label="best so far")
    axes.set(xlabel="trial", ylabel=metric, title=study.study_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def importance_plot(importance: dict[str, float], metric: str) -> Figure:
    """Share of each key, the largest on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 1 + 0.4 * len(importance)))
    axes = figure.add_subplot()
    ordered = sorted(importance.items(), key=lambda item: item[1])
    axes.barh([key for key, _ in ordered], [value for _, value in ordered])
    axes.set(xlabel=f"share of the variance of {metric}", xlim=(0, 1))
    return figure
