"""How runs are called: their place in MLflow, their name, and a configuration as flat keys."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLD_ELSEWHERE = (
    "model",
    "data",
    "system",
    "runner",
    "experiment",
    "sweep",
    "checkpoint",
    "debug",
    "resume",
    "threads",
)
"""Keys that a run's name does not repeat: they stand in the experiment's name or change no result."""
DIGITS = 6
"""Significant digits of a number in a name; the parameters keep all of them."""


@dataclass(frozen=True)
class RunLabel:
    """How a run is filed: experiment, name, the job's hash, and the run of the sweep that it belongs to."""

    experiment: str
    name: str
    job: str
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def run_name(choices: Mapping[str, str], overrides: Sequence[str], varied: Sequence[str] = ()) -> str:
    """Name of a run: in a sweep what varied (`w_astro=0.015 seed=1`), else the model and what was set for it."""
    typed = [override.lstrip("+").partition("=") for override in overrides]
    if varied:
        return " ".join(_named(key, value) for key, _, value in typed if key in varied)
    told = [
        _named(key, value)
        for key, _, value in typed
        if key not in TOLD_ELSEWHERE and not key.startswith(("tracking.", "paths.", "hydra", "~"))
    ]
    about = choices.get("experiment") or choices.get("model") or choices.get("runner", "run")
    return " ".join([about, *told])


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists and empty mappings stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        full = f"{prefix}{key}"
        flat |= flatten(value, f"{full}.") if isinstance(value, Mapping) and value else {full: value}
    return flat


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and an ellipsis if it is too long."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _named(key: str, value: str) -> str:
    """`w_astro=0.0151234` for a key with a fraction of any length; other values as they were typed."""
    if len(value) > DIGITS and "." in value:
        with contextlib.suppress(ValueError):
            value = f"{float(value):.{DIGITS}g}"
    return f"{key.rpartition('.')[2]}={value}"
