"""The training loop, which can be stopped after any batch and goes on bit for bit.

Frames are shuffled by a stream of the seed and the epoch alone, so that the position in the data is two numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlff.model import ForceField
from mlff.streams import generator
from mlff.training.batches import ReadyFrame, TrainingBatch, join
from mlff.training.devices import find_device
from mlff.training.flat import FlatWeights
from mlff.training.losses import Counts, Loss
from mlff.training.options import Training
from mlff.training.packed import PackedFrames
from mlff.training.parallel import Ranks
from mlff.training.passes import TrainingPass
from mlff.training.schedule import cosine_rate, exponential_rate, update_average
from mlff.training.validation import score

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Trained:
    """Outcome of `train`: the epoch kept (from 1), and the errors of every epoch by name."""

    epoch: int
    history: list[dict[str, float]]


def divided(frames: Sequence[ReadyFrame], n: int) -> list[list[ReadyFrame]]:
    """At most `n` groups of about the same number of atoms, none empty; a function of the frames alone."""
    groups: list[list[ReadyFrame]] = [[] for _ in range(min(n, len(frames)))]
    sizes = [0] * len(groups)
    for frame in sorted(frames, key=len, reverse=True):
        smallest = sizes.index(min(sizes))
        groups[smallest].append(frame)
        sizes[smallest] += len(frame)
    return groups


@dataclass
class Clock:
    """Wall time, and CPU time of all threads, that training has taken so far, over all its sittings."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    _started: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Begin a sitting."""
        self._started = (time.perf_counter() - self.wall_s, time.process_time() - self.cpu_s)

    def read(self) -> None:
        """Bring both times up to now."""
        self.wall_s, self.cpu_s = time.perf_counter() - self._started[0], time.process_time() - self._started[1]


@dataclass
class _Position:
    """Where a run is."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf


class Trainer:
    """A model on its way; `state()` holds all that the rest of the run depends on."""

    def __init__(
        self,
        model: ForceField,
        frames: Sequence[ReadyFrame],
        valid: Sequence[ReadyFrame],
        options: Training,
        weights: dict[str, float],
        scale: float,
        seed: int,
        ranks: Ranks,
        threads: int = 1,
    ) -> None:
        self.options, self.seed, self.ranks = options, seed, ranks
        self.frames, self.valid = frames, valid
        # one thread for each piece, and none inside the operations: sums do not depend on how many there are
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        device = find_device(options.device)
        self.packed = None if device.type == "cpu" else PackedFrames(frames, device)
        self.packed_valid = PackedFrames(valid, device) if self.packed and valid else None
        self.flat = FlatWeights(model.to(device))
        self.evaluate = TrainingPass(model, scale)
        self.loss = Loss(weights, options.energy_loss, options.form)
        self.virial = weights.get("virial", 0.0) > 0
        self.optimiser = self._optimiser()
        self.average = self.flat.values.clone()
        self.best = self.flat.values.clone()
        # terms of the loss times frames so far in the epoch, and the frames
        self.at = _Position()
        self.clock = Clock()
        self.sums = torch.zeros(len(self.loss.terms) + 1, dtype=torch.float64, device=device)
        self.history: list[dict[str, float]] = []

    @property
    def n_batches(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.frames) // self.options.batch)

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self.options.epochs * self.n_batches

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Indices of the frames of every batch of an epoch, a function of seed and epoch."""
        rng, n, size = generator(self.seed, f"data order {epoch}"), len(self.frames), self.options.batch
        if self.options.shuffle == "frames":
            order = rng.permutation(n)
            return [order[k : k + size] for k in range(0, n, size)]
        slices = [np.arange(k, min(k + size, n)) for k in range(0, n, size)]
        return [slices[k] for k in rng.permutation(len(slices))]

    def step(self, indices: NDArray[np.int64]) -> None:
        """One step on these frames, of which this process takes its share."""
        counts = Counts.of([self.frames[k] for k in indices])
        mine = indices[self.ranks.rank :: self.ranks.size]
        if not len(mine):
            found = []
            self.loss.stand_by(self.flat.values, self.ranks.total)
        elif self.packed:
            found = [self._piece(self.packed.batch(mine), counts)]
        else:
            # the mean error of a batch ties its frames together: such a loss is computed in one piece
            pieces = 1 if self.loss.energy == "mean_free" else self.options.pieces
            parts = divided([self.frames[k] for k in mine], pieces)
            found = list(self.pool.map(lambda part: self._piece(join(part), counts), parts))
        self.flat.gradient.zero_()
        shares = torch.zeros_like(self.sums[:-1])
        for gradient, share in found:
            self.flat.gradient += gradient
            shares += share
        self._apply()
        self.sums[:-1] += counts.frames * self.ranks.total(shares)
        self.sums[-1] += counts.frames

    def _piece(self, batch: TrainingBatch, counts: Counts) -> tuple[Tensor, Tensor]:
        """Gradient and terms of the loss of some frames of a batch."""
        predicted = self.evaluate(batch, virial=self.virial)
        shares = self.loss(predicted, batch, counts, self.ranks.total)
        return self.flat.gradient_of(shares.sum()), shares.detach().double()

    def _apply(self) -> None:
        if self.ranks.size > 1:
            self.flat.gradient.copy_(self.ranks.total(self.flat.gradient))
        o = self.options
        self.flat.clip(o.clip_norm)
        rate = self.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        if o.average is not None:
            update_average(self.average, self.flat.values, o.average, self.at.step)
        self.at.step += 1

    def rate(self) -> float:
        """Learning rate of the coming step."""
        o = self.options
        if o.schedule == "exponential":
            return exponential_rate(o.learning_rate, o.gamma, self.at.epoch)
        return cosine_rate(o.learning_rate, self.at.step, self.n_steps, round(o.warm_up * self.n_steps), o.end)

    def finish_epoch(self) -> dict[str, float]:
        """Errors of the epoch that has ended; keeps the weights if they are the best so far."""
        o, last = self.options, self.at.epoch + 1 == self.options.epochs
        values = {"learning_rate": self.rate() if not last else 0.0}
        values["train/loss"] = float(self.sums[:-1].sum() / self.sums[-1])
        if self.valid and (last or (self.at.epoch + 1) % o.validate_every == 0):
            values |= {f"valid/{name}": value for name, value in self.score(self.valid).items()}
        measure = "valid/weighted_mae" if o.select == "mae" else "valid/loss"
        judged = values.get(measure, math.inf if self.valid else values["train/loss"])
        if o.select == "last" or judged < self.at.best_loss:
            self.at.best_loss, self.at.best_epoch = judged, self.at.epoch + 1
            self.best.copy_(self.average if o.average is not None else self.flat.values)
        self.history.append(values)
        self.sums.zero_()
        self.at.epoch, self.at.batch = self.at.epoch + 1, 0
        return values

    def score(self, frames: Sequence[ReadyFrame]) -> dict[str, float]:
        """Loss and mean absolute errors of frames, with the averaged weights where there are any."""
        averaged = self.options.average is not None
        if averaged:
            self.flat.exchange(self.average)
        try:
            return score(
                self.evaluate,
                self.loss,
                frames,
                self._joined(frames),
                self.options.batch,
                self.ranks,
                virial=self.virial,
            )
        finally:
            if averaged:
                self.flat.exchange(self.average)

    def _joined(self, frames: Sequence[ReadyFrame]) -> Callable[[Sequence[int]], TrainingBatch]:
        """How batches of some frames are made on the model's device."""
        if self.packed is None:
            return lambda indices: join([frames[k] for k in indices])
        known = self.packed_valid if frames is self.valid else None
        return (known or PackedFrames(frames, self.flat.values.device)).batch

    def _optimiser(self) -> torch.optim.Optimizer:
        o = self.options
        decayed, others = self.flat.parts()
        groups = [
            {"params": [decayed], "weight_decay": o.weight_decay},
            {"params": [others], "weight_decay": o.weight_decay if o.decay_all else 0.0},
        ]
        kind = torch.optim.AdamW if o.optimiser == "adamw" else torch.optim.Adamax
        return kind(groups, lr=o.learning_rate)

    def state(self) -> Arrays:
        """Everything that the rest of the run depends on, as arrays."""
        arrays = {
            "weights": self.flat.values,
            "average": self.average,
            "best": self.best,
            "sums": self.sums,
            "position": torch.tensor([self.at.epoch, self.at.batch, self.at.step, self.at.best_epoch]),
            "best_loss": torch.tensor(self.at.best_loss, dtype=torch.float64),
            "seconds": torch.tensor([self.clock.wall_s, self.clock.cpu_s], dtype=torch.float64),
        }
        for k, entry in self.optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser.{k}.{name}": value for name, value in entry.items()}
        out: Arrays = {name: value.detach().cpu().numpy().copy() for name, value in arrays.items()}
        names = sorted({name for row in self.history for name in row})
        out["history"] = np.array([[row.get(n, np.nan) for n in names] for row in self.history])
        out["history_names"] = np.array(names, dtype=np.str_)
        return out

    def restore(self, arrays: Arrays) -> None:
        """Go back to a saved state; raises `ValueError` if it belongs to another network."""
        for name, target in (("weights", self.flat.values), ("average", self.average), ("best", self.best)):
            if arrays[name].shape != tuple(target.shape):
                raise ValueError(f"a saved state of {arrays[name].shape[0]} weights for a model of {len(target)}")
            target.copy_(torch.from_numpy(arrays[name]))
        self.sums.copy_(torch.from_numpy(arrays["sums"]))
        epoch, batch, step, best = arrays["position"].tolist()
        self.at = _Position(epoch, batch, step, best, float(arrays["best_loss"]))
        self.clock = Clock(*arrays["seconds"].tolist())
        content = self.optimiser.state_dict()
        content["state"] = {}
        for name, value in arrays.items():
            if name.startswith("optimiser."):
                _, k, entry = name.split(".")
                content["state"].setdefault(int(k), {})[entry] = torch.from_numpy(value)
        self.optimiser.load_state_dict(content)
        names = arrays["history_names"].tolist()
        rows = [dict(zip(names, row, strict=True)) for row in arrays["history"].tolist()]
        self.history = [{n: v for n, v in row.items() if not math.isnan(v)} for row in rows]


OnEpoch = Callable[[int, dict[str, float]], None]
Save = Callable[[Callable[[], Arrays]], None]


def train(
    trainer: Trainer,
    *,
    on_epoch: OnEpoch = lambda epoch, values: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    save: Save = lambda state: None,
) -> Trained:
    """Run all epochs that are left; `save` is offered the state after every batch, `on_epoch` told (epoch, errors).

    Raises `FloatingPointError` where the loss is no longer a number.
    """
    at, clock = trainer.at, trainer.clock
    clock.start()
    for epoch in range(at.epoch, trainer.options.epochs):
        batches = trainer.batches(epoch)
        for indices in batches[at.batch :]:
            trainer.step(indices)
            at.batch += 1
            clock.read()
            if at.batch < len(batches):
                save(trainer.state)
            progress(at.step, trainer.n_steps)
        values = trainer.finish_epoch()
        clock.read()
        if not math.isfinite(values["train/loss"]):
            raise FloatingPointError(
                f"the loss is {values['train/loss']} at epoch {epoch + 1}: lower the learning rate"
            )
        on_epoch(epoch + 1, values)
        save(trainer.state)
    trainer.flat.values.copy_(trainer.best)
    return Trained(at.best_epoch, trainer.history)
