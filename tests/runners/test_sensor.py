"""`runner=sensor` on made-up "real" recordings: simulated ones under another seed, so that both sets must agree."""

import pytest

from lsm.datasets.nmnist_sim import NMnistSim
from lsm.readout import LinearProbe
from tests.command_line import artifacts_of, runs_in
from tests.staged import DATA

TINY = (
    "model.n_neurons=60", "model.init_snippets=300", "model.run_ms=100", "readout.epochs=4",
    "data.n_train=60", "data.n_valid=20", "data.n_test=20", "data.keep=false",
    "runner.n_paired_train=40", "runner.n_paired_valid=10",
)  # fmt: skip


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with MNIST in it, and a folder of recordings to be taken for real."""
    if not (DATA / "mnist").exists():
        pytest.skip(f"{DATA / 'mnist'} is missing")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist").symlink_to(DATA / "mnist")
    monkeypatch.setenv("LSMRUN_DATA", str(tmp_path / "data"))
    NMnistSim(seed=7, n_train=60, n_valid=10, n_test=20).write_recordings(tmp_path / "data", tmp_path / "real")
    return tmp_path / "real"


def test_statistics_transfers_and_pictures_are_recorded(lsmrun, home, data):
    status, out, err = lsmrun("runner=sensor", "data=nmnist_sim", f"runner.real_path={data}", *TINY)
    assert status == 0, err
    (run,) = runs_in(home)
    metrics = run.data.metrics
    for part in ("train", "test"):
        assert metrics[f"sensor_{part}/correlation/events_per_image"] > 0.99
        assert metrics[f"sensor_{part}/overlap/time_course"] > 0.95
    for kind in ("raw", "liquid"):
        for learnt_on in ("real", "simulated", "many"):
            for tested_on in ("real", "simulated", "many"):
                assert 0 < metrics[f"transfer/{kind}/{learnt_on}_to_{tested_on}"] <= 1
    assert "transfer/liquid/simulated_to_real" in out
    pictures = ("time_course", "maps", "counts", "intervals", "path", "examples")
    assert artifacts_of(home, run, "pictures") == {f"pictures/{name}.png" for name in pictures}


def test_the_probe_of_a_random_liquid_sees_rates(lsmrun, home, data, monkeypatch):
    seen, fit = [], LinearProbe.fit
    monkeypatch.setattr(LinearProbe, "fit", lambda *a, window, **k: seen.append(window) or fit(*a, window=window, **k))
    tiny = [setting for setting in TINY if not setting.startswith("model.")]
    few = ("model.n_neurons=30", "model.steps=20", "runner.pictures=false")
    status, _, err = lsmrun(
        "runner=sensor", "model=rram_lsm", "data=nmnist_sim", f"runner.real_path={data}", *tiny, *few
    )
    assert status == 0, err
    assert seen == [20] * 6, "raw counts and liquid, learnt on three sets"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data=digits",), "runner=sensor compares simulated with real N-MNIST: data=nmnist_sim"),
        (("data=nmnist_sim", "data.images=digits"), "data.images=mnist"),
        (("data=nmnist_sim", "runner.real_path=/no/such"), "/no/such: no such file or folder"),
        (("data=nmnist_sim",), "no recordings of N-MNIST"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(lsmrun, home, tmp_path, monkeypatch, overrides, message):
    monkeypatch.setenv("LSMRUN_DATA", str(tmp_path))
    status, _, err = lsmrun("runner=sensor", *overrides)
    assert status == 2 and message in err and len(err.strip().splitlines()) == 1
    assert not runs_in(home)


def test_too_few_real_recordings_are_refused(lsmrun, data):
    status, _, err = lsmrun("runner=sensor", "data=nmnist_sim", f"runner.real_path={data}")
    assert status == 2 and "runner.n_paired_train=600: only 90 real recordings are there" in err
