"""k-fold cross-validation of a liquid beside the raw-count control, with a paired test: for sets too small for one split."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.fitting import features_of, fit
from runners.liquids import PARTS, load_dataset, log_dataset, raw_counts, trained_network

if TYPE_CHECKING:
    from lsm.encode import Dataset, Split
    from runners.context import Context

METHODS = ("liquid", "raw")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class CrossValidate:
    """In each of `folds` rounds one fold is tested, the next one chooses the readout, the others train liquid and readout."""

    folds: Annotated[int, Field(ge=3, le=100, description="parts, each of which is tested once")] = 10

    needs: ClassVar[tuple[str, ...]] = ("model", "data", "readout")
    reads_checkpoint: ClassVar[bool] = False

    def prepare(self, context: Context) -> Dataset:
        """Load the data before a run exists; all splits are pooled."""
        dataset = load_dataset(context)
        labels = np.concatenate([getattr(dataset, part).labels for part in PARTS])
        smallest = int(np.bincount(labels, minlength=len(dataset.class_names)).min())
        if smallest < self.folds:
            raise UserError(f"runner.folds={self.folds}: the smallest class of {dataset.name} has {smallest} samples")
        return dataset

    def run(self, context: Context) -> dict[str, float]:
        """Test every sample once, by a network that has not seen it."""
        from lsm.encode import Split, concatenate
        from lsm.statistics import stratified_folds

        dataset: Dataset = context.prepared
        log_dataset(context, dataset)
        splits: list[Split] = [getattr(dataset, part) for part in PARTS]
        pool = Split(concatenate([s.inputs for s in splits]), np.concatenate([s.labels for s in splits]))
        folds = stratified_folds(pool.labels, self.folds, context.seed)
        predicted = {method: np.full(len(pool), -1) for method in METHODS}
        for k in range(self.folds):
            context.progress.say(f"fold {k + 1} of {self.folds}")
            for method, labels in self._fold(context, dataset, pool, folds, k).items():
                predicted[method][folds[k]] = labels
                share = float(np.mean(labels == pool.labels[folds[k]]))
                context.tracker.metrics({f"fold/{method}_accuracy": share}, step=k + 1)
        return self._summarise(context, dataset, pool.labels, predicted, folds)

    def _fold(
        self, context: Context, dataset: Dataset, pool: Split, folds: list[NDArray[np.int64]], k: int
    ) -> dict[str, NDArray[np.int64]]:
        from lsm.encode import Split

        after = (k + 1) % self.folds
        others = [folds[f] for f in range(self.folds) if f not in (k, after)]
        index = {"train": np.sort(np.concatenate(others)), "valid": folds[after], "test": folds[k]}
        split = {part: Split(pool.inputs.take(at), pool.labels[at]) for part, at in index.items()}
        seen = dataclasses.replace(dataset, train=split["train"], valid=split["valid"], test=split["test"])
        network = trained_network(context, context.model, seen, context.seed)
        predicted = {}
        for method in METHODS:
            features = {}
            for part in PARTS:
                inputs, name = split[part].inputs, f"fold{k}-{part}"
                counts: NDArray[np.uint16] = (
                    network.counts(context, name, inputs).counts
                    if method == "liquid"
                    else raw_counts(context, dataset, name, inputs)
                )
                features[part] = features_of(counts, split[part].labels)
            fitted, _ = fit(context, features, len(dataset.class_names), f"{method} readout", network.window)
            predicted[method] = fitted.predict(features["test"].counts)
        return predicted

    def _summarise(
        self,
        context: Context,
        dataset: Dataset,
        labels: NDArray[np.int64],
        predicted: dict[str, NDArray[np.int64]],
        folds: list[NDArray[np.int64]],
    ) -> dict[str, float]:
        from lsm.statistics import accuracy, chance_level, confusion_matrix, mcnemar
        from runners.plots import networks as plots

        paired = mcnemar(labels, predicted["liquid"], predicted["raw"])
        results: dict[str, float] = {}
        for method, prefix in zip(METHODS, ("test/accuracy", "baseline/raw_counts_accuracy"), strict=True):
            right = accuracy(labels, predicted[method])
            per_fold = [float(np.mean(predicted[method][f] == labels[f])) for f in folds]
            results |= {prefix: right.value, f"{prefix}_standard_error": right.standard_error}
            results[f"{prefix}_fold_std"] = float(np.std(per_fold, ddof=1))
        results |= {
            "paired/only_liquid_right": float(paired.only_first),
            "paired/only_raw_right": float(paired.only_second),
            "paired/p_value": paired.p_value,
            "baseline/chance_accuracy": chance_level(labels, len(dataset.class_names)).uniform,
        }
        context.tracker.metrics(results)
        matrix = confusion_matrix(labels, predicted["liquid"], len(dataset.class_names))
        context.tracker.figure(plots.confusion(matrix, dataset.class_names, "all folds"), "pictures/confusion.png")
        table = "\n".join(",".join(map(str, row)) for row in zip(labels, *predicted.values(), strict=True))
        context.tracker.text(f"label,liquid,raw\n{table}\n", "predictions.csv")
        return results
