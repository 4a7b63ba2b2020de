"""Fixtures of all data sets: the real ones where they are at hand, and a simulated camera that takes no time."""

from pathlib import Path

import numpy as np
import pytest

from lsm.datasets.nmnist_sim import NMnistSim
from lsm.datasets.recordings import EVENT
from tests.staged import DATA


@pytest.fixture
def staged():
    """A function that gives the folder of real data, or skips the test where a file of it is missing."""

    def find(*names: str) -> Path:
        for name in names:
            if not (DATA / name).exists():
                pytest.skip(f"{DATA / name} is missing")
        return DATA

    return find


@pytest.fixture
def looked(monkeypatch):
    """A camera that takes no time; the sizes of the splits that it was shown."""
    sizes = []

    def look(self, split):
        sizes.append(len(split))
        for name in split.names:
            events = np.zeros(3, EVENT)
            events["t"], events["x"] = int(name[7:-1]), [1, 2, 3]
            yield events

    monkeypatch.setattr(NMnistSim, "look", look)
    return sizes
