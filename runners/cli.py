"""Entry point of `lsmrun`: parse, check, dispatch, and report every error in one line."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from argparse import Namespace

    from omegaconf import DictConfig

PROGRAM = "import sys; from runners.cli import main; sys.exit(main(sys.argv[1:]))"
"""What a Python process is given after `-c` to be `lsmrun`, wherever the script itself is installed."""

OF_SWEEPS = ("hydra/sweeper=", "hydra.sweeper.", "hydra/launcher=", "hydra.launcher.", "sweep=")
"""How an override begins that a single job has no use for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `lsmrun` with these arguments (those of the process by default) and return the exit status."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if "-h" in typed or "--help" in typed:
        return _help(typed)
    try:
        return _dispatch(typed)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except (Exception, KeyboardInterrupt) as error:
        from runners.errors import report

        return report(error, debug=_wants_debug(typed))[0]


def _help(typed: Sequence[str]) -> int:
    from runners.help import help_text

    print(help_text(_value_of(typed, "--config-dir", "-cd")))
    return 0


def _dispatch(typed: list[str]) -> int:
    """Check what was typed, then let Hydra run it."""
    from runners.compose import Source, implied, let_open, quoted

    args = _parse(typed)
    flags = [word for word in typed if word not in set(args.overrides)]
    args.overrides = [let_open(quoted(override)) for override in args.overrides]
    args.overrides += implied(args.overrides)
    source = Source(args.config_dir, args.config_name or "config")
    complete = source.add_left_out(args.overrides)
    typed = [*flags, *complete]  # Hydra wants all overrides in one place
    if args.multirun and (args.cfg or args.info):
        from runners.check import UserError

        flag = "--cfg shows the config" if args.cfg else "--info is about the config"
        raise UserError(f"{flag} of one job: leave out --multirun, and give each key one value")
    if args.resolve and not args.cfg:
        from runners.check import UserError

        raise UserError("--resolve: goes with --cfg alone (--cfg job resolves by itself)")
    if args.cfg:
        source.compose(args.overrides)
        _hydra([*typed, "--resolve"] if args.cfg == "job" else typed)
    elif args.info or args.hydra_help or args.shell_completion:
        _hydra(typed)
    elif args.multirun:
        from runners.sweeps.sweep import run_sweep

        return run_sweep(source, complete)
    else:
        from runners.plan import make_plan

        _check_is_no_sweep(args.overrides)
        cfg = source.compose(args.overrides)
        make_plan(cfg, cfg.hydra)
        _hydra(typed)
    return 0


def _check_is_no_sweep(overrides: Sequence[str]) -> None:
    """Raise `UserError` if something of a sweep is asked for a single job, which would run as if it were not there."""
    for override in overrides:
        if override.lstrip("+").startswith(OF_SWEEPS) and override != "sweep=null":
            from runners.check import UserError

            raise UserError(f"{override}: is for sweeps; add --multirun (-m)")


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
    """What Hydra calls for a single job."""
    from hydra.core.hydra_config import HydraConfig

    from runners.errors import WRONG_INPUT, report
    from runners.job import run_job

    hydra: Any = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    try:
        run_job(cfg, hydra)
    except (Exception, KeyboardInterrupt) as error:
        status, _ = report(error, debug=bool(cfg.get("debug")), log=folder / "lsmrun.log")
        if status == WRONG_INPUT:
            _remove_traces(folder)
        raise SystemExit(status) from error


def _remove_traces(folder: Path) -> None:
    """Take away the log of a job that never began, and its folders as far as they are empty then."""
    (folder / "lsmrun.log").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        for empty in (folder, *folder.parents[:2]):
            empty.rmdir()


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
        raise UserError(f"{unknown[0]}: unknown option{suggest(unknown[0].partition('=')[0], flags, shown=20)}")
    return args


def _value_of(typed: Sequence[str], *flags: str) -> str | None:
    for i, word in enumerate(typed):
        name, equals, value = word.partition("=")
        if name in flags:
            return value if equals else next(iter(typed[i + 1 : i + 2]), None)
    return None


def _wants_debug(typed: Sequence[str]) -> bool:
    return any(word.lower() in ("debug=true", "debug=1", "debug=yes", "debug=on") for word in typed)
