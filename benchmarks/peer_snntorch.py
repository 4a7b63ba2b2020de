"""The static liquid as a layer of snntorch's `Synaptic` neurons with a sparse recurrent product.

    s <- e^-1 s + W spikes + Win input;  v <- (1 - 1/64) v + s, but 0 one step after a spike;  spike where v > 20

Differs from ours: synaptic currents add up instead of restarting, no refractory time but the step at 0, whose current
is lost. The input currents of all steps are one sparse product ahead of the loop. float32, no gradients, batch 1.
"""

import math

import numpy as np
import snntorch
import torch

PACKAGES = ("snntorch", "torch")


def network(liquid, inputs):
    """`present(raster (T, n_in)) -> counts (n,)`, starting from rest each time."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    w, w_in = (
        torch.sparse_coo_tensor(
            np.stack([weights.post, weights.pre]), weights.value.astype(np.float32), weights.shape
        ).to_sparse_csr()
        for weights in (liquid, inputs)
    )
    neurons = snntorch.Synaptic(alpha=math.exp(-1), beta=1 - 1 / 64, threshold=20.0, reset_mechanism="zero")

    def present(raster):
        drive = (w_in @ torch.from_numpy(raster.T.astype(np.float32))).T.contiguous()
        spikes, current, v = (torch.zeros(w.shape[0]) for _ in range(3))
        counts = torch.zeros(w.shape[0])
        for step in drive:
            spikes, current, v = neurons(step + torch.mv(w, spikes), current, v)
            counts += spikes
        return counts.numpy()

    return present
