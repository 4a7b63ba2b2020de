"""Readouts: from spike counts to classes. `contract` says what a readout is, and how to write one's own.

| file | idea |
|---|---|
| `contract.py` | what a readout is asked for, and what is done with it |
| `features.py` | counts as features: divided, centred, scaled |
| `linear.py` | the layer that all of them end in, its loss, the loop over epochs |
| `adam.py` | the optimiser of two of them |
| `softmax.py`, `adadelta.py`, `probe.py`, `regression.py` | the default, two published ones, two by scikit-learn |
"""

from lsm.readout.adadelta import Adadelta, adadelta_trajectory
from lsm.readout.contract import Features, FittedReadout, Readout, fit_readout, restore_readout
from lsm.readout.features import silent_samples
from lsm.readout.probe import LinearProbe
from lsm.readout.regression import Logistic, Ridge
from lsm.readout.softmax import Softmax

__all__ = [
    "Adadelta",
    "Features",
    "FittedReadout",
    "LinearProbe",
    "Logistic",
    "Readout",
    "Ridge",
    "Softmax",
    "adadelta_trajectory",
    "fit_readout",
    "restore_readout",
    "silent_samples",
]
