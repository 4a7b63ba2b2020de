"""Results on record: only what is missing is run, nothing is half-written, the page shows what was measured."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from runners import record

PAGE = """
    accuracy:
      columns:
        test/accuracy: ["test, %", 100, 1]
        liquid/rate_hz: ["rate", 1, 0]
      rows:
        - name: static
          command: model=lsm data=digits {tiny}
          seeds: [0, 1]
          published: {{test/accuracy: "95.3"}}
        - name: not run
          command: model=lsm data=digits model.w_start=0.5 {tiny}
          seeds: [0]
"""
TINY = "model.n_neurons=40 model.run_ms=30 data.n_train=100 data.n_valid=40 data.n_test=40 runner.pictures=false"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(textwrap.dedent(PAGE.format(tiny=TINY)))
    path.with_suffix(".md").write_text("# Toy\n\n<!-- table accuracy -->\n<!-- end -->\n\nThe end.\n")
    return path


def test_missing_rows_are_run_once_and_shown(page: Path, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert record.main([str(page), "--only", "static"]) == 0
    records = record.read_records(page.parent / "data" / "toy.csv")
    assert [r["seed"] for r in records.values()] == ["0", "1"] and len({r["job"] for r in records.values()}) == 2
    assert all(float(r["cpu_s"]) > 0 for r in records.values())
    values = [100 * float(r["test/accuracy"]) for r in records.values()]
    text = page.with_suffix(".md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| static"))
    assert f"{sum(values) / 2:.1f} ± " in line and "(2) [95.3]" in line and "seed=0,1`" in line
    assert "not run yet" in text and text.startswith("# Toy") and text.endswith("The end.\n")
    capfd.readouterr()
    assert record.main([str(page), "--only", "static"]) == 0
    assert "seed" not in capfd.readouterr().out  # nothing was left to run


def test_a_failing_run_is_told_and_leaves_no_row(page: Path, home: Path) -> None:
    page.write_text(page.read_text().replace("model.n_neurons=40", "model.n_neurons=1"))
    with pytest.raises(Exception, match="n_neurons"):
        record.main([str(page)])
    assert not (page.parent / "data" / "toy.csv").exists()


def test_low_ranks_run_first(page: Path) -> None:
    page.write_text(page.read_text().replace("seeds: [0, 1]", "seeds: [0, 1]\n      rank: 1"))
    tables = record.read_tables(page)
    assert [row.name for row in tables[0].rows] == ["static", "not run"]  # the page keeps its order
    assert [(row.name, seed) for row, seed, _ in record.missing(tables, {})] == [
        ("not run", 0),
        ("static", 0),
        ("static", 1),
    ]


def test_every_row_has_its_first_seed_before_any_has_its_second(page: Path) -> None:
    jobs = record.missing(record.read_tables(page), {})
    assert [(row.name, seed) for row, seed, _ in jobs] == [("static", 0), ("not run", 0), ("static", 1)]


def test_a_run_that_fails_does_not_stop_the_others(
    page: Path, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(overrides: Sequence[str]) -> dict[str, str]:
        if "model.w_start=0.5" not in overrides:
            raise RuntimeError(f"lsmrun {' '.join(overrides)}: exit status 1")
        return {"job": record.job_of(overrides), "command": f"lsmrun {' '.join(overrides)}", "wall_s": "1"}

    monkeypatch.setattr(record, "run_once", run)
    assert record.main([str(page)]) == 1
    assert [r["row"] for r in record.read_records(page.parent / "data" / "toy.csv").values()] == ["not run"]
    assert capfd.readouterr().err.count("exit status 1") == 2


def test_rows_that_another_process_wrote_meanwhile_are_kept(
    page: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ran = page.parent / "data" / "toy.csv", []

    def run(overrides: Sequence[str]) -> dict[str, str]:
        ran.append(overrides[-1])
        found = {"job": record.job_of(overrides), "command": f"lsmrun {' '.join(overrides)}", "wall_s": "1"}
        other = record.job_of([*overrides[:-1], "seed=1"])  # the same row, another seed
        record.write_records(path, {**record.read_records(path), other: {**found, "job": other, "row": "by another"}})
        return found

    monkeypatch.setattr(record, "run_once", run)
    assert record.main([str(page), "--only", "static"]) == 0
    assert ran == ["seed=0"]
    assert {r["row"] for r in record.read_records(path).values()} == {"static", "by another"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that take no time."""

    def run(overrides: Sequence[str]) -> dict[str, str]:
        return {"job": record.job_of(overrides), "command": f"lsmrun {' '.join(overrides)}", "wall_s": "1"}

    monkeypatch.setattr(record, "run_once", run)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(page: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with the page in it."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "toy")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "toy@example.org")
    git(page.parent, "init", "-q")
    git(page.parent, "add", page.name, page.with_suffix(".md").name)
    git(page.parent, "commit", "-qm", "A page")
    return page.parent


def test_each_row_is_committed_at_once_and_nothing_else_with_it(page: Path, checkout: Path, quick: None) -> None:
    (checkout / "other.txt").write_text("somebody's work")
    git(checkout, "add", "other.txt")
    assert record.main([str(page), "--commit", "--only", "static"]) == 0
    subjects = git(checkout, "log", "--format=%s").splitlines()
    assert subjects == ["Record static, seed 1", "Record static, seed 0", "A page"]
    assert git(checkout, "show", "--name-only", "--format=", "HEAD~1").split() == ["data/toy.csv", "toy.md"]
    assert git(checkout, "status", "--porcelain").splitlines() == ["A  other.txt"]


def test_what_somebody_has_staged_of_the_page_is_not_committed(
    page: Path, checkout: Path, quick: None, capfd: pytest.CaptureFixture[str]
) -> None:
    page.with_suffix(".md").write_text(page.with_suffix(".md").read_text() + "More.\n")
    git(checkout, "add", "toy.md")
    assert record.main([str(page), "--commit", "--only", "static"]) == 0
    assert git(checkout, "log", "--format=%s").splitlines() == ["A page"]
    assert "not committed: no git checkout, or changes of the page are staged" in capfd.readouterr().err
    assert len(record.read_records(checkout / "data" / "toy.csv")) == 2


def test_outside_a_checkout_rows_are_recorded_without_a_commit(
    page: Path, quick: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(page.parent.parent))
    assert record.main([str(page), "--commit", "--only", "static"]) == 0
    assert "not committed: no git checkout" in capfd.readouterr().err
    assert len(record.read_records(page.parent / "data" / "toy.csv")) == 2


def test_make_results_commits_and_the_program_alone_does_not(page: Path, checkout: Path, quick: None) -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text(encoding="utf-8")
    assert "runners.record --commit" in makefile
    assert record.main([str(page), "--only", "static"]) == 0
    assert git(checkout, "log", "--format=%s").splitlines() == ["A page"]


def test_a_row_whose_data_are_missing_is_passed_over_and_says_what_it_needs(page: Path, home: Path) -> None:
    text = page.read_text().replace(
        "model=lsm data=digits model.w_start=0.5", "model=lsm data=files data.path=/nowhere"
    )
    page.write_text(text)
    assert record.main([str(page), "--only", "not run"]) == 1
    page.write_text(f'{text.rstrip()}\n      needs: the files\n      published: {{test/accuracy: "97.1"}}\n')
    assert record.main([str(page), "--only", "not run"]) == 0
    assert "| not run | needs the files [97.1] | needs the files |" in page.with_suffix(".md").read_text()


def test_one_run_of_several_networks_shows_their_spread() -> None:
    row = record.Row("r", (), (0,))
    found = [{"test/a": "0.25", "test/a_std": "0.05", "test/b": "0.5"}]
    cells = [record._cell(found, metric, record.Column("", 100, 1), row) for metric in ("test/a", "test/b", "test/c")]
    assert cells == ["25.0 ± 5.0", "50.0 (1)", "-"]


def test_records_survive_a_new_metric(tmp_path: Path) -> None:
    path = tmp_path / "data" / "x.csv"
    first = {"job": "a", "row": "r", "seed": "0", "test/accuracy": "0.5"}
    record.write_records(path, {"a": first})
    record.write_records(path, {**record.read_records(path), "b": {"job": "b", "liquid/rate_hz": "30"}})
    again = record.read_records(path)
    assert again["a"]["test/accuracy"] == "0.5" and again["a"]["liquid/rate_hz"] == ""
    assert again["b"]["liquid/rate_hz"] == "30"


def test_every_row_of_our_own_page_is_a_command_that_works() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "results" / "nalsm.yaml"
    tables = record.read_tables(path)
    jobs = [job for _, _, job in record.missing(tables, {})]
    assert len(jobs) == len(set(jobs)) >= 10
    page_text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert all(record.MARK.format(name=table.name) in page_text for table in tables)


def test_rows_on_record_are_found_by_the_hash_of_their_command() -> None:
    """A new configuration key renames every job: then `--rekey`, if it changes no result, or run the rows again."""
    folder = Path(__file__).parents[2] / "docs" / "results"
    for path in sorted(folder.glob("data/*.csv")):
        if not (folder / f"{path.stem}.yaml").exists():
            continue
        records = record.read_records(path)
        for job, found in list(records.items())[:: max(1, len(records) // 8)]:
            assert record.job_of(found["command"].split()[1:]) == job, f"{path.name}: {found['command']}"


def test_rows_can_be_named_anew(page: Path, home: Path) -> None:
    path = page.parent / "data" / "toy.csv"
    command = f"lsmrun model=lsm data=digits {TINY} seed=0"
    record.write_records(path, {"old": {"job": "old", "command": command, "wall_s": "1", "test/accuracy": "0.5"}})
    assert record.main([str(page), "--rekey"]) == 0
    (job,) = record.read_records(path)
    assert job == record.job_of(command.split()[1:])


RANKS = {"kernel/separation_rank": "994.22", "kernel/noisy_rank": "986.44", "kernel/separation_rank_std": "0.7"}


def test_a_deviation_within_one_run_says_what_it_is_over() -> None:
    row, columns = record.Row("a", (), (0,)), {"draws": " over draws", "": ""}
    for over, told in columns.items():
        column = record.Column("rank", 1, 1, over)
        assert record._cell([RANKS], "kernel/separation_rank", column, row) == f"994.2 ± 0.7{told}"


def test_the_score_of_kernel_quality_follows_from_recorded_ranks() -> None:
    column, row = record.Column("score", 1, 3), record.Row("a", (), (0,), {"kernel/score": "0.838"})
    told = record._cell([RANKS], "kernel/score", column, row)
    assert told == "0.869 (1) [0.838]"
    assert record._cell([RANKS | {"kernel/score": "0.5"}], "kernel/score", column, row).startswith("0.500")
    assert record._cell([{"test/accuracy": "1"}], "kernel/score", column, row) == "- [0.838]"


def test_runs_of_two_commands_are_shown_together_once_all_are_there(page: Path) -> None:
    page.write_text(
        page.read_text().replace("seeds: [0]\n", f"seeds: [0]\n      together_with: model=lsm data=digits {TINY}\n")
    )
    (table,) = record.read_tables(page)
    row = next(row for row in table.rows if row.together_with)
    jobs = [record.job_of([*command, "seed=0"]) for command in (row.overrides, row.together_with)]
    records = {jobs[0]: {"test/accuracy": "0.8", "wall_s": "10"}}
    assert "80.0" not in record.markdown(table, records)
    records[jobs[1]] = {"test/accuracy": "0.6", "wall_s": "20"}
    (line,) = (line for line in record.markdown(table, records).splitlines() if line.startswith("| not run "))
    assert "70.0 ± 14.1 (2)" in line and line.count("`lsmrun ") == 2
