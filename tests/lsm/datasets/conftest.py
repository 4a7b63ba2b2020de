import os
from pathlib import Path

import pytest

STAGED = Path(os.environ.get("LSMRUN_DATA") or Path(__file__).parents[4] / "shared" / "datasets")


@pytest.fixture
def staged():
    """A function that gives the folder of real data, or skips the test where a file of it is missing."""

    def find(*names: str) -> Path:
        for name in names:
            if not (STAGED / name).exists():
                pytest.skip(f"{STAGED / name} is missing")
        return STAGED

    return find
