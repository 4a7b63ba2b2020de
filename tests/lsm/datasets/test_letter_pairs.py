"""Pairs of attempted and pictured letters: the sizes of both protocols."""

import numpy as np
import pytest
from pydantic import ValidationError
from raw_files import emnist_members, letter_cubes, write_tree
from scipy.io import savemat

from lsm.datasets.letter_pairs import HandwritingEmnist


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "handwriting").mkdir()
    savemat(folder / "handwriting" / "singleLetters.mat", letter_cubes(n_bins=3), do_compression=True)
    write_tree(folder, emnist_members(26 * 360, 26 * 40))
    (folder / "gzip").rename(folder / "emnist")
    return folder


def per_class(split):
    return np.bincount(split.labels, minlength=26).tolist()


def test_sizes_of_the_published_protocol(root):
    pair = HandwritingEmnist(protocol="published").load(root, seed=0)
    assert pair.modalities == ("neural", "image") and pair.unseen == (22, 23, 24, 25) and len(pair.seen) == 22
    assert len(pair.train_pairs) == 5280 and len(pair.valid_pairs) == 0
    neural, image = pair.first, pair.second
    assert per_class(neural.train) == 22 * [24] + 4 * [0] and per_class(image.train) == 22 * [240] + 4 * [0]
    for sense in (neural, image):
        assert len(pair.test_index(sense, pair.seen)) == 660 and len(pair.test_index(sense, pair.unseen)) == 120
    assert np.bincount(pair.train_pairs[:, 0]).tolist() == 22 * 24 * [10]  # each trial ten times
    assert np.bincount(pair.train_pairs[:, 1]).tolist() == 5280 * [1]


def test_the_honest_protocol_counts_each_test_trial_once(root):
    pair = HandwritingEmnist(images_train=42, images_valid=6, images_test=5).load(root, seed=0)
    neural = pair.first
    assert per_class(neural.train) == 22 * [21] + 4 * [0] and per_class(neural.valid) == 22 * [3] + 4 * [0]
    assert per_class(neural.test) == 22 * [3] + 4 * [27]
    assert per_class(pair.second.test) == 26 * [5]
    assert len(pair.train_pairs) == 22 * 42 and len(pair.valid_pairs) == 22 * 6
    assert not set(neural.train.names) & set(neural.test.names)


def test_other_letters_can_be_left_out(root):
    pair = HandwritingEmnist(unseen=(18, 19, 20, 21), images_train=5, images_test=5, images_valid=5, fold=0).load(
        root, seed=0
    )
    assert 22 in pair.seen and pair.class_names[18] == "s"
    with pytest.raises(ValidationError, match="all 26 letters"):
        HandwritingEmnist(unseen=tuple(range(26)))
    with pytest.raises(ValidationError, match="unseen"):
        HandwritingEmnist(unseen=(26,))


def test_a_missing_sense_is_told_in_the_words_of_the_pair(root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"neural: singleLetters\.mat is missing in .*data\.neural_path=<file or folder>"
    ):
        HandwritingEmnist().load(tmp_path, seed=0)
    with pytest.raises(FileNotFoundError, match=r"image: data\.image_path=.*is missing there"):
        HandwritingEmnist(image_path=str(tmp_path)).load(root, seed=0)
