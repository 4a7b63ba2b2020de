"""Where training computes: on the CPU, whose results are the same bits every time, or on a GPU."""

from __future__ import annotations

from typing import Literal

import torch

Device = Literal["cpu", "cuda", "auto"]


def find_device(name: Device) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one. Raises `ValueError` for a GPU that is not there."""
    # asked only where it matters: a process that has looked for a GPU can fork no others that use it
    there = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ValueError("training.device=cuda: torch finds no CUDA device on this machine; set cpu or auto")
    return torch.device("cuda" if there else "cpu")
