"""Cochlea events in the form that a liquid reads: 64 channels, steps of 1 ms, as long as the longest recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.subsets import STRICT, SubsetOptions
from lsm.encode import MAX_STEPS, Events, pack_raster

CHANNELS = 64
KIND = "ntidigits"
"""Family of encodings, whatever cochlea made the events."""
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS, description="steps of 1 ms kept; null = up to the longest recording")]


@dataclass(frozen=True, config=STRICT)
class SoundOptions(SubsetOptions):
    """What all sets of cochlea events share."""

    name: str = "sounds"
    path: str | None = None
    n_steps: Steps | None = None

    def width(self, rasters: Sequence[NDArray[np.uint32]]) -> int:
        """Steps of the set: `n_steps`, else two more than the last step of all with an event.

        Two, because the original's raster of a recording that ends at t ms has ceil(t) + 1 columns.
        """
        last = max((int(r[-1] >> 16) for r in rasters if len(r)), default=0)
        return self.n_steps or min(last + 2, MAX_STEPS)

    def events_of(self, rasters: Sequence[NDArray[np.uint32]], n_steps: int) -> Events:
        """The packed rasters of single recordings as one, cut at `n_steps`."""
        return Events.from_packed([r[: np.searchsorted(r, n_steps << 16)] for r in rasters], CHANNELS, n_steps)

    def encoding(self, n_steps: int) -> dict[str, Any]:
        """What a saved model keeps."""
        return {"kind": KIND, "n_channels": CHANNELS, "n_steps": n_steps}


def pack_sound(times_ms: NDArray[np.floating], channels: NDArray[np.integer]) -> NDArray[np.uint32]:
    """One recording as a packed raster (see `lsm.encode`): an event at t ms sets the bit of step floor(t)."""
    return pack_raster(np.asarray(times_ms).astype(np.int64), channels, CHANNELS, MAX_STEPS)
