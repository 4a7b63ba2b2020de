"""All weights of a model as one vector: an optimiser step, an average or a sum over processes is one operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FlatWeights:
    """Parameters of `model` become views into `values` `(n_weights,)`; `gradient` belongs to it.

    The first `n_decayed` numbers are matrices of linear layers, which weight decay is meant for; then come biases, norms,
    radial functions and embeddings.
    """

    def __init__(self, model: nn.Module) -> None:
        matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
        inside = {id(w) for w in matrices}
        parameters = [*matrices, *(p for p in model.parameters() if id(p) not in inside)]
        self.n_decayed = sum(w.numel() for w in matrices)
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.values)
        self.parameters = parameters
        start = 0
        for p in parameters:
            p.data = self.values[start : start + p.numel()].view_as(p)
            start += p.numel()

    def gradient_of(self, loss: Tensor) -> Tensor:
        """d(loss)/d(values); may be called by several threads at once, for losses of their own."""
        parts = torch.autograd.grad(loss, self.parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in parts])

    def parts(self) -> tuple[nn.Parameter, nn.Parameter]:
        """The decayed and the other numbers as parameters of an optimiser, sharing memory with the model."""
        made = []
        for part in (slice(0, self.n_decayed), slice(self.n_decayed, None)):
            parameter = nn.Parameter(self.values[part])
            parameter.grad = self.gradient[part]
            made.append(parameter)
        return made[0], made[1]

    @torch.no_grad()
    def clip(self, norm: float | None) -> None:
        """Shorten the gradient to `norm` where it is longer, without waiting for a device to say how long it is."""
        if norm is not None:
            length = self.gradient.norm().double()
            self.gradient.mul_((torch.full_like(length, norm) / length).clamp_(max=1.0))

    @torch.no_grad()
    def exchange(self, other: Tensor) -> None:
        """Swap the weights with those of another vector."""
        kept = self.values.clone()
        self.values.copy_(other)
        other.copy_(kept)
