"""The static liquid in Brian2, runtime mode with Cython code, 1-ms steps.

    v <- (1 - 1/64) v + s;  s <- e^-1 s;  spike and v <- 0 where v >= 20, blocked for 2 steps;  s <- s + W spikes

Our equations but for one point: synaptic currents add up instead of restarting at each spike. Inputs are a spike
generator. float64.
"""

import brian2
import numpy as np
from brian2 import NeuronGroup, SpikeGeneratorGroup, SpikeMonitor, Synapses, ms

PACKAGES = ("brian2", "cython", "numpy")


def network(liquid, inputs):
    """`present(raster (T, n_in)) -> counts (n,)`, starting from rest each time."""
    brian2.prefs.codegen.target = "cython"
    brian2.defaultclock.dt = 1 * ms
    neurons = NeuronGroup(liquid.shape[0], "v : 1\ns : 1", threshold="v >= 20", reset="v = 0", refractory=3 * ms)
    neurons.run_regularly("v = v * (1 - 1/64.) + s; s = s * exp(-1)")
    source = SpikeGeneratorGroup(inputs.shape[1], [], [] * ms)
    net = brian2.Network(neurons, source)
    for weights, sender in ((liquid, neurons), (inputs, source)):
        synapses = Synapses(sender, neurons, "w : 1 (constant)", on_pre="s_post += w")
        synapses.connect(i=weights.pre.astype(np.int32), j=weights.post.astype(np.int32))
        synapses.w = weights.value.astype(float)
        net.add(synapses)
    monitor = SpikeMonitor(neurons, record=False)
    net.add(monitor)
    net.store()

    def present(raster):
        net.restore()
        step, channel = np.nonzero(raster)
        source.set_spikes(channel, step * ms)
        net.run(len(raster) * ms)
        return np.array(monitor.count)

    return present
