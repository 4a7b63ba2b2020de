"""What the report of properties calls resolved, and under which names it is logged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlff.properties import Transport
from mlff.transport import Diffusion, Estimate, Viscosity, Window
from runners.properties_report import Line, _lines
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
