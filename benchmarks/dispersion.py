"""Dispersion learned from the labels, or left out of them and added in simulations: `python -m benchmarks.dispersion`.

The same clusters, those of `data=electrolyte`, are labelled with GFN2-xTB as it is and less its D4 term; a model is
trained on each set in the same way, and simulated at constant pressure. Densities and errors on validation clusters go
to `dispersion.csv`, a row for each model. Every step is one `lsmrun` command that goes on where it was killed; those
that have finished are not run again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlff
from benchmarks.table import RESULTS, write_own
from runners.paths import home_folder
from runners.record import job_of, run_once
from runners.store import find_finished, open_store

CLUSTERS = Path(mlff.__file__).parent / "data" / "electrolyte_clusters.xyz.gz"
ROUTES = {"learned from the labels (D4)": "gfn2", "added in simulations (D3 by element)": "gfn2_without_dispersion"}
TRAINED = ("valid/forces_mae_meV_per_A", "valid/energy_mae_meV_per_atom", "valid/net_forces_mae_meV_per_A")
SIMULATED = {
    "md/density_g_cm3": "g_cm3",
    "md/density_error_g_cm3": "error_g_cm3",
    "measured/density_g_cm3": "measured_g_cm3",
}
"""Metrics of `runner=properties`, and how the table calls them; empty where a density is not resolved."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dispersion", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--routes", nargs="+", choices=tuple(ROUTES.values()), default=tuple(ROUTES.values()))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--clusters", type=Path, default=CLUSTERS)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--systems", nargs="+", default=["dmc", "ec"])
    parser.add_argument("--atoms", type=int, default=200)
    parser.add_argument("--length-ps", type=float, default=50.0)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--also", nargs="+", default=[], metavar="KEY=VALUE", help="more of every simulation")
    parser.add_argument("--results", type=Path, default=RESULTS)
    o = parser.parse_args(arguments)
    rows = []
    for seed in o.seeds:
        for route, labels in ROUTES.items():
            if labels in o.routes:
                rows.append({"dispersion": route, "seed": seed, **_measured(labels, seed, o)})
                print(rows[-1], flush=True)
                write_own(o.results / "dispersion.csv", rows, digits=5)
    return 0


def _measured(labels: str, seed: int, o: argparse.Namespace) -> dict[str, Any]:
    """One model: labels, training, densities."""
    cut = [f"runner.clusters=['{o.clusters}']", "runner.perturbation=null"]
    labelled, found = _run(["runner=label", f"labels={labels}", *cut, "seed=0"])
    values = {"clusters": found["labels/kept"]}
    # always the same folder, as the next command is known by its words
    folder = home_folder("./runs") / "dispersion" / labelled
    folder.mkdir(parents=True, exist_ok=True)
    frames = Path(_client().download_artifacts(labelled, "labels", str(folder))) / "frames.xyz"
    trained, found = _run(
        [
            "model=mlff", "data=labelled", f"data.train=['{frames}']", "data.split=random", "data.split_seed=0",
            f"training.epochs={o.epochs}", "training.weights.energy=200", "training.weights.virial=0.01",
            "training.weights.net_forces=1", "runner.pictures=false", f"seed={seed}",
        ]
    )  # fmt: skip
    values |= {name: found[name] for name in TRAINED}
    for system in o.systems:
        _, found = _run(
            [
                "model=mlff", "runner=properties", "properties=quick", f"system={system}", f"system.n_atoms={o.atoms}",
                f"properties.replicas={o.replicas}", f"properties.density.length_ps={o.length_ps:g}",
                f"checkpoint={trained}", "runner.pictures=false", f"seed={seed}", *o.also,
            ]
        )  # fmt: skip
        values |= {f"{system}_{short}": found.get(name, "") for name, short in SIMULATED.items()}
    return values


def _run(words: list[str]) -> tuple[str, dict[str, Any]]:
    """MLflow run and metrics of a command, which is run unless it has finished before."""
    job = job_of(words)
    run = find_finished(_client(), job)
    if run is None:
        run_once(words)
        run = find_finished(_client(), job)
    assert run is not None  # else `run_once` has raised
    return run.info.run_id, dict(run.data.metrics)


def _client() -> Any:
    return open_store(home_folder("./runs")).client()


if __name__ == "__main__":
    sys.exit(main())
