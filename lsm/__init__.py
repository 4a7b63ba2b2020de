"""Liquid state machines: NumPy, numba and torch; nothing here knows Hydra, MLflow or run folders."""
