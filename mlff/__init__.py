"""A machine-learned force field for liquid electrolytes; nothing here knows Hydra, MLflow or run folders."""
