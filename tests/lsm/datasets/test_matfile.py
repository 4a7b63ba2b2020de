"""Both MATLAB formats give the arrays that MATLAB would show, whatever the axes on disk."""

from contextlib import ExitStack

import h5py
import numpy as np
import pytest
from raw_files import write_mat_v73
from scipy.io import savemat

from lsm.datasets import matfile
from lsm.datasets.matfile import MatFile

ARRAYS = {"cube": np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7).astype(np.uint8), "other": np.eye(4)}


@pytest.fixture(params=["v5", "v7.3", "v7.3 in chunks"])
def path(request, tmp_path):
    target = tmp_path / "a.mat"
    if request.param == "v5":
        savemat(target, ARRAYS)
    else:
        write_mat_v73(target, ARRAYS, chunks="chunks" in request.param)
    return target


def test_arrays_have_the_axes_of_matlab(path):
    with ExitStack() as stack:
        file = MatFile(path, stack)
        assert file.names == ["cube", "other"]
        assert file.shape("cube") == (2, 3, 5, 7)
        np.testing.assert_array_equal(file.read("cube"), ARRAYS["cube"])
        np.testing.assert_array_equal(file.read("cube", 1, 2), ARRAYS["cube"][1:2])
        assert file.read("cube").flags.c_contiguous


def test_blocks_are_whole_chunks_within_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(matfile, "BLOCK_BYTES", 100)
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file.create_dataset("a", data=np.zeros((5, 40), np.uint8), chunks=(5, 4))
        file.create_dataset("big", data=np.zeros((500, 40), np.uint8), chunks=(500, 4))
    with ExitStack() as stack:
        file = MatFile(tmp_path / "b.mat", stack)
        assert file.block("a") == 20  # 100 bytes / 5 bytes a row
        assert file.block("big") == 4  # never less than a chunk


def test_what_cannot_be_read_is_told(tmp_path, path):
    with ExitStack() as stack:
        with pytest.raises(ValueError, match="no array 'image' in there; found: cube, other"):
            MatFile(path, stack).shape("image")
        with pytest.raises(FileNotFoundError, match=r"none\.mat is missing"):
            MatFile(tmp_path / "none.mat", stack)
        (tmp_path / "text.mat").write_bytes(b"this is no MATLAB file, but long enough to be taken for one " * 10)
        with pytest.raises(ValueError, match=r"text\.mat: not a readable MATLAB file of 600 bytes"):
            MatFile(tmp_path / "text.mat", stack)


def test_a_cut_off_file_is_told(path):
    path.write_bytes(path.read_bytes()[: 600 if path.read_bytes()[512:516] == b"\x89HDF" else 200])
    message = r"a\.mat: (not a readable|'cube' cannot be read|no array 'cube')"
    with ExitStack() as stack, pytest.raises(ValueError, match=message):
        MatFile(path, stack).read("cube")
