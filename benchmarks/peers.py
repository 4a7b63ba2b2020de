"""The same static liquid in other simulators: `python -m benchmarks.peers` writes `benchmarks/results/peers.csv`.

One sample of 250 ms after another, the same spikes in, one thread, warm-up excluded, each peer in its own process.
What each peer computes differently stands at the head of its `peer_*.py`.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
PEERS = ("reservoirpy", "snntorch", "brian2")
COLUMNS = ("what", "size", "threads", "cpu_ms", "wall_ms", "peer", "ratio", "versions", "cpu_model")
BRIAN2_PACKAGES = ("brian2>=2.9,<3", "numpy<2.4", "cython", "setuptools")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LIMIT_S = 600.0
"""A peer that needs longer is reported as missing."""


def time_peer(
    name: str, w_liquid: Any, w_input: Any, spikes: NDArray[np.uint8], n_samples: int | None = None
) -> dict[str, Any]:
    """Time of `name` (one of `PEERS`) for each sample, on one thread.

    `w_liquid (n, n)` and `w_input (n, n_in)` are scipy sparse matrices [post, pre] in threshold units (20);
    `spikes (m, T, n_in)` are spikes of the input neurons, used again from the start if `n_samples` is above m.
    Returns `peer, cpu_ms, wall_ms, rate_hz, versions, counts (n_samples, n)`, or `peer, missing` with the reason.
    """
    index = np.arange(n_samples or len(spikes)) % len(spikes)
    case: dict[str, Any] = {"spikes": np.asarray(spikes, np.uint8)[index]}
    for part, weights in (("liquid", w_liquid), ("input", w_input)):
        entries = weights.tocoo()
        case |= {f"{part}_row": entries.row, f"{part}_column": entries.col, f"{part}_value": entries.data}
        case[f"{part}_shape"] = np.array(entries.shape)
    try:
        python = brian2_python() if name == "brian2" else Path(sys.executable)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "case.npz"
            np.savez(path, **case)
            command = [python, HERE / "peer_process.py", name, path]
            if name == "brian2":
                # Fills Brian2's cache of compiled code: a process that compiles stays three times slower to its end.
                _output(command, os.environ | ONE_THREAD)
            answer = json.loads(_output(command, os.environ | ONE_THREAD))
    except (OSError, RuntimeError) as error:
        return {"peer": name, "missing": str(error)}
    counts = np.array(answer["counts"])
    rate_hz = 1e3 * float(counts.mean()) / spikes.shape[1]
    return answer | {"peer": name, "counts": counts, "rate_hz": rate_hz}


def brian2_python() -> Path:
    """The interpreter of Brian2's own environment, made at the first call: Brian2 needs an older numpy than lsmrun.

    It lies in `LSMRUN_BRIAN2_VENV`, else in `~/.cache/lsmrun/brian2`. Raises `RuntimeError` where it cannot be made.
    """
    folder = Path(os.environ.get("LSMRUN_BRIAN2_VENV", "~/.cache/lsmrun/brian2")).expanduser()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = folder / "complete"  # a broken-off installation has no such file
    if not complete.exists():
        venv.create(folder, with_pip=True, clear=True)
        _output([python, "-m", "pip", "install", "--quiet", *BRIAN2_PACKAGES], os.environ)
        complete.touch()
    return python


def peer_row(result: dict[str, Any], what: str, size: str, own_cpu_ms: float, cpu_model: str) -> dict[str, Any]:
    """A row of the benchmark table from a result of `time_peer`; `ratio` is the peer's CPU time over ours."""
    row = {"what": what, "size": size, "threads": 1, "peer": result["peer"], "cpu_model": cpu_model}
    if "missing" in result:
        return row | {"cpu_ms": "", "wall_ms": "", "ratio": "", "versions": f"missing: {result['missing']}"}
    return row | {
        "cpu_ms": f"{result['cpu_ms']:.3f}",
        "wall_ms": f"{result['wall_ms']:.3f}",
        "ratio": f"{result['cpu_ms'] / own_cpu_ms:.1f}",
        "versions": " ".join(f"{package} {version}" for package, version in result["versions"].items()),
    }


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a benchmark table with the columns `COLUMNS`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


def static_case(n_samples: int = 20) -> tuple[Any, Any, NDArray[np.uint8], dict[str, float]]:
    """1,000 neurons with all weights 0.9 and the scanned digits: both weight matrices, input spikes, our own time."""
    from scipy.sparse import coo_array

    from lsm.datasets.digits import Digits
    from lsm.liquid import build_liquid
    from lsm.parameters import LiquidParameters
    from lsm.protocol import record, spike_counts

    inputs = Digits().load(Path(), seed=0).test.inputs
    parameters = LiquidParameters(learning="none", w_start=0.9)
    liquid = build_liquid(parameters, inputs.n_in, np.random.SeedSequence(0))
    weights = coo_array((liquid.w_start, (liquid.col, liquid.pre)), (liquid.n, liquid.n + liquid.n_in)).tocsc()
    arguments = (liquid, parameters, liquid.w_start, inputs, 0, "test")
    spikes = np.array([record(*arguments, sample).inputs for sample in range(n_samples)])
    spike_counts(*arguments)  # compiles
    wall, cpu = time.perf_counter(), time.process_time()
    counts = spike_counts(*arguments).counts
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rate_hz = 1e3 * float(counts.mean()) / parameters.run_ms
    own = {"cpu_ms": 1e3 * cpu / len(inputs), "wall_ms": 1e3 * wall / len(inputs), "rate_hz": rate_hz}
    return weights[:, : liquid.n], weights[:, liquid.n :], spikes, own


def main() -> None:
    """Time ours and every peer, print and write the table."""
    from runners.provenance import cpu_model

    w_liquid, w_input, spikes, own = static_case()
    versions = {name: importlib.metadata.version(name) for name in ("lsmrun", "numba", "numpy")}
    results = [own | {"peer": "lsmrun", "versions": versions}]
    results += [time_peer(name, w_liquid, w_input, spikes) for name in PEERS]
    size = f"n={w_liquid.shape[0]}, {w_liquid.nnz + w_input.nnz} synapses"
    rows = []
    for result in results:
        rate = f", {result['rate_hz']:.0f} Hz" if "rate_hz" in result else ""
        rows.append(peer_row(result, f"static sample of 250 ms{rate}", size, own["cpu_ms"], cpu_model()))
        print("  ".join(f"{column}: {rows[-1][column]}" for column in COLUMNS[:-1]), flush=True)
    write_rows(HERE / "results" / "peers.csv", rows)


def _output(command: list[Any], environment: Any) -> str:
    """Standard output of a command; raises `RuntimeError` with the last line of its error output where it fails."""
    try:
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer within {LIMIT_S:g} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(lines[-1])
    return done.stdout


if __name__ == "__main__":
    main()
