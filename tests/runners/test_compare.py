"""`runner=compare`: which runs, which keys, what statistics, and what is refused."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from runners.comparison import compare
from runners.run_names import RunLabel
from runners.store import open_store
from runners.tracking import Tracker
from tests.command_line import refused, runs_in

Settings = dict[str, object]


def record(home: Path, params: Settings, metrics: dict[str, float], status: str = "FINISHED", **more) -> str:
    tracker = Tracker(open_store(home))
    job = more.pop("job", str(sorted(params.items())))
    tracker.start(RunLabel(more.pop("experiment", "classify/toy"), "toy", job, **more), resume=False)
    tracker.params(params)
    tracker.metrics(metrics)
    tracker.end(status)
    assert tracker.run_id
    return tracker.run_id


@pytest.fixture
def study(home: Path) -> list[str]:
    """Two settings with three seeds and one, a failed run, a pruned one, one of another experiment."""
    ids = [
        record(home, {"model.gain": gain, "seed": seed, "data.n": 4}, {"test/accuracy": value, "time/x_s": 1.0})
        for gain, seed, value in [(0.5, 0, 0.2), (0.5, 1, 0.4), (0.5, 2, 0.9), ("1.0", 0, 0.7)]
    ]
    record(home, {"model.gain": 9, "seed": 0}, {"test/accuracy": 0.1}, "FAILED")
    record(home, {"model.gain": 8, "seed": 0}, {"test/accuracy": 0.1}, tags={"lsmrun.pruned": "at step 2"})
    other = {"model.gain": 7, "seed": 0, "data.n": 4}
    record(home, other, {"test/accuracy": 0.3}, experiment="classify/other", tags={"paper": "figure2"})
    return ids


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "comparison.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_only_what_varies_is_shown_and_seeds_are_collapsed(lsmrun, study: list[str]) -> None:
    status, out, err = lsmrun("runner=compare", "runner.experiment=classify/toy")
    assert (status, err) == (0, "")
    half, one = rows_of(Path("comparison"))
    assert list(half) == ["model.gain", "n", "seeds", "test/accuracy", "test/accuracy:sd", "test/accuracy:n"]
    assert (half["model.gain"], half["n"], half["seeds"]) == ("0.5", "3", "0 1 2")
    assert float(half["test/accuracy"]) == pytest.approx(0.5)
    assert float(half["test/accuracy:sd"]) == pytest.approx(statistics.stdev([0.2, 0.4, 0.9]))
    assert (one["model.gain"], one["test/accuracy:sd"], one["test/accuracy:n"]) == ("1", "", "1")
    markdown = Path("comparison/comparison.md").read_text().splitlines()
    assert markdown[0] == "| model.gain | n | test/accuracy |"
    assert markdown[2] == "| 0.5 | 3 | 0.5 ± 0.36 |" and markdown[3] == "| 1 | 1 | 0.7 |"
    assert "0.5 ± 0.36" in out and "model.gain" in out
    assert Path("comparison/comparison.png").read_bytes().startswith(b"\x89PNG")


def test_the_latest_run_of_a_job_counts(lsmrun, study: list[str], home: Path) -> None:
    record(home, {"model.gain": "1.0", "seed": 0, "data.n": 4}, {"test/accuracy": 0.8})
    assert lsmrun("runner=compare", "runner.experiment=classify/toy")[0] == 0
    assert [(row["n"], row["test/accuracy"]) for row in rows_of(Path("comparison"))] == [("3", "0.5"), ("1", "0.8")]


def test_runs_are_found_by_tag_by_id_and_by_sweep(lsmrun, toy, study: list[str], home: Path) -> None:
    assert lsmrun("runner=compare", "runner.filter=\"tags.paper = 'figure2'\"", "runner.output=tagged")[0] == 0
    assert [row["test/accuracy"] for row in rows_of(Path("tagged"))] == ["0.3"]
    assert lsmrun("runner=compare", f"runner.runs=[{study[0]},{study[3]}]", "runner.output=ids")[0] == 0
    assert [row["test/accuracy"] for row in rows_of(Path("ids"))] == ["0.2", "0.7"]
    assert toy("-m", "model.gain=1,2", "runner.epochs=1,2", "tracking.experiment=swept")[0] == 0
    sweep = next(r.info.run_id for r in runs_in(home) if "lsmrun.varied" in r.data.tags)
    assert lsmrun("runner=compare", f"runner.runs=[{sweep}]", "runner.output=sweep")[0] == 0
    found = [(row["model.gain"], row["runner.epochs"], row["test/accuracy"]) for row in rows_of(Path("sweep"))]
    assert found == [("1", "1", "0.5"), ("1", "2", "0.5"), ("2", "1", "1"), ("2", "2", "1")]
    record(home, {"model.gain": "3", "runner.epochs": "1"}, {"test/accuracy": 1.5}, parent=sweep)  # of other data
    assert lsmrun("runner=compare", f"runner.runs=[{sweep}]", "runner.output=more")[0] == 0
    assert sorted(row["model.gain"] for row in rows_of(Path("more"))) == ["1", "1", "2", "2", "3"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "give runner.experiment=<name>"),
        (["runner.experiment=x", "runner.runs=[a]"], "runner.runs=[a] runner.experiment=x: give one or the other"),
        (["runner.filter=x", "runner.runs=[a,b]"], "runner.runs=[a,b] runner.filter=x: give one or the other"),
        (["runner.experiment=classify/toy", "runner.output=/proc/x"], "/proc cannot be written to"),
        (["runner.experiment=classify/toy", "runner.output=/proc/1/x/y"], "/proc/1 cannot be written to"),
        (["runner.experiment=classify/toy", "runner.output=full/mine.txt/x"], "mine.txt is a file"),
        (["runner.experiment=classify/tyo"], "no such experiment; did you mean classify/toy?"),
        (["runner.runs=[abc]"], "runner.runs: abc is no run of this store"),
        (["runner.filter='tags.no_such_tag like 1'"], "runner.filter=tags.no_such_tag like 1: "),
        (["runner.filter=\"tags.paper = 'none'\""], "runner.filter=tags.paper = 'none': no finished run"),
        (["runner.experiment=classify/toy", "runner.metrics=[test/acuracy]"], "did you mean test/accuracy?"),
        (["runner.experiment=classify/toy", "runner.against=model.gian"], "did you mean model.gain?"),
        (["runner.experiment=classify/toy", "runner.output=full"], "holds other things; choose another folder"),
    ],
)
def test_a_wrong_query_is_refused_in_one_line_and_nothing_is_written(
    lsmrun, study: list[str], typed: list[str], said: str
) -> None:
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    assert said in refused(lsmrun("runner=compare", *typed))
    assert sorted(path.name for path in Path.cwd().rglob("*")) == ["full", "mine.txt"]


def test_an_empty_home_is_told(lsmrun, home: Path) -> None:
    (home / "mlflow.db").unlink()
    assert "no runs are stored here" in refused(lsmrun("runner=compare", "runner.experiment=x"))


def test_files_are_complete_or_not_there(lsmrun, study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("runner=compare", "runner.experiment=classify/toy")
    assert lsmrun(*command)[0] == 0
    before = {path.name: path.read_bytes() for path in Path("comparison").iterdir()}
    monkeypatch.setattr("runners.comparison.Comparison.figure", lambda self, drawn: 1 / 0)
    assert lsmrun(*command)[0] == 1
    assert {path.name: path.read_bytes() for path in Path("comparison").iterdir()} == before
    assert [path.name for path in Path.cwd().iterdir()] == ["comparison"]


def made_up(params: Settings, value: float) -> SimpleNamespace:
    told = {key: str(x) for key, x in params.items()}
    return SimpleNamespace(data=SimpleNamespace(params=told, metrics={"test/accuracy": value}))


def legend_of(figure: Figure) -> list[str]:
    """What the rows below the panels say."""
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_numbers_are_drawn_as_lines_with_one_for_each_other_setting() -> None:
    runs = [
        made_up({"model.w": w, "model": m, "seed": s}, w * s + len(m))
        for w in (0.01, 0.1, 1)
        for m in ("lsm", "nalsm")
        for s in (0, 1)
    ]
    comparison = compare(runs, [], None)
    assert comparison.against == "model.w"
    figure = comparison.figure()
    (axes,) = figure.axes
    assert legend_of(figure) == ["model=lsm", "model=nalsm"]
    assert axes.get_xscale() == "log" and axes.get_ylabel() == "test/accuracy"
    bars = axes.containers[0]
    assert list(bars[0].get_xdata()) == [0.01, 0.1, 1]
    assert list(bars[0].get_ydata()) == pytest.approx([3.005, 3.05, 3.5])
    low, high = bars[2][0].get_segments()[2][:, 1]
    assert high - low == pytest.approx(2 * statistics.stdev([3, 4]))


def test_lines_are_told_apart_by_what_is_their_own() -> None:
    one = {"readout": "softmax", "readout.epochs": "60"}
    runs = [made_up({"model.gain": gain, **one}, 0.4) for gain in (0, 1)]
    runs += [made_up({"model.gain": gain, "readout": "own", "readout.k": k}, 0.5) for gain in (0, 1) for k in (1, 3)]
    labels = legend_of(compare(runs, [], "model.gain").figure())
    assert sorted(labels) == ["readout=own readout.k=1", "readout=own readout.k=3", "readout=softmax"]


LONG = {f"runner.some_setting_{k}": f"a_rather_long_value_{k}" for k in range(4)}


@pytest.mark.parametrize("values", [(1, 2, 3), (1,)], ids=["lines", "bars"])
@pytest.mark.parametrize("drawn", [1, 3])
def test_many_long_names_leave_the_panels_their_size(values: tuple[int, ...], drawn: int) -> None:
    runs = [
        made_up({"model.w": w, **{key: f"{text}_{n}" for key, text in LONG.items()}, "data": f"set{n % 5}"}, n + w)
        for n in range(12)
        for w in values
    ]
    for run in runs:
        run.data.metrics |= {"test/b": 1.0, "test/c": 2.0}
    figure = compare(runs, ["test/accuracy", "test/b", "test/c"], None).figure(drawn)
    figure.draw_without_rendering()
    for axes in figure.axes:
        width, height = axes.get_window_extent().size / figure.dpi
        assert width > 4.5 and height > 2, (width, height)
    told = legend_of(figure) if len(values) > 1 else figure.get_supxlabel().splitlines()
    assert len(told) >= 12 and max(len(line) for text in told for line in text.splitlines()) < 90


def test_settings_that_no_line_joins_are_drawn_as_bars() -> None:
    runs = [made_up({"model.w": w, "model": f"liquid{n}"}, n) for n, w in enumerate((1, 1, 2, 2, 3, 3))]
    comparison = compare(runs, [], None)
    (axes,) = comparison.figure().axes
    assert comparison.against is None and len(axes.patches) == 6
    assert [text.get_text() for text in axes.get_xticklabels()][:2] == [
        "liquid0",
        "liquid1",
    ]  # which tells model.w, too
    assert len(compare(runs, [], "model.w").figure().axes[0].patches) == 0  # asked for, a number has its axis


def test_what_dynamics_tells_last_is_in_its_table() -> None:
    run = made_up({"model.gain": 1}, 0.5)
    run.data.metrics = {
        "liquid/rate_hz": 3.0,
        "liquid/silent_neurons": 1,
        "avalanche/size_exponent": 1.5,
        "kernel/score": 7,
    }
    assert compare([run], [], None).metrics == ("liquid/rate_hz", "avalanche/size_exponent", "kernel/score")


def test_a_table_shows_the_test_part_unless_asked() -> None:
    run = made_up({"model.gain": 1}, 0.5)
    run.data.metrics |= {"liquid/rate_hz": 3.0, "liquid/rate_hz_train": 3.0, "test/standard_error": 0.1}
    assert compare([run], [], None).metrics == ("test/accuracy", "liquid/rate_hz")
    assert compare([run], ["liquid/rate_hz_train"], None).metrics == ("liquid/rate_hz_train",)
    run.data.metrics["energy/mae"] = 1.0
    other = made_up({"model.gain": 2}, 0.5)
    other.data.metrics = {"energy/mae": 2.0}
    assert compare([run, other], [], None).metrics[0] == "energy/mae"  # what all have is drawn


def test_names_are_drawn_as_bars() -> None:
    comparison = compare([made_up({"model": m, "seed": 0}, v) for m, v in (("lsm", 0.4), ("nalsm", 0.6))], [], None)
    (axes,) = comparison.figure().axes
    assert [bar.get_height() for bar in axes.patches] == [0.4, 0.6]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["lsm", "nalsm"]


@pytest.mark.parametrize("values", [("lsm", "nalsm"), (1, 2)])
def test_one_run_alone_has_no_error_bar_not_even_its_caps(values: tuple[object, object]) -> None:
    (axes,) = compare([made_up({"model.w": v}, 0.5) for v in values], [], "model.w").figure().axes
    _, caps, (bars,) = axes.containers[0]
    assert not any(np.isfinite(segment).any() for segment in bars.get_segments())
    assert not any(np.isfinite(np.asarray(cap.get_ydata(), float)).any() for cap in caps)


def test_several_metrics_are_drawn_below_each_other() -> None:
    runs = [made_up({"model.w": w}, w) for w in (1, 2)]
    for k, run in enumerate(runs):
        run.data.metrics["device/feature_correlation"] = k
    figure = compare(runs, ["test/accuracy", "device/feature_correlation"], None).figure(2)
    assert [axes.get_ylabel() for axes in figure.axes] == ["test/accuracy", "device/feature_correlation"]
    assert [list(axes.containers[0][0].get_ydata()) for axes in figure.axes] == [[1, 2], [0, 1]]


def test_what_varies_along_with_the_axis_makes_no_lines_of_its_own() -> None:
    pairs = [made_up({"model.n": n, "model.gain": 15 / n, "data": d}, n) for n in (1, 10, 100) for d in ("a", "b")]
    comparison = compare(pairs, [], "model.n")
    assert legend_of(comparison.figure()) == ["data=a", "data=b"]


def test_a_zero_has_its_place_on_a_logarithmic_axis() -> None:
    (axes,) = compare([made_up({"device.noise": x}, 0.5) for x in (0, 1e-4, 0.1)], [], None).figure().axes
    assert axes.get_xscale() == "symlog"


def test_bars_of_a_choice_are_named_by_it_and_not_by_what_it_chooses() -> None:
    runs = [made_up({"device": d, "device.draw": w}, 0.5) for d, w in (("ideal", "normal"), ("chip", "broken"))]
    (axes,) = compare(runs, [], "device").figure().axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["chip", "ideal"]
