"""Entry point of `lsmrun`: parse, check, dispatch, and report every error in one line.

Exit status: 0 done; 1 a job failed; 2 the input is wrong; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from argparse import Namespace

    from omegaconf import DictConfig

FAILED, WRONG_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `lsmrun` with these arguments (those of the process by default) and return the exit status."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if "-h" in typed or "--help" in typed:
        return _help(typed)
    try:
        return _dispatch(typed)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    except (Exception, KeyboardInterrupt) as error:
        return report(error, debug=_wants_debug(typed))


def _help(typed: Sequence[str]) -> int:
    from runners.help import help_text

    print(help_text(_value_of(typed, "--config-dir", "-cd")))
    return 0


def _dispatch(typed: list[str]) -> int:
    """Check what was typed, then let Hydra run it."""
    from runners.compose import Source, let_open

    args = _parse(typed)
    flags = [word for word in typed if word not in set(args.overrides)]
    args.overrides = [let_open(override) for override in args.overrides]
    typed = [*flags, *args.overrides]  # Hydra wants all overrides in one place
    source = Source(args.config_dir, args.config_name or "config")
    if args.multirun:
        return _sweep(source, typed, args.overrides)
    if args.cfg:
        source.compose(args.overrides)
        _hydra([*typed, "--resolve"])
    elif args.info or args.hydra_help or args.shell_completion:
        _hydra(typed)
    else:
        from runners.plan import make_plan

        cfg = source.compose(args.overrides)
        make_plan(cfg, cfg.hydra)
        _hydra(typed)
    return 0


def _sweep(source: Any, typed: list[str], overrides: Sequence[str]) -> int:
    """Run a sweep under one parent run; one failed job does not stop the rest."""
    from runners.job import interruptible
    from runners.sweep import plan_sweep

    sweep = plan_sweep(source, overrides)
    with interruptible():
        tracker = sweep.start()
        try:
            _hydra([*typed, *sweep.overrides(tracker)])
        except BaseException as error:
            if tracker:
                tracker.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", error)
            raise
    failed = sweep.failed()
    if tracker:
        tracker.end("FAILED" if failed else "FINISHED")
        print(f"sweep of {len(sweep.jobs)} runs; to look at them: {tracker.store.ui_command}")
    if failed:
        print(
            f"lsmrun: error: {len(failed)} of {len(sweep.jobs)} jobs failed: {failed[0].parent.parent}", file=sys.stderr
        )
    return FAILED if failed else 0


def _hydra(arguments: Sequence[str]) -> None:
    """Hand the command line to Hydra, with its errors raised instead of printed."""
    import hydra

    os.environ["HYDRA_FULL_ERROR"] = "1"
    before = sys.argv
    sys.argv = ["lsmrun", *arguments]
    try:
        hydra.main(config_path="pkg://conf", config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = before


def job(cfg: DictConfig) -> None:
    """What Hydra calls for each job, in this process or in a launcher's; errors of a sweep's job are reported here."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from runners.job import run_job
    from runners.sweep import ERROR_FILE
    from runners.tracking import run_name

    hydra: Any = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    alone = hydra.mode == RunMode.RUN
    if not alone:
        name = run_name(hydra.runtime.choices, hydra.overrides.task, cfg.tracking.varied)
        print(f"[job {hydra.job.num}] {name}", flush=True)
    try:
        run_job(cfg, hydra)
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and not alone:
            raise
        name = "" if alone else f"job {hydra.job.num}: "
        status = report(error, debug=bool(cfg.get("debug")), name=name, log=folder / "lsmrun.log")
        if alone:
            if status == WRONG_INPUT:
                _remove_traces(folder)
            raise SystemExit(status) from error
        (folder / ERROR_FILE).write_text(traceback.format_exc(), encoding="utf-8")


def _remove_traces(folder: Path) -> None:
    """Take away the log of a job that never began, and its folders as far as they are empty then."""
    (folder / "lsmrun.log").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for empty in (folder, *folder.parents[:2]):
            empty.rmdir()


def report(error: BaseException, debug: bool, name: str = "", log: Path | None = None) -> int:
    """Tell the user in one line what went wrong and return the exit status; with `debug` the traceback first."""
    from runners.check import UserError, one_line

    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        terminated = type(error) is not KeyboardInterrupt
        print(f"lsmrun: {name}{'terminated' if terminated else 'interrupted'}", file=sys.stderr)
        return TERMINATED if terminated else INTERRUPTED
    if isinstance(error, UserError):
        print(f"lsmrun: error: {name}{one_line(error)}", file=sys.stderr)
        return WRONG_INPUT
    hint = "" if debug else "; debug=true shows the traceback"
    where = f" (log: {log})" if log is not None and log.exists() else ""
    print(f"lsmrun: error: {name}{type(error).__name__}: {one_line(error)}{where}{hint}", file=sys.stderr)
    return FAILED


def _parse(typed: Sequence[str]) -> Namespace:
    """Split what was typed into Hydra's flags and overrides; raises `UserError` for an unknown flag."""
    from hydra._internal.utils import get_args_parser

    from runners.check import UserError
    from runners.options import suggest

    if "--version" in typed:
        from runners.provenance import package_version

        print(f"lsmrun {package_version('lsmrun')}")
        raise SystemExit(0)
    parser = get_args_parser()
    flags = sorted(flag for flag in parser._option_string_actions if flag.startswith("--"))

    def wrong(message: str) -> NoReturn:
        raise UserError(message)

    parser.error = wrong  # type: ignore[method-assign]
    args, unknown = parser.parse_known_intermixed_args(typed)
    if unknown:
        raise UserError(f"{unknown[0]}: unknown option; {suggest(unknown[0].partition('=')[0], flags, shown=20)}")
    return args


def _value_of(typed: Sequence[str], *flags: str) -> str | None:
    for i, word in enumerate(typed):
        name, equals, value = word.partition("=")
        if name in flags:
            return value if equals else next(iter(typed[i + 1 : i + 2]), None)
    return None


def _wants_debug(typed: Sequence[str]) -> bool:
    return any(word.lower() in ("debug=true", "debug=1", "debug=yes", "debug=on") for word in typed)
