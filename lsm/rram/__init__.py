"""Liquids whose fixed random weights are the conductances of resistive-memory cells (Lin et al., Nat. Comput. Sci. 2025).

| file | idea |
|---|---|
| `parameters.py`, `settings.py` | what a liquid on arrays is made of, and the published values for each data set |
| `device.py`, `conductance.py` | conductances: how they are drawn, what happens to single devices, the grid of their sums |
| `array.py` | reading an array: tiles, wires, noise, ADC |
| `view.py`, `kernel.py`, `encoder.py` | what the liquid sees, its time step, and the spikes that it answers with |
| `cost.py`, `energy.py`, `constants.py` | operations and joules of a sample, here and in digital hardware |
"""
