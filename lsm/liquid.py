"""Liquid wiring: neurons on a lattice, distance-dependent synapses, random input connections.

| name | shape, dtype | meaning |
|---|---|---|
| `positions` | `(n, 3)` int16 | lattice site of each liquid neuron |
| `row_ptr`, `col` | `(n + n_in + 1,)` uint64, `(n_syn,)` uint16 | targets of each sending neuron, ascending (CSR) |
| `col_ptr`, `csc_pre`, `csc_pos` | `(n + 1,)` uint64, `(n_syn,)` uint32 | senders of each target, and where in `col` |
| `col_exc`, `col_liquid` | `(n,)` uint64 | ends of the excitatory and of the liquid part of each target's sender list |
| `w_start` | `(n_syn,)` float32 | signed start weights in CSR order |
| `sensed` | `(n + n_in,)` float32 | 1 where the astrocyte senses the neuron, else 0 |

Sending neurons are numbered excitatory liquid, inhibitory liquid, inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsm.parameters import LiquidParameters

_ROWS_AT_ONCE = 256  # pre-synaptic neurons whose distances are in memory together


@dataclass(frozen=True)
class Liquid:
    """A wired liquid; see the table in the module's docstring for shapes."""

    n: int
    n_exc: int
    n_in: int
    positions: NDArray[np.int16]
    row_ptr: NDArray[np.uint64]
    col: NDArray[np.uint16]
    col_ptr: NDArray[np.uint64]
    csc_pre: NDArray[np.uint32]
    csc_pos: NDArray[np.uint32]
    col_exc: NDArray[np.uint64]
    col_liquid: NDArray[np.uint64]
    w_start: NDArray[np.float32]
    sensed: NDArray[np.float32]

    @property
    def n_synapses(self) -> int:
        """Synapses in all, input synapses included."""
        return len(self.col)

    @property
    def pre(self) -> NDArray[np.int64]:
        """Sending neuron of each synapse, `(n_syn,)`, in CSR order."""
        fan_out = (self.row_ptr[1:] - self.row_ptr[:-1]).astype(np.int64)
        return np.repeat(np.arange(self.n + self.n_in), fan_out)

    def classes(self) -> dict[str, slice]:
        """Slices into the weights: `excitatory`, `inhibitory` and `input` synapses by sending neuron."""
        exc, liquid = int(self.row_ptr[self.n_exc]), int(self.row_ptr[self.n])
        return {"excitatory": slice(0, exc), "inhibitory": slice(exc, liquid), "input": slice(liquid, self.n_synapses)}

    def synapse_counts(self) -> dict[str, int]:
        """Number of E->E, E->I, I->E, I->I and input synapses."""
        pre, post = self.pre, self.col
        liquid, pre_exc, post_exc = pre < self.n, pre < self.n_exc, post < self.n_exc
        return {
            "ee": int(np.sum(pre_exc & post_exc)),
            "ei": int(np.sum(pre_exc & ~post_exc)),
            "ie": int(np.sum(liquid & ~pre_exc & post_exc)),
            "ii": int(np.sum(liquid & ~pre_exc & ~post_exc)),
            "input": int(np.sum(~liquid)),
        }


def build_liquid(parameters: LiquidParameters, n_in: int, seed: np.random.SeedSequence) -> Liquid:
    """Wire a liquid of `parameters.n_neurons` neurons with `n_in` input channels.

    Liquid synapses: probability `c * exp(-(d / connection_length)^2)` for each ordered pair (Maass et al. 2002 with the
    constants of Ivanov & Michmizos 2021). Input synapses: exactly `int(input_density * n * n_in)` distinct pairs.
    Separate random streams serve lattice, liquid wiring, input wiring, input signs and the astrocyte's subset.
    """
    lattice, wiring, inputs, signs, astro = (np.random.default_rng(s) for s in seed.spawn(5))
    n, n_exc = parameters.n_neurons, parameters.n_excitatory
    sites = np.indices(parameters.lattice_shape).reshape(3, -1).T
    positions = sites[lattice.permutation(n)].astype(np.int16)

    liquid_pre, liquid_post = _connect_liquid(parameters, positions, wiring)
    n_input_synapses = int(parameters.input_density * n * n_in)
    cells = inputs.choice(n * n_in, n_input_synapses, replace=False, shuffle=False)
    input_pre, input_post = n + cells % n_in, cells // n_in

    sign = np.where(liquid_pre < n_exc, 1, -1)
    input_sign = signs.integers(0, 2, n_input_synapses) * 2 - 1
    return assemble(
        n,
        n_exc,
        n_in,
        positions,
        np.concatenate([liquid_pre, input_pre]),
        np.concatenate([liquid_post, input_post]),
        parameters.w_start * np.concatenate([sign, input_sign]),
        _sensed(parameters, n_in, astro),
    )


def assemble(
    n: int,
    n_exc: int,
    n_in: int,
    positions: NDArray[np.integer],
    pre: NDArray[np.integer],
    post: NDArray[np.integer],
    weights: NDArray[np.floating],
    sensed: NDArray[np.floating] | None = None,
) -> Liquid:
    """Order a synapse list (`pre`, `post`, signed `weights`, each `(n_syn,)`) into the tables of a `Liquid`."""
    order = np.lexsort((post, pre))
    pre, post = pre[order], post[order]
    row_ptr = np.concatenate([[0], np.cumsum(np.bincount(pre, minlength=n + n_in))])
    by_post = np.lexsort((pre, post))
    col_ptr = np.concatenate([[0], np.cumsum(np.bincount(post, minlength=n))])
    excitatory = np.bincount(post[pre < n_exc], minlength=n)
    liquid = np.bincount(post[pre < n], minlength=n)
    return Liquid(
        n=n,
        n_exc=n_exc,
        n_in=n_in,
        positions=np.asarray(positions, np.int16),
        row_ptr=row_ptr.astype(np.uint64),
        col=post.astype(np.uint16),
        col_ptr=col_ptr.astype(np.uint64),
        csc_pre=pre[by_post].astype(np.uint32),
        csc_pos=by_post.astype(np.uint32),
        col_exc=(col_ptr[:-1] + excitatory).astype(np.uint64),
        col_liquid=(col_ptr[:-1] + liquid).astype(np.uint64),
        w_start=weights[order].astype(np.float32),
        sensed=np.ones(n + n_in, np.float32) if sensed is None else np.asarray(sensed, np.float32),
    )


def _connect_liquid(
    parameters: LiquidParameters, positions: NDArray[np.int16], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw every ordered pair once; memory grows with n, time with n^2."""
    p = parameters
    n, n_exc = p.n_neurons, p.n_excitatory
    farthest = int(((np.array(p.lattice_shape) - 1) ** 2).sum())
    falloff = np.exp(-np.arange(farthest + 1) / p.connection_length**2)  # distances squared are whole numbers
    is_exc = np.arange(n) < n_exc
    from_exc, from_inh = np.where(is_exc, p.c_ee, p.c_ei), np.where(is_exc, p.c_ie, p.c_ii)
    where = positions.astype(np.int32)
    pre, post = [], []
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, n))
        squared = ((where[rows, None] - where[None]) ** 2).sum(axis=2)
        constant = np.where(is_exc[rows, None], from_exc, from_inh)
        connect = rng.random((len(rows), n)) < constant * falloff[squared]
        connect[np.arange(len(rows)), rows] = False
        j, i = np.nonzero(connect)
        pre.append(rows[j])
        post.append(i)
    return np.concatenate(pre), np.concatenate(post)


def _sensed(parameters: LiquidParameters, n_in: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Neurons that the astrocyte senses: `ceil(density * count)` of the liquid and of the inputs."""
    n = parameters.n_neurons
    sensed = np.zeros(n + n_in, np.float32)
    for first, count in ((0, n), (n, n_in)):
        chosen = rng.permutation(count)[: int(np.ceil(parameters.astro_density * count))]
        sensed[first + chosen] = 1
    return sensed
