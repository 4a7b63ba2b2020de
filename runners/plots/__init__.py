"""Figures of runs, one file for each kind: plain arrays in, a matplotlib `Figure` out, made without pyplot's global state.

| file | idea |
|---|---|
| `networks.py`, `dynamics.py`, `rram.py`, `sensor.py`, `zero_shot.py` | liquids: runs, dynamics, devices, cameras, search |
| `frames.py`, `md.py`, `properties.py` | force fields: errors, simulations, properties |
| `alignment.py`, `loop.py` | force fields: how they came to be |
"""
