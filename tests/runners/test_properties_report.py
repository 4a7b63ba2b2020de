"""What the report of properties calls resolved, and under which names it is logged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlff.properties import Transport
from mlff.system.liquid import System
from mlff.transport import Diffusion, Estimate, RadialDistribution, SolvationShells, Viscosity, Window
from runners.plots import properties as plots
from runners.properties_report import Line, _lines, _structure
from runners.properties_stages import Found

D_BOX, D_INFINITE = Estimate(4e-10, 1e-11, 8), Estimate(6e-10, 3e-11, 8)


def _viscosity(eta: Estimate, *, too_short: bool = False) -> Viscosity:
    none = np.zeros(2)
    return Viscosity(eta, Window(0.1, 5.0), 0.5, 1.0, too_short, none, none, none, none)


def _found(**known: Any) -> Found:
    empty: dict[str, Any] = {"viscosity": None, "curves": None, "diffusion": (), "conductivity": None}
    rest: dict[str, Any] = {"radial": {}, "shells": {}, "missing": {}}
    return Found(None, Transport(temperature_K=300.0, volume_A3=2e4, **(empty | rest | known)), 2)


def _by_metric(found: Found) -> dict[str, Line]:
    return {line.metric: line for line in _lines(found)}


@pytest.mark.parametrize(
    ("viscosity", "reason"),
    [
        (_viscosity(Estimate(1.0, 0.05, 8)), None),
        (_viscosity(Estimate(1.0, 0.05, 8), too_short=True), "the stress has not relaxed within the fit window"),
        (_viscosity(Estimate(1.0, 0.4, 8)), "the error is 95 % of the value"),
    ],
    ids=["resolved", "not relaxed", "uncertain"],
)
def test_a_corrected_diffusion_is_worth_no_more_than_its_viscosity(viscosity: Viscosity, reason: str | None) -> None:
    d = Diffusion("DMC", 40, D_BOX, D_INFINITE, Window(2.0, 8.0))
    lines = _by_metric(_found(viscosity=viscosity, diffusion=(d,)))
    box, corrected = lines["diffusion_box_DMC:m2_s"], lines["diffusion_DMC:m2_s"]
    assert box.unresolved is None and set(box.metrics()) == {f"md/diffusion_box_DMC{e}_m2_s" for e in ("", "_error")}
    where = "md" if reason is None else "unresolved"
    assert set(corrected.metrics()) == {f"{where}/diffusion_DMC{e}_m2_s" for e in ("", "_error")}
    if reason is None:
        assert corrected.unresolved is None
    else:
        assert str(corrected.unresolved).startswith(f"viscosity: {reason}")
        assert lines["viscosity:mPa_s"].unresolved == str(corrected.unresolved).removeprefix("viscosity: ")
    slow = replace(d, window=Window(2.0, 8.0, diffusive=False))
    assert "not diffusive" in str(
        _by_metric(_found(viscosity=viscosity, diffusion=(slow,)))["diffusion_DMC:m2_s"].unresolved
    )


def test_shells_that_never_changed_are_not_resolved_and_carry_no_error() -> None:
    never, wide, good = Estimate(4.0, np.inf, 0), Estimate(0.1, 0.05, 4), Estimate(0.6, 0.02, 4)
    shells = SolvationShells({"SSIP": good, "CIP": wide, "AGG": Estimate(0.0, 0.0, 5)}, {"EC": never}, (), 2.8)
    found = _found(shells={"Li": shells})
    lines = _by_metric(found)
    assert set(lines["share_Li_SSIP"].metrics()) == {"md/share_Li_SSIP", "md/share_Li_SSIP_error"}
    assert set(lines["share_Li_CIP"].metrics()) == {"unresolved/share_Li_CIP", "unresolved/share_Li_CIP_error"}
    assert lines["share_Li_AGG"].metrics() == {"unresolved/share_Li_AGG": 0.0}
    assert lines["shell_Li_EC"].metrics() == {"unresolved/shell_Li_EC": 4.0}
    said = lines["shell_Li_EC"].text(System(name="x", solvents=["EC"], solvent_amounts=[1.0]))
    assert said.startswith("EC in the shell of Li: not resolved (4); no exchange was seen")


def test_the_coordination_number_of_a_distribution_is_reported_by_the_same_rule() -> None:
    r = np.linspace(0.0, 5.0, 3)
    radial = {
        name: RadialDistribution(r, r, r, 2.8, e)
        for name, e in {"Li-O(EC)": Estimate(4.0, np.inf, 0), "Li-F(PF6)": Estimate(0.6, 0.02, 4)}.items()
    }
    still, moving = _structure(_found(radial=radial).transport, 2)
    assert still.startswith("Li-O(EC): first shell to 2.80 Å, coordination number not resolved (4); no exchange")
    assert moving == "Li-F(PF6): first shell to 2.80 Å, coordination number 0.6 ± 0.064"
    unending = {"DMC-DMC": RadialDistribution(r, r, r, None, None)}
    assert _structure(_found(radial=unending).transport, 2) == ["DMC-DMC: no first shell that ends within 5.0 Å"]


@pytest.mark.parametrize("number", [Estimate(12.0, 0.1, 8), None], ids=["first shell of twelve", "no end of a shell"])
def test_the_picture_of_a_distribution_reaches_its_first_shell(number: Estimate | None) -> None:
    r = np.linspace(0.0, 7.0, 50)
    end = None if number is None else 6.0
    found = _found(radial={"DMC-DMC": RadialDistribution(r, r, 2 * r, end, number)})
    _, right = plots.radial(found.transport).axes
    assert right.get_ylim()[1] >= 12.0 and right.get_ylabel() == "number within r"
