"""Liquid state machines: NumPy, numba and torch; nothing here knows Hydra, MLflow or run folders.

| file | idea |
|---|---|
| `parameters.py`, `streams.py` | what a liquid is made of; one random stream for each purpose |
| `encode.py`, `noise.py` | what a liquid sees: images and events as spikes, and perturbed copies of them |
| `liquid.py`, `kernel.py`, `protocol.py` | wiring, the time step with its plasticity, the phases INIT and RUN |
| `readout/`, `statistics.py` | from spike counts to classes, and what an accuracy is worth |
| `criticality.py`, `avalanches.py`, `activity.py`, `kernel_quality.py` | how a liquid behaves, without any readout |
| `recurrent.py`, `srnn.py`, `supervised.py`, `recurrent_cost.py` | trainable networks: options, step, training, cost |
| `contrastive.py`, `prototypes.py`, `sources.py` | learners of two senses, and where their features come from |
| `zero_shot.py`, `retrieval.py` | what is asked of two senses, and search from one to the other |
| `descent.py` | Adam for all that is trained with torch, resumable |
| `rram/`, `datasets/` | liquids on resistive-memory arrays; one file for each source of data |
"""
