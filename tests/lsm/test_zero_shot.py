"""What epochs are chosen by, and which samples ask: the honest choice and the published one."""

from __future__ import annotations

import numpy as np
import pytest

from lsm.datasets.pairs import PairedDataset, pair_by_class
from lsm.encode import Dataset, Events, Split
from lsm.sources import Cached, Source
from lsm.zero_shot import VALID, Trial

CLASSES = ("zero", "one", "two", "three")


def _split(labels: list[int]) -> Split:
    events = Events.from_lists([np.array([0])] * len(labels), [np.array([0])] * len(labels), 1, 1)
    return Split(events, np.array(labels, np.int64))


def _trial() -> Trial:
    """Classes 0 and 1 are seen, 2 is not; a sense of each with six training, two validation and five test samples."""
    senses = [
        Dataset(name, CLASSES, _split([0, 0, 0, 1, 1, 1]), _split([0, 1]), _split([0, 0, 1, 2, 2]), {}, "made up")
        for name in ("a", "b")
    ]
    pairs = [pair_by_class(getattr(senses[0], p).labels, getattr(senses[1], p).labels) for p in ("train", "valid")]
    pair = PairedDataset("toy", ("image", "audio"), senses[0], senses[1], (0, 1), (2,), CLASSES, pairs[0], pairs[1])
    return Trial(pair, "dot")


def _sources(trial: Trial) -> dict[str, tuple[Source, Source]]:
    """One feature: the number of a sample in its part; two replicas."""
    parts = {part: len(trial.labels(part)[0]) for part in ("train", "valid", "test")}
    numbers = {part: [np.arange(n, dtype=np.uint16)[:, None]] * 2 for part, n in parts.items()}
    return {part: (Cached(counts, 1.0), Cached(counts, 1.0)) for part, counts in numbers.items()}


def _embed(given: dict[tuple[str, int], list[list[int]]]) -> object:
    """Embeddings by sense and size of the part: one-hot vectors of the given numbers, by replica."""

    def embed(sense: str, source: Cached) -> np.ndarray:
        return np.eye(8)[np.array(given[sense, source.n_samples])]

    return embed


def test_the_honest_choice_sees_validation_samples_alone() -> None:
    trial = _trial()
    # replica 0: both find their partners; replica 1: both images find sound 0, both sounds find image 0
    given = {("first", 2): [[0, 1], [0, 0]], ("second", 2): [[0, 1], [0, 1]]}
    scores = trial.by_validation(_sources(trial))(_embed(given))
    assert list(scores) == [VALID]
    # images: first of replica 1 right, second wrong; sounds: sound 1 is at right angles to all, finds image 0, is wrong
    assert scores[VALID] == pytest.approx([1.0, 0.5])


def test_the_published_choice_prefers_epochs_that_reach_both_thresholds() -> None:
    trial = _trial()
    perfect = [0, 0, 1, 2, 2]
    lost = [0, 0, 1, 3, 3]  # unseen images find nothing: the first of equals, which is right by its class
    swapped = [0, 0, 0, 2, 2]
    given = {("first", 5): [perfect, swapped], ("second", 5): [perfect, perfect]}
    scores = trial.as_published(_sources(trial), ((0.9, 0.9), (0.9, 0.9)))(_embed(given))
    assert list(scores) == ["published/image_to_audio", "published/audio_to_image"]
    assert scores["published/image_to_audio"] == pytest.approx([2.0, 2 / 3])
    assert scores["published/audio_to_image"] == pytest.approx([2.0, 2 / 3])
    low = trial.as_published(_sources(trial), ((0.6, 0.9), (0.7, 0.9)))(_embed(given))
    assert low["published/image_to_audio"] == pytest.approx([2.0, 1 + 2 / 3])
    assert low["published/audio_to_image"] == pytest.approx([2.0, 2 / 3])
    # one class of unseen samples only: any find is right, so the share is 1 whatever the embedding
    given["first", 5][1] = lost
    assert trial.as_published(_sources(trial), ((0.9, 0.9), (0.9, 0.9)))(_embed(given))[
        "published/image_to_audio"
    ] == pytest.approx([2.0, 2.0])


def test_published_queries_are_seen_test_samples_and_honest_ones_none() -> None:
    trial = _trial()
    queries = trial.published_queries(_sources(trial), [0, 1])
    assert [labels.tolist() for labels in queries.labels] == [[0, 0, 1], [0, 0, 1]]
    assert queries.first.features({}, np.array([[0, 1, 2]] * 2))[0, :, 0].tolist() == [0, 1, 2]
    task = trial.training(_sources(trial), [0, 1])
    assert task.labels[0].tolist() == [0, 0, 0, 1, 1, 1] and task.first.n_samples == 6


def test_features_are_centred_and_scaled_like_the_training_part() -> None:
    rng = np.random.default_rng(0)
    train, test = ([rng.poisson(9, (n, 4)).astype(np.uint16) for _ in range(2)] for n in (50, 20))
    like = Cached(train, 10.0)
    own, other = like.standardised(), Cached(test, 10.0).standardised(like)
    every = np.tile(np.arange(50), (2, 1))
    features = own.features({}, every).double().numpy()
    assert features.mean(axis=1) == pytest.approx(np.zeros((2, 4)), abs=1e-6)
    assert features.std(axis=(1, 2)) == pytest.approx([1, 1])
    rates = np.stack(test) / 10
    deviation = np.array([(t / 10 - (t / 10).mean(axis=0)).std() for t in train])
    wanted = (rates - np.stack(train).mean(axis=1, keepdims=True) / 10) / deviation[:, None, None]
    assert np.allclose(other.features({}, every[:, :20]).numpy(), wanted, atol=1e-5)
    silent = Cached([np.zeros((5, 3), np.uint16)], 1.0).standardised()
    assert not silent.features({}, np.arange(5)[None]).any()


def test_large_features_are_converted_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [np.arange(12, dtype=np.uint16).reshape(4, 3) + k for k in range(2)]
    index = np.array([[3, 0], [1, 1]])
    dense = Cached(counts, 2.0).features({}, index)
    monkeypatch.setattr("lsm.sources.DENSE_SIZE", 0)
    assert np.array_equal(Cached(counts, 2.0).features({}, index), dense)
    assert dense[1, 0].tolist() == [2.0, 2.5, 3.0]


def test_features_of_unequal_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="every replica needs the same"):
        Cached([np.zeros((3, 2), np.uint16), np.zeros((3, 4), np.uint16)], 1.0)
