"""Epochs of Adam on named torch variables, with the best epoch kept, and a state that goes on bit for bit after a kill.

Several replicas (networks of different seeds) may be trained at once: their variables are stacked along the first axis, so
that the cost of calling torch is shared, and their losses are added, so that no gradient passes from one to another.
Everything runs on one thread: the work of a step is small, and the result is the same for any number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[Any]]
Variables = dict[str, Tensor]
Scores = Mapping[str, NDArray[np.float64]]
OnEpoch = Callable[[int, NDArray[np.float64], Scores], None]
Progress = Callable[[int, int], object]
Save = Callable[[Arrays], None]

SAVE_EVERY_S = 5.0
"""Least time between two calls of `save`."""


@dataclass(frozen=True)
class Callbacks:
    """What happens around the epochs; all are optional.

    `on_epoch(epoch, losses, scores)`, epochs counted from 1; `progress(done, total)`; `save(arrays)` now and then with all
    that is needed to go on, and `state`, what it was given last.
    """

    on_epoch: OnEpoch | None = None
    progress: Progress | None = None
    save: Save | None = None
    state: Mapping[str, NDArray[Any]] | None = None


@dataclass
class Best:
    """The chosen variables of each replica, `epoch` and `score` `(n_replicas,)`; epoch 0 is the untrained network."""

    variables: Variables
    epoch: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass
class Descent:
    """The loop. `loss(batch)` gives one loss for each replica, `(n_replicas,)`; `batches(epoch)` the batches of an epoch.

    `score(epoch)` gives for each rule of choice, by name, one score for each replica: the highest wins, the first of equals
    or, with `latest`, the last. `variables` have a leading axis of `n_replicas`, unless `stacked` is False and there is but
    one. All three depend on nothing that changes but the variables. `decoupled_decay` > 0 is AdamW's weight decay.
    """

    variables: Variables
    n_replicas: int
    epochs: int
    learning_rate: float
    batches: Callable[[int], Iterable[Any]]
    loss: Callable[[Any], Tensor]
    score: Callable[[int], Scores]
    latest: bool = False
    stacked: bool = True
    decoupled_decay: float = 0.0
    best: dict[str, Best] = field(default_factory=dict)

    def run(self, callbacks: Callbacks | None = None) -> dict[str, Best]:
        """Train to the end, from the saved state if there is one; the best of each rule, by its name.

        Raises `ValueError` where a saved state does not fit, `FloatingPointError` where a loss is not finite.
        """
        calls = callbacks or Callbacks()
        with one_thread():
            optimiser = self._optimiser()
            done = self._resume(optimiser, calls.state) if calls.state is not None else 0
            saved_at = time.monotonic()
            for epoch in range(done + 1, self.epochs + 1):
                losses = self._epoch(epoch, optimiser)
                with torch.no_grad():
                    scores = self.score(epoch)
                self._keep_best(epoch, scores)
                if calls.on_epoch:
                    calls.on_epoch(epoch, losses, scores)
                if calls.progress:
                    calls.progress(epoch, self.epochs)
                if calls.save and time.monotonic() - saved_at >= SAVE_EVERY_S:
                    calls.save(self._state(epoch, optimiser))
                    saved_at = time.monotonic()
        return self.best

    def _optimiser(self) -> torch.optim.Optimizer:
        for tensor in self.variables.values():
            tensor.requires_grad_(True)
        parameters = list(self.variables.values())
        fused = all(tensor.is_floating_point() for tensor in parameters)
        if self.decoupled_decay:
            return torch.optim.AdamW(parameters, self.learning_rate, weight_decay=self.decoupled_decay, fused=fused)
        return torch.optim.Adam(parameters, self.learning_rate, fused=fused)

    def _epoch(self, epoch: int, optimiser: torch.optim.Optimizer) -> NDArray[np.float64]:
        """One pass; the mean loss of each replica over the batches as they were met."""
        total, n = torch.zeros(self.n_replicas, dtype=torch.float64), 0
        for batch in self.batches(epoch):
            optimiser.zero_grad(set_to_none=True)
            losses = self.loss(batch)
            losses.sum().backward()
            optimiser.step()
            total += losses.detach().double()
            n += 1
        mean: NDArray[np.float64] = (total / max(n, 1)).numpy()
        if not np.isfinite(mean).all():
            raise FloatingPointError(f"the loss is not finite in epoch {epoch}; lower the learning rate")
        return mean

    def _keep_best(self, epoch: int, scores: Scores) -> None:
        for rule, values in scores.items():
            if rule not in self.best:
                start = {name: tensor.detach().clone() for name, tensor in self.variables.items()}
                n = self.n_replicas
                self.best[rule] = Best(start, np.zeros(n, np.int64), np.full(n, -np.inf))
            best = self.best[rule]
            better = values >= best.score if self.latest else values > best.score
            best.epoch[better], best.score[better] = epoch, values[better]
            where = torch.from_numpy(better)
            for name, tensor in self.variables.items():
                if self.stacked:
                    best.variables[name][where] = tensor.detach()[where]
                elif better[0]:
                    best.variables[name].copy_(tensor.detach())

    # --- the state between two starts

    def _state(self, epoch: int, optimiser: torch.optim.Optimizer) -> Arrays:
        arrays: Arrays = {"epoch": np.asarray(epoch), "rules": np.array(sorted(self.best), np.str_)}
        for name, tensor in self.variables.items():
            arrays[f"value/{name}"] = tensor.detach().numpy().copy()
            for key, value in optimiser.state[tensor].items():
                arrays[f"{key}/{name}"] = value.detach().numpy().copy()
        for rule, best in self.best.items():
            arrays |= {f"best/{rule}/epoch": best.epoch, f"best/{rule}/score": best.score}
            arrays |= {f"best/{rule}/value/{name}": tensor.numpy() for name, tensor in best.variables.items()}
        return arrays

    def _resume(self, optimiser: torch.optim.Optimizer, state: Mapping[str, NDArray[Any]]) -> int:
        for name, tensor in self.variables.items():
            value = _saved(state, f"value/{name}", tuple(tensor.shape))
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(value))
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in state]
            optimiser.state[tensor] = {key: torch.from_numpy(state[f"{key}/{name}"].copy()) for key in keys}
        self.best = {}
        for rule in _saved(state, "rules").tolist():
            epoch, score = (_saved(state, f"best/{rule}/{k}", (self.n_replicas,)) for k in ("epoch", "score"))
            values = {
                name: torch.from_numpy(_saved(state, f"best/{rule}/value/{name}", tuple(tensor.shape)).copy())
                for name, tensor in self.variables.items()
            }
            self.best[rule] = Best(values, epoch.copy(), score.copy())
        return int(_saved(state, "epoch"))


def _saved(state: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    if name not in state or (shape is not None and state[name].shape != shape):
        raise ValueError(
            f"the saved state has no {name} of shape {shape}" if shape else f"the saved state lacks {name}"
        )
    return state[name]


def shuffled(n: int, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """The numbers 0..n-1 in random order, `batch` at a time, the last batch shorter."""
    order = rng.permutation(n)
    for first in range(0, n, batch):
        yield order[first : first + batch]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch works on one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
