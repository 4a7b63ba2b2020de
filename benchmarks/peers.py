"""The same static liquid in other simulators: `python -m benchmarks --only peers` writes `results/peers.csv`.

One sample of 250 ms after another, the same spikes in, one thread, warm-up excluded, each peer in its own process.
What each peer computes differently stands at the head of its `peer_*.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import cases, table
from benchmarks.clock import measure
from lsm import protocol

HERE = Path(__file__).resolve().parent
PEERS = ("reservoirpy", "snntorch", "brian2")
BRIAN2_PACKAGES = ("brian2>=2.9,<3", "numpy<2.4", "cython", "setuptools")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PLASTIC_BURN_IN = 5000
Own = dict[str, float]
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


def peer_row(result: dict[str, Any], what: str, size: str, own_cpu_ms: float) -> dict[str, Any]:
    """A row of the benchmark table from a result of `time_peer`; `ratio` is the peer's CPU time over ours."""
    if "missing" in result:
        return table.missing(what, result["missing"]) | {"size": size, "threads": 1, "peer": result["peer"]}
    return table.row(
        what, size, threads=1, peer=result["peer"], cpu_ms=result["cpu_ms"], wall_ms=result["wall_ms"],
        ratio=result["cpu_ms"] / own_cpu_ms,
        versions=" ".join(f"{package} {version}" for package, version in result["versions"].items()),
    )  # fmt: skip


def static_case(n_samples: int = 20, repeats: int = 5) -> tuple[Any, Any, NDArray[np.uint8], Own, Own]:
    """1,000 neurons with all weights 0.9 and the scanned digits: both weight matrices, input spikes, our own times.

    The last two are CPU and wall ms and the rate of our static liquid and of a plastic NALSM on the same wiring.
    """
    from scipy.sparse import coo_array

    data = cases.load("digits", Path())
    inputs = data.test.take(slice(0, 64))
    fixed = cases.prepare(data, cases.static(1000), 0)
    liquid = fixed.liquid
    weights = coo_array((liquid.w_start, (liquid.col, liquid.pre)), (liquid.n, liquid.n + liquid.n_in)).tocsc()
    arguments = (liquid, fixed.parameters, liquid.w_start, inputs, 0, "test")
    spikes = np.array([protocol.record(*arguments, sample).inputs for sample in range(n_samples)])
    own = []
    for case in (fixed, cases.prepare(data, cases.nalsm(1000), PLASTIC_BURN_IN)):
        present = partial(protocol.spike_counts, case.liquid, case.parameters, case.weights, inputs, 0, "test")
        rate_hz = 1e3 * float(present().counts.mean()) / case.parameters.run_ms
        times = measure(present, repeats, len(inputs))
        own.append({"cpu_ms": times.cpu_ms, "wall_ms": times.wall_ms, "rate_hz": rate_hz})
    return weights[:, : liquid.n], weights[:, liquid.n :], spikes, own[0], own[1]


def peer_rows() -> Iterator[dict[str, Any]]:
    """Ours, static and plastic, and every peer on the static liquid; peers cannot run the plastic one."""
    w_liquid, w_input, spikes, own, plastic = static_case()
    size = f"n={w_liquid.shape[0]}, {w_liquid.nnz + w_input.nnz} synapses"
    what = "digits: static sample of 250 ms"
    for name, times in ((what, own), ("digits: plastic NALSM sample of 250 ms", plastic)):
        yield table.row(
            f"{name}, {times['rate_hz']:.0f} Hz", size, threads=1, cpu_ms=times["cpu_ms"], wall_ms=times["wall_ms"],
            ratio=times["cpu_ms"] / own["cpu_ms"],
        )  # fmt: skip
    for name in PEERS:
        result = time_peer(name, w_liquid, w_input, spikes)
        if "missing" in result:
            yield peer_row(result, what, size, own["cpu_ms"])
            continue
        yield peer_row(result, f"{what}, {result['rate_hz']:.0f} Hz", size, own["cpu_ms"])
        yield peer_row(result, "  its static sample against our plastic one", size, plastic["cpu_ms"])


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
