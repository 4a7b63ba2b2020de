"""The random-RRAM liquid in snntorch: `python peer_rram_snntorch.py CASE.npz BATCH THREADS`, one line of JSON.

    v <- decay v + const (x G_in + s G_rec);  spike where v > V_th, and v <- 0 at once (`Leaky`, reset_delay=False)

The equations are ours; products are dense, of a batch of samples, float32, without gradients. The case holds
`spikes (m, T, n_in)` uint8, `g_in (n_in, n)`, `g_rec (n, n)`, and the numbers `decay`, `threshold`, `const`.
"""

import importlib.metadata
import json
import platform
import sys
import time

import numpy as np
import snntorch
import torch


def main(path, batch, threads):
    """Present all samples in batches, after one batch to warm up; print times a sample and all spike counts."""
    torch.set_num_threads(int(threads))
    torch.set_grad_enabled(False)
    case, size = np.load(path), int(batch)
    w_in, w_rec = (torch.from_numpy((case["const"] * case[name]).astype(np.float32)) for name in ("g_in", "g_rec"))
    neurons = snntorch.Leaky(
        beta=float(case["decay"]), threshold=float(case["threshold"]), reset_mechanism="zero", reset_delay=False
    )

    def present(raster):
        """Spike counts `(m, n)` of a batch `(m, T, n_in)` of uint8."""
        x = torch.from_numpy(raster).float()
        v = torch.zeros(len(x), len(w_rec))
        spikes, counts = torch.zeros_like(v), torch.zeros_like(v)
        for step in range(x.shape[1]):
            spikes, v = neurons(x[:, step] @ w_in + spikes @ w_rec, v)
            counts += spikes
        return counts.numpy()

    samples = case["spikes"]
    present(samples[:size])
    wall, cpu = time.perf_counter(), time.process_time()
    counts = [present(samples[first : first + size]) for first in range(0, len(samples), size)]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    versions = {package: importlib.metadata.version(package) for package in ("snntorch", "torch")}
    answer = {
        "cpu_ms": 1e3 * cpu / len(samples),
        "wall_ms": 1e3 * wall / len(samples),
        "versions": {"python": platform.python_version()} | versions,
        "counts": np.concatenate(counts).astype(int).tolist(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
