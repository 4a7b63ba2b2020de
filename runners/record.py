"""Results on record: run the rows of a table that are not there yet, and write the table again.

`python -m runners.record docs/results/nalsm.yaml` reads which experiments and seeds a page shows, runs what its CSV file
lacks (rows are matched by the hash of the resolved configuration), appends each finished run to the CSV, and renews the
tables between the page's markers. It may be stopped at any time and goes on where it was; a run that fails does not stop
the others. Several may fill one page at once, each with rows of its own (`--only`). `--commit` commits each row.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fcntl
import functools
import itertools
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from runners.cli import PROGRAM
from runners.provenance import cpu_model, git_state

FIXED = ("job", "row", "seed", "date", "commit", "cpu", "threads", "wall_s", "cpu_s", "command")
COURSES = ("epoch/", "init/", "time/", "fold/", "stage-")
"""Metrics that tell how a run went, not what it found."""
MARK = "<!-- table {name} -->"
END = "<!-- end -->"


@dataclass(frozen=True)
class Row:
    """One line of a table: a command without its seed, the seeds, what the paper says of each column; low ranks run first."""

    name: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    published: Mapping[str, str] = field(default_factory=dict)
    rank: int = 0
    needs: str = ""
    """What the run needs that not everyone has; without it the row is passed over, and says so."""
    together_with: tuple[str, ...] = ()
    """Another command, which has a row of its own: the cells are over the runs of both, and there once all are finished."""


class Column(NamedTuple):
    """How a metric is shown; `over` says what its deviation within one run is over, if not networks."""

    heading: str
    factor: float
    digits: int
    over: str = ""


@dataclass(frozen=True)
class Table:
    """Metrics over rows."""

    name: str
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]


def read_tables(path: Path) -> list[Table]:
    """The tables that a page's YAML file asks for."""
    tables = []
    for name, content in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        columns = {m: Column(str(c[0]), float(c[1]), int(c[2]), *c[3:]) for m, c in content["columns"].items()}
        rank = content.get("rank", 0)
        rows = tuple(
            Row(
                r["name"],
                tuple(r["command"].split()),
                tuple(r["seeds"]),
                r.get("published", {}),
                rank=r.get("rank", rank),
                needs=r.get("needs", ""),
                together_with=tuple(r.get("together_with", "").split()),
            )
            for r in content["rows"]
        )
        tables.append(Table(name, columns, rows))
    return tables


def job_of(overrides: Sequence[str]) -> str:
    """Hash of the job that these overrides describe; asked for again and again while a page is filled."""
    return _job_of(tuple(overrides))


@functools.cache  # a page is renewed after every row, and composing all its configurations takes longer than some rows
def _job_of(overrides: tuple[str, ...]) -> str:
    from runners.compose import Source
    from runners.context import job_hash
    from runners.plan import make_plan

    cfg = Source().compose(list(overrides))
    return job_hash(make_plan(cfg, cfg.hydra).config)


def read_records(path: Path) -> dict[str, dict[str, str]]:
    """Finished rows of the CSV file by job; none where there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {record["job"]: record for record in csv.DictReader(file)}


def write_records(path: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """All rows, complete or not at all; the metrics are the union of those of the rows."""
    metrics = sorted({key for record in records.values() for key in record} - set(FIXED))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, [*FIXED, *metrics], lineterminator="\n", restval="")
        rows.writeheader()
        rows.writerows(records.values())
    unfinished.replace(path)


class Refused(RuntimeError):
    """A run that never began: something that it needs is not there."""


def run_once(overrides: Sequence[str]) -> dict[str, Any]:
    """Run one job in a process of its own and return its record; raises `RuntimeError` if it fails, `Refused` before work."""
    from runners.paths import home_folder, usable_cores
    from runners.store import find_finished, open_store

    started, used = time.monotonic(), _processor_seconds()
    status = subprocess.run([sys.executable, "-c", PROGRAM, *overrides]).returncode
    wall = time.monotonic() - started
    if status:
        raise (Refused if status == 2 else RuntimeError)(f"lsmrun {' '.join(overrides)}: exit status {status}")
    job = job_of(overrides)
    run = find_finished(open_store(home_folder("./runs")).client(), job)
    if run is None:
        raise RuntimeError(
            f"lsmrun {' '.join(overrides)}: exit status 0, but no finished run of job {job} is in the store"
        )
    metrics = {k: v for k, v in run.data.metrics.items() if not k.startswith(COURSES)}
    return {
        "job": job,
        "date": time.strftime("%Y-%m-%d"),
        "commit": git_state().get("lsmrun.git.commit", "")[:10],
        "cpu": cpu_model(),
        "threads": usable_cores(),
        "wall_s": f"{wall:.0f}",
        "cpu_s": f"{_processor_seconds() - used:.0f}",
        "command": f"lsmrun {' '.join(overrides)}",
        **{name: f"{value:.8g}" for name, value in sorted(metrics.items())},
    }


def _processor_seconds() -> float:
    """Processor time of all finished children, user and system."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def missing(tables: Sequence[Table], records: Mapping[str, Any], only: str = "") -> Iterator[tuple[Row, int, str]]:
    """Rows, seeds and jobs that have no record yet; `only` is a part of "table/row".

    By rank, then the first seed of all rows before the second of any, then as on the page: a page that is cut off has
    something to say in every row.
    """
    seen = set(records)
    rows = [row for table in tables for row in table.rows if only in f"{table.name}/{row.name}"]
    runs = [(row.rank, k, row, seed) for row in rows for k, seed in enumerate(row.seeds)]
    for _, _, row, seed in sorted(runs, key=lambda run: run[:2]):
        job = job_of([*row.overrides, f"seed={seed}"])
        if job not in seen:
            seen.add(job)
            yield row, seed, job


def markdown(table: Table, records: Mapping[str, Mapping[str, str]]) -> str:
    """The table as Markdown: mean ± sample standard deviation (number of seeds), the published value in brackets."""
    headings = ["", *(column.heading for column in table.columns.values()), "wall time a run", "CPU", "command"]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    for row in table.rows:
        commands = [command for command in (row.overrides, row.together_with) if command]
        jobs = [job_of([*command, f"seed={s}"]) for command in commands for s in row.seeds]
        found = [records[job] for job in jobs if job in records]
        if row.together_with and len(found) < len(jobs):
            found = []
        cells = [_cell(found, metric, column, row) for metric, column in table.columns.items()]
        costs = [_seconds(found, key) for key in ("wall_s", "cpu_s")]
        seeds = ",".join(map(str, row.seeds))
        many = "-m " if len(row.seeds) > 1 else ""
        told = ", ".join(f"`lsmrun {many}{' '.join(command)} seed={seeds}`" for command in commands)
        lines.append("| " + " | ".join([row.name, *cells, *costs, told]) + " |")
    return "\n".join(lines)


def _seconds(found: Sequence[Mapping[str, str]], key: str) -> str:
    values = [float(record[key]) for record in found if record.get(key)]
    return f"{sum(values) / len(values):.0f} s" if values else ""


def _cell(found: Sequence[Mapping[str, str]], metric: str, column: Column, row: Row) -> str:
    """Mean ± sample deviation (number) over runs; of one run over its networks, if it trained several, or as it says."""
    from lsm.statistics import mean_and_deviation

    factor, digits = column.factor, column.digits
    values = [factor * value for record in found if (value := _value(record, metric)) is not None]
    paper = f" [{row.published[metric]}]" if metric in row.published else ""
    if not values:
        return (f"needs {row.needs}" if row.needs else "-" if found else "not run yet") + paper
    spread = mean_and_deviation(values)
    if spread.n == 1 and (within := found[0].get(f"{metric}_std")):
        over = f" over {column.over}" if column.over else ""
        return f"{spread.mean:.{digits}f} ± {factor * float(within):.{digits}f}{over}{paper}"
    error = f" ± {spread.standard_deviation:.{digits}f}" if spread.n > 1 else ""
    return f"{spread.mean:.{digits}f}{error} ({spread.n}){paper}"


def _value(record: Mapping[str, str], metric: str) -> float | None:
    """A metric of a recorded run; the score of kernel quality, which follows from the ranks, of runs older than it, too."""
    if record.get(metric):
        return float(record[metric])
    ranks = [record.get(f"kernel/{kind}_rank") for kind in ("separation", "noisy")]
    if metric == "kernel/score" and all(ranks):
        from lsm.kernel_quality import published_score

        return published_score(*(float(rank or 0) for rank in ranks))
    return None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other process is in here with the same file."""
    with path.open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def renew_page(page: Path, tables: Sequence[Table], records: Mapping[str, Mapping[str, str]]) -> None:
    """Write every table between its markers; what stands around them is left alone."""
    text = page.read_text(encoding="utf-8")
    for table in tables:
        start = MARK.format(name=table.name)
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(END)
        text = f"{before}{start}\n{markdown(table, records)}\n{END}{after}"
    page.write_text(text, encoding="utf-8")


def commit(files: Sequence[Path], message: str) -> None:
    """Commit these files and nothing else; if that cannot be, say why and leave them to the next row's commit.

    It cannot be outside a git checkout, and where something of these files is staged: that is somebody's own work.
    """
    names = [str(path.resolve()) for path in files]
    steps = (
        (["diff", "--cached", "--quiet"], "no git checkout, or changes of the page are staged"),
        (["add", "--intent-to-add"], "git add failed"),
        (["commit", "--quiet", "--message", message], "git commit failed"),
    )
    for step, complaint in steps:
        done = subprocess.run(["git", *step, "--", *names], cwd=files[0].parent, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:] if step[0] != "diff" else []
            print(f"  not committed: {': '.join([complaint, *reason])}", file=sys.stderr, flush=True)
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill one page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m runners.record", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("page", type=Path, help="the YAML file beside the Markdown page")
    parser.add_argument("--commit", action="store_true", help="commit each finished row, in a git checkout")
    parser.add_argument("--list", action="store_true", help="only say what is missing")
    parser.add_argument("--only", action="append", help='rows whose "table/name" contains this; more than one in order')
    parser.add_argument("--rekey", action="store_true", help="name the rows anew after a change of no result; run none")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no new run after so many minutes")
    options = parser.parse_args(arguments)
    path, page = options.page.parent / "data" / f"{options.page.stem}.csv", options.page.with_suffix(".md")
    tables, records = read_tables(options.page), read_records(path)
    if options.rekey:
        with alone(options.page):
            records = {r["job"]: r for r in map(_rekeyed, read_records(path).values())}
            if records:
                write_records(path, records)
    started, failed = time.monotonic(), 0
    wanted = itertools.chain.from_iterable(missing(tables, records, only) for only in options.only or [""])
    for row, seed, job in wanted:
        records = read_records(path)  # another process may have run it
        if job in records or time.monotonic() - started > 60 * options.minutes:
            continue
        print(f"{row.name}, seed {seed} (job {job})", flush=True)
        if options.list or options.rekey:
            continue
        try:
            found = run_once([*row.overrides, f"seed={seed}"])
        except RuntimeError as error:
            if isinstance(error, Refused) and row.needs:
                print(f"  passed over: it needs {row.needs}", flush=True)
                continue
            failed += 1
            print(error, file=sys.stderr, flush=True)
            continue
        with alone(options.page):
            records = read_records(path)
            records[job] = {**found, "row": row.name, "seed": str(seed)}
            write_records(path, records)
            renew_page(page, tables, records)
            if options.commit:
                commit([path, page], f"Record {row.name}, seed {seed}")
    with alone(options.page):
        renew_page(page, tables, read_records(path))
    return int(failed > 0)


def _rekeyed(record: Mapping[str, str]) -> dict[str, str]:
    return {**record, "job": job_of(record["command"].split()[1:])}


if __name__ == "__main__":
    sys.exit(main())
