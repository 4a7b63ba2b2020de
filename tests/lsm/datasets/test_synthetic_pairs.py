"""The made-up pair: unseen classes can be reached through shared factors, and cannot without them."""

import numpy as np
import pytest
from pydantic import ValidationError

from lsm.datasets.synthetic_pairs import SyntheticPairs


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return SyntheticPairs(n_train=20, n_valid=4, n_test=10).load(tmp_path_factory.mktemp("no data"), seed=0)


def counts(split):
    e = split.inputs
    return np.array(
        [
            np.bincount(e.packed[a:b] & 0xFFFF, minlength=e.n_in)
            for a, b in zip(e.offsets[:-1], e.offsets[1:], strict=True)
        ],
        float,
    )


def retrieved(pair, classes):
    """Share of sounds that find an image of their class: ridge regression from channel to pixel counts, cosine."""
    x = counts(pair.second.train)[pair.train_pairs[:, 1]]
    y = counts(pair.first.train)[pair.train_pairs[:, 0]]
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    weights = np.linalg.solve((x - mean_x).T @ (x - mean_x) + 100 * np.eye(64), (x - mean_x).T @ (y - mean_y))
    queries, gallery = (pair.test_index(d, classes) for d in (pair.second, pair.first))
    images = counts(pair.first.test)[gallery] - mean_y
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    found = ((counts(pair.second.test)[queries] - mean_x) @ weights @ images.T).argmax(axis=1)
    return (pair.first.test.labels[gallery[found]] == pair.second.test.labels[queries]).mean()


def test_sizes_classes_and_forms(pair):
    assert pair.modalities == ("image", "audio") and pair.protocol == "honest"
    assert pair.unseen == (0, 5, 10, 15) and len(pair.seen) == 12 and pair.class_names[6] == "Bc"
    assert len(pair.train_pairs) == 240 and len(pair.valid_pairs) == 48
    for _, sense in pair.senses():
        assert [len(getattr(sense, part)) for part in ("train", "valid", "test")] == [240, 48, 160]
    assert pair.first.n_in == 2312 and pair.second.n_in == 64
    assert pair.first.encoding == {"kind": "events", "height": 34, "width": 34, "polarities": 2, "n_steps": 300}
    assert pair.second.encoding == {"kind": "ntidigits", "n_channels": 64, "n_steps": 900}


def test_rates_are_near_those_of_the_recordings_that_it_stands_for(pair):
    events = pair.first.test.inputs
    steps, channels = (events.packed >> 16).astype(int), (events.packed & 0xFFFF).astype(int)
    y, x = channels % 1156 // 34, channels % 34
    assert y.min() == x.min() == 9 and y.max() == x.max() == 24  # the middle 16 x 16 pixels
    sample = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    filled = len(np.unique((sample * 50 + steps // 6) * 2312 + channels)) / (len(events) * 50 * 512)
    assert filled == pytest.approx(0.09, abs=0.015)  # N-MNIST: 0.088
    per_recording = np.diff(pair.second.test.inputs.offsets)
    assert 400 < per_recording.mean() < 1500  # one real recording of N-TIDIGITS: 898


def test_unseen_classes_can_be_reached_because_their_levels_are_known(pair):
    assert retrieved(pair, pair.seen) > 3 / 12
    assert retrieved(pair, pair.unseen) > 2 / 4


def test_unseen_classes_of_unshared_templates_cannot_be_reached(monkeypatch):
    """Each class on its own: the same generator with a template of its own for every class."""
    from lsm.datasets import synthetic_pairs

    class Own:
        def __init__(self, factors, seed, noise):
            self.maker = self.kind((factors[0] * factors[1], 2), seed, noise)
            self.n_in, self.n_steps, self.encoding = self.maker.n_in, self.maker.n_steps, self.maker.encoding

        def sample(self, levels, rng):
            return self.maker.sample((4 * levels[0] + levels[1], 0), rng)

    for name in ("_Images", "_Sounds"):
        monkeypatch.setattr(synthetic_pairs, name, type(name, (Own,), {"kind": getattr(synthetic_pairs, name)}))
    few = {"n_train": 15, "n_valid": 1, "n_test": 10}
    own = [SyntheticPairs(**few, seed=seed).load(None, seed=0) for seed in range(5)]
    assert np.mean([retrieved(p, p.seen) for p in own]) > 3 / 12
    assert np.mean([retrieved(p, p.unseen) for p in own]) == pytest.approx(1 / 4, abs=0.15)
    monkeypatch.undo()
    shared = [SyntheticPairs(**few, seed=seed).load(None, seed=0) for seed in range(5)]
    assert np.mean([retrieved(p, p.unseen) for p in shared]) > 2 / 4


def test_the_same_seed_makes_the_same_set_whatever_the_run(tmp_path):
    small = {"n_train": 2, "n_valid": 1, "n_test": 1}
    a, b = (SyntheticPairs(**small).load(tmp_path, seed=seed) for seed in (0, 1))
    assert a.first.checksums == b.first.checksums and a.second.checksums == b.second.checksums
    other = SyntheticPairs(**small, seed=1).load(tmp_path, seed=0)
    assert other.first.checksums != a.first.checksums
    ticks = []
    SyntheticPairs(**small).load(tmp_path, seed=0, progress=lambda done, total: ticks.append((done, total)))
    assert ticks[-1] == (104, 104)


def test_levels_that_no_seen_class_shows_are_refused():
    with pytest.raises(ValidationError, match="unseen class 0 has level 0 of factor 0, which no seen class shows"):
        SyntheticPairs(unseen=(0, 1, 2, 3))
    with pytest.raises(ValidationError, match="unseen class 16: allowed are 0 to 15"):
        SyntheticPairs(unseen=(16,))
    with pytest.raises(ValidationError, match="at least one class is needed"):
        SyntheticPairs(unseen=())
    with pytest.raises(ValidationError):
        SyntheticPairs(factors=(1, 4))
    assert SyntheticPairs(factors=(3, 3), unseen=(4, 8)).seen == (0, 1, 2, 3, 5, 6, 7)
