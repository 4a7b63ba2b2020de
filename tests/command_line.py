"""What several tests of the command line share: `lsmrun` in a process of its own, runs of a home, refusals, experiments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from runners.check import build
from runners.compose import Source, parse, resolve
from runners.context import NEEDS
from runners.options import find_groups
from runners.plan import Plan, make_plan
from runners.store import open_store

Run = Callable[..., tuple[int, str, str]]
"""The fixtures `lsmrun` and `toy`: (exit status, standard output, standard error)."""


def client_of(home: Path) -> Any:
    """MLflow's client of the store of a home."""
    return open_store(home).client()


def runs_in(home: Path) -> list:
    """All runs of a home, the oldest first."""
    client = client_of(home)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def history_of(home: Path, run: Any, metric: str) -> list[float]:
    """Every value of a metric, by step."""
    found = client_of(home).get_metric_history(run.info.run_id, metric)
    return [m.value for m in sorted(found, key=lambda m: m.step)]


def artifacts_of(home: Path, run: Any, folder: str | None = None) -> set[str]:
    """Paths of what a run has stored, of one folder or at the top."""
    return {entry.path for entry in client_of(home).list_artifacts(run.info.run_id, folder)}


def refused(result: tuple[int, str, str]) -> str:
    """The one line of a refusal; checks exit status, and that there is nothing else."""
    status, out, err = result
    assert status == 2, err
    assert out == ""
    assert err.startswith("lsmrun: error: ") and err.count("\n") == 1, err
    return err


def experiment_plan(name: str) -> Plan:
    """The job of `experiment=<name>`, with every section built, also those that its runner does not need."""
    cfg = Source().compose([f"experiment={name}"])
    plan = make_plan(cfg, cfg.hydra)
    for section in {*NEEDS, "runner"} - set(plan.runner.needs):
        build(resolve(cfg)[section], section)
    return plan


def sweep_jobs(name: str) -> list[list[str]]:
    """What `lsmrun -m experiment=<name>` adds for each job."""
    params = Source().compose([f"experiment={name}"]).hydra.sweeper.params
    listed = [parse(f"{key}={value}", find_groups()) for key, value in params.items()]
    return [[f"experiment={name}", *job] for job in BasicSweeper.split_arguments(listed, None)[0]]


def launched(source: Source, common: list[str], jobs: Sequence[Sequence[str]]) -> list[Plan]:
    """The jobs as Hydra's launchers compose them."""
    with source.multirun(common) as (context, master):
        composed = [context.config_loader.load_sweep_config(master, list(job)) for job in jobs]
        return [make_plan(cfg, cfg.hydra) for cfg in composed]
