"""From a dataset to a network and its spike counts, for every kind of liquid; shared by all runners of liquids."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.check import UserError
from runners.checkpoint import fingerprint
from runners.network import Network

if TYPE_CHECKING:
    from lsm.encode import Dataset, Inputs, Split
    from lsm.protocol import Recording
    from runners.context import Context

PARTS = ("train", "valid", "test")


def kind_of(parameters: Any) -> ModuleType:
    """What makes networks of these parameters: it has `trained`, `restored`, `raw_counts`, `window_of`, `check_fit`."""
    from lsm.recurrent import RecurrentParameters
    from lsm.rram.parameters import RramParameters
    from runners import astro_liquid, rram_liquid

    if isinstance(parameters, RecurrentParameters):
        raise UserError(
            "srnn_ann, srnn_snn and rnn are no fixed liquids: give runner=train_network or runner=zero_shot"
        )
    return rram_liquid if isinstance(parameters, RramParameters) else astro_liquid


def trained_network(context: Context, parameters: Any, dataset: Dataset, seed: int) -> Network:
    """The liquid that these parameters describe, ready for the samples of `dataset`."""
    network: Network = kind_of(parameters).trained(context, parameters, dataset, seed)
    return network


def restored_network(parameters: Any, arrays: dict[str, NDArray[Any]], seed: int, encoding: dict[str, Any]) -> Network:
    """A network from the arrays of a saved model; `encoding` is that of the data set it was made for."""
    network: Network = kind_of(parameters).restored(parameters, arrays, seed, encoding)
    return network


def raw_counts(context: Context, dataset: Dataset, part: str, inputs: Inputs) -> NDArray[np.uint16]:
    """Events per input channel that the model is presented: what a readout without any liquid would see."""
    make = kind_of(context.model).raw_counts
    counts: NDArray[np.uint16] = make(context, context.model, dataset, part, inputs, context.seed)
    return counts


def window_of(context: Context, dataset: Dataset) -> float:
    """Steps or ms that spikes are counted over, without making a network."""
    window: float = kind_of(context.model).window_of(context.model, dataset)
    return window


def load_dataset(context: Context, chosen_by: str = "valid") -> Dataset:
    """Read and encode the data set; belongs into a runner's `prepare`, since its errors are the user's.

    `chosen_by` "test" gives the parts of the published choice: validation samples train too.
    """
    kind = kind_of(context.model)
    with context.phase("data") as advance:
        dataset: Dataset = context.data.load(context.data_root, context.seed, progress=advance)
    if not hasattr(dataset, "train"):
        name, runner = context.choices.get("data"), context.choices.get("runner")
        raise UserError(f"data={name} runner={runner}: these are pairs of two senses, which runner=zero_shot takes")
    if "warning" in dataset.notes:
        context.progress.warn(str(dataset.notes["warning"]))
    dataset = parts_to_choose_by(chosen_by, dataset, context.seed)
    kind.check_fit(context.model, dataset)
    warn_of_map(context)
    return dataset


def parts_to_choose_by(chosen_by: str, dataset: Dataset, seed: int) -> Dataset:
    """The data set as the part that chooses the epoch wants it; raises `UserError` where there is no such part."""
    from lsm.datasets.subsets import without_validation

    if chosen_by == "test":
        return without_validation(dataset, seed)
    if not len(dataset.valid):
        raise UserError(f"data={dataset.name}: there is no validation part, with which an epoch is chosen")
    return dataset


def is_mapped(model: Any) -> bool:
    """Whether its conductances are a user's own: then they are one array, whatever the seed."""
    return getattr(getattr(model, "device", None), "draw", None) == "map"


def warn_of_map(context: Context) -> None:
    """Say so if runs that differ by seed alone have the same network."""
    if is_mapped(context.model) and context.seed:
        context.progress.warn(
            f"seed={context.seed}: device.draw=map gives every seed the same conductances; such runs are one network"
        )


def check_networks(context: Context, key: str, n: int) -> None:
    """Raise `UserError` if `key` asks for more than one network on one map."""
    if is_mapped(context.model) and n > 1:
        raise UserError(f"{key}={n}: device.draw=map is one array, hence one network; give {key}=1")


def parts_of(dataset: Dataset) -> dict[str, Split]:
    """The parts that hold samples, by name."""
    return {part: split for part in PARTS if len(split := getattr(dataset, part))}


def log_dataset(context: Context, dataset: Dataset) -> None:
    """Record the data set in the run: one entry for each split, the checksums of all files as an artifact."""
    digest = fingerprint(np.array(sorted(f"{k}={v}" for k, v in dataset.checksums.items())))
    used = dict(zip(PARTS, ("training", "validation", "testing"), strict=True))
    for part, split in parts_of(dataset).items():
        profile = f"{len(split)} samples, {dataset.n_in} channels, {len(dataset.class_names)} classes"
        context.tracker.input(dataset.name, f"{digest[:24]}-{part}", dataset.source, used[part], profile)
    about = {"source": dataset.source, "checksums": dict(dataset.checksums), "encoding": dict(dataset.encoding)}
    context.tracker.yaml({**about, "notes": _plain(dataset.notes)}, "data.yaml")


def _plain(notes: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, int | float | str | bool) else str(value) for key, value in notes.items()}


def warn_if_useless(context: Context, network: Network, values: dict[str, float], n_samples: int) -> None:
    """Say so if the liquid is silent or saturated, and what to change."""
    for complaint in network.complaints(values):
        context.progress.warn(complaint)
    if silent := int(values["liquid/silent_samples"]):
        context.progress.warn(f"{silent} of {n_samples} samples evoke no spike in the liquid; their class is a guess")


def evenly(n: int, wanted: int) -> list[int]:
    """`wanted` sample indices spread evenly over `n`, fewer if there are not as many."""
    wanted = min(wanted, n)
    return [round(n * k / wanted) for k in range(wanted)]


def record_test(network: Network, dataset: Dataset, sample: int) -> Recording:
    """The spikes of one test sample, as they were counted."""
    return network.record(dataset.test.inputs, "test", sample)
