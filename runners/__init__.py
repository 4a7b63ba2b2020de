"""Everything that knows Hydra, MLflow and the run folder."""
