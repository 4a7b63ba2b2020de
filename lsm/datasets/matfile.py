"""Arrays of MATLAB files as MATLAB sees them: v5 (SciPy), and v7.3, which is HDF5 with all axes reversed (h5py)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
BLOCK_BYTES = 1 << 27


class MatFile:
    """The numeric arrays of one file; of v7.3 only what is asked for is read. Closed by the `ExitStack` it is opened in.

    Raises `FileNotFoundError` for a missing file and `ValueError` for one that is no MATLAB file.
    """

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        self._arrays: dict[str, Any] = {}
        self._hdf5: Any = None
        if _is_hdf5(path):
            self._hdf5 = _open_hdf5(path, stack)
            self.names = sorted(k for k, v in self._hdf5.items() if hasattr(v, "shape"))
        else:
            self.names = sorted(_names_v5(path))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array in MATLAB's order of axes; raises `ValueError` where there is none of this name."""
        self._check(name)
        return tuple(reversed(self._hdf5[name].shape)) if self._hdf5 is not None else tuple(self._read_v5(name).shape)

    def read(self, name: str, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Rows `first` to `last` (not included) along MATLAB's first axis, C-contiguous; raises as `shape`."""
        self._check(name)
        if self._hdf5 is None:
            return np.ascontiguousarray(self._read_v5(name)[first:last])
        try:
            rows = self._hdf5[name][..., first:last]
        except OSError as error:
            raise ValueError(f"{self.path}: '{name}' cannot be read ({error})") from error
        return np.ascontiguousarray(rows.transpose())

    def block(self, name: str) -> int:
        """How many rows to read at once: about `BLOCK_BYTES`, in whole chunks of the file."""
        n, *rest = self.shape(name)
        array = self._hdf5[name] if self._hdf5 is not None else self._read_v5(name)
        chunk = (getattr(array, "chunks", None) or (1,))[-1]
        bytes_per_row = max(int(np.prod(rest)) * array.dtype.itemsize, 1)
        return int(max(min(BLOCK_BYTES // bytes_per_row // chunk * chunk, n), chunk))

    def _check(self, name: str) -> None:
        if name not in self.names:
            there = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
            raise ValueError(f"{self.path}: no array '{name}' in there; found: {there or 'none'}")

    def _read_v5(self, name: str) -> NDArray[Any]:
        from scipy.io import loadmat

        if name not in self._arrays:
            try:
                self._arrays[name] = loadmat(self.path, variable_names=[name])[name]
            except Exception as error:  # SciPy raises what it stumbles over: struct.error, zlib.error, TypeError ...
                raise ValueError(f"{self.path}: '{name}' cannot be read ({error})") from error
        return np.asarray(self._arrays[name])


def _is_hdf5(path: Path) -> bool:
    """Whether the HDF5 signature stands at the start, or behind the 512 bytes that MATLAB writes before it."""
    with path.open("rb") as file:
        head = file.read(512 + len(HDF5_MAGIC))
    return HDF5_MAGIC in (head[: len(HDF5_MAGIC)], head[512:])


def _open_hdf5(path: Path, stack: ExitStack) -> Any:
    import h5py

    try:
        return stack.enter_context(h5py.File(path, "r"))
    except OSError as error:
        raise ValueError(f"{path}: not a readable MATLAB v7.3 file ({error})") from error


def _names_v5(path: Path) -> list[str]:
    from scipy.io import whosmat

    try:
        return [name for name, _, _ in whosmat(path)]
    except Exception as error:  # as above
        raise ValueError(f"{path}: not a readable MATLAB file of {path.stat().st_size} bytes ({error})") from error
