"""What a zero-shot run tells: mean and spread over networks, binomial errors, and chance beside each accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lsm.retrieval import Direction, Sense

SEARCHES = {
    "seen": "seen classes, gallery of seen classes",
    "unseen": "unseen classes, gallery of unseen classes",
    "all_seen": "seen classes, gallery of all classes",
    "all_unseen": "unseen classes, gallery of all classes",
}


@dataclass
class Outcome:
    """By network: both directions, the embedded test samples; by rule of choice: the chosen epochs and their scores."""

    directions: list[tuple[Direction, Direction]] = field(default_factory=list)
    senses: list[tuple[Sense, Sense]] = field(default_factory=list)
    epochs: dict[str, list[int]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def by_direction(self) -> Iterator[tuple[str, list[Direction]]]:
        """Name of each direction with its outcome for every network."""
        for k in (0, 1):
            directions = [both[k] for both in self.directions]
            yield directions[0].name, directions


def metrics_of(outcome: Outcome, prefix: str) -> dict[str, float]:
    """All figures as metrics: `test/audio_to_image/seen` is a mean over networks, `..._chance` what chance gives.

    `_std` is the sample deviation over networks, absent for one; `_standard_error` the mean binomial error of the queries.
    """
    results: dict[str, float] = {}
    for name, directions in outcome.by_direction():
        head = f"{prefix}/{name}"
        for search in SEARCHES:
            found = [getattr(direction, search) for direction in directions]
            key = f"{head}/{search}"
            results |= _mean_std(key, [f.accuracy.value for f in found])
            results[f"{key}_chance"] = found[0].chance
            results[f"{key}_standard_error"] = float(np.mean([f.accuracy.standard_error for f in found]))
            results[f"{key}_top5"] = float(np.mean([f.top5 for f in found]))
            results[f"{key}_top5_chance"] = found[0].top5_chance
            results[f"{key}_queries"] = float(found[0].accuracy.n)
        results |= _mean_std(f"{head}/harmonic", [d.harmonic for d in directions])
        results[f"{head}/harmonic_chance"] = directions[0].harmonic_chance
    for rule, scores in outcome.scores.items():
        if rule.startswith("published/"):  # 1 more stands for epochs that reach the thresholds
            results[f"{rule}/reached"] = float(np.mean(np.array(scores) >= 1))
    return results


def by_network(outcome: Outcome) -> Iterator[tuple[int, dict[str, float]]]:
    """The figures of each network, to be logged as steps."""
    for k in range(len(outcome.directions)):
        values: dict[str, float] = {}
        for direction in outcome.directions[k]:
            head = f"network/{direction.name}"
            values |= {f"{head}/{name}": found.accuracy.value for name, found in direction.searches()}
            values[f"{head}/harmonic"] = direction.harmonic
        for rule, epochs in outcome.epochs.items():
            values[f"network/epoch/{rule}"] = float(epochs[k])
        yield k, values


def table(outcome: Outcome, heading: str) -> str:
    """The figures in words: each accuracy with its spread over networks, its binomial error and chance."""
    lines = [heading]
    for name, directions in outcome.by_direction():
        lines.append(f"  {name.replace('_to_', ' searches ')}")
        for search, words in SEARCHES.items():
            found = [getattr(direction, search) for direction in directions]
            error = float(np.mean([f.accuracy.standard_error for f in found]))
            told = _told([f.accuracy.value for f in found])
            n = found[0].accuracy.n
            lines.append(
                f"    {words:<42} {told}   chance {100 * found[0].chance:5.2f} %   "
                f"binomial error {100 * error:.2f} % of {n} queries"
            )
        told = _told([d.harmonic for d in directions])
        lines.append(
            f"    {'H of the two lines above':<42} {told}   chance {100 * directions[0].harmonic_chance:5.2f} %"
        )
    return "\n".join(lines)


def key_results(results: dict[str, float], prefix: str) -> dict[str, float]:
    """Those that are printed last: each accuracy with its chance."""
    names = [name for name in results if name.startswith(f"{prefix}/")]
    wanted = [n for n in names if n.rpartition("/")[2] in ("seen", "unseen", "harmonic")]
    shown = {"valid/accuracy": results["valid/accuracy"]} if "valid/accuracy" in results else {}
    for name in wanted:
        shown |= {key: results[key] for key in (name, f"{name}_std", f"{name}_chance") if key in results}
    return shown


def _mean_std(key: str, values: list[float]) -> dict[str, float]:
    return {key: float(np.mean(values))} | ({f"{key}_std": float(np.std(values, ddof=1))} if len(values) > 1 else {})


def _told(values: list[float]) -> str:
    spread = f" ± {100 * np.std(values, ddof=1):4.2f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):5.2f}{spread} %"
