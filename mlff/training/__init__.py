"""Training a force field on labelled frames; `Training` holds the options of a run.

| file | idea |
|---|---|
| `options.py`, `schedule.py`, `devices.py` | how to train: a run's options, learning rates, CPU or GPU |
| `trainable.py`, `references.py` | from a label set to a model that can be trained; energies of elements |
| `batches.py`, `packed.py` | frames made ready, joined to batches |
| `passes.py`, `losses.py` | one pass over a batch, and what is minimised |
| `messages.py`, `gpu_messages.py`, `message_derivatives.py` | the network's messages with two derivatives, as kernels |
| `trainer.py`, `flat.py`, `parallel.py`, `validation.py` | the loop, weights as a vector, processes, held-out errors |
"""

from __future__ import annotations

from mlff.training.options import Training

__all__ = ["Training"]
