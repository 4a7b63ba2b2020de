"""Joined liquids: the readout sees every network and window once, and what is there already is not computed again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., tuple[int, str, str]]
TINY = (
    "runner=join", "data=digits", "data.n_train=100", "data.n_valid=40", "data.n_test=40",
    "model.n_neurons=60", "model.init_snippets=200", "model.run_ms=40", "readout.epochs=3",
)  # fmt: skip


def _feature_files(home: Path) -> list[Path]:
    return sorted(home.glob("cache/joined-*/test.npy"))


def test_features_are_the_counts_of_all_networks_side_by_side(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun(*TINY, "runner.liquids=3", "runner.windows=2")
    assert status == 0, err
    assert "readout/features" in out and "360" in out
    (joined,) = map(np.load, _feature_files(home))
    single = [np.load(path) for path in home.glob("cache/counts-*/test.counts.npy")]
    assert joined.shape == (40, 360) and len(single) == 3
    found = {joined[:, k * 120 : (k + 1) * 120].tobytes() for k in range(3)}
    assert found == {counts.tobytes() for counts in single} and len(found) == 3


def test_powers_compress_the_counts(lsmrun: Run, home: Path) -> None:
    assert lsmrun(*TINY, "runner.liquids=1", "runner.power=0.5")[0] == 0
    (joined,) = map(np.load, _feature_files(home))
    (counts,) = (np.load(path) for path in home.glob("cache/counts-*/test.counts.npy"))
    np.testing.assert_allclose(joined, np.sqrt(counts), rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "told"), [("runner.liquids=0", "runner.liquids"), ("runner.power=2", "runner.power")]
)
def test_impossible_settings_are_refused(lsmrun: Run, wrong: str, told: str) -> None:
    status, _, err = lsmrun(*TINY, wrong)
    assert status == 2 and told in err and err.count("\n") == 1
