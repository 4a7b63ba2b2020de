"""A user's picture files as grey values: any mode that Pillow reads, any size."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image


def read_picture(data: bytes, name: str, height: int, width: int, invert: bool) -> NDArray[np.uint8]:
    """A picture as `(height, width)` grey values, white = 255 (`invert`: black = 255).

    Stretched to the given size with a smoothing filter, turned as its EXIF says, what is transparent taken for white.
    Raises `ValueError`, naming the file `name`, for an empty, truncated or unreadable file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise ValueError(f"{name}: the image is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            grey = _grey(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        fault = "format not recognised" if isinstance(error, UnidentifiedImageError) else str(error) or "damaged"
        raise ValueError(f"{name}: not a readable image of {len(data)} bytes ({fault})") from error
    if grey.size != (width, height):
        grey = grey.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(grey, np.uint8)
    return 255 - pixels if invert else pixels


def _grey(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip it at 255 instead of scaling it
        return Image.fromarray((np.asarray(picture, np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if "A" in picture.mode or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured).convert("L")
    return picture.convert("L")
