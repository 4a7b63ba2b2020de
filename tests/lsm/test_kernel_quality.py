"""Ranks against NumPy's own and against matrices of known rank; the published score from the published ranks."""

from __future__ import annotations

import numpy as np
import pytest

from lsm.kernel_quality import PUBLISHED_RANGES, draw_columns, kernel_scores, published_score, spectrum


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_the_rank_is_numpys(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(2, (shape[0], 12)) @ rng.poisson(2, (12, shape[1]))
    found = spectrum(counts.astype(np.uint16))
    assert found.rank == found.rank_double == np.linalg.matrix_rank(counts) == 12


def test_in_single_precision_strong_firing_alone_lowers_the_rank() -> None:
    """Why the published ranks of a saturated liquid are low: the tolerance grows with the largest singular value."""
    counts = np.random.default_rng(0).poisson(1, (500, 400)).astype(np.float32)
    for extra, lost in ((0, False), (2000, True)):
        found = spectrum(counts + extra)
        assert found.rank == pytest.approx(np.linalg.matrix_rank(counts + np.float32(extra)), abs=3)
        assert found.rank_double == 400 and (found.rank < 300) == lost


def test_dimensions_count_by_their_strength_in_the_effective_rank() -> None:
    assert spectrum(np.eye(8, dtype=np.uint16)).effective_rank == pytest.approx(8)
    almost_one = np.full((50, 30), 40) + np.random.default_rng(0).integers(0, 2, (50, 30))
    found = spectrum(almost_one)
    assert found.rank == 30 and found.effective_rank < 6
    silent = spectrum(np.zeros((5, 3)))
    assert silent.rank == silent.rank_double == silent.effective_rank == 0


def test_columns_are_drawn_evenly_from_all_classes_without_repetition() -> None:
    labels = np.repeat([0, 1, 3], [5, 9, 7])
    first, second = (draw_columns(labels, 5, np.random.default_rng(seed)) for seed in (0, 1))
    assert np.bincount(labels[first]).tolist() == [5, 5, 0, 5] and len(set(first)) == 15
    assert sorted(first) != sorted(second)
    with pytest.raises(ValueError, match="6 samples of each class wanted: class 0 has 5"):
        draw_columns(labels, 6, np.random.default_rng(0))


def test_published_ranks_give_the_published_scores() -> None:
    """Means over both data sets; the published score is the mean over the same twenty networks."""
    ranks = {
        "nalsm": ([994.22, 977.67], [986.44, 977.63]),
        "ap_stdp": ([993.09, 980.52], [992.18, 980.45]),
        "lsm": ([987.99, 982.75], [989.55, 982.69]),
        "stdp": ([588.42, 684.2], [178.4, 677.9]),
    }
    scores = {name: values.mean() for name, values in kernel_scores(ranks, PUBLISHED_RANGES).items()}
    assert scores == pytest.approx({"nalsm": 0.838, "ap_stdp": 0.831, "lsm": 0.824, "stdp": 0.471}, abs=6e-4)


def test_one_network_is_scored_as_in_the_published_table() -> None:
    assert np.mean([published_score(994.22, 986.44), published_score(977.67, 977.63)]) == pytest.approx(0.838, abs=6e-4)


def test_without_ranges_the_best_network_of_the_table_has_one_and_the_worst_zero() -> None:
    scores = kernel_scores({"a": ([10, 8], [1, 2]), "b": ([4, 2], [3, 5])})
    joined = np.concatenate(list(scores.values()))
    assert joined.min() == 0 and joined.max() == 1 and scores["a"][0] == 1 and scores["b"][1] == 0


def test_scores_of_incomplete_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="a: 2 separation ranks and 1 noisy ranks"):
        kernel_scores({"a": ([1, 2], [1])})
    with pytest.raises(ValueError, match="cannot be rescaled"):
        kernel_scores({"a": (5, 3)})
