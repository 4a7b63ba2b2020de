"""How close `data=nmnist_sim` is to real recordings of the same images: statistics, pictures, and readouts across.

The real recordings that are there are shared out once, stratified, into training, validation and test; simulated recordings
of the same images are shared out alike. A third training set is `data` itself, without any image that has a real recording.
Readouts (and the liquids before them) learn on one set and are tested on all: from simulated to real, and the reverse.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.fitting import features_of, fit
from runners.liquids import PARTS, load_dataset, log_dataset, raw_counts, trained_network, window_of

if TYPE_CHECKING:
    from lsm.encode import Dataset, Split
    from runners.context import Context

Count = Annotated[int, Field(ge=10)]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Real and simulated recordings of the same images, in the same order."""

    simulated_set: Dataset
    images: NDArray[np.uint8]
    is_test: NDArray[np.bool_]
    real: list[NDArray[Any]]
    simulated: list[NDArray[Any]]
    labels: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class SensorComparison:
    """Settings of the runner; what is left of the real recordings is for testing."""

    real_path: Annotated[str | None, Field(description="real recordings; null = n-mnist/ in the data folder")] = None
    n_paired_train: Annotated[Count, Field(description="real (and the same simulated) recordings to learn from")] = 600
    n_paired_valid: Annotated[Count, Field(description="real (and the same simulated) recordings to choose by")] = 100
    liquid: Annotated[bool, Field(description="measure readouts of a liquid, too")] = True
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True

    needs: ClassVar[tuple[str, ...]] = ("model", "data", "readout")
    reads_checkpoint: ClassVar[bool] = False

    def prepare(self, context: Context) -> Compared:
        """Read the real recordings and look at their images; raises `UserError` for another data set."""
        from lsm.datasets.nmnist import NMnist
        from lsm.datasets.nmnist_sim import NMnistSim

        source = context.data
        if not isinstance(source, NMnistSim) or source.images != "mnist":
            raise UserError("runner=sensor compares simulated with real N-MNIST: data=nmnist_sim data.images=mnist")
        found = list(NMnist(path=self.real_path, allow_partial=True).events(context.data_root))
        if len(found) < self.n_paired_train + self.n_paired_valid + 10:
            raise UserError(
                f"runner.n_paired_train={self.n_paired_train}: only {len(found)} real recordings are there; "
                "leave at least 10 for testing"
            )
        dataset = load_dataset(context)
        with context.phase("same images", total=len(found), unit="recordings") as advance:
            images, simulated = [], []
            for part in ("Train", "Test"):
                shown = source.images_of(context.data_root, part, [r.id for p, r, _ in found if p == part])
                images.append(shown.inputs.pixels.reshape(len(shown), 28, 28))  # type: ignore[union-attr]
                for events in source.look(shown):
                    simulated.append(events)
                    advance(len(simulated))
        return Compared(
            simulated_set=dataset,
            images=np.concatenate(images),
            is_test=np.array([part == "Test" for part, _, _ in found]),
            real=[events for _, _, events in found],
            simulated=simulated,
            labels=np.array([r.label for _, r, _ in found], np.int64),
            names=tuple(r.member for _, r, _ in found),
        )

    def run(self, context: Context) -> dict[str, float]:
        """Measure, fit, draw and return the key results."""
        compared: Compared = context.prepared
        log_dataset(context, compared.simulated_set)
        results = self._statistics(context, compared) | self._transfer(context, compared)
        context.tracker.metrics(results)
        if self.pictures:
            _draw(context, compared)
        return {name: results[name] for name in KEY_RESULTS if name in results}

    def _statistics(self, context: Context, compared: Compared) -> dict[str, float]:
        """Closeness on the training recordings, which the camera was fitted to, and on the test ones, which it was not."""
        from lsm.datasets.sensor_statistics import closeness, measure

        results: dict[str, float] = {}
        with context.phase("statistics"):
            for part, chosen in (("train", ~compared.is_test), ("test", compared.is_test)):
                if chosen.any():
                    real, simulated = (measure(_pick(one, chosen)) for one in (compared.real, compared.simulated))
                    results |= {f"sensor_{part}/{name}": v for name, v in closeness(real, simulated).items()}
        return results

    def _transfer(self, context: Context, compared: Compared) -> dict[str, float]:
        from lsm.statistics import accuracy, chance_level

        sets = self._sets(context, compared)
        kinds = ("raw", "liquid") if self.liquid else ("raw",)
        results: dict[str, float] = {}
        for learnt_on, dataset in sets.items():
            n_classes = len(dataset.class_names)
            results[f"transfer/chance/{learnt_on}"] = chance_level(dataset.train.labels, n_classes).largest_class
            for kind in kinds:
                tests = {name: other.test for name, other in sets.items()}
                counts = _counts(context, dataset, tests, kind)
                features = {part: features_of(counts[part], getattr(dataset, part).labels) for part in PARTS[:2]}
                fitted, _ = fit(
                    context, features, n_classes, f"readout {kind} {learnt_on}", window_of(context, dataset)
                )
                for tested_on, split in tests.items():
                    right = accuracy(split.labels, fitted.predict(counts[tested_on]))
                    name = f"transfer/{kind}/{learnt_on}_to_{tested_on}"
                    results |= {name: right.value, f"{name}_error": right.standard_error}
        return results

    def _sets(self, context: Context, compared: Compared) -> dict[str, Dataset]:
        """Three data sets of the same form: `real` and `simulated` share their images, `many` has others."""
        from lsm.datasets.subsets import stratified_split
        from lsm.streams import generator

        n_test = len(compared.labels) - self.n_paired_train - self.n_paired_valid
        rng = generator(context.seed, "sensor comparison")
        train, valid, test = stratified_split(compared.labels, self.n_paired_valid, n_test, rng)
        index = dict(zip(PARTS, (train, valid, test), strict=True))
        whole = compared.simulated_set
        sets = {}
        for name, recordings in (("real", compared.real), ("simulated", compared.simulated)):
            parts: dict[str, Any] = {
                part: _split(compared, recordings, chosen, whole) for part, chosen in index.items()
            }
            sets[name] = dataclasses.replace(whole, name=f"nmnist_{name}_paired", **parts)
        ids = {part: _image_ids(compared, part) for part in ("Train", "Test")}
        other: dict[str, Any] = {
            part: _without(getattr(whole, part), ids["Test" if part == "test" else "Train"]) for part in PARTS
        }
        sets["many"] = dataclasses.replace(whole, name="nmnist_sim_other_images", **other)
        return sets


KEY_RESULTS = (
    "sensor_test/correlation/events_per_image",
    "sensor_test/overlap/time_course",
    "sensor_test/overlap/maps",
    "transfer/raw/real_to_real",
    "transfer/raw/simulated_to_real",
    "transfer/raw/real_to_simulated",
    "transfer/liquid/real_to_real",
    "transfer/liquid/simulated_to_real",
    "transfer/liquid/real_to_simulated",
    "transfer/liquid/many_to_real",
)


MOST_TRACKED = 300
"""Recordings whose motion is registered for a picture: enough for 0.05 px."""


def _pick(recordings: list[NDArray[Any]], chosen: NDArray[np.bool_]) -> list[NDArray[Any]]:
    return [one for one, taken in zip(recordings, chosen, strict=True) if taken]


def _counts(context: Context, dataset: Dataset, tests: dict[str, Split], kind: str) -> dict[str, NDArray[Any]]:
    """Counts of training and validation of `dataset` and of every test split, behind its liquid or without one."""
    splits = {"train": dataset.train, "valid": dataset.valid}
    if kind == "raw":
        found = {name: raw_counts(context, dataset, name, split.inputs) for name, split in splits.items()}
        return found | {name: raw_counts(context, dataset, "test", split.inputs) for name, split in tests.items()}
    network = trained_network(context, context.model, dataset, context.seed)
    found = {name: network.counts(context, name, split.inputs).counts for name, split in splits.items()}
    return found | {name: network.counts(context, "test", s.inputs).counts for name, s in tests.items()}


def _split(compared: Compared, recordings: list[NDArray[Any]], chosen: NDArray[np.int64], whole: Dataset) -> Split:
    from lsm.datasets.recordings import Sensor, pack_events
    from lsm.encode import Events, Split

    sensor = Sensor(whole.encoding["height"], whole.encoding["width"], whole.encoding["n_steps"])
    packed = [pack_events(recordings[k], sensor) for k in chosen]
    names = tuple(compared.names[k] for k in chosen)
    return Split(Events.from_packed(packed, sensor.n_in, sensor.n_steps), compared.labels[chosen], names)


def _image_ids(compared: Compared, part: str) -> set[int]:
    return {
        int(n[-9:-4]) - 1
        for n, is_test in zip(compared.names, compared.is_test, strict=True)
        if is_test == (part == "Test")
    }


def _without(split: Split, indices: set[int]) -> Split:
    """The samples whose image is none of `indices`."""
    numbers = [int(name[name.index("[") + 1 : -1]) for name in split.names]
    keep = np.array([k for k, number in enumerate(numbers) if number not in indices])
    return type(split)(split.inputs.take(keep), split.labels[keep], tuple(split.names[k] for k in keep))


def _draw(context: Context, compared: Compared) -> None:
    from lsm.datasets.sensor_statistics import measure, track
    from runners.plots import sensor as plots

    train = ~compared.is_test
    both = {"real": compared.real, "simulated": compared.simulated}
    with context.phase("pictures"):
        measured = {name: measure(_pick(one, train)) for name, one in both.items()}
        images = compared.images[train][:MOST_TRACKED]
        places = {name: track(_pick(one, train)[:MOST_TRACKED], images) for name, one in both.items()}
        figures = {
            "time_course": plots.time_course(measured),
            "maps": plots.maps(measured),
            "counts": plots.counts(measured),
            "intervals": plots.intervals(measured),
            "path": plots.path(places),
            "examples": plots.examples(both, compared.images, compared.labels),
        }
        for name, figure in figures.items():
            context.tracker.figure(figure, f"pictures/{name}.png")
