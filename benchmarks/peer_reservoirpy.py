"""The static liquid as a LIF node of reservoirpy, with sparse weights.

    v <- (1 - 1/64) v;  spike and v <- 0 where v > 20;  v <- v + W spikes + Win input

Differs from ours: no synaptic current (a spike's whole charge, 1.58 w, arrives at once), no refractory time,
leak before the threshold test, float64, input spikes multiplied in step by step as the node does.
"""

import numpy as np
import scipy.sparse
from reservoirpy.nodes import LIF

PACKAGES = ("reservoirpy", "numpy", "scipy")
CHARGE = 1 / (1 - np.exp(-1))


def network(liquid, inputs):
    """`present(raster (T, n_in)) -> counts (n,)`, starting from rest each time."""
    w, w_in = (
        scipy.sparse.csr_array((CHARGE * weights.value.astype(float), (weights.post, weights.pre)), shape=weights.shape)
        for weights in (liquid, inputs)
    )
    node = LIF(W=w, Win=w_in, threshold=20.0, lr=1 / 64)

    def present(raster):
        if node.initialized:
            node.reset()
        return node.run(raster.astype(float)).sum(axis=0)

    return present
