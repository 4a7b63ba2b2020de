"""MACE trained on the same frames, in an environment of its own: `python peer_mace.py FOLDER SECONDS CHANNELS`.

FOLDER holds `train.xyz`, `valid.xyz`, `test.xyz` (eV, eV/Å; keys REF_energy, REF_forces) and `atoms.json`, energies of
isolated atoms. SECONDS are CPU time of one thread, since other work on the machine would falsify wall time; the number of
epochs is what fits into them, measured by two short runs; the last quarter has the larger energy weight that MACE's
authors advise. One line of JSON goes to standard output. Only mace and ase are taken for granted here; two layers,
l <= 2, correlation 2, cutoff 4 Å as in the authors' tutorial on these clusters, float32.
"""

import contextlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

PACKAGES = ("mace-torch", "torch", "e3nn", "numpy")
TIMED_CALLS = 20


def fit(folder, work, epochs, channels):
    """Train for some epochs; returns the path of the model."""
    from mace.cli.run_train import run
    from mace.tools import build_default_arg_parser

    energies = json.loads((folder / "atoms.json").read_text())
    late = max(1, round(0.75 * epochs))
    values = {
        "name": "peer", "work_dir": work, "train_file": folder / "train.xyz", "valid_file": folder / "valid.xyz",
        "E0s": "{" + ", ".join(f"{z}: {e}" for z, e in energies.items()) + "}", "model": "MACE", "r_max": 4.0,
        "max_ell": 2, "correlation": 2, "num_channels": channels, "max_L": 0, "batch_size": 10, "valid_batch_size": 10,
        "max_num_epochs": epochs, "start_swa": late, "default_dtype": "float32", "device": "cpu", "seed": 123,
        "eval_interval": max(1, epochs // 20), "forces_weight": 100.0, "energy_weight": 1.0,
    }  # fmt: skip
    words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    run(build_default_arg_parser().parse_args([*words, "--swa", "--ema", "--amsgrad"]))
    models = sorted(Path(work).glob("peer_stagetwo.model")) or sorted(Path(work).glob("peer.model"))
    return models[0]


def errors(calculator, frames):
    """Mean absolute errors."""
    energy, forces = [], []
    for atoms in frames:
        calculator.calculate(atoms, ["energy", "forces"])
        energy.append(1000 * abs(calculator.results["energy"] - atoms.info["REF_energy"]) / len(atoms))
        forces.append(1000 * np.abs(calculator.results["forces"] - atoms.arrays["REF_forces"]))
    return {
        "energy_mae_meV_per_atom": float(np.mean(energy)),
        "forces_mae_meV_per_A": float(np.concatenate(forces).mean()),
    }


def call_times(calculator, frames):
    """Median time of one call on the largest frame, whose positions move a little, so that nothing is cached."""
    largest = max(frames, key=len).copy()
    wall, cpu = [], []
    rng = np.random.default_rng(0)
    for _ in range(TIMED_CALLS):
        largest.positions += rng.normal(0, 1e-3, largest.positions.shape)
        started, used = time.perf_counter(), time.process_time()
        calculator.calculate(largest, ["energy", "forces"])
        wall.append(1000 * (time.perf_counter() - started))
        cpu.append(1000 * (time.process_time() - used))
    return {
        "call_wall_ms": float(np.median(wall)),
        "call_cpu_ms": float(np.median(cpu)),
        "call_atoms": len(largest),
    }


def main(folder, seconds, channels):
    """Time, train, score, print."""
    import ase.io
    from mace.calculators import MACECalculator

    torch.set_num_threads(1)
    folder = Path(folder)
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints must not mix with the answer
        times = []
        for epochs in (1, 3):
            started = time.process_time()
            fit(folder, folder / f"timing{epochs}", epochs, int(channels))
            times.append(time.process_time() - started)
        epochs = max(4, int(float(seconds) / ((times[1] - times[0]) / 2)))
        started = time.process_time()
        path = fit(folder, folder / "run", epochs, int(channels))
        spent = time.process_time() - started
        calculator = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float32")
        valid, test = (ase.io.read(folder / f"{part}.xyz", ":") for part in ("valid", "test"))
        answer = {f"valid_{name}": value for name, value in errors(calculator, valid).items()}
        answer |= errors(calculator, test) | call_times(calculator, test)
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    print(json.dumps({"epochs": epochs, "training_cpu_s": spent, "versions": versions, **answer}))


if __name__ == "__main__":
    main(*sys.argv[1:])
