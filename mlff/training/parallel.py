"""Training by several processes: each takes its share of every batch, sums run over all of them (torchrun, gloo)."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    def total(self, t: Tensor) -> Tensor:
        """Sum over all processes; `t` itself where there is only one."""
        if self.size == 1:
            return t
        out = t.clone()
        torch.distributed.all_reduce(out)
        return out

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()

    @staticmethod
    def from_environment() -> Ranks:
        """What torchrun says (RANK, WORLD_SIZE), with the processes joined; one process without it."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return Ranks()
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
            atexit.register(_leave)
        return Ranks(torch.distributed.get_rank(), size)


def _leave() -> None:
    """Join gloo's threads while the interpreter lives: one that is left at the end of a process now and then aborts it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
