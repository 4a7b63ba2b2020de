"""What trained networks cost, as metrics: those of the fixed liquids, so that runs of both can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import yaml

from runners.check import build
from runners.options import CONF

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lsm.recurrent_cost import NetworkCost
    from lsm.rram.constants import EnergyConstants


def cost_metrics(costs: Mapping[str, Sequence[NetworkCost]]) -> dict[str, float]:
    """Costs of the networks of each sense (`""`: of the only one), as means over networks.

    `device/<sense>_...` are after NeuroBench; `cost/...` and `energy/digital_..._uJ` are for a sample of each sense.
    """
    from lsm.rram.energy import energy_pJ

    results: dict[str, float] = {}
    for sense, networks in costs.items():
        head = f"device/{sense}_" if sense else "device/"
        for name in networks[0].neurobench:
            results[f"{head}{name}"] = float(np.mean([c.neurobench[name] for c in networks]))
    together = list(zip(*costs.values(), strict=True))
    results["cost/fwd_macs"] = sum(c.fwd_macs for c in together[0])
    results["cost/bwd_macs_srnn"] = sum(c.bwd_macs for c in together[0])
    constants = suggested_energy()
    by_sense = [[energy_pJ(c.work, constants) for c in senses] for senses in together]
    for name in ("digital_dense", "digital_event"):
        results[f"energy/{name}_uJ"] = float(np.mean([sum(e[name] for e in senses) for senses in by_sense])) * 1e-6
    return results


def suggested_energy() -> EnergyConstants:
    """The constants of `conf/energy/suggested.yaml`: a trained network has no section of its own."""
    values = yaml.safe_load((CONF / "energy" / "suggested.yaml").read_text(encoding="utf-8"))
    constants: EnergyConstants = build(values, "energy")
    return constants
