"""Searches between senses: hand-made examples, chance, invariance, errors."""

from __future__ import annotations

import numpy as np
import pytest

from lsm.retrieval import Sense, chance, harmonic_mean, nearest, search, search_both, top1


def _sense(name: str, vectors: list[list[float]], labels: list[int]) -> Sense:
    return Sense(name, np.array(vectors, float), np.array(labels))


def test_the_nearest_come_first_and_equals_in_their_order() -> None:
    gallery = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 0.0], [0.0, 9.0]])
    assert nearest(np.array([[1.0, 0.1]]), gallery, 3).tolist() == [[1, 2, 0]]
    assert nearest(np.array([[1.0, 0.1]]), gallery, 1).tolist() == [[1]]
    assert nearest(np.array([[1.0, 0.1]]), gallery, 99).shape == (1, 4)


def test_cosine_ignores_lengths_and_takes_zero_vectors() -> None:
    gallery = np.array([[9.0, 9.0], [0.1, 0.0], [0.0, 0.0]])
    assert nearest(np.array([[5.0, 0.0]]), gallery, 3, "cosine").tolist() == [[1, 0, 2]]
    assert nearest(np.array([[5.0, 0.0]]), gallery, 1, "dot").tolist() == [[0]]
    assert nearest(np.zeros((1, 2)), gallery, 1, "cosine").tolist() == [[0]]


def test_chance_follows_the_shares_of_the_gallery() -> None:
    gallery = np.array([0, 0, 0, 1])
    assert chance(np.array([0, 1]), gallery) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert chance(np.array([0, 0, 1]), gallery) == pytest.approx((3 / 4 + 3 / 4 + 1 / 4) / 3)
    # two of four items without the single one of class 1: 3 of 6 pairs
    assert chance(np.array([1]), gallery, 2) == pytest.approx(1 / 2)
    assert chance(np.array([0]), gallery, 2) == 1.0
    assert chance(np.array([0, 1]), gallery, 5) == 1.0
    published = np.repeat(np.arange(7), 100), np.repeat(np.arange(2), 100)
    assert [chance(p, p) for p in published] == pytest.approx([1 / 7, 1 / 2])


def test_blind_embeddings_reach_chance_in_first_and_first_five() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 150, 50])
    hits = []
    for _ in range(8):
        q, g = (Sense(name, rng.standard_normal((500, 8)), labels) for name in "ab")
        found = search(q, g)
        hits.append((found.accuracy.value, found.top5))
    assert np.mean(hits, axis=0) == pytest.approx([found.chance, found.top5_chance], abs=0.03)
    assert found.chance == pytest.approx(0.6**2 + 0.3**2 + 0.1**2)


def test_the_generalised_search_on_an_example_by_hand() -> None:
    # classes 0 and 1 are seen, 2 is unseen; on a line, a query finds what is nearest in angle
    images = _sense("image", [[1, 0], [0, 1], [1, 1]], [0, 1, 2])
    sounds = _sense("audio", [[1, 0.1], [0.9, 1], [1.1, 1], [0.1, 1]], [0, 2, 0, 1])
    there, back = search_both(images, sounds, seen=[0, 1], unseen=[2], similarity="cosine")
    assert there.name == "image_to_audio" and back.name == "audio_to_image"
    # image 0 finds sound 0, image 1 sound 3: both right, whatever the gallery; image 2 finds sound 1 at 48.0 degrees or
    # sound 2 at 42.3, both 3 and 2.7 away: sound 2, of class 0, is wrong
    assert there.seen.accuracy.value == 1 and there.all_seen.accuracy.value == 1
    assert there.unseen.accuracy.value == 1 and there.unseen.chance == 1
    assert there.all_unseen.accuracy.value == 0 and there.harmonic == 0
    assert there.all_seen.chance == pytest.approx((2 / 4 + 1 / 4) / 2) and there.all_unseen.chance == pytest.approx(
        1 / 4
    )
    # back: sound 2 (class 0) finds image 0 among the seen, and image 2 among all
    assert back.seen.accuracy.value == 1
    assert back.all_seen.accuracy.value == pytest.approx(2 / 3) and back.all_unseen.accuracy.value == 1
    assert back.harmonic == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert back.harmonic_chance == pytest.approx(1 / 3)
    assert back.seen.accuracy.n == 3
    assert back.all_seen.accuracy.standard_error == pytest.approx((2 / 3 * 1 / 3 / 3) ** 0.5)


def test_the_harmonic_mean_of_nothing_is_zero() -> None:
    assert harmonic_mean(0, 0) == 0 and harmonic_mean(0.5, 0) == 0
    assert harmonic_mean(0.6, 0.3) == pytest.approx(0.4)


def test_the_order_of_queries_and_gallery_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 60)
    q, g = (Sense(name, rng.standard_normal((60, 5)) + labels[:, None], labels) for name in "ab")
    order, other = rng.permutation(60), rng.permutation(60)
    mixed = Sense("a", q.vectors[order], labels[order]), Sense("b", g.vectors[other], labels[other])
    for first, second in ((q, g), (g, q)):
        a, b = (mixed[0], mixed[1]) if first is q else (mixed[1], mixed[0])
        assert search(first, second) == search(a, b)
        assert top1(first, second) == search(first, second).accuracy.value


@pytest.mark.parametrize(
    ("queries", "gallery", "said"),
    [
        (np.full((2, 3), np.nan), np.ones((2, 3)), "queries contain values that are not finite"),
        (np.ones((2, 3)), np.ones((0, 3)), r"gallery of shape \(0, 3\)"),
        (np.ones((2, 3)), np.ones((2, 4)), "queries have 3 dimensions, the gallery has 4"),
    ],
)
def test_what_cannot_be_searched_is_refused(queries: np.ndarray, gallery: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        nearest(queries, gallery, 1)


def test_a_class_without_a_sample_is_refused() -> None:
    images, sounds = _sense("image", [[1], [2]], [0, 1]), _sense("audio", [[1]], [0])
    with pytest.raises(ValueError, match="audio: class 1 has no sample"):
        search_both(images, sounds, seen=[0], unseen=[1])
