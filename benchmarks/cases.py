"""What the benchmarks simulate: data sets, wired liquids, and weights after some INIT."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.clock import Times, once
from lsm.encode import Inputs
from lsm.liquid import Liquid, build_liquid
from lsm.parameters import LiquidParameters
from lsm.protocol import InitState, initialise
from lsm.streams import stream

DATASETS = ("digits", "mnist", "fashion_mnist", "nmnist")
INIT_SNIPPETS = 50_000


@dataclass(frozen=True)
class Data:
    """Encoded inputs of one set: `train` feeds INIT, `test` feeds RUN."""

    name: str
    train: Inputs
    test: Inputs


def load(name: str, root: Path) -> Data:
    """One of `DATASETS` from the folder `root`; nothing is downloaded. Raises `FileNotFoundError` where it is missing."""
    from lsm.datasets.digits import Digits
    from lsm.datasets.images import FashionMnist, Mnist
    from lsm.datasets.nmnist import NMnist

    if name == "digits":
        dataset = Digits().load(root, seed=0)
    else:
        kind: Any = {"mnist": Mnist, "fashion_mnist": FashionMnist, "nmnist": NMnist}[name]
        folders = [root / folder for folder in kind.folders if (root / folder).is_dir()]
        if not folders:
            raise FileNotFoundError(f"no folder {kind.folders[0]} in the data folder")
        options = {"allow_partial": True} if name == "nmnist" else {}
        dataset = kind(path=str(folders[0]), **options).load(root, seed=0)
    return Data(name, dataset.train.inputs, dataset.test.inputs)


def nalsm(n: int, **changes: Any) -> LiquidParameters:
    """The published NALSM of `n` neurons: w_astro 0.015 at 1,000 and 0.0075 at 8,000, between them by n^(-1/3)."""
    values = {"n_neurons": n, "w_astro": 0.015 * (1000 / n) ** (1 / 3), "init_snippets": INIT_SNIPPETS, **changes}
    return LiquidParameters(**values)


def static(n: int) -> LiquidParameters:
    """A static liquid at a weight that the published sweep covers."""
    return LiquidParameters(n_neurons=n, learning="none", w_start=0.9)


@dataclass
class Case:
    """A liquid on a data set; `state` is where INIT stands, `init` the time of its first snippets."""

    data: Data
    parameters: LiquidParameters
    liquid: Liquid
    state: InitState
    init: Times

    @property
    def weights(self) -> NDArray[np.float32]:
        """Weights as INIT left them."""
        return self.state.weights

    @property
    def size(self) -> str:
        """Neurons and synapses in words."""
        return f"n={self.liquid.n}, {self.liquid.n_synapses} synapses"

    def advance(self, snippets: int) -> None:
        """Go on with INIT."""
        until = replace(self.parameters, init_snippets=self.state.done + snippets)
        initialise(self.liquid, until, self.data.train, 0, self.state)


def prepare(data: Data, parameters: LiquidParameters, snippets: int) -> Case:
    """Wire a liquid and let INIT run over its first `snippets` (none for a static liquid)."""
    liquid = build_liquid(parameters, data.train.n_in, stream(0, "wiring"))
    case = Case(data, parameters, liquid, InitState.fresh(liquid), Times(0.0, 0.0))
    if parameters.learns_in_init:
        case.init = once(lambda: case.advance(snippets))
    return case
