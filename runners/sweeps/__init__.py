"""Many jobs by one command (`lsmrun -m`).

| file | idea |
|---|---|
| `sweep.py` | all values of a grid: jobs known and checked before the first starts |
| `launch.py` | those jobs in the hands of Hydra's launcher |
| `search.py`, `space.py`, `study.py`, `report.py` | values found as it goes, with Optuna, and what they say |
"""
