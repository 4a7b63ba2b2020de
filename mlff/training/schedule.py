"""Learning rates over a training run, and the running average of weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Schedule = Literal["exponential", "cosine"]


def exponential_rate(rate: float, gamma: float, epoch: int) -> float:
    """rate gamma^epoch, epochs counted from 0."""
    return rate * gamma**epoch


def cosine_rate(rate: float, step: int, n_steps: int, warm_up: int, end: float) -> float:
    """Linear from 0 over `warm_up` steps, then half a cosine down to `end` x rate at the last step."""
    if step < warm_up:
        return rate * (step + 1) / (warm_up + 1)
    done = (step - warm_up) / max(1, n_steps - 1 - warm_up)
    return rate * (end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0))))


@torch.no_grad()
def update_average(average: Tensor, weights: Tensor, decay: float, step: int) -> None:
    """Exponential moving average of weights, faster over the first steps: decay_k = min(decay, (1 + k) / (10 + k))."""
    average.lerp_(weights, 1.0 - min(decay, (1.0 + step) / (10.0 + step)))
