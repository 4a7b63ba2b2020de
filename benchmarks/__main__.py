"""`python -m benchmarks`: time ours and the peers, print tables, write CSVs and a picture to `benchmarks/results/`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import cases, engine, floor, growth, md, peers, rram, speed, table

NAMES = ("nalsm", "peers", "growth", "rram", "engine", "md")


QUICK_SAMPLES = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all benchmarks, or those that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small liquids, digits only, no peers: a few seconds")
    parser.add_argument("--only", choices=NAMES, action="append", help="one benchmark; may be given more than once")
    parser.add_argument("--results", type=Path, default=table.RESULTS, help="folder of the CSV files")
    options = parser.parse_args(arguments)
    effort = speed.QUICK if options.quick else speed.Effort()
    chosen = options.only or [name for name in NAMES if name != "peers" or not options.quick]

    root = Path(os.environ.get("LSMRUN_DATA") or "~/.cache/lsmrun/data").expanduser()
    digits = cases.load("digits", root)
    if {"nalsm", "peers", "growth"} & set(chosen):
        speed.warm_up(digits)
    print(table.heading(), flush=True)
    if {"nalsm", "growth"} & set(chosen):
        cost = floor.measure_cost()
        print(f"one synapse alone: row {cost.row:.2f} ns, column {cost.column:.2f} ns, static row {cost.static:.2f} ns")
    if "nalsm" in chosen:
        names = ("digits",) if options.quick else cases.DATASETS
        _report(options.results / "nalsm.csv", speed.speed_rows(root, names, effort, cost))
    if "peers" in chosen:
        _report(options.results / "peers.csv", peers.peer_rows())
    if "growth" in chosen:
        curves = []
        for curve, rows in growth.growth(digits, effort, cost):
            _report(options.results / f"{curve.name}.csv", rows)
            curves.append(curve)
        growth.draw(curves, options.results / "growth.png")
    if "rram" in chosen:
        n = QUICK_SAMPLES if options.quick else rram.WHOLE_SET
        _report(options.results / "rram.csv", rram.rram_rows(root, n, peers=not options.quick))
    if "engine" in chosen:
        effort_of_engine = engine.QUICK if options.quick else engine.Effort()
        _report(options.results / "engine.csv", engine.engine_rows(effort_of_engine))
    if "md" in chosen:
        _report(options.results / "md.csv", md.md_rows(md.QUICK if options.quick else md.Effort()))
    return 0


def _report(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Print rows as they come, then write them."""
    kept = []
    for cells in rows:
        print(table.line(cells), flush=True)
        kept.append(cells)
    table.write_rows(path, kept)


if __name__ == "__main__":
    sys.exit(main())
