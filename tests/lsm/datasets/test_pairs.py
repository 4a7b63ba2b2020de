"""The rules of paired data sets: one numbering of classes, pairs of one class, no unseen class in training."""

import dataclasses

import numpy as np
import pytest

from lsm.datasets.pairs import PairedDataset, first_of, pair_by_class, restrict
from lsm.encode import Dataset, Events, Split

SEEN, UNSEEN = (1, 2), (3,)


def split(labels, prefix):
    labels = np.array(labels, np.int64)
    events = Events.from_lists([np.array([k % 5]) for k in range(len(labels))], [np.array([0])] * len(labels), 4, 5)
    return Split(events, labels, tuple(f"{prefix}{k}" for k in range(len(labels))))


def dataset(train=(1, 1, 2, 2), valid=(1, 2), test=(1, 2, 3, 3), names=("zero", "one", "two", "three")):
    parts = {"train": split(train, "train"), "valid": split(valid, "valid"), "test": split(test, "test")}
    return Dataset("toy", names, **parts, encoding={"kind": "toy"}, source="made up")


def paired(first=None, second=None, **changes):
    first, second = first or dataset(), second or dataset()
    values = {
        "name": "toys", "modalities": ("image", "audio"), "first": first, "second": second, "seen": SEEN, "unseen": UNSEEN,
        "class_names": first.class_names,
        "train_pairs": np.array([[0, 1], [3, 2]]), "valid_pairs": np.array([[0, 0], [1, 1]]),
    }  # fmt: skip
    return PairedDataset(**(values | changes))


def test_a_sound_pair_is_accepted_and_tells_which_test_samples_are_of_which_classes():
    pair = paired()
    assert [name for name, _ in pair.senses()] == ["image", "audio"]
    assert pair.test_index(pair.second, pair.unseen).tolist() == [2, 3]
    assert pair.test_index(pair.second, pair.seen).tolist() == [0, 1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        pair.seen = (1,)


@pytest.mark.parametrize("part", ["train", "valid"])
def test_an_unseen_class_that_leaks_into_training_is_refused(part):
    leak = dataset(**{part: (1, 2, 3, 3)})
    with pytest.raises(
        ValueError, match=rf"^toys: unseen class 'three' leaks into training: 2 samples in audio/{part}$"
    ):
        paired(second=leak)


@pytest.mark.parametrize(
    ("part", "labels", "name"), [("train", (1, 1), "two"), ("test", (1, 3), "two"), ("test", (1, 2), "three")]
)
def test_a_class_without_a_sample_is_refused(part, labels, name):
    with pytest.raises(ValueError, match=rf"^toys: class '{name}' has no sample in image/{part}$"):
        paired(first=dataset(**{part: labels}))


def test_pairs_of_two_classes_and_pairs_of_nothing_are_refused():
    with pytest.raises(ValueError, match="unpaired modalities: pair 1 of train is of classes 'one' and 'two'"):
        paired(train_pairs=np.array([[0, 0], [0, 2]]))
    with pytest.raises(ValueError, match=r"valid_pairs names samples that audio/valid \(2\) does not have"):
        paired(valid_pairs=np.array([[0, 2]]))
    with pytest.raises(ValueError, match=r"train_pairs has the shape \(2,\), not \(n_pairs, 2\)"):
        paired(train_pairs=np.array([0, 1]))
    with pytest.raises(ValueError, match="unpaired modalities: class 2 is 'two' in image and 'deux' in audio"):
        paired(second=dataset(names=("zero", "one", "deux", "three")))


def test_classes_must_be_told_apart():
    with pytest.raises(ValueError, match="class 'two' is both seen and unseen"):
        paired(unseen=(2, 3))
    with pytest.raises(ValueError, match="class 4: allowed are 0 to 3"):
        paired(unseen=(4,))
    with pytest.raises(ValueError, match=r"unseen=\[\]: at least one class"):
        paired(unseen=())
    with pytest.raises(ValueError, match="both modalities are called 'image'"):
        paired(modalities=("image", "image"))
    with pytest.raises(ValueError, match="class 'zero' in image/test is neither seen nor unseen"):
        paired(first=dataset(test=(0, 1, 2, 3)))


def test_an_honest_protocol_needs_validation_pairs_and_the_published_has_none():
    none = np.zeros((0, 2), np.int64)
    with pytest.raises(ValueError, match="no validation pairs; an honest selection needs some"):
        paired(valid_pairs=none)
    assert paired(first=dataset(valid=()), valid_pairs=none, protocol="published").protocol == "published"


def test_the_kth_sample_of_a_class_is_paired_with_the_kth_of_the_other_sense():
    first, second = np.array([2, 1, 1, 2, 1]), np.array([1, 2, 1])
    assert pair_by_class(first, second).tolist() == [[1, 0], [2, 2], [0, 1]]
    assert pair_by_class(first, second, longest=True).tolist() == [[1, 0], [2, 2], [4, 0], [0, 1], [3, 1]]
    assert pair_by_class(first[:0], second[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match="only one of them has samples of class 3"):
        pair_by_class(np.array([1, 3]), np.array([1]))


def test_a_data_set_becomes_one_sense_without_unseen_classes_in_training():
    whole = dataset(train=(1, 3, 2, 0, 3), valid=(3, 1, 2), test=(3, 0, 2, 1, 2))
    sense = restrict(whole, SEEN, UNSEEN, everywhere=False)
    assert sense.train.names == ("train0", "train2") and sense.valid.names == ("valid1", "valid2")
    assert sense.test.names == ("test0", "test2", "test3", "test4")
    sense = restrict(whole, SEEN, UNSEEN, everywhere=True)
    assert sense.test.names == ("test0", "test2", "test3", "test4", "train1", "train4", "valid0")
    assert sense.test.labels.tolist() == [3, 2, 1, 2, 3, 3, 3]
    assert sense.test.inputs.packed.tolist() == [int(n[-1]) << 16 for n in sense.test.names]
    few = restrict(whole, SEEN, UNSEEN, everywhere=True, at_most=1)
    assert few.test.names == ("test0", "test2", "test3")
    assert first_of(whole.train.labels, {3: 1, 2: None}).tolist() == [1, 2]
