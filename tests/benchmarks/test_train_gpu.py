"""Training several force fields at once in a given time: on the CPU here, since a GPU is not everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mlff
from benchmarks.train_gpu import ROOT, configuration, fitted
from mlff.training.options import Training

SHORT = "import benchmarks.train_gpu as g; g.WARM_UP = g.TIMED = 1; g.RESERVE_S = 0.0; raise SystemExit(g.main())"


def test_every_seed_gets_a_model_of_its_own(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--seconds", "1", "--seeds", "0", "1", "--out", str(tmp_path), "data.n_train=4"]
    small = ["model.network.width=16", "model.network.heads=4", "data.valid_fraction=0.03", "training.batch=2"]
    done = subprocess.run(
        [sys.executable, "-c", SHORT, *words, *small],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 frames for training" in done.stdout
    models = [mlff.load(tmp_path / f"seed{k}/model/model.safetensors") for k in (0, 1)]
    weights = [torch.cat([w.flatten() for w in m.parameters()]) for m in models]
    assert not torch.equal(*weights) and torch.equal(models[0].reference_energy, models[1].reference_energy)
    result = json.loads((tmp_path / "seed1/result.json").read_text())
    assert result["seed"] == 1 and result["epochs_done"] >= 1 and result["valid/forces_mae_meV_per_A"] > 0
    assert len((tmp_path / "seed1/history.csv").read_text().splitlines()) == 1 + result["epochs_done"]


@pytest.mark.parametrize("seconds", [100.0, 1000.0])
def test_epochs_and_validation_fit_into_the_time(seconds: float) -> None:
    how = fitted(Training(batch=8), seconds, step_s=0.01, valid_s=0.5, n_frames=800)
    spent = how.epochs * 100 * 0.01 + how.epochs / how.validate_every * 0.5
    assert 0.8 * seconds < spent <= seconds + 1.5
    assert how.epochs / how.validate_every <= 61


def test_sections_are_those_of_the_command_line_and_unknown_keys_are_refused() -> None:
    config = configuration(ROOT / "conf/data/frames.yaml", ["data.train=a.xyz", "training.weights.forces=2.0"])
    assert config["data"]["train"] == "a.xyz" and config["training"]["weights"]["forces"] == 2.0
    with pytest.raises(SystemExit, match=r"training\.bach=8: unknown key; training has"):
        configuration(ROOT / "conf/data/frames.yaml", ["training.bach=8"])
