"""Labelled clusters: where they are cut, how they are moved, chosen and computed, and the files that they are kept in.

| file | idea |
|---|---|
| `sampling.py`, `clusters.py` | boxes, trajectories or files; a few neighbouring molecules cut out of them |
| `perturbation.py`, `heating.py` | clusters moved away from where they were cut |
| `duplicates.py`, `committee.py` | those that are the same; those on which models disagree |
| `methods.py`, `dft.py`, `potential_charges.py` | GFN2-xTB by tblite, Kohn-Sham by PySCF, charges from the potential |
| `isolated.py` | energies of isolated atoms at the same level |
| `labelling.py`, `workers.py` | all of them in parallel, resumable, every failure listed |
| `files.py` | extended XYZ that says what its labels are |
"""
