"""Score a saved model: RUN and readout on the test split of its own data set, or of the one asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runners.check import UserError, build
from runners.models import SavedModel, open_model

if TYPE_CHECKING:
    from lsm.encode import Dataset
    from runners.context import Context


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Evaluate:
    """No settings of its own: `checkpoint=` names the model, `data=` another data set of the same form."""

    needs: ClassVar[tuple[str, ...]] = ("data",)

    def prepare(self, context: Context) -> tuple[SavedModel, Dataset]:
        """Open the model and load the test data before a run exists."""
        model = open_model(context)
        asked = any(typed.lstrip("+").startswith(("data=", "data.", "experiment=")) for typed in context.overrides)
        source = context.data if asked else build(model.config["data"], "data")
        maximum = model.encoding.get("maximum")
        with context.phase("data") as advance:
            dataset = source.load(context.data_root, model.network.seed, progress=advance, maximum=maximum)
        if dataset.n_in != model.network.n_in:
            raise UserError(f"data={dataset.name}: {dataset.n_in} channels, the model has {model.network.n_in}")
        if len(dataset.class_names) != len(model.class_names):
            raise UserError(
                f"data={dataset.name}: {len(dataset.class_names)} classes, the model knows {len(model.class_names)}"
            )
        return model, dataset

    def run(self, context: Context) -> dict[str, float]:
        """Score the test split; the noise of the images is that of the run that made the model."""
        from lsm.statistics import accuracy, confusion_matrix
        from runners import plots
        from runners.liquids import log_dataset

        model, dataset = context.prepared
        log_dataset(context, dataset)
        context.tracker.tags({"lsmrun.checkpoint": str(context.checkpoint)})
        store = model.network.counts(context, "test", dataset.test.inputs)
        predicted = model.fitted.predict(store.counts)
        right = accuracy(dataset.test.labels, predicted)
        results: dict[str, Any] = {"test/accuracy": right.value, "test/standard_error": right.standard_error}
        context.tracker.metrics(results | model.network.activity(store))
        matrix = confusion_matrix(dataset.test.labels, predicted, len(model.class_names))
        context.tracker.figure(plots.confusion(matrix, model.class_names, dataset.name), "pictures/confusion.png")
        return results
