"""Weights from files: our own checkpoints, a plain file of the authors' tensors, and the authors' TorchScript.

Nothing of the authors' weights is shipped: they are read from the user's file, renamed to our modules by
`AUTHORS_NAMES`, and run with the behaviour they were published with.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mlff.get import N_ROWS, NetworkParameters
from mlff.model import ForceField, ForceFieldParameters

Compat = Literal["bamboo2024", "none"]

UNTRAINED_NORM = 1e-6
"""Weight decay takes the embedding of an element that never occurs in training below this norm."""

AUTHORS_NAMES = (
    (r"atom_embtab\.", "network.embedding."),
    (r"dis_rbf\.means", "network.radial.mu"),
    (r"dis_rbf\.betas", "network.radial.beta"),
    (r"(dv|rbf)_proj\.0\.", "network.project."),
    (r"first_attn\.", "network.first."),
    (r"attns\.(\d+)\.", r"network.middle.\1."),
    (r"last_attn\.", "network.last."),
    (r"layer_norm\.", "attention.norm."),
    (r"qkv_proj\.", "attention.qkv."),
    (r"(o|output)_proj\.", "attention.out."),
    (r"vec_proj\.", "mix."),
    (r"^energy_mlp\.", "energy."),
    (r"^charge_mlp\.", "charge.charge."),
    (r"^pred_electronegativity_hardness_mlp\.", "charge.hardness."),
    (r"^pred_electronegativity_mlp\.", "charge.electronegativity."),
    (r"^electronegativity_table\.weight", "charge.chi_offset"),
    (r"^oplsaa_charge\.weight", "charge.charge_offset"),
    (r"^c6_emb\.weight", "dispersion.c6"),
    (r"^r0_emb\.weight", "dispersion.r0"),
)
"""Names of tensors in the authors' files (both releases) and ours; the tables are indexed with the atomic number."""

_TABLES = ("charge.chi_offset", "charge.charge_offset", "dispersion.c6", "dispersion.r0")


def load(path: str | Path, *, compat: Compat | None = None, dtype: torch.dtype = torch.float32) -> ForceField:
    """A model from a file of any of the three kinds, or from the folder of a checkpoint of our own.

    The authors' weights behave as published unless `compat="none"`, which gives them conservative forces and smooth
    ends; our own behave as they were trained, or as published with `compat="bamboo2024"`.
    Raises `FileNotFoundError`, or `ValueError` that names what the file lacks.
    """
    path = Path(path)
    if path.is_dir():  # of a checkpoint of ours
        path = path / "model.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file of weights")
    tensors = _read(path)
    settings = path.with_suffix(".yaml")
    if "network.embedding.weight" in tensors:
        if not settings.exists():
            raise FileNotFoundError(f"{settings}: missing; it holds the settings of {path.name}")
        parameters = _parameters(settings)
    else:
        tensors = _renamed(tensors, path)
        parameters = ForceFieldParameters.bamboo2024(network=_sizes(tensors, path))
        compat = compat or "bamboo2024"
    if compat is not None:
        wanted = ForceFieldParameters.bamboo2024() if compat == "bamboo2024" else ForceFieldParameters()
        parameters = replace(
            parameters, **{k: getattr(wanted, k) for k in ("charge_groups", "erfc", "smooth", "forces")}
        )
    model = ForceField(parameters).to(dtype)
    _fill(model, tensors, path)
    return model.eval()


def dump(model: ForceField) -> tuple[bytes, str]:
    """A checkpoint of our own: the bytes of a safetensors file and the text of the YAML that lies beside it."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    return save(tensors), yaml.safe_dump({"force_field": asdict(model.parameters_of)}, sort_keys=False)


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of a TorchScript module."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        return dict(torch.jit.load(path, map_location="cpu").state_dict())
    except RuntimeError:
        raise ValueError(f"{path}: neither a safetensors file (by its name) nor a readable TorchScript") from None


def _parameters(path: Path) -> ForceFieldParameters:
    try:
        content: Any = yaml.safe_load(path.read_text())
        values = dict(content["force_field"])
        return ForceFieldParameters(**(values | {"network": NetworkParameters(**values["network"])}))
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not the settings of a force field ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _renamed(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    if not tensors:
        raise ValueError(f"{path}: holds no weights by name; what runner=export wrote is not read back, its source is")
    if "atom_embtab.weight" not in tensors:
        found = ", ".join(sorted(tensors)[:3])
        raise ValueError(f"{path}: holds no force field: neither our names nor the authors' (found {found}, ...)")
    renamed = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, ours in AUTHORS_NAMES:
            new = re.sub(pattern, ours, new)
        renamed[new] = tensor
    embedding = renamed["network.embedding.weight"]
    renamed["trained"] = embedding.norm(dim=1) > UNTRAINED_NORM
    renamed["trained"][0] = False
    for table in _TABLES:
        if table in renamed:
            rows = renamed[table].reshape(-1)[:N_ROWS]
            renamed[table] = torch.cat([rows, torch.zeros(N_ROWS - len(rows), dtype=rows.dtype)])
            if table != "dispersion.c6" and table != "dispersion.r0":
                # an element beyond the table would raise in the original
                renamed["trained"][len(rows) :] = False
    return renamed


def _sizes(tensors: dict[str, Tensor], path: Path) -> NetworkParameters:
    """Sizes of a network from the shapes of its tensors; heads and cutoff are those of every published model."""
    middle = {name.split(".")[2] for name in tensors if name.startswith("network.middle.")}
    try:
        return NetworkParameters(
            width=tensors["network.embedding.weight"].shape[1],
            layers=2 + len(middle),
            n_radial=len(tensors["network.radial.mu"]),
            hidden=tensors["energy.0.weight"].shape[0],
        )
    except KeyError as error:
        raise ValueError(f"{path}: tensor {error} is missing") from None


def _fill(model: ForceField, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy tensors into the model; what only one side has is an error, but for tables that default to ours."""
    own = model.state_dict()
    optional = {*_TABLES, "trained", "reference_energy"}
    missing = sorted(own.keys() - tensors.keys() - optional)
    unknown = sorted(tensors.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"holds the unknown {unknown[0]}"
        raise ValueError(f"{path}: {what} ({len(missing)} tensors missing, {len(unknown)} unknown)")
    for name, tensor in tensors.items():
        if own[name].shape != tensor.shape:
            raise ValueError(f"{path}: {name} has shape {list(tensor.shape)}, expected {list(own[name].shape)}")
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()}, strict=False)
