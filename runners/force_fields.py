"""Force fields on disk, and label sets for runners: what training and evaluation share.

A saved force field is a folder with `model.safetensors` and `model.yaml`, which `mlff.load` reads; the YAML also says
what the labels were (`labels`), so that they are never compared with others that treat dispersion differently.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.check import UserError, build
from runners.context import Subject
from runners.explain import unknown_key
from runners.models import ABOUT, ARRAYS, locate, locate_checkpoint, own_choices

if TYPE_CHECKING:
    from mlff.datasets import LabelSet
    from mlff.frames import Configuration
    from mlff.labelled import LabelledFrame
    from mlff.model import ForceField
    from mlff.scores import Comparison
    from runners.context import Context

FORMAT = "lsmrun-force-field-1"
NAMED = re.compile(r"[^():]+\(\d+\)(:[^():]+\(\d+\))*")
"""A composition that tells molecules by name: `EC(1):PF6(2)`."""
DIVIDING = ("train", "valid", "valid_fraction", "test_fraction", "split")
"""Keys of label sets that decide which frames are held out."""
KEY_RESULTS = (
    "energy/mae_meV_per_atom", "forces/mae_meV_per_A", "net_forces/mae_meV_per_A", "charges/mae_e", "dipole/mae_D",
)  # fmt: skip


@dataclass(frozen=True)
class SavedForceField:
    """A model and what its file says of it; `labels` are those that it learned, empty for weights from elsewhere."""

    model: ForceField
    labels: dict[str, Any]
    config: dict[str, Any]
    path: Path
    choices: dict[str, str] = field(default_factory=dict)
    """Options by group that it was made with; empty in models of earlier versions and from elsewhere."""

    def strange(self, names: Iterable[str]) -> list[str]:
        """Those of these molecules that none of its labels held, as far as they say what they hold."""
        known = self.labels.get("molecules")
        return [] if known is None else sorted(set(names) - set(known))

    @property
    def dispersion(self) -> str:
        """Whether the labels that it learned contain dispersion; those of published weights do not."""
        return str(self.labels.get("dispersion", "none"))


def read_committee(context: Context) -> list[SavedForceField]:
    """The models that `checkpoint=` names, one or several; raises `UserError`, also for two with the same weights."""
    from mlff.model import check_committee

    saved = [read_force_field(locate(context, name), name) for name in context.checkpoints]
    try:
        check_committee([s.model for s in saved], context.checkpoints)
    except ValueError as error:
        raise UserError(f"checkpoint: {error}") from None
    return saved


def write_force_field(
    folder: Path,
    model: ForceField,
    labels: LabelSet,
    config: dict[str, Any],
    choices: Mapping[str, str] | None = None,
) -> None:
    """Write both files, complete or not at all; `config` and `choices` are what the model was made with."""
    import yaml

    from mlff.weights import dump

    tensors, settings = dump(model)
    learned = {
        "name": labels.name,
        "dispersion": labels.dispersion,
        "labels": list(labels.labels),
        "frames": len(labels.train),
        "molecule_charges": sorted({q for frame in labels.train for q in _molecule_charges(frame.configuration)}),
        "molecules": _molecules(labels.train),
        "checksums": dict(labels.checksums),
        "split_seed": labels.split_seed,
        "credit": labels.credit,
    }
    made = {"choices": own_choices(choices), "config": config}
    about = yaml.safe_dump({"format": FORMAT, "labels": learned, **made}, sort_keys=False, allow_unicode=True)
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / ARRAYS).write_bytes(tensors)
    (unfinished / ABOUT).write_text(settings + about, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _molecules(frames: Sequence[LabelledFrame]) -> list[str] | None:
    """Names of the molecules in frames that are called by what they are made of, `EC(1):PF6(2)`; None if one is not."""
    compositions = {frame.composition for frame in frames}
    if not all(NAMED.fullmatch(composition) for composition in compositions):
        return None
    return sorted({part.partition("(")[0] for composition in compositions for part in composition.split(":")})


def _molecule_charges(c: Configuration) -> list[float]:
    """Charges of the molecules that a frame names, else that of all of it."""
    return [c.total_charge] if c.fragment_charges is None else [float(q) for q in np.unique(c.fragment_charges)]


def is_force_field(path: Path) -> bool:
    """Whether a checkpoint is a force field: ours by its YAML, weights from elsewhere by having none of a liquid."""
    about = (path if path.is_dir() else path.parent) / ABOUT
    if path.is_file() and path.suffix in (".safetensors", ".pt") and path.name != ARRAYS:
        return True
    return about.exists() and f"format: {FORMAT}" in about.read_text(encoding="utf-8")


def open_force_field(context: Context) -> SavedForceField:
    """The force field that `checkpoint=` names, of any kind that `mlff.load` reads. Raises `UserError`."""
    return read_force_field(locate_checkpoint(context), str(context.checkpoint))


def read_force_field(path: Path, name: str) -> SavedForceField:
    """The force field in a file or folder that `checkpoint=<name>` has led to. Raises `UserError`."""
    from omegaconf import OmegaConf

    import mlff

    path = path / ARRAYS if path.is_dir() else path
    try:
        model: ForceField = mlff.load(path)
        about = path.with_suffix(".yaml")
        content: Any = OmegaConf.to_container(OmegaConf.load(about)) if about.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint={name}: {error}") from error
    return SavedForceField(
        model, content.get("labels", {}), content.get("config", {}), path, content.get("choices", {})
    )


def frames_only(context: Context, data: Any) -> Any:
    """The data, if they are frames; raises `UserError` for others."""
    kind = getattr(data, "kind", "something else")
    if kind != "frames":
        raise UserError(f"data={context.choices.get('data')}: force fields take frames, not {kind}")
    return data


def load_labels(
    context: Context, data: Any, learned: Mapping[str, str] | None = None, *, to_score: bool = False
) -> LabelSet:
    """Read and split a label set; belongs into a runner's `prepare`, since its errors are the user's.

    `learned`: whether the labels of models that meet these contain dispersion, by the model's name; all must agree.
    A set without training files is only good `to_score`.
    """
    from mlff.training.trainable import check_dispersion

    if not (data.train or to_score):
        raise UserError("data.train: has no value; give data.train=...")
    learned = learned or {}
    check_dispersion({**learned, data.name: data.dispersion})
    try:
        with context.phase("data"):
            labels: LabelSet = data.load(context.data_root, context.seed, _fetch)
    except ImportError as error:
        raise UserError(f"force fields need more packages ({error}); pip install 'lsmrun[md]'") from error
    check_dispersion({**learned, labels.name: labels.dispersion})
    if labels.warning:
        context.progress.warn(labels.warning)
    return labels


def _fetch(name: str, sha256: str, url: str, folder: Path) -> Path:
    from lsm.datasets.fetch import DownloadError, RemoteFile, fetch

    try:
        return fetch(RemoteFile(name, f"sha256:{sha256}", (url,)), folder)
    except DownloadError as error:
        told = str(error).partition("; go online")[0]
        raise FileNotFoundError(f"{told}; go online, or put it there by hand (sha256 {sha256})") from error


def saved_data(context: Context, saved: SavedForceField, *, to_score: bool = False) -> Any:
    """The data that were typed, else those that the model was trained on, with the keys of `data` that were typed.

    Where both are the same, so are the frames held out: a model is not judged by frames that it has learned. Test files
    that are typed are enough `to_score` a model. Raises `UserError` where it has no data.
    """
    section = data_section(context, saved)
    if to_score and "test" in data_keys(context) and section.get("test"):
        own = {"train": section["train"] if "train" in data_keys(context) else [], "valid": [], "isolated": []}
        section = {**section, **own}
    return own_split(build(section, "data"), saved)


def data_section(context: Context, saved: SavedForceField) -> dict[str, Any]:
    """What `saved_data` is built from: the option that was typed, else the checkpoint's own with the keys that were typed."""
    section, own = context.config["data"], saved.config.get("data")
    if not means_own_data(context, saved):
        return dict(section)
    if own is None:
        raise UserError(f"checkpoint={context.checkpoint}: does not say what it was trained on; give data=...")
    return _changed(own, section, data_keys(context))


def means_own_data(context: Context, saved: SavedForceField) -> bool:
    """Whether the checkpoint's own data are meant, as they are or with the keys of `data` that were typed.

    `data=frames` without training files means them as well: it says nothing but what is typed.
    """
    if not any(o.lstrip("+").startswith(("data=", "experiment=")) for o in context.overrides):
        return True
    bare = context.choices.get("data") == "frames" and context.config["data"]["train"] == "???"
    return bare and saved.config.get("data") is not None


def _changed(own: dict[str, Any], section: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The checkpoint's own section with typed keys; raises `UserError` for one that frames do not have."""
    from omegaconf import OmegaConf

    changed, given = OmegaConf.create(own), OmegaConf.create(dict(section))
    for key in typed:
        if OmegaConf.select(changed, key, default=KeyError) is KeyError:
            raise UserError(unknown_key("data", key, OmegaConf.select(given, key), list(own)))
        OmegaConf.update(changed, key, OmegaConf.select(given, key), merge=False)
    plain: Any = OmegaConf.to_container(changed)
    return {str(key): value for key, value in plain.items()}


def data_keys(context: Context) -> list[str]:
    """Keys of `data` that were typed, without the `data.` before them."""
    keys = [o.lstrip("+").partition("=")[0] for o in context.overrides]
    return [key.removeprefix("data.") for key in keys if key.startswith("data.")]


def own_split(data: Any, saved: SavedForceField) -> Any:
    """`data` with the parts that the model was trained with, where these are its own."""
    own = saved.config.get("data", {})
    if not all(own.get(key, KeyError) == getattr(data, key, ValueError) for key in DIVIDING):
        return data
    seed = saved.labels.get("split_seed", saved.config.get("seed"))  # models of earlier versions say only the second
    return data if data.split_seed is not None else replace(data, split_seed=seed)


def config_of(context: Context, saved: SavedForceField) -> dict[str, Any]:
    """The configuration to save with a model that learned from `saved_data`: these are its data, typed or not."""
    return {**context.config, "data": data_section(context, saved)}


def choices_of(context: Context, saved: SavedForceField) -> dict[str, str]:
    """The choices that belong to `config_of`."""
    if not means_own_data(context, saved):
        return context.choices
    others = {group: option for group, option in context.choices.items() if group != "data"}
    return others | {group: option for group, option in saved.choices.items() if group == "data"}


def data_subject(context: Context, saved: SavedForceField) -> Subject:
    """The data of `saved_data` as what a run is about."""
    section, chosen = data_section(context, saved), choices_of(context, saved)
    return Subject({"data": section}, {"data": str(section.get("name", "")), **chosen}, ("data",))


def log_labels(context: Context, labels: LabelSet) -> None:
    """Record the label set in the run: an entry for each part that has frames, and its facts as an artifact."""
    import hashlib

    text = ";".join(f"{k}={v}" for k, v in sorted(labels.checksums.items()))
    digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    for part, used_for in (("train", "training"), ("valid", "validation"), ("test", "testing")):
        frames = getattr(labels, part)
        if frames:
            atoms = sum(len(f.configuration.numbers) for f in frames)
            profile = f"{len(frames)} frames, {atoms} atoms"
            context.tracker.input(labels.name, f"{digest}-{part}", ", ".join(labels.checksums), used_for, profile)
    parts = {part: [f.name for f in getattr(labels, part)] for part in ("train", "valid")}
    facts = {"credit": labels.credit, "labels": list(labels.labels), "dispersion": labels.dispersion}
    context.tracker.yaml({**facts, "checksums": dict(labels.checksums), "frames": parts}, "data.yaml")


def record_errors(context: Context, compared: Comparison, part: str, *, pictures: bool) -> dict[str, float]:
    """Log the errors on one part, by element and by composition too, with parity plots; returns all of them."""
    results = compared.errors()
    elements, compositions = compared.by_element(), compared.by_composition()
    for row in elements:
        kinds = {k: v for k, v in row.items() if "_mae_" in k}
        results |= {f"by_element/{row['element']}_{k}": v for k, v in kinds.items()}
    context.tracker.metrics(results)
    context.tracker.text(_csv(elements), f"errors/{part}_by_element.csv")
    context.tracker.text(_csv(compositions), f"errors/{part}_by_composition.csv")
    if pictures:
        from runners.plots import frames as frame_plots

        context.tracker.figure(frame_plots.parity(compared, part), f"pictures/parity_{part}.png")
        context.tracker.figure(frame_plots.error_bars(elements, compositions), f"pictures/errors_{part}.png")
    return results


def _csv(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = [",".join(names), *(",".join(_cell(row.get(n, "")) for n in names) for row in rows)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
