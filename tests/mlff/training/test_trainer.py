"""Training: it learns, it goes on bit for bit after a kill, and several processes do what one does."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from mlff.get import NetworkParameters
from mlff.training.losses import Weights
from mlff.training.options import Training
from mlff.training.parallel import Ranks
from mlff.training.trainable import ModelOptions, finished, start
from mlff.training.trainer import Trained, Trainer, divided, train
from mlff.training.validation import REPORTED
from mlff.weights import dump, load
from tests.mlff.label_sets import label_set
from tests.mlff.samples import model

WEIGHTS = Weights(energy=1.0, forces=1.0, charges=100.0, dipole=1.0)
SMALL = ModelOptions(
    network=NetworkParameters(width=16, heads=4, n_radial=8, hidden=8), charge_groups="system", dispersion="none"
)
PRESETS = {
    "modern": Training(epochs=3, batch=2, where_labelled=WEIGHTS, validate_every=2),
    "published": Training(
        epochs=3, batch=4, optimiser="adamax", learning_rate=0.01, weight_decay=1e-3, decay_all=True,
        schedule="exponential", clip_norm=None, average=None, energy_loss="mean_free", where_labelled=WEIGHTS,
        shuffle="batches", scaled=False, references="isolated",
    ),
}  # fmt: skip


def trainer(how: Training, options: ModelOptions = SMALL, seed: int = 0, n: int = 9, threads: int = 1) -> Trainer:
    labels = label_set(model(dispersion="none"), n)
    isolated = dict.fromkeys((1, 3, 6, 8, 9, 15), 0.0)
    made = start(options, how, type(labels)(**(vars(labels) | {"isolated": isolated})), seed)
    return Trainer(made.model, made.train, made.valid, how, made.weights, made.scale, seed, Ranks(), threads)


class Killed(Exception):
    pass


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("batches", [1, 5])
def test_a_killed_run_goes_on_bit_for_bit(preset: str, batches: int, tmp_path: Path) -> None:
    unbroken = trainer(PRESETS[preset])
    wanted = train(unbroken)
    broken, left = trainer(PRESETS[preset]), batches

    def save(state) -> None:
        nonlocal left
        left -= 1
        np.savez(tmp_path / "state.npz", **state())
        if left == 0:
            raise Killed

    with pytest.raises(Killed):
        train(broken, save=save)
    resumed = trainer(PRESETS[preset])
    with np.load(tmp_path / "state.npz") as saved:
        resumed.restore(dict(saved))
    found = train(resumed)
    assert found == wanted and resumed.at.step > 0
    assert torch.equal(resumed.flat.values, unbroken.flat.values)
    assert torch.equal(resumed.average, unbroken.average)


def test_fused_training_of_the_default_size_goes_on_bit_for_bit() -> None:
    how, options = Training(epochs=2, batch=3, where_labelled=WEIGHTS), ModelOptions(charge_groups="system")
    unbroken, resumed = trainer(how, options), trainer(how, options)
    states: list[dict] = []
    train(unbroken, save=lambda state: states.append(state()))
    assert unbroken.evaluate.fused
    resumed.restore(states[1])
    train(resumed)
    assert torch.equal(resumed.flat.values, unbroken.flat.values)


@pytest.mark.parametrize(("select", "measure"), [("mae", "weighted_mae"), ("best", "loss")])
def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path, select: Literal["mae", "best"], measure: str) -> None:
    how = Training(epochs=25, batch=3, learning_rate=0.01, where_labelled=WEIGHTS, select=select)
    labels = label_set(model(dispersion="none"), 9)
    made = start(SMALL, how, labels, 0)
    run = Trainer(made.model, made.train, made.valid, how, made.weights, made.scale, 0, Ranks())
    before = run.score(made.train)
    seen: list[int] = []
    result = train(run, on_epoch=lambda epoch, values: seen.append(epoch))
    assert seen == list(range(1, 26)) and isinstance(result, Trained)
    assert result.history[-1]["train/loss"] < 0.2 * result.history[0]["train/loss"]
    assert result.epoch == 1 + int(np.argmin([row[f"valid/{measure}"] for row in result.history]))
    run.average.copy_(run.flat.values)
    assert run.score(made.train)["forces_mae_meV_per_A"] < 0.5 * before["forces_mae_meV_per_A"]
    # the weights that are kept are those of the epoch that was chosen, in the file too
    kept = run.score(made.valid)
    assert kept[measure] == pytest.approx(result.history[result.epoch - 1][f"valid/{measure}"], rel=1e-5)
    weighted = sum(
        math.sqrt(getattr(WEIGHTS, label) or 0.0) * kept[name] / factor
        for label, (name, factor) in REPORTED.items()
        if name in kept
    )
    assert kept["weighted_mae"] == pytest.approx(weighted)
    tensors, settings = dump(finished(made, how, labels))
    (tmp_path / "m.safetensors").write_bytes(tensors)
    (tmp_path / "m.yaml").write_text(settings)
    frame = labels.valid[0]
    loaded = load(tmp_path / "m.safetensors")
    p = loaded.predict(loaded.batch(frame.configuration))
    found = run.evaluate(_one(made.valid[0]), graph=False)
    torch.testing.assert_close(p.forces, found.forces.double(), rtol=1e-3, atol=1e-3)


def _one(frame):
    from mlff.training.batches import join

    return join([frame])


def test_frames_are_seen_once_an_epoch_in_an_order_of_their_own() -> None:
    run = trainer(PRESETS["modern"])
    orders = [np.concatenate(run.batches(epoch)).tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(7)) and orders[0] != orders[1]
    slices = trainer(PRESETS["published"]).batches(0)
    assert sorted(s.tolist() for s in slices) == [[0, 1, 2, 3], [4, 5, 6]]


def test_the_result_is_the_same_for_any_number_of_threads() -> None:
    how, options = Training(epochs=2, batch=6, pieces=3, where_labelled=WEIGHTS), ModelOptions(charge_groups="system")
    one, three = trainer(how, options), trainer(how, options, threads=3)
    assert train(one) == train(three)
    assert torch.equal(one.flat.values, three.flat.values)


def test_pieces_of_a_batch_give_the_gradient_of_the_whole() -> None:
    gradients = []
    for pieces in (1, 3):
        run = trainer(Training(batch=7, pieces=pieces, clip_norm=None, precision="float64", where_labelled=WEIGHTS))
        run.step(np.arange(7))
        gradients.append(run.flat.gradient)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    sizes = [sum(map(len, part)) for part in divided(run.frames, 3)]
    assert sum(sizes) == sum(map(len, run.frames)) and max(sizes) - min(sizes) <= 8


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    run = trainer(Training(epochs=2, batch=2, learning_rate=1e30, clip_norm=None, where_labelled=WEIGHTS))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        train(run)


def test_a_state_of_another_network_is_refused() -> None:
    state = trainer(PRESETS["modern"]).state()
    other = ModelOptions(network=NetworkParameters(width=8, heads=4, n_radial=8, hidden=8), dispersion="none")
    with pytest.raises(ValueError, match=r"a saved state of .* weights for a model of"):
        trainer(PRESETS["modern"], other).restore(state)


PROCESS = """
import sys
import numpy as np, torch
from mlff.training.parallel import Ranks
from tests.mlff.training.test_trainer import two_presets

torch.set_num_threads(1)
ranks = Ranks.from_environment()
out = two_presets(ranks)
if ranks.rank == 0:
    np.savez(sys.argv[1], **out)
ranks.wait()
"""


@pytest.mark.parametrize(("select", "epoch"), [("best", 2), ("mae", 3), ("last", 4)])
def test_each_way_to_select_keeps_the_epoch_by_its_own_measure(
    select: Literal["best", "mae", "last"], epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(Training(epochs=4, batch=3, where_labelled=WEIGHTS, select=select))
    scores = iter([{"loss": a, "weighted_mae": b} for a, b in ((3.0, 4.0), (1.0, 3.0), (2.0, 1.0), (4.0, 2.0))])
    monkeypatch.setattr(run, "score", lambda frames: next(scores))
    assert train(run).epoch == epoch


def two_presets(ranks: Ranks) -> dict[str, np.ndarray]:
    """Weights and errors of short runs in float64; the last batches are smaller than the number of processes."""
    out = {}
    for name, how in PRESETS.items():
        run = trainer(replace(how, precision="float64"), n=7)
        run.ranks = ranks
        history = train(run).history
        out[name] = run.flat.values.numpy()
        out[f"{name} loss"] = np.array([row["train/loss"] for row in history])
        out[f"{name} valid"] = np.array([row.get("valid/energy_mae_meV_per_atom", 0.0) for row in history])
    return out


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    root = str(Path(__file__).resolve().parents[3])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path / "two.npz")],
            env={**os.environ, **address, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=root, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    one = two_presets(Ranks())
    for process in processes:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    with np.load(tmp_path / "two.npz") as two:
        assert set(one) == set(two) and len(one) == 6
        for name in one:
            np.testing.assert_allclose(two[name], one[name], rtol=1e-6, atol=1e-6, err_msg=name)
            assert one[name].any()
