from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mlff
from mlff.frames import Configuration
from mlff.model import ForceField, ForceFieldParameters
from mlff.weights import dump
from tests.mlff.samples import crowd, model

TRAINED = (1, 3, 6, 7, 8, 9, 15, 16)


def as_the_authors_name_it(field: ForceField, *, later: bool = False) -> dict[str, torch.Tensor]:
    """The weights of a model under the names of the published files, with their short tables."""
    names = {
        "network.embedding": "atom_embtab",
        "network.radial.mu": "dis_rbf.means",
        "network.radial.beta": "dis_rbf.betas",
        "network.project": "rbf_proj.0" if later else "dv_proj.0",
        "network.first": "first_attn",
        "network.middle.0": "attns.0",
        "network.last": "last_attn",
        "attention.norm": "layer_norm",
        "attention.qkv": "qkv_proj",
        "attention.out": "output_proj" if later else "o_proj",
        "mix": "vec_proj",
        "charge.charge.": "charge_mlp.",
        "charge.hardness": "pred_electronegativity_hardness_mlp",
        "charge.electronegativity": "pred_electronegativity_mlp",
    }
    tensors = {}
    for name, value in field.named_parameters():
        theirs = name
        for ours, other in names.items():
            theirs = theirs.replace(ours, other)
        tensors["energy_mlp" + theirs[6:] if theirs.startswith("energy.") else theirs] = value.detach().clone()
    keep = torch.zeros(87, dtype=torch.bool)
    keep[list(TRAINED)] = True
    tensors["atom_embtab.weight"][~keep] = 1e-42
    if not later:
        tensors["electronegativity_table.weight"] = field.charge.chi_offset[:18, None].clone()
        tensors["oplsaa_charge.weight"] = field.charge.charge_offset[:18, None].clone()
    rows = 87 if later else 37
    tensors["c6_emb.weight"] = field.dispersion.c6[:rows, None].float()
    tensors["r0_emb.weight"] = field.dispersion.r0[:rows, None].float()
    return tensors


@pytest.fixture
def field() -> ForceField:
    torch.manual_seed(1)
    made = ForceField(ForceFieldParameters.bamboo2024())
    made.charge.chi_offset[:18] = torch.linspace(60.0, 270.0, 18)
    made.charge.charge_offset[:18] = torch.linspace(-0.4, 1.5, 18)
    return made


def energy(model: ForceField, c: Configuration) -> float:
    return model.predict(model.batch(c), forces=False).energy.item()


def test_plain_file_with_the_authors_names_gives_the_model(field: ForceField, tmp_path: Path) -> None:
    save_file(as_the_authors_name_it(field), tmp_path / "w.safetensors")
    loaded = mlff.load(tmp_path / "w.safetensors")
    assert loaded.parameters_of == ForceFieldParameters.bamboo2024()
    assert energy(loaded, crowd()) == pytest.approx(energy(field, crowd()), rel=1e-6)


def test_names_of_the_later_release_give_the_model_without_offsets(field: ForceField, tmp_path: Path) -> None:
    save_file(as_the_authors_name_it(field, later=True), tmp_path / "w.safetensors")
    field.charge.chi_offset[:] = 0.0
    field.charge.charge_offset[:] = 0.0
    assert energy(mlff.load(tmp_path / "w.safetensors"), crowd()) == pytest.approx(energy(field, crowd()), rel=1e-6)


class Branch(torch.nn.Module):
    """A node of a module tree that holds tensors under given names and computes nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_module_gives_the_model(field: ForceField, tmp_path: Path) -> None:
    root = Branch()
    for name, value in as_the_authors_name_it(field).items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, Branch())
            node = node.get_submodule(part)
        node.register_parameter(leaf, torch.nn.Parameter(value))
    torch.jit.script(root).save(tmp_path / "benchmark.pt")
    assert energy(mlff.load(tmp_path / "benchmark.pt"), crowd()) == pytest.approx(energy(field, crowd()), rel=1e-6)


def test_untrained_elements_of_the_published_weights_are_refused(field: ForceField, tmp_path: Path) -> None:
    save_file(as_the_authors_name_it(field), tmp_path / "w.safetensors")
    loaded = mlff.load(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"element Na was not trained; this model knows H, Li, C, N, O, F, P, S$"):
        loaded.batch(Configuration.of([11], [[0.0, 0, 0]]))


def test_published_weights_can_be_run_with_conservative_forces(field: ForceField, tmp_path: Path) -> None:
    save_file(as_the_authors_name_it(field), tmp_path / "w.safetensors")
    loaded = mlff.load(tmp_path / "w.safetensors", compat="none")
    assert (loaded.parameters_of.forces, loaded.parameters_of.smooth) == ("conservative", True)


def test_own_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    made = model(seed=3, dispersion="coordination", coulomb_cutoff_A=6.0).float()
    made.trained[:] = False
    made.trained[[1, 3, 6, 8, 9, 15]] = True
    made.reference_energy[6] = -23654.123456789
    tensors, settings = dump(made)
    (tmp_path / "m.safetensors").write_bytes(tensors)
    (tmp_path / "m.yaml").write_text(settings)
    loaded = mlff.load(tmp_path / "m.safetensors")
    assert loaded.parameters_of == made.parameters_of
    for name, value in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_digits_of_a_float64_checkpoint_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    made = model(seed=4)
    tensors, settings = dump(made)
    (tmp_path / "m.safetensors").write_bytes(tensors)
    (tmp_path / "m.yaml").write_text(settings)
    loaded = mlff.load(tmp_path / "m.safetensors", dtype=torch.float64)
    for name, value in made.changed(dispersion="element").state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_the_folder_of_a_checkpoint_gives_its_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model.safetensors: no such file of weights"):
        mlff.load(tmp_path)
    tensors, settings = dump(model())
    (tmp_path / "model.safetensors").write_bytes(tensors)
    (tmp_path / "model.yaml").write_text(settings)
    assert mlff.load(tmp_path).parameters_of == model().parameters_of


def test_bad_files_are_named_with_what_is_wrong(field: ForceField, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        mlff.load(tmp_path / "absent.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match=r"noise.safetensors: not a readable safetensors file"):
        mlff.load(tmp_path / "noise.safetensors")
    (tmp_path / "noise.pt").write_bytes(b"no module here")
    with pytest.raises(ValueError, match=r"noise.pt: neither a safetensors file .* nor a readable TorchScript"):
        mlff.load(tmp_path / "noise.pt")
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no force field"):
        mlff.load(tmp_path / "other.safetensors")
    short = as_the_authors_name_it(field)
    del short["last_attn.qkv_proj.bias"]
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"lacks network.last.attention.qkv.bias \(1 tensors missing"):
        mlff.load(tmp_path / "short.safetensors")
    (tmp_path / "lonely.safetensors").write_bytes(dump(field)[0])
    with pytest.raises(FileNotFoundError, match=r"lonely.yaml: missing"):
        mlff.load(tmp_path / "lonely.safetensors")
    (tmp_path / "lonely.yaml").write_text(dump(field)[1].replace("width: 64", "width: 65"))
    with pytest.raises(ValueError, match=r"lonely.yaml: .*width=65 is not a multiple of heads=16"):
        mlff.load(tmp_path / "lonely.safetensors")
