"""Parameters of the neuron-astrocyte liquid state machine and of its three baselines.

One class serves all four models: they differ by `learning` and a few values, never by code. The names follow the field;
a unit stands in the name or in the description. Source: Ivanov & Michmizos, NeurIPS 2021, and its published code.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Learning = Literal["none", "stdp", "astro_stdp", "ap_stdp"]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]

MAX_NEURONS = 65_535  # post-synaptic indices are stored in 16 bits
"""Largest liquid that the compact synapse tables can address."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class LiquidParameters:
    """Everything that determines a liquid and how it learns; raises pydantic's `ValidationError` on a bad value.

    Voltages and weights are in units in which the threshold is 20; one step is 1 ms.
    """

    kinds: ClassVar[tuple[str, ...]] = ("images", "events")
    """Kinds of data that a liquid reads."""

    # --- wiring
    n_neurons: Annotated[int, Field(ge=2, le=MAX_NEURONS, description="liquid neurons")] = 1000
    lattice: Annotated[
        tuple[int, int, int] | None, Field(strict=False, description="sites along x, y, z; null = most cubic")
    ] = None
    excitatory_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.8
    c_ee: Annotated[Probability, Field(description="connection constant E->E")] = 0.2
    c_ei: Annotated[Probability, Field(description="connection constant E->I")] = 0.1
    c_ie: Annotated[Probability, Field(description="connection constant I->E")] = 0.3
    c_ii: Annotated[Probability, Field(description="connection constant I->I")] = 0.05
    connection_length: Annotated[Positive, Field(description="lambda of exp(-(d/lambda)^2), lattice units")] = 3.0
    input_density: Annotated[Probability, Field(description="share of input-liquid pairs that are connected")] = 0.15

    # --- neurons (leaky integrate-and-fire)
    tau_m_ms: Annotated[float, Field(ge=1, description="membrane time constant")] = 64.0
    v_threshold: Annotated[Positive, Field(description="a neuron spikes at v >= this")] = 20.0
    t_ref_ms: Annotated[int, Field(ge=0, le=100, description="steps a neuron is blocked after a spike")] = 2
    tau_syn_ms: Annotated[Positive, Field(description="decay of the synaptic current")] = 1.0

    # --- weights and their plasticity
    learning: Learning = "astro_stdp"
    w_start: Annotated[float, Field(ge=0, description="magnitude of every weight before INIT")] = 3.0
    w_max: Annotated[float, Field(gt=0, description="largest magnitude of a weight")] = 3.0
    eta: Annotated[float, Field(ge=0, description="learning rate A+ of positive changes")] = 0.15
    tau_trace_ms: Annotated[float, Field(ge=1, le=1000, description="time constant of the spike traces")] = 10.0
    trace_increment: Annotated[Positive, Field(description="what one spike adds to a trace")] = 0.1

    # --- astrocyte (learning = astro_stdp)
    w_astro: Annotated[float, Field(ge=0, description="gain from (liquid - input) spikes per ms to depression")] = 0.015
    astro_bias: Annotated[float, Field(description="resting level b of the astrocyte; it starts at eta")] = 0.15
    tau_astro_ms: Annotated[float, Field(ge=1)] = 100.0
    astro_density: Annotated[Probability, Field(description="share of neurons that the astrocyte senses")] = 1.0
    astro_floor: Annotated[bool, Field(description="keep the astrocyte at or above 0 (the original does not)")] = False

    # --- calcium windows (learning = ap_stdp)
    calcium_threshold: Annotated[float, Field(ge=0)] = 37.0
    calcium_width: Annotated[float, Field(ge=0)] = 22.0
    tau_calcium_ms: Annotated[float, Field(ge=1)] = 1000.0

    # --- protocol
    init_snippets: Annotated[
        int, Field(ge=0, description="snippets of INIT; the repeated permutations if data are fewer")
    ] = 50_000
    init_ms: Annotated[int, Field(ge=1, le=10_000, description="length of a snippet")] = 20
    init_carries_traces: Annotated[
        bool, Field(description="keep spike traces from snippet to snippet, as the original")
    ] = True
    run_ms: Annotated[int, Field(ge=1, le=60_000, description="length of a sample in RUN")] = 250
    run_plastic: Annotated[bool, Field(description="adapt a private copy of the weights during each sample")] = True
    run_decay: Annotated[float, Field(gt=0, le=1, description="factor per ms on all learning rates in RUN")] = 0.99
    run_carries_traces: Annotated[
        bool, Field(description="defect B2: traces pass from sample to sample of a batch slot")
    ] = False
    run_batch: Annotated[
        int, Field(ge=1, le=100_000, description="batch slots; matters with run_carries_traces only")
    ] = 250

    @model_validator(mode="after")
    def _sites_hold_all_neurons(self) -> LiquidParameters:
        if self.lattice is not None and int(np.prod(self.lattice)) != self.n_neurons:
            sites = int(np.prod(self.lattice))
            raise ValueError(f"lattice {list(self.lattice)} has {sites} sites for n_neurons={self.n_neurons}")
        if self.w_start > self.w_max and self.learning != "none":
            raise ValueError(f"w_start={self.w_start:g} is above w_max={self.w_max:g}")
        return self

    @property
    def n_excitatory(self) -> int:
        """Number of excitatory liquid neurons; they come first in every array."""
        return round(self.excitatory_fraction * self.n_neurons)

    @property
    def trace_decay(self) -> float:
        """Factor per ms of the spike traces: the point of the original's grid whose tau-th power is nearest to 1/e.

        The grid gives 0.9047744744744745 at 10 ms where exp(-1/10) would give 0.904837.
        """
        grid = np.linspace(0.01, 0.9999, 1000)
        return float(grid[np.argmin(np.abs(grid**self.tau_trace_ms - np.exp(-1)))])

    @property
    def lattice_shape(self) -> tuple[int, int, int]:
        """Lattice sites along x, y and z: the given ones, else the factorisation of n nearest to a cube."""
        return self.lattice or most_cubic(self.n_neurons)

    @property
    def learns_in_init(self) -> bool:
        """Whether there is an INIT phase at all (the static liquid has none)."""
        return self.learning != "none" and self.init_snippets > 0

    @property
    def learns_in_run(self) -> bool:
        """Whether weights change while a sample is read (AP-STDP is static there by definition)."""
        return self.run_plastic and self.learning in ("stdp", "astro_stdp")

    @property
    def senses_in_run(self) -> bool:
        """Whether there is an astrocyte, and it acts while a sample is read."""
        return self.learns_in_run and self.learning == "astro_stdp"


def most_cubic(n: int) -> tuple[int, int, int]:
    """The three factors of `n` with the smallest sum, ascending: 1000 -> (10, 10, 10), 150 -> (5, 5, 6)."""
    best = (1, 1, n)
    for a in range(1, round(n ** (1 / 3)) + 1):
        if n % a:
            continue
        for b in range(a, int((n // a) ** 0.5) + 1):
            if (n // a) % b == 0 and a + b + n // a // b < sum(best):
                best = (a, b, n // a // b)
    return best
