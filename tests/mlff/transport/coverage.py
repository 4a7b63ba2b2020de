"""What an error bar has to do: be finite, cover the known answer, and be no wider than the estimates spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mlff.transport import Estimate


def check_error_bars(found: Sequence[Estimate], known: float, what: str = "") -> None:
    """95 % intervals of independent estimates of one quantity; one in a hundred may be infinite: too few blocks.

    Standard errors are compared by their mean squares, which are unbiased: their mean is 20 % low from two blocks.
    """
    finite = [e for e in found if np.isfinite(e.error)]
    assert len(finite) >= 0.99 * len(found), what
    hits = np.mean([abs(e.value - known) < e.error for e in finite])
    assert 0.90 <= hits <= 1.0, (what, hits)
    given = np.sqrt(np.mean([e.standard_error**2 for e in finite]))
    assert given == pytest.approx(np.std([e.value for e in finite]), rel=0.2), what
