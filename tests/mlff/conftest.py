from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    # a team of threads costs more than it gives on systems of a few atoms, most of all on a busy machine
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2) if request.module.__name__.endswith("test_recorded") else 1)
    yield
    torch.set_num_threads(before)
