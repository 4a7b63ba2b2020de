"""Several liquids and several time windows under one readout: what more features of the same kind give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.checkpoint import Cache, cache_key, fingerprint
from runners.fitting import features_of, fit, score
from runners.liquids import (
    PARTS,
    check_networks,
    load_dataset,
    log_dataset,
    trained_network,
    warn_if_useless,
    window_of,
)

if TYPE_CHECKING:
    from lsm.encode import Dataset
    from lsm.readout import Features
    from runners.checkpoint import CountStore
    from runners.context import Context

SAMPLES_AT_ONCE = 1000  # copied in one piece: memory stays flat with the number of samples


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Join:
    """Spike counts of `liquids` networks, each in `windows` equal parts of RUN, side by side under one readout.

    Network k of a run has the seed `liquids * seed + k`, so runs with different seeds share no network. `power` below 1
    compresses the counts (0.5: square roots, which evens out the variance of Poisson-like counts) before the readout.
    """

    liquids: Annotated[int, Field(ge=1, le=1000, description="networks that are read together")] = 4
    windows: Annotated[int, Field(ge=1, le=1000, description="equal parts of RUN that are counted apart")] = 1
    power: Annotated[float, Field(gt=0, le=1, description="counts are raised to it before the readout")] = 1.0

    needs: ClassVar[tuple[str, ...]] = ("model", "data", "readout")
    reads_checkpoint: ClassVar[bool] = False

    def prepare(self, context: Context) -> Dataset:
        """Load the data before a run exists."""
        check_networks(context, "runner.liquids", self.liquids)
        return load_dataset(context)

    def run(self, context: Context) -> dict[str, float]:
        """INIT and RUN of every network, then one readout on all that they counted."""
        dataset: Dataset = context.prepared
        log_dataset(context, dataset)
        stores, cost = [], {"cost/init_s": 0.0, "cost/run_s": 0.0}
        for k in range(self.liquids):
            counted, values = self._network(context, dataset, k)
            stores.append(counted)
            cost = {name: seconds + values[name] for name, seconds in cost.items()}
        features = {
            part: features_of(self._joined(context, part, [s[part] for s in stores]), getattr(dataset, part).labels)
            for part in PARTS
        }
        results = self._score(context, dataset, features) | cost
        context.tracker.metrics(results)
        return {name: results[name] for name in KEY_RESULTS}

    def _network(self, context: Context, dataset: Dataset, k: int) -> tuple[dict[str, CountStore], dict[str, float]]:
        """The counts of network `k` in every part, and what it did and cost."""
        context.progress.say(f"network {k + 1} of {self.liquids}")
        network = trained_network(context, context.model, dataset, self.liquids * context.seed + k)
        stores = {p: network.counts(context, p, getattr(dataset, p).inputs, self.windows) for p in PARTS}
        values = network.activity(stores["test"])
        warn_if_useless(context, network, values, len(dataset.test))
        values["cost/init_s"] = network.init_s
        values["cost/run_s"] = sum(store.seconds for store in stores.values())
        context.tracker.metrics({f"network/{name}": value for name, value in values.items()}, step=k)
        return stores, values

    def _joined(self, context: Context, part: str, stores: list[CountStore]) -> NDArray[Any]:
        """All counts of one part side by side, on disk."""
        if len(stores) == 1 and self.power == 1:
            return stores[0].counts
        dtype = np.uint16 if self.power == 1 else np.float32
        about = {"part": part, "power": self.power, "counts": [fingerprint(s.counts) for s in stores]}
        cache = Cache(context.home, cache_key("joined", about), about)
        path, width = cache.folder / f"{part}.npy", stores[0].counts.shape[1]
        with cache.alone(context.progress.say):
            if not path.exists():
                unfinished = path.with_suffix(".part")
                shape = (len(stores[0].counts), width * len(stores))
                joined = np.lib.format.open_memmap(unfinished, "w+", dtype, shape)
                for first in range(0, shape[0], SAMPLES_AT_ONCE):
                    rows = slice(first, first + SAMPLES_AT_ONCE)
                    for k, store in enumerate(stores):
                        counts = store.counts[rows]
                        joined[rows, k * width : (k + 1) * width] = (
                            counts if self.power == 1 else counts.astype(np.float32) ** np.float32(self.power)
                        )
                joined.flush()
                unfinished.replace(path)
        return np.load(path, mmap_mode="r")

    def _score(self, context: Context, dataset: Dataset, features: dict[str, Features]) -> dict[str, float]:
        window = (window_of(context, dataset) / self.windows) ** self.power  # rates are compressed as counts are
        fitted, _ = fit(context, features, len(dataset.class_names), "readout", window)
        results = score(fitted, features, len(dataset.class_names))
        return results | {"readout/features": float(features["test"].counts.shape[1])}


KEY_RESULTS = ("test/accuracy", "test/standard_error", "valid/accuracy", "readout/features", "baseline/chance_accuracy")
