"""Density alignment: liquids of a model are moved to the measured densities; `Alignment` holds the options of a round.

| file | idea |
|---|---|
| `pressure.py` | from a density that is off to the change of pressure, and whether it came |
| `terms.py` | what a round minimises |
| `liquid_pass.py`, `molecule_pairs.py` | the network's energy and virial of liquids, pairs between molecules apart |
| `liquid_frames.py` | frames of simulated liquids |
| `aligner.py`, `descent.py` | the descent of a round, resumable |
"""

from __future__ import annotations

from mlff.alignment.terms import Alignment, AlignmentWeights

__all__ = ["Alignment", "AlignmentWeights"]
