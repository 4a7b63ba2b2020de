"""Diffusion and conductivity by kinisi, for `transport_peers`; runs in an environment of its own.

`python peer_kinisi.py walk.npz start_ps` prints one JSON line: mean and standard deviation of kinisi's posterior, with
its defaults and with `recondition=True`. kinisi takes off the drift of all other particles, and multiplies the sum of
displacements by one charge: so each analysis gets its own particles beside one that rests, anions mirrored.
"""

import importlib.metadata
import json
import sys

import MDAnalysis
import numpy as np
import scipp as sc
from kinisi.analyze import ConductivityAnalyzer, DiffusionAnalyzer
from kinisi.diffusion import Diffusion
from MDAnalysis.coordinates.memory import MemoryReader

LAGS = 60


def universe(positions, edge, dt):
    """Walkers and one particle at rest, in a periodic box."""
    frames = np.concatenate([positions, np.zeros_like(positions[:, :1])], axis=1) % edge
    u = MDAnalysis.Universe.empty(frames.shape[1], trajectory=False)
    for name in ("name", "type"):
        u.add_TopologyAttr(name, ["X"] * positions.shape[1] + ["rest"])
    box = np.tile([edge] * 3 + [90.0] * 3, (len(frames), 1))
    u.load_new(frames.astype(np.float32), format=MemoryReader, dt=dt, dimensions=box)
    return u


def analyse(data, start, recondition):
    """`{"D_Li": [mean, standard deviation], ..., "sigma": [...]}` in m2/s and S/m."""
    dt, edge, found = float(data["dt"]), float(data["edge"]), {}
    lags = sc.array(dims=["time interval"], values=np.arange(1, LAGS + 1) * dt, unit="ps")
    ps, one = sc.Unit("ps"), sc.Unit("dimensionless")
    common = {"specie": "X", "time_step": dt * ps, "step_skip": 1 * one, "dt": lags, "progress": False}
    seeded = {"progress": False, "recondition": recondition, "random_state": np.random.RandomState(0)}
    for name in dict.fromkeys(data["names"].tolist()):
        analysis = DiffusionAnalyzer.from_universe(
            universe(data["positions"][:, data["names"] == name], edge, dt), **common
        )
        analysis.diffusion(start * ps, **seeded)
        d = sc.to_unit(analysis.D, "m2/s").values
        found[f"D_{name}"] = [float(d.mean()), float(d.std())]
    ions = data["charges"] != 0
    mirrored = data["positions"][:, ions] * data["charges"][ions][:, None]
    charge = 1.0 * sc.Unit("e")
    analysis = ConductivityAnalyzer.from_universe(universe(mirrored, edge, dt), ionic_charge=charge, **common)
    # as ConductivityAnalyzer.conductivity does, which does not pass `recondition` on
    fit, path = Diffusion(dg=analysis.dg), analysis.trajectory
    temperature = float(data["temperature_K"]) * sc.Unit("K")
    fit._conductivity(start * ps, temperature, path._volume, path.displacements.sizes["particle"], **seeded)
    sigma = sc.to_unit(fit.sigma, "S/m").values
    return found | {"sigma": [float(sigma.mean()), float(sigma.std())]}


def main():
    """Both ways, on one line."""
    data, start = dict(np.load(sys.argv[1])), float(sys.argv[2])
    print(
        json.dumps(
            {
                "default": analyse(data, start, False),
                "recondition": analyse(data, start, True),
                "version": importlib.metadata.version("kinisi"),
            }
        )
    )


if __name__ == "__main__":
    main()
