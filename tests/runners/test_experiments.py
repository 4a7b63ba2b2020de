"""Every experiment file: it composes, builds, says what it is, and tiny versions of each kind run to the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.compose import Source
from runners.options import CONF, describe_file
from runners.plan import make_plan
from tests.command_line import Run, experiment_plan, runs_in, sweep_jobs
from tests.staged import DATA

NAMES = sorted(str(p.relative_to(CONF / "experiment").with_suffix("")) for p in CONF.glob("experiment/nalsm/*.yaml"))
SINGLE = [name for name in NAMES if not name.startswith(("nalsm/sweep_", "nalsm/tune_"))]
SWEEPS = [name for name in NAMES if name not in SINGLE]
LEARNING = {"lsm_stdp": "stdp", "lsm_ap_stdp": "ap_stdp", "lsm": "none"}


@pytest.mark.parametrize("name", SINGLE)
def test_an_experiment_is_what_its_name_says(name: str) -> None:
    plan = experiment_plan(name)
    model, short = plan.parts["model"], name.removeprefix("nalsm/")
    expected = next((learning for stem, learning in LEARNING.items() if short.startswith(f"{stem}_")), "astro_stdp")
    assert model.learning == expected
    assert plan.config["data"]["name"] in short
    assert model.n_neurons == (8000 if short.endswith("_8000") else 1000)
    assert model.w_astro == (0.0075 if short.endswith("_8000") else 0.015)
    assert model.run_plastic == ("frozen" not in short)
    assert plan.choices["runner"] == ("dynamics" if "kernel_quality" in short else plan.choices["runner"])
    if "kernel_quality" in short:
        assert plan.runner.noise == "paper" and plan.runner.pixel_noise == 125 and plan.runner.draws == 20
    assert describe_file(CONF / "experiment" / f"{name}.yaml").endswith(".")


VARIED = {"w_astro": [0.002, 0.2, 7], "astro_density": [0.1, 1.0, 6], "n_neurons": [125, 8000, 7]}
"""First value, last value and number of jobs of a sweep."""


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_varies_what_its_name_says(name: str) -> None:
    jobs, short = sweep_jobs(name), name.removeprefix("nalsm/")
    assert len({tuple(job) for job in jobs}) == len(jobs) > 5
    first, last = (make_plan(cfg, cfg.hydra) for cfg in map(Source().compose, (jobs[0], jobs[-1])))
    key = next(key for key in (*VARIED, "w_start", "ap_stdp", "init_snippets") if f"_{key}_" in short)
    keys = ["calcium_threshold", "calcium_width"] if key == "ap_stdp" else [key]
    assert all(getattr(first.parts["model"], k) < getattr(last.parts["model"], k) for k in keys)
    if key in VARIED:
        assert [first.config["model"][key], last.config["model"][key], len(jobs)] == VARIED[key]
    if key == "n_neurons":
        assert [p.parts["model"].w_astro * p.parts["model"].n_neurons for p in (first, last)] == pytest.approx([15, 15])
    if short.startswith("tune_"):
        assert first.config["data"]["n_train"] == 8000
    assert describe_file(CONF / "experiment" / f"{name}.yaml").endswith(".")


def test_the_sweeps_of_the_paper_are_there() -> None:
    wanted = {
        f"nalsm/sweep_{key}_{data}" for key in ("w_astro", "w_start", "astro_density") for data in ("mnist", "nmnist")
    }
    assert wanted | {"nalsm/sweep_init_snippets_mnist", "nalsm/sweep_n_neurons_mnist"} <= set(SWEEPS)


TINY = ("model.n_neurons=60", "model.init_snippets=100", "model.run_ms=40")
TINY_DATA = ("data.n_train=100", "data.n_valid=30", "data.n_test=30")
TINY_READOUT = ("readout.epochs=3", "runner.raw_control=false", "runner.pictures=false", "runner.branching_samples=2")


def _run(lsmrun: Run, name: str, *more: str, folder: str = "mnist") -> str:
    if not (DATA / folder).is_dir():
        pytest.skip(f"{folder}/ is missing in the data folder: set LSMRUN_DATA")
    status, out, err = lsmrun(f"experiment=nalsm/{name}", f"paths.data={DATA}", *TINY, *TINY_DATA, *more)
    assert status == 0, err
    return out


@pytest.mark.parametrize("name", ["mnist_8000", "lsm_stdp_frozen_mnist_1000"])
def test_tiny_experiments_run_to_the_end(lsmrun: Run, name: str) -> None:
    assert "test/accuracy" in _run(lsmrun, name, *TINY_READOUT)


def test_a_tiny_experiment_on_recordings_runs_to_the_end(lsmrun: Run) -> None:
    out = _run(lsmrun, "nmnist_1000", *TINY_READOUT, "data.allow_partial=true", folder="n-mnist")
    assert "test/accuracy" in out


def test_a_tiny_kernel_quality_runs_to_the_end(lsmrun: Run) -> None:
    sizes = ("runner.samples=3", "runner.draws=2", "runner.samples_per_class=3", "runner.copied_inputs=1")
    out = _run(lsmrun, "kernel_quality_mnist", *sizes, "runner.pictures=false")
    assert "kernel/separation_rank" in out and "kernel/noisy_rank" in out


def test_a_tiny_sweep_runs_to_the_end(lsmrun: Run, home: Path) -> None:
    if not (DATA / "mnist").is_dir():
        pytest.skip("mnist/ is missing in the data folder: set LSMRUN_DATA")
    name = "experiment=nalsm/sweep_astro_density_mnist"
    status, _, err = lsmrun("-m", name, f"paths.data={DATA}", *TINY, *TINY_DATA, *TINY_READOUT)
    assert status == 0, err
    jobs = [run for run in runs_in(home) if "mlflow.parentRunId" in run.data.tags]
    assert sorted(float(run.data.params["model.astro_density"]) for run in jobs) == [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert all("test/accuracy" in run.data.metrics for run in jobs)
