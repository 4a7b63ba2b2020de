"""Score a saved model on a data set: a liquid on the test split, a force field on labelled frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError, build, find_target
from runners.context import Subject
from runners.force_fields import (
    KEY_RESULTS,
    SavedForceField,
    data_section,
    frames_only,
    is_force_field,
    load_labels,
    log_labels,
    means_own_data,
    open_force_field,
    record_errors,
    saved_data,
)
from runners.models import (
    SavedModel,
    check_unchanged,
    data_typed,
    locate_checkpoint,
    not_loaded,
    open_model,
    subject_of,
)

if TYPE_CHECKING:
    from lsm.encode import Dataset
    from mlff.datasets import LabelSet
    from runners.context import Context


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Evaluate:
    """`checkpoint=` names the model, `data=` another data set of the same form, keys of `data` alone change its own."""

    pictures: Annotated[bool, Field(description="draw and store pictures")] = True

    needs: ClassVar[tuple[str, ...]] = ()  # the checkpoint tells what `data` is to be

    def prepare(self, context: Context) -> tuple[Any, Any]:
        """Open the model and load the test data before a run exists."""
        if is_force_field(locate_checkpoint(context)):
            return _prepare_frames(context)
        return _prepare_samples(context)

    def subject(self, context: Context) -> Subject:
        """The model that is scored, with its own seed; the data are its own unless others are typed."""
        model, _ = context.prepared
        if isinstance(model, SavedModel):
            own = None if data_typed(context) else model.config["data"]
            return subject_of(context, model.config, model.choices, own, model.network.seed)
        own = data_section(context, model) if means_own_data(context, model) else None
        return subject_of(context, model.config, model.choices, own, model.config.get("seed", context.seed))

    def run(self, context: Context) -> dict[str, float]:
        """Score the test part; without one, and for force fields only, the validation part."""
        model, data = context.prepared
        context.tracker.tags({"lsmrun.checkpoint": str(context.checkpoint)})
        if isinstance(model, SavedForceField):
            return _score_frames(context, model, data, pictures=self.pictures)
        return _score_samples(context, model, data, pictures=self.pictures)


def _prepare_samples(context: Context) -> tuple[SavedModel, Dataset]:
    model = open_model(context)
    asked, maximum = data_typed(context), model.encoding.get("maximum")
    section = context.config["data"] if asked else model.config["data"]
    if getattr(find_target(section["_target_"], "data"), "kind", None) == "frames":
        raise UserError(
            f"data={context.choices.get('data')}: are frames for force fields, and the checkpoint is a liquid"
        )
    source = build(section, "data")
    try:
        with context.phase("data") as advance:
            dataset = source.load(context.data_root, model.network.seed, progress=advance, maximum=maximum)
    except (ValueError, OSError) as error:
        if asked:
            raise
        raise not_loaded(context, model.config, model.choices, error) from error
    if not asked:
        check_unchanged(context, model.config, model.choices, model.checksums, dataset.checksums)
    if dataset.n_in != model.network.n_in:
        raise UserError(f"data={dataset.name}: {dataset.n_in} channels, the model has {model.network.n_in}")
    if len(dataset.class_names) != len(model.class_names):
        raise UserError(
            f"data={dataset.name}: {len(dataset.class_names)} classes, the model knows {len(model.class_names)}"
        )
    return model, dataset


def _score_samples(context: Context, model: SavedModel, dataset: Dataset, *, pictures: bool) -> dict[str, float]:
    """The noise of the images is that of the run that made the model."""
    from lsm.statistics import accuracy, confusion_matrix
    from runners.liquids import log_dataset
    from runners.plots import networks as plots

    log_dataset(context, dataset)
    store = model.network.counts(context, "test", dataset.test.inputs)
    predicted = model.fitted.predict(store.counts)
    right = accuracy(dataset.test.labels, predicted)
    results: dict[str, Any] = {"test/accuracy": right.value, "test/standard_error": right.standard_error}
    context.tracker.metrics(results | model.network.activity(store))
    if pictures:
        matrix = confusion_matrix(dataset.test.labels, predicted, len(model.class_names))
        context.tracker.figure(plots.confusion(matrix, model.class_names, dataset.name), "pictures/confusion.png")
    return results


def _prepare_frames(context: Context) -> tuple[SavedForceField, LabelSet]:
    saved = open_force_field(context)
    source = frames_only(context, saved_data(context, saved, to_score=True))
    try:
        labels = load_labels(context, source, {"checkpoint": saved.dispersion}, to_score=True)
    except OSError as error:
        if data_typed(context):
            raise
        raise not_loaded(context, saved.config, saved.choices, error) from error
    if not data_typed(context):
        check_unchanged(context, saved.config, saved.choices, saved.labels.get("checksums", {}), labels.checksums)
    for frame in labels.test or labels.valid or labels.train:
        saved.model.check_elements(_numbers(frame))
    return saved, labels


def _score_frames(context: Context, saved: SavedForceField, labels: LabelSet, *, pictures: bool) -> dict[str, float]:
    import torch

    from mlff.scores import compare

    torch.set_num_threads(context.threads)
    log_labels(context, labels)
    part = "test" if labels.test else "valid" if labels.valid else "train"
    frames = getattr(labels, part)
    context.tracker.tags({"lsmrun.scored_on": part})
    with context.phase(f"errors on {part}", total=len(frames), unit="frames") as advance:
        compared = compare(saved.model, frames, labels.dispersion, advance)
    context.progress.say(f"errors of the {len(frames)} {part} frames of {labels.name}:")
    results = record_errors(context, compared, part, pictures=pictures)
    return {name: results[name] for name in KEY_RESULTS if name in results}


def _numbers(frame: Any) -> Any:
    import torch

    return torch.from_numpy(frame.configuration.numbers)
