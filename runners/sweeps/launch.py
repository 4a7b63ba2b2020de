"""The jobs of a sweep in the hands of Hydra's launcher: threads shared out, every end known, errors told at once.

A job leaves two files in its folder: `state.txt` tells whether it runs or has ended, `error.txt` why it failed. They say
what became of it to any launcher, also when its process died without a word.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from runners.check import one_line
from runners.compose import Source
from runners.errors import TERMINATED, report
from runners.paths import usable_cores

STATE_FILE, ERROR_FILE = "state.txt", "error.txt"
RUNNING, ENDED = "running", "ended"
POLL_S = 0.5
GRACE_S = 30.0
"""How long a job may take to close its run when it is ended."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One job of a sweep: its number and everything that is told to it."""

    number: int
    overrides: tuple[str, ...]


class Ended(NamedTuple):
    """Jobs of a sweep that ran in this start, how many of them failed, and how many were there before."""

    ran: int
    failed: int
    before: int = 0

    def __str__(self) -> str:
        if not self.before:
            return counted(self.ran, "run")
        verb = "was" if self.before == 1 else "were"
        return f"{counted(self.ran + self.before, 'job')}: {self.ran} ran now, {self.before} {verb} finished before"


def counted(n: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


class Launcher:
    """Hydra's launcher (`basic`, `joblib`, `submitit_*`) for the jobs of one sweep."""

    def __init__(self, hydra_launcher: Any, config: DictConfig, folder: Path) -> None:
        self._hydra_launcher = hydra_launcher
        self._settings = config.hydra.launcher
        self._kind = str(config.hydra.launcher._target_).rpartition(".")[2]
        self._folder = folder
        self._threads: int | None = config.threads

    @property
    def is_in_process(self) -> bool:
        """Whether jobs run one after the other in this very process."""
        return self._kind == "BasicLauncher"

    @property
    def is_queue(self) -> bool:
        """Whether jobs are submitted, each in a process of its own with its own output files."""
        return self._kind in ("LocalLauncher", "SlurmLauncher")

    def workers(self, n_jobs: int) -> int:
        """How many of `n_jobs` jobs run at once."""
        if self.is_queue:
            return min(n_jobs, self._settings.get("array_parallelism") or n_jobs)
        if self.is_in_process:
            return 1
        from joblib import effective_n_jobs  # type: ignore[import-untyped]

        return int(min(n_jobs, effective_n_jobs(self._settings.n_jobs)))

    def threads(self, n_jobs: int) -> int | None:
        """Threads of each of `n_jobs` jobs, so that all together use what there is; None leaves it to the job."""
        if self._threads or self.is_in_process:
            return self._threads
        if self.is_queue and (self._kind == "SlurmLauncher" or self._settings.cpus_per_task):
            return int(self._settings.cpus_per_task) if self._settings.cpus_per_task else None
        return max(1, usable_cores() // self.workers(n_jobs))

    def run(self, jobs: Sequence[Job]) -> list[int]:
        """Run all jobs and return the numbers of those that failed; raises only if jobs cannot be started at all.

        Where one process dies, joblib ends all of them: jobs that were running are started again one by one, so that
        only the guilty one dies again, and then the others.
        """
        threads = self.threads(len(jobs))
        queue = deque([list(jobs)])
        with contextlib.ExitStack() as around:
            around.enter_context(_environment(threads))
            if self.is_queue:
                around.enter_context(self._watch())
            while queue:
                batch = queue.popleft()
                try:
                    self._launch(batch, threads)
                except Exception as error:
                    running = [job for job in batch if self._state(job) == RUNNING]
                    if not running and not self.is_queue:
                        raise
                    if self.is_queue or len(batch) == 1:
                        for job in batch:
                            if self._state(job) != ENDED:
                                self._give_up(job, error)
                    else:
                        rest = [job for job in batch if self._state(job) is None]
                        queue.extendleft(reversed([*([job] for job in running), *([rest] if rest else [])]))
        return [job.number for job in jobs if (self._folder / str(job.number) / ERROR_FILE).exists()]

    def _launch(self, batch: Sequence[Job], threads: int | None) -> None:
        told = [f"threads={threads}"] if threads else []
        overrides = [[*job.overrides, *told, f"hydra.sweep.subdir='{job.number}'"] for job in batch]
        jobs: contextlib.AbstractContextManager[list[Any]]
        jobs = _submitted() if self.is_queue else contextlib.nullcontext([])
        with jobs as submitted, _children_hear_ctrl_c():
            try:
                results = self._hydra_launcher.launch(overrides, initial_job_idx=batch[0].number)
            except KeyboardInterrupt:
                for job in submitted:
                    job.cancel()
                raise
            except Exception:
                for job in submitted:
                    job.wait()
                raise
        for result in results:
            _ = result.return_value  # raises what was raised outside the job's own care

    def _state(self, job: Job) -> str | None:
        path = self._folder / str(job.number) / STATE_FILE
        return path.read_text(encoding="utf-8") if path.exists() else None

    def _give_up(self, job: Job, error: Exception) -> None:
        folder = self._folder / str(job.number)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "lsmrun.log"
        name = " ".join(o for o in job.overrides if not o.startswith(("tracking", "hydra", "+")))
        line = f"lsmrun: error: job {job.number} ({name}): its process died without a word; out of memory? (log: {log})"
        if not self.is_queue:
            print(line, file=sys.stderr, flush=True)
        (folder / ERROR_FILE).write_text(f"{line}\n{one_line(error)}\n", encoding="utf-8")
        (folder / STATE_FILE).write_text(ENDED, encoding="utf-8")

    @contextlib.contextmanager
    def _watch(self) -> Iterator[None]:
        """Show the errors of jobs whose own output goes elsewhere as soon as they are there."""
        told: set[Path] = set()
        stop = threading.Event()

        def show() -> None:
            for path in sorted(set(self._folder.glob(f"*/{ERROR_FILE}")) - told):
                told.add(path)
                print(path.read_text(encoding="utf-8").partition("\n")[0], file=sys.stderr, flush=True)

        def watch() -> None:
            while not stop.wait(POLL_S):
                show()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            show()


@contextlib.contextmanager
def open_launcher(source: Source, overrides: Sequence[str], folder: Path) -> Iterator[Launcher]:
    """The launcher that these overrides choose, for jobs with folders below `folder`."""
    from hydra.core.plugins import Plugins

    with source.multirun([*overrides, f"hydra.sweep.dir='{folder}'"]) as (context, config):
        chosen = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=run_one, config=config)
        yield Launcher(chosen, config, folder)


def run_one(cfg: DictConfig) -> None:
    """What the launcher calls for each job, in this process or in another one; errors are told and kept, not raised."""
    from hydra.core.hydra_config import HydraConfig

    from runners.job import Terminated, run_job
    from runners.run_names import run_name

    hydra: Any = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    alone = not str(hydra.launcher._target_).endswith("BasicLauncher")
    name = run_name(hydra.runtime.choices, hydra.overrides.task, cfg.tracking.varied)
    sys.stdout.write(f"[job {folder.name}] {name}\n")  # one piece: other workers write to the same place
    sys.stdout.flush()
    (folder / STATE_FILE).write_text(RUNNING, encoding="utf-8")
    try:
        with _ends_with_parent() if alone else contextlib.nullcontext(), _trial(hydra) as watcher:
            run_job(cfg, hydra, watcher, name=f"[job {folder.name}]" if alone else "")
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and not (alone and isinstance(error, Terminated)):
            raise
        place = f"job {folder.name} ({name}): "
        _, line = report(error, debug=bool(cfg.get("debug")), name=place, log=folder / "lsmrun.log")
        (folder / ERROR_FILE).write_text(f"{line}\n{traceback.format_exc()}", encoding="utf-8")
    (folder / STATE_FILE).write_text(ENDED, encoding="utf-8")


def _trial(hydra: DictConfig) -> Any:
    """In a search, the trial that this job is: watches its metrics and takes its result."""
    if hydra.sweeper.get("trial") is None:
        return contextlib.nullcontext()
    from runners.sweeps.study import follow

    return follow(hydra.sweeper)


@contextlib.contextmanager
def _ends_with_parent() -> Iterator[None]:
    """Terminate the job and then this worker if the sweep's own process is gone, `kill -9` included."""
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                over.wait(GRACE_S)
                time.sleep(1)  # for the last words of the job; a worker without a sweep waits for work for ever
                os._exit(TERMINATED)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def _environment(threads: int | None) -> Iterator[None]:
    """Worker processes inherit the number of threads of numba, BLAS and OpenMP; what the user has set stays."""
    added = [name for name in THREAD_VARIABLES if threads and name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextlib.contextmanager
def _children_hear_ctrl_c() -> Iterator[None]:
    """Let processes that are started inside be cancelled by SIGINT, which is how submitit ends a local job.

    They would inherit that it is ignored where a script or `nohup` started us in the background. A handler, other than
    the wish to ignore, is not inherited; ours does nothing, so that this process goes on ignoring the signal.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _submitted() -> Iterator[list[Any]]:
    """The jobs that Hydra's launcher submits inside; it does not hand them out, and they must be ended with us."""
    import submitit

    jobs: list[Any] = []

    class Remembering(submitit.AutoExecutor):
        def map_array(self, fn: Any, *iterable: Any) -> Any:
            made = super().map_array(fn, *iterable)
            jobs.extend(made)
            return made

    original = submitit.AutoExecutor
    submitit.AutoExecutor = Remembering  # type: ignore[misc]
    try:
        yield jobs
    finally:
        submitit.AutoExecutor = original  # type: ignore[misc]
