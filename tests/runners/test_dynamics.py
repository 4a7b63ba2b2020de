"""The dynamics runner: its numbers against the core's, what it refuses, and its pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lsm.avalanches import Avalanches, PowerLaw
from lsm.encode import Events, image_rates
from runners.kernel_ranks import NoiseSettings, noisy_copies, noisy_set, score_of
from runners.plots import dynamics as plots
from tests.command_line import Run, artifacts_of, history_of, runs_in
from tests.figures import drawn

TINY = (
    "runner=dynamics", "data=digits", "model.n_neurons=80", "model.init_snippets=500", "model.run_ms=60",
    "data.n_train=100", "data.n_valid=30", "data.n_test=60", "runner.samples=6", "runner.samples_per_class=4",
    "runner.draws=3", "runner.copied_inputs=2",
)  # fmt: skip


def test_a_run_measures_and_draws_everything(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun(*TINY)
    assert status == 0, err
    (run,) = runs_in(home)
    metrics = run.data.metrics
    assert {"liquid/branching_factor", "liquid/branching_factor_std", "kernel/separation_rank"} <= set(metrics)
    assert "kernel/generalisation_rank" in out and "liquid/branching_factor" in out
    names = ("branching", "rates", "population", "synchrony", "avalanches", "astrocyte", "kernel")
    assert artifacts_of(home, run, "pictures") == {f"pictures/{name}.png" for name in names}
    assert metrics["kernel/columns"] == 40
    assert metrics["kernel/separation_rank"] <= 40 and metrics["kernel/generalisation_rank"] <= 40
    difference = metrics["kernel/separation_rank"] - metrics["kernel/generalisation_rank"]
    assert metrics["kernel/quality"] == pytest.approx(difference)
    assert metrics["kernel/separation_effective_rank"] > metrics["kernel/generalisation_effective_rank"]
    share = 0.8 * metrics["liquid/rate_excitatory_hz"] + 0.2 * metrics["liquid/rate_inhibitory_hz"]
    assert metrics["liquid/spikes_per_ms"] * 1000 / 80 == pytest.approx(share)
    assert metrics["liquid/rate_hz"] == pytest.approx(share)  # of the same samples
    eta = history_of(home, run, "astrocyte/eta")
    assert len(eta) == 60 and eta[0] == pytest.approx(0.15) and eta[50] == pytest.approx(0.0908, abs=1e-4)
    assert metrics["astrocyte/eta_50ms"] == eta[50]


def test_equal_numbers_for_any_number_of_threads(lsmrun: Run, home: Path) -> None:
    found = []
    for threads in (1, 2):
        status, _, err = lsmrun(*TINY, "runner.pictures=false", f"threads={threads}", "resume=false")
        assert status == 0, err
        metrics = runs_in(home)[-1].data.metrics
        found.append({k: v for k, v in metrics.items() if not k.startswith(("time/", "cost/"))})
    assert found[0] == found[1]


def test_a_static_liquid_has_no_astrocyte_and_its_branching_factor_is_that_of_classify(lsmrun: Run, home: Path) -> None:
    small = (*TINY[1:8], "model=lsm", "runner.pictures=false")
    status, _, err = lsmrun(*small, "runner=dynamics", "runner.samples=6", "runner.kernel=false")
    assert status == 0, err
    dynamics = runs_in(home)[-1].data.metrics
    assert not any(name.startswith(("astrocyte/", "kernel/")) for name in dynamics)
    more = ("runner=classify", "runner.branching_samples=6", "runner.raw_control=false", "readout.epochs=2")
    status, _, err = lsmrun(*small, *more)
    assert status == 0, err
    assert runs_in(home)[-1].data.metrics["liquid/branching_factor"] == dynamics["liquid/branching_factor"]


def test_a_silent_liquid_gives_no_numbers_that_are_none(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun(*TINY, "model=lsm", "model.w_start=0.01")
    assert status == 0, err
    metrics = runs_in(home)[-1].data.metrics
    assert "6 of 6 samples evoke no spike" in out
    assert "the liquid is silent" in out and "liquid/branching_factor" not in metrics
    assert metrics["liquid/rate_hz"] == 0 and metrics["kernel/separation_rank"] == 0
    assert metrics["liquid/silent_neurons"] == 80 and metrics["avalanche/number"] == 0


def test_more_columns_than_the_test_split_has_are_refused_in_one_line(lsmrun: Run) -> None:
    status, _, err = lsmrun(*TINY, "runner.samples_per_class=100")
    assert status == 2 and len(err.strip().splitlines()) == 1
    assert "runner.samples_per_class=100" in err and "runner.kernel=false" in err


def test_the_published_noise_moves_whole_samples_and_raises_the_drive() -> None:
    rng = np.random.default_rng(0)
    plain, paper = NoiseSettings(False, 125.0, 10.0, 25.0), NoiseSettings(True, 125.0, 10.0, 25.0)
    images = np.zeros((20, 28, 28), np.uint8)
    images[:, 10:18, 10:18] = 200
    rates = image_rates(images, 1 / 20)
    drive = [
        float((r.scale * r.pixels.sum(axis=1, dtype=int)).mean())
        for r in (rates, noisy_set(rates, plain, 250, rng), noisy_set(rates, paper, 250, rng))
    ]
    assert drive[1] == pytest.approx(drive[0]) and drive[2] > 3 * drive[0]
    events = Events.from_lists([np.full(50, 100)] * 2, [np.arange(50)] * 2, 50, 300)
    spread = [np.ptp(noisy_set(events, noise, 250, rng).packed[:50] >> 16) for noise in (plain, paper)]
    assert spread[0] > 10 and spread[1] == 0
    same = noisy_copies(events, 1, 3, paper, 250, rng)  # copies of one input always differ event by event
    assert len(same) == 3 and np.ptp(same.packed[:50] >> 16) > 10
    bright = noisy_copies(rates, 0, 50, plain, 250, rng).pixels[:, 10 * 28 + 10]
    assert 15 < bright.std() < 30


def test_avalanches_are_drawn_as_the_share_that_is_as_large() -> None:
    waves = {
        "measured": Avalanches(np.array([1, 1, 2, 4]), np.array([1, 1, 1, 2])),
        "shuffled": Avalanches(np.array([1, 3]), np.array([1, 1])),
    }
    fit = PowerLaw(2.0, 0.1, 2, 2, 0.2, -5.0)
    sizes, durations = drawn(plots.avalanches(waves, {"sizes": fit, "durations": None}))
    measured, control, law = sizes.lines
    assert measured.get_xydata().tolist() == [[1, 1], [2, 0.5], [4, 0.25]]
    assert control.get_xydata().tolist() == [[1, 1], [3, 0.5]]
    assert law.get_xydata()[0].tolist() == [2, 0.5] and "worse than exponential" in law.get_label()
    assert len(durations.lines) == 2


def test_pictures_of_silent_liquids_are_still_pictures() -> None:
    none = Avalanches(np.zeros(0, np.int64), np.zeros(0, np.int64))
    waves = {"measured": none, "shuffled": none}
    drawn(plots.avalanches(waves, {"sizes": None, "durations": None}))
    drawn(plots.branching([float("nan")] * 3, np.zeros(3)))
    drawn(plots.synchrony([float("nan")], [float("nan")]))
    drawn(plots.rates({"excitatory": np.zeros(8), "inhibitory": np.zeros(2)}))
    zero = dict.fromkeys(("separation", "noisy", "generalisation"), np.zeros(4))
    drawn(plots.kernel(zero, {kind: [0] for kind in zero}))


def test_the_astrocyte_is_drawn_as_mean_and_as_ratio_to_the_learning_rate() -> None:
    top, bottom = drawn(plots.astrocyte(np.array([[0.2, 0.1], [0.4, 0.3]]), np.array([0.1, 0.1])))
    assert top.lines[0].get_ydata().tolist() == pytest.approx([0.3, 0.2])
    assert bottom.lines[0].get_ydata().tolist() == pytest.approx([3, 2])


def test_the_runner_loads_neither_numba_nor_matplotlib_until_it_runs() -> None:
    code = "import sys, runners.dynamics, runners.plots.dynamics; print({'numba', 'matplotlib', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_only_ranks_of_the_published_size_are_scored() -> None:
    ranks = {"kernel/columns": 1000.0, "kernel/separation_rank": 994.22, "kernel/noisy_rank": 986.44}
    assert score_of(ranks, 1000) == {"kernel/score": pytest.approx(0.869, abs=5e-4)}
    assert score_of(ranks, 8000) == score_of(ranks | {"kernel/columns": 500.0}, 1000) == {}
