"""Which terms are trained, from what, and which combinations of weights, labels and terms are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff.datasets import LabelSet
from mlff.get import NetworkParameters
from mlff.training.losses import Weights
from mlff.training.options import Training
from mlff.training.references import composition_counts, elements_of
from mlff.training.trainable import ModelOptions, check_dispersion, finished, start
from mlff.units import KCAL_PER_EV
from tests.mlff.label_sets import label_set, without
from tests.mlff.samples import model

NETWORK = NetworkParameters(width=16, heads=4, n_radial=8, hidden=8)
OPTIONS = ModelOptions(network=NETWORK, charge_groups="system", dispersion="none")
PRESET = Weights(energy=1.0, forces=1.0, virial=1.0, charges=10.0, dipole=10.0, response=300.0)


@pytest.fixture(scope="module")
def labels() -> LabelSet:
    return label_set(model(dispersion="none"), 6)


def bare(labels: LabelSet, *names: str) -> LabelSet:
    """The set without some of its labels."""
    left = tuple(n for n in labels.labels if n not in names)
    train, valid = ([without(f, *names) for f in part] for part in (labels.train, labels.valid))
    return replace(labels, train=train, valid=valid, labels=left)


def training(**more: object) -> Training:
    return Training(**({"where_labelled": PRESET, "epochs": 1} | more))


def test_the_preset_weighs_what_is_labelled(labels: LabelSet) -> None:
    weights = start(OPTIONS, training(), labels, 0).weights
    wanted = {"energy": 1, "forces": 1, "virial": 1, "charges": 10, "dipole": 10, "response": 0, "net_forces": 0}
    assert weights == wanted
    fixed = replace(OPTIONS, forces="fixed_charges")
    assert start(fixed, training(), labels, 0).weights["response"] == 300
    asked = start(OPTIONS, training(weights=Weights(charges=0.0, forces=7.0)), labels, 0).weights
    assert (asked["charges"], asked["forces"], asked["dipole"]) == (0, 7, 10)


def test_without_charge_and_dipole_labels_there_is_no_charge_head(labels: LabelSet) -> None:
    made = start(OPTIONS, training(), bare(labels, "charges", "dipole"), 0)
    assert made.model.charge is None and "charges" not in made.train[0].targets
    assert start(OPTIONS, training(), bare(labels, "charges"), 0).model.charge is not None
    asked = start(replace(OPTIONS, charges=True), training(), bare(labels, "charges", "dipole"), 0)
    assert asked.model.charge is not None and asked.weights["charges"] == 0


def test_open_clusters_get_their_virial_from_their_forces(labels: LabelSet) -> None:
    made = start(OPTIONS, training(), bare(labels, "virial"), 0)
    f = labels.train[0]
    wanted = f.configuration.positions.T @ f.forces
    np.testing.assert_allclose(made.train[0].targets["virial"], 0.5 * (wanted + wanted.T), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "options", "missing", "said"),
    [
        (
            {"charges": 1.0},
            {},
            ["charges"],
            r"training.weights.charges=1: made has no label charges \(keys present: ene",
        ),
        ({"dipole": 1.0}, {"charges": False}, [], "training.weights.dipole=1: the model has no charges"),
        ({"response": 1.0}, {}, [], "training.weights.response=1: only forces at fixed charges leave a response out"),
        (
            {"net_forces": 1.0},
            {},
            [],
            "net_forces=1: model.charge_groups=system does not tell molecules apart; take fragment",
        ),
        (
            {"net_forces": 1.0},
            {"charge_groups": "fragment"},
            [],
            r"net_forces=1: no frame of made names several molecules \(data.keys.fragments\)",
        ),
        ({"net_forces": 1.0}, {}, ["forces"], "net_forces=1: made has no label forces"),
        ({"energy": 0.0, "forces": 0.0}, {}, [], "neither energies nor forces have a weight; made has energy, forces"),
    ],
)
def test_weights_without_a_label_are_refused(
    labels: LabelSet, weights: dict, options: dict, missing: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        start(replace(OPTIONS, **options), training(weights=Weights(**weights)), bare(labels, *missing), 0)


def test_a_label_that_is_zero_everywhere_is_refused(labels: LabelSet) -> None:
    zero = [replace(f, charges=np.zeros(len(f.charges)), keys=("charges", "energy")) for f in labels.train]
    with pytest.raises(ValueError, match=r"charges=10: charges is zero in every frame \(keys present: charges, energy"):
        start(OPTIONS, training(), replace(labels, train=zero), 0)


def test_label_sets_that_differ_in_dispersion_are_not_mixed() -> None:
    check_dispersion({"a": "none", "b": "none"})
    with pytest.raises(ValueError, match=r"cannot be mixed \(checkpoint: none, water: included\)"):
        check_dispersion({"checkpoint": "none", "water": "included"})


def test_only_elements_of_training_frames_are_marked_as_trained(labels: LabelSet) -> None:
    made = start(OPTIONS, training(), labels, 0)
    seen = {int(z) for f in labels.train for z in f.configuration.numbers}
    assert set(torch.nonzero(made.model.trained).flatten().tolist()) == seen
    alien = replace(labels.valid[0].configuration, numbers=np.full(len(labels.valid[0].configuration.numbers), 17))
    strange = [replace(labels.valid[0], configuration=alien)]
    for part, said in (("valid", "validation"), ("test", "test")):
        with pytest.raises(ValueError, match=f"atomic number 17 occurs in {said} frames, in no training frame"):
            start(OPTIONS, training(), replace(labels, **{part: strange}), 0)


def test_reference_energies_are_those_of_the_labels_without_their_dispersion() -> None:
    teacher = model()
    made = label_set(teacher, 8)
    options = replace(OPTIONS, dispersion="element")
    included, apart = (start(options, training(), replace(made, dispersion=d), 0) for d in ("included", "none"))
    f = made.train[0]
    d3 = teacher.predict(teacher.batch(f.configuration), forces=False).terms["dispersion"].item()
    reference = included.model.reference_energy[torch.from_numpy(f.configuration.numbers)].sum()
    assert float(included.train[0].targets["energy"]) == pytest.approx(f.energy - d3 - float(reference), rel=1e-4)
    other = apart.model.reference_energy[torch.from_numpy(f.configuration.numbers)].sum()
    assert float(apart.train[0].targets["energy"]) == pytest.approx(f.energy - float(other), rel=1e-4)


def test_a_fresh_network_starts_with_forces_of_the_size_of_the_labels(labels: LabelSet) -> None:
    loud = [replace(f, forces=1000.0 * f.forces) for f in labels.train]
    made = start(OPTIONS, training(), replace(labels, train=loud), 0)
    rms = np.sqrt(np.mean(np.concatenate([f.forces for f in loud]) ** 2))
    assert made.scale == pytest.approx(rms, rel=1e-4) and rms > 10 * KCAL_PER_EV
    assert start(OPTIONS, training(scaled=False), labels, 0).scale == 1.0


def test_the_seed_alone_decides_the_start(labels: LabelSet) -> None:
    torch.manual_seed(5)
    a, b, other = (start(OPTIONS, training(), labels, seed).model.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["energy.0.weight"], other["energy.0.weight"])
    assert torch.initial_seed() == 5


def test_refit_takes_out_what_energies_of_elements_can(labels: LabelSet) -> None:
    def errors(how: Training) -> np.ndarray:
        field = finished(start(OPTIONS, how, labels, 0), how, labels)
        return np.array(
            [
                (field.predict(field.batch(f.configuration), forces=False).energy.item() - f.energy)
                / len(f.configuration.numbers)
                for f in labels.train
            ]
        )

    plain, refitted = (errors(training(references="none", refit=refit)) for refit in (False, True))
    counts = composition_counts(labels.train, elements_of(labels.train))
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert np.square(refitted).sum() < np.square(plain).sum()
    np.testing.assert_allclose(shares.T @ refitted, 0.0, atol=1e-3)


@pytest.mark.parametrize("scaled", [False, True])
def test_training_goes_on_from_given_weights(labels: LabelSet, scaled: bool) -> None:
    how = training(scaled=scaled)
    first = finished(start(OPTIONS, training(), labels, 0), training(), labels)
    first.reference_energy += 3.0
    again = start(OPTIONS, how, labels, 1, model=first)
    assert (again.scale == 1.0) == (not scaled)
    frame = labels.train[0]
    found, wanted = (m.predict(m.batch(frame.configuration)) for m in (finished(again, how, labels), first))
    torch.testing.assert_close(found.forces, wanted.forces, rtol=1e-4, atol=1e-4)
    # energies of elements are fitted anew: those of another level of theory would be far off
    errors = [
        finished(again, how, labels).predict(first.batch(f.configuration)).energy.item() - f.energy
        for f in labels.train
    ]
    shares = composition_counts(labels.train, elements_of(labels.train))
    shares /= shares.sum(axis=1, keepdims=True)
    by_atom = np.array(errors) / [len(f.configuration.numbers) for f in labels.train]
    np.testing.assert_allclose(shares.T @ by_atom, 0.0, atol=1e-3)
