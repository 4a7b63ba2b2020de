"""Rasters of steps of all parts of a data set, and the cached spike counts of several liquids that see them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.liquids import PARTS
from runners.progress import Progress
from runners.rram_liquid import counts_without_effects, encoded_counts

if TYPE_CHECKING:
    from lsm.encode import Dataset, Events
    from lsm.rram.cost import Branch
    from lsm.rram.energy import Work
    from lsm.rram.parameters import RramParameters
    from runners.checkpoint import CountStore
    from runners.context import Context

Steps = dict[str, "Events"]


@dataclass(frozen=True)
class Encoded:
    """Spike counts of a liquid by part, its size, and what a test sample and its projection ask of the hardware.

    `neurobench` are its metrics after NeuroBench, `correlation` that of its features with those of the same draw without
    any effect of the device.
    """

    stores: dict[str, CountStore]
    branch: Branch
    work: Work
    neurobench: dict[str, float]
    correlation: float


def all_steps(dataset: Dataset, view: RramParameters, seed: int) -> Steps:
    """The rasters of all parts of a data set as the network sees them; a part may be empty."""
    from lsm.rram.view import steps_for

    return {
        part: steps_for(dataset.encoding, view, getattr(dataset, part).inputs, seed=seed, part=part) for part in PARTS
    }


def encoded(
    context: Context, parameters: RramParameters, steps: Steps, seeds: Sequence[int], branch: str, dim: int
) -> list[Encoded]:
    """What the liquids of these seeds count in all parts, from the cache as far as it goes, behind one bar.

    Counts will be projected to `dim` dimensions. Another `branch` draws other devices from the same seeds.
    Raises `ValueError` for a conductance map that does not fit.
    """
    from lsm.rram.encoder import build_encoder, calibrated, feature_correlation
    from lsm.rram.energy import branch_of, measured_work, neurobench

    quiet = dataclasses.replace(context, progress=Progress(io.StringIO()))
    total, done = len(seeds) * sum(map(len, steps.values())), 0
    total += len(seeds) * len(steps["test"]) * parameters.device.has_effects
    made = []
    with context.phase(f"encode {branch}", total=total, unit="samples") as advance:
        for seed in seeds:
            encoder = build_encoder(parameters, steps["train"].n_in, seed, branch)
            encoder = calibrated(encoder, steps["train"], threads=context.threads)
            stores = {}
            for part, events in steps.items():
                stores[part] = encoded_counts(quiet, encoder, events, part, phase=f"encode {branch} {part}")
                done += len(events)
                advance(done)
            reference = counts_without_effects(quiet, encoder, steps["test"])
            done += len(steps["test"]) * (reference is not None)
            advance(done)
            stats = stores["test"].stats
            made.append(
                Encoded(
                    stores,
                    branch_of(encoder),
                    measured_work(encoder, stats, dim),
                    neurobench(encoder, stats, dim),
                    1.0 if reference is None else feature_correlation(reference.counts, stores["test"].counts),
                )
            )
    return made
