"""The text of `lsmrun --help`: choices, keys and examples, written without importing anything heavy."""

from __future__ import annotations

from pathlib import Path

from runners.options import Groups, find_groups

HEAD = """\
lsmrun: one experiment runner for liquid state machines and machine-learned liquid electrolytes

Usage: lsmrun [GROUP=OPTION ...] [KEY=VALUE ...] [-m] [--config-dir DIR] [--cfg job] [--help]

A model, a data set and a runner make a run; what it measured goes to MLflow. Anything left out has a default:
the model names its runner, data and readout.
"""

EXAMPLES = """\
Examples
  lsmrun                                            a liquid learns the digits inside scikit-learn
  lsmrun data=mnist seed=1                          another data set, another network
  lsmrun model=lsm model.w_start=0.8                a baseline with one value changed
  lsmrun -m model.w_astro=0.002,0.015,0.05 seed=0,1,2   a sweep of nine runs
  lsmrun -m sweep=nalsm_w_astro                     a search for the best values (Optuna)
  lsmrun runner=compare runner.experiment=classify/mnist   what differs between runs, over seeds
  lsmrun experiment=nalsm/mnist_1000                a published experiment
  lsmrun runner=evaluate checkpoint=<file or MLflow run id>   score a saved model
  lsmrun --config-dir my_conf readout=mine          your own choices, with your own classes

Keys of every run
  seed=0                 one seed for everything random; 0 is a seed
  threads=null           CPU threads; null takes all cores, the result is the same for any number
  resume=true            go on with the same command's killed run; false starts afresh
  checkpoint=null        a saved model: file or MLflow run id
  debug=false            true shows tracebacks
  paths.data, paths.home data sets and outputs; the variables LSMRUN_DATA and LSMRUN_HOME come first
  tracking.experiment, tracking.name, tracking.tags, tracking.uri   where and how MLflow files the run

Options
  -m, --multirun         run every combination of comma-separated values
  --cfg job              print the resolved configuration and stop; lists every key that can be set
  --config-dir DIR       add your own choices: DIR/<group>/<option>.yaml
  -h, --help             this text"""


def help_text(config_dir: str | Path | None = None) -> str:
    """The whole help text, with the choices of `config_dir` among the built-in ones."""
    return f"{HEAD}\n{_choices(find_groups(config_dir))}\n{EXAMPLES}"


def _choices(groups: Groups) -> str:
    lines = []
    for group, options in groups.items():
        lines.append(f"{group}=")
        width = max(map(len, options))
        lines += [f"  {name:<{width}}  {text}".rstrip() for name, text in options.items()]
        lines.append("")
    return "\n".join(lines)
