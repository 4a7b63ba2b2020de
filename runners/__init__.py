"""Everything that knows Hydra, MLflow and the run folder.

| file | idea |
|---|---|
| `cli.py`, `help.py`, `compose.py`, `options.py` | what was typed, and the configuration that it means |
| `check.py`, `explain.py`, `errors.py` | wrong input and every other error, in one line |
| `plan.py`, `job.py`, `context.py` | one job: checked, run, and what its runner is given |
| `tracking.py`, `store.py`, `run_names.py`, `provenance.py` | MLflow, the names of runs, where numbers come from |
| `progress.py`, `paths.py`, `distributed.py` | what the user sees, folders, one job in several processes |
| `checkpoint.py`, `models.py` | what survives a kill, saved models |
| `sweeps/`, `plots/`, `stages.py` | many jobs by one command, figures, jobs inside a job |
| `record.py` | results on record: the tables of `docs/results/` |
| `classify.py`, `classify_published.py`, `cross_validate.py`, `join.py` | runners of liquids: accuracy |
| `train_network.py`, `zero_shot.py`, `dynamics.py`, `sensor.py` | the same: baselines, search, dynamics, cameras |
| `liquids.py`, `network.py`, `astro_liquid.py`, `rram_liquid.py`, `network_cost.py` | what they share |
| `fitting.py`, `descending.py` | resumable fits: of readouts, of what is trained by gradients |
| `encodings.py`, `kernel_ranks.py`, `zero_shot_groups.py`, `zero_shot_report.py` | parts of single runners of liquids |
| `label.py`, `train.py`, `distill.py`, `align.py`, `loop.py` | runners that make a force field, by steps or all in turn |
| `md.py`, `properties.py`, `export.py` | runners that use one |
| `force_fields.py`, `systems.py`, `simulation.py` | what they share: models and labels, liquids, simulations |
| `side_by_side.py` | parts of a run in processes of their own: small boxes, members of a committee |
| `densities.py`, `rounds.py` | parts of `align.py`: densities under one model after another, rounds |
| `properties_stages.py`, `properties_report.py` | parts of `properties.py` |
| `loop_stages.py`, `loop_cost.py`, `loop_report.py` | parts of `loop.py` |
| `evaluate.py`, `predict.py`, `compare.py`, `comparison.py` | runners of both: saved models on data, finished runs compared |
"""
