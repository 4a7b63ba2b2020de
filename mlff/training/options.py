"""How a force field is trained: the options of a run.

Two presets in `conf/training/`: `bamboo2024`, the published recipe, and `modern`. The loop is in `trainer.py`.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.training.devices import Device
from mlff.training.losses import EnergyLoss, Form, Weights
from mlff.training.references import References
from mlff.training.schedule import Schedule

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Training:
    """How to train; raises pydantic's `ValidationError` on a bad value. Defaults are the preset `modern`."""

    epochs: Count = 300
    batch: Annotated[Count, Field(description="frames of a step, over all processes")] = 8
    pieces: Annotated[int, Field(ge=1, le=64, description="parts of a batch that threads may compute side by side")] = 2
    optimiser: Literal["adamw", "adamax"] = "adamw"
    learning_rate: Positive = 5e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    decay_all: Annotated[bool, Field(description="decay biases, norms and embeddings too")] = False
    schedule: Schedule = "cosine"
    warm_up: Annotated[Share, Field(description="cosine: share of the steps with a growing rate")] = 0.02
    end: Annotated[Share, Field(description="cosine: last rate, as a share of the largest")] = 0.0
    gamma: Annotated[float, Field(gt=0, le=1, description="exponential: factor of the rate at every epoch")] = 0.99
    clip_norm: Annotated[float | None, Field(gt=0, description="longest gradient; null = any")] = 100.0
    average: Annotated[Share | None, Field(description="decay of the running average of weights; null = none")] = 0.99
    energy_loss: EnergyLoss = "per_atom"
    form: Form = "squared"
    weights: Annotated[Weights, Field(description="yours; null leaves it to `where_labelled`")] = field(
        default_factory=Weights
    )
    where_labelled: Annotated[Weights, Field(description="the preset's, for labels that the set has")] = field(
        default_factory=Weights
    )
    references: References = "fitted"
    refit: Annotated[bool, Field(description="fit energies of elements to what is left at the end")] = False
    scaled: Annotated[bool, Field(description="start with energies of the size of the force labels")] = True
    shuffle: Annotated[Literal["frames", "batches"], Field(description="batches = fixed slices in any order")] = (
        "frames"
    )
    select: Annotated[
        Literal["mae", "best", "last"],
        Field(description="epoch kept: by absolute errors of validation frames, by their loss, or the last"),
    ] = "mae"
    validate_every: Annotated[Count, Field(description="epochs")] = 1
    precision: Literal["float32", "float64"] = "float32"
    device: Annotated[Device, Field(description="cuda is faster for many frames, its results not the same bits")] = (
        "cpu"
    )
