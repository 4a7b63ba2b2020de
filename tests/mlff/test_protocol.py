"""Which dynamics may give which property; what is resolved, what it would take, and what to expect."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from mlff.dynamics.simulation import Dynamics
from mlff.protocol import Protocol
from mlff.transport import Estimate
from mlff.transport.resolved import Planned, expected_errors, what_it_takes

NPT, SETTLE = Dynamics(ensemble="npt"), Dynamics(ensemble="csvr", temperature_damping_fs=100.0)


def protocol(**settings: object) -> Protocol:
    return Protocol(**({"replicas": 2, "density": NPT, "settle": SETTLE} | settings))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"transport": Dynamics(ensemble="langevin")}, "friction and noise on every atom slow diffusion"),
        ({"transport": NPT}, "a barostat moves the atoms"),
        ({"transport": Dynamics(ensemble="csvr", temperature_damping_fs=100.0)}, "disturbs transport; at least 1000"),
        ({"transport": Dynamics(ensemble="nvt", temperature_damping_fs=999.0)}, "at least 1000"),
        ({"transport": Dynamics(ensemble="csvr", hydrogen_mass_u=3.0)}, "other masses move otherwise; must be null"),
        ({"density": SETTLE}, "a density needs npt"),
        ({"settle": NPT}, "settle.ensemble=npt"),
        ({"transport": Dynamics(ensemble="nve"), "replicas": 1, "blocks": 1}, "two blocks in all"),
    ],
)
def test_dynamics_that_spoil_a_property_are_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        protocol(**settings)


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "csvr"])
def test_weak_thermostats_are_fine(ensemble: str) -> None:
    assert protocol(transport=Dynamics(ensemble=ensemble)).transport is not None
    assert protocol().transport is None


def test_what_is_not_resolved_says_what_it_would_take() -> None:
    good, wide = Estimate(1.0, 0.05, 9), Estimate(1.0, 0.5, 9)
    assert what_it_takes(good, n_replicas=2) is None
    assert "about 5 times the simulated time" in str(what_it_takes(wide, n_replicas=2))
    assert "times the simulated time" in str(what_it_takes(Estimate(-1.0, 0.05, 9), n_replicas=2))
    assert "too few independent blocks" in str(what_it_takes(Estimate(1.0, math.inf, 1), n_replicas=1))
    for alike in (Estimate(4.0, 0.0, 5), Estimate(0.0, 0.0, 5), Estimate(4.0, 1e-16, 5)):  # blocks equal by chance
        assert "too few independent blocks" in str(what_it_takes(alike, n_replicas=1))
    assert "no exchange was seen" in str(what_it_takes(Estimate(4.0, math.inf, 0), n_replicas=2))
    assert "10 ion pairs x 1 replicas, 20 are needed: 2 replicas" in str(
        what_it_takes(good, n_replicas=1, ion_pairs=10)
    )
    assert what_it_takes(good, n_replicas=2, ion_pairs=10) is None
    assert "not diffusive" in str(what_it_takes(good, n_replicas=2, diffusive=False))
    assert "has not relaxed" in str(what_it_takes(good, n_replicas=2, too_short=True))


def planned(time: float, pairs: int = 10, **changed: Any) -> dict[str, float]:
    told: dict[str, Any] = {
        "n_replicas": 2,
        "n_blocks": 4,
        "density_ps": time,
        "transport_ps": time,
        "volume_A3": 8000.0,
        "temperature_K": 300.0,
        "n_solvent": 50,
        "n_ions": 2 * pairs,
        "n_pairs": pairs,
    }
    return expected_errors(Planned(**(told | changed)))


def test_expected_errors_fall_with_the_square_root_of_time() -> None:
    short, long = planned(100.0), planned(400.0)
    ratios = {k: short[k] / long[k] for k in short}
    assert ratios.pop("density") > 2.0  # more blocks, too
    assert ratios == pytest.approx(dict.fromkeys(ratios, 2.0))
    assert short["diffusion of solvent"] < short["diffusion of ions"] < short["conductivity"]
    assert math.isinf(planned(100.0, 4)["conductivity"])


def test_expected_errors_are_those_of_few_blocks() -> None:
    few, many = planned(100.0, n_blocks=1), planned(100.0, n_blocks=50)
    assert few["viscosity"] / many["viscosity"] == pytest.approx(12.71 / 1.984, rel=1e-3)  # Student's t of 2 and 100
    assert math.isinf(planned(100.0, n_replicas=1, n_blocks=1)["viscosity"])
    assert math.isinf(planned(20.0, n_replicas=1)["density"]) and planned(100.0, n_replicas=1)["density"] < 0.05


def test_the_expected_error_of_a_density_is_that_of_densities_on_record() -> None:
    # eleven liquids of 300 atoms, three runs of 30 ps each (docs/results/properties.md): 0.7 to 5.8 %, median 3.0 %
    quick = planned(30.0, n_replicas=3, transport_ps=0.0, volume_A3=3590.0)
    assert list(quick) == ["density"] and quick["density"] == pytest.approx(0.030, rel=0.2)
