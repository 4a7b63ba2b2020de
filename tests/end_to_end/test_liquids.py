"""Tiny versions of what a newcomer does with a liquid: only sizes differ from the real thing."""

from __future__ import annotations

import csv
import functools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from runners.cli import PROGRAM
from tests.command_line import Run, artifacts_of, client_of, refused, runs_in

TINY = (
    "model.n_neurons=80", "model.init_snippets=1500", "model.run_ms=60", "data.n_train=300", "data.n_valid=60",
    "data.n_test=60", "readout.epochs=8", "runner.branching_samples=2",
)  # fmt: skip
LSMRUN = (sys.executable, "-c", PROGRAM)
RESULTS = ("test/accuracy", "valid/accuracy", "train/accuracy", "liquid/branching_factor", "liquid/rate_hz",
           "baseline/raw_counts_accuracy", "init/w_excitatory", "epoch/train/loss")  # fmt: skip


def test_a_run_records_what_it_took_and_what_came_out(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun("data=digits", *TINY, "runner.save_counts=true", "runner.save_rasters=2")
    assert status == 0, err
    (run,) = runs_in(home)
    assert run.info.status == "FINISHED" and run.info.run_id in out
    metrics = run.data.metrics
    assert metrics["test/accuracy"] > 0.5  # far above the tenth of chance, even at this size
    expected = {
        *RESULTS,
        "baseline/chance_accuracy",
        "liquid/synaptic_operations_per_sample",
        "liquid/astrocyte_end",
        "liquid/astrocyte_negative_ms",
        "time/INIT_s",
        "cost/run_s",
    }
    assert expected <= set(metrics)
    assert run.data.params["model.n_neurons"] == "80" and run.data.params["seed"] == "0"
    assert {
        "config.yaml",
        "data.yaml",
        "environment.yaml",
        "model",
        "pictures",
        "counts.npz",
        "rasters",
    } <= artifacts_of(home, run)
    pictures = {"confusion", "init", "learning", "raster", "weights"}
    assert {f"pictures/{name}.png" for name in pictures} == artifacts_of(home, run, "pictures")
    assert {d.dataset.name for d in run.inputs.dataset_inputs} == {"digits"}
    counts = np.load(client_of(home).download_artifacts(run.info.run_id, "counts.npz"))
    assert counts["train_counts"].shape == (300, 80) and counts["test_labels"].shape == (60,)


@pytest.mark.parametrize("model", ["lsm", "lsm_stdp", "lsm_ap_stdp"])
def test_the_baselines_run_on_the_same_kernel(lsmrun: Run, home: Path, model: str) -> None:
    status, _, err = lsmrun(f"model={model}", "data=digits", *TINY)
    assert status == 0, err
    metrics = runs_in(home)[0].data.metrics
    assert metrics["test/accuracy"] > 0.3 and np.isfinite(metrics["liquid/branching_factor"])
    assert ("init/w_excitatory" in metrics) == (model != "lsm")
    assert (metrics["liquid/plastic_updates_per_sample"] > 0) == (model == "lsm_stdp")
    assert not [name for name in metrics if name.startswith("liquid/astrocyte")]


@pytest.mark.parametrize("readout", ["ridge", "logistic", "adadelta"])
def test_every_readout_can_be_chosen_saved_and_scored_again(lsmrun: Run, home: Path, readout: str) -> None:
    tiny = [t for t in TINY if readout == "adadelta" or not t.startswith("readout.")]
    status, _, err = lsmrun(f"readout={readout}", *tiny, "runner.raw_control=false", "runner.pictures=false")
    assert status == 0, err
    first = runs_in(home)[0]
    status, _, err = lsmrun("runner=evaluate", f"checkpoint={first.info.run_id}")
    assert status == 0, err
    again = runs_in(home)[1]
    assert again.data.metrics["test/accuracy"] == first.data.metrics["test/accuracy"]
    status, _, err = lsmrun("runner=evaluate", f"checkpoint={first.info.run_id}", "data.test=mine.xyz")
    assert status == 2 and "data=frames: are frames for force fields, and the checkpoint is a liquid" in err


def test_a_readout_sweep_simulates_once(lsmrun: Run, home: Path) -> None:
    status, _, err = lsmrun("-m", *TINY, "readout.targets=soft,one_hot", "runner.pictures=false")
    assert status == 0, err
    children = [run for run in runs_in(home) if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 2
    assert len(list((home / "cache").glob("init-*"))) == 1 and len(list((home / "cache").glob("counts-*"))) == 3
    assert children[0].data.metrics["liquid/rate_hz"] == children[1].data.metrics["liquid/rate_hz"]


def test_a_damaged_cache_is_detected_and_made_again(lsmrun: Run, home: Path) -> None:
    small = (*TINY, "runner.pictures=false", "runner.raw_control=false")
    assert lsmrun(*small)[0] == 0
    for path in (home / "cache").glob("*/*"):
        if path.suffix in (".npz", ".npy"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(content)
    status, out, _ = lsmrun(*small)
    assert status == 0 and "damaged" in out
    first, second = runs_in(home)
    assert first.data.metrics["test/accuracy"] == second.data.metrics["test/accuracy"]
    assert first.data.metrics["liquid/rate_hz"] == second.data.metrics["liquid/rate_hz"]


USER_READOUT = '''
import numpy as np


class Nearest:
    """Nearest class mean of neurons' shares of the spikes."""

    def __init__(self, power=1.0):
        self.power = power

    def fit(self, train, valid, n_classes, seed):
        x = self.shares(train.counts)
        return Means(np.stack([x[train.labels == c].mean(axis=0) for c in range(n_classes)]), self)

    def shares(self, counts):
        return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)) ** self.power

    def restore(self, arrays):
        return Means(arrays["means"], self)


class Means:
    def __init__(self, means, settings):
        self.means, self.settings = means, settings

    def scores(self, counts):
        return -((self.settings.shares(counts)[:, None] - self.means) ** 2).sum(axis=2)

    def arrays(self):
        return {"means": self.means}
'''


def test_a_users_own_readout_needs_one_yaml_and_one_class(lsmrun: Run, home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "readout").mkdir(parents=True)
    (mine / "nearest_mean.py").write_text(USER_READOUT)
    (mine / "readout" / "nearest.yaml").write_text("# Nearest mean.\n_target_: nearest_mean.Nearest\npower: 0.5\n")
    tiny = [t for t in TINY if not t.startswith("readout.")]
    status, _, err = lsmrun("--config-dir", str(mine), "readout=nearest", "readout.power=1.0", *tiny)
    assert status == 0, err
    run = runs_in(home)[0]
    assert run.data.metrics["test/accuracy"] > 0.4 and run.data.params["readout.power"] == "1.0"
    status, _, err = lsmrun("--config-dir", str(mine), "runner=evaluate", f"checkpoint={run.info.run_id}")
    assert status == 0, err
    status, _, err = lsmrun("--config-dir", str(mine), "readout=nearest", "readout.pwer=1.0", *tiny)
    assert status == 2 and "readout.pwer" in err and "readout.power" in err


SMALL = ("model=lsm", "model.n_neurons=60", "model.run_ms=60", "readout.epochs=3", "data=files", "data.path=pictures",
         "runner.pictures=false", "runner.raw_control=false", "runner.branching_samples=0")  # fmt: skip


def draw_pictures(each: int) -> None:
    """So many pictures of ten classes below the working folder; those that are there already stay."""
    rng = np.random.default_rng(0)
    for label in range(10):
        (Path("pictures") / str(label)).mkdir(parents=True, exist_ok=True)
        for k in range(each):
            pixels = np.zeros((28, 28), np.uint8)
            pixels[2 * label : 2 * label + 6, 4:24] = rng.integers(100, 255, (6, 20))
            Image.fromarray(pixels).save(f"pictures/{label}/{k}.png")


@pytest.fixture
def trained(lsmrun: Run, home: Path) -> Path:
    """The folder of a small model that was trained on the pictures of the working folder."""
    draw_pictures(8)
    status, _, err = lsmrun(*SMALL, "seed=3")
    assert status == 0, err
    return next(home.glob("hydra/*/*/model"))


@pytest.mark.parametrize("earlier", [False, True])
def test_an_evaluated_model_is_recorded_as_what_it_is(lsmrun: Run, home: Path, trained: Path, earlier: bool) -> None:
    if earlier:  # versions that kept neither choices nor checksums
        about = OmegaConf.load(trained / "model.yaml")
        OmegaConf.save({k: v for k, v in about.items() if k not in ("choices", "checksums")}, trained / "model.yaml")
    status, _, err = lsmrun("runner=evaluate", f"checkpoint={trained}", "runner.pictures=false")
    assert status == 0, err
    made, scored = runs_in(home)
    assert client_of(home).get_experiment(scored.info.experiment_id).name == "evaluate/files"
    assert scored.data.metrics["test/accuracy"] == made.data.metrics["test/accuracy"]
    differ = {
        k for k in {*made.data.params, *scored.data.params} if made.data.params.get(k) != scored.data.params.get(k)
    }
    unknown = {"model", "readout"} if earlier else set()
    assert {k for k in differ if not k.startswith("runner")} == {"checkpoint", *unknown}
    if not earlier:
        assert scored.info.run_name == "lsm pictures=false"
        assert [scored.data.tags[f"lsmrun.{k}"] for k in ("model", "data", "readout")] == ["lsm", "files", "softmax"]
    status, _, err = lsmrun("runner=evaluate", f"checkpoint={trained}", "data=digits", "data.n_test=20")
    assert status == 0, err
    params = runs_in(home)[-1].data.params
    assert (params["data"], params["data.n_test"], params["model.n_neurons"]) == ("digits", "20", "60")


def test_a_model_is_not_scored_on_its_own_data_after_they_changed(
    lsmrun: Run, home: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    score = ("runner=evaluate", f"checkpoint={trained}", "runner.pictures=false")
    draw_pictures(9)
    status, _, said = lsmrun(*score)
    assert status == 2 and said.count("\n") == 1 and len(runs_in(home)) == 1
    assert f"checkpoint={trained}: its data have changed" in said and "name them: data=files data.path=pictures" in said
    status, _, err = lsmrun(*score, "data=files", "data.path=pictures")
    assert status == 0, err
    monkeypatch.chdir(tmp_path)
    said = refused(lsmrun(*score))
    assert f"checkpoint={trained}: the data it was trained on cannot be loaded (data.path=pictures: no such" in said
    assert "where they are now: data=files data.path=pictures" in said


@pytest.mark.parametrize("was", ["n_neurons: 60", "- '9'"])
def test_a_model_whose_files_do_not_fit_each_other_is_refused(lsmrun: Run, trained: Path, was: str) -> None:
    about = trained / "model.yaml"
    text = about.read_text().replace(was, "n_neurons: 50" if was.startswith("n") else "- '9'\n- '10'", 1)
    about.write_text(text)
    assert f"{trained} cannot be read (" in refused(lsmrun("runner=evaluate", f"checkpoint={trained}"))


def test_a_saved_model_is_readable_as_the_umask_says(trained: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in trained.iterdir()}
    assert len(set(modes.values())) == 1 and modes["model.safetensors"] & 0o044, modes


def test_predict_labels_new_files(lsmrun: Run, home: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    from lsm.datasets.digits import Digits

    assert lsmrun(*TINY, "runner.raw_control=false", "runner.pictures=false")[0] == 0
    run_id = runs_in(home)[0].info.run_id
    dataset = Digits().load(tmp_path, 0)
    pictures = tmp_path / "new"
    pictures.mkdir()
    for k in range(20):
        Image.fromarray(dataset.test.inputs.pixels[k].reshape(28, 28)).save(pictures / f"{k:02d}.png")
    table = tmp_path / "labels.csv"
    status, _, err = lsmrun(
        "runner=predict", f"checkpoint={run_id}", f"runner.input={pictures}", f"runner.output={table}"
    )
    assert status == 0, err
    rows = list(csv.DictReader(table.open()))
    right = [row["label"] == str(label) for row, label in zip(rows, dataset.test.labels[:20], strict=True)]
    assert len(rows) == 20 and np.mean(right) > 0.5 and len(load_digits().target) == 1797
    assert len(runs_in(home)) == 1  # labelling files leaves no run behind
    folder = tmp_path / "folder"
    folder.mkdir()
    for output, said in (
        (folder, "is a folder"),
        ("/proc/x.csv", "/proc cannot be written to"),
        ("no/x.csv", "no folder"),
    ):
        status, out, err = lsmrun(
            "runner=predict", f"checkpoint={run_id}", f"runner.input={pictures}", f"runner.output={output}"
        )
        assert status == 2 and said in err and f"runner.output={output}" in err and out == ""
    status, _, err = lsmrun("runner=predict", f"checkpoint={run_id}", "runner.input=nowhere.png")
    assert status == 2 and "nowhere.png" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("runner=evaluate",), "checkpoint"),
        (("runner=evaluate", "checkpoint=no/such.safetensors"), "no/such.safetensors"),
        (("runner=evaluate", "checkpoint=0123456789abcdef"), "0123456789abcdef"),
        (("runner=predict", "checkpoint=0123456789abcdef"), "runner.input"),
        (("data.n_train=100000",), "n_train"),
        (("checkpoint=abc",), "checkpoint=abc: runner=classify reads no saved model; runner=evaluate scores one"),
        (("runner=dynamics", "checkpoint=[a,b]"), "checkpoint=[a,b]: runner=dynamics reads no saved model"),
        (("data=nmnist", "data.path=/nowhere"), "/nowhere"),
    ],
)
def test_what_cannot_be_is_told_in_one_line_and_leaves_no_run(
    lsmrun: Run, home: Path, arguments: tuple[str, ...], told: str
) -> None:
    status, _, err = lsmrun(*arguments)
    assert status == 2 and told in err and len(err.strip().splitlines()) == 1
    assert not runs_in(home)


@pytest.mark.parametrize(
    ("changes", "told"), [(("model.w_start=0.01",), "silent"), (("model.w_max=60", "model.w_start=60"), "saturated")]
)
def test_a_silent_or_saturated_liquid_is_told_and_gives_numbers(
    lsmrun: Run, home: Path, changes: tuple[str, ...], told: str
) -> None:
    status, out, err = lsmrun("model=lsm", *TINY, *changes, "runner.pictures=false", "runner.raw_control=false")
    assert status == 0, err
    assert f"the liquid is {told}" in out
    assert 0 <= runs_in(home)[0].data.metrics["test/accuracy"] <= 1


def test_cross_validation_tests_every_sample_once(lsmrun: Run, home: Path) -> None:
    status, _, err = lsmrun("runner=cross_validate", "runner.folds=3", *[t for t in TINY if "branching" not in t])
    assert status == 0, err
    run = runs_in(home)[0]
    table = Path(client_of(home).download_artifacts(run.info.run_id, "predictions.csv")).read_text().splitlines()
    assert len(table) == 1 + 300 + 60 + 60
    labels, liquid, raw = np.array([row.split(",") for row in table[1:]], int).T
    assert run.data.metrics["test/accuracy"] == pytest.approx(np.mean(labels == liquid)) and liquid.min() >= 0
    only_liquid = np.sum((liquid == labels) & (raw != labels))
    assert run.data.metrics["paired/only_liquid_right"] == only_liquid


# A process that dies without any clean-up, as by `kill -9`, after so many writes of the named kind.
DIE = """
    import os, sys, lsm.readout.linear, runners.checkpoint as c, runners.astro_liquid as liquids, runners.fitting as fitting
    c.Throttle.ready = lambda self: True
    lsm.readout.linear.SAVE_EVERY_S = 0
    left = int(sys.argv[2])
    def dying(write):
        def then_die(*args, **keywords):
            global left
            write(*args, **keywords)
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), 9)
        return then_die
    if sys.argv[1] == "INIT": liquids.write_arrays = dying(liquids.write_arrays)
    if sys.argv[1] == "RUN": c.CountStore.write = dying(c.CountStore.write)
    if sys.argv[1] == "readout": fitting.write_arrays = dying(fitting.write_arrays)
    from runners.cli import main
    sys.exit(main(sys.argv[3:]))
"""


def test_killed_in_any_phase_the_same_command_goes_on_to_the_same_numbers(
    lsmrun: Run, home: Path, tmp_path: Path, empty_store: Path
) -> None:
    command = (*TINY, "model.run_carries_traces=false", "runner.pictures=false", "threads=2")
    assert lsmrun(*command)[0] == 0
    whole = runs_in(home)[0]
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(empty_store, other / "mlflow.db")
    environment = {**os.environ, "LSMRUN_HOME": str(other)}
    for phase, writes in (("INIT", 3), ("RUN", 1), ("RUN", 1), ("readout", 4)):
        script = [sys.executable, "-c", textwrap.dedent(DIE), phase, str(writes), *command]
        died = subprocess.run(script, env=environment, capture_output=True, text=True)
        assert died.returncode == -signal.SIGKILL, died.stderr
    finished = subprocess.run([*LSMRUN, *command], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "going on with" in finished.stdout
    (run,) = runs_in(other)  # one run, from the first start to the end
    assert run.info.status == "FINISHED"
    for name in RESULTS:
        assert run.data.metrics[name] == whole.data.metrics[name], name
    for name in ("epoch/train/loss", "init/w_excitatory"):
        ours, theirs = (
            [(m.step, m.value) for m in client_of(h).get_metric_history(r.info.run_id, name)]
            for h, r in ((other, run), (home, whole))
        )
        assert ours == theirs  # every point once, none lost


def test_ctrl_c_marks_the_run_killed_and_the_next_start_goes_on(home: Path) -> None:
    command = [*LSMRUN, *TINY, "model.init_snippets=2000000", "runner.pictures=false"]
    # a shell that starts the tests in the background makes its children ignore Ctrl-C; a terminal does not
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(home.glob("cache/init-*/init.npz")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    (run,) = runs_in(home)
    assert run.info.status == "KILLED" and "lsmrun.error" in run.data.tags
