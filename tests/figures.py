"""What tests of pictures share: a figure that has really been drawn."""

from __future__ import annotations

from io import BytesIO
from typing import Any


def drawn(figure: Any) -> Any:
    """The axes of a figure that has been rendered to PNG."""
    figure.savefig(buffer := BytesIO(), format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    return figure.axes
