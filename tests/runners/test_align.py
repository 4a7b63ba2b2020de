"""Alignment from the command line: rounds, targets, a sign that is wrong, what is refused."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mlff
from mlff.alignment import pressure
from mlff.dynamics import simulation as dynamics
from runners import densities
from runners.rounds import Rounds
from runners.side_by_side import side_by_side
from tests.command_line import Run, refused, runs_in
from tests.mlff.liquids import save
from tests.mlff.samples import model

SYSTEM = """\
_target_: mlff.system.System
name: {name}
solvents: [{solvent}]
solvent_amounts: [{n}]
solvent_unit: count
density_g_cm3: 0.95
temperature_K: 300.0
measured:
  - _target_: mlff.system.Values
    source: "made for this test"
    temperature_K: 298.15
    density_g_cm3: {density}
"""
SHORT = (
    "md.length_ps=0.03",
    "md.frame_every_fs=5",
    "md.max_temperature_K=1e6",
    "md.max_force_eV_A=1e6",
    "runner.relaxation.steps=5",
    "runner.relaxation.limit_eV_A=1e6",
    "runner.relaxation.soft_start_ps=0",
    "runner.check_ps=0.02",
    "runner.rounds=1",
    "runner.longest=1",
    "alignment.steps=4",
    "alignment.frames=4",
    "data.n_train=4",
    "data.test=[]",
    "data.valid_fraction=0.02",
)


@pytest.fixture
def typed(tmp_path: Path) -> tuple[str, ...]:
    """A model of random weights, one liquid to align and one to watch."""
    for name, solvent, n, density in (("made_dmc", "DMC", 8, 0.9), ("made_dec", "DEC", 6, 0.97)):
        text = SYSTEM.format(name=name, solvent=solvent, n=n, density=density)
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    folder = save(model().float(), tmp_path / "start")
    systems = (f"runner.systems=[{tmp_path / 'made_dmc.yaml'}]", f"runner.watched=[{tmp_path / 'made_dec.yaml'}]")
    return ("model=mlff", "runner=align", f"checkpoint={folder}", "data=carbonates", *SHORT, *systems)


def test_a_round_is_made_told_and_kept_and_a_killed_job_finds_its_runs_again(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, simulate = Rounds.check_sign, dynamics.simulate
    started: list[str] = []

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    def counted(*arguments: Any, **more: Any) -> Any:
        started.append("run")
        return simulate(*arguments, **more)

    monkeypatch.setattr(Rounds, "check_sign", interrupted)
    assert lsmrun(*typed)[0] == 130
    monkeypatch.setattr(Rounds, "check_sign", check)
    monkeypatch.setattr(dynamics, "simulate", counted)
    status, out, err = lsmrun(*typed)
    assert status == 0, err
    assert len(started) in (3, 4)  # two check the sign, round 1, and the watched one if it is kept; round 0 was on disk
    (run,) = runs_in(home)
    metrics = run.data.metrics
    assert "made_dmc: 0.9000 g/cm3 at 298.15 K (made for this test); target" in out
    assert "made_dec: 0.9700 g/cm3 at 298.15 K (made for this test); watched, not aligned" in out
    assert "warning: sign and unit are not decided in so short a run: in 0.02 ps made_dmc -" in out
    assert "runner.check_ps=4 would decide" in out and "pressure changes asked for: made_dmc +" in out
    assert metrics["rounds/made_dmc_wanted_atm"] > 0
    assert metrics["rounds/made_dmc_between_atm"] == pytest.approx(metrics["rounds/made_dmc_wanted_atm"], rel=0.5)
    assert metrics["sign/made_dmc_moved_g_cm3"] < 0
    for name in ("density/mae_before_g_cm3", "density/mae_after_g_cm3", "watched/mae_before_g_cm3"):
        assert name in metrics
    assert metrics["before/forces_mae_meV_per_A"] > 0 and metrics["forces/mae_meV_per_A"] > 0
    assert mlff.load(next(home.glob("hydra/*/*/model/model.safetensors")))
    assert not list(home.glob("cache/*/trajectory.h5md"))


def test_runs_go_on_until_they_are_precise_and_a_killed_one_equals_the_unbroken_one(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*typed, "runner.longest=3", "runner.precision_g_cm3=1e-9", "runner.final_ps=0.04", "md.save_every_fs=10")
    simulate = dynamics.simulate
    ended: list[int] = []

    def cut(*arguments: Any, save: Callable[[Any], object], **more: Any) -> Any:
        def cut_short(state: Any) -> None:
            save(state)
            if state.step == 40:  # of the second 0.03 ps
                raise KeyboardInterrupt

        return simulate(*arguments, save=cut_short, **more)

    def counted(*arguments: Any, **more: Any) -> Any:
        state = simulate(*arguments, **more)
        ended.append(state.step)
        return state

    monkeypatch.setattr(dynamics, "simulate", cut)
    assert lsmrun(*command)[0] == 130
    monkeypatch.setattr(dynamics, "simulate", counted)
    status, out, err = lsmrun(*command)
    assert status == 0, err
    assert ended[:5] == [60, 90, 60, 90, 20]  # the liquid to align was one ahead of the one to watch; then the sign
    assert "after 0.06 ps, 1e-09 is wanted; on to 0.09 ps" in out
    kept = runs_in(home)[0].data.metrics["alignment/kept_round"]
    assert ended[-2:] == ([40, 40] if kept else [60, 90])
    assert lsmrun(*command, "resume=false")[0] == 0
    resumed, unbroken = (
        {k: v for k, v in run.data.metrics.items() if k.startswith(("rounds/", "density/", "watched/"))}
        for run in runs_in(home)
    )
    assert resumed == unbroken and "density/made_dmc_after_g_cm3" in resumed


def test_several_boxes_of_a_liquid_differ_and_a_killed_run_finds_each(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Rounds.check_sign

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    command = (*typed, "runner.replicas=3")
    monkeypatch.setattr(Rounds, "check_sign", interrupted)
    assert lsmrun(*command)[0] == 130
    kept: dict[str, tuple[float, ...]] = {}
    measured = densities._measured

    def noted(parts: Any, target: Any) -> Any:
        found = measured(parts, target)
        kept.setdefault(target.name, found.runs_g_cm3)
        return found

    monkeypatch.setattr(Rounds, "check_sign", check)
    monkeypatch.setattr(densities, "_measured", noted)
    status, out, err = lsmrun(*command)
    assert status == 0, err
    assert "in density (4 degrees of freedom)" in out  # three boxes each of two liquids
    assert "made_dmc round 0 box 3" not in out  # read from disk
    assert "made_dmc round 1 box 3: done" in out and "made_dmc sign after box 3: done" in out
    (run,) = runs_in(home)
    metrics, values = run.data.metrics, kept["made_dmc"]
    assert len(set(values)) == 3
    assert metrics["density/made_dmc_before_g_cm3"] == pytest.approx(sum(values) / 3, rel=1e-6)
    assert not list(home.glob("cache/*/trajectory.h5md"))


def test_what_boxes_differ_by_is_the_least_that_an_error_bar_says() -> None:
    said: list[str] = []
    asked: Any = SimpleNamespace(context=SimpleNamespace(progress=SimpleNamespace(say=said.append)))

    def liquid(*runs: float) -> Any:
        return densities.Run((), pressure.Measured(sum(runs) / len(runs), 0.001, 5e-5, runs))

    wide, narrow = densities.Densities._with_spread(asked, [liquid(0.98, 1.02), liquid(1.2, 1.2)])
    share = math.sqrt(2 * 0.02**2 / 2)
    assert wide.measured.error_g_cm3 == pytest.approx(4.3027 * share / math.sqrt(2), rel=1e-4)  # t of two degrees
    assert narrow.measured.error_g_cm3 == pytest.approx(1.2 * wide.measured.error_g_cm3)
    assert said == ["boxes of one liquid differ by 2 % in density (2 degrees of freedom)"]
    (alone,) = densities.Densities._with_spread(asked, [liquid(1.0)])
    assert alone.measured.error_g_cm3 == 0.001


def test_boxes_side_by_side_give_the_densities_of_one_after_another(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lsmrun(*typed, "threads=1")[0] == 0
    sent: list[int] = []

    def counted(context: Any, parts: Any) -> Any:
        sent.append(len(parts))
        return side_by_side(context, parts)

    monkeypatch.setattr("runners.side_by_side.WORTH_STEPS", 0)
    monkeypatch.setattr(densities, "side_by_side", counted)
    status, out, err = lsmrun(*typed, "threads=2", "resume=false")
    assert status == 0, err
    assert sent == [2, 2]  # round 0, and old and new model for the sign; round 1 and the last one have one liquid
    assert "made_dec round 0: done in" in out and "made_dmc sign before: done in" in out
    apart, alone = (run.data.metrics for run in runs_in(home))
    for name in ("density/made_dmc_before_g_cm3", "watched/made_dec_before_g_cm3"):
        assert apart[name] == alone[name]  # one thread each in both, so the same bits
    assert apart["sign/made_dmc_moved_g_cm3"] == pytest.approx(alone["sign/made_dmc_moved_g_cm3"], rel=0.02)
    assert not list(home.glob("cache/*/trajectory.h5md"))


def test_a_run_that_goes_on_holds_nothing_twice(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    lengths: list[int] = []

    def counted(density: Any, *more: Any) -> Any:
        lengths.extend(map(len, density))
        return measured(density, *more)

    measured = pressure.measured
    monkeypatch.setattr(pressure, "measured", counted)
    monkeypatch.setattr(Rounds, "align", interrupted)
    assert lsmrun(*typed, "runner.watched=[]")[0] == 130
    (whole,) = home.glob("cache/md-*/trajectory.h5md")
    shutil.copy(whole, whole.with_name("part-000000000020.h5md"))  # what a kill just after the end leaves
    assert lsmrun(*typed, "runner.watched=[]", "runner.longest=2", "runner.precision_g_cm3=1e-9")[0] == 130
    assert lengths == [31, 31, 61]


def test_a_wrong_sign_ends_the_first_round(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Rounds._aligned

    def turned(self: Rounds, index: int, model: Any, liquids: Any) -> Any:
        from dataclasses import replace

        return right(self, index, model, [replace(one, change_atm=-one.change_atm) for one in liquids])

    monkeypatch.setattr(pressure, "SHARES", (0.0, float("inf")))  # in 0.02 ps the volume has but begun to move
    status, out, err = lsmrun(*typed, "runner.watched=[]")
    assert status == 0, err
    assert "sign and unit are right: in 0.02 ps made_dmc -" in out
    monkeypatch.setattr(Rounds, "_aligned", turned)
    status, _, err = lsmrun(*typed, "runner.watched=[]", "seed=1")
    assert status == 1 and "the pressure change has the wrong sign or unit (made_dmc +" in err
    assert len(list(home.glob("hydra/*/*/model"))) == 1


@pytest.mark.parametrize(("moved", "wrong"), [(-0.02, False), (0.02, True), (1e-4, True), (-2.0, True)])
def test_the_first_round_judges_sign_and_unit_where_short_runs_could_not(
    monkeypatch: pytest.MonkeyPatch, moved: float, wrong: bool
) -> None:
    said: list[str] = []
    context: Any = SimpleNamespace(progress=SimpleNamespace(say=said.append, warn=said.append))
    runs: Any = SimpleNamespace(md=SimpleNamespace(length_ps=100.0))
    rounds, target = Rounds(context, None, None, runs), SimpleNamespace(name="x", temperature_K=300.0)  # type: ignore[arg-type]
    rounds.asked = {"x": 300.0}
    monkeypatch.setattr(Rounds, "_slowest_ps", lambda *_: 2.0)
    kappa = 0.02 / 300  # 2 % of 1 g/cm3
    before, after = (
        SimpleNamespace(measured=SimpleNamespace(density_g_cm3=d, error_g_cm3=1e-3, compressibility_per_atm=kappa))
        for d in (1.0, 1.0 + moved)
    )
    first: Any = SimpleNamespace(runs={"x": before})
    if wrong:
        with pytest.raises(ValueError, match="the pressure change has the wrong sign or unit"):
            rounds.check_round([target], first, {"x": after})  # type: ignore[list-item,dict-item]
    else:
        rounds.check_round([target], first, {"x": after})  # type: ignore[list-item,dict-item]
        assert said[0].startswith("sign and unit are right: by round 1 x -0.0200")


def test_a_round_believes_what_it_found_and_what_the_one_before_leads_to_expect() -> None:
    said: list[str] = []
    logged: dict[str, float] = {}
    tracker = SimpleNamespace(metrics=lambda values, step=0: logged.update(values))
    context: Any = SimpleNamespace(progress=SimpleNamespace(say=said.append), tracker=tracker)
    rounds: Any = Rounds(context, None, None, None)  # type: ignore[arg-type]
    target: Any = SimpleNamespace(name="x", density_g_cm3=1.0)

    def closed(index: int, density: float, error: float) -> Any:
        found: Any = SimpleNamespace(measured=pressure.Measured(density, error, 5e-5))
        return rounds.close(index, None, {"x": found}, [target])

    first = closed(0, 1.05, 0.02)
    assert first.believed["x"].density_g_cm3 == 1.05 and first.error_g_cm3 == pytest.approx(0.05)
    assert "with earlier rounds" not in said[0]
    rounds.asked, rounds.shares = {"x": 1000.0}, {"x": 0.5}  # half of it came about
    moved = 1.05 * math.expm1(-5e-5 * 500.0)
    bar = math.hypot(0.02, 0.3 * moved)
    second = closed(1, 1.01, 0.02).believed["x"]
    share = 0.02**2 / (0.02**2 + bar**2)
    assert second.density_g_cm3 == pytest.approx(share * (1.05 + moved) + (1 - share) * 1.01)
    assert second.error_g_cm3 == pytest.approx(0.02 * bar / math.hypot(0.02, bar))
    assert f"({second.density_g_cm3:.4f} ± {second.error_g_cm3:.4f} with earlier rounds)" in said[2]
    assert logged["rounds/x_density_g_cm3"] == 1.01
    assert logged["rounds/mae_g_cm3"] == pytest.approx(abs(second.density_g_cm3 - 1.0))


def test_a_liquid_within_its_error_bar_moves_by_the_best_guess_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = SimpleNamespace(progress=SimpleNamespace(say=lambda _: None))
    alignment: Any = SimpleNamespace(most_atm=500.0, frames=3)
    unused: Any = None
    rounds = Rounds(context, alignment, labels=unused, runs=unused)
    monkeypatch.setattr(Rounds, "_aligned", lambda self, index, model, liquids: liquids)
    run = SimpleNamespace(frames=lambda n: [])
    last: Any = SimpleNamespace(
        model=None, runs={"x": run, "y": run},
        believed={"x": pressure.Measured(1.01, 0.05, 5e-5), "y": pressure.Measured(1.10, 0.05, 5e-5)},
    )  # fmt: skip
    targets: Any = [SimpleNamespace(name=name, density_g_cm3=1.0) for name in "xy"]
    changes = {one.name: one.change_atm for one in rounds.align(1, last, unused, targets)}
    assert changes == pytest.approx({"x": math.log(1.01) / 5e-5, "y": 500.0})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("runner.systems=[]",), "runner.systems: has no value"),
        (("runner.systems=[dmcc]",), "runner.systems: dmcc: no such system; did you mean dmc?"),
        (("runner.systems=[dmc]", "runner.watched=[dmc]"), "runner.watched: dmc is aligned as well"),
        (("md=nvt",), "md.ensemble=nvt: a density needs npt or npt_full"),
        (("md.temperature_K=300",), "every liquid has the temperature of its measured density"),
        (("alignment.most_atm=800",), "alignment.most_atm=800: must be a number <= 500"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    typed: tuple[str, ...], lsmrun: Run, home: Path, more: tuple[str, ...], said: str
) -> None:
    kept = [t for t in typed if not any(t.startswith(m.split("=")[0] + "=") for m in more)]
    if more == ("md=nvt",):
        kept = [t for t in kept if not t.startswith("md.")]
    assert said in refused(lsmrun(*kept, *more)).replace("> 0 and ", "")
    assert runs_in(home) == []
