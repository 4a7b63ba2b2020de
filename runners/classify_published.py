"""As `classify`, with every epoch chosen by the TEST part: the published protocol of the random-RRAM liquid's probe.

Nothing is left for validation: its samples train, too, as all 60,000 of N-MNIST do in the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runners.classify import Classify

if TYPE_CHECKING:
    from lsm.encode import Dataset
    from lsm.readout import Features, FittedReadout
    from runners.context import Context

NAMES = {
    "test/accuracy": "published/test_accuracy",
    "baseline/raw_counts_accuracy": "published/raw_counts_accuracy",
}
"""What an accuracy is called that was looked at before the epoch was chosen."""
HONEST = ("valid/accuracy", "baseline/raw_counts_valid_accuracy")


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class ClassifyPublished(Classify):
    """Settings of `classify`; its figures are the best over epochs on the test part, and named so."""

    chosen_by: ClassVar[str] = "test"

    def run(self, context: Context) -> dict[str, float]:
        """Do everything and return the key results."""
        context.tracker.tags({"lsmrun.protocol": "published"})
        return super().run(context)

    def _score(
        self, context: Context, dataset: Dataset, features: dict[str, Features], fitted: FittedReadout
    ) -> dict[str, float]:
        return _renamed(super()._score(context, dataset, features, fitted))

    def _raw_control(self, context: Context, dataset: Dataset, window: float) -> dict[str, float]:
        return _renamed(super()._raw_control(context, dataset, window))


def _renamed(results: dict[str, float]) -> dict[str, float]:
    return {NAMES.get(name, name): value for name, value in results.items() if name not in HONEST}
