"""Statistics against values worked out by hand."""

import numpy as np
import pytest

from lsm import statistics


def test_standard_error_is_that_of_a_binomial_share():
    labels = np.zeros(100, int)
    predicted = np.r_[np.zeros(90, int), np.ones(10, int)]
    result = statistics.accuracy(labels, predicted)
    assert (result.value, result.n) == (0.9, 100)
    assert result.standard_error == pytest.approx(0.03)


def test_chance_is_the_largest_training_class_not_one_over_n():
    chance = statistics.chance_level(np.array([0, 0, 0, 2]), n_classes=4)
    assert (chance.largest_class, chance.uniform) == (0.75, 0.25)


def test_confusion_matrix_has_true_classes_in_rows():
    matrix = statistics.confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), n_classes=4)
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[0, 1] = expected[1, 1] = expected[2, 1] = 1
    np.testing.assert_array_equal(matrix, expected)


def test_confusion_matrix_refuses_a_class_that_does_not_exist():
    with pytest.raises(ValueError, match=r"predictions span 0\.\.7, allowed 0\.\.3"):
        statistics.confusion_matrix(np.array([0, 1]), np.array([0, 7]), n_classes=4)


def test_mcnemar_counts_disagreements_only_and_is_exact():
    labels = np.zeros(20, int)
    first, second = labels.copy(), labels.copy()
    second[:8] = 1  # only the first is right
    first[8] = 1  # only the second is right
    first[15:] = second[15:] = 1  # both wrong: no information
    result = statistics.mcnemar(labels, first, second)
    assert (result.only_first, result.only_second) == (8, 1)
    assert result.p_value == pytest.approx(2 * (1 + 9) / 2**9)


def test_mcnemar_of_equal_classifiers_is_no_evidence():
    labels = np.arange(5)
    assert statistics.mcnemar(labels, labels, labels).p_value == 1.0


def test_standard_deviation_is_that_of_a_sample():
    spread = statistics.mean_and_deviation([1.0, 2.0, 3.0, 4.0])
    assert spread.mean == 2.5
    assert spread.standard_deviation == pytest.approx((5 / 3) ** 0.5)
    assert np.isnan(statistics.mean_and_deviation([1.0]).standard_deviation)


def test_folds_share_out_every_sample_once_with_equal_sizes_and_classes():
    labels = np.repeat(np.arange(10), [117, 126, 116, 107, 110, 87, 87, 99, 89, 94])
    labels = np.random.default_rng(0).permutation(labels)
    folds = statistics.stratified_folds(labels, 10, seed=4)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(len(labels)))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    per_class = np.array([np.bincount(labels[fold], minlength=10) for fold in folds])
    assert (np.ptp(per_class, axis=0) <= 1).all()


def test_folds_depend_on_the_seed_only():
    labels = np.repeat(np.arange(3), 20)
    once, again, other = (statistics.stratified_folds(labels, 5, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(once, other, strict=True))


def test_more_folds_than_samples_of_a_class_are_refused():
    with pytest.raises(ValueError, match=r"n_folds=5: allowed 2\.\.4"):
        statistics.stratified_folds(np.array([0] * 10 + [1] * 4), 5, seed=0)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        statistics.accuracy(np.zeros(3, int), np.zeros(4, int))
