"""From two senses, or one, to features: rasters of steps and the cached spike counts of liquids on arrays."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runners.checkpoint import Cache, CountStore, cache_key, code_digest
from runners.liquids import inputs_fingerprint

if TYPE_CHECKING:
    from lsm.encode import Dataset, Events
    from lsm.rram.parameters import RramParameters
    from runners.context import Context

PARTS = ("train", "valid", "test")
Steps = dict[str, "Events"]


def all_steps(dataset: Dataset, view: RramParameters, seed: int) -> Steps:
    """The rasters of all parts of a data set as the network sees them; a part may be empty."""
    from lsm.rram.view import steps_for

    return {
        part: steps_for(dataset.encoding, view, getattr(dataset, part).inputs, seed=seed, part=part) for part in PARTS
    }


def array_counts(
    context: Context,
    parameters: RramParameters,
    steps: Steps,
    seed: int,
    branch: str = "",
    advance: Callable[[int], object] = lambda done: None,
) -> dict[str, CountStore]:
    """Spike counts of all parts by the liquid of this seed and branch, from the cache as far as it goes.

    `advance(done)` is told how many samples of all parts are done.
    """
    from lsm.rram.encoder import STATS, build_encoder, calibrated, encode_blocks

    n_in = steps["train"].n_in
    assert parameters.n_neurons is not None, "parameters are complete"
    about: dict[str, Any] = {"code": code_digest("rram/*"), "parameters": dataclasses.asdict(parameters)}
    about |= {"maps": _maps(parameters), "n_in": n_in, "branch": branch, "seed": seed}
    if parameters.device.adc_bits is not None:  # the training part sets the scale
        about["calibration"] = inputs_fingerprint(steps["train"])
    encoder, stores, before = None, {}, 0
    for part, events in steps.items():
        full = {**about, "part": part, "inputs": inputs_fingerprint(events)}
        cache = Cache(context.home, cache_key("array", full), full)
        with cache.alone(context.progress.say):
            store = CountStore(cache.folder, part, (len(events), parameters.n_neurons), len(STATS), context.resume)
            if not store.complete and encoder is None:
                encoder = build_encoder(parameters, n_in, seed, branch)
                encoder = calibrated(encoder, steps["train"], threads=context.threads)
            if not store.complete and encoder is not None:
                started = time.perf_counter()
                for block, out in encode_blocks(
                    encoder, events, threads=context.threads, seed=seed, part=part, start=store.done
                ):
                    store.write(block, out.counts, out.stats, time.perf_counter() - started)
                    advance(before + block.stop)
                    started = time.perf_counter()
        before += len(events)
        advance(before)
        stores[part] = store
    return stores


def raw_step_counts(steps: Events) -> NDArray[np.uint16]:
    """Filled bins of each input channel, `(n_samples, n_in)`: what a readout without any liquid would see."""
    counts = np.zeros((len(steps), steps.n_in), np.uint16)
    sample = np.repeat(np.arange(len(steps)), np.diff(steps.offsets))
    np.add.at(counts, (sample, steps.packed & 0xFFFF), 1)
    return counts


def _maps(parameters: RramParameters) -> list[str]:
    """Digests of a user's conductance maps."""
    paths = (parameters.device.map_input, parameters.device.map_recurrent)
    return [hashlib.sha256(Path(p).expanduser().read_bytes()).hexdigest()[:16] for p in paths if p is not None]
