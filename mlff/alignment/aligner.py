"""The descent of one round of alignment: all liquids and clusters at once, resumable after every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff.alignment.descent import Descent
from mlff.alignment.liquid_pass import evaluate, network_alone, put_back
from mlff.alignment.terms import Alignment, Anchored, Effect, Liquid, effects, free_of_elements, split, taken
from mlff.model import ForceField
from mlff.streams import generator
from mlff.training.batches import ReadyFrame, join
from mlff.training.losses import Counts, Loss
from mlff.training.passes import TrainingPass

Arrays = dict[str, NDArray[Any]]
Save = Callable[[Callable[[], Arrays]], None]
STALLED, STALLED_STEPS = 0.01, 5
"""The line search ends where the loss has fallen by less than this share in so many steps."""


class Aligner:
    """A model, frames of liquids and clusters (see `read_out.ready_for_read_out`), on their way to other pressures."""

    def __init__(
        self,
        model: ForceField,
        liquids: Sequence[Liquid],
        clusters: Sequence[ReadyFrame],
        options: Alignment,
        seed: int,
        threads: int = 1,
    ) -> None:
        for liquid in liquids:
            if len(liquid.frames) < 3:
                raise ValueError(f"{liquid.name}: {len(liquid.frames)} frames, at least 3 are needed")
            if abs(liquid.change_atm) > options.most_atm:
                most = f"at most {options.most_atm:.0f} atm in one round"
                raise ValueError(f"{liquid.name}: a change of {liquid.change_atm:+.0f} atm, {most}")
        self.model, self.options, self.seed = model, options, seed
        self.bare = network_alone(model)
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.train: dict[str, list[Anchored]] = {}
        self.valid: dict[str, list[Anchored]] = {}
        for liquid in liquids:
            parts = split(taken(liquid.frames, options.frames))
            for part, frames in zip((self.train, self.valid), parts, strict=True):
                part[liquid.name] = [Anchored.of(self.bare, f, liquid.change_atm) for f in frames]
        self.frames = [a for frames in self.train.values() for a in frames]
        self.rest = free_of_elements(np.array([a.counts for a in self.frames]))
        if not options.free_elements:
            self.rest = np.eye(len(self.frames))
        self.clusters = list(clusters)
        w = options.weights
        terms = {"energy": w.cluster_energy, "forces": w.cluster_forces, "virial": w.cluster_virial}
        self.cluster_loss = Loss(terms, "mean_free", "squared")
        self.parameters = list(self.bare.energy.parameters())
        self.descent = Descent(self.parameters, self.value)
        self.done = 0
        self.history: list[float] = []
        self.missed_atm = np.inf

    # --- what is minimised

    def value(self) -> tuple[float, Tensor]:
        """Loss over all liquids and clusters, and its gradient."""
        found = list(self.pool.map(self._liquid, self.frames))
        starts = range(0, len(self.clusters), self.options.cluster_batch)
        parts = list(self.pool.map(self._cluster_batch, starts))
        loss = sum(f[0] for f in found) / len(found)
        gradient = sum((f[1] for f in found), start=torch.zeros(())) / len(found)
        sizes = np.array([len(a.frame) for a in self.frames])
        left = self.rest @ np.array([f[2] for f in found])
        loss += self.options.weights.energy * float((sizes * left**2).mean())
        slope = 2.0 * self.options.weights.energy * (self.rest.T @ (sizes * left)) / len(found)
        by_energy = torch.stack([f[3] for f in found])
        gradient = gradient + torch.from_numpy(slope / sizes).to(by_energy) @ by_energy
        if parts:
            loss += sum(p[0] for p in parts) / len(parts)
            gradient = gradient + sum((p[1] for p in parts), start=torch.zeros(())) / len(parts)
        self.missed_atm = float(np.sqrt(np.mean([f[4] ** 2 for f in found])))
        return loss, gradient

    def _liquid(self, a: Anchored) -> tuple[float, Tensor, float, Tensor, float]:
        """Loss of one frame without the energy's, its gradient; change of the energy by atom, gradient of the energy;
        by how much the pressure misses its target."""
        terms = evaluate(self.bare, a.frame)
        loss = a.loss(terms, self.options)
        gradient = self._gradient(loss, keep=True)
        by_energy = self._gradient(terms.energy)
        changed = float(terms.energy.detach() - a.before.energy) / len(a.frame)
        missed = float(a.frame.pressure_atm(terms.between.detach() - a.before.between)) - a.change_atm
        return float(loss.detach()), gradient, changed, by_energy, missed

    def _cluster_batch(self, start: int) -> tuple[float, Tensor]:
        frames = self.clusters[start : start + self.options.cluster_batch]
        return self._cluster_loss(frames)

    def _cluster_loss(self, frames: Sequence[ReadyFrame]) -> tuple[float, Tensor]:
        batch = join(frames)
        predicted = TrainingPass(self.bare)(batch, virial="virial" in self.cluster_loss.terms)
        loss = self.cluster_loss(predicted, batch, Counts.of(frames)).sum()
        gradient = self._gradient(loss)
        return float(loss.detach()), gradient

    def _gradient(self, loss: Tensor, keep: bool = False) -> Tensor:
        parts = torch.autograd.grad(loss, self.parameters, retain_graph=keep, allow_unused=True, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in parts]).detach()

    # --- how

    def run(
        self, *, progress: Callable[[int, int], None] = lambda done, total: None, save: Save = lambda state: None
    ) -> ForceField:
        """Go on to the end and return the model with its new read-out; `save` is offered the state after every step."""
        o = self.options
        step = self._search if o.method == "line_search" else self._epoch_of_sgd
        while self.done < o.steps and not (o.method == "line_search" and self._near()):
            self.history.append(step())
            self.done += 1
            save(self.state)
            progress(self.done, o.steps)
        return put_back(self.model, self.bare)

    def _near(self) -> bool:
        if not self.done:
            return not any(a.change_atm for a in self.frames)
        return self.missed_atm <= self.options.near_atm or self._stalled()

    def _stalled(self) -> bool:
        last = self.history[-STALLED_STEPS - 1 :]
        return len(last) > STALLED_STEPS and last[0] - last[-1] < STALLED * last[0]

    def _search(self) -> float:
        return self.descent.step()

    def _epoch_of_sgd(self) -> float:
        """One frame and one batch of clusters in turn, as published."""
        o = self.options
        rng = generator(self.seed, f"alignment order {self.done}")
        rate, order, losses = o.learning_rate * o.gamma**self.done, rng.permutation(len(self.frames)), []
        for index in order:
            loss, gradient, changed, by_energy, _ = self._liquid(self.frames[index])
            n = len(self.frames[index].frame)
            gradient = gradient + 2.0 * o.weights.energy * changed * by_energy
            losses.append(loss + o.weights.energy * n * changed**2)
            self._move(gradient, rate)
            if self.clusters:
                chosen = rng.permutation(len(self.clusters))[: o.cluster_batch]
                self._move(self._cluster_loss([self.clusters[k] for k in chosen])[1], rate)
        return float(np.mean(losses))

    @torch.no_grad()
    def _move(self, gradient: Tensor, rate: float) -> None:
        start = 0
        for p in self.parameters:
            p.sub_(rate * gradient[start : start + p.numel()].view_as(p))
            start += p.numel()

    def effects(self) -> list[Effect]:
        """What happened to the frames that were not fitted."""
        return effects(self.bare, self.valid)

    def state(self) -> Arrays:
        """Everything that the rest of the round depends on."""
        position = {"done": np.asarray(self.done), "missed_atm": np.asarray(self.missed_atm)}
        return self.descent.state() | position | {"history": np.array(self.history)}

    def restore(self, arrays: Arrays) -> None:
        """Go back to a saved state."""
        self.descent.restore(arrays)
        self.done, self.missed_atm = int(arrays["done"]), float(arrays["missed_atm"])
        self.history = arrays["history"].tolist()
