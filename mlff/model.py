"""The force field: network, charge equilibration, Coulomb and dispersion, and the forces that follow from their sum.

E = E_nn + E_chi + E_Coulomb + E_dispersion. Forces and virial are derivatives of this sum: of all of it
(`forces="conservative"`), or with the charges held fixed (`"fixed_charges"`), as the published model does, which
leaves out -sum_i dE/dq_i dq_i/dr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from mlff import coulomb
from mlff.charges import ChargeHead, equilibration_energy
from mlff.dispersion import CoordinationDispersion, ElementDispersion
from mlff.frames import Batch, Configuration, Cutoffs, collate
from mlff.get import N_ROWS, GraphTransformer, NetworkParameters, ReadOut
from mlff.neighbours import Pairs
from mlff.units import DEBYE_EA

Length = Annotated[float, Field(gt=0.5, le=50)]

MESH_FROM_ATOMS = 500
"""A periodic box with more atoms takes the mesh instead of the direct reciprocal sum."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class ForceFieldParameters:
    """What the terms are; raises pydantic's `ValidationError` on a bad value. Defaults are for models of our own."""

    network: NetworkParameters = field(default_factory=NetworkParameters)
    charges: Annotated[bool, Field(description="predict charges; without them neither Coulomb nor E_chi")] = True
    charge_bound: Annotated[float, Field(gt=0, description="largest |q| before neutralisation, e")] = 2.0
    charge_groups: Annotated[
        Literal["system", "fragment"], Field(description="what keeps its charge; fragments where a frame names them")
    ] = "fragment"
    coulomb_beta: Annotated[float, Field(gt=0, description="steepness of the damping")] = 18.7
    coulomb_r0_A: Annotated[float, Field(gt=0, description="reach of the damping")] = 2.2
    coulomb_cutoff_A: Annotated[Length, Field(description="real-space part in periodic boxes")] = 5.0
    long_range: Annotated[
        Literal["auto", "sum", "mesh", "none"],
        Field(description="reciprocal part: direct sum, mesh, chosen by size, or left to an external solver"),
    ] = "auto"
    splitting_per_A: Annotated[
        float, Field(ge=0, le=5, description="g of erfc(g r); 0 only without a reciprocal sum")
    ] = 0.65
    mesh_A: Annotated[float, Field(gt=0.1, le=5, description="mesh spacing of the reciprocal sum")] = 0.5
    erfc: Annotated[
        Literal["exact", "approximate"], Field(description="approximate = Abramowitz-Stegun 7.1.26, as LAMMPS")
    ] = "exact"
    dispersion: Literal["none", "element", "coordination"] = "element"
    dispersion_cutoff_A: Length = 10.0
    smooth: Annotated[bool, Field(description="let Coulomb tail and dispersion go to zero without a step")] = True
    forces: Literal["conservative", "fixed_charges"] = "conservative"

    @model_validator(mode="after")
    def _reciprocal_sum_has_a_splitting(self) -> ForceFieldParameters:
        if self.long_range != "none" and self.splitting_per_A == 0:
            raise ValueError(f'splitting_per_A=0 with long_range="{self.long_range}": only "none" goes without')
        return self

    @staticmethod
    def bamboo2024(network: NetworkParameters | None = None, charge_bound: float = 2.0) -> ForceFieldParameters:
        """The behaviour of the published model: forces at fixed charges, one neutral system, steps at the cutoffs."""
        return ForceFieldParameters(
            network=network or NetworkParameters(),
            charge_bound=charge_bound,
            charge_groups="system",
            erfc="approximate",
            smooth=False,
            forces="fixed_charges",
        )


@plain_dataclass(frozen=True, eq=False)
class Geometry:
    """Positions, strain and the vectors that follow from them: what energies are differentiated by."""

    positions: Tensor
    strain: Tensor
    edges: Tensor
    coulomb: Tensor
    dispersion: Tensor

    @staticmethod
    def of(batch: Batch, *, gradients: bool = True) -> Geometry:
        """Vectors in Å, `(n_pairs, 3)` float64 for each list; `strain` `(n_systems, 3, 3)` is zero."""
        positions = batch.positions.detach().clone().requires_grad_(gradients)
        strain = torch.zeros_like(batch.cells).requires_grad_(gradients)

        def vectors(pairs: Pairs) -> Tensor:
            return pairs.vectors(positions, batch.cells, batch.system, strain)

        return Geometry(positions, strain, *map(vectors, (batch.edges, batch.coulomb, batch.dispersion)))

    def deformed(self, batch: Batch, system: int) -> tuple[Tensor, Tensor]:
        """Positions and cell of one system, with its strain applied."""
        deformation = torch.eye(3, dtype=torch.float64, device=self.strain.device) + self.strain[system]
        return self.positions[batch.system == system] @ deformation, batch.cells[system] @ deformation


@plain_dataclass(frozen=True, eq=False)
class Terms:
    """Energies by atom and kind, float64 kcal/mol, still attached to the graph; charges in e."""

    energies: dict[str, Tensor]
    charges: Tensor
    chi: Tensor
    eta: Tensor

    def total(self, batch: Batch, *names: str) -> Tensor:
        """Energy of each system `(n_systems,)`: the named terms, or all of them."""
        chosen = [self.energies[k] for k in (names or self.energies)]
        return torch.zeros_like(batch.cells[:, 0, 0]).index_add(0, batch.system, torch.stack(chosen).sum(dim=0))


@plain_dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a batch; float64.

    | name | shape | unit |
    |---|---|---|
    | `energy` | `(n_systems,)` | kcal/mol |
    | `forces` | `(n_atoms, 3)` | kcal/mol/Å |
    | `virial` | `(n_systems, 3, 3)` | kcal/mol, -dE/d(strain), positive pushes outwards |
    | `charges` | `(n_atoms,)` | e |
    | `dipole` | `(n_systems, 3)` | Debye, sum of q r |
    | `energies` | `(n_atoms,)` | kcal/mol, share of each atom |
    """

    energy: Tensor
    forces: Tensor
    virial: Tensor
    charges: Tensor
    dipole: Tensor
    energies: Tensor
    terms: dict[str, Tensor]


def check_committee(models: Sequence[ForceField], names: Sequence[str] = ()) -> None:
    """Raise `ValueError` that names two models with the same weights: their agreement would pass for certainty."""
    for k, model in enumerate(models):
        for other in range(k):
            if model.same_weights(models[other]):
                a, b = (names[i] if names else f"model {i}" for i in (other, k))
                raise ValueError(f"{a} and {b} have the same weights: a committee needs models that can disagree")


class ForceField(nn.Module):
    """Sum of the four terms; `trained` marks the elements whose parameters mean something."""

    trained: Tensor
    reference_energy: Tensor

    def __init__(self, p: ForceFieldParameters | None = None) -> None:
        super().__init__()
        self.parameters_of = p = p or ForceFieldParameters()
        self.network = GraphTransformer(p.network)
        self.energy = ReadOut(p.network.width, p.network.hidden)
        self.charge = ChargeHead(p.network, p.charge_bound) if p.charges else None
        self.dispersion: nn.Module | None = None
        if p.dispersion != "none":
            form = ElementDispersion if p.dispersion == "element" else CoordinationDispersion
            self.dispersion = form(p.dispersion_cutoff_A, p.smooth)
        self.register_buffer("reference_energy", torch.zeros(N_ROWS, dtype=torch.float64))
        self.register_buffer("trained", torch.ones(N_ROWS, dtype=torch.bool))

    def changed(self, **settings: Any) -> ForceField:
        """The same weights with other settings, such as `forces="conservative"` or `long_range="none"`."""
        other = ForceField(replace(self.parameters_of, **settings)).to(self.dtype)
        # tables of a term that the other settings leave out stay behind
        kept = other.state_dict().keys()
        other.load_state_dict({k: v for k, v in self.state_dict().items() if k in kept}, strict=False)
        return other.to(device=self.trained.device).train(self.training)

    def same_weights(self, other: ForceField) -> bool:
        """Whether every tensor of both is the same: then they are one opinion, not two."""
        mine, theirs = self.state_dict(), other.state_dict()
        return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ForceField:
        # energies of isolated atoms are large: they keep their digits when the network goes to float32
        exact = self.reference_energy
        super()._apply(fn, recurse)
        self.reference_energy = exact.to(self.trained.device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network."""
        return self.network.embedding.weight.dtype

    @property
    def cutoffs(self) -> Cutoffs:
        """Within which distances the model needs pairs."""
        p = self.parameters_of
        return Cutoffs(
            network=p.network.cutoff_A,
            coulomb=p.coulomb_cutoff_A,
            dispersion=0.0 if p.dispersion == "none" else p.dispersion_cutoff_A,
            all_pairs_if_open=p.long_range != "none",
        )

    def batch(self, *configurations: Configuration) -> Batch:
        """Pairs and tensors of some configurations; raises `ValueError` on an element that was not trained."""
        for c in configurations:
            self.check_elements(torch.from_numpy(c.numbers))
        per_fragment = self.parameters_of.charge_groups == "fragment"
        batch = collate(configurations, self.cutoffs, per_fragment=per_fragment)
        return batch.to(self.trained.device)

    def check_elements(self, numbers: Tensor) -> None:
        """Raises `ValueError` that names the first unknown element and lists those that were trained."""
        trained = self.trained.cpu()
        unknown = torch.unique(numbers[~trained[numbers]]).tolist()
        if unknown:
            from ase.data import chemical_symbols

            known = ", ".join(chemical_symbols[z] for z in range(1, N_ROWS) if trained[z])
            raise ValueError(f"element {chemical_symbols[unknown[0]]} was not trained; this model knows {known}")

    def terms(self, batch: Batch, geometry: Geometry) -> Terms:
        """Every energy of every atom."""
        p = self.parameters_of
        numbers = batch.numbers
        x = self.network(numbers, batch.edges.i, batch.edges.j, geometry.edges.to(self.dtype))
        energies = {"nn": self.energy(x).double() + self.reference_energy[numbers]}
        q = chi = eta = torch.zeros_like(energies["nn"])
        if self.charge is not None:
            q = self.charge(x, numbers, batch.group, batch.group_charge)
            chi, eta = self.charge.constants(self.network.embedding(numbers), numbers)
            felt = q if p.forces == "conservative" else q.detach()
            energies["electronegativity"] = equilibration_energy(felt, chi, eta)
            energies |= self._coulomb(batch, geometry, felt)
        if self.dispersion is not None:
            pairs = batch.dispersion
            r = geometry.dispersion.norm(dim=1).to(self.dtype)
            half = 0.5 * self.dispersion(numbers, pairs.i, pairs.j, r).double()
            zero = torch.zeros_like(energies["nn"])
            energies["dispersion"] = zero.index_add(0, pairs.i, half).index_add(0, pairs.j, half)
        return Terms(energies, q, chi, eta)

    def coulomb_shape(self, r: Tensor, *, screened: bool, splitting: Tensor | None = None) -> Tensor:
        """U / (k_e q_i q_j) in 1/Å of pairs at distances `r`; screened beside a reciprocal sum.

        `splitting` is g in 1/Å where another program chooses it.
        """
        p = self.parameters_of
        published, g = p.erfc == "approximate", p.splitting_per_A if splitting is None else splitting
        damped = coulomb.damped_everywhere_smooth if published else coulomb.damped
        shape = damped(r, p.coulomb_beta, p.coulomb_r0_A)
        if not screened:
            return shape
        if published:
            return shape + coulomb.screen_approximate(r, g)
        return shape + (coulomb.tail_removed(r, g, p.coulomb_cutoff_A) if p.smooth else coulomb.screen(r, g))

    def _coulomb(self, batch: Batch, geometry: Geometry, q: Tensor) -> dict[str, Tensor]:
        pairs, external = batch.coulomb, self.parameters_of.long_range == "none"
        r = geometry.coulomb.norm(dim=1).to(self.dtype)
        periodic = batch.pbc.any(dim=1)
        screened = periodic[batch.system[pairs.i]] | external
        shape = self.coulomb_shape(r, screened=bool(external | periodic.any()))
        if not (bool(screened.all()) or not bool(screened.any())):
            shape = torch.where(screened, shape, self.coulomb_shape(r, screened=False))
        energies = {"coulomb": coulomb.pair_energies(q, pairs.i, pairs.j, shape)}
        if not external and bool(periodic.any()):
            reciprocal = torch.zeros_like(q)
            for system in torch.nonzero(periodic).flatten().tolist():
                members = torch.nonzero(batch.system == system).flatten()
                positions, cell = geometry.deformed(batch, system)
                energy = self.long_range_energies(positions, q[members], cell, batch.pbc[system])
                reciprocal = reciprocal.index_add(0, members, energy)
            energies["reciprocal"] = reciprocal
        return energies

    def long_range_energies(self, positions: Tensor, q: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
        """Energy of each atom of one periodic system in the reciprocal sum, with self, background and shape terms."""
        p, g = self.parameters_of, self.parameters_of.splitting_per_A
        energy = torch.zeros_like(q)
        if not bool(pbc.all()):
            coulomb.check_neutral(float(q.detach().sum()))
            cell = coulomb.with_vacuum(positions, cell, pbc)
            energy = coulomb.shape_energies(positions, q, cell, pbc)
        if p.long_range == "mesh" or (p.long_range == "auto" and len(q) > MESH_FROM_ATOMS):
            energy = energy + coulomb.mesh_energies(positions, q, cell, g, p.mesh_A)
        else:
            energy = energy + coulomb.reciprocal_energies(positions, q, cell, g)
        return energy + coulomb.self_energies(q, g) + coulomb.background_energies(q, cell, g)

    def predict(self, batch: Batch, *, forces: bool = True, create_graph: bool = False) -> Prediction:
        """Energies, and unless `forces=False` forces and virial; `create_graph` for losses that contain forces."""
        geometry = Geometry.of(batch, gradients=forces)
        with torch.set_grad_enabled(forces or create_graph):
            terms = self.terms(batch, geometry)
            energy = terms.total(batch)
        slope: tuple[Tensor, ...] = (torch.zeros_like(geometry.positions), torch.zeros_like(geometry.strain))
        if forces:
            slope = torch.autograd.grad(
                energy.sum(), (geometry.positions, geometry.strain), create_graph=create_graph, materialize_grads=True
            )
        keep = (lambda t: t) if create_graph else Tensor.detach
        q = keep(terms.charges)
        dipole = torch.zeros_like(batch.cells[:, 0]).index_add(0, batch.system, q[:, None] * batch.positions)
        return Prediction(
            energy=keep(energy),
            forces=-slope[0],
            virial=-slope[1],
            charges=q,
            dipole=dipole / DEBYE_EA,
            energies=keep(torch.stack(list(terms.energies.values())).sum(dim=0)),
            terms={name: keep(terms.total(batch, name)) for name in terms.energies},
        )
