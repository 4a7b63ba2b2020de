"""What training and reading a random liquid costs, by named counts: multiply-accumulates, parameters, cells, arrays.

For branches of n_in inputs, N neurons and T steps, each with a projection (or linear readout) of N x d weights:

    E = sum T (n_in N + N^2)         encoder, forward          P = sum N d          projection, forward

| name | definition |
|---|---|
| `fwd_macs` | E + P |
| `bwd_macs_srnn` | sum T (n_in N + 2 N^2) + 2 P: backward through a trained recurrent encoder, no gradient to the input |
| `bwd_macs_lsm` | P: backward through the projection alone |
| `bwd_ratio` | bwd_macs_srnn / P |
| `published_kind_ratio` | (E + P) / (3 P): within 3 % of the published 152.83 and 393.07, whose exact count is not public |
| `epoch_ratio` | 3 (E + P) / (E + 3 P): an epoch of both, the liquid run anew in each |
| `cached_ratio` | 3 (E + P) e / (E + 3 P e): e epochs, the liquid run once and its features kept |
| `parameter_ratio` | trained parameters of both |

`cached_ratio` is the fair one: it counts all work of both. Ratios compare with a recurrent network of the same shape trained
through time; a pass backward is taken as twice the forward one, as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MACRO_CELLS = 512 * 512
"""Cells of the 256-Kb macro of the paper's abstract."""

PUBLISHED_TRAINING_RATIOS = {"image and audio": 152.83, "brain and image": 393.07}
"""Printed beside ours, never as ours."""


class Branch(NamedTuple):
    """One liquid: inputs, neurons, steps."""

    n_in: int
    n_neurons: int
    steps: int

    @property
    def weights(self) -> int:
        """Input and recurrent weights."""
        return self.n_in * self.n_neurons + self.n_neurons**2

    @property
    def cells(self) -> int:
        """Cells of its differential pairs."""
        return 2 * self.weights

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of a sample."""
        return self.steps * self.weights


def encoder_macs(branches: Sequence[Branch]) -> int:
    """E: multiply-accumulates of all liquids for one sample (of each)."""
    return sum(b.macs for b in branches)


def projection_macs(branches: Sequence[Branch], d: int) -> int:
    """P: multiply-accumulates of all projections to `d` dimensions."""
    return sum(b.n_neurons * d for b in branches)


def training_cost(branches: Sequence[Branch], d: int, epochs: int) -> dict[str, float]:
    """The named counts and ratios of the table above; counts are whole numbers, for one sample (of each branch)."""
    e, p = encoder_macs(branches), projection_macs(branches, d)
    bwd_srnn = sum(b.steps * (b.n_in * b.n_neurons + 2 * b.n_neurons**2) for b in branches) + 2 * p
    weights = sum(b.weights for b in branches)
    return {
        "fwd_macs": e + p,
        "bwd_macs_srnn": bwd_srnn,
        "bwd_macs_lsm": p,
        "bwd_ratio": bwd_srnn / p,
        "published_kind_ratio": (e + p) / (3 * p),
        "epoch_ratio": 3 * (e + p) / (e + 3 * p),
        "cached_ratio": 3 * (e + p) * epochs / (e + 3 * p * epochs),
        "parameter_ratio": (weights + p) / p,
    }


class Mapping(NamedTuple):
    """Cells that a way of mapping needs, and arrays of `MACRO_CELLS` that hold them, without regard to shape."""

    cells: int

    @property
    def macros(self) -> float:
        """Cells over those of one macro."""
        return self.cells / MACRO_CELLS


def mappings(branches: Sequence[Branch]) -> dict[str, Mapping]:
    """Ways to put several liquids on arrays: side by side, one at a time, W_rec shared, single-ended weights.

    `time_shared` needs the largest liquid only, rewritten or rewired between senses; `shared_recurrent` is possible where
    all liquids have as many neurons, else it equals `pairs`; `single_ended` reads against one reference column.
    """
    cells = sum(b.cells for b in branches)
    sizes = {b.n_neurons for b in branches}
    shared = cells - (len(branches) - 1) * 2 * next(iter(sizes)) ** 2 if len(sizes) == 1 else cells
    return {
        "pairs": Mapping(cells),
        "time_shared": Mapping(max(b.cells for b in branches)),
        "shared_recurrent": Mapping(shared),
        "single_ended": Mapping(cells // 2),
    }
