"""The two routes of dispersion, at toy sizes: every command runs, and none twice."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from benchmarks import dispersion
from runners.cli import main

SMALL = ("--epochs", "1", "--systems", "dmc", "--atoms", "130", "--length-ps", "0.05", "--replicas", "1")
ALSO = (  # what two steps of training have taught is no liquid
    "runner.relaxation.steps=30", "runner.relaxation.soft_start_ps=0.01", "runner.relaxation.max_force_eV_A=5",
    "runner.relaxation.limit_eV_A=1e6", "properties.density.max_temperature_K=1e6", "properties.density.max_force_eV_A=1e6",
)  # fmt: skip


def test_both_routes_label_the_same_clusters_and_nothing_runs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LSMRUN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(dispersion, "run_once", _in_this_process)
    few = tmp_path / "few.xyz"
    few.write_text(_first(24))
    arguments = [*SMALL, "--clusters", str(few), "--results", str(tmp_path), "--also", *ALSO]
    assert dispersion.main(arguments) == 0
    rows = _rows(tmp_path)
    assert [r["dispersion"].split()[0] for r in rows] == ["learned", "added"]
    assert rows[0]["clusters"] == rows[1]["clusters"]
    assert rows[0]["valid/energy_mae_meV_per_atom"] != rows[1]["valid/energy_mae_meV_per_atom"]
    assert all(float(r["dmc_measured_g_cm3"]) == pytest.approx(1.0608, abs=1e-4) for r in rows)
    assert "dispersion: included" in (told := capfd.readouterr().out) and "dispersion: none" in told

    monkeypatch.setattr(dispersion, "run_once", lambda words: pytest.fail(f"run again: {words}"))
    assert dispersion.main(arguments) == 0
    assert _rows(tmp_path) == rows


def _in_this_process(words: list[str]) -> None:
    assert main(words) == 0


def _first(n: int) -> str:
    """Frames of the packaged set that have two molecules or more."""
    with gzip.open(dispersion.CLUSTERS, "rt") as file:
        lines = file.readlines()
    frames, at = [], 0
    while len(frames) < n:
        size = int(lines[at])
        if size > 15:
            frames.append("".join(lines[at : at + size + 2]))
        at += size + 2
    return "".join(frames)


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "dispersion.csv").open() as file:
        return list(csv.DictReader(file))
