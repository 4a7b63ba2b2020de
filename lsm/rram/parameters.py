"""Parameters of the random-RRAM liquid: what `conf/model/rram_lsm.yaml` names.

Hyper-parameters that are left open (`None`) take the published value for the data at hand, see `lsm.rram.settings`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lsm.rram.constants import EnergyConstants
from lsm.rram.device import Device
from lsm.rram.settings import Task, family_of, published

OPEN = ("n_neurons", "steps", "decay", "v_threshold", "weight_per_uS", "window")
"""Hyper-parameters that the data set fills in."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class RramParameters:
    """The liquid, how it sees the data, and the device; raises pydantic's `ValidationError` on a bad value."""

    kinds: ClassVar[tuple[str, ...]] = ("images", "events", "pairs")

    # --- liquid
    n_neurons: Annotated[int | None, Field(ge=1, le=65_535, description="liquid neurons")] = None
    steps: Annotated[int | None, Field(ge=1, le=65_535, description="steps T of a sample")] = None
    decay: Annotated[float | None, Field(ge=0, le=1, description="factor lambda on the potential, per step")] = None
    v_threshold: Annotated[float | None, Field(ge=0, description="a neuron spikes above it")] = None
    weight_per_uS: Annotated[float | None, Field(gt=0, description="weight of 1 uS (const of the original)")] = None
    window: Annotated[float | None, Field(gt=0, description="a feature is a spike count divided by it")] = None

    # --- what it sees
    bin_ms: Annotated[float | None, Field(gt=0, description="width of a step in ms; null = 6, or the set's own")] = None
    time: Annotated[
        Literal["bins", "normalised"] | None,
        Field(description="bins of bin_ms, or each recording squeezed into T steps; null = as published"),
    ] = None
    polarity: Annotated[Literal[0, 1, "both"], Field(description="events of a camera that are seen")] = 0
    crop: Annotated[
        int | None, Field(ge=0, description="central pixels of a camera, square; 0 = all; null = 16 of 34x34, else all")
    ] = None
    max_spikes: Annotated[float, Field(gt=0, description="images: spikes of a white pixel if T were its steps")] = 20.0

    device: Device = field(default_factory=Device)
    energy: Annotated[EnergyConstants | None, Field(description="null = no energy is computed")] = None

    def for_data(self, encoding: dict[str, Any], task: Task = "supervised") -> RramParameters:
        """The same with every open hyper-parameter at the published value for this data set and task.

        A `window` that is left open follows `steps` where those are given.
        """
        row = published(family_of(encoding), task)._asdict()
        if self.steps is not None:
            row["window"] = self.steps
        return dataclasses.replace(self, **{name: row[name] for name in OPEN if getattr(self, name) is None})
