"""Kernel quality of a trained liquid: clean test set, noisy test set and noisy copies of single inputs, all through RUN."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.check import UserError
from runners.network import Network

if TYPE_CHECKING:
    from lsm.encode import Dataset, Inputs
    from lsm.kernel_quality import Spectrum
    from runners.context import Context
    from runners.progress import Advance


@dataclass(frozen=True)
class NoiseSettings:
    """How inputs are perturbed: standard deviations, and whether exactly `as_published`."""

    as_published: bool
    pixels: float
    time_ms: float
    copy_pixels: float


@dataclass(frozen=True)
class KernelRanks:
    """`results` for the run; `spectra` of the first matrix of each kind; `ranks` of all of them."""

    results: dict[str, float]
    spectra: dict[str, NDArray[np.float64]]
    ranks: dict[str, list[int]]


KINDS = ("separation", "noisy", "generalisation")


def check_samples(labels: NDArray[np.int64], per_class: int) -> None:
    """Raise `UserError` unless the test split has `per_class` samples of each class."""
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if per_class > smallest:
        raise UserError(
            f"runner.samples_per_class={per_class}: the smallest class of the test split has {smallest} samples; "
            f"give a number up to {smallest}, or runner.kernel=false"
        )


def measure_ranks(
    context: Context,
    dataset: Dataset,
    network: Network,
    noise: NoiseSettings,
    draws: int,
    per_class: int,
    copied_inputs: int,
) -> KernelRanks:
    """Ranks of raw spike counts: `draws` of `per_class` samples a class, clean and noisy, and `copied_inputs` copied ones.

    The same samples are drawn from the clean and from the noisy set. As many copies are made of each single input as a
    draw has columns, so that the ranks compare.
    """
    from lsm.kernel_quality import draw_columns
    from lsm.streams import generator
    from runners.liquids import evenly

    test, presented, seed = dataset.test, network.clock.presented, context.seed
    perturbed = noisy_set(test.inputs, noise, presented, generator(seed, "test noise of inputs"))
    clean = network.counts(context, "test", test.inputs)
    noisy = network.counts(context, "test-noisy", perturbed)
    rng = generator(seed, "kernel draws")
    columns = [draw_columns(test.labels, per_class, rng) for _ in range(draws)]
    singles = []
    for k, sample in enumerate(evenly(len(test), copied_inputs)):
        same = noisy_copies(
            test.inputs, sample, len(columns[0]), noise, presented, generator(seed, f"copies of {sample}")
        )
        singles.append(network.counts(context, f"test-copies-{k}", same))
    with context.phase("ranks", total=2 * draws + len(singles), unit="matrices") as advance:
        matrices = [(clean.counts, at) for at in columns] + [(noisy.counts, at) for at in columns]
        matrices += [(store.counts, np.arange(len(store.counts))) for store in singles]
        spectra = _spectra(matrices, context.threads, advance)
    found = dict(zip(KINDS, (spectra[:draws], spectra[draws : 2 * draws], spectra[2 * draws :]), strict=True))
    results = {"kernel/columns": float(len(columns[0])), **_means(found)}
    results |= score_of(results, network.n_neurons)
    if "liquid/rate_hz" in (activity := network.activity(noisy)):
        results["liquid/rate_noisy_hz"] = activity["liquid/rate_hz"]
    return KernelRanks(
        results=results | network.activity(clean),
        spectra={kind: several[0].values for kind, several in found.items()},
        ranks={kind: [s.rank for s in several] for kind, several in found.items()},
    )


def noisy_set(inputs: Inputs, noise: NoiseSettings, presented: int | None, rng: np.random.Generator) -> Inputs:
    """The whole set with noise: on pixels, or in time on each event (as published: on all events of a sample alike).

    Events stay in the first `presented` ms of a recording.
    """
    from lsm.encode import Events
    from lsm.noise import jittered, noisy_images, shifted

    if isinstance(inputs, Events):
        move = shifted if noise.as_published else jittered
        return move(inputs, noise.time_ms, rng, presented)
    return noisy_images(inputs, noise.pixels, rng, own_maximum=noise.as_published)


def noisy_copies(
    inputs: Inputs, sample: int, n: int, noise: NoiseSettings, presented: int | None, rng: np.random.Generator
) -> Inputs:
    """`n` noisy copies of one sample; images differ in their Bernoulli draws, too."""
    from lsm.encode import Events
    from lsm.noise import copies, jittered, noisy_images

    same = copies(inputs, sample, n)
    if isinstance(same, Events):
        return jittered(same, noise.time_ms, rng, presented)
    return noisy_images(same, noise.copy_pixels, rng)


def _spectra(
    matrices: Sequence[tuple[NDArray[Any], NDArray[np.int64]]], threads: int, advance: Advance
) -> list[Spectrum]:
    """One matrix a thread, each on one BLAS thread: then no result depends on the number of threads."""
    from threadpoolctl import threadpool_limits

    from lsm.kernel_quality import spectrum

    found: list[Spectrum] = []
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for one in pool.map(lambda matrix: spectrum(matrix[0][matrix[1]]), matrices):
            found.append(one)
            advance(len(found))
    return found


def score_of(results: dict[str, float], n_neurons: int) -> dict[str, float]:
    """The published score `kernel/score`, where the sizes are those that its ranges were published for."""
    from lsm.kernel_quality import SCORED_SIZE, published_score

    if n_neurons != SCORED_SIZE or results["kernel/columns"] != SCORED_SIZE:
        return {}
    return {"kernel/score": published_score(results["kernel/separation_rank"], results["kernel/noisy_rank"])}


def _means(found: dict[str, list[Spectrum]]) -> dict[str, float]:
    results: dict[str, float] = {}
    for kind, spectra in found.items():
        ranks = [s.rank for s in spectra]
        results[f"kernel/{kind}_rank"] = float(np.mean(ranks))
        results[f"kernel/{kind}_rank_std"] = float(np.std(ranks, ddof=1)) if len(ranks) > 1 else float("nan")
        results[f"kernel/{kind}_rank_double"] = float(np.mean([s.rank_double for s in spectra]))
        results[f"kernel/{kind}_effective_rank"] = float(np.mean([s.effective_rank for s in spectra]))
    for quality, name in (("quality", "rank"), ("effective_quality", "effective_rank")):
        results[f"kernel/{quality}"] = results[f"kernel/separation_{name}"] - results[f"kernel/generalisation_{name}"]
    return results
