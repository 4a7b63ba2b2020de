"""Methods of labelling whose answer is known, in a module that worker processes import in no time."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np

from mlff.labels.methods import Computed, NotLabelled


@dataclass(frozen=True)
class Springs:
    """Every atom is tied to the origin: energy sum k r^2 / 2; a cluster of 9 atoms fails, one of 12 ends the process."""

    k: float = 1.0
    title: str = "springs"
    dispersion: str = "none"
    seconds: float = 0.0

    def compute(self, numbers, positions, charge) -> Computed:
        time.sleep(self.seconds)
        if len(numbers) == 9:
            raise NotLabelled("nine atoms")
        if len(numbers) == 12:
            os._exit(3)
        energy = 0.5 * self.k * float(np.square(positions).sum())
        forces = np.full_like(positions, np.nan) if len(numbers) == 15 else -self.k * positions
        n = len(numbers)
        return Computed(energy, forces, np.full(n, charge / n), np.zeros(3), 5.0 if charge == 0 else 0.5)
