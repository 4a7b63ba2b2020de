"""Adam on the weights and the bias of a linear layer, in NumPy: all of its state is plain arrays that can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsm.readout.contract import Arrays

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def start(n_features: int, n_classes: int) -> Arrays:
    """Before the first step: `value`, `mean` and `square` of `weights` and `bias`, all zero, float32."""
    return {
        f"{name}_{part}": np.zeros(shape, np.float32)
        for part, shape in (("weights", (n_features, n_classes)), ("bias", (n_classes,)))
        for name in ("value", "mean", "square")
    }


def step(variables: Arrays, part: str, slope: NDArray[Any], number: int, rate: float) -> None:
    """One step of Adam (Kingma & Ba 2015, algorithm 1), in place; `number` counts from 1."""
    mean, square = variables[f"mean_{part}"], variables[f"square_{part}"]
    mean *= np.float32(BETA1)
    mean += np.float32(1 - BETA1) * slope
    square *= np.float32(BETA2)
    square += np.float32(1 - BETA2) * slope * slope
    rate /= 1 - BETA1**number
    root = np.sqrt(square / np.float32(1 - BETA2**number)) + np.float32(EPSILON)
    variables[f"value_{part}"] -= np.float32(rate) * mean / root
