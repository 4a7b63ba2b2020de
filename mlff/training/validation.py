"""Errors on held-out frames while training goes on: the loss, and mean absolute errors in the units of the metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mlff.training.batches import ReadyFrame, TrainingBatch
from mlff.training.losses import Counts, Loss, error_sums
from mlff.training.parallel import Ranks
from mlff.training.passes import TrainingPass
from mlff.units import MEV_PER_KCAL

REPORTED = {
    "energy": ("energy_mae_meV_per_atom", MEV_PER_KCAL),
    "forces": ("forces_mae_meV_per_A", MEV_PER_KCAL),
    "virial": ("virial_mae_meV", MEV_PER_KCAL),
    "charges": ("charges_mae_e", 1.0),
    "dipole": ("dipole_mae_D", 1.0),
    "net_forces": ("net_forces_mae_meV_per_A", MEV_PER_KCAL),
}
"""Name and factor of each label's error in the metrics."""


def score(
    evaluate: TrainingPass,
    loss: Loss,
    frames: Sequence[ReadyFrame],
    joined: Callable[[Sequence[int]], TrainingBatch],
    block: int,
    ranks: Ranks,
    *,
    virial: bool,
) -> dict[str, float]:
    """`loss` and an error for each label, over all frames; each process predicts its share, `block` frames at once.

    `weighted_mae` is the sum over the loss' terms of the mean absolute error (kcal/mol/atom, kcal/mol/Å, kcal/mol, e, D)
    times the root of the weight, which is that of a square: a few frames that are far off rule a squared loss, not this.
    `joined` makes a batch of the frames with some indices, on the model's device.
    Where the loss knows no constant of the energy (`mean_free`), energies are compared less their mean error.
    """
    counts = Counts.of(frames)
    labels = list(frames[0].targets)
    if "net_forces" in loss.terms:
        labels.append("net_forces")
    zero = evaluate.model.reference_energy.new_zeros(4)
    table, terms, drift = zero.new_zeros(len(labels), 4), zero.new_zeros(len(loss.terms)), [zero.new_zeros(2, 0)]
    mine = range(len(frames))[ranks.rank :: ranks.size]
    for k in range(0, len(mine), block):
        batch = joined(mine[k : k + block])
        predicted = evaluate(batch, virial=virial, graph=False)
        sums = error_sums(predicted, batch)
        table += torch.stack([sums.get(name, zero) for name in labels])
        terms += loss(predicted, batch, counts).double()
        if "energy" in labels:
            drift.append(
                torch.stack([predicted.energy - batch.targets["energy"], batch.counts.to(predicted.energy)]).double()
            )
    if loss.energy == "mean_free" and "energy" in labels:
        share, by_atom = _without_mean(torch.cat(drift, dim=1), loss, counts, ranks)
        table[labels.index("energy"), 0] = by_atom
        if "energy" in loss.terms:
            terms[loss.terms.index("energy")] = share
    table, terms = ranks.total(table), ranks.total(terms)
    values = {"loss": float(terms.sum())}
    weighted = 0.0
    for name, row in zip(labels, table.tolist(), strict=True):
        if row[3]:
            reported, factor = REPORTED[name]
            values[reported] = factor * row[0] / row[3]
            weight = loss.weights.get(name, 0.0)
            weighted += (math.sqrt(weight) if loss.form == "squared" else weight) * row[0] / row[3]
    values["weighted_mae"] = weighted
    return values


def _without_mean(drift: Tensor, loss: Loss, counts: Counts, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Energy errors `drift[0]` of whole frames less their mean: their share of the loss, and their sum by atom."""
    errors = drift[0] - ranks.total(drift[0].sum()) / counts.frames
    sizes = errors.square() if loss.form == "squared" else errors.abs()
    return loss.weights.get("energy", 0.0) * sizes.sum() / counts.frames, (errors / drift[1]).abs().sum()
