"""One pass over a training batch: energies, forces and charges that a loss can be differentiated through.

The same sum of terms as `model.ForceField`, rearranged for speed: distances never change, so that the derivative by a
pair's distance is one product with e'(r) = SiLU'(W phi) W phi', computed beside e(r) and as differentiable by the
weights; messages run through `messages.FusedPairs` where the network's size allows it; Coulomb energies are quadratic
forms. Dispersion and reference energies are off the labels (`batches.py`) and not here.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import grad

from mlff.get import DirectedEdges, Edges, GraphTransformer, cosine_cutoff
from mlff.model import ForceField
from mlff.training.batches import TrainingBatch
from mlff.units import DEBYE_EA


@dataclass(frozen=True, eq=False)
class Predicted:
    """kcal/mol, kcal/mol/Å, e, Debye; shapes as in `TrainingBatch.targets`; what was not asked for is None.

    `response` `(n_atoms, 3)`: the force through the charges alone, which forces at fixed charges leave out.
    """

    energy: Tensor
    forces: Tensor | None = None
    virial: Tensor | None = None
    charges: Tensor | None = None
    dipole: Tensor | None = None
    response: Tensor | None = None


class TrainingPass:
    """Calls a model on batches; its energies are `scale` times what the network gives (see `folded`)."""

    def __init__(self, model: ForceField, scale: float = 1.0, *, fused: bool | None = None) -> None:
        self.model, self.scale = model, scale
        able = _can_fuse(model)
        if fused and not able:
            raise ValueError(
                "fused messages need float32: on a CPU a width of 64 and 16 heads, on a GPU Triton and powers of two"
            )
        self.fused = able if fused is None else fused

    def __call__(
        self, batch: TrainingBatch, *, forces: bool = True, virial: bool = False, graph: bool = True
    ) -> Predicted:
        """`graph` keeps what a loss with forces in it needs; without, only values come back."""
        model = self.model
        fixed = model.parameters_of.forces == "fixed_charges"
        with torch.set_grad_enabled(forces or graph):
            inner = PairFeatures(model.network, batch, self.fused)
            x = model.network.layers(batch.numbers, inner.edges)
            nn = self.scale * model.energy(x)
            energy = batch.r.new_zeros(batch.n_systems).index_add(0, batch.system, nn)
            charges = dipole = electric = response = None
            if model.charge is not None:
                charges = self._charges(x, batch)
                electric = self._equilibration(charges, batch) + self._coulomb(charges, batch)
                dipole = energy.new_zeros(batch.n_systems, 3)
                dipole = dipole.index_add(0, batch.system, charges[:, None] * batch.positions) / DEBYE_EA
            whole = energy if electric is None else energy + electric
            if not forces:
                return _detached(graph, Predicted(whole, charges=charges, dipole=dipole))
            moved = energy if fixed else whole
            pull = inner.slopes(moved.sum(), graph, keep=fixed and electric is not None)
            found, stretch = inner.forces(pull, batch), inner.virial(pull, batch) if virial else None
            if charges is not None and batch.slope is not None:
                felt = self._coulomb_forces(charges, batch)
                found = found + felt
                if stretch is not None:
                    stretch = stretch + self._coulomb_virial(charges, felt, batch)
            if fixed and electric is not None:
                response = inner.forces(inner.slopes(electric.sum(), graph), batch)
        return _detached(graph, Predicted(whole, found, stretch, charges, dipole, response))

    def _charges(self, x: Tensor, batch: TrainingBatch) -> Tensor:
        """As `charges.ChargeHead`, in the network's precision."""
        head = self.model.charge
        assert head is not None
        raw = head.charge_offset[batch.numbers] + head.charge(x)
        q = head.bound * torch.tanh(raw / head.bound)
        left = batch.group_charge.index_add(0, batch.group, q, alpha=-1)
        return q + (left / batch.group_size).index_select(0, batch.group)

    def _equilibration(self, q: Tensor, batch: TrainingBatch) -> Tensor:
        head = self.model.charge
        assert head is not None
        chi, eta = head.constants(self.model.network.embedding(batch.elements), batch.elements)
        chi, eta = (self.scale * constant.index_select(0, batch.kind) for constant in (chi, eta))
        return q.new_zeros(batch.n_systems).index_add(0, batch.system, q * (chi + eta * q))

    def _coulomb(self, q: Tensor, batch: TrainingBatch) -> Tensor:
        assert batch.potential is not None
        padded = _pad(q, batch)
        return 0.5 * (padded * torch.bmm(batch.potential, padded[:, :, None])[:, :, 0]).sum(dim=1)

    def _coulomb_forces(self, q: Tensor, batch: TrainingBatch) -> Tensor:
        assert batch.slope is not None
        b, n = batch.n_systems, batch.slope.shape[1]
        field = torch.bmm(batch.slope.view(b, 3 * n, n), _pad(q, batch)[:, :, None]).view(b * n, 3)
        return -q[:, None] * field.index_select(0, batch.slot)

    def _coulomb_virial(self, q: Tensor, forces: Tensor, batch: TrainingBatch) -> Tensor:
        """-dE/d(strain) of periodic frames; of open ones sum r F."""
        zero = q.new_zeros(batch.n_systems, 3, 3)
        if batch.strain is None:
            outer = batch.positions[:, :, None] * forces[:, None, :]
            return zero.index_add(0, batch.system, outer)
        padded = _pad(q, batch)
        both = torch.einsum("bi,bsij,bj->bs", padded, batch.strain, padded)
        return -0.5 * both.view(-1, 3, 3)


def _can_fuse(model: ForceField) -> bool:
    """Whether there are kernels for the messages of this network where it is."""
    p = model.parameters_of.network
    if model.dtype != torch.float32:
        return False
    if model.trained.device.type == "cpu":
        return (p.width, p.heads) == (64, 16)
    powers = all(n & (n - 1) == 0 for n in (p.heads, p.width // p.heads))
    return powers and importlib.util.find_spec("triton") is not None


class PairFeatures:
    """e(r), e'(r) and the envelope of all pairs, and derivatives of energies by them as forces."""

    def __init__(self, network: GraphTransformer, batch: TrainingBatch, fused: bool) -> None:
        order, on_cpu = None, batch.r.device.type == "cpu"
        if fused and on_cpu:
            from mlff.training.messages import LANE_ORDER, FusedPairs

            order = torch.from_numpy(LANE_ORDER)
        self.e, self.e_slope = edge_features(network, batch.r, order)
        if not self.e.requires_grad:
            self.e.requires_grad_()
        rate = math.pi / network.cutoff
        self.envelope = cosine_cutoff(batch.r, network.cutoff).requires_grad_()
        self.envelope_slope = (-0.5 * rate) * torch.sin(rate * batch.r)
        self.r, self.u = batch.r, batch.u.clone().requires_grad_()
        self.edges: Edges
        if fused and on_cpu:
            self.edges = FusedPairs(batch.i, batch.j, self.e, self.envelope, self.u)
        elif fused:
            from mlff.training.gpu_messages import GpuPairs

            self.edges = GpuPairs(batch.i, batch.j, self.e, self.envelope, self.u)
        else:
            self.edges = _both_ways(batch, network, self.e, self.envelope, self.u)

    def slopes(self, energy: Tensor, graph: bool, keep: bool = False) -> Tensor:
        """dE/dr of each pair's vector, `(n_pairs, 3)`; `keep` leaves the graph for a second call."""
        inputs = (self.e, self.envelope, self.u)
        by_e, by_envelope, by_u = grad(energy, inputs, create_graph=graph, retain_graph=graph or keep)
        along = (by_e * self.e_slope).sum(dim=1) + by_envelope * self.envelope_slope
        u = self.u.detach()
        across = by_u - (by_u * u).sum(dim=1, keepdim=True) * u
        return along[:, None] * u + across / self.r[:, None]

    @staticmethod
    def forces(pull: Tensor, batch: TrainingBatch) -> Tensor:
        """-dE/dr of each atom."""
        zero = pull.new_zeros(len(batch.numbers), 3)
        return zero.index_add(0, batch.i, pull, alpha=-1).index_add(0, batch.j, pull)

    @staticmethod
    def virial(pull: Tensor, batch: TrainingBatch) -> Tensor:
        """-sum r (x) dE/dr over pairs, each once."""
        outer = (batch.r[:, None] * batch.u)[:, :, None] * pull[:, None, :]
        zero = pull.new_zeros(batch.n_systems, 3, 3)
        return zero.index_add(0, batch.system[batch.i], outer, alpha=-1)


def edge_features(network: GraphTransformer, r: Tensor, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """e and de/dr `(n_pairs, width)` at fixed distances; `order` permutes the features.

    phi = f_c g with g = exp(-beta (t - mu)^2), t = exp(-alpha r), so phi' = g (f_c' + 2 alpha beta t (t - mu) f_c).
    """
    basis, rate = network.radial, math.pi / network.cutoff
    envelope = cosine_cutoff(r, network.cutoff)
    alpha = 5.0 / network.cutoff
    t = torch.exp(-alpha * r)
    x = t[:, None] - basis.mu
    bx = basis.beta * x
    g = torch.exp(-bx * x)
    slope = (-0.5 * rate) * torch.sin(rate * r)
    phi_slope = g * (slope[:, None] + (2.0 * alpha * t * envelope)[:, None] * bx)
    weight = network.project.weight if order is None else network.project.weight[order]
    z, z_slope = (torch.cat([envelope[:, None] * g, phi_slope]) @ weight.T).chunk(2)
    s = torch.sigmoid(z)
    e = z * s
    return e, (s * (1.0 + z - e)) * z_slope


def _both_ways(batch: TrainingBatch, network: GraphTransformer, e: Tensor, envelope: Tensor, u: Tensor) -> Edges:
    heads = network.heads
    return DirectedEdges(
        torch.cat([batch.i, batch.j]),
        torch.cat([batch.j, batch.i]),
        torch.cat([e, e]).view(-1, heads, network.width // heads),
        torch.cat([u, -u]),
        torch.cat([envelope, envelope])[:, None],
    )


def _pad(q: Tensor, batch: TrainingBatch) -> Tensor:
    assert batch.potential is not None
    b, n = batch.n_systems, batch.potential.shape[1]
    return q.new_zeros(b * n).index_copy(0, batch.slot, q).view(b, n)


def _detached(graph: bool, p: Predicted) -> Predicted:
    if graph:
        return p
    return Predicted(*(None if v is None else v.detach() for v in vars(p).values()))  # type: ignore[arg-type]


@torch.no_grad()
def fold(model: ForceField, scale: float) -> None:
    """Multiply all energies of the network by `scale`, in its weights: what a `TrainingPass` of that scale computes."""
    last = [model.energy[-1]]
    factors = [scale]
    if model.charge is not None:
        last += [model.charge.electronegativity[-1], model.charge.hardness[-1]]
        factors += [math.sqrt(scale), math.sqrt(scale)]
    for layer, factor in zip(last, factors, strict=True):
        for parameter in layer.parameters():
            parameter.mul_(factor)
