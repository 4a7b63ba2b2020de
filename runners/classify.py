"""Train and test a liquid on labelled samples: INIT, RUN of every split, readout, controls, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.fitting import features_of, fit, score
from runners.liquids import (
    evenly,
    load_dataset,
    log_dataset,
    parts_of,
    raw_counts,
    record_test,
    trained_network,
    warn_if_useless,
)
from runners.network import Network

if TYPE_CHECKING:
    from lsm.encode import Dataset
    from lsm.readout import Features, FittedReadout
    from runners.checkpoint import CountStore
    from runners.context import Context

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Classify:
    """Settings of the runner; the numbers of samples are taken evenly from the test split."""

    branching_samples: Annotated[Count, Field(description="test samples recorded for the branching factor")] = 20
    raw_control: Annotated[bool, Field(description="fit the same readout on raw input counts, too")] = True
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True
    save_counts: Annotated[bool, Field(description="store spike counts and labels of all splits as npz")] = False
    save_rasters: Annotated[Count, Field(description="test samples whose spikes are stored as npz")] = 0

    needs: ClassVar[tuple[str, ...]] = ("model", "data", "readout")
    reads_checkpoint: ClassVar[bool] = False
    chosen_by: ClassVar[str] = "valid"
    """Part whose accuracy chooses the epoch of a readout."""

    def prepare(self, context: Context) -> Dataset:
        """Load the data before a run exists."""
        return load_dataset(context, self.chosen_by)

    def run(self, context: Context) -> dict[str, float]:
        """Do everything and return the key results."""
        dataset: Dataset = context.prepared
        log_dataset(context, dataset)
        network = trained_network(context, context.model, dataset, context.seed)
        stores = {part: network.counts(context, part, split.inputs) for part, split in parts_of(dataset).items()}
        self._log_liquid(context, network, stores)
        features = {part: features_of(stores[part].counts, split.labels) for part, split in parts_of(dataset).items()}
        fitted, history = self._fit(context, features, len(dataset.class_names), "readout", network.window)
        results = self._score(context, dataset, features, fitted)
        results |= network.measure(context, dataset, stores)
        if self.raw_control:
            results |= self._raw_control(context, dataset, network.window)
        results |= self._record(context, dataset, network)
        context.tracker.metrics(results)
        save_model(context, dataset, network, fitted)
        if self.save_counts:
            _save_counts(context, features)
        if self.pictures:
            _draw(context, dataset, network, features["test"], fitted, history)
        return {name: results[name] for name in KEY_RESULTS if name in results}

    def _fit(
        self, context: Context, features: dict[str, Features], n_classes: int, phase: str, window: float
    ) -> tuple[FittedReadout, list[dict[str, float]]]:
        parts = {"train": features["train"], "valid": features[self.chosen_by]}
        return fit(context, parts, n_classes, phase, window, self.chosen_by)

    def _log_liquid(self, context: Context, network: Network, stores: dict[str, CountStore]) -> None:
        for part, store in stores.items():
            values = network.activity(store)
            context.tracker.metrics(
                values if part == "test" else {f"{name}_{part}": value for name, value in values.items()}
            )
        warn_if_useless(context, network, network.activity(stores["test"]), len(stores["test"].counts))
        seconds = {"cost/init_s": network.init_s, "cost/run_s": sum(store.seconds for store in stores.values())}
        context.tracker.metrics(seconds)

    def _score(
        self, context: Context, dataset: Dataset, features: dict[str, Features], fitted: FittedReadout
    ) -> dict[str, float]:
        from lsm.statistics import chance_level

        n_classes = len(dataset.class_names)
        largest = chance_level(dataset.train.labels, n_classes).largest_class
        return score(fitted, features, n_classes) | {"baseline/largest_class_accuracy": largest}

    def _raw_control(self, context: Context, dataset: Dataset, window: float) -> dict[str, float]:
        features = {
            part: features_of(raw_counts(context, dataset, part, split.inputs), split.labels)
            for part, split in parts_of(dataset).items()
        }
        fitted, _ = self._fit(context, features, len(dataset.class_names), "raw readout", window)
        return {
            "baseline/raw_counts_accuracy": fitted.accuracy(features["test"]),
            "baseline/raw_counts_valid_accuracy": fitted.valid_accuracy,
        }

    def _record(self, context: Context, dataset: Dataset, network: Network) -> dict[str, float]:
        """Branching factor of evenly spaced test samples; their rasters are stored on request."""
        from lsm.criticality import branching_factor

        values = []
        connections, steady = network.connections(), network.clock.steady
        with context.phase("branching factor", total=self.branching_samples, unit="samples") as advance:
            for k, sample in enumerate(evenly(len(dataset.test), self.branching_samples)):
                values.append(branching_factor(record_test(network, dataset, sample).spikes, connections, *steady))
                advance(k + 1)
        for sample in evenly(len(dataset.test), self.save_rasters):
            recording = record_test(network, dataset, sample)
            _store_npz(context, f"rasters/test-{sample}.npz", {**vars(recording), "label": dataset.test.labels[sample]})
        finite = [v for v in values if np.isfinite(v)]
        return {"liquid/branching_factor": float(np.mean(finite))} if finite else {}


KEY_RESULTS = (
    "test/accuracy",
    "published/test_accuracy",
    "test/standard_error",
    "valid/accuracy",
    "baseline/raw_counts_accuracy",
    "baseline/chance_accuracy",
    "liquid/branching_factor",
)


def save_model(context: Context, dataset: Dataset, network: Network, fitted: FittedReadout) -> None:
    """Store the model among the run's artifacts; a readout that cannot be saved is told, not silently left out."""
    from runners.models import write_model

    folder = context.output_dir / "model"
    try:
        write_model(folder, context, dataset, network, fitted)
    except ValueError as error:
        context.progress.warn(f"the model is not saved: {error}")
        return
    context.tracker.artifact(folder, "model")


def _save_counts(context: Context, features: dict[str, Features]) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for part, (counts, labels) in features.items():
        arrays |= {f"{part}_counts": np.asarray(counts), f"{part}_labels": labels}
    _store_npz(context, "counts.npz", arrays)


def _store_npz(context: Context, name: str, arrays: dict[str, Any]) -> None:
    path = context.output_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    context.tracker.artifact(path, str(path.parent.relative_to(context.output_dir)).replace(".", ""))


def _draw(
    context: Context,
    dataset: Dataset,
    network: Network,
    test: Features,
    fitted: FittedReadout,
    history: list[dict[str, float]],
) -> None:
    from lsm.statistics import confusion_matrix
    from runners.plots import networks as plots

    with context.phase("pictures"):
        recording = record_test(network, dataset, 0)
        label = dataset.class_names[int(test.labels[0])]
        title = f"{context.choices.get('model', '')} on {dataset.name}: test sample 0, class {label}"
        for name, figure in network.figures(recording, title).items():
            context.tracker.figure(figure, f"pictures/{name}.png")
        matrix = confusion_matrix(test.labels, fitted.predict(test.counts), len(dataset.class_names))
        context.tracker.figure(plots.confusion(matrix, dataset.class_names, "test"), "pictures/confusion.png")
        if history:
            chance = 1 / len(dataset.class_names)
            context.tracker.figure(plots.learning_curve(history, fitted.epoch, chance), "pictures/learning.png")
