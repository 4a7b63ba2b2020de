"""From a label set and options to a model that can be trained: which terms it has, what it starts from, what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.datasets import LabelSet
from mlff.labelled import LabelledFrame
from mlff.model import ForceField, ForceFieldParameters
from mlff.scores import compare
from mlff.streams import generator
from mlff.training.batches import Each, ReadyFrame, labels_in_use, ready_frames, virial_of_forces
from mlff.training.devices import find_device
from mlff.training.losses import TERMS
from mlff.training.options import Training
from mlff.training.passes import fold
from mlff.training.references import composition_counts, elements_of, fit_elements, reference_energies


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class ModelOptions(ForceFieldParameters):
    """A force field to be trained: its terms, with charges only where the labels know of any unless told otherwise."""

    charges: Annotated[bool | None, Field(description="null = where charges or dipoles are labelled")] = None  # type: ignore[assignment]

    kinds: ClassVar[tuple[str, ...]] = ("frames",)

    def parameters(self, charges_labelled: bool) -> ForceFieldParameters:
        """The same with the charge head decided."""
        values = {f.name: getattr(self, f.name) for f in fields(ForceFieldParameters)}
        return ForceFieldParameters(
            **(values | {"charges": charges_labelled if self.charges is None else self.charges})
        )


@plain_dataclass(frozen=True)
class Start:
    """A model before its first step, and the frames in the form that training takes."""

    model: ForceField
    weights: dict[str, float]
    scale: float
    train: list[ReadyFrame]
    valid: list[ReadyFrame]


def start(
    options: ModelOptions,
    training: Training,
    labels: LabelSet,
    seed: int,
    model: ForceField | None = None,
    each: Each = map,
) -> Start:
    """Decide, initialise by `seed` (or go on from `model`) and prepare the frames.

    Raises `ValueError` for weights without labels, isolated atoms that are missing, frames that cannot be used and a
    device that is not there.
    """
    find_device(training.device)
    parameters = model.parameters_of if model else options.parameters(bool({"charges", "dipole"} & set(labels.labels)))
    labels = with_virials(labels, training)
    weights = resolved_weights(training, labels, parameters)
    used = labels_in_use(weights)
    fresh = model is None
    model = initialised(parameters, seed) if model is None else model.changed()
    if training.precision == "float64":
        model = model.double()
    if fresh:
        model.trained[:] = False
    model.trained[elements_of(labels.train)] = True
    for part, frames in (("validation", labels.valid), ("test", labels.test)):
        unknown = [z for z in elements_of(frames) if not bool(model.trained[z])]
        if unknown:
            raise ValueError(f"{labels.name}: atomic number {unknown[0]} occurs in {part} frames, in no training frame")
    if "energy" in used and fresh:
        model.reference_energy[:] = torch.from_numpy(_reference(model, labels, training, each))
    elif "energy" in used:
        _refit(model, labels)
    ready = list(
        ready_frames(
            [*labels.train, *labels.valid],
            model,
            model.reference_energy.numpy(),
            labels=used,
            dispersion_in_labels=labels.dispersion == "included",
            each=each,
        )
    )
    train, valid = ready[: len(labels.train)], ready[len(labels.train) :]
    # an offset of the electronegativity is not the network's to scale
    able = "forces" in used and (model.charge is None or not bool(model.charge.chi_offset.any()))
    scale = energy_scale(train) if training.scaled and able else 1.0
    if not fresh:
        fold(model, 1.0 / scale)
    return Start(model, weights, scale, train, valid)


def finished(start: Start, training: Training, labels: LabelSet) -> ForceField:
    """The trained model by itself: energies in kcal/mol, and with `refit` energies of elements that fit what is left."""
    # a copy whose tensors are their own: those of a model in training are parts of one vector
    model = start.model.changed().eval().cpu()
    fold(model, start.scale)
    if training.refit and start.weights["energy"]:
        _refit(model, labels)
    return model


def _refit(model: ForceField, labels: LabelSet) -> None:
    """Energies of elements that take out of the model's errors on training frames what such energies can."""
    compared = compare(model, labels.train, labels.dispersion)
    elements = elements_of(labels.train)
    counts = composition_counts(labels.train, elements)
    left = (compared.label["energy"] - compared.predicted["energy"]) * counts.sum(axis=1)
    model.reference_energy[elements] += torch.from_numpy(fit_elements(counts, left))


def initialised(parameters: ForceFieldParameters, seed: int) -> ForceField:
    """A model with weights drawn from the seed's own stream; torch's global stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "initial weights").integers(2**62)))
        return ForceField(parameters)


def _reference(model: ForceField, labels: LabelSet, training: Training, each: Each) -> NDArray[np.float64]:
    """Energies of elements from the labels, less the dispersion that they contain."""
    energies = np.array([frame.energy for frame in labels.train], np.float64)
    if labels.dispersion == "included" and model.dispersion is not None:
        bare, nothing = model.changed(charges=False).double(), np.zeros(len(model.reference_energy))
        ready = ready_frames(labels.train, bare, nothing, labels=("energy",), dispersion_in_labels=True, each=each)
        energies = np.array([float(frame.targets["energy"]) for frame in ready])
    return reference_energies(labels.train, energies, labels.isolated, training.references)


def energy_scale(frames: Sequence[ReadyFrame]) -> float:
    """RMS of the force labels, kcal/mol/Å: a network whose energies are multiplied by it starts at the right size."""
    squares = sum(float(f.targets["forces"].double().square().sum()) for f in frames)
    return float(np.sqrt(squares / (3 * sum(map(len, frames))))) or 1.0


def with_virials(labels: LabelSet, training: Training) -> LabelSet:
    """Virials of open clusters made from their forces, where a weight asks for them and the set has none."""
    wanted = {**training.where_labelled.given(), **training.weights.given()}.get("virial", 0.0) > 0
    frames = [*labels.train, *labels.valid]
    closed = any(f.configuration.pbc.any() for f in frames)
    if not wanted or closed or "virial" in labels.labels or "forces" not in labels.labels:
        return labels

    def filled(part: list[LabelledFrame]) -> list[LabelledFrame]:
        return [replace(f, virial=virial_of_forces(f)) for f in part]

    return replace(labels, train=filled(labels.train), valid=filled(labels.valid), labels=(*labels.labels, "virial"))


def resolved_weights(training: Training, labels: LabelSet, parameters: ForceFieldParameters) -> dict[str, float]:
    """Weight of every term: the preset's for labels that the set has, and those that were asked for.

    Raises `ValueError` for a weight above zero on a label that is missing or zero everywhere; lists the keys present.
    """
    asked, preset = training.weights.given(), training.where_labelled.given()
    weights = {}
    keys = ", ".join(labels.train[0].keys) or ", ".join(labels.train[0].labels)
    charged = ("charges", "dipole", "response")
    for name in TERMS:
        labelled = name == "response" or label_of(name) in labels.labels
        able = parameters.charges or name not in charged
        moving = name != "response" or parameters.forces == "fixed_charges"
        apart = name != "net_forces" or has_molecules(labels, parameters)
        weight = asked.get(name, preset.get(name, 0.0) if labelled and able and moving and apart else 0.0)
        said = f"training.weights.{name}={weight:g}"
        if weight > 0 and not labelled:
            raise ValueError(f"{said}: {labels.name} has no label {label_of(name)} (keys present: {keys})")
        if weight > 0 and not able:
            raise ValueError(f"{said}: the model has no charges (model.charges=false)")
        if weight > 0 and not moving:
            raise ValueError(f"{said}: only forces at fixed charges leave a response out (model.forces=fixed_charges)")
        if weight > 0 and not apart:
            raise ValueError(f"{said}: {why_no_molecules(labels, parameters)}")
        if weight > 0 and name != "response" and not any(np.any(getattr(f, label_of(name))) for f in labels.train):
            raise ValueError(f"{said}: {name} is zero in every frame (keys present: {keys})")
        weights[name] = weight
    if not weights["energy"] and not weights["forces"]:
        raise ValueError(
            f"training.weights: neither energies nor forces have a weight; {labels.name} has {', '.join(labels.labels)}"
        )
    mixed = {bool(f.configuration.pbc.any()) for f in labels.train}
    if weights["virial"] and len(mixed) > 1:
        raise ValueError(
            "training.weights.virial: open and periodic frames in one set have no common virial; set it to 0"
        )
    return weights


def label_of(term: str) -> str:
    """The label that a term of the loss is made from."""
    return "forces" if term == "net_forces" else term


def has_molecules(labels: LabelSet, parameters: ForceFieldParameters) -> bool:
    """Whether a frame is made of several molecules as far as the model is told."""
    counts = [c for f in labels.train if (c := f.configuration.fragment_charges) is not None]
    return parameters.charge_groups == "fragment" and any(len(c) > 1 for c in counts)


def why_no_molecules(labels: LabelSet, parameters: ForceFieldParameters) -> str:
    """What to say where `has_molecules` is false."""
    if parameters.charge_groups == "system":
        return "model.charge_groups=system does not tell molecules apart; take fragment"
    return f"no frame of {labels.name} names several molecules (data.keys.fragments)"


def check_dispersion(stated: Mapping[str, str]) -> None:
    """Raise `ValueError` unless all that is brought together says the same of dispersion; `stated` by name.

    Who leaves it to the frames (`stated`) says nothing yet.
    """
    known = {name: value for name, value in stated.items() if value != "stated"}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name}: {value}" for name, value in known.items())
        raise ValueError(
            f"labels with and without dispersion cannot be mixed ({told}): the model's own term would be counted twice "
            "or not at all"
        )
