"""What several tests of the command line share: `lsmrun` in a process of its own, the runs of a home, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runners.compose import Source
from runners.plan import Plan, make_plan
from runners.store import open_store

MAIN = "from runners.cli import main; raise SystemExit(main())"
"""The program of a process that is `lsmrun`."""


def runs_in(home: Path) -> list:
    """All runs of a home, the oldest first."""
    client = open_store(home).client()
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def history_of(home: Path, run: Any, metric: str) -> list[float]:
    """Every value of a metric, by step."""
    found = open_store(home).client().get_metric_history(run.info.run_id, metric)
    return [m.value for m in sorted(found, key=lambda m: m.step)]


def refused(result: tuple[int, str, str]) -> str:
    """The one line of a refusal; checks exit status, and that there is nothing else."""
    status, out, err = result
    assert status == 2, err
    assert out == ""
    assert err.startswith("lsmrun: error: ") and err.count("\n") == 1, err
    return err


def launched(source: Source, common: list[str], jobs: Sequence[Sequence[str]]) -> list[Plan]:
    """The jobs as Hydra's launchers compose them."""
    with source.multirun(common) as (context, master):
        composed = [context.config_loader.load_sweep_config(master, list(job)) for job in jobs]
        return [make_plan(cfg, cfg.hydra) for cfg in composed]
