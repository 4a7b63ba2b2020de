"""Liquids whose fixed random weights are the conductances of resistive-memory cells (Lin et al., Nat. Comput. Sci. 2025)."""
