"""Minimising a function of a few thousand weights by L-BFGS with a line search, one step at a time, resumable bit for bit.

The directions and the line search (strong Wolfe conditions) are torch's; here are the memory of values it asks for twice,
and its state as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = dict[str, NDArray[Any]]
Value = Callable[[], tuple[float, Tensor]]
"""Value of the function at the present weights, and its gradient `(n_weights,)`."""
_LISTS, _NUMBERS = ("old_dirs", "old_stps", "ro"), ("func_evals", "n_iter", "prev_loss", "t")
_TENSORS = ("d", "prev_flat_grad")


class Descent:
    """Lowers `value` over `parameters`; `history` past steps shape a direction."""

    def __init__(self, parameters: Sequence[nn.Parameter], value: Value, history: int = 20) -> None:
        self.parameters, self.value = list(parameters), value
        self.optimiser = torch.optim.LBFGS(
            self.parameters, lr=1.0, max_iter=1, max_eval=25, history_size=history, line_search_fn="strong_wolfe",
            tolerance_grad=0.0, tolerance_change=0.0,
        )  # fmt: skip
        self._known: list[tuple[Tensor, float, Tensor]] = []

    @property
    def weights(self) -> Tensor:
        """A copy of all weights as one vector."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    def step(self) -> float:
        """One step; returns the value where it began."""
        return float(self.optimiser.step(self._closure))

    def now(self) -> float:
        """Value at the present weights."""
        return self._closure()

    def _closure(self) -> float:
        at = self.weights
        found = next(((v, g) for w, v, g in self._known if torch.equal(w, at)), None)
        if found is None:
            found = self.value()
            self._known = [*self._known[-7:], (at, *found)]
        value, gradient = found
        start = 0
        for p in self.parameters:
            p.grad = gradient[start : start + p.numel()].view_as(p).to(p.dtype).clone()
            start += p.numel()
        return value

    @torch.no_grad()
    def _set(self, vector: Tensor) -> None:
        start = 0
        for p in self.parameters:
            p.copy_(vector[start : start + p.numel()].view_as(p))
            start += p.numel()

    @property
    def _inner(self) -> dict[str, Any]:
        return self.optimiser.state[self.parameters[0]]

    def state(self) -> Arrays:
        """Weights and everything that shapes the next step."""
        arrays: Arrays = {"weights": self.weights.numpy().copy()}
        inner = self._inner
        if not inner.get("n_iter"):
            return arrays
        arrays |= {name: np.asarray(float(inner[name])) for name in _NUMBERS}
        arrays |= {name: inner[name].numpy().copy() for name in _TENSORS}
        arrays["H_diag"] = np.asarray(float(inner["H_diag"]))
        for name in _LISTS:
            arrays[name] = np.array([v.numpy() for v in inner[name]]).reshape(
                len(inner[name]), -1 if inner[name] else 0
            )
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go back to a saved state; raises `ValueError` if it belongs to other weights."""
        if len(arrays["weights"]) != len(self.weights):
            raise ValueError(f"a saved state of {len(arrays['weights'])} weights for {len(self.weights)}")
        self._set(torch.from_numpy(arrays["weights"]))
        if "n_iter" not in arrays:
            return
        inner = self._inner
        inner.update({name: float(arrays[name]) for name in _NUMBERS})
        inner.update({name: int(arrays[name]) for name in ("func_evals", "n_iter")})
        inner.update({name: torch.tensor(arrays[name]) for name in _TENSORS})
        inner["H_diag"] = torch.tensor(float(arrays["H_diag"]), dtype=inner["d"].dtype)
        for name in _LISTS:
            rows = torch.tensor(arrays[name])
            # clones: where a vector begins in memory decides the order in which its products are summed
            inner[name] = [(row.squeeze() if name == "ro" else row).clone() for row in rows]
