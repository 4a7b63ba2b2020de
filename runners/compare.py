"""Compare finished runs without the web page: what differs between them, metrics over seeds, a plot."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError, one_line
from runners.explain import show
from runners.options import suggest
from runners.paths import check_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from runners.comparison import Comparison
    from runners.context import Context

FILES = ("comparison.md", "comparison.csv", "comparison.png")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Compare:
    """Settings of the runner; `experiment` and `filter` may be joined, `runs` stands alone."""

    experiment: Annotated[str, Field(description="name of an MLflow experiment")] | None = None
    filter: Annotated[str, Field(description="MLflow filter such as tags.paper = 'figure2'")] | None = None
    runs: Annotated[list[str], Field(description="MLflow run ids; a sweep's stands for all its runs")] = field(
        default_factory=list
    )
    metrics: Annotated[list[str], Field(description="metrics of the table; the first are drawn")] = field(
        default_factory=list
    )
    against: Annotated[str, Field(description="key on the plot's axis")] | None = None
    drawn: Annotated[int, Field(ge=1, le=8, description="metrics that are drawn, each in a panel of its own")] = 1
    output: Annotated[str, Field(description="folder of the files")] = "./comparison"

    needs: ClassVar[tuple[str, ...]] = ()
    reads_checkpoint: ClassVar[bool] = False
    tracked: ClassVar[bool] = False

    def prepare(self, context: Context) -> Comparison:
        """Find the runs; raises `UserError` if there is nothing to compare or the output folder is not ours."""
        from runners.comparison import compare

        if self.runs and (self.experiment or self.filter):
            other = "experiment" if self.experiment else "filter"
            raise UserError(
                f"runner.runs={show(self.runs)} runner.{other}={getattr(self, other)}: give one or the other"
            )
        if not (self.runs or self.experiment or self.filter):
            raise UserError(
                "runner=compare: give runner.experiment=<name> and/or runner.filter=\"tags.x = 'y'\", "
                "or runner.runs=[<run id>,...]"
            )
        _check_output(Path(self.output))
        store = context.tracker.store
        if not store.is_server and not Path(store.uri.removeprefix("sqlite:///")).exists():
            raise UserError(f"{store.uri}: no runs are stored here; set LSMRUN_HOME or tracking.uri")
        found = self._find(store.client())
        return compare(found, self.metrics, self.against)

    def run(self, context: Context) -> None:
        """Print the table and write all files, or none."""
        comparison: Comparison = context.prepared
        _show(comparison)
        output = Path(self.output).absolute()
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
            new, old = Path(folder) / "new", Path(folder) / "old"
            new.mkdir()
            (new / FILES[0]).write_text(comparison.markdown(), encoding="utf-8")
            (new / FILES[1]).write_text(comparison.csv(), encoding="utf-8")
            comparison.figure(self.drawn).savefig(new / FILES[2], dpi=150, bbox_inches="tight")
            if output.exists():
                shutil.move(output, old)
            new.replace(output)
        context.progress.say(f"{len(comparison.rows)} rows in {self.output}: {', '.join(FILES)}")

    def _find(self, client: MlflowClient) -> list[Run]:
        """Finished runs of the query, those of a sweep for the sweep, each job's latest; raises `UserError`."""
        from runners.store import all_experiments

        asked = self._by_id(client) if self.runs else self._by_query(client)
        found = {run.info.run_id: run for run in asked if not _is_sweep(run)}
        for sweep in filter(_is_sweep, asked):
            below = f"tags.`mlflow.parentRunId` = '{sweep.info.run_id}'"
            found |= {r.info.run_id: r for r in _search(client, all_experiments(client), below) if not _is_sweep(r)}
        ended = [r for r in found.values() if r.info.status == "FINISHED" and "lsmrun.pruned" not in r.data.tags]
        if not ended:
            raise UserError(f"{self._query()}: no finished run among {len(found)}")
        latest: dict[str, Run] = {}
        for run in sorted(ended, key=lambda r: r.info.start_time):
            latest[run.data.tags.get("lsmrun.job", run.info.run_id)] = run
        return list(latest.values())

    def _by_id(self, client: MlflowClient) -> list[Run]:
        from mlflow.exceptions import MlflowException

        found = []
        for run_id in self.runs:
            try:
                found.append(client.get_run(run_id))
            except MlflowException as error:
                raise UserError(f"runner.runs: {run_id} is no run of this store") from error
        return found

    def _by_query(self, client: MlflowClient) -> list[Run]:
        from mlflow.exceptions import MlflowException

        experiments = {e.name: e.experiment_id for e in client.search_experiments()}
        if self.experiment is not None and self.experiment not in experiments:
            hint = suggest(self.experiment, sorted(experiments))
            raise UserError(f"runner.experiment={self.experiment}: no such experiment{hint}")
        ids = [experiments[self.experiment]] if self.experiment else list(experiments.values())
        try:
            return _search(client, ids, self.filter or "")
        except MlflowException as error:
            raise UserError(f"runner.filter={self.filter}: {one_line(error)}") from error

    def _query(self) -> str:
        if self.runs:
            return "runner.runs"
        told = {"experiment": self.experiment, "filter": self.filter}
        return " ".join(f"runner.{key}={value}" for key, value in told.items() if value)


def _search(client: MlflowClient, experiments: list[str], query: str) -> list[Run]:
    found: list[Run] = []
    token = None
    while token is None or token:
        page = client.search_runs(experiments, filter_string=query, max_results=1000, page_token=token)
        found += page
        token = page.token or ""
    return found


def _is_sweep(run: Run) -> bool:
    return "lsmrun.varied" in run.data.tags


def _check_output(output: Path) -> None:
    """Only a folder that holds nothing but an earlier comparison is replaced; raises `UserError`."""
    check_folder(output.absolute().parent, f"of runner.output={output}")
    if output.exists() and (not output.is_dir() or {p.name for p in output.iterdir()} - set(FILES)):
        raise UserError(f"runner.output={output}: is there already and holds other things; choose another folder")


def _show(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    table: Any = Table(box=None, pad_edge=False)
    heading, *rows = comparison.cells()
    for name in heading:
        table.add_column(name, justify="left" if name in comparison.keys else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 10_000  # lines in a file or a pipe are not wrapped
    Console(width=width, highlight=False, markup=False).print(table)
