"""The random-RRAM liquid: encoding as many samples as N-MNIST has, beside snntorch on the same samples and weights.

200 neurons, 50 steps, the published setting. Samples are the recordings of the data folder, presented over and over, else
independent spikes of the same density.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import table
from benchmarks.clock import Times, measure
from lsm.encode import Events
from lsm.rram.device import Device
from lsm.rram.encoder import STATS, Encoder, build_encoder, calibrated, dense, encode
from lsm.rram.parameters import RramParameters
from lsm.rram.view import steps_for

WHOLE_SET = 60_000
DENSITY = 0.087
"""Share of filled bins of the central 16x16 pixels of N-MNIST."""
PEER_SAMPLES, PEER_BATCH = 2_000, 1_000
"""The authors encode in batches of 1,000."""
DEVICES: dict[str, Device] = {
    "ideal device": Device(),
    "chip_like device": Device(draw="breakdown", breakdown_skew=0.5, read_noise=0.02, adc_bits=14),
}
HERE = Path(__file__).resolve().parent
LIMIT_S = 600.0


def samples(root: Path, n: int) -> tuple[str, Events]:
    """`n` samples as the liquid sees them, and what they are."""
    from lsm.datasets.nmnist import NMnist

    try:
        folder = next(root / name for name in NMnist.folders if (root / name).is_dir())
        dataset = NMnist(path=str(folder), allow_partial=True).load(root, seed=0)
    except (StopIteration, ValueError, OSError):
        rasters = np.random.default_rng(0).random((min(n, 1000), 50, 256)) < DENSITY
        found = [np.nonzero(raster) for raster in rasters]
        seen = Events.from_lists([t for t, _ in found], [c for _, c in found], 256, 50)
        return f"spikes of density {DENSITY}", seen.take(np.arange(n) % len(seen))
    seen = steps_for(dataset.encoding, _parameters(Device()), dataset.train.inputs)
    return f"{len(seen)} recordings of N-MNIST in turn", seen.take(np.arange(n) % len(seen))


def rram_rows(root: Path, n: int = WHOLE_SET, peers: bool = True, repeats: int = 3) -> Iterator[dict[str, Any]]:
    """Ours on one and on two threads with an ideal and a noisy device; snntorch on one and on two."""
    what, steps = samples(root, n)
    alone = 0.0
    for name, device in DEVICES.items():
        encoder = calibrated(build_encoder(_parameters(device), steps.n_in, 0), steps)
        out = encode(encoder, steps.take(np.arange(min(n, 1000))))  # compiles, and tells what is done
        operations = float(out.stats[:, STATS.index("synaptic_operations")].mean())
        for threads in (1, 2):
            times = measure(lambda: encode(encoder, steps, threads=threads), repeats, n)  # noqa: B023
            alone = alone or times.cpu_ms
            yield table.row(
                f"rram_lsm: encode {n} samples ({what}), {name}, {_seconds(times, n)}", _size(encoder), threads=threads,
                cpu_ms=times.cpu_ms, wall_ms=times.wall_ms, ratio=times.cpu_ms / alone, operations=round(operations),
            )  # fmt: skip
    encoder = build_encoder(_parameters(Device()), steps.n_in, 0)
    for threads in (1, 2) if peers else ():
        yield _peer_row(encoder, steps.take(np.arange(min(n, PEER_SAMPLES))), n, threads, alone)


def _peer_row(encoder: Encoder, steps: Events, n: int, threads: int, own_cpu_ms: float) -> dict[str, Any]:
    what = f"rram_lsm: encode {n} samples, {len(steps)} of them timed, batches of {PEER_BATCH}"
    try:
        answer = time_snntorch(encoder, steps, threads)
    except (OSError, RuntimeError) as error:
        return table.missing(what, str(error)) | {"size": _size(encoder), "threads": threads, "peer": "snntorch"}
    same = float(np.mean(np.array(answer["counts"]) == encode(encoder, steps).counts))
    times = Times(answer["cpu_ms"], answer["wall_ms"])
    return table.row(
        f"{what}, {_seconds(times, n)}, {same:.2%} of the counts are ours", _size(encoder), threads=threads, peer="snntorch",
        cpu_ms=times.cpu_ms, wall_ms=times.wall_ms, ratio=times.cpu_ms / own_cpu_ms,
        operations=encoder.n_steps * encoder.crossbar.pairs.plus.size,
        versions=" ".join(f"{package} {version}" for package, version in answer["versions"].items()),
    )  # fmt: skip


def time_snntorch(encoder: Encoder, steps: Events, threads: int) -> dict[str, Any]:
    """Times a sample and counts of the same liquid in snntorch, in a process of its own; raises `RuntimeError`."""
    p, pairs, n_in = encoder.parameters, encoder.crossbar.pairs, encoder.n_in
    difference = pairs.plus - pairs.minus
    case = {"spikes": dense(steps, 0, len(steps), encoder.n_steps).astype(np.uint8)}
    case |= {"g_in": difference[:n_in], "g_rec": difference[n_in:]}
    numbers = {"decay": p.decay, "threshold": p.v_threshold, "const": p.weight_per_uS}
    limited = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        np.savez(path, **case, **{name: np.asarray(value) for name, value in numbers.items()})
        command = [sys.executable, HERE / "peer_rram_snntorch.py", path, str(PEER_BATCH), str(threads)]
        try:
            done = subprocess.run(command, env=os.environ | limited, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"no answer within {LIMIT_S:g} s") from error
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _parameters(device: Device) -> RramParameters:
    setting = RramParameters(device=device)
    return setting.for_data({"kind": "nmnist"})


def _size(encoder: Encoder) -> str:
    return f"n={encoder.n_neurons}, {encoder.crossbar.pairs.plus.size} weights"


def _seconds(times: Times, n: int) -> str:
    return f"{times.cpu_ms * n / 1e3:.1f} CPU s in all"
