"""Supervised training of the trainable baselines from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import Run, refused, runs_in

TINY = ("data=digits", "data.n_train=300", "data.n_valid=60", "data.n_test=60", "model.steps=12", "model.n_neurons=60")


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("srnn_ann", ("model.learning_rate=5e-3",)),
        ("srnn_snn", ("model.learning_rate=5e-3",)),
        ("rnn", ("model.loss=cross_entropy", "model.learning_rate=3e-3")),
    ],
)
def test_the_baselines_learn_digits(lsmrun: Run, home: Path, model: str, more: tuple[str, ...]) -> None:
    status, out, err = lsmrun(f"model={model}", *TINY, "model.epochs=8", "model.batch=30", *more)
    assert status == 0, err
    (run,) = runs_in(home)
    metrics = run.data.metrics
    assert metrics["test/accuracy"] > 0.4  # chance: a tenth
    assert metrics["baseline/chance_accuracy"] == 0.1 and 1 <= metrics["network/epoch"] <= 8
    assert "test/accuracy" in out and run.info.status == "FINISHED"
    assert ("network/spikes_per_step" in metrics) == (model != "rnn")
    dense = metrics["device/synaptic_operations_dense"]
    assert 0 < metrics["device/synaptic_operations"] < dense < metrics["cost/fwd_macs"] + (model == "srnn_snn")
    assert (
        metrics["cost/bwd_macs_srnn"]
        > metrics["cost/fwd_macs"]
        == 12 * 60 * (784 + 60) + 600 * (12 if model == "srnn_snn" else 1)
    )
    assert metrics["device/footprint_bytes"] > 4 * 60 * (784 + 60) and metrics["device/connection_sparsity"] == 0
    assert metrics["energy/digital_event_uJ"] > 0 and metrics["energy/digital_dense_uJ"] > 0


def test_a_second_start_is_answered_from_the_cache_and_the_published_choice_is_named(lsmrun: Run, home: Path) -> None:
    command = ("model=srnn_ann", *TINY, "model.epochs=2", "runner.pictures=false")
    assert lsmrun(*command)[0] == 0 and lsmrun(*command)[0] == 0
    assert lsmrun(*command, "runner.protocol=published")[0] == 0
    first, second, published = (run.data.metrics for run in runs_in(home))
    assert first["test/accuracy"] == second["test/accuracy"]
    assert published["published/test_accuracy"] >= first["test/accuracy"] and "test/accuracy" not in published
    assert len(list((home / "cache").glob("heads-*/result.npz"))) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("model=rram_lsm", "runner=train_network"), "runner=train_network takes srnn_ann, srnn_snn or rnn"),
        (("model=srnn_ann", "model.decay=1.5"), "model.decay=1.5: must be"),
        (("model=srnn_ann", "model.n_layers=3"), "cell=lif has one layer"),
        (("model=srnn_ann", "runner=classify"), "give runner=train_network"),
    ],
)
def test_what_cannot_be_trained_is_refused(lsmrun: Run, home: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(lsmrun(*arguments))
    assert not runs_in(home)
