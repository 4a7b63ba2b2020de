"""The peers of the benchmark simulate what their docstrings say, and a missing one is reported instead of raised."""

import importlib.util
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import random_array

from benchmarks import peers, table

LEAK, DECAY = 1 - 1 / 64, math.exp(-1)


def small_case():
    rng = np.random.default_rng(3)
    w_liquid, w_input = (
        random_array(shape, density=0.2, rng=rng, data_sampler=lambda size: rng.uniform(-2, 3, size))
        for shape in ((40, 40), (40, 60))
    )
    return w_liquid, w_input, (rng.random((2, 120, 60)) < 0.1).astype(np.uint8)


def reservoirpy_by_hand(w, w_in, raster):
    v, counts = np.zeros(len(w)), np.zeros(len(w), int)
    for step in raster:
        v = LEAK * v
        spikes = v > 20
        v[spikes] = 0
        v += (w @ spikes + w_in @ step) / (1 - DECAY)
        counts += spikes
    return counts


def snntorch_by_hand(w, w_in, raster):
    v, s, counts = np.zeros(len(w)), np.zeros(len(w)), np.zeros(len(w), int)
    spikes = np.zeros(len(w), bool)
    for step in raster:
        reset = spikes
        s = DECAY * s + w @ spikes + w_in @ step
        v = LEAK * v + s
        v[reset] = 0
        spikes = v > 20
        counts += spikes
    return counts


def brian2_by_hand(w, w_in, raster):
    v, s, counts, blocked = np.zeros(len(w)), np.zeros(len(w)), np.zeros(len(w), int), np.zeros(len(w), int)
    for step in raster:
        v = LEAK * v + s
        s = DECAY * s
        blocked -= 1
        spikes = (v >= 20) & (blocked <= 0)
        blocked[spikes] = 3
        s += w @ spikes + w_in @ step
        v[spikes] = 0
        counts += spikes
    return counts


def missing(name):
    if name == "brian2":
        folder = Path(os.environ.get("LSMRUN_BRIAN2_VENV", "~/.cache/lsmrun/brian2")).expanduser()
        return not (folder / "complete").exists()
    return importlib.util.find_spec(name) is None


@pytest.mark.parametrize("name", peers.PEERS)
def test_peer_counts_the_spikes_of_its_stated_equations(name):
    if missing(name):
        pytest.skip(f"{name} is not installed (extra oracles; Brian2: run python -m benchmarks --only peers once)")
    w_liquid, w_input, spikes = small_case()
    result = peers.time_peer(name, w_liquid, w_input, spikes, n_samples=3)
    by_hand = globals()[f"{name}_by_hand"]
    expected = [by_hand(w_liquid.toarray(), w_input.toarray(), spikes[k]) for k in (0, 1, 0)]
    assert np.sum(expected) > 300
    # One spike more or less is left to the rounding of float32 at the threshold.
    np.testing.assert_allclose(result["counts"], expected, atol=1 if name == "snntorch" else 0)
    assert abs(result["counts"].sum() - np.sum(expected)) <= 2
    assert result["rate_hz"] == pytest.approx(1e3 * result["counts"].mean() / 120)
    assert result["cpu_ms"] > 0
    assert result["wall_ms"] > 0
    assert name in result["versions"]


def test_a_peer_that_cannot_run_is_a_row_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "HERE", tmp_path)
    shutil.copy(Path(peers.__file__).parent / "peer_process.py", tmp_path)
    (tmp_path / "peer_broken.py").write_text("import no_such_simulator\n")
    result = peers.time_peer("broken", *small_case())
    assert result == {"peer": "broken", "missing": "ModuleNotFoundError: No module named 'no_such_simulator'"}
    row = peers.peer_row(result, "sample", "n=40", own_cpu_ms=1.0)
    assert (row["ratio"], row["versions"]) == ("", "missing: ModuleNotFoundError: No module named 'no_such_simulator'")


def test_brian2_environment_that_cannot_be_made_is_a_reason_too(tmp_path, monkeypatch):
    monkeypatch.setenv("LSMRUN_BRIAN2_VENV", str(tmp_path / "env"))
    monkeypatch.setattr(peers.venv, "create", lambda *_, **__: None)
    assert "bin/python" in peers.time_peer("brian2", *small_case())["missing"]
    assert not (tmp_path / "env/complete").exists()


def test_table_holds_the_ratio_of_cpu_times(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "cpu_model", lambda: "a, b")
    result = {"peer": "other", "cpu_ms": 30.0, "wall_ms": 31.0, "versions": {"python": "3", "other": "1.2"}}
    table.write_rows(tmp_path / "new/table.csv", [peers.peer_row(result, "sample", "n=40", own_cpu_ms=1.5)])
    assert (tmp_path / "new/table.csv").read_text().splitlines() == [
        "what,size,threads,cpu_ms,wall_ms,peer,ratio,operations,bytes,floor_ms,versions,cpu_model",
        'sample,n=40,1,30,31,other,20,,,,python 3 other 1.2,"a, b"',
    ]


def test_peers_are_told_to_use_one_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "HERE", tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (tmp_path / "peer_process.py").write_text(
        "import json, os; print(json.dumps({'counts': [int(os.environ['OMP_NUM_THREADS'])]}))"
    )
    assert peers.time_peer("any", *small_case())["counts"].tolist() == [1]
