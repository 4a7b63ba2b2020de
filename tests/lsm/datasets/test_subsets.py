import numpy as np
import pytest
from pydantic import ValidationError

from lsm.datasets.subsets import SubsetOptions, balanced_subset, stratified_split, without_validation
from lsm.encode import Dataset, Rates, Split
from lsm.streams import generator

UNEVEN = np.repeat(np.arange(4), [50, 5, 30, 15])


def counts(labels, index):
    return np.bincount(labels[index], minlength=4).tolist()


def test_a_subset_has_equal_class_counts():
    index = balanced_subset(UNEVEN, 20, generator(0, "x"))
    assert counts(UNEVEN, index) == [5, 5, 5, 5]
    assert (np.diff(index) > 0).all()


def test_a_small_class_gives_all_it_has_and_the_others_share_the_rest():
    assert counts(UNEVEN, balanced_subset(UNEVEN, 50, generator(0, "x"))) == [15, 5, 15, 15]
    assert counts(UNEVEN, balanced_subset(UNEVEN, 100, generator(0, "x"))) == [50, 5, 30, 15]


@pytest.mark.parametrize("n", [1, 3, 7, 22, 99])
def test_a_subset_has_exactly_the_size_asked_for(n):
    index = balanced_subset(UNEVEN, n, generator(3, "x"))
    assert len(np.unique(index)) == n


def test_the_seed_decides_the_subset_and_zero_is_a_seed():
    options = SubsetOptions(n_train=20)
    chosen = [options.choose("train", UNEVEN, seed).tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_parts_and_purposes_draw_from_separate_streams():
    draws = {generator(0, name).integers(1 << 60) for name in ("subset/train", "subset/valid", "subset/test", "split")}
    assert len(draws) == 4


def test_all_samples_are_taken_in_order_when_no_size_is_given():
    np.testing.assert_array_equal(SubsetOptions().choose("test", UNEVEN, 0), np.arange(100))


def test_a_subset_larger_than_the_part_is_refused():
    with pytest.raises(ValueError, match=r"data\.n_valid=101: only 100"):
        SubsetOptions(n_valid=101).choose("valid", UNEVEN, 0)


@pytest.mark.parametrize("bad", [{"n_train": 0}, {"n_test": 2.5}, {"n_valid": "10"}, {"n_trian": 5}])
def test_bad_sizes_are_refused(bad):
    with pytest.raises(ValidationError):
        SubsetOptions(**bad)


def test_a_split_is_complete_disjoint_and_stratified():
    train, valid, test = stratified_split(UNEVEN, 10, 20, generator(0, "split"))
    assert np.sort(np.concatenate([train, valid, test])).tolist() == list(range(100))
    assert counts(UNEVEN, test) == [10, 1, 6, 3]
    assert len(valid) == 10
    assert min(counts(UNEVEN, valid)) >= 1


def test_without_validation_its_samples_train_in_one_drawn_order():
    def split(first, n, name):
        pixels = np.arange(first, first + n, dtype=np.uint8)[:, None]
        return Split(Rates(pixels, np.ones(n, np.float32)), pixels[:, 0].astype(np.int64), (name,) * n)

    dataset = Dataset("toy", ("a",), split(0, 30, "t"), split(30, 10, "v"), split(40, 5, "x"), {}, "")
    whole = without_validation(dataset, 0)
    assert sorted(whole.train.labels) == list(range(40)) != whole.train.labels.tolist() and not len(whole.valid)
    np.testing.assert_array_equal(whole.train.inputs.pixels[:, 0], whole.train.labels)
    assert all(
        name == ("t" if label < 30 else "v") for name, label in zip(whole.train.names, whole.train.labels, strict=True)
    )
    assert whole.test is dataset.test
    assert (without_validation(dataset, 1).train.labels != whole.train.labels).any()


def test_every_part_of_a_split_holds_a_rare_class():
    labels = np.repeat([0, 1], [97, 3])
    for index in stratified_split(labels, 5, 5, generator(0, "split")):
        assert 1 in labels[index]


@pytest.mark.parametrize(
    ("sizes", "n_valid", "n_test", "message"),
    [
        ([10, 2], 2, 2, "class 1 has 2 samples; a split needs 3"),
        ([10, 10], 1, 2, "validation part of 1 samples cannot hold all 2 classes"),
        ([10, 10], 2, 17, "17 samples is too large for 20"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(sizes, n_valid, n_test, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(np.repeat([0, 1], sizes), n_valid, n_test, generator(0, "split"))
