"""Benchmarks of the force field measure what they say; times themselves are never judged."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from benchmarks import boxes, gpu


@pytest.fixture(autouse=True)
def _no_recordings(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("LSMRUN_REFERENCE", str(tmp_path))


def test_made_up_liquid_has_the_neighbours_of_the_recorded_electrolyte() -> None:
    model, what = boxes.model()
    batch = model.batch(boxes.liquid(1000))
    assert what == "random weights"
    assert len(batch.edges) / 1000 == pytest.approx(189412 / 4116, rel=0.1)
    assert (
        float(
            batch.edges.vectors(batch.positions, batch.cells, batch.system, torch.zeros_like(batch.cells))
            .norm(dim=1)
            .min()
        )
        > 1
    )


def test_recorded_box_repeats_to_what_each_copy_gives() -> None:
    numbers, positions, cell = np.array([1, 8, 6]), np.array([[0.1, 0, 0], [1.3, 0, 0], [3.0, 2, 1]]), np.eye(3) * 6.0
    for times in ((1, 1, 3), (2, 2, 2)):
        c = boxes._repeated(numbers, positions, cell, times)
        assert len(c.numbers) == 3 * np.prod(times)
        model, _ = boxes.model()
        single = boxes._repeated(numbers, positions, cell, (1, 1, 1))
        whole, one = (model.predict(model.batch(x)) for x in (c, single))
        assert whole.energy.item() / np.prod(times) == pytest.approx(one.energy.item(), rel=1e-6)


def test_the_script_for_gpus_compares_the_torch_model_with_the_engine(tmp_path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--device", "cpu", "--sizes", "40", "--repeats", "1", "--results", str(tmp_path)]
    assert gpu.main(arguments) == 0
    with (tmp_path / "gpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == gpu.COLUMNS
    assert [(r["long_range"], r["forces"]) for r in rows] == list(gpu.VARIANTS)
    for row in rows:
        assert float(row["call_ms"]) > 0 and float(row["rms_force"]) > 0.01
        assert float(row["max_force_difference"]) < 1e-3
        assert f"torch {torch.__version__}" in row["versions"]
    assert capsys.readouterr().out.count("40 atoms, made-up liquid") == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_the_script_says_so_and_writes_nothing(tmp_path, capsys: pytest.CaptureFixture) -> None:
    assert gpu.main(["--results", str(tmp_path)]) == 0
    assert "nothing measured" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
