"""The networks of a zero-shot run as sources of features: fixed liquids, trained networks, raw counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.checkpoint import fingerprint
from runners.encodings import Encoded, Steps, encoded
from runners.liquids import PARTS
from runners.network import inputs_fingerprint
from runners.network_cost import cost_metrics

if TYPE_CHECKING:
    from lsm.datasets.pairs import PairedDataset
    from lsm.recurrent_cost import NetworkCost
    from lsm.sources import Source
    from runners.context import Context
    from runners.descending import Trained

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


def fixed_group(
    context: Context, prepared: Prepared, seeds: list[int], models: Sequence[Any], dim: int, epochs: int
) -> Group:
    """Cached counts of the liquids of all seeds; tells how active they are, and what they cost.

    Heads project to `dim` dimensions and are trained for `epochs`: what the costs of training are counted for.
    """
    from lsm.sources import Cached

    by_sense: list[dict[str, Cached]] = []
    liquids: list[list[Encoded]] = []
    for name, steps, model in zip(prepared.pair.modalities, prepared.steps, models, strict=True):
        made = encoded(context, model, steps, seeds, name, dim)
        _tell_activity(context, name, made, model.steps)
        by_sense.append({part: Cached([m.stores[part].counts for m in made], model.window) for part in PARTS})
        liquids.append(made)
    _tell_cost(context, liquids, models, dim, epochs)
    _tell_device(context, prepared.pair.modalities, liquids)
    digests = [fingerprint(*(m.stores[part].counts for m in made for part in PARTS)) for made in liquids]
    sources: Sources = {part: (by_sense[0][part], by_sense[1][part]) for part in PARTS}
    return Group(seeds, sources, {"features": digests, "windows": [m.window for m in models]})


def _tell_activity(context: Context, name: str, made: list[Encoded], steps: int) -> None:
    """Spikes per neuron and step in test samples, silent neurons, and the time that all parts took."""
    tests = [m.stores["test"].counts for m in made]
    rate = float(np.mean([counts.mean() for counts in tests])) / steps
    context.tracker.metrics(
        {
            f"liquid/{name}_rate_per_step": rate,
            f"liquid/{name}_silent_neurons": float(np.mean([np.sum(~counts.any(axis=0)) for counts in tests])),
            f"cost/encode_{name}_s": sum(m.stores[part].seconds for m in made for part in PARTS),
        }
    )
    if not SILENT < rate < SATURATED:
        context.progress.warn(
            f"{name}: a neuron spikes in {100 * rate:.2g} % of its steps; change runner.weights_first or _second"
        )


def _tell_cost(context: Context, liquids: list[list[Encoded]], models: Sequence[Any], dim: int, epochs: int) -> None:
    """Named costs of training for a pair of samples, and its energy from measured spikes, as means over networks."""
    from lsm.rram.cost import training_cost
    from lsm.rram.energy import energy_pJ

    cost = training_cost([made[0].branch for made in liquids], dim, epochs)
    context.tracker.metrics({f"cost/{name}": float(value) for name, value in cost.items()})
    if (constants := models[0].energy) is None:
        return
    by_network = [energy_pJ(a.work + b.work, constants) for a, b in zip(*liquids, strict=True)]
    for name in by_network[0]:
        context.tracker.metrics({f"energy/{name}_uJ": float(np.mean([e[name] for e in by_network])) * 1e-6})


def _tell_device(context: Context, names: Sequence[str], liquids: list[list[Encoded]]) -> None:
    """Metrics after NeuroBench of each sense, and how much the device changes the features: each network, and means."""
    results, correlations = {}, []
    for name, made in zip(names, liquids, strict=True):
        for metric in made[0].neurobench:
            results[f"device/{name}_{metric}"] = float(np.mean([m.neurobench[metric] for m in made]))
        correlations.append([m.correlation for m in made])
        results[f"device/{name}_feature_correlation"] = float(np.mean(correlations[-1]))
        for k, m in enumerate(made):
            context.tracker.metrics({f"network/{name}_feature_correlation": m.correlation}, step=k)
    context.tracker.metrics({**results, "device/feature_correlation": float(np.mean(correlations))})


def trained_costs(prepared: Prepared, groups: Sequence[Group], fits: Sequence[Trained], dim: int) -> dict[str, float]:
    """What networks that were trained with their heads cost: metrics as of the fixed ones."""
    from lsm.recurrent_cost import cost_of
    from lsm.supervised import TrainedSource

    costs: dict[str, list[NetworkCost]] = {name: [] for name in prepared.pair.modalities}
    for group, fit in zip(groups, fits, strict=True):
        best = next(iter(fit.best.values()))
        variables = {name: tensor[0] for name, tensor in best.variables.items()}
        for name, source in zip(prepared.pair.modalities, group.sources["test"], strict=True):
            assert isinstance(source, TrainedSource)
            costs[name].append(cost_of(source.network, variables, source.events, dim))
    return cost_metrics(costs)


def raw_group(prepared: Prepared, seeds: list[int]) -> Group:
    """Filled bins of each input channel, the same for all seeds: what heads would see without any network."""
    from lsm.rram.view import channel_counts
    from lsm.sources import Cached

    by_sense = []
    for steps in prepared.steps:
        counts = {part: channel_counts(events) for part, events in steps.items()}
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
