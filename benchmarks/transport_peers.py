"""Diffusion and conductivity of the same walks by ours and by kinisi: `python -m benchmarks.transport_peers --python PYTHON`.

PYTHON is that of an environment with kinisi. The walks of ions that move in pairs have known answers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import constants

from benchmarks import table
from mlff.transport import Centres, conductivity, displacements, self_diffusion

D_A2_PS = {"Li": 0.02, "PF6": 0.03, "EC": 0.10}
CHARGE = {"Li": 1.0, "PF6": -1.0, "EC": 0.0}
NAMES = ("Li",) * 10 + ("PF6",) * 10 + ("EC",) * 20
PAIRING, EDGE_A, TEMPERATURE_K, START_PS, N_FRAMES = 0.5, 28.0, 300.0, 1.0, 2000
PEER = Path(__file__).with_name("peer_kinisi.py")


def walk(seed: int) -> Centres:
    """Each cation shares its steps, of one ps, with an anion: their correlation is `PAIRING`."""
    steps = np.random.default_rng(seed).standard_normal((N_FRAMES, len(NAMES), 3))
    steps[:, 10:20] = PAIRING * steps[:, :10] + np.sqrt(1 - PAIRING**2) * steps[:, 10:20]
    positions = np.cumsum(np.sqrt(2 * np.array([D_A2_PS[n] for n in NAMES]))[:, None] * steps, axis=0)
    return Centres(1.0, positions, np.ones(len(NAMES)), np.array([CHARGE[n] for n in NAMES]), NAMES)


def known() -> dict[str, float]:
    """The answers, in m2/s and S/m."""
    factor = constants.e**2 / (EDGE_A**3 * 1e-30 * constants.k * TEMPERATURE_K) * 1e-8
    own, shared = D_A2_PS["Li"] + D_A2_PS["PF6"], 2 * PAIRING * (D_A2_PS["Li"] * D_A2_PS["PF6"]) ** 0.5
    return {f"D_{name}": d * 1e-8 for name, d in D_A2_PS.items()} | {"sigma": 10 * factor * (own - shared)}


def ours(centres: Centres) -> dict[str, tuple[float, float]]:
    """Value and standard error of each quantity."""
    curves = displacements([centres], n_blocks=8)
    found = {f"D_{d.name}": d.in_box for d in self_diffusion(curves)}
    found["sigma"] = conductivity(curves, EDGE_A**3, TEMPERATURE_K).collective
    return {name: (e.value, e.standard_error) for name, e in found.items()}


def kinisi(centres: Centres, python: str) -> dict[str, Any]:
    """The same by kinisi."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.npz"
        np.savez(
            path,
            positions=centres.positions,
            names=np.array(centres.names),
            charges=centres.charges,
            dt=centres.dt_ps,
            edge=EDGE_A,
            temperature_K=TEMPERATURE_K,
        )
        run = subprocess.run([python, str(PEER), str(path), str(START_PS)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """One row for each walk, quantity and program: value and error as shares of the answer, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="the Python of an environment with kinisi")
    parser.add_argument("--walks", type=int, default=5)
    parser.add_argument("--results", type=Path, default=table.RESULTS)
    options = parser.parse_args()
    rows = []
    for seed in range(options.walks):
        centres = walk(seed)
        peer = kinisi(centres, options.python)
        version = peer.pop("version")
        for program, found in {
            "lsmrun": ours(centres),
            **{f"kinisi {version}, {k}": v for k, v in peer.items()},
        }.items():
            for name, answer in known().items():
                value, error = (float(v) / answer for v in found[name])
                cells = {"walk": seed, "program": program, "quantity": name}
                rows.append(
                    cells
                    | {"ratio": round(value, 4), "error": round(error, 4), "sigmas": round((value - 1) / error, 2)}
                )
                print(rows[-1], flush=True)
    table.write_own(options.results / "transport_peers.csv", rows)


if __name__ == "__main__":
    main()
