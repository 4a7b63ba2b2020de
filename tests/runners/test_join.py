"""Joined liquids: the readout sees every network and window once, and what is there already is not computed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsm.readout import LinearProbe
from tests.command_line import Run, runs_in

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


RRAM = (
    "model=rram_lsm", "data=digits", "data.n_train=60", "data.n_valid=20", "data.n_test=20", "model.n_neurons=30",
    "model.steps=20", "readout.epochs=4",
)  # fmt: skip


def test_one_liquid_in_one_window_is_read_as_classify_reads_it(lsmrun: Run, home: Path) -> None:
    quick = ("runner.raw_control=false", "runner.pictures=false", "runner.branching_samples=0")
    assert lsmrun(*RRAM, *quick)[0] == 0 and lsmrun(*RRAM, "runner=join", "runner.liquids=1")[0] == 0
    classified, joined = (run.data.metrics for run in runs_in(home))
    told = ("test/accuracy", "valid/accuracy", "train/accuracy", "epoch/train/loss")
    assert all(classified[name] == joined[name] for name in told)


def test_a_readout_sees_the_rates_of_each_window(lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fit = LinearProbe.fit
    monkeypatch.setattr(LinearProbe, "fit", lambda *a, window, **k: seen.append(window) or fit(*a, window=window, **k))
    assert lsmrun(*RRAM, "runner=join", "runner.liquids=2", "runner.windows=5")[0] == 0
    assert lsmrun(*RRAM, "runner=join", "runner.liquids=1", "runner.windows=5", "runner.power=0.5")[0] == 0
    assert seen == [4, 2]


@pytest.mark.parametrize(
    ("wrong", "told"), [("runner.liquids=0", "runner.liquids"), ("runner.power=2", "runner.power")]
)
def test_impossible_settings_are_refused(lsmrun: Run, wrong: str, told: str) -> None:
    status, _, err = lsmrun(*TINY, wrong)
    assert status == 2 and told in err and err.count("\n") == 1
