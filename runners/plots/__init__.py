"""Figures of runs, one file for each kind: plain arrays in, a matplotlib `Figure` out, made without pyplot's global state."""
