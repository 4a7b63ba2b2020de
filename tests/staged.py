"""Where data sets stand that tests read when they are there: `$LSMRUN_DATA`, else `shared/datasets` beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("LSMRUN_DATA") or Path(__file__).parents[2] / "shared" / "datasets")
