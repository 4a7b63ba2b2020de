"""From a composition, or a user's own file, to a periodic box of molecules; `System` is what `conf/system/` describes.

| file | idea |
|---|---|
| `liquid.py` | the liquid: what it consists of, at which density, with its measured values |
| `composition.py` | fractions and concentrations to whole numbers of molecules |
| `molecules.py`, `geometry.py` | species by name, SMILES or file, each relaxed and checked |
| `species.py` | which of the known species a molecule is |
| `ions.py` | charges of molecules, for files of other programs |
| `packing.py`, `box.py` | molecules into a cube; the box that simulations start from |
| `box_files.py` | boxes in PDB, extended XYZ, GROMACS and LAMMPS files |
"""

from __future__ import annotations

from mlff.system.liquid import System, Values

__all__ = ["System", "Values"]
