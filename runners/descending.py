"""Training by gradients with its progress in MLflow: a killed one goes on where it was, a finished one is not repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.checkpoint import Arrays, Cache, cache_key, code_digest, read_arrays, write_arrays

if TYPE_CHECKING:
    from lsm.descent import Best, Callbacks
    from runners.context import Context

CODE = (
    "contrastive",
    "descent",
    "prototypes",
    "recurrent",
    "retrieval",
    "sources",
    "srnn",
    "streams",
    "supervised",
    "zero_shot",
)
"""Files whose change may change what a training comes to."""


Course = list[tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]]
"""Losses and scores of each epoch, by replica."""


@dataclass(frozen=True)
class Trained:
    """The best of each rule, and the course: `losses` and `scores[rule]`, each `(n_epochs, n_replicas)`."""

    best: dict[str, Best]
    losses: NDArray[np.float64]
    scores: dict[str, NDArray[np.float64]]


def descend(
    context: Context,
    phase: str,
    epochs: int,
    about: Mapping[str, Any],
    fit: Callable[[Callbacks], dict[str, Best]],
    log: str | None = None,
) -> Trained:
    """Run `fit(callbacks)`, from the cache as far as it goes; `about` is everything that determines its result.

    With `log` the means over replicas become the metrics `epoch/<log>...` of each epoch.
    """
    from lsm.descent import Callbacks

    full = {**about, "code": code_digest(*(f"lsm/{name}" for name in CODE))}
    cache = Cache(context.home, cache_key("heads", full), full)
    state_path, result_path = cache.folder / "state.npz", cache.folder / "result.npz"
    course: Course = []

    def tell(epoch: int, losses: NDArray[np.float64], scores: Mapping[str, NDArray[np.float64]]) -> None:
        if log is not None:
            values = {f"epoch/{log}train/loss": float(losses.mean())}
            values |= {f"epoch/{log}{rule}": float(score.mean()) for rule, score in scores.items()}
            context.tracker.metrics(values, step=epoch)

    def on_epoch(epoch: int, losses: NDArray[np.float64], scores: Mapping[str, NDArray[np.float64]]) -> None:
        course.append((losses, dict(scores)))
        tell(epoch, losses, scores)

    def save(arrays: Arrays) -> None:
        context.tracker.flush()
        write_arrays(state_path, arrays | _course(course))

    with cache.alone(context.progress.say), context.phase(phase, total=epochs, unit="epochs") as advance:
        result = read_arrays(result_path) if context.resume else None
        if result is not None:
            for epoch, row in enumerate(_rows(result), 1):
                tell(epoch, *row)
            advance(epochs)
            return _restored(result)
        state = read_arrays(state_path) if context.resume else None
        if state is not None:
            course += _rows(state)
            advance(len(course))
        best = fit(Callbacks(on_epoch, lambda done, total: advance(done, total), save, state))
        write_arrays(result_path, _stored(best) | _course(course))
        state_path.unlink(missing_ok=True)
    return _restored(read_arrays(result_path) or {})


def _course(course: Course) -> Arrays:
    rules = sorted(course[0][1]) if course else []
    arrays: Arrays = {"course/losses": np.array([losses for losses, _ in course])}
    return arrays | {f"course/scores/{rule}": np.array([scores[rule] for _, scores in course]) for rule in rules}


def _rows(arrays: Arrays) -> Course:
    losses, scores = _read_course(arrays)
    return [(row, {rule: values[k] for rule, values in scores.items()}) for k, row in enumerate(losses)]


def _read_course(arrays: Arrays) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    head = "course/scores/"
    return arrays["course/losses"], {k.removeprefix(head): v for k, v in arrays.items() if k.startswith(head)}


def _stored(best: Mapping[str, Best]) -> Arrays:
    arrays: Arrays = {}
    for rule, chosen in best.items():
        arrays |= {f"best|{rule}|epoch": chosen.epoch, f"best|{rule}|score": chosen.score}
        arrays |= {f"best|{rule}|value|{name}": tensor.detach().numpy() for name, tensor in chosen.variables.items()}
    return arrays


def _restored(arrays: Arrays) -> Trained:
    import torch

    from lsm.descent import Best

    best = {}
    for rule in sorted({name.split("|")[1] for name in arrays if name.startswith("best|")}):
        head = f"best|{rule}|"
        values = {k.removeprefix(f"{head}value|"): v for k, v in arrays.items() if k.startswith(f"{head}value|")}
        tensors = {name: torch.from_numpy(value) for name, value in values.items()}
        best[rule] = Best(tensors, arrays[f"{head}epoch"], arrays[f"{head}score"])
    return Trained(best, *_read_course(arrays))
