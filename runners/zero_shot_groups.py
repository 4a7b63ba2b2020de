"""The networks of a zero-shot run as sources of features: fixed liquids, trained networks, raw counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.checkpoint import fingerprint
from runners.encodings import PARTS, Steps, array_counts, raw_step_counts
from runners.liquids import inputs_fingerprint

if TYPE_CHECKING:
    from lsm.datasets.pairs import PairedDataset
    from lsm.sources import Source
    from runners.checkpoint import CountStore
    from runners.context import Context

Sources = dict[str, tuple["Source", "Source"]]
SILENT, SATURATED = 1e-3, 0.5
"""Share of steps with a spike below and above which a liquid tells little."""


@dataclass(frozen=True)
class Prepared:
    """The data, the rasters of each sense, and the model of each sense with all its values."""

    pair: PairedDataset
    steps: tuple[Steps, Steps]
    models: tuple[Any, Any]
    trained: bool
    protocol: str


@dataclass(frozen=True)
class Group:
    """Networks that are trained together: their seeds, their sources by part, and what determines their features."""

    seeds: list[int]
    sources: Sources
    about: dict[str, Any]


def fixed_group(context: Context, prepared: Prepared, seeds: list[int], models: Sequence[Any]) -> Group:
    """Cached counts of the liquids of all seeds; tells how active they are."""
    from lsm.sources import Cached

    by_sense: list[dict[str, Cached]] = []
    digests = []
    for name, steps, model in zip(prepared.pair.modalities, prepared.steps, models, strict=True):
        stores = _counts(context, name, steps, seeds, model)
        by_sense.append({part: Cached([store[part].counts for store in stores], model.window) for part in PARTS})
        digests.append(fingerprint(*(store[part].counts for store in stores for part in PARTS)))
        tests = [store["test"].counts for store in stores]
        rate = float(np.mean([counts.mean() for counts in tests])) / model.steps
        silent = float(np.mean([np.mean(~counts.any(axis=0)) for counts in tests]))
        context.tracker.metrics(
            {
                f"liquid/{name}_spikes_per_step": rate,
                f"liquid/{name}_silent_neurons": silent,
                f"cost/encode_{name}_s": sum(store[part].seconds for store in stores for part in PARTS),
            }
        )
        if not SILENT < rate < SATURATED:
            context.progress.warn(
                f"{name}: {100 * rate:.2g} % of the steps of a neuron have a spike; change the weights of its liquid"
            )
    sources: Sources = {part: (by_sense[0][part], by_sense[1][part]) for part in PARTS}
    return Group(seeds, sources, {"features": digests, "windows": [m.window for m in models]})


def _counts(context: Context, name: str, steps: Steps, seeds: list[int], model: Any) -> list[dict[str, CountStore]]:
    """Counts of all parts, for each seed, behind one bar."""
    n = sum(map(len, steps.values()))
    with context.phase(f"encode {name}", total=n * len(seeds), unit="samples") as advance:
        return [
            array_counts(context, model, steps, seed, name, lambda done, k=k: advance(k * n + done))  # type: ignore[misc]
            for k, seed in enumerate(seeds)
        ]


def raw_group(prepared: Prepared, seeds: list[int]) -> Group:
    """Filled bins of each input channel, the same for all seeds: what heads would see without any network."""
    from lsm.sources import Cached

    by_sense = []
    for steps in prepared.steps:
        counts = {part: raw_step_counts(events) for part, events in steps.items()}
        by_sense.append({part: Cached([c] * len(seeds), steps["train"].n_steps) for part, c in counts.items()})
    sources: Sources = {part: (by_sense[0][part], by_sense[1][part]) for part in PARTS}
    return Group(seeds, sources, {"raw": _inputs(prepared)})


def trained_groups(prepared: Prepared, seeds: list[int]) -> Iterator[Group]:
    """Networks of both senses for one seed after another, to be trained with their heads."""
    from lsm.sources import SENSES
    from lsm.srnn import RecurrentNetwork
    from lsm.supervised import TrainedSource

    about = {"inputs": _inputs(prepared), "networks": [dataclasses.asdict(model) for model in prepared.models]}
    widths = [steps["train"].n_in for steps in prepared.steps]
    a, b = (
        RecurrentNetwork(model, n_in, 0, f"{sense}/network/")
        for sense, model, n_in in zip(SENSES, prepared.models, widths, strict=True)
    )
    first, second = prepared.steps
    for seed in seeds:
        sources: Sources = {
            part: (TrainedSource(a, first[part], seed), TrainedSource(b, second[part], seed)) for part in PARTS
        }
        yield Group([seed], sources, about)


def _inputs(prepared: Prepared) -> list[str]:
    return [inputs_fingerprint(steps[part]) for steps in prepared.steps for part in PARTS]
