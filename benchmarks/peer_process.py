"""Times one peer in a process of its own: `python peer_process.py NAME CASE.npz`, one line of JSON to standard output.

Own process, because each peer sets up its own thread pools and Brian2 needs another numpy. Only numpy is taken for
granted here. The case holds `spikes (n_samples, T, n_in)` and both weight matrices as `row`, `column`, `value`, `shape`.
"""

import contextlib
import importlib
import importlib.metadata
import json
import platform
import sys
import time

import numpy as np

WARM_UP = 2
"""Samples presented before the clock starts: compilation, caches, thread pools."""


class Weights:
    """A sparse matrix of weights: `value[k]` from neuron `pre[k]` to neuron `post[k]`."""

    def __init__(self, case, name):
        self.post, self.pre = case[f"{name}_row"], case[f"{name}_column"]
        self.value, self.shape = case[f"{name}_value"], tuple(int(size) for size in case[f"{name}_shape"])


def main(name, path):
    """Build the network of peer `name`, present all samples one after another, print times and spike counts."""
    peer = importlib.import_module(f"peer_{name}")
    case = np.load(path)
    spikes = case["spikes"]
    # What a library prints must not mix with the answer.
    with contextlib.redirect_stdout(sys.stderr):
        present = peer.network(Weights(case, "liquid"), Weights(case, "input"))
        for sample in range(WARM_UP):
            present(spikes[sample % len(spikes)])
        wall, cpu = time.perf_counter(), time.process_time()
        counts = [present(raster) for raster in spikes]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    versions = {package: importlib.metadata.version(package) for package in peer.PACKAGES}
    answer = {
        "cpu_ms": 1e3 * cpu / len(spikes),
        "wall_ms": 1e3 * wall / len(spikes),
        "versions": {"python": platform.python_version()} | versions,
        "counts": np.asarray(counts).astype(int).tolist(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
