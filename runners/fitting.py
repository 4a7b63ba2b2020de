"""Fit a readout on cached spike counts, with its progress in MLflow, and score it; a killed fit goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.checkpoint import Cache, cache_key, fingerprint, read_arrays, write_arrays

if TYPE_CHECKING:
    from lsm.readout import Features, FittedReadout
    from runners.context import Context


def fit(
    context: Context,
    features: dict[str, Features],
    n_classes: int,
    phase: str,
    window: float = 1.0,
    chosen_by: str = "valid",
) -> tuple[FittedReadout, list[dict[str, float]]]:
    """Fit the readout on the training part, chosen by the validation part; survives a kill if the readout does.

    `window` is what turns a count into a rate, for readouts that ask for it. `chosen_by` names the part that stands in
    the place of validation, in the metrics of the epochs.
    """
    from lsm.readout import fit_readout

    contents = [fingerprint(features[part].counts, features[part].labels) for part in ("train", "valid")]
    about = {"readout": context.config["readout"], "features": contents, "seed": context.seed, "window": window}
    cache = Cache(context.home, cache_key("readout", about), about)
    path = cache.folder / "state.npz"
    history: dict[int, dict[str, float]] = {}
    main = phase == "readout"

    def on_epoch(epoch: int, values: dict[str, float]) -> None:
        history[epoch] = values
        if main:
            told = {f"epoch/{name.replace('valid/', f'{chosen_by}/')}": value for name, value in values.items()}
            context.tracker.metrics(told, step=epoch)

    def save(state: dict[str, NDArray[Any]]) -> None:
        context.tracker.flush()
        names = sorted({name for values in history.values() for name in values})
        table = np.array([[e, *(history[e].get(n, np.nan) for n in names)] for e in sorted(history)])
        write_arrays(path, state | {"history": table, "history_names": np.array(names, dtype=np.str_)})

    with cache.alone(context.progress.say), context.phase(phase, unit="epochs") as advance:
        state = read_arrays(path) if context.resume else None
        if state is not None:
            table, names = state.pop("history"), state.pop("history_names")
            history = {int(row[0]): dict(zip(names.tolist(), map(float, row[1:]), strict=True)) for row in table}
        fitted = fit_readout(
            context.readout, features["train"], features["valid"], n_classes, context.seed, threads=context.threads,
            on_epoch=on_epoch, progress=advance, save=save, state=state,
            window=window,
        )  # fmt: skip
        path.unlink(missing_ok=True)
    return fitted, [history[epoch] for epoch in sorted(history)]


def features_of(counts: NDArray[Any], labels: NDArray[np.int64]) -> Features:
    """`lsm.readout.Features`, for modules that import nothing heavy before they run."""
    from lsm.readout import Features

    return Features(counts, labels)


def score(fitted: FittedReadout, features: dict[str, Features], n_classes: int) -> dict[str, float]:
    """Metrics of a fitted readout: its accuracy on every part, and what guessing gives."""
    from lsm.statistics import accuracy, chance_level

    test = features["test"]
    right = accuracy(test.labels, fitted.predict(test.counts))
    return {
        "test/accuracy": right.value,
        "test/standard_error": right.standard_error,
        "valid/accuracy": fitted.valid_accuracy,
        "train/accuracy": fitted.accuracy(features["train"]),
        "readout/epoch": float(fitted.epoch),
        "baseline/chance_accuracy": chance_level(features["train"].labels, n_classes).uniform,
    }
