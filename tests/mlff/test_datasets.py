"""Label sets: the embedded carbonates, what is held out, and files that are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from mlff.authors_format import write_train_data
from mlff.datasets import FrameFiles, LabelSet, hold_out, hold_out_for_good
from mlff.labelled import LabelKeys, LabelledFrame
from mlff.streams import generator
from mlff.training.batches import dipole_left_by_charges
from mlff.training.references import reference_energies
from runners.check import build
from runners.options import CONF
from tests.mlff.samples import crowd

KEYS = LabelKeys(charges="charges", dipole="dipole", fragments="molID", composition="Comp")


def carbonates(seed: int = 0, **more: object) -> LabelSet:
    options = {"name": "carbonates", "train": "package:carbonates_train.xyz", "dispersion": "included", "keys": KEYS}
    return FrameFiles(**(options | more)).load(Path("nowhere"), seed)


@pytest.fixture(scope="module")
def embedded() -> LabelSet:
    return carbonates()


def test_the_embedded_frames_are_those_of_the_source(embedded: LabelSet) -> None:
    digest = "sha256:e88aef5e8f1d905bb8eaed169aea2ec489057b534ef4eb74ea4622e899db50b4"
    assert embedded.checksums == {"carbonates_train.xyz": digest}
    assert len(embedded.train) + len(embedded.valid) == 200 and sorted(embedded.isolated) == [1, 6, 8]
    assert embedded.labels == ("energy", "forces", "charges", "dipole")


def test_files_that_are_called_alike_have_checksums_of_their_own(tmp_path: Path) -> None:
    text = (CONF.parent / "mlff" / "data" / "carbonates_train.xyz").read_text()
    files = [tmp_path / folder / "labels" / "frames.xyz" for folder in ("round0", "round1")] + [tmp_path / "more.xyz"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    train = [str(file) for file in files]
    before = carbonates(train=train).checksums
    assert list(before) == ["round0/labels/frames.xyz", "round1/labels/frames.xyz", "more.xyz"]
    files[0].write_text(text.replace("0.1", "0.2", 1))
    after = carbonates(train=train).checksums
    assert [name for name in before if before[name] != after[name]] == ["round0/labels/frames.xyz"]


def test_compositions_of_the_validation_part_are_in_no_training_frame(embedded: LabelSet) -> None:
    held = {f.composition for f in embedded.valid}
    assert 20 <= len(embedded.valid) <= 40 and len(held) > 3
    assert not held & {f.composition for f in embedded.train}


def test_charges_of_every_molecule_add_up_to_zero_in_the_labels(embedded: LabelSet) -> None:
    for frame in embedded.train[:20]:
        sums = np.bincount(frame.configuration.fragments, weights=frame.charges)
        assert np.abs(sums).max() < 0.05 and not frame.configuration.fragment_charges.any()


def test_the_dipole_that_charges_cannot_give_is_measured(embedded: LabelSet) -> None:
    everything = [*embedded.train, *embedded.valid]
    assert dipole_left_by_charges(everything) == pytest.approx(0.46, abs=0.005)
    assert dipole_left_by_charges([LabelledFrame(crowd(3), energy=0.0)]) is None


def test_the_same_seed_gives_the_same_parts_and_subsets(embedded: LabelSet) -> None:
    again, other, fewer = carbonates(), carbonates(1), carbonates(n_train=30)
    assert [f.name for f in again.valid] == [f.name for f in embedded.valid] != [f.name for f in other.valid]
    assert len(fewer.train) == 30 and [f.name for f in fewer.valid] == [f.name for f in embedded.valid]
    assert {f.name for f in fewer.train} <= {f.name for f in embedded.train}
    with pytest.raises(ValueError, match=r"n_train=500: only 1.. frames are for training"):
        carbonates(n_train=500)


def test_the_test_part_does_not_depend_on_the_seed() -> None:
    parts = [carbonates(seed, test_fraction=0.2, split="random").test for seed in (0, 1)]
    assert len(parts[0]) == 40 and [f.name for f in parts[0]] == [f.name for f in parts[1]]


def test_what_a_growing_set_is_tested_with_was_in_no_training_part_before() -> None:
    whole = carbonates(valid_fraction=0.0).train
    before: set[str] = set()
    for n in (70, 140, 200):
        kept, test = hold_out_for_good(whole[:n], 0.2, "test part 0")
        train, valid = hold_out_for_good(kept, 0.2, "split 3")
        held = {f.name for f in (*test, *valid)}
        assert 0.05 * n < len(test) < 0.35 * n and valid and not held & before
        assert not {f.composition for f in test} & {f.composition for f in kept}
        before |= {f.name for f in train}
    other = hold_out_for_good(whole, 0.2, "split 4")[1]
    assert {f.name for f in other} != {f.name for f in hold_out_for_good(whole, 0.2, "split 3")[1]}


def test_a_growing_set_keeps_rare_elements_and_always_holds_something_out() -> None:
    lone = [LabelledFrame(crowd(1, seed=k), composition=str(k)) for k in range(30)]
    for key in range(10):
        kept, _ = hold_out_for_good(lone, 0.5, str(key))
        assert {f.configuration.numbers[0] for f in kept} == {f.configuration.numbers[0] for f in lone}
    same = [LabelledFrame(crowd(3, seed=k), composition="one", name=str(k)) for k in range(60)]
    kept, held = hold_out_for_good(same, 0.2, "")
    assert 4 <= len(held) <= 22 and len(kept) + len(held) == 60
    pair = [LabelledFrame(crowd(9, seed=k), composition=str(k), name=str(k)) for k in range(2)]
    assert len(hold_out_for_good(pair, 1e-9, "")[1]) == 1


def test_the_split_may_have_a_seed_of_its_own(embedded: LabelSet) -> None:
    parts = [carbonates(seed, split_seed=1) for seed in (0, 2)]
    names = [[f.name for f in part.valid] for part in parts]
    assert names[0] == names[1] == [f.name for f in carbonates(1).valid] != [f.name for f in embedded.valid]
    assert [part.split_seed for part in (*parts, embedded)] == [1, 1, 0]


def test_a_single_composition_is_split_by_frames_and_rare_elements_stay() -> None:
    same = [LabelledFrame(crowd(3, seed=k), composition="one", name=str(k)) for k in range(20)]
    kept, held = hold_out(same, 0.2, "composition", generator(0, "split"))
    assert (len(kept), len(held)) == (16, 4)
    lone = [LabelledFrame(crowd(1, seed=k), composition=str(k)) for k in range(30)]
    for seed in range(10):
        kept, _ = hold_out(lone, 0.5, "composition", generator(seed, "split"))
        assert {f.configuration.numbers[0] for f in kept} == {f.configuration.numbers[0] for f in lone}


def test_fitted_energies_of_the_packaged_electrolyte_do_not_depend_on_its_isolated_atoms() -> None:
    section = yaml.safe_load((CONF / "data" / "electrolyte.yaml").read_text())
    labels = build(section, "data").load(Path("nowhere"), 0)
    assert sorted(labels.isolated) == [1, 3, 6, 8, 9, 15]
    energies = np.array([f.energy for f in labels.train])
    known, unknown = (reference_energies(labels.train, energies, i, "fitted") for i in (labels.isolated, {}))
    np.testing.assert_allclose(known, unknown, atol=1e-6)
    taken = reference_energies(labels.train, energies, labels.isolated, "isolated")
    counts = np.array([np.bincount(f.configuration.numbers, minlength=87) for f in labels.train])
    bound = (energies - counts @ taken) / counts.sum(axis=1)
    assert -150 < np.median(bound) < -80  # kcal/mol of atom, what it takes to break up a molecule


def test_the_loops_labels_are_those_of_its_liquids_and_balanced() -> None:
    section = yaml.safe_load((CONF / "data" / "electrolyte_loop.yaml").read_text()) | {"n_train": 300}
    labels = build(section, "data").load(Path("nowhere"), 0)
    assert labels.labels == ("energy", "forces", "virial", "charges", "dipole") and labels.dispersion == "included"
    names = {part.partition("(")[0] for f in labels.train for part in f.composition.split(":")}
    assert names == {"DMC", "EC", "EMC", "Li", "PF6"}
    for f in labels.train:
        c = f.configuration
        assert np.abs(f.forces.sum(axis=0)).max() < 0.01 and f.charges.sum() == pytest.approx(c.total_charge, abs=1e-3)
        # the virial that is stated is that of the forces: rounding has moved neither
        arms = c.positions - c.positions.mean(axis=0)
        own = np.einsum("ia,ib->ab", arms, f.forces)
        np.testing.assert_allclose((own + own.T) / 2, f.virial, atol=0.05)


def test_energies_of_the_published_format_are_relative_to_isolated_atoms(tmp_path: Path) -> None:
    frames = [LabelledFrame(crowd(6, seed=k), energy=-50.0, forces=np.zeros((6, 3))) for k in range(3)]
    write_train_data(frames, tmp_path / "train_data.pt")
    found = FrameFiles(name="mine", train=str(tmp_path / "train_data.pt"), dispersion="none").load(tmp_path, 0)
    elements = {int(z) for f in frames for z in f.configuration.numbers}
    assert found.isolated == dict.fromkeys(elements, 0.0)


def test_missing_files_are_named_with_where_was_looked(tmp_path: Path) -> None:
    missing = FrameFiles(name="mine", train="mine.xyz", dispersion="none")
    with pytest.raises(FileNotFoundError, match=r"mine.xyz: no such file \(looked for .*data/mine.xyz and"):
        missing.load(tmp_path / "data", 0)
    with pytest.raises(
        FileNotFoundError, match=r"package:m.xyz: no such file comes .*there are carbonates_train.xyz, "
    ):
        carbonates(train="package:m.xyz")
    left = carbonates(test="test.xyz", n_train=5)
    assert left.test == [] and "test.xyz: no such file" in left.warning


def test_a_file_with_an_address_is_fetched_into_the_data_folder(tmp_path: Path) -> None:
    asked = []

    def fetch(name: str, sha256: str, url: str, folder: Path) -> Path:
        asked.append((name, sha256, url, folder))
        raise OSError("offline")

    downloads = {"sub/test.xyz": {"url": "https://example.org/t", "sha256": "abc", "name": "own.xyz"}}
    options = {"name": "c", "train": "package:carbonates_train.xyz", "dispersion": "included", "keys": KEYS}
    made = FrameFiles(**options, test="sub/test.xyz", downloads=downloads).load(tmp_path, 0, fetch)
    assert asked == [("own.xyz", "abc", "https://example.org/t", tmp_path / "sub")] and "offline" in made.warning
