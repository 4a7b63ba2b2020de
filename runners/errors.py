"""Every error in one line, with its exit status.

Exit status: 0 done; 1 a job failed; 2 the input is wrong; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from runners.check import UserError, one_line

FAILED, WRONG_INPUT, INTERRUPTED, TERMINATED = 1, 2, 130, 143


def report(error: BaseException, debug: bool, name: str = "", log: Path | None = None) -> tuple[int, str]:
    """Tell the user in one line what went wrong and return exit status and line; with `debug` the traceback first."""
    if debug:
        traceback.print_exception(error)
    status, line = _told(error, debug, name, log)
    print(line, file=sys.stderr, flush=True)
    return status, line


def _told(error: BaseException, debug: bool, name: str, log: Path | None) -> tuple[int, str]:
    if isinstance(error, KeyboardInterrupt):
        terminated = type(error) is not KeyboardInterrupt
        status = TERMINATED if terminated else INTERRUPTED
        return status, f"lsmrun: {name}{'terminated' if terminated else 'interrupted'}"
    if isinstance(error, UserError):
        return WRONG_INPUT, f"lsmrun: error: {name}{one_line(error)}"
    hint = "" if debug else "; debug=true shows the traceback"
    where = f" (log: {log})" if log is not None and log.exists() else ""
    return FAILED, f"lsmrun: error: {name}{type(error).__name__}: {one_line(error)}{where}{hint}"
