"""`model=rram_lsm` from the command line: what is recorded, cached, saved, and refused."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from lsm.encode import Dataset, Events, Split
from lsm.rram.constants import EnergyConstants
from lsm.rram.device import Device
from lsm.rram.encoder import build_encoder, calibrated
from lsm.rram.parameters import RramParameters
from lsm.rram.view import steps_for
from runners.check import build
from runners.compose import Source, resolve
from runners.options import describe_file
from runners.plan import make_plan
from runners.rram_liquid import trained
from tests.command_line import Run, artifacts_of, history_of, refused, runs_in, sweep_jobs

SMALL = ("data=digits", "data.n_train=120", "data.n_valid=40", "data.n_test=40", "model.n_neurons=60", "model.steps=20")
TINY = ("model=rram_lsm", *SMALL)
FAST = ("readout.epochs=20", "runner.branching_samples=2")
ROOT = Path(__file__).parents[2]


def told_of(result: tuple[int, str, str]) -> str:
    """The one line of a refusal that came after the data were read, and said so."""
    status, out, err = result
    assert status == 2 and out.startswith("data: done") and out.count("\n") == 1, (out, err)
    assert err.startswith("lsmrun: error: ") and err.count("\n") == 1, err
    return err


def test_a_run_records_accuracy_device_cost_and_energy(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun(*TINY, *FAST, "device=chip_like")
    assert status == 0, err
    (run,) = runs_in(home)
    metrics = run.data.metrics
    assert metrics["test/accuracy"] > 0.4 and metrics["baseline/raw_counts_accuracy"] > 0.4
    assert "test/accuracy" in out and "baseline/chance_accuracy" in out
    assert 0 < metrics["device/feature_correlation"] < 1 and metrics["device/tiles"] == 2
    assert metrics["device/cells"] == 2 * 60 * (784 + 60)
    assert metrics["cost/fwd_macs"] == 20 * 60 * 844 + 600 and metrics["cost/cached_ratio"] > 1
    parts = [metrics[f"energy/{name}_uJ"] for name in ("array", "adc", "row", "neuron", "projection", "io")]
    assert metrics["energy/hybrid_uJ"] == pytest.approx(sum(parts)) and min(parts) > 0
    assert metrics["energy/hybrid_uJ"] < metrics["energy/digital_dense_uJ"]
    assert metrics["liquid/synaptic_operations_per_sample"] == metrics["device/synaptic_operations"] > 0
    params = run.data.params
    assert params["device"] == "chip_like" and params["device.read_noise"] == "0.02"
    assert params["model.n_neurons"] == "60" and "model.device.read_noise" not in params
    assert {"liquid.yaml", "data.yaml", "config.yaml", "model", "pictures"} <= artifacts_of(home, run)
    pictures = artifacts_of(home, run, "pictures")
    assert {f"pictures/{name}.png" for name in ("conductances", "raster", "confusion", "learning")} == pictures


def test_the_published_choice_is_the_best_epoch_on_the_test_part_and_named_so(lsmrun: Run, home: Path) -> None:
    unsteady = ("seed=2", "readout.learning_rate=0.1")  # the best epochs on the two parts are not the same
    command = (*TINY, *FAST, *unsteady, "runner.pictures=false")
    assert lsmrun(*command)[0] == 0
    status, out, err = lsmrun(*command, "runner=classify_published")
    assert status == 0, err
    honest, published = runs_in(home)
    best = max(history_of(home, published, "epoch/test/accuracy"))
    assert published.data.metrics["published/test_accuracy"] == best > honest.data.metrics["test/accuracy"]
    assert honest.data.metrics["valid/accuracy"] == max(history_of(home, honest, "epoch/valid/accuracy"))
    assert (
        published.data.metrics["published/raw_counts_accuracy"] >= honest.data.metrics["baseline/raw_counts_accuracy"]
    )
    named = {"test/accuracy", "valid/accuracy", "epoch/valid/accuracy", "baseline/raw_counts_accuracy"}
    assert not named & set(published.data.metrics) and "epoch/test/accuracy" in published.data.metrics
    assert "published/test_accuracy" in out and published.data.tags["lsmrun.protocol"] == "published"
    assert "lsmrun.protocol" not in honest.data.tags


def test_the_adc_is_calibrated_on_samples_from_all_over_the_training_part() -> None:
    loud = [
        np.arange(64) if k >= 8 else np.arange(1) for k in range(12)
    ]  # one class after the other: the first is quiet
    inputs = Events.from_lists([np.zeros(len(channels), int) for channels in loud], loud, 64, 900)
    split = Split(inputs, np.repeat([0, 1], [8, 4]), tuple(map(str, range(12))))
    encoding = {"kind": "ntidigits", "n_channels": 64, "n_steps": 900}
    dataset = Dataset("toy", ("quiet", "loud"), split, split, split, encoding, "made up", {}, {})
    parameters = RramParameters(n_neurons=20, device=Device(adc_bits=8, adc_samples=4))
    context = SimpleNamespace(
        phase=lambda name: nullcontext(), tracker=SimpleNamespace(yaml=lambda *_: None), threads=1
    )
    found = trained(context, parameters, dataset, 0).encoder.crossbar.full_scale_uS
    complete = parameters.for_data(encoding)
    wanted = calibrated(build_encoder(complete, 64, 0), steps_for(encoding, complete, inputs)).crossbar.full_scale_uS
    np.testing.assert_array_equal(found, wanted)


def test_an_ideal_device_is_its_own_reference(lsmrun: Run, home: Path) -> None:
    assert lsmrun(*TINY, *FAST, "runner.pictures=false", "energy.e_adc_pJ=0")[0] == 0
    metrics = runs_in(home)[0].data.metrics
    assert metrics["device/feature_correlation"] == 1.0 and metrics["energy/adc_uJ"] == 0


def test_counts_come_from_the_cache_and_do_not_depend_on_threads(lsmrun: Run, home: Path) -> None:
    command = (*TINY, *FAST, "device=gaussian", "runner.pictures=false", "runner.save_counts=true")
    assert lsmrun(*command, "threads=1")[0] == 0
    stored = sorted(home.glob("cache/rram-*/*.counts.npy"))
    names = [f"{part}.counts.npy" for part in ("test", "test", "train", "valid")]  # test without effects, too
    assert sorted(p.name for p in stored) == names
    before = {p: (p.read_bytes(), (p.parent / f"{p.name[:-11]}.journal").read_text()) for p in stored}
    assert lsmrun(*command, "threads=2", "tracking.name=again")[0] == 0
    assert before == {p: (p.read_bytes(), (p.parent / f"{p.name[:-11]}.journal").read_text()) for p in stored}
    assert lsmrun(*command, "threads=2", "resume=false")[0] == 0
    assert {p: p.read_bytes() for p in stored} == {p: content for p, (content, _) in before.items()}
    first, second, _ = (run.data.metrics["test/accuracy"] for run in runs_in(home))
    assert first == second


def test_a_saved_model_scores_as_it_did(lsmrun: Run, home: Path) -> None:
    assert lsmrun(*TINY, *FAST, "device=chip_like", "runner.pictures=false")[0] == 0
    trained = runs_in(home)[0]
    status, _, err = lsmrun("runner=evaluate", f"checkpoint={trained.info.run_id}")
    assert status == 0, err
    scored = runs_in(home)[-1]
    assert scored.data.metrics["test/accuracy"] == trained.data.metrics["test/accuracy"]


def test_a_saved_model_labels_pictures(lsmrun: Run, home: Path, tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    assert lsmrun(*TINY, *FAST, "runner.pictures=false")[0] == 0
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(3):
        Image.fromarray((load_digits().images[k] * 15.9).astype(np.uint8)).resize((28, 28)).save(folder / f"{k}.png")
    run_id = runs_in(home)[0].info.run_id
    status, _, err = lsmrun("runner=predict", f"checkpoint={run_id}", f"runner.input={folder}")
    assert status == 0, err
    assert len(Path("predictions.csv").read_text().splitlines()) == 4


def test_the_other_runners_take_this_liquid_too(lsmrun: Run, home: Path) -> None:
    fast = ("readout.epochs=10",)
    status, _, err = lsmrun(*TINY, *fast, "runner=join", "runner.liquids=2", "runner.windows=4")
    assert status == 0, err
    status, _, err = lsmrun(*TINY, *fast, "runner=cross_validate", "runner.folds=3")
    assert status == 0, err
    sizes = ("runner.samples=3", "runner.draws=2", "runner.samples_per_class=3", "runner.copied_inputs=1")
    status, _out, err = lsmrun(*TINY, "runner=dynamics", *sizes)
    assert status == 0, err
    joined, folds, dynamics = (run.data.metrics for run in runs_in(home))
    assert joined["readout/features"] == 480 and joined["test/accuracy"] > 0.3
    assert folds["test/accuracy"] > 0.3 and 0 <= folds["paired/p_value"] <= 1
    assert dynamics["liquid/rate_per_step"] > 0 and dynamics["kernel/separation_rank"] > 0
    assert "liquid/rate_hz" not in dynamics, "steps of images have no length"


def test_a_map_of_ones_own_gives_the_weights(lsmrun: Run, home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = {}
    for name, rows in (("input", 784), ("recurrent", 60)):
        paths[name] = tmp_path / f"{name}.npy"
        np.save(paths[name], rng.uniform(0, 20e-6, (rows, 120)))
    maps = (
        "device.draw=map", "device.map_unit=S", f"device.map_input={paths['input']}",
        f"device.map_recurrent={paths['recurrent']}",
    )  # fmt: skip
    assert lsmrun(*TINY, *FAST, *maps, "runner.pictures=false")[0] == 0
    assert runs_in(home)[0].data.metrics["test/accuracy"] > 0.3
    assert (
        "seed=2: device.draw=map gives every seed" in lsmrun(*TINY, *FAST, *maps, "runner.pictures=false", "seed=2")[1]
    )
    copies = ("runner=join", "runner.liquids=2")
    assert "runner.liquids=2: device.draw=map is one array" in refused(lsmrun(*TINY, *maps, *copies))
    assert "nothing conducts" in told_of(lsmrun(*TINY, *maps, "device.map_unit=uS"))
    wider = told_of(lsmrun(*TINY, *maps, "model.n_neurons=61"))
    assert "784 rows of 60 pairs, the liquid needs 784 rows of 61 pairs" in wider
    values = np.load(paths["recurrent"])
    values[3, 5] = -1e-6
    np.save(paths["recurrent"], values)
    assert "value -1e-06 S at (3, 5) is negative" in told_of(lsmrun(*TINY, *maps))
    assert len(runs_in(home)) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("device=chip",), "device=chip: no such option; did you mean chip_like?"),
        (("device.read_noise=-1",), "device.read_noise=-1: must be a number >= 0"),
        (("device.read_nois=0.1",), "did you mean device.read_noise?"),
        (("model.device.read_noise=0.1",), "model.device is the section device; give device.read_noise="),
        (("device.stuck_on=0.7", "device.stuck_off=0.7"), "device: stuck_off=0.7 and stuck_on=0.7: together above 1"),
        (("device.draw=map",), "device: draw=map needs map_input and map_recurrent"),
        (("energy.e_adc_pJ=-2",), "energy.e_adc_pJ=-2: must be a number >= 0 (one conversion)"),
        (("model.weight_per_uS=0",), "model.weight_per_uS=0: must be a number > 0 or null"),
        (("model.polarity=2",), "model.polarity=2"),
    ],
)
def test_bad_input_is_refused_in_one_line(lsmrun: Run, wrong: tuple[str, ...], told: str) -> None:
    assert told in refused(lsmrun("model=rram_lsm", *wrong))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("device.simulator=nowhere.Tile", "device.simulator=nowhere.Tile: No module named"),
        ("data=synthetic_pairs", "these are pairs of two senses, which runner=zero_shot takes"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_a_run_exists(
    lsmrun: Run, home: Path, wrong: str, told: str
) -> None:
    assert told in told_of(lsmrun("model=rram_lsm", wrong)) and not runs_in(home)


def test_a_model_without_a_device_says_so(lsmrun: Run) -> None:
    assert "device=chip_like: model=nalsm has no device" in refused(lsmrun("model=nalsm", "device=chip_like"))


# --- configuration files


def _section(name: str, path: str) -> dict[str, Any]:
    values = yaml.safe_load((ROOT / "conf" / path).read_text())
    return values.get(name, values)


def test_defaults_in_conf_are_those_of_the_classes() -> None:
    assert build(_section("", "device/ideal.yaml"), "device") == Device()
    model = _section("model", "model/rram_lsm.yaml")
    assert model.pop("device") == "${device}" and model.pop("energy") == "${energy}"
    assert set(model) | {"device", "energy"} == {*RramParameters.__pydantic_fields__, "_target_"}
    assert build(model, "model") == RramParameters()


@pytest.mark.parametrize(
    ("option", "draw", "read_noise", "adc_bits"),
    [("ideal", "gaussian", 0, None), ("gaussian", "gaussian", 0.02, 14), ("breakdown", "breakdown", 0, None),
     ("chip_like", "breakdown", 0.02, 14)],
)  # fmt: skip
def test_device_presets(option: str, draw: str, read_noise: float, adc_bits: int | None) -> None:
    cfg = Source().compose(["model=rram_lsm", f"device={option}"])
    plan = make_plan(cfg, cfg.hydra)
    device = plan.parts["model"].device
    assert (device.draw, device.read_noise, device.adc_bits) == (draw, read_noise, adc_bits)
    assert device.stuck_off == device.stuck_on == 0 and device.has_effects == (adc_bits is not None)
    assert isinstance(plan.parts["model"].energy, EnergyConstants)


def test_the_probe_of_ntidigits_is_the_published_one() -> None:
    cfg = Source().compose(["model=rram_lsm", "data=ntidigits", "readout=linear_probe_ntidigits"])
    readout = build(resolve(cfg)["readout"], "readout")
    assert (readout.epochs, readout.batch, readout.learning_rate, readout.weight_decay) == (600, 256, 6e-4, 0.01)


# --- device studies

STUDIES = {
    "read_noise": ("device.read_noise", 0, 1, 10),
    "stuck_off": ("device.stuck_off", 0, 0.5, 8),
    "stuck_on": ("device.stuck_on", 0, 0.2, 7),
    "adc_bits": ("device.adc_bits", 4, 14, 8),
    "drift": ("device.drift_time_s", 1, 1e8, 5),
    "levels": ("device.levels", 2, 256, 6),
    "ir_drop": ("device.row_ohm", 0, 1, 6),
    "size": ("model.n_neurons", 50, 1600, 6),
    "devices": ("device.draw", "gaussian", "breakdown", 4),
}
"""Key, first and last value and number of settings of each study."""


def test_every_study_is_tested() -> None:
    found = {p.stem.removeprefix("robustness_") for p in (ROOT / "conf/experiment/rram").glob("robustness_*.yaml")}
    assert found == {*STUDIES, "seeds"}


def test_the_study_of_seeds_averages_over_more_and_more_liquids_that_no_group_shares() -> None:
    plans = [make_plan(cfg, cfg.hydra) for cfg in map(Source().compose, sweep_jobs("rram/robustness_seeds"))]
    groups = [(p.runner.seeds, p.config["seed"]) for p in plans]
    assert len(groups) == len(set(groups)) == 18 and {n for n, _ in groups} == {1, 2, 3, 5, 10, 20}
    assert {plan.config["tracking"]["tags"]["study"] for plan in plans} == {"seeds"}
    assert {plan.choices["device"] for plan in plans} == {"chip_like"}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_varies_what_its_name_says_over_seeds(study: str) -> None:
    name = f"rram/robustness_{study}"
    jobs, (key, first, last, settings) = sweep_jobs(name), STUDIES[study]
    plans = [make_plan(cfg, cfg.hydra) for cfg in map(Source().compose, (jobs[0], jobs[-1]))]
    section, _, field = key.partition(".")
    assert [plan.config[section][field] for plan in plans] == [first, last]
    seeds = 10 if study == "devices" else 5
    assert len(jobs) == len(set(map(tuple, jobs))) == settings * seeds
    for plan in plans:
        assert plan.config["tracking"]["tags"] == {"study": study} and plan.choices["data"] == "nmnist_sim"
        assert describe_file(ROOT / "conf/experiment" / f"{name}.yaml").startswith("Device study: ")
        gain = (plan.config["model"]["weight_per_uS"] or 0.07) * (plan.config["model"]["n_neurons"] or 200) ** 0.5
        assert gain == pytest.approx(0.07 * 200**0.5, rel=2e-3)


def test_a_tiny_study_is_drawn_in_one_picture(lsmrun: Run, home: Path) -> None:
    command = ("-m", "experiment=rram/robustness_read_noise", *SMALL, "readout.epochs=5")
    status, _, err = lsmrun(*command, "device.read_noise=0,0.1,1", "seed=0,1")
    assert status == 0, err
    told = ("runner.metrics=[test/accuracy,device/feature_correlation]", "runner.against=device.read_noise")
    status, _, err = lsmrun("runner=compare", "runner.filter=\"tags.study = 'read_noise'\"", *told, "runner.drawn=2")
    assert status == 0, err
    rows = [line.split(",") for line in Path("comparison/comparison.csv").read_text().splitlines()]
    column = rows[0].index("device/feature_correlation")
    correlations = [float(row[column]) for row in rows[1:]]
    assert correlations[0] == 1 and correlations == sorted(correlations, reverse=True) and len(correlations) == 3
    assert Path("comparison/comparison.png").stat().st_size > 5000
