"""Train a recurrent network on labelled recordings by backpropagation through time: the trainable baselines."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.checkpoint import fingerprint
from runners.descending import Trained, descend
from runners.encodings import Steps, all_steps
from runners.liquids import log_dataset, parts_to_choose_by
from runners.network import inputs_fingerprint
from runners.network_cost import cost_metrics

if TYPE_CHECKING:
    from lsm.descent import Best, Callbacks
    from lsm.encode import Dataset
    from lsm.srnn import RecurrentNetwork
    from runners.context import Context


@plain_dataclass(frozen=True)
class Prepared:
    """The data, its rasters of steps by part, and the network with all its values."""

    dataset: Dataset
    steps: Steps
    network: Any


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class TrainNetwork:
    """The epoch is chosen by validation samples, or, `protocol=published`, by the test part as in the original.

    Then validation samples train, too.
    """

    protocol: Annotated[Literal["honest", "published"], Field(description="what the epoch is chosen by")] = "honest"
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True

    needs: ClassVar[tuple[str, ...]] = ("model", "data")
    reads_checkpoint: ClassVar[bool] = False

    def prepare(self, context: Context) -> Prepared:
        """Load the data and bring it into steps, before a run exists."""
        from lsm.recurrent import RecurrentParameters

        name, model = context.choices.get("data", "the data"), context.model
        if getattr(context.data, "kind", None) == "pairs":
            raise UserError(f"data={name}: runner=train_network takes one sense; give runner=zero_shot")
        if not isinstance(model, RecurrentParameters):
            raise UserError(
                f"model={context.choices.get('model')}: runner=train_network takes srnn_ann, srnn_snn or rnn"
            )
        with context.phase("data") as advance:
            dataset: Dataset = context.data.load(context.data_root, context.seed, progress=advance)
        if "warning" in dataset.notes:
            context.progress.warn(str(dataset.notes["warning"]))
        dataset = parts_to_choose_by("test" if self.protocol == "published" else "valid", dataset, context.seed)
        network, view = model.for_data(dataset.encoding)
        with context.phase("steps"):
            return Prepared(dataset, all_steps(dataset, view, context.seed), network)

    def run(self, context: Context) -> dict[str, float]:
        """Train, score the test part with the chosen epoch, and store the network."""
        from lsm.recurrent_cost import cost_of
        from lsm.srnn import RecurrentNetwork
        from lsm.supervised import scores_of

        prepared: Prepared = context.prepared
        dataset, published = prepared.dataset, self.protocol == "published"
        log_dataset(context, dataset)
        context.tracker.tags({"lsmrun.protocol": self.protocol})
        network = RecurrentNetwork(prepared.network, prepared.steps["train"].n_in, len(dataset.class_names))
        trained = self._fit(context, prepared, network)
        best = trained.best["test/accuracy" if published else "valid/accuracy"]
        predicted = {
            part: scores_of(network, best.variables, prepared.steps[part]).argmax(axis=1).astype(np.int64)
            for part in ("train", "test")
        }
        results = self._score(dataset, predicted, best) | _activity(network, best, prepared)
        cost = cost_of(network, best.variables, prepared.steps["test"], network.n_classes)
        results |= cost_metrics({"": [cost]})
        context.tracker.metrics(results)
        _save(context, best)
        if self.pictures:
            self._draw(context, dataset, predicted["test"], trained, best)
        keys = ("test/accuracy", "published/test_accuracy", "test/standard_error", "valid/accuracy")
        return {name: results[name] for name in (*keys, "baseline/chance_accuracy") if name in results}

    def _fit(self, context: Context, prepared: Prepared, network: RecurrentNetwork) -> Trained:
        from lsm.supervised import Labelled, fit_network

        dataset, published = prepared.dataset, self.protocol == "published"
        wanted = ("train", "test" if published else "valid")
        parts = {part: Labelled(prepared.steps[part], getattr(dataset, part).labels) for part in wanted}
        about = {
            "network": dataclasses.asdict(prepared.network),
            "inputs": [inputs_fingerprint(part.events) for part in parts.values()],
            "labels": fingerprint(*(part.labels for part in parts.values())),
            "classes": len(dataset.class_names),
            "seed": context.seed,
            "protocol": self.protocol,
        }

        def fit(callbacks: Callbacks) -> dict[str, Best]:
            return fit_network(network, parts, context.seed, callbacks, latest=published)

        return descend(context, "training", prepared.network.epochs, about, fit, "")

    def _score(self, dataset: Dataset, predicted: dict[str, NDArray[np.int64]], best: Best) -> dict[str, float]:
        from lsm.statistics import accuracy, chance_level

        right = accuracy(dataset.test.labels, predicted["test"])
        chance = chance_level(dataset.train.labels, len(dataset.class_names))
        name = "published/test_accuracy" if self.protocol == "published" else "test/accuracy"
        results = {name: right.value, "test/standard_error": right.standard_error}
        if self.protocol == "honest":
            results["valid/accuracy"] = float(best.score[0])
        return results | {
            "train/accuracy": accuracy(dataset.train.labels, predicted["train"]).value,
            "network/epoch": float(best.epoch[0]),
            "baseline/chance_accuracy": chance.uniform,
            "baseline/largest_class_accuracy": chance.largest_class,
        }

    def _draw(
        self, context: Context, dataset: Dataset, predicted: NDArray[np.int64], trained: Trained, best: Best
    ) -> None:
        from lsm.statistics import confusion_matrix
        from runners.plots import networks as plots

        n = len(dataset.class_names)
        with context.phase("pictures"):
            matrix = confusion_matrix(dataset.test.labels, predicted, n)
            context.tracker.figure(plots.confusion(matrix, dataset.class_names, "test"), "pictures/confusion.png")
            if self.protocol == "honest":
                history = [{"valid/accuracy": float(row[0])} for row in trained.scores["valid/accuracy"]]
                figure = plots.learning_curve(history, int(best.epoch[0]), 1 / n)
                context.tracker.figure(figure, "pictures/learning.png")


def _activity(network: RecurrentNetwork, best: Best, prepared: Prepared) -> dict[str, float]:
    """How often a neuron of the spiking layer spikes, in test samples."""
    import torch

    if network.parameters.cell != "lif":
        return {}
    index = np.arange(min(500, len(prepared.dataset.test)))
    with torch.no_grad():
        rate = network.features(best.variables, network.input(prepared.steps["test"], index)).mean()
    return {"network/spikes_per_step": float(rate)}


def _save(context: Context, best: Best) -> None:
    from safetensors.torch import save_file

    path = context.output_dir / "network.safetensors"
    save_file({name: tensor.detach().contiguous() for name, tensor in best.variables.items()}, path)
    context.tracker.artifact(path, "model")
