"""Force fields for other programs: TorchScript for LAMMPS' pair style bamboo, and weights under the authors' names.

The pair style gives a dictionary of tensors (float64 and int64, on its GPU) and expects one of float64:

| input | shape | meaning |
|---|---|---|
| `atom_types` | `(n,)` | atomic numbers |
| `edge_index` | `(2, n_edges)` | receivers and senders within the network's cutoff, both directions |
| `edge_cell_shift` | `(n_edges, 3)` | their vectors r_i - r_j, Å |
| `coul_edge_...`, `disp_edge_...` | | the same within the cutoffs of Coulomb and dispersion |
| `g_ewald` | `(1,)` | splitting of LAMMPS' k-space solver in 1/Å; 0 without one: see below |
| `pos`, `cell` | `(n, 3)`, `(3, 3)` | not used |

| output | shape | meaning |
|---|---|---|
| `pred_energy`, `pred_coul_energy` | `(1,)` | all of it, and its real-space Coulomb part, kcal/mol |
| `pred_forces` | `(n, 3)` | kcal/mol/Å |
| `pred_virial` | `(3, 3)` | kcal/mol, -dE/d(strain) |
| `pred_charge` | `(n,)` | e |

Without a k-space solver (`g_ewald` 0) the Coulomb energy is that of all pairs that are given, whole and unshifted, as in
the published pair style: right for a molecule whose pairs all lie within the Coulomb cutoff, a sum that ends with a
step at the cutoff for a liquid.

Where the model's charges add up by molecule (`charge_groups="fragment"`), the script finds the molecules itself, at
every step: what bonds connect that are shorter than `BOND_STRETCH` sums of covalent radii, ions of metals each by itself.
Their charges are told by composition, from a table that is part of the file.

Charges are held fixed in the forces whatever the model says, because the potential of the k-space solver, which their
response would need, never reaches the pair style.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mlff import coulomb
from mlff.charges import BOND_STRETCH, bond_radii, equilibration_energy
from mlff.frames import Configuration
from mlff.get import N_ROWS, NetworkParameters
from mlff.model import ForceField

OUR_NAMES = (
    (r"^network\.embedding\.", "atom_embtab."),
    (r"^network\.radial\.mu", "dis_rbf.means"),
    (r"^network\.radial\.beta", "dis_rbf.betas"),
    (r"^network\.project\.", "dv_proj.0."),
    (r"^network\.first\.", "first_attn."),
    (r"^network\.middle\.(\d+)\.", r"attns.\1."),
    (r"^network\.last\.", "last_attn."),
    (r"attention\.norm\.", "layer_norm."),
    (r"attention\.qkv\.", "qkv_proj."),
    (r"attention\.out\.", "o_proj."),
    (r"\bmix\.", "vec_proj."),
    (r"^energy\.", "energy_mlp."),
    (r"^charge\.charge\.", "charge_mlp."),
    (r"^charge\.hardness\.", "pred_electronegativity_hardness_mlp."),
    (r"^charge\.electronegativity\.", "pred_electronegativity_mlp."),
    (r"^charge\.chi_offset$", "electronegativity_table.weight"),
    (r"^charge\.charge_offset$", "oplsaa_charge.weight"),
    (r"^dispersion\.c6$", "c6_emb.weight"),
    (r"^dispersion\.r0$", "r0_emb.weight"),
)
"""Our names of tensors and those of the published checkpoint."""


def authors_tensors(model: ForceField) -> dict[str, Tensor]:
    """All weights as the published checkpoint names them, float32; elements that were not trained get a zero embedding.

    What that form cannot say is left out: settings, and energies of isolated atoms. Raises `ValueError` on a model that
    is not of its kind.
    """
    p, fixed = model.parameters_of, NetworkParameters()
    if model.charge is None or p.dispersion == "coordination":
        kind = "without charges" if model.charge is None else "with dispersion by coordination"
        raise ValueError(f"a model {kind} has no form in the authors' files")
    for name in ("heads", "cutoff_A"):
        if getattr(p.network, name) != getattr(fixed, name):
            raise ValueError(f"{name}={getattr(p.network, name)}: the authors' files mean {getattr(fixed, name)}")
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name in ("trained", "reference_energy"):
            continue
        value = tensor.detach().cpu().float()
        theirs = name
        for ours, other in OUR_NAMES:
            theirs = re.sub(ours, other, theirs)
        # tables of elements are embeddings of one number there
        tensors[theirs] = (value[:, None] if value.dim() == 1 and len(value) == N_ROWS else value).contiguous().clone()
    tensors["atom_embtab.weight"][~model.trained.cpu()] = 0.0
    return tensors


def keeps_molecules(model: ForceField) -> bool:
    """Whether the charges of a model add up by molecule."""
    return model.charge is not None and model.parameters_of.charge_groups == "fragment"


def ions_of(model: ForceField) -> dict[str, float]:
    """Charges in e of the ions that a model has the elements for, where it keeps the charges of molecules."""
    from mlff.system.ions import known_ions

    return known_ions(torch.nonzero(model.trained).flatten().tolist()) if keeps_molecules(model) else {}


def pair_style(
    model: ForceField, total_charge: float = 0.0, molecule_charges: Mapping[str, float] | None = None
) -> torch.jit.ScriptModule:
    """A TorchScript module with the pair style's inputs and outputs, in the model's precision.

    `molecule_charges` are charges in e by name of an ion or formula, `ions_of(model)` unless given; other molecules are
    neutral. It follows its inputs to any device. Atoms of untrained elements raise an error, and so do molecules whose
    charges do not add up to `total_charge`.
    """
    by_molecule = keeps_molecules(model)
    tables = [model.trained.detach().cpu().clone(), torch.tensor([total_charge], dtype=torch.float64)]
    if by_molecule:
        tables += _molecule_tables(ions_of(model) if molecule_charges is None else molecule_charges)
    model = model.changed(long_range="none").cpu().requires_grad_(False).eval()
    weights = {name: t.detach().clone() for name, t in model.state_dict().items()}
    weights |= {name: t for name, t in model.named_buffers() if name not in weights}
    names = list(weights)

    def energies(tensors: list[Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for name, tensor in zip(names, tensors, strict=True):
            _put(model, name, tensor)
        return _Energies(model)(*inputs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # a size that the trace would take for a constant
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(energies, (list(weights.values()), *_example(model)), check_trace=False, strict=False)
        return torch.jit.script(_PairStyle(traced, list(weights.values()), tables, by_molecule))


def _molecule_tables(charges: Mapping[str, float]) -> list[Tensor]:
    """Radii of bonds `(87,)`, compositions `(n, 87)` and their charges `(n,)`."""
    from mlff.system.ions import composition

    made = np.array([composition(name) for name in charges], np.int64).reshape(len(charges), N_ROWS)
    values = torch.tensor(list(charges.values()), dtype=torch.float64)
    return [torch.from_numpy(bond_radii()), torch.from_numpy(made), values]


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Let a tensor that the tracer watches take the place of a weight."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    held = module._parameters if leaf in module._parameters else module._buffers
    held[leaf] = tensor  # type: ignore[assignment]


class _Energies(nn.Module):
    """Energy without Coulomb, Coulomb energy and charges, as a function of the pairs' vectors."""

    def __init__(self, model: ForceField) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, numbers: Tensor, edge: Tensor, edge_r: Tensor, coul: Tensor, coul_r: Tensor, disp: Tensor, disp_r: Tensor,
        g: Tensor, group: Tensor, group_charge: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Pairs of `coul` and `disp` `(2, n_pairs)` come once, those of `edge` in both directions."""
        model = self.model
        x = model.network(numbers, edge[0], edge[1], edge_r.to(model.dtype))
        energy = model.energy(x).double() + model.reference_energy[numbers]
        q = electrostatic = torch.zeros_like(energy)
        if model.charge is not None:
            q = model.charge(x, numbers, group, group_charge)
            chi, eta = model.charge.constants(model.network.embedding(numbers), numbers)
            energy = energy + equilibration_energy(q.detach(), chi, eta)
            r = coul_r.norm(dim=1).to(model.dtype)
            shape = model.coulomb_shape(r, screened=True, splitting=g.to(model.dtype))
            electrostatic = coulomb.pair_energies(q.detach(), coul[0], coul[1], shape)
        total = energy.sum()
        if model.dispersion is not None:
            r = disp_r.norm(dim=1).to(model.dtype)
            total = total + model.dispersion(numbers, disp[0], disp[1], r).double().sum()
        return total, electrostatic.sum(), q


class _PairStyle(nn.Module):
    """What is compiled: the pair style's dictionaries around the traced energies. TorchScript needs its own types."""

    def __init__(
        self, energies: torch.jit.ScriptFunction, weights: list[Tensor], tables: list[Tensor], by_molecule: bool
    ) -> None:
        super().__init__()
        self.energies = energies
        self.weights = torch.jit.Attribute(weights, list[Tensor])
        self.tables = torch.jit.Attribute(tables, list[Tensor])
        self.by_molecule = by_molecule
        self.stretch, self.n_rows = BOND_STRETCH, N_ROWS

    def molecules(self, numbers: Tensor, edge: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Molecule of each atom, numbered by first atom, and the charge of each molecule."""
        radii, formulas, charges = self.tables[2], self.tables[3], self.tables[4]  # type: ignore[misc]
        radius = radii[numbers]
        bonded = torch.linalg.vector_norm(r, dim=1) < self.stretch * (radius[edge[0]] + radius[edge[1]])
        i, j = edge[0][bonded], edge[1][bonded]
        atoms = torch.arange(numbers.size(0), device=numbers.device)
        # an atom takes the lowest index among its neighbours, then that atom's own, until all of a molecule agree
        lowest, settled = atoms, False
        while not settled:
            lower = lowest.scatter_reduce(0, i, lowest[j], "amin")
            lower = lower[lower]
            settled = bool((lower == lowest).all())
            lowest = lower
        first = lowest == atoms
        group = (torch.cumsum(first, 0) - 1)[lowest]
        n = int(first.sum())
        counts = torch.zeros([n * self.n_rows], dtype=torch.int64, device=numbers.device)
        counts = counts.index_add(0, group * self.n_rows + numbers, torch.ones_like(numbers)).view(n, self.n_rows)
        charge = torch.zeros([n], dtype=torch.float64, device=numbers.device)
        for k in range(formulas.size(0)):
            charge = torch.where((counts == formulas[k]).all(dim=1), charges[k], charge)
        return group, charge

    def once(self, index: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """Each pair once: of (i, j) and (j, i) the one with i < j; of an atom's two opposite images one."""
        x, y, z = r[:, 0], r[:, 1], r[:, 2]
        forward = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
        keep = (index[0] < index[1]) | ((index[0] == index[1]) & forward)
        return index[:, keep], r[keep]

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """One call of the pair style."""
        numbers = inputs["atom_types"]
        if self.weights[0].device != numbers.device:
            self.weights = [w.to(numbers.device) for w in self.weights]  # type: ignore[assignment]
            self.tables = [t.to(numbers.device) for t in self.tables]  # type: ignore[assignment]
        if not bool(self.tables[0][numbers].all()):
            raise RuntimeError("an element of this system was not trained")
        group, group_charge = torch.zeros_like(numbers), self.tables[1]
        if self.by_molecule:
            group, group_charge = self.molecules(numbers, inputs["edge_index"], inputs["edge_cell_shift"].detach())
            if abs(float(group_charge.sum()) - float(self.tables[1])) > 1e-6:
                raise RuntimeError(
                    "charges of the molecules in this system do not add up to the total that the file was exported for: "
                    "an ion that its table does not name, a molecule that came apart, or another total charge"
                )
        coul, coul_r = self.once(inputs["coul_edge_index"], inputs["coul_edge_cell_shift"].detach())
        disp, disp_r = self.once(inputs["disp_edge_index"], inputs["disp_edge_cell_shift"].detach())
        index = [inputs["edge_index"], coul, disp]
        r = [inputs["edge_cell_shift"].detach().clone(), coul_r, disp_r]
        for vectors in r:
            vectors.requires_grad_(True)
        rest, electrostatic, charge = self.energies(
            self.weights, numbers, index[0], r[0], coul, r[1], disp, r[2], inputs["g_ewald"], group, group_charge
        )
        energy = rest + electrostatic
        slopes = torch.autograd.grad([energy], r, allow_unused=True)
        forces = torch.zeros([numbers.size(0), 3], dtype=torch.float64, device=numbers.device)
        virial = torch.zeros([3, 3], dtype=torch.float64, device=numbers.device)
        for k in range(3):
            slope = slopes[k]
            if slope is not None:
                forces = forces.index_add(0, index[k][1], slope).index_add(0, index[k][0], -slope)
                virial = virial - r[k].detach().t() @ slope
        return {
            "pred_energy": energy.detach().reshape(1),
            "pred_coul_energy": electrostatic.detach().reshape(1),
            "pred_forces": forces,
            "pred_virial": virial,
            "pred_charge": charge.detach(),
        }


def _example(model: ForceField) -> tuple[Tensor, ...]:
    """Inputs to trace with: three atoms in a row; every size may differ later."""
    number = int(torch.nonzero(model.trained)[-1])
    few = Configuration.of([number] * 3, [[0.0, 0, 0], [1.2, 0.3, 0], [2.5, 0, 0.2]])
    batch = model.batch(few)
    lists = []
    for pairs in (batch.edges, batch.edges.half(), batch.edges.half()):
        vectors = batch.positions[pairs.i] - batch.positions[pairs.j]
        lists += [torch.stack([pairs.i, pairs.j]), vectors.requires_grad_()]
    g = torch.tensor([0.3], dtype=torch.float64)
    return batch.numbers, *lists, g, torch.tensor([0, 1, 1]), torch.zeros(2, dtype=torch.float64)
