"""Trainable recurrent networks, the baselines of the fixed liquid: spiking with either readout, and a tanh network.

    v_t = decay v_{t-1} (1 - s_{t-1}) + W_in x_t + W_rec s_{t-1}        s_t = 1 if v_t > V_th else 0        f = sum_t s_t / T

| model | cell | readout |
|---|---|---|
| SRNN-ANN | lif | linear: scores = W f + b |
| SRNN-SNN | lif | lif: a layer of the same neurons with its own decay; scores = its spikes / T |
| RNN | tanh | linear on the last step |

Training is backpropagation through time. The derivative of a spike is a rectangle, 1 / (2 lens) where |v - V_th| < lens, as
if s rose along a ramp there; the gradient passes through the reset, too. With `smooth` the ramp itself is used forward, so
that the gradient is exact and can be tested.
Source: Lin et al. 2025 (Nat. Comput. Sci. 5:37), its scripts, and He et al. 2020 (Neural Networks 132:108).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lsm.descent import Variables
from lsm.encode import Events
from lsm.recurrent import Network
from lsm.streams import generator, key

G_IN_uS, G_REC_uS = (0.00156, 6.61329), (0.00606, 6.67268)
"""Mean and standard deviation of the conductances of the array, which `start="gaussian"` takes for the first weights."""


class LifLayer(torch.autograd.Function):
    """Spikes `(T, B, n)` of a layer from its drive `(T, B, n)`, with recurrent weights `(n, n)` [from, to] or None."""

    @staticmethod
    def forward(
        ctx: Any, drive: Tensor, w_rec: Tensor | None, decay: float, threshold: float, lens: float, smooth: bool
    ) -> Tensor:
        """Step by step; potentials and spikes are kept for the way back."""
        v, s = torch.empty_like(drive), torch.empty_like(drive)
        for t in range(len(drive)):
            now = drive[t]
            if t:
                now = torch.addcmul(now, v[t - 1], 1 - s[t - 1], value=decay)
                if w_rec is not None:
                    now.addmm_(s[t - 1], w_rec)
            v[t] = now
            if smooth:
                torch.clamp((now - threshold) / (2 * lens) + 0.5, 0, 1, out=s[t])
            else:
                s[t] = now > threshold
        ctx.save_for_backward(v, s, *(() if w_rec is None else (w_rec,)))
        ctx.decay, ctx.threshold, ctx.lens = decay, threshold, lens
        return s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Backpropagation through time; the weights' slope is one product over all steps at the end."""
        (slope,) = grads
        v, s, *rest = ctx.saved_tensors
        w_rec = rest[0].mT.contiguous() if rest else None
        d_v = ((v - ctx.threshold).abs_() < ctx.lens).to(v.dtype).div_(2 * ctx.lens)
        for t in reversed(range(len(v))):
            if t + 1 == len(v):
                d_v[t] *= slope[t]
                continue
            later = d_v[t + 1]
            d_s = torch.addcmul(slope[t], later, v[t], value=-ctx.decay)
            if w_rec is not None:
                d_s.addmm_(later, w_rec)
            d_v[t] *= d_s
            d_v[t].addcmul_(later, 1 - s[t], value=ctx.decay)
        d_rec = None
        if w_rec is not None:
            d_rec = s[:-1].flatten(0, 1).mT @ d_v[1:].flatten(0, 1)
        return d_v, d_rec, None, None, None, None


def dense(events: Events, index: NDArray[np.int64], steps: int | None = None) -> Tensor:
    """Rasters of some samples as 0 and 1, `(T, n_samples, n_in)` float32; T = `steps` or as many as there are."""
    t_end = min(steps or events.n_steps, events.n_steps)
    x = np.zeros((t_end, len(index), events.n_in), np.float32)
    starts, ends = events.offsets[index], events.offsets[np.asarray(index) + 1]
    sample = np.repeat(np.arange(len(index)), ends - starts)
    parts = [events.packed[a:b] for a, b in zip(starts, ends, strict=True)]
    packed = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
    t, channel = packed >> 16, packed & 0xFFFF
    keep = t < t_end
    x[t[keep], sample[keep], channel[keep]] = 1
    return torch.from_numpy(x)


class RecurrentNetwork:
    """A network's form; its variables are kept apart, under names that begin with `prefix`.

    `n_classes` 0 gives no readout: the network then serves as an encoder, by `features`.
    """

    def __init__(self, parameters: Network, n_in: int, n_classes: int, prefix: str = "") -> None:
        self.parameters, self.n_in, self.n_classes, self.prefix = parameters, n_in, n_classes, prefix
        with torch.random.fork_rng(devices=[]):
            self._rnn = torch.nn.RNN(n_in, parameters.n_neurons, parameters.n_layers)

    def variables(self, seed: int) -> Variables:
        """Fresh weights; those of the spiking layer are `const` times conductances, or uniform in +-const/sqrt(fan in)."""
        p, rng = self.parameters, generator(seed, f"{self.prefix}weights")
        made: Variables = {}
        if p.cell == "tanh":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(key(seed, f"{self.prefix}weights") >> np.uint64(1)))
                rnn = torch.nn.RNN(self.n_in, p.n_neurons, p.n_layers)
            made = {name: value.detach().clone() for name, value in rnn.named_parameters()}
        else:
            for name, fan, g in (("w_in", self.n_in, G_IN_uS), ("w_rec", p.n_neurons, G_REC_uS)):
                size = (fan, p.n_neurons)
                drawn = rng.normal(*g, size) if p.start == "gaussian" else rng.uniform(-1, 1, size) / fan**0.5
                made[name] = torch.from_numpy((p.const * drawn).astype(np.float32))
        if self.n_classes:
            bound = p.n_neurons**-0.5
            shapes: dict[str, tuple[int, ...]] = {"w_out": (p.n_neurons, self.n_classes), "b_out": (self.n_classes,)}
            for name, shape in shapes.items():
                made[name] = torch.from_numpy(rng.uniform(-bound, bound, shape).astype(np.float32))
        return {self.prefix + name: tensor for name, tensor in made.items()}

    def input(self, events: Events, index: NDArray[np.int64]) -> Tensor:
        """What the network is shown of some samples, `(T, n, n_in)`."""
        return dense(events, index, self.parameters.steps_used)

    def spikes(self, variables: Mapping[str, Tensor], x: Tensor, smooth: bool = False) -> Tensor:
        """Spikes `(T, B, n_neurons)` of the recurrent layer for input `x` `(T, B, n_in)`."""
        p = self.parameters
        drive = x @ variables[f"{self.prefix}w_in"]
        w_rec = variables[f"{self.prefix}w_rec"]
        out: Tensor = LifLayer.apply(drive, w_rec, p.decay, p.v_threshold, p.lens, smooth)
        return out

    def features(self, variables: Mapping[str, Tensor], x: Tensor, smooth: bool = False) -> Tensor:
        """What a head or readout sees, `(B, n_neurons)`: mean spikes per step, or the last state of the tanh network."""
        if self.parameters.cell == "tanh":
            names = [name for name, _ in self._rnn.named_parameters()]
            own = {name: variables[self.prefix + name] for name in names}
            states, _ = torch.func.functional_call(self._rnn, own, (x,))
            return states[-1]
        return self.spikes(variables, x, smooth).mean(dim=0)

    def scores(self, variables: Mapping[str, Tensor], x: Tensor, smooth: bool = False) -> Tensor:
        """Scores `(B, n_classes)`."""
        p = self.parameters
        weights, bias = variables[f"{self.prefix}w_out"], variables[f"{self.prefix}b_out"]
        if p.readout == "linear":
            return self.features(variables, x, smooth) @ weights + bias
        drive = self.spikes(variables, x, smooth) @ weights + bias
        out: Tensor = LifLayer.apply(drive, None, p.readout_decay, p.v_threshold, p.lens, smooth)
        return out.mean(dim=0)


def class_loss(scores: Tensor, labels: Tensor, kind: Literal["mse", "cross_entropy"]) -> Tensor:
    """Mean loss of `(B, n_classes)` scores: squared error on one-hot targets, or cross-entropy."""
    if kind == "cross_entropy":
        return F.cross_entropy(scores, labels)
    return F.mse_loss(scores, F.one_hot(labels, scores.shape[1]).to(scores.dtype))
