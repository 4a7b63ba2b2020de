"""Parameters of the trainable recurrent networks; one class serves all three, which differ by values, never by code."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class RecurrentParameters:
    """Form and training of SRNN-ANN, SRNN-SNN and RNN; raises pydantic's `ValidationError` on a bad value.

    Potentials and weights are in units of their own; one step is one bin of the input. Names as in the original's scripts.
    """

    kinds: ClassVar[tuple[str, ...]] = ("events", "pairs")

    cell: Annotated[Literal["lif", "tanh"], Field(description="spiking neurons, or tanh units")] = "lif"
    readout: Annotated[Literal["linear", "lif"], Field(description="of the counts, or spiking neurons")] = "linear"
    n_neurons: Annotated[int, Field(ge=1, le=65_535)] = 200
    n_layers: Annotated[int, Field(ge=1, le=8, description="of the tanh network")] = 1
    decay: Annotated[Decay, Field(description="lambda, what remains of a potential after a step")] = 0.9
    v_threshold: Annotated[Positive, Field(description="a neuron spikes at v > this")] = 0.3
    readout_decay: Annotated[Decay, Field(description="lambda of the spiking readout")] = 0.9
    lens: Annotated[Positive, Field(description="half width of the surrogate derivative")] = 0.25
    start: Annotated[Literal["gaussian", "uniform"], Field(description="const x conductances, or +-const/sqrt(n)")] = (
        "gaussian"
    )
    const: Annotated[Positive, Field(description="scales the first weights of the spiking layer")] = 0.03
    steps_used: Annotated[int | None, Field(ge=1, description="the first steps alone; null = all")] = None
    loss: Annotated[Literal["mse", "cross_entropy"], Field(description="mse on one-hot targets")] = "mse"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    batch: Annotated[int, Field(ge=1, description="samples a step")] = 80
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 100

    @model_validator(mode="after")
    def _parts_fit(self) -> RecurrentParameters:
        if self.cell == "tanh" and self.readout == "lif":
            raise ValueError("readout=lif needs spikes; cell=tanh takes readout=linear")
        if self.cell == "lif" and self.n_layers != 1:
            raise ValueError(f"n_layers={self.n_layers}: cell=lif has one layer")
        return self
