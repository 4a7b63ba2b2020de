"""The space of a search, read from the same words as a sweep: `1,2`, `choice(...)`, `range(...)`, `interval(...)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from runners.check import UserError


@dataclass(frozen=True)
class Dimension:
    """One key of the space."""

    key: str
    typed: str
    """What the user typed: equal for equal dimensions."""
    distribution: BaseDistribution
    ends: tuple[Any, ...]
    """Every choice, or both ends of a range."""
    texts: Mapping[Any, str]
    """How each choice is typed; empty for numbers."""

    def override(self, value: Any) -> str:
        """What is told to a job: `model.w_astro=0.015`."""
        return f"{self.key}={self.texts.get(value, repr(value))}"


Space = Mapping[str, Dimension]


def read_space(varied: Mapping[str, Override]) -> dict[str, Dimension]:
    """The space that these overrides span; raises `UserError` for a range that is none."""
    return {key: _dimension(key, override) for key, override in varied.items()}


def corners(space: Space) -> list[list[str]]:
    """Overrides that try every end of every dimension once, the others at their first."""
    first = {key: dimension.ends[0] for key, dimension in space.items()}
    points = [first]
    for key, dimension in space.items():
        points += [first | {key: end} for end in dimension.ends[1:]]
    return [[space[key].override(value) for key, value in point.items()] for point in points]


def _dimension(key: str, override: Override) -> Dimension:
    typed, value = str(override.input_line), override.value()
    log = "log" in getattr(value, "tags", ())
    distribution: BaseDistribution
    try:
        if isinstance(value, IntervalSweep):
            distribution = _numbers(value.start, value.end, None, log)
        elif isinstance(value, RangeSweep):
            numbers = list(value.range())
            distribution = _numbers(min(numbers), max(numbers), abs(value.step), log)
        else:
            texts: dict[Any, str] = dict(zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True))
            choices = tuple(texts)
            return Dimension(key, typed, CategoricalDistribution(choices), choices, texts)
    except (ValueError, TypeError) as error:
        raise UserError(f"{typed}: is no range to search in ({error})") from error
    return Dimension(key, typed, distribution, (distribution.low, distribution.high), {})


def _numbers(low: Any, high: Any, step: Any, log: bool) -> IntDistribution | FloatDistribution:
    """Whole numbers if all are; a step of 1 is no step where the scale is logarithmic."""
    if all(isinstance(x, int) for x in (low, high, step or 1)):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(float(low), float(high), log=log, step=step and float(step))
