"""Saved models: `model.safetensors` (wiring, weights, readout) beside `model.yaml` (configuration, encoding, classes)."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.check import UserError, build

if TYPE_CHECKING:
    from lsm.encode import Dataset
    from lsm.readout import FittedReadout
    from runners.context import Context
    from runners.network import Network

ARRAYS, ABOUT = "model.safetensors", "model.yaml"
FORMAT = "lsmrun-liquid-1"
READOUT = "readout."
SUFFIXES = (".safetensors", ".pt", ".yaml")


@dataclass(frozen=True)
class SavedModel:
    """A liquid with its readout, ready to score; `encoding` tells how new files are brought into its form."""

    network: Network
    fitted: FittedReadout
    class_names: tuple[str, ...]
    encoding: dict[str, Any]
    config: dict[str, Any]
    path: Path


def write_model(
    folder: Path, config: dict[str, Any], dataset: Dataset, network: Network, fitted: FittedReadout
) -> None:
    """Write both files, complete or not at all; raises `ValueError` if the readout has no `arrays()`."""
    from omegaconf import OmegaConf
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = dict(network.arrays())
    arrays |= {READOUT + name: np.require(array, requirements="C") for name, array in fitted.arrays().items()}
    about = {
        "format": FORMAT,
        "class_names": list(dataset.class_names),
        "encoding": dict(dataset.encoding),
        "seed": network.seed,
        "config": config,
    }
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_file(arrays, unfinished / ARRAYS, metadata={"format": FORMAT})
    (unfinished / ABOUT).write_text(OmegaConf.to_yaml(OmegaConf.create(about)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def open_model(context: Context) -> SavedModel:
    """The liquid that `checkpoint=` names: a file, a folder or an MLflow run id. Raises `UserError`."""
    path = locate_checkpoint(context)
    folder = path if path.is_dir() else path.parent
    for name in (ARRAYS, ABOUT):
        if not (folder / name).exists():
            raise UserError(f"checkpoint={context.checkpoint}: {name} is missing in {folder}")
    try:
        return _read(folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"checkpoint={context.checkpoint}: {folder} cannot be read ({error})") from error


def locate_checkpoint(context: Context) -> Path:
    """File or folder that `checkpoint=` names, fetched from the store if it is a run. Raises `UserError`."""
    if not context.checkpoint:
        raise UserError(f"checkpoint=null: runner={context.choices.get('runner')} needs a file or an MLflow run id")
    return locate(context, context.checkpoint)


def locate(context: Context, name: str) -> Path:
    """File or folder of a saved model: a path, or from the store by run id or by the name of its latest run.

    A relative path that does not exist is looked for in the folder LSMRUN_REFERENCE: weights that cannot be shipped.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    elsewhere = Path(os.environ.get("LSMRUN_REFERENCE", "")).expanduser() / path
    if os.environ.get("LSMRUN_REFERENCE") and elsewhere.exists():
        return elsewhere
    if "/" in name or path.suffix in SUFFIXES:
        raise UserError(f"checkpoint={name}: no such file or folder")
    try:
        return context.tracker.download(context.tracker.find(name), "model")
    except UserError as error:
        raise UserError(f"checkpoint={error}") from error


def _read(folder: Path) -> SavedModel:
    from omegaconf import OmegaConf
    from safetensors.numpy import load_file

    from lsm.readout import restore_readout
    from runners.liquids import restored_network

    about: Any = OmegaConf.to_container(OmegaConf.load(folder / ABOUT))
    if about.get("format") != FORMAT:
        raise UserError(f"{folder / ABOUT}: format={about.get('format')}: this version reads {FORMAT}")
    arrays = load_file(folder / ARRAYS)
    for name in ("n_excitatory", "n_inputs"):  # among the arrays since networks of other kinds are saved, too
        if name in about:
            arrays.setdefault(name, np.asarray(about[name]))
    parameters = build(about["config"]["model"], "model")
    readout = {name.removeprefix(READOUT): array for name, array in arrays.items() if name.startswith(READOUT)}
    fitted = restore_readout(build(about["config"]["readout"], "readout"), readout)
    network = restored_network(parameters, arrays, about["seed"], about["encoding"])
    return SavedModel(network, fitted, tuple(about["class_names"]), about["encoding"], about["config"], folder / ARRAYS)
