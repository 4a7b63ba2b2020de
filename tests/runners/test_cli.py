"""The command line: what it answers, what it refuses and how it says so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runners.cli import PROGRAM
from runners.compose import IMPLIED, Source
from runners.job import Terminated, interruptible
from runners.options import find_groups
from runners.record import job_of
from tests.command_line import refused, runs_in


def test_help_answers_in_half_a_second_and_lists_every_option(toy_conf: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "--help"]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        text = subprocess.run([*command, "--config-dir", toy_conf], capture_output=True, text=True, check=True).stdout
        times.append(time.perf_counter() - started)
    assert min(times) < 0.5
    for group, options in find_groups(toy_conf).items():
        assert f"{group}=" in text
        for option, description in options.items():
            assert option in text and description in text
    assert "A toy that needs no time." in text
    assert "Examples" in text and "tracking.tags" in text


def test_every_built_in_option_has_a_line_of_description() -> None:
    assert [f"{g}={o}" for g, names in find_groups().items() for o, text in names.items() if not text] == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("model.w_astr=0.1", "model.w_astr=0.1: unknown key; did you mean model.w_astro?"),
        ("+model.gian=2", "model.gian=2: unknown key; did you mean model.gain?"),
        ("modle=nalsm", "modle=nalsm: unknown key; did you mean model?"),
        ("w_astro=0.1", "w_astro=0.1: unknown key; did you mean model.w_astro?"),
        ("+sede=1", "sede=1: unknown key; did you mean seed?"),
        ("tracking.nmae=x", "tracking.nmae=x: unknown key; did you mean tracking.name?"),
        ("model=nalms", "model=nalms: no such option; did you mean nalsm?"),
        ("experiment=toy/sweeep", "experiment=toy/sweeep: no such option; did you mean toy/sweep?"),
        ("toy", "toy: expected KEY=VALUE; did you mean data=toy?"),
        ("seed=[1", "seed=[1: [1 cannot be read as the value of seed"),
        ("hydra/sweeper=basic", "hydra/sweeper=basic: is for sweeps; add --multirun (-m)"),
        ("hydra.launcher.n_jobs=2", "hydra.launcher.n_jobs=2: is for sweeps; add --multirun (-m)"),
        ("--multrun", "--multrun: unknown option; did you mean --multirun?"),
        ("seed=abc", "seed=abc: must be a whole number >= 0"),
        ("seed=-1", "seed=-1: must be a whole number >= 0"),
        ("threads=0", "threads=0: must be a whole number >= 1 or null"),
        ("debug=7", "debug=7: must be true or false"),
        ("seed=${nowhere}", "seed: Interpolation key 'nowhere' not found"),
        ("data.n=0", "data: n=0: must be 1 or more"),
        ("data=molecules", "model=toy data=molecules: toy takes images or events and molecules has molecules;"),
        ("runner.stop=prepare", "toy.bin: no such file"),
        ("tracking.uri=file:/tmp/x", "tracking.uri=file:/tmp/x: "),
        ("tracking.uri=sqlite://", "tracking.uri=sqlite://: must name a file"),
        ("tracking.uri=foo://x", "the MLflow store foo://x cannot be used: "),
        ("=3", "=3: expected KEY=VALUE"),
        ("model={a:1}", "model={a:1}: no such option (allowed: "),
        ("--resolve", "--resolve: goes with --cfg alone"),
    ],
)
def test_wrong_input_is_refused_in_one_line(toy, home: Path, typed: str, said: str) -> None:
    arguments = [typed] if not typed.startswith(("model.w", "modle", "w_astro")) else [typed, "model=nalsm"]
    assert said in refused(toy(*arguments))
    assert runs_in(home) == []
    assert not (home / "hydra").exists()


def test_data_sets_that_fit_are_listed_for_an_impossible_combination(toy) -> None:
    fitting = refused(toy("data=molecules")).partition("data that fit:")[2]
    assert "toy" in fitting and "mnist" in fitting and "molecules" not in fitting


def test_keys_that_a_users_own_section_leaves_out_can_be_typed(toy, toy_conf: Path) -> None:
    (toy_conf / "system").mkdir(exist_ok=True)
    text = "# Mine.\n_target_: mlff.system.System\nname: thf\nsolvents: [C1CCOC1]\nsolvent_amounts: [1.0]\n"
    (toy_conf / "system" / "thf.yaml").write_text(text)
    mine = ("runner=md", "model=mlff", "system=thf")
    status, out, err = toy("--cfg", "job", *mine, "system.n_atoms=130", "system.file_species=[F6P=-1,Li=1]")
    assert status == 0, err
    system = OmegaConf.create(out).system
    assert system.n_atoms == 130 and system.file_species == ["F6P=-1", "Li=1"]
    assert "system.n_atms=130: unknown key; did you mean system.n_atoms?" in refused(toy(*mine, "system.n_atms=130"))


def test_keys_that_a_section_of_the_package_leaves_out_can_be_typed(lsmrun) -> None:
    properties = ("runner=properties", "properties=quick")
    status, out, err = lsmrun("--cfg", "job", *properties, "properties.density.max_temperature_K=900.0")
    assert status == 0, err
    assert OmegaConf.create(out).properties.density.max_temperature_K == 900
    error = refused(lsmrun(*properties, "properties.density.max_temperature_K=900.0", "properties.density.max_temp=1"))
    assert error.startswith("lsmrun: error: properties.density.max_temp=1: unknown key; did you mean")
    # the same hash however it was typed: results on record are found by it
    assert job_of([*properties, "properties.density.max_temperature_K=9.0"]) == job_of(
        [*properties, "+properties.density.max_temperature_K=9.0"]
    )


def test_a_folder_on_hydras_own_search_path_is_as_good_as_config_dir(lsmrun, tmp_path: Path) -> None:
    (tmp_path / "mine" / "system").mkdir(parents=True)
    text = "# Mine.\n_target_: mlff.system.System\nname: thf\nsolvents: [C1CCOC1]\nsolvent_amounts: [1.0]\n"
    (tmp_path / "mine" / "system" / "thf.yaml").write_text(text)
    mine = (f"hydra.searchpath=[file://{tmp_path / 'mine'}]", "runner=md", "model=mlff", "system=thf")
    status, out, err = lsmrun("--cfg", "job", *mine, "system.n_atoms=130")
    assert status == 0, err
    assert OmegaConf.create(out).system.n_atoms == 130


def test_debug_shows_the_traceback(toy) -> None:
    status, _, err = toy("seed=abc", "debug=true")
    assert status == 2
    assert err.startswith("Traceback") and err.rstrip().splitlines()[-1].startswith("lsmrun: error: seed=abc")


def test_cfg_job_prints_the_resolved_configuration(toy, home: Path) -> None:
    status, out, _ = toy("--cfg", "job", "model.gain=2.5", "+tracking.tags.of=seed-${seed}")
    assert status == 0
    config = OmegaConf.create(out)
    assert config.model.gain == 2.5
    assert "seed-0" in out
    assert not (home / "hydra").exists()
    assert "w_astr=1: unknown key" in refused(toy("--cfg", "job", "w_astr=1"))


def test_looking_at_a_configuration_starts_no_sweep(toy, home: Path) -> None:
    assert "--cfg shows the config of one job" in refused(toy("-m", "seed=0,1", "--cfg", "job"))
    assert "--info is about the config of one job" in refused(toy("-m", "seed=0,1", "--info", "config"))
    assert runs_in(home) == [] and not (home / "hydra").exists()


@pytest.mark.parametrize(
    ("arguments", "data", "learning", "w_start"),
    [
        ([], "digits", "astro_stdp", 3.0),
        (["data=mnist"], "mnist", "astro_stdp", 3.0),
        (["model=lsm"], "digits", "none", 0.9),
        (["model=lsm_stdp", "data=nmnist"], "nmnist", "stdp", 3.0),
        (["model=lsm_ap_stdp"], "digits", "ap_stdp", 1.0),
        (["experiment=nalsm/mnist_1000"], "mnist", "astro_stdp", 3.0),
        (["experiment=nalsm/mnist_1000", "data=fashion_mnist", "model.w_start=2"], "fashion_mnist", "astro_stdp", 2),
    ],
)
def test_what_is_typed_wins_over_the_experiment_and_that_over_the_model(
    lsmrun, arguments: list[str], data: str, learning: str, w_start: float
) -> None:
    status, out, err = lsmrun("--cfg", "job", *arguments)
    assert status == 0, err
    config = OmegaConf.create(out)
    assert (config.data.name, config.model.learning, config.model.w_start) == (data, learning, w_start)


def test_a_run_ends_with_its_results_the_run_id_and_the_way_to_the_ui(toy, home: Path) -> None:
    status, out, err = toy("model.gain=1.5")
    assert (status, err) == (0, "")
    *_, accuracy, prepared, last = out.rstrip().splitlines()
    assert accuracy.split() == ["test/accuracy", "0.75"]
    assert prepared.split() == ["prepared", "40"]
    run = runs_in(home)[0]
    assert run.info.run_id in last and "mlflow ui" in last and str(home / "mlflow.db") in last


def test_everything_written_is_under_the_home(toy, home: Path) -> None:
    toy()
    assert list(Path.cwd().iterdir()) == []
    assert list(home.glob("hydra/*/*/lsmrun.log"))


def test_home_and_data_may_be_given_as_keys(toy, home: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LSMRUN_HOME")
    (tmp_path / "other").mkdir()
    (home / "mlflow.db").rename(tmp_path / "other" / "mlflow.db")
    status, _, err = toy(f"paths.home={tmp_path / 'other'}")
    assert status == 0, err
    assert len(runs_in(tmp_path / "other")) == 1
    assert list(Path.cwd().iterdir()) == []


def test_a_runner_may_need_no_sections_and_no_run(toy, home: Path) -> None:
    status, out, _ = toy("runner=silent", "threads=3", "data=molecules")
    assert (status, out) == (0, "silent None 3\n")
    assert runs_in(home) == []


@pytest.mark.parametrize("taken", [".", "hydra", "artifacts"])
def test_a_file_where_runs_are_to_be_written_is_told_before_work_starts(
    toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    home = tmp_path / "mine"
    monkeypatch.setenv("LSMRUN_HOME", str(home))
    (home / taken).parent.mkdir(exist_ok=True)
    (home / taken).write_text("in the way")
    assert f"{home / taken} is a file" in refused(toy())


@pytest.mark.parametrize("arguments", [(), ("-m", "seed=0,1"), ("runner=silent",)])
def test_a_home_that_cannot_be_written_to_is_told_before_work_starts(
    toy, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LSMRUN_HOME", "/proc/mine")
    said = refused(toy(*arguments))
    assert "/proc cannot be written to (" in said and "(LSMRUN_HOME, else paths.home)" in said
    monkeypatch.delenv("LSMRUN_HOME")
    assert "/proc cannot be written to (" in refused(toy("paths.home=/proc/mine", *arguments))
    assert list(Path.cwd().iterdir()) == []


def test_a_bug_is_told_in_one_line_with_the_log(toy, home: Path) -> None:
    status, _, err = toy("runner.stop=error", "model.gain=2")
    assert status == 1
    assert err.startswith("lsmrun: error: RuntimeError: the toy broke (log: ") and err.count("\n") == 1
    assert "debug=true" in err
    log = Path(err.partition("(log: ")[2].partition(")")[0])
    assert "WARNING toy: wears out" in log.read_text() and "Traceback" in log.read_text()
    run = runs_in(home)[0]
    assert run.info.status == "FAILED"
    assert run.data.tags["lsmrun.error"] == "RuntimeError: the toy broke"


def test_an_error_that_an_interruption_causes_is_no_failure() -> None:
    with pytest.raises(Terminated), interruptible() as asked:
        with contextlib.suppress(Terminated):  # as a callback of a compiler does
            os.kill(os.getpid(), signal.SIGTERM)
        assert len(asked) == 1
        raise RuntimeError("no compiled object yet")


@pytest.mark.parametrize(
    ("stop", "status", "said"), [("interrupt", 130, "interrupted"), ("sigterm", 143, "terminated")]
)
def test_an_interrupted_run_is_marked_killed(toy, home: Path, stop: str, status: int, said: str) -> None:
    result, _, err = toy(f"runner.stop={stop}")
    assert (result, err) == (status, f"lsmrun: {said}\n")
    assert runs_in(home)[0].info.status == "KILLED"


def test_a_sweep_is_one_parent_with_a_child_named_by_what_varied(toy, home: Path) -> None:
    status, out, err = toy("-m", "model.gain=0.5,1.0", "seed=0,1", "runner.epochs=2", "tracking.name=study")
    assert status == 0, err
    parent, *children = runs_in(home)
    assert parent.info.run_name == "study" and parent.info.status == "FINISHED"
    assert [c.info.run_name for c in children] == [f"gain={g} seed={s}" for g in ("0.5", "1.0") for s in (0, 1)]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert [c.data.metrics["test/accuracy"] for c in children] == [0.25, 0.25, 0.5, 0.5]
    assert "[job 3] gain=1.0 seed=1\n" in out and out.count("mlflow ui") == 1


def test_a_sweep_may_stand_in_an_experiment(toy, home: Path) -> None:
    status, _, err = toy("-m", "experiment=toy/sweep")
    assert status == 0, err
    assert [r.info.run_name for r in runs_in(home)[1:]] == ["gain=0.5", "gain=1.0"]


def test_one_run_of_a_sweep_is_counted_as_one(toy, home: Path) -> None:
    status, out, err = toy("-m", "model.gain=choice(2)")
    assert status == 0, err
    assert "sweep of 1 run; " in out and runs_in(home)[0].info.run_name == "sweep gain (1 run)"


def test_one_failing_job_does_not_stop_a_sweep_and_shows_in_the_status(toy, home: Path) -> None:
    status, _, err = toy("-m", "model.gain=2,1,0.5", "runner.stop=error")
    assert status == 1
    first, last = err.rstrip().splitlines()
    assert first.startswith("lsmrun: error: job 0 (gain=2): RuntimeError: the toy broke (log: ")
    assert last.startswith("lsmrun: error: 1 of 3 jobs failed")
    parent, *children = runs_in(home)
    assert [c.info.status for c in children] == ["FAILED", "FINISHED", "FINISHED"]
    assert parent.info.status == "FAILED"
    assert len(list(home.glob("hydra/*/*/0/error.txt"))) == 1


@pytest.mark.parametrize(
    "search", [[], ["hydra/sweeper=optuna", "hydra.sweeper.watched=valid/accuracy", "hydra.sweeper.n_trials=2"]]
)
def test_every_failing_job_of_a_sweep_has_its_own_log(toy, home: Path, search: list[str]) -> None:
    status, _, err = toy("-m", *search, "model.gain=2,3", "runner.stop=error")
    assert status == 1, err
    logs = sorted(home.glob("hydra/*/*/*/lsmrun.log"))
    assert len(logs) == 2
    for log in logs:
        assert log.read_text().count("Traceback") == log.read_text().count("toy: wears out") == 1


def test_a_sweep_with_one_wrong_value_does_not_begin(toy, home: Path) -> None:
    assert "data: n=0: must be 1 or more" in refused(toy("-m", "data.n=1,0"))
    assert "nothing varies" in refused(toy("-m", "seed=1"))
    assert "seed=1 comes twice; give each value once" in refused(toy("-m", "seed=0,1,1"))
    assert runs_in(home) == [] and not (home / "hydra").exists()


def test_an_interrupted_sweep_closes_child_and_parent(toy, home: Path) -> None:
    status, _, _ = toy("-m", "seed=0,1", "runner.stop=interrupt")
    assert status == 130
    assert [r.info.status for r in runs_in(home)] == ["KILLED", "KILLED"]


@pytest.mark.parametrize("choices", [c for c, other in IMPLIED.items() if other == "model=mlff"])
def test_a_runner_of_force_fields_takes_one_unless_another_model_is_typed(choices: tuple[str, ...]) -> None:
    assert str(Source().compose([*choices]).model._target_).startswith("mlff.")
    assert str(Source().compose([*choices, "model=lsm"]).model._target_).startswith("lsm.")


@pytest.mark.parametrize("model", ["rram_lsm", "srnn_ann"])
@pytest.mark.parametrize("data", ["nmnist", "ntidigits", "fsdd"])
def test_the_readout_is_that_of_the_experiment_on_these_data_unless_another_is_typed(model: str, data: str) -> None:
    experiment = f"rram/{data}" if model == "rram_lsm" else f"rram/{model}_{data}"
    published = Source().compose([f"experiment={experiment}"]).readout
    assert Source().compose([f"model={model}", f"data={data}"]).readout == published
    typed = Source().compose([f"model={model}", f"data={data}", "readout=ridge"]).readout
    assert typed == Source().compose(["readout=ridge"]).readout
