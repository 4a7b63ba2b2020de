"""Fast energies, forces and virials on a CPU: the force field without autograd, in float32 with float64 sums.

What makes it fast: edge features and the Coulomb interaction are tables of the distance; queries, keys and values of
the first layer are constants of the elements; messages are gathered row by row, backward each pair once; dense layers
run on blocks of atoms that stay in cache; neighbour lists last for many steps. The arithmetic is in `kernels.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlff import kernels
from mlff.dispersion import ELEMENT_FORM, SWITCH_A, ElementDispersion
from mlff.frames import N_ELEMENTS, Configuration
from mlff.get import Attention, GraphTransformer, cosine_cutoff
from mlff.model import ForceField
from mlff.skin import SkinList
from mlff.units import COULOMB

WIDTH, HEADS = kernels.W, 16
_PERMUTED = np.arange(WIDTH).reshape(HEADS, WIDTH // HEADS).T.ravel()
"""Our place -> place in the torch model: component x 16 + head instead of head x 4 + component."""

COULOMB_INTERVALS = 4096


@dataclass(frozen=True, eq=False)
class Each:
    """An argument of which each thread takes its own row."""

    rows: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Result:
    """Energies kcal/mol, forces kcal/mol/Å, virial kcal/mol (-dE/d(strain)), charges e; in the caller's order.

    The virial means something with three periodic axes or none.
    """

    energy: float
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]
    charges: NDArray[np.float64]


class Engine:
    """A model of the default size made ready for one configuration after another.

    `threads` defaults to the cores at hand; `skin_A` widens the neighbour lists so that they outlast many steps of
    dynamics. Raises `ValueError` on a model it cannot run: width 64 with 16 heads, at most 32 hidden features, one
    cutoff for network and Coulomb, dispersion by element or none.
    """

    def __init__(self, model: ForceField, *, threads: int | None = None, skin_A: float = 0.5) -> None:
        _check(model)
        self.model, p = model, model.parameters_of
        self.threads = threads or len(os.sched_getaffinity(0))
        self.pool = ThreadPoolExecutor(self.threads)
        self.cutoff = p.network.cutoff_A
        far = 0.0 if p.dispersion == "none" else p.dispersion_cutoff_A
        self.lists = SkinList(self.cutoff, far, skin_A, self._run)
        double = model.changed().double().cpu()
        self.network = _Network(double)
        self.dispersion = _dispersion_constants(double)
        self.near_table = np.zeros((1, 4))
        if model.charge is not None:
            self.near_table = _coulomb_table(double, self.cutoff)
        self.long_range = double
        self.last: Configuration | None = None

    def _run(self, work: Callable[[int, int, int], None], n: int) -> None:
        """Share 0..n among the threads, in whole blocks."""
        size = -(-n // (self.threads * kernels.BLOCK)) * kernels.BLOCK
        shares = [(t, min(t * size, n), min((t + 1) * size, n)) for t in range(self.threads)]
        shares = [s for s in shares if s[1] < s[2]]
        # the calling thread takes the first share
        waiting = [self.pool.submit(work, *s) for s in shares[1:]]
        work(*shares[0])
        for w in waiting:
            w.result()

    def over(self, n: int, kernel: Callable[..., None], *arguments: Any) -> None:
        """Run a kernel on shares of 0..n; of an `Each` every thread gets its own row."""

        def share(thread: int, lo: int, hi: int) -> None:
            kernel(lo, hi, *(a.rows[thread] if isinstance(a, Each) else a for a in arguments))

        self._run(share, n)

    def evaluate(self, c: Configuration) -> Result:
        """Energy, forces and virial of a configuration; lists are reused where no atom has moved far."""
        known = self.last is not None and np.array_equal(self.last.numbers, c.numbers)
        if not known:
            self.model.check_elements(torch.from_numpy(c.numbers))
            self.lists.builds = 0
        self.last = c
        if self.lists.update(c.positions, c.cell, c.pbc) or not known:
            self._prepare(c)
        self._group(c)
        state = self.state
        state.force[:] = 0.0
        state.virial[:] = 0.0
        self._measure()
        self.network.forward(self)
        n, order = len(c.numbers), self.lists.order
        energies = state.energy[:n] + self.network.reference_energy[self.numbers]
        q, graw = np.zeros(n), np.zeros(n)
        long_range = (0.0, 0.0)
        if self.model.charge is not None:
            q, graw, of_atoms, long_range = self._charges(c)
            energies += of_atoms
        state.graw[:n] = graw
        self.network.backward(self)
        if self.dispersion is not None:
            self._disperse()
            energies += state.dispersion[:n]
        out = np.empty((5, n))
        out[:3, order] = state.force.sum(axis=0)[:n].T + np.asarray(long_range[0]).T
        out[3, order], out[4, order] = energies, q
        virial = state.virial.sum(axis=0) + state.half_virial.sum(axis=0).reshape(3, 3)[_MIRROR].ravel()
        virial = virial.reshape(3, 3) + long_range[1]
        return Result(float(out[3].sum()), out[3], np.ascontiguousarray(out[:3].T), virial, out[4])

    def _prepare(self, c: Configuration) -> None:
        """Arrays for the present lists: elements, and room for everything between the layers."""
        lists = self.lists
        self.numbers = c.numbers[lists.order]
        self.state = _State(len(self.numbers), lists.near.shape[1], self.threads, self.network.n_middle)
        self.state.kind[: len(self.numbers)] = self.network.prepare(self.numbers)

    def _group(self, c: Configuration) -> None:
        lists = self.lists
        if self.model.parameters_of.charge_groups == "fragment" and c.fragments is not None:
            assert c.fragment_charges is not None
            self.group, self.group_charge = c.fragments[lists.order], c.fragment_charges
        else:
            self.group, self.group_charge = np.zeros(len(self.numbers), np.int64), np.array([c.total_charge])

    def _measure(self) -> None:
        lists, s, network = self.lists, self.state, self.network
        rows = (lists.near, lists.n_near, lists.n_front, lists.itself, lists.position, lists.owner, self.cutoff)
        made = (s.edge_j, s.edge_n, s.edge, s.active)
        self.over(s.n, kernels.measure, *rows, network.envelope, *made)

    def _charges(self, c: Configuration) -> tuple[Any, Any, Any, Any]:
        """Charges, derivative of the energy by the raw charges, energies of atoms, long-range forces and virial."""
        s, p, n = self.state, self.model.parameters_of, len(self.numbers)
        raw = s.raw[:n] + self.network.charge_offset[self.numbers]
        bent = np.tanh(raw / p.charge_bound)
        count = np.bincount(self.group, minlength=len(self.group_charge))
        lack = self.group_charge - np.bincount(self.group, p.charge_bound * bent, minlength=len(count))
        q = p.charge_bound * bent + (lack / count)[self.group]
        screened = bool(c.pbc.any()) or p.long_range == "none"

        s.half_virial[:] = 0.0
        out = (s.field, Each(s.force), Each(s.half_virial))
        if screened:
            edges = (s.capacity, s.active, s.edge_j, s.edge)
            per_A = COULOMB_INTERVALS / self.cutoff
            self.over(n, kernels.coulomb_near, *edges, self.near_table, per_A, q, COULOMB, *out)
        else:
            place = self.lists.position[self.lists.itself]
            self.over(n, kernels.coulomb_all, place, p.coulomb_beta, p.coulomb_r0_A, q, COULOMB, *out)
        chi, eta = self.network.chi[self.numbers], self.network.eta[self.numbers]
        energies = chi * q + eta * q * q + 0.5 * q * s.field[:n]
        slope = chi + 2 * eta * q + s.field[:n]
        rest: Any = (0.0, 0.0)
        if screened and p.long_range != "none":
            more, field, force, virial = self._long_range(c, q)
            energies, slope, rest = energies + more, slope + field, (force, virial)
        if p.forces == "fixed_charges":
            return q, 0.0, energies, rest
        mean = np.bincount(self.group, slope, minlength=len(count)) / count
        return q, (slope - mean[self.group]) * (1.0 - bent * bent), energies, rest

    def _long_range(self, c: Configuration, q: NDArray[np.float64]) -> tuple[Any, ...]:
        """Reciprocal sum of the torch model: energies, potential, forces, virial."""
        place = self.lists.position[self.lists.itself]
        leaves = [torch.from_numpy(a).requires_grad_() for a in (place, q.copy(), c.cell.copy())]
        x, charge, cell = leaves
        with torch.enable_grad():
            energies = self.long_range.long_range_energies(x, charge, cell, torch.from_numpy(c.pbc))
        slope = torch.autograd.grad(energies.sum(), leaves, allow_unused=True, materialize_grads=True)
        dx, dq, dcell = (g.numpy() for g in slope)
        return energies.detach().numpy(), dq, -dx, -(place.T @ dx + c.cell.T @ dcell)

    def _disperse(self) -> None:
        lists, s, n = self.lists, self.state, len(self.numbers)
        assert self.dispersion is not None
        root, decay, constants = self.dispersion
        z = self.numbers[lists.owner]
        middle = lists.position.mean(axis=0)
        xyz = np.ascontiguousarray((lists.position - middle).T.astype(np.float32))
        root, decay = root[z], decay[z]
        rows = (lists.far, lists.n_far, lists.itself)
        out = (s.dispersion, Each(s.force), Each(s.half_virial))
        self.over(n, kernels.dispersion, *rows, xyz, root, decay, constants, *out)


_MIRROR = (np.array([[0, 0, 0], [0, 1, 1], [0, 1, 2]]), np.array([[0, 1, 2], [1, 1, 2], [2, 2, 2]]))
"""Where the entries of a symmetric matrix stand in its upper triangle."""


class _State:
    """Room for everything between the layers, for a number of atoms; flat float32 unless said otherwise."""

    def __init__(self, n: int, capacity: int, threads: int, n_middle: int) -> None:
        padded = -(-n // kernels.BLOCK) * kernels.BLOCK
        self.n, self.padded, self.capacity = n, padded, capacity

        def room(*shape: int) -> NDArray[np.float32]:
            return np.zeros(shape, np.float32)

        self.kind = np.zeros(padded, np.int64)
        self.edge_j, self.edge_n = (np.zeros(n * capacity, np.int32) for _ in range(2))
        self.edge, self.active = room(n * capacity * kernels.GEOMETRY), np.zeros((n, 2), np.int64)
        w = padded * WIDTH
        layers = n_middle + 1
        self.x, self.qkv = [room(w) for _ in range(layers)], [room(3 * w) for _ in range(layers)]
        self.U = [room(9 * w) for _ in range(n_middle)] + [room(6 * w)]
        self.o = [room(3 * w) for _ in range(n_middle)] + [room(2 * w)]
        self.m, self.M, self.V, self.gM, self.gV = room(w), room(3 * w), room(3 * w), room(3 * w), room(3 * w)
        self.z1, self.z2, self.gx, self.gm = room(w), room(w), room(w), room(w)
        self.sums = room(threads, 3 * w)
        self.graw = room(padded)
        self.energy, self.raw, self.field, self.dispersion = (np.zeros(padded) for _ in range(4))
        self.force, self.virial = np.zeros((threads, padded, 3)), np.zeros((threads, 9))
        self.half_virial = np.zeros((threads, 9))


class _Network:
    """Weights in the kernels' order, the tables of the distance, and the passes through all layers."""

    def __init__(self, model: ForceField) -> None:
        network = model.network
        self.envelope, self.table = _edge_tables(network)
        self.embedding = network.embedding.weight.detach().numpy()
        self.n_middle = len(network.middle)
        layers: list[Any] = [network.first, *network.middle, network.last]
        self.attention: list[_Attention] = [_Attention(layer.attention) for layer in layers]
        self.mix = [_dense(layer.mix.weight) for layer in layers[1:]]
        self.mix_t = [np.ascontiguousarray(w.T) for w in self.mix]
        self.none = np.zeros(3 * WIDTH, np.float32)
        self.reference_energy = model.reference_energy.numpy()
        self.head = _Head(model)
        self.charge_offset = self.chi = self.eta = np.zeros(N_ELEMENTS)
        if model.charge is not None:
            everything = torch.arange(N_ELEMENTS)
            with torch.no_grad():
                chi, eta = model.charge.constants(network.embedding(everything), everything)
            self.charge_offset = model.charge.charge_offset.numpy()
            self.chi, self.eta = chi.numpy(), eta.numpy()

    def prepare(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Constants of the first layer for the elements at hand; which of them each atom is."""
        present, kind = np.unique(numbers, return_inverse=True)
        self.n_kinds = len(present)
        x = self.embedding[present]
        first = self.attention[0]
        centred = x - x.mean(axis=1, keepdims=True)
        h = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        q, k, v = np.split((h * first.gain_64 + first.shift_64) @ first.qkv_64.T + first.b_qkv_64, 3, axis=1)
        t = (q[:, None] * k[None]).reshape(self.n_kinds, self.n_kinds, WIDTH // HEADS, HEADS).sum(axis=2)
        self.pair_attention = (t / (1.0 + np.exp(-t))).astype(np.float32).ravel()
        self.value = v.astype(np.float32).ravel()
        self.kind_x = np.ascontiguousarray(x[:, _PERMUTED], np.float32).ravel()
        return kind

    def forward(self, engine: Engine) -> None:
        """Messages and updates of all layers up to energies and raw charges."""
        s, over, head = engine.state, engine.over, self.head
        edges = (s.capacity, s.active, s.edge_j, s.edge_n, s.edge, self.table)
        first, last, kinds = self.attention[0], self.attention[-1], (s.kind, self.n_kinds)
        over(s.n, kernels.messages_first, *kinds, *edges, self.pair_attention, self.value, s.m, s.V)
        made: tuple[Any, ...] = (s.x[0], s.qkv[0], s.U[0])
        mine: tuple[Any, ...] = (s.kind, self.kind_x, first.out, first.b_out, s.m, s.V)
        over(s.padded, kernels.nodes_first, *mine, *self._next(0), *made)
        for k in range(self.n_middle):
            here = self.attention[k + 1]
            over(s.n, kernels.messages_middle, *edges, s.qkv[k], s.m, s.M)
            mine = (here.out, here.b_out, s.m, s.M, s.U[k], s.x[k], s.V)
            made = (s.o[k], s.x[k + 1], s.qkv[k + 1], s.U[k + 1])
            over(s.padded, kernels.nodes_middle, *mine, *self._next(k + 1), *made)
        over(s.n, kernels.messages_last, *edges, s.qkv[-1], s.m)
        mine = (last.out, last.b_out, s.m, s.U[-1], s.x[-1])
        read_out = (head.w1, head.b1, head.w2, head.b2, head.w3, head.b3)
        over(s.padded, kernels.nodes_last, *mine, *read_out, s.o[-1], s.z1, s.z2, s.energy, s.raw)

    def backward(self, engine: Engine) -> None:
        """Derivatives of the energy, with `graw` by the raw charges, into forces and virial of each thread."""
        s, over, head, last = engine.state, engine.over, self.head, self.attention[-1]
        edges = (s.capacity, s.active, s.edge_j, s.edge_n, s.edge, self.table)
        sums, out = Each(s.sums), (Each(s.force), Each(s.virial))
        seen, made = (s.graw, s.o[-1], s.U[-1], s.z1, s.z2, self.none), (s.gx, s.gm, s.gV)
        read_out = (head.w1_t, head.w2_t, head.w3)
        over(s.padded, kernels.nodes_last_back, *read_out, last.out_t, self.mix_t[-1], *seen, *made)
        over(s.n, kernels.pairs_last, *edges, s.qkv[-1], s.gm, sums, *out)
        for k in reversed(range(self.n_middle)):
            here, after = self.attention[k + 1], self.attention[k + 2]
            behind = (s.x[k + 1], after.gain, after.qkv_t, s.sums)
            mine = (here.out_t, self.mix_t[k], s.o[k], s.U[k], self.none)
            over(s.padded, kernels.nodes_middle_back, *behind, *mine, s.gx, s.gm, s.gM, s.gV)
            over(s.n, kernels.pairs_middle, *edges, s.qkv[k], s.gm, s.gM, sums, *out)
        behind = (s.x[0], self.attention[1].gain, self.attention[1].qkv_t, s.sums)
        over(s.padded, kernels.nodes_first_back, *behind, self.attention[0].out_t, self.none, s.gx, s.gm)
        constants = (self.pair_attention, self.value, s.gm, s.gV)
        over(s.n, kernels.pairs_first, s.kind, self.n_kinds, *edges, *constants, *out)

    def _next(self, k: int) -> tuple[Any, ...]:
        """What a layer needs to prepare the attention of layer `k + 1`."""
        a, mix = self.attention[k + 1], self.mix[k]
        return a.gain, a.shift, a.qkv, a.b_qkv, mix, mix.shape[1], self.none


def _order(blocks: int) -> NDArray[np.int64]:
    return np.concatenate([b * WIDTH + _PERMUTED for b in range(blocks)])


_QKV = np.array([h * 12 + part * 4 + c for part in range(3) for c in range(4) for h in range(HEADS)])
"""Place in the kernels (all queries, keys, values) -> place in the torch model (q, k, v of a head together)."""


def _dense(weight: torch.Tensor) -> NDArray[np.float32]:
    """A linear layer as the kernels want it: `(in, out)`, both permuted."""
    w = weight.detach().numpy()
    return np.ascontiguousarray(w[_order(len(w) // WIDTH)][:, _PERMUTED].T, np.float32)


class _Attention:
    """Weights of one attention layer; `..._64` in float64 for the constants of the first layer."""

    def __init__(self, a: Attention) -> None:
        self.out, self.b_out = _dense(a.out.weight), _single(a.out.bias[_order(len(a.out.bias) // WIDTH)])
        self.out_t = np.ascontiguousarray(self.out.T)
        self.qkv_64, self.b_qkv_64 = a.qkv.weight.detach().numpy()[_QKV], a.qkv.bias.detach().numpy()[_QKV]
        self.gain_64, self.shift_64 = a.norm.weight.detach().numpy(), a.norm.bias.detach().numpy()
        self.qkv = np.ascontiguousarray(self.qkv_64[:, _PERMUTED].T, np.float32)
        self.qkv_t = np.ascontiguousarray(self.qkv.T)
        self.b_qkv = self.b_qkv_64.astype(np.float32)
        self.gain, self.shift = (v[_PERMUTED].astype(np.float32) for v in (self.gain_64, self.shift_64))


class _Head:
    """Read-outs of energy and charge side by side: lanes 0..31 and 32..63 of one network."""

    def __init__(self, model: ForceField) -> None:
        parts = [model.energy] + ([model.charge.charge] if model.charge is not None else [])
        self.w1, self.w2 = (np.zeros((WIDTH, WIDTH), np.float32) for _ in range(2))
        self.b1, self.b2, self.w3 = (np.zeros(WIDTH, np.float32) for _ in range(3))
        self.b3 = np.zeros(2)
        for k, part in enumerate(parts):
            a, b, c = [m for m in part if isinstance(m, torch.nn.Linear)]
            hidden = slice(32 * k, 32 * k + a.out_features)
            self.w1[:, hidden], self.b1[hidden] = _single(a.weight)[:, _PERMUTED].T, _single(a.bias)
            self.w2[hidden, hidden], self.b2[hidden] = _single(b.weight).T, _single(b.bias)
            self.w3[hidden], self.b3[k] = _single(c.weight)[0], c.bias.item()
        self.w1_t, self.w2_t = np.ascontiguousarray(self.w1.T), np.ascontiguousarray(self.w2.T)


def _single(t: torch.Tensor) -> NDArray[np.float32]:
    return t.detach().numpy().astype(np.float32)


def _edge_tables(network: GraphTransformer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Polynomials of f_c `(INTERVALS, DEGREE + 1)` and of the edge features, which meet them at Chebyshev's points."""
    nodes = np.cos((np.arange(kernels.DEGREE + 1) + 0.5) * np.pi / (kernels.DEGREE + 1))
    near, far = (1.0 / (d + kernels.WARP_A) for d in (0.0, network.cutoff))
    place = (np.arange(kernels.INTERVALS)[:, None] + 0.5 * (nodes + 1.0)) / kernels.INTERVALS
    r = torch.from_numpy(1.0 / (near + (far - near) * place.ravel()) - kernels.WARP_A)
    with torch.no_grad():
        envelope = cosine_cutoff(r, network.cutoff)
        values = torch.cat([envelope[:, None], network.edge_features(r, envelope)[:, _PERMUTED]], dim=1)
    to_powers = np.linalg.inv(np.vander(nodes, increasing=True))
    powers = to_powers @ values.numpy().reshape(kernels.INTERVALS, kernels.DEGREE + 1, WIDTH + 1)
    powers = powers.astype(np.float32)
    return np.ascontiguousarray(powers[:, :, 0]), np.ascontiguousarray(powers[:, :, 1:]).ravel()


def _cubics(value: torch.Tensor, slope: torch.Tensor) -> NDArray[np.float64]:
    """Cubics that meet value and slope (per interval) at both ends of each interval: `(n, 4, ...)`."""
    y, m = value.detach().numpy(), slope.detach().numpy()
    rise = y[1:] - y[:-1]
    return np.stack([y[:-1], m[:-1], 3 * rise - 2 * m[:-1] - m[1:], m[:-1] + m[1:] - 2 * rise], axis=1)


def _coulomb_table(model: ForceField, cutoff: float) -> NDArray[np.float64]:
    r = torch.linspace(0.0, cutoff, COULOMB_INTERVALS + 1, dtype=torch.float64).clamp(min=1e-3).requires_grad_()
    shape = model.coulomb_shape(r, screened=True)
    return _cubics(shape, torch.autograd.grad(shape.sum(), r)[0] * (cutoff / COULOMB_INTERVALS))


def _dispersion_constants(model: ForceField) -> tuple[Any, Any, Any] | None:
    """Roots of C6, exp(-1.25 r0) of each element, and the constants of `kernels.dispersion`."""
    form = model.dispersion
    if not isinstance(form, ElementDispersion):
        return None
    a6, flat, bump, stretch = ELEMENT_FORM
    lift, width = (0.0, SWITCH_A) if form.smooth else (form.cutoff**-6, 0.0)
    constants = np.array([form.cutoff, a6, flat, bump, lift, width], np.float32)
    decay = torch.exp(-0.5 * stretch * form.r0)
    return _single(form.c6.sqrt()), _single(decay), constants


def _check(model: ForceField) -> None:
    p, n = model.parameters_of, model.parameters_of.network
    reasons = {
        "width 64 and 16 heads": (n.width, n.heads) == (WIDTH, HEADS),
        "at most 32 hidden features": n.hidden <= 32,
        "dispersion by element or none": p.dispersion != "coordination",
        "coulomb_cutoff_A equal to the network's": not p.charges or p.coulomb_cutoff_A == n.cutoff_A,
        "a dispersion cutoff of at most 11 Å": p.dispersion_cutoff_A <= 11.0,
    }
    for reason, fine in reasons.items():
        if not fine:
            raise ValueError(f"the fast engine needs {reason}; use the torch model")
