"""Attempted handwriting from small files in the official layout: 27 trials a letter, counts clamped at 1."""

import numpy as np
import pytest
from raw_files import letter_cubes, write_mat_v73
from scipy.io import savemat

from lsm.datasets.handwriting import FILE, LETTERS, Handwriting

CUBES = letter_cubes()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    where = folder / "handwriting" / "Datasets" / "t5.2019.05.08"
    where.mkdir(parents=True)
    savemat(where / FILE, CUBES | {"goCuePeriod": np.ones((3, 2))}, do_compression=True)
    return folder


def trial_of(split, k):
    """Which trial it is: that electrode has a crossing in bin 0."""
    return int(split.inputs.packed[split.inputs.offsets[k]]) & 0xFFFF


def test_trials_of_each_letter_are_split_in_order(root):
    data = Handwriting().load(root, seed=0)
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [546, 78, 78]
    assert data.class_names == LETTERS and data.n_in == 192
    assert data.encoding == {"kind": "handwriting", "n_channels": 192, "n_steps": 9, "step_ms": 10}
    assert [trial_of(data.test, k) for k in range(3)] == [24, 25, 26] and data.test.names[:2] == ("a[24]", "a[25]")
    assert [trial_of(data.valid, k) for k in range(3)] == [21, 22, 23]
    assert [trial_of(data.train, k) for k in range(21)] == list(range(21))
    for split, n in ((data.train, 21), (data.valid, 3), (data.test, 3)):
        assert np.bincount(split.labels).tolist() == [n] * 26


def test_a_bin_with_crossings_is_one_event(root):
    data = Handwriting().load(root, seed=0)
    k = data.train.names.index("q[5]")
    packed = data.train.inputs.packed[data.train.inputs.offsets[k] : data.train.inputs.offsets[k + 1]]
    assert [(int(c) >> 16, int(c) & 0xFFFF) for c in packed] == list(
        zip(*(a.tolist() for a in np.nonzero(CUBES["neuralActivityCube_q"][5])), strict=True)
    )
    assert CUBES["neuralActivityCube_q"].max() > 1


def test_the_published_protocol_has_no_validation_and_ten_copies(root):
    data = Handwriting(n_valid_trials=0, enlarge_train=10, enlarge_test=10).load(root, seed=0)
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [6240, 0, 780]
    assert [trial_of(data.test, k) for k in range(30)] == [24, 25, 26] * 10
    assert [trial_of(data.train, k) for k in range(240)] == list(range(24)) * 10


def test_folds_go_through_all_trials_and_keep_the_parts_apart(root):
    seen = []
    for fold in range(9):
        data = Handwriting(fold=fold).load(root, seed=0)
        parts = [
            {trial_of(s, k) for k in range(len(s)) if s.labels[k] == 0} for s in (data.train, data.valid, data.test)
        ]
        assert sorted(len(p) for p in parts) == [3, 3, 21] and len(set.union(*parts)) == 27
        seen += sorted(parts[2])
    assert seen == list(range(27))
    with pytest.raises(ValueError, match=r"data\.fold=9: letter 'a' has 27 trials, so folds are 0 to 8"):
        Handwriting(fold=9).load(root, seed=0)


def test_v73_files_are_the_same(root, tmp_path):
    write_mat_v73(tmp_path / FILE, CUBES)
    a, b = Handwriting().load(root, seed=0), Handwriting(path=str(tmp_path)).load(root, seed=0)
    np.testing.assert_array_equal(a.train.inputs.packed, b.train.inputs.packed)
    assert a.checksums != b.checksums


def test_subsets_are_balanced_and_seeded(root):
    data = [Handwriting(n_train=52).load(root, seed=seed) for seed in (0, 0, 1)]
    assert np.bincount(data[0].train.labels).tolist() == [2] * 26
    assert data[0].train.names == data[1].train.names != data[2].train.names


def test_a_missing_set_is_told_with_where_to_get_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"singleLetters\.mat is missing in .*handwriting; get it by hand \(doi 10\.5061"
    ):
        Handwriting().load(tmp_path, seed=0)
    with pytest.raises(FileNotFoundError, match=r"data\.path=.*: singleLetters\.mat is missing there"):
        Handwriting(path=str(tmp_path)).load(tmp_path, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neuralActivityCube_c": np.zeros((27, 9, 96))}, r"neuralActivityCube_c has the shape \(27, 9, 96\)"),
        ({"neuralActivityCube_c": np.full((27, 9, 192), -1.0)}, "neuralActivityCube_c holds values that are no counts"),
        (
            {"neuralActivityCube_c": np.full((27, 9, 192), np.nan)},
            "neuralActivityCube_c holds values that are no counts",
        ),
        ({"neuralActivityCube_c": np.zeros((6, 9, 192))}, "letter 'c' has 6 trials; a split needs 7"),
        ({"neuralActivityCube_c": None}, "no array 'neuralActivityCube_c' in there"),
    ],
)
def test_other_arrays_are_told(tmp_path, change, message):
    arrays = {name: cube for name, cube in (CUBES | change).items() if cube is not None}
    savemat(tmp_path / FILE, arrays)
    with pytest.raises(ValueError, match=message):
        Handwriting(path=str(tmp_path)).load(tmp_path, seed=0)
