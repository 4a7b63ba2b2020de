"""What the liquid sees of a data set: rasters of 1-ms bins cropped and binned into the encoder's steps."""

from __future__ import annotations

from typing import Any

from lsm.encode import Events, Inputs
from lsm.rram.parameters import RramParameters


def steps_for(
    encoding: dict[str, Any], parameters: RramParameters, inputs: Inputs, *, seed: int = 0, part: str = ""
) -> Events:
    """`inputs` of a data set with this `encoding` as a raster of `parameters.steps` steps.

    Recordings of N-MNIST: one polarity, central 16x16 pixels, bins of 6 ms. N-TIDIGITS: each recording squeezed into at
    most T steps. Images: spikes at random with a chance that follows the grey value (`seed` and `part` name the stream).
    Raises `ValueError` for open parameters.
    """
    raise NotImplementedError
