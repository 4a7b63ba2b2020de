"""Zero-shot search from the command line, on the synthetic pair: figures beside chance, protocols, resuming, refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsm.prototypes import Prototypes
from lsm.rram.device import draw_pairs
from lsm.sources import Task
from runners.cli import PROGRAM
from tests.command_line import Run, artifacts_of, history_of, refused, runs_in

TINY = (
    "data=synthetic_pairs", "data.factors=[3,3]", "data.unseen=[0,4,8]", "data.n_train=12", "data.n_valid=4",
    "data.n_test=6", "model.steps=25", "runner=zero_shot",
)  # fmt: skip
LEARNABLE = (
    "data=synthetic_pairs", "data.n_train=25", "data.n_valid=4", "data.n_test=10", "runner=zero_shot", "runner.seeds=2",
    "runner.contrastive.epochs=12", "runner.contrastive.dim=32", "runner.examples=1",
)  # fmt: skip
HEADS = ("runner.seeds=2", "runner.contrastive.epochs=12", "runner.contrastive.dim=16", "runner.pictures=false")
QUICK = ("runner.contrastive.epochs=2", "runner.raw_control=false", "runner.pictures=false")
DIRECTIONS = ("image_to_audio", "audio_to_image")


def _metrics(home: Path, k: int = 0) -> dict[str, float]:
    found: dict[str, float] = runs_in(home)[k].data.metrics
    return found


def test_liquids_find_seen_and_unseen_classes_well_above_chance(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun("model=rram_lsm", *LEARNABLE)
    assert status == 0, err
    metrics = _metrics(home)
    for direction in DIRECTIONS:
        for search, chance in (("seen", 1 / 12), ("unseen", 1 / 4), ("all_seen", 1 / 16), ("all_unseen", 1 / 16)):
            key = f"test/{direction}/{search}"
            assert metrics[f"{key}_chance"] == pytest.approx(chance)
            assert metrics[f"{key}_queries"] == (120 if "unseen" not in search else 40)
            assert {f"{key}_std", f"{key}_standard_error", f"{key}_top5", f"{key}_top5_chance"} <= set(metrics)
            assert f"chance {100 * chance:5.2f} %" in out
        assert metrics[f"test/{direction}/seen"] > 0.35 and metrics[f"test/{direction}/unseen"] > 0.42
        assert metrics[f"test/{direction}/harmonic"] > 2 * metrics[f"test/{direction}/harmonic_chance"]
        assert metrics[f"baseline/raw_counts/{direction}/seen"] > 0.35
    assert metrics["valid/accuracy"] > 0.35 and "epoch/train/loss" in metrics
    assert "epoch chosen on validation samples" in out and not any(m.startswith("published/") for m in metrics)
    (run,) = runs_in(home)
    assert run.data.tags["lsmrun.protocol"] == "honest"
    assert {d.dataset.name for d in run.inputs.dataset_inputs} == {"synthetic_pairs/image", "synthetic_pairs/audio"}
    pictures = {f"pictures/{name}.png" for name in ("accuracy", *DIRECTIONS)}
    assert artifacts_of(home, run, "pictures") == pictures
    assert metrics["cost/fwd_macs"] > metrics["cost/bwd_macs_lsm"] > 0 and metrics["energy/hybrid_uJ"] > 0
    for sense in ("image", "audio"):
        assert 0 < metrics[f"device/{sense}_synaptic_operations"] < metrics[f"device/{sense}_synaptic_operations_dense"]
        assert metrics[f"device/{sense}_footprint_bytes"] > 0 and 0 < metrics[f"device/{sense}_activation_sparsity"] < 1
    assert metrics["device/feature_correlation"] == 1, "no effect of the device is on"


def test_what_the_device_does_to_features_is_told_for_each_network(lsmrun: Run, home: Path) -> None:
    command = ("model=rram_lsm", *TINY, "model.n_neurons=20", "device=chip_like", "runner.seeds=3", *QUICK)
    status, _, err = lsmrun(*command)
    assert status == 0, err
    metrics, by_sense = _metrics(home), {}
    for sense in ("image", "audio"):
        by_sense[sense] = history_of(home, runs_in(home)[0], f"network/{sense}_feature_correlation")
        assert len(set(by_sense[sense])) == 3 and all(0.3 < value < 1 for value in by_sense[sense])
        assert metrics[f"device/{sense}_feature_correlation"] == pytest.approx(np.mean(by_sense[sense]))
    assert metrics["device/feature_correlation"] == pytest.approx(np.mean(list(by_sense.values())))


def test_a_second_start_trains_nothing_again_and_finds_the_same(lsmrun: Run, home: Path) -> None:
    command = ("model=rram_lsm", *TINY, *HEADS, "runner.contrastive.epochs=4", "runner.raw_control=false")
    assert lsmrun(*command)[0] == 0
    heads = {path: path.stat().st_mtime_ns for path in (home / "cache").glob("heads-*/result.npz")}
    assert len(heads) == 1
    assert lsmrun(*command, "threads=2")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (home / "cache").glob("heads-*/result.npz")} == heads
    first, second = _metrics(home, 0), _metrics(home, 1)
    assert all(first[name] == second[name] for name in first if name.startswith(("test/", "valid/", "epoch/")))
    assert lsmrun(*command, "resume=false")[0] == 0
    again = _metrics(home, 2)
    assert all(first[name] == again[name] for name in first if name.startswith(("test/", "valid/", "epoch/")))


def test_a_killed_run_goes_on_where_it_was(home: Path, lsmrun: Run) -> None:
    command = ("model=rram_lsm", *TINY, *HEADS, "runner.contrastive.epochs=60", "runner.raw_control=false")
    main = f"import lsm.descent; lsm.descent.SAVE_EVERY_S = 0.0\n{PROGRAM}"
    process = subprocess.Popen([sys.executable, "-c", main, *command], stdout=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not list((home / "cache").glob("heads-*/state.npz")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((home / "cache").glob("heads-*/state.npz")) and not list((home / "cache").glob("heads-*/result.npz"))
    status, out, err = lsmrun(*command)
    assert status == 0, err
    assert "going on with the MLflow run" in out
    assert lsmrun(*command, "resume=false")[0] == 0
    killed, whole = _metrics(home, 0), _metrics(home, 1)
    assert all(killed[name] == whole[name] for name in whole if name.startswith(("test/", "valid/", "network/")))


def test_the_published_protocol_is_named_and_takes_the_best_epoch_of_each_direction(lsmrun: Run, home: Path) -> None:
    both = ("model=rram_lsm", *TINY, *HEADS, "runner.raw_control=false")
    status, out, _ = lsmrun(*both, "runner.protocol=published", "runner.thresholds=[[0,0],[1,1]]")
    assert status == 0 and "epoch chosen on the TEST part, as published" in out
    assert lsmrun(*both)[0] == 0
    published, honest = _metrics(home, 0), _metrics(home, 1)
    assert not any(name.startswith(("test/", "valid/")) for name in published)
    for direction in DIRECTIONS:
        assert published[f"published/{direction}/seen"] >= honest[f"test/{direction}/seen"]
    assert published["published/image_to_audio/reached"] == 1 and published["published/audio_to_image/reached"] < 1


def _maps(folder: Path, sense: str = "") -> tuple[str, ...]:
    """Settings of maps large enough for either sense, 20 neurons."""
    rng = np.random.default_rng(len(sense))
    for matrix in ("input", "recurrent"):
        np.save(folder / f"{sense}{matrix}.npy", rng.uniform(0, 20, (300, 40)))
    names = [
        f'device.map_{matrix}="{folder}/{"{sense}" * bool(sense)}{matrix}.npy"' for matrix in ("input", "recurrent")
    ]
    return ("model=rram_lsm", *TINY, "model.n_neurons=20", "device.draw=map", *names)


def test_a_map_of_conductances_is_one_network(lsmrun: Run, home: Path, tmp_path: Path) -> None:
    maps = _maps(tmp_path)
    assert "runner.seeds=2: device.draw=map is one array" in refused(lsmrun(*maps, *QUICK, "runner.seeds=2"))
    status, out, err = lsmrun(*maps, *QUICK)
    assert status == 0, err
    assert "1 network" in out and "image and audio read the same conductances" in out
    assert not any(name.endswith("_std") for name in _metrics(home))


def test_each_sense_may_have_a_map_of_its_own(
    lsmrun: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _maps(tmp_path, "image")
    maps, drawn = _maps(tmp_path, "audio"), {}

    def spy(device: Any, matrix: str, rows: int, n: int, seed: int, branch: str = "") -> Any:
        drawn[branch, matrix] = draw_pairs(device, matrix, rows, n, seed, branch)
        return drawn[branch, matrix]

    monkeypatch.setattr("lsm.rram.encoder.draw_pairs", spy)
    status, out, err = lsmrun(*maps, *QUICK, "seed=1")
    assert status == 0, err
    for (sense, matrix), pairs in drawn.items():
        np.testing.assert_allclose(pairs.plus, np.load(tmp_path / f"{sense}{matrix}.npy")[: len(pairs.plus), ::2])
    assert {sense for sense, _ in drawn} == {"image", "audio"} and "read the same conductances" not in out
    assert "seed=1: device.draw=map gives every seed the same conductances" in out


@pytest.mark.parametrize("wrong", ["map", "simulator"])
def test_a_device_that_does_not_fit_is_refused_before_a_run_exists(
    lsmrun: Run, home: Path, tmp_path: Path, wrong: str
) -> None:
    command = ("model=rram_lsm", *TINY, "device.simulator=nowhere.Tile")
    if wrong == "map":
        command, path = _maps(tmp_path), tmp_path / "recurrent.npy"
        values = np.load(path)
        values[3, 5] = np.nan
        np.save(path, values)
    status, _, err = lsmrun(*command, *QUICK)
    assert status == 2 and err.count("\n") == 1, err
    assert ("value nan uS at (3, 5) is not a number" if wrong == "map" else "No module named") in err
    assert not runs_in(home)


def test_the_weights_of_the_liquids_are_chosen_by_validation(lsmrun: Run, home: Path) -> None:
    fast = ("runner.contrastive.epochs=6", "runner.raw_control=false", "runner.weights_first=[1e-9,0.3]")
    status, out, err = lsmrun("model=rram_lsm", *TINY, *HEADS, *fast)
    assert status == 0, err
    metrics = _metrics(home)
    assert metrics["chosen/weight_per_uS_image"] == 0.3  # without spikes there is nothing to find
    assert "chosen/weight_per_uS_audio" not in metrics
    assert "weights 2 of 2" in out and "change runner.weights_first" in out


@pytest.mark.parametrize("model", ["rram_lsm", "srnn_ann"])
def test_prototypes_take_queries_from_the_training_part_or_as_published_from_the_test_part(
    lsmrun: Run, home: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Task | None] = []
    fit = Prototypes.fit

    def spied(self: Prototypes, *given: Any, queries: Task | None = None, **more: Any) -> Any:
        taken.append(queries)
        return fit(self, *given, queries=queries, **more)

    monkeypatch.setattr(Prototypes, "fit", spied)
    fast = ("runner.method=prototypes", "runner.prototypes.epochs=8", "runner.seeds=1", "runner.pictures=false")
    common = (f"model={model}", *TINY, *fast, "runner.raw_control=false", "runner.prototypes.learning_rate=0.01")
    assert lsmrun(*common)[0] == 0
    status, _, err = lsmrun(*common, "runner.protocol=published", "runner.thresholds=[[1,1],[1,1]]")
    assert status == 0, err
    own, queries = taken
    assert own is None and queries is not None
    for labels in queries.labels:  # of a class 12 samples train, 4 validate and 6 test
        assert dict(zip(*np.unique(labels, return_counts=True), strict=True)) == dict.fromkeys((1, 2, 3, 5, 6, 7), 6)
    honest, published = runs_in(home)
    assert honest.data.metrics["test/image_to_audio/seen"] > 1 / 6
    assert honest.data.metrics["valid/accuracy"] == max(history_of(home, honest, "epoch/valid/accuracy"))
    for direction in DIRECTIONS:
        best = max(history_of(home, published, f"epoch/published/{direction}"))
        assert published.data.metrics[f"published/{direction}/seen"] == pytest.approx(best)


def test_networks_trained_end_to_end_search_too(lsmrun: Run, home: Path) -> None:
    few = ("runner.contrastive.epochs=5", "runner.contrastive.batch=24", "runner.seeds=2", "runner.pictures=false")
    status, _, err = lsmrun("model=srnn_ann", *TINY, *few, "runner.raw_control=false", "model.n_neurons=60")
    assert status == 0, err
    metrics = _metrics(home)
    assert metrics["test/audio_to_image/seen"] > 1 / 4 and metrics["test/audio_to_image/seen_chance"] == pytest.approx(
        1 / 6
    )
    assert len(list((home / "cache").glob("heads-*/result.npz"))) == 2  # one for each network
    macs = [metrics[f"device/{sense}_synaptic_operations_dense"] for sense in ("image", "audio")]
    assert (
        metrics["cost/fwd_macs"] == sum(macs) + 2 * 60 * 64 and metrics["cost/bwd_macs_srnn"] > metrics["cost/fwd_macs"]
    )
    assert all(metrics[f"device/{sense}_synaptic_operations"] > 0 for sense in ("image", "audio"))
    assert metrics["energy/digital_dense_uJ"] > 0 and metrics["energy/digital_event_uJ"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("model=rram_lsm", "runner=zero_shot", "data=digits"), "data=digits: runner=zero_shot needs pairs of senses"),
        (("model=srnn_ann", "data=synthetic_pairs"), "data=synthetic_pairs: runner=train_network takes one sense"),
        (("model=rram_lsm", *TINY, "runner.contrastive.dim=0"), "runner.contrastive.dim=0: must be a whole number"),
        (("model=rram_lsm", *TINY, "runner.contrastive.loss=sof"), "did you mean soft?"),
        (("model=rram_lsm", *TINY, "runner.method=prototype"), "did you mean prototypes?"),
        (("model=rram_lsm", *TINY, "data.unseen=[0,1,2]"), "level"),
        (("model=rram_lsm", *TINY, "runner.thresholds=[[2,0],[0,0]]"), "runner.thresholds="),
        (("model=srnn_ann", *TINY, "runner.weights_first=[0.1]"), "give model.const=..."),
        (("model=srnn_ann", *TINY, "model.const=[0.5,0]"), "model.const=[0.5,0]: must be"),
        (
            (
                "model=rram_lsm",
                "data=mnist_fsdd",
                "runner=zero_shot",
                "data.protocol=published",
                "runner.protocol=honest",
            ),
            "data=mnist_fsdd has no validation part",
        ),
        (("model=rnn", *TINY, "model.readout=lif"), "readout=lif needs spikes"),
        (("model=nalsm", *TINY), "unknown key"),
        (("model=nalsm", "data=synthetic_pairs", "runner=zero_shot"), "nalsm takes images or events"),
    ],
)
def test_what_cannot_be_searched_is_refused(lsmrun: Run, home: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(lsmrun(*arguments))
    assert not runs_in(home)
