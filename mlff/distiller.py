"""The loop that teaches one model what a committee says, resumable after every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff.alignment.liquid_pass import network_alone, put_back
from mlff.datasets import Dispersion
from mlff.distillation import Distillation, Sorted, Taught
from mlff.labelled import LabelledFrame
from mlff.model import ForceField
from mlff.opinions import mean_frames
from mlff.read_out import ready_for_read_out
from mlff.streams import generator
from mlff.training.batches import ReadyFrame, join, labels_in_use, ready_frames
from mlff.training.flat import FlatWeights
from mlff.training.losses import Counts, Loss
from mlff.training.passes import TrainingPass

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Lessons:
    """Frames in the form that the student takes; `student` is what learns, `model` what it belongs to."""

    model: ForceField
    student: ForceField
    taught: list[Taught]
    taught_valid: list[Taught]
    clusters: list[ReadyFrame]
    clusters_valid: list[ReadyFrame]


def lessons(
    base: ForceField,
    liquids: Sorted,
    clusters: Sequence[LabelledFrame],
    clusters_valid: Sequence[LabelledFrame],
    dispersion: Dispersion,
    d: Distillation,
) -> Lessons:
    """Prepare all frames; every third of a liquid's is for validation. `dispersion` is about the labels of clusters."""
    means = mean_frames(liquids.opinions, liquids.names)
    model = base.changed()
    student = network_alone(model) if d.learns == "read_out" else model
    if d.learns == "read_out":
        ready = ready_for_read_out(means, model, student, "included")
        labelled = ready_for_read_out([*clusters, *clusters_valid], model, student, dispersion)
    else:
        student.requires_grad_(True)
        labels = labels_in_use(d.liquid.given())
        ready = _whole(means, model, labels, included=True)
        labels = labels_in_use(d.clusters.given())
        labelled = _whole([*clusters, *clusters_valid], model, labels, included=dispersion == "included")
    parts: tuple[list[Taught], list[Taught]] = ([], [])
    for frame, atoms, held in zip(ready, liquids.atoms, liquids.held, strict=True):
        parts[held].append(Taught.of(frame, atoms))
    if not parts[0]:
        raise ValueError("no frame of a liquid is left for training: too few, or too many rejected")
    return Lessons(model, student, *parts, labelled[: len(clusters)], labelled[len(clusters) :])


def _whole(
    frames: Sequence[LabelledFrame], model: ForceField, labels: Sequence[str], *, included: bool
) -> list[ReadyFrame]:
    reference = model.reference_energy.numpy()
    return list(ready_frames(frames, model, reference, labels=labels, dispersion_in_labels=included))


class Distiller:
    """A student on its way; `state()` holds all that the rest of the run depends on."""

    def __init__(self, lessons: Lessons, options: Distillation, seed: int, threads: int = 1) -> None:
        self.lessons, self.options, self.seed = lessons, options, seed
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.flat = FlatWeights(lessons.student.energy if options.learns == "read_out" else lessons.student)
        self.evaluate = TrainingPass(lessons.student)
        self.liquid, weights = options.liquid.given(), options.clusters.given()
        self.loss = Loss({k: w for k, w in weights.items() if w > 0}, "mean_free", "squared")
        self.weights = torch.nn.Parameter(self.flat.values)
        self.weights.grad = self.flat.gradient
        self.optimiser = torch.optim.Adam([self.weights], lr=options.learning_rate)
        self.best, self.best_loss, self.best_epoch = self.flat.values.clone(), math.inf, 0
        self.epoch, self.at, self.total = 0, 0, 0.0
        self.history: list[tuple[float, float, float]] = []

    def run(
        self,
        *,
        on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, values: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
        save: Callable[[Callable[[], Arrays]], None] = lambda state: None,
    ) -> ForceField:
        """Go on to the last epoch; returns the model of the epoch that is kept.

        The weights before the first step count as epoch 0: a student that only gets worse stays what it was.
        """
        o, n = self.options, len(self.lessons.taught)
        if not self.history:
            self._finish_epoch(float("nan"))
        while self.epoch < o.epochs:
            for pair in self._order()[self.at :]:
                self.total += self._step(*pair)
                self.at += 1
                if self.at < n:
                    save(self.state)
                progress(self.epoch * n + self.at, o.epochs * n)
            self.epoch, self.at, mean, self.total = self.epoch + 1, 0, self.total / n, 0.0
            on_epoch(self.epoch, self._finish_epoch(mean))
            save(self.state)
        with torch.no_grad():
            self.flat.values.copy_(self.best)
        if o.learns == "read_out":
            return put_back(self.lessons.model, self.lessons.student)
        return self.lessons.student.changed().eval().requires_grad_(False)

    def _order(self) -> list[tuple[int, NDArray[np.int64]]]:
        """Frame and clusters of every step of the present epoch, a function of seed and epoch."""
        rng = generator(self.seed, f"distillation order {self.epoch}")
        size, n = self.options.batch, len(self.lessons.clusters)
        frames = rng.permutation(len(self.lessons.taught))
        wanted = size * len(frames) if n else 0
        drawn = np.concatenate([rng.permutation(n) for _ in range(-(-wanted // max(n, 1)))] or [np.zeros(0, np.int64)])
        return [(int(f), drawn[size * k : size * (k + 1)]) for k, f in enumerate(frames)]

    def _step(self, frame: int, clusters: NDArray[np.int64]) -> float:
        tasks: list[Callable[[], tuple[Tensor, float]]] = [lambda: self._gradient(self._of_liquid(frame))]
        if len(clusters):
            tasks.append(lambda: self._gradient(self._of_clusters([self.lessons.clusters[k] for k in clusters])))
        if self.options.alternate:
            losses = []
            for task in tasks:
                gradient, loss = task()
                self._apply(gradient)
                losses.append(loss)
            return sum(losses)
        found = list(self.pool.map(lambda task: task(), tasks))
        self._apply(torch.stack([f[0] for f in found]).sum(dim=0))
        return sum(f[1] for f in found)

    def _of_liquid(self, frame: int) -> Tensor:
        taught = self.lessons.taught[frame]
        return taught.loss(self.evaluate(taught.batch, virial="virial" in self.liquid), self.liquid)

    def _of_clusters(self, frames: Sequence[ReadyFrame], *, graph: bool = True) -> Tensor:
        batch = join(frames)
        predicted = self.evaluate(batch, virial="virial" in self.loss.terms, graph=graph)
        return self.loss(predicted, batch, Counts.of(frames)).sum()

    def _gradient(self, loss: Tensor) -> tuple[Tensor, float]:
        return self.flat.gradient_of(loss), float(loss.detach())

    def _apply(self, gradient: Tensor) -> None:
        self.flat.gradient.copy_(gradient)
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * self.options.gamma**self.epoch
        self.optimiser.step()

    def _finish_epoch(self, trained: float) -> dict[str, float]:
        """Validation losses after an epoch; keeps the weights if they are the best so far."""
        liquid, clusters = self.score()
        judged = liquid + clusters
        if not math.isfinite(judged):
            raise FloatingPointError(f"the loss is {judged} after epoch {self.epoch}: lower the learning rate")
        if self.options.select == "last" or judged < self.best_loss:
            self.best_loss, self.best_epoch = judged, self.epoch
            self.best.copy_(self.flat.values)
        self.history.append((trained, liquid, clusters))
        return {"train/loss": trained, "valid/liquid_loss": liquid, "valid/cluster_loss": clusters}

    def score(self) -> tuple[float, float]:
        """Losses of validation frames: of liquids and of clusters."""
        found = []
        for taught in self.lessons.taught_valid or self.lessons.taught:
            predicted = self.evaluate(taught.batch, virial="virial" in self.liquid, graph=False)
            found.append(float(taught.loss(predicted, self.liquid)))
        frames, block = self.lessons.clusters_valid, 32
        parts = [self._of_clusters(frames[k : k + block], graph=False) for k in range(0, len(frames), block)]
        return float(np.mean(found)), float(np.mean([float(p) for p in parts])) if parts else 0.0

    def state(self) -> Arrays:
        """Everything that the rest of the run depends on, as arrays."""
        arrays = {"weights": self.flat.values, "best": self.best}
        for entry, value in self.optimiser.state_dict()["state"].get(0, {}).items():
            arrays[f"optimiser.{entry}"] = value
        out: Arrays = {name: value.detach().numpy().copy() for name, value in arrays.items()}
        out["position"] = np.array([self.epoch, self.at, self.best_epoch])
        out["numbers"] = np.array([self.best_loss, self.total])
        out["history"] = np.array(self.history)
        return out

    def restore(self, arrays: Arrays) -> None:
        """Go back to a saved state; raises `ValueError` if it belongs to another network."""
        if arrays["weights"].shape != tuple(self.flat.values.shape):
            raise ValueError(f"a saved state of {len(arrays['weights'])} weights for {len(self.flat.values)}")
        with torch.no_grad():
            self.flat.values.copy_(torch.from_numpy(arrays["weights"]))
            self.best.copy_(torch.from_numpy(arrays["best"]))
        content = self.optimiser.state_dict()
        entries = {k.partition(".")[2]: torch.tensor(v) for k, v in arrays.items() if k.startswith("optimiser.")}
        content["state"] = {0: entries} if entries else {}
        self.optimiser.load_state_dict(content)
        self.epoch, self.at, self.best_epoch = (int(v) for v in arrays["position"])
        self.best_loss, self.total = (float(v) for v in arrays["numbers"])
        self.history = [(a, b, c) for a, b, c in arrays["history"].tolist()]
