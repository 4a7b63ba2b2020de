"""Saved models: `model.safetensors` (wiring, weights, readout) beside `model.yaml` (configuration, encoding, classes)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff import PACKAGED, packaged
from runners.check import UserError, build, find_target, one_line
from runners.context import NEEDS, SECTIONS, Subject

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
    """A liquid with its readout, ready to score.

    `encoding` tells how new files are brought into its form; `choices` are the options by group and `checksums` the
    digests of the data that it was made with, both empty in models of earlier versions.
    """

    network: Network
    fitted: FittedReadout
    class_names: tuple[str, ...]
    encoding: dict[str, Any]
    config: dict[str, Any]
    choices: dict[str, str]
    checksums: dict[str, str]
    path: Path


def write_model(folder: Path, context: Context, dataset: Dataset, network: Network, fitted: FittedReadout) -> None:
    """Write both files, complete or not at all; raises `ValueError` if the readout has no `arrays()`."""
    from omegaconf import OmegaConf
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = dict(network.arrays())
    arrays |= {READOUT + name: np.require(array, requirements="C") for name, array in fitted.arrays().items()}
    about = {
        "format": FORMAT,
        "class_names": list(dataset.class_names),
        "encoding": dict(dataset.encoding),
        "seed": network.seed,
        "checksums": dict(dataset.checksums),
        "choices": own_choices(context.choices),
        "config": context.config,
    }
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / ARRAYS).write_bytes(save(arrays, metadata={"format": FORMAT}))  # `save_file` leaves it to its owner
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
    """File or folder of a saved model: a path, `package:NAME`, or from the store by run id or by the name of its latest run.

    A relative path that does not exist is looked for in the folder LSMRUN_REFERENCE: weights that cannot be shipped.
    """
    if name.startswith(PACKAGED):
        return _packaged(name.removeprefix(PACKAGED))
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


def _packaged(name: str) -> Path:
    try:
        return packaged(name)
    except ValueError as error:
        raise UserError(f"checkpoint={PACKAGED}{error}") from error


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
    names = tuple(about["class_names"])
    if fitted.scores(np.ones((1, network.n_neurons), np.uint16)).shape != (1, len(names)):
        raise ValueError(f"the readout does not give {len(names)} classes")
    return SavedModel(
        network, fitted, names, about["encoding"], about["config"], about.get("choices", {}), about.get("checksums", {}),
        folder / ARRAYS,
    )  # fmt: skip


def own_choices(choices: Mapping[str, str] | None) -> dict[str, str]:
    """The choices that say what a model is, without those of how Hydra works."""
    return {group: option for group, option in (choices or {}).items() if not group.startswith("hydra/")}


def data_typed(context: Context) -> bool:
    """Whether the command says which data it means."""
    return any(o.lstrip("+").startswith(("data=", "data.", "experiment=")) for o in context.overrides)


def subject_of(
    context: Context,
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    own_data: Mapping[str, Any] | None,
    seed: int,
) -> Subject:
    """A saved model as what a run is about: what the runner that made it needed, and the data that it is scored on.

    `own_data` are the model's own, None where the command chose others; `seed` is the one that the model was made with.
    """
    try:
        needs = getattr(find_target(config["runner"]["_target_"], "runner"), "needs", NEEDS)
    except (UserError, KeyError, TypeError):  # made by a user's own class that is not there
        needs = NEEDS
    told = [key for key in needs if key in SECTIONS and key not in ("data", "system", "md")]
    if own_data is None:
        config = {**config, "data": context.config["data"]}
        choices = {**choices, "data": context.choices["data"]}
        return Subject({**config, "seed": seed}, choices, (*told, "data", "seed"))
    choices = {"data": str(own_data.get("name", "")), **choices}  # earlier versions kept no choices
    return Subject({**config, "data": own_data, "seed": seed}, choices, (*told, "data", "experiment", "seed"))


def check_unchanged(
    context: Context,
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    kept: Mapping[str, str],
    found: Mapping[str, str],
) -> None:
    """Raise `UserError` if the data that a model was made with are others by now; nothing is known of old models."""
    if kept and sorted(kept.values()) != sorted(found.values()):
        raise UserError(
            f"checkpoint={context.checkpoint}: its data have changed since it was trained, and parts drawn anew would mix "
            f"training samples into the test part; to score it on them all the same, name them: {_named(config, choices)}"
        )


def not_loaded(context: Context, config: Mapping[str, Any], choices: Mapping[str, str], error: Exception) -> UserError:
    """What to say where the data that a model was made with cannot be loaded any more."""
    return UserError(
        f"checkpoint={context.checkpoint}: the data it was trained on cannot be loaded ({one_line(error)}); "
        f"name others, or where they are now: {_named(config, choices)}"
    )


def _named(config: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """How data are named on the command line."""
    data = config["data"]
    keys = [f"data.{key}={data[key]}" for key in ("path", "train") if isinstance(data.get(key), str)]
    return " ".join([f"data={choices.get('data', data.get('name', '...'))}", *keys])
