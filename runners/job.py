"""One job from its composed configuration to the end of its MLflow run."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from runners.check import UserError, one_line
from runners.context import Context, job_hash
from runners.distributed import SilentTracker, check_parallel, is_follower, silent_progress
from runners.paths import data_folder, home_folder, usable_cores
from runners.plan import Plan, make_plan
from runners.progress import Progress
from runners.provenance import package_versions, provenance
from runners.run_names import RunLabel, run_name
from runners.store import open_store
from runners.tracking import Tracker, Watcher


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM)."""


class Pruned(Exception):
    """A search has seen enough of this job; its run ends as FINISHED with the tag `lsmrun.pruned`."""


def run_job(cfg: DictConfig, hydra: DictConfig, watcher: Watcher | None = None, name: str = "") -> dict[str, float]:
    """Check, prepare and run one job, and return its key results; errors are raised after its MLflow run is closed.

    `watcher` is called with every metric and may raise `Pruned`; `name` begins every line of a job among others.
    """
    plan = make_plan(cfg, hydra)
    check_parallel(plan.runner, plan.choices.get("runner"))
    output_dir = Path(hydra.runtime.output_dir)
    log_to(output_dir / "lsmrun.log")
    context = make_context(plan, output_dir, name)
    if watcher is not None:
        context.tracker.watch(watcher)
    prepare = getattr(plan.runner, "prepare", None)
    with interruptible() as asked:
        if prepare is not None:
            context = dataclasses.replace(context, prepared=_prepared(prepare, context))
        if (subject := getattr(plan.runner, "subject", None)) is not None:
            plan = plan.about(subject(context))
        results = _run_tracked(plan, context, asked) if plan.is_tracked else plan.runner.run(context)
    _show_results(context, results or {}, in_sweep=plan.options.tracking.parent is not None)
    return results or {}


def make_context(plan: Plan, output_dir: Path, name: str = "") -> Context:
    """What the runner is given; raises `UserError` if the tracking server does not answer."""
    options = plan.options
    home = home_folder(options.paths.home)
    alone = not is_follower()
    return Context(
        config=plan.config,
        choices=plan.choices,
        overrides=plan.overrides,
        model=plan.parts.get("model"),
        data=plan.parts.get("data"),
        readout=plan.parts.get("readout"),
        training=plan.parts.get("training"),
        system=plan.parts.get("system"),
        md=plan.parts.get("md"),
        labels=plan.parts.get("labels"),
        properties=plan.parts.get("properties"),
        seed=options.seed,
        threads=options.threads or usable_cores(),
        data_root=data_folder(options.paths.data),
        home=home,
        output_dir=output_dir,
        resume=options.resume,
        checkpoint=next(iter(options.checkpoints), None),
        checkpoints=options.checkpoints,
        debug=options.debug,
        job=job_hash(plan.config),
        tracker=(Tracker if alone else SilentTracker)(open_store(home, options.tracking.uri)),
        progress=Progress(name=name) if alone else silent_progress(),
    )


@contextlib.contextmanager
def interruptible() -> Iterator[Sequence[KeyboardInterrupt]]:
    """SIGTERM raises `Terminated` inside, so that it ends a run as Ctrl-C does; gives what has been asked so far.

    An error that comes after is a consequence: numba's compiler swallows what is raised in its callbacks, then fails
    for want of their result.
    """
    if threading.current_thread() is not threading.main_thread():
        yield ()
        return

    asked: list[KeyboardInterrupt] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(Terminated("terminated") if number == signal.SIGTERM else KeyboardInterrupt())
        raise asked[-1]

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where Ctrl-C is to be ignored
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield asked
    except Exception as error:
        if asked:
            raise asked[-1] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prepared(prepare: Any, context: Context) -> Any:
    try:
        return prepare(context)
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(one_line(error)) from error


def _run_tracked(plan: Plan, context: Context, asked: Sequence[KeyboardInterrupt]) -> dict[str, float] | None:
    tracker, tracking = context.tracker, plan.options.tracking
    name = run_name(plan.choices, plan.overrides, tracking.varied)
    label = RunLabel(
        experiment=plan.experiment,
        name=name if tracking.varied else tracking.name or name,
        job=context.job,
        parent=tracking.parent,
        tags={**provenance(context.threads), **plan.tags},
    )
    try:
        tracker.start(label, resume=context.resume)
        if tracker.resumed:
            context.progress.say(f"going on with the MLflow run {tracker.run_id} of this command")
        tracker.params(plan.params)
        tracker.yaml(context.config, "config.yaml")
        tracker.yaml(provenance(context.threads) | {"lsmrun.packages": package_versions()}, "environment.yaml")
        results: dict[str, float] | None = plan.runner.run(context)
    except Pruned as pruned:
        tracker.tags({"lsmrun.pruned": pruned})
        tracker.end()
        raise
    except BaseException as error:
        error = asked[-1] if asked else error
        status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        logging.getLogger("lsmrun").error("%s\n%s", status, traceback.format_exc())
        with contextlib.suppress(Exception):  # the first error is the one to tell
            tracker.artifact(context.output_dir / "lsmrun.log")
        tracker.end(status, error)
        raise
    tracker.end()
    return results


def _show_results(context: Context, results: dict[str, float], in_sweep: bool) -> None:
    width = max(map(len, results), default=0)
    for name, value in results.items():
        context.progress.say(f"{name:<{width}}  {value:.6g}")
    if context.tracker.run_id:
        hint = "" if in_sweep else f"; to look at it: {context.tracker.store.ui_command}"
        context.progress.say(f"MLflow run {context.tracker.run_id}{hint}")


def log_to(path: Path) -> None:
    """Send Python's log messages, warnings included, to the job's own file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for other in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(other)
        other.close()
    root.addHandler(handler)
    logging.captureWarnings(True)
