"""Experiments of the random-RRAM liquid: each is what its name says, and tiny versions of each kind run to the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsm.rram.view import is_squeezed
from runners.compose import Source
from runners.options import CONF, describe_file
from runners.plan import make_plan
from tests.command_line import Run, experiment_plan, refused, runs_in
from tests.staged import DATA

NAMES = sorted(p.stem for p in CONF.glob("experiment/rram/*.yaml") if not p.stem.startswith("robustness"))
PAIRS = ("mnist_fsdd", "nmnist_ntidigits", "handwriting_emnist", "synthetic_pairs")
SETS = (*PAIRS, "nmnist_sim", "nmnist", "ntidigits", "fsdd")
NETWORKS = ("srnn_ann", "srnn_snn", "rnn")
ENCODINGS = {
    "nmnist": {"kind": "events", "height": 34, "width": 34, "polarities": 2},
    "ntidigits": {"kind": "ntidigits", "n_channels": 64},
}


def _data_of(name: str) -> str:
    return next(s for s in SETS if s in name)


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_is_what_its_name_says(name: str) -> None:
    plan, data = experiment_plan(f"rram/{name}"), _data_of(name)
    choices = plan.choices
    network = next((kind for kind in NETWORKS if name.startswith(kind)), None)
    trained = "srnn_ann" if name.startswith("srnn") and data in PAIRS else network
    assert choices["data"] == data and choices["model"] == (trained or "rram_lsm")
    one_sense = "train_network" if trained else "classify_published" if "published_" in name else "classify"
    wanted = "zero_shot" if data in PAIRS else one_sense
    assert choices["runner"] == ("cross_validate" if "folds" in name else wanted)
    assert describe_file(CONF / "experiment" / "rram" / f"{name}.yaml").endswith(".")
    if not trained:
        assert plan.parts["model"].device.has_effects == (choices["device"] == "chip_like")
        assert (choices["device"] == "chip_like") == ("rram_" in name)


@pytest.mark.parametrize("name", [name for name in NAMES if _data_of(name) in PAIRS])
def test_a_search_says_its_protocol_and_method(name: str) -> None:
    plan = experiment_plan(f"rram/{name}")
    published = "published" in name
    assert (plan.runner.protocol or "honest") == plan.config["data"].get("protocol", "honest")
    assert (plan.config["data"].get("protocol", "honest") == "published") == published
    assert plan.runner.method == ("prototypes" if "prototypes" in name else "contrastive")
    assert plan.runner.learner.standardise != published, "the original does not scale its features"
    assert plan.runner.learner.dim == (128 if "_128_" in name else 256 if "zero_shot" in name and "hand" in name else
                                       plan.runner.learner.dim)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if "_published_" in name and _data_of(name) in PAIRS])
def test_epochs_must_reach_the_published_thresholds_of_the_kind_of_network(name: str) -> None:
    trained = name.startswith("srnn")
    least = {True: ((0, 0), (0, 0)), False: ((0.5, 0.7), (0, 0))} if "handwriting" in name else {
        True: ((0.7, 0.6), (0.65, 0.7)), False: ((0.7, 0.6), (0.65, 0.85))
    }  # fmt: skip
    assert experiment_plan(f"rram/{name}").runner.thresholds == least[trained]


def test_networks_of_brain_and_letters_start_from_the_consts_of_the_recorded_figures() -> None:
    plan = experiment_plan("rram/srnn_clip_published_handwriting_emnist")
    encodings = ({"kind": "handwriting"}, {"kind": "emnist"})
    networks = [plan.parts["model"].of_sense(k).for_data(e, "contrastive")[0] for k, e in enumerate(encodings)]
    assert [network.const for network in networks] == [0.5, 0.1] and plan.runner.learner.dim == 64
    assert plan.runner.learner.temperature == 0.01


@pytest.mark.parametrize("name", [name for name in NAMES if "published_" in name and _data_of(name) not in PAIRS])
def test_one_sense_as_published_has_the_published_rate_order_and_choice(name: str) -> None:
    plan, data = experiment_plan(f"rram/{name}"), _data_of(name)
    if plan.choices["model"] == "rram_lsm":
        readout = plan.parts["readout"]
        assert readout.rate(1000) == {"nmnist": 1e-4, "ntidigits": 6e-4}[data] and not readout.shuffle
        return
    assert plan.runner.protocol == "published"
    network, view = plan.parts["model"].for_data(ENCODINGS[data])
    rates = {"srnn_ann": (1e-4, 5e-4), "srnn_snn": (1e-4, 2e-4), "rnn": (5e-4, 9e-4)}[plan.choices["model"]]
    assert network.rate(50_000) == network.rate(100) == rates[data == "ntidigits"]
    assert is_squeezed(ENCODINGS[data], view) == (data == "ntidigits")
    assert data == "nmnist" or view.bin_ms == (10 if plan.choices["model"] == "srnn_ann" else None)


def test_rows_of_one_sense_with_a_published_figure_are_chosen_by_the_test_part() -> None:
    from runners import record

    path = Path(__file__).resolve().parents[2] / "docs" / "results" / "rram_lsm.yaml"
    rows = [row for t in record.read_tables(path) for row in t.rows if "published/test_accuracy" in row.published]
    assert len(rows) == 10
    assert all("published_" in row.overrides[0] and len(row.overrides) == 1 for row in rows)


def test_rows_with_a_published_figure_beside_them_run_the_published_setting() -> None:
    from runners import record

    path = Path(__file__).resolve().parents[2] / "docs" / "results" / "rram_lsm.yaml"
    rows = {row.overrides: row for table in record.read_tables(path) for row in table.rows if "search" in table.name}
    for row in rows.values():
        cfg = Source().compose(list(row.overrides))
        plan = make_plan(cfg, cfg.hydra)
        published = plan.config["data"]["protocol"] == "published"
        assert published == bool(row.published) or "mnist_fsdd" in row.overrides[0], row.name
        assert plan.runner.learner.standardise != published or "scaled" in row.name, row.name
        trained = plan.choices["model"] == "srnn_ann"
        if published and "ntidigits" in row.overrides[0]:
            assert plan.runner.thresholds[1] == ((0.65, 0.7) if trained else (0.65, 0.85)), row.name


def test_every_row_of_the_results_is_an_experiment_that_composes() -> None:
    from runners import record

    path = Path(__file__).resolve().parents[2] / "docs" / "results" / "rram_lsm.yaml"
    tables = record.read_tables(path)
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert all(record.MARK.format(name=table.name) in text for table in tables)
    rows = [row for table in tables for row in table.rows]
    assert len(rows) > 50 and {row.overrides[0].removeprefix("experiment=rram/") for row in rows} <= set(NAMES)
    assert all(row.needs for row in rows if row.published), "published beside official data alone"
    altered = sorted({row.overrides for row in rows if len(row.overrides) > 1})[::4]
    assert len({record.job_of(overrides) for overrides in altered}) == len(altered) > 5


TINY = ("runner.pictures=false", "data.n_train=60", "data.n_valid=20", "data.n_test=20")
FEW_PAIRS = (
    "data=synthetic_pairs", "data.factors=[3,3]", "data.unseen=[0,4,8]", "data.n_train=6", "data.n_valid=2",
    "data.n_test=4", "model.steps=15", "model.n_neurons=20", "runner.seeds=2", "runner.pictures=false",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("rram_nmnist", ("data.allow_partial=true", "model.n_neurons=30", "readout.epochs=3", "runner.raw_control=false")),
        ("srnn_snn_nmnist", ("data.allow_partial=true", "model.n_neurons=10", "model.steps=10", "model.epochs=2")),
        ("nmnist_folds", ("model.n_neurons=20", "readout.epochs=2", "runner.folds=3")),
    ],
)  # fmt: skip
def test_tiny_experiments_on_recordings_run_to_the_end(
    lsmrun: Run, home: Path, name: str, small: tuple[str, ...]
) -> None:
    if not (DATA / "n-mnist").is_dir():
        pytest.skip("n-mnist/ is missing in the data folder: set LSMRUN_DATA")
    tiny = TINY if "folds" not in name else TINY[1:]
    status, _, err = lsmrun(f"experiment=rram/{name}", f"paths.data={DATA}", *tiny, *small)
    assert status == 0, err
    assert 0 <= runs_in(home)[0].data.metrics["test/accuracy"] <= 1


@pytest.mark.parametrize("name", ["zero_shot_rram", "prototypes", "srnn_clip", "srnn_prototypes"])
def test_tiny_searches_run_to_the_end_on_the_pair_without_files(lsmrun: Run, home: Path, name: str) -> None:
    epochs = ("runner.contrastive.epochs=2", "runner.prototypes.epochs=2")
    status, _, err = lsmrun(f"experiment=rram/{name}_mnist_fsdd", *FEW_PAIRS, *epochs)
    assert status == 0, err
    assert 0 <= runs_in(home)[0].data.metrics["test/audio_to_image/harmonic"] <= 1


def test_the_published_parts_belong_to_pairs_that_have_files(lsmrun: Run) -> None:
    command = ("experiment=rram/zero_shot_published_mnist_fsdd", *FEW_PAIRS)
    assert "data.protocol=published: unknown key" in refused(lsmrun(*command))
