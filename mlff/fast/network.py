"""The graph transformer's weights in the kernels' order, room for what lies between its layers, and both passes.

Edge features and the envelope are tables of the distance; queries, keys and values of the first layer are constants of
the elements at hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlff.fast import atoms, edges
from mlff.fast.lanes import HEADS, WIDTH, aligned, single
from mlff.fast.skin import SkinList
from mlff.fast.team import Each, Team
from mlff.get import Attention, GraphTransformer, cosine_cutoff
from mlff.model import ForceField

_PERMUTED = np.arange(WIDTH).reshape(HEADS, WIDTH // HEADS).T.ravel()
"""Our place -> place in the torch model: component x 16 + head instead of head x 4 + component."""

_QKV = np.array([h * 12 + part * 4 + c for part in range(3) for c in range(4) for h in range(HEADS)])
"""Place in the kernels (all queries, keys, values) -> place in the torch model (q, k, v of a head together)."""


class Workspace:
    """Arrays for `n` atoms with at most `capacity` near neighbours each; flat float32 unless said otherwise.

    Names of features as in `edges.py`; layers that keep a feature for the way back have one array each.
    """

    def __init__(self, n: int, capacity: int, threads: int, n_middle: int) -> None:
        padded = -(-n // atoms.BLOCK) * atoms.BLOCK
        self.n, self.padded, self.capacity = n, padded, capacity
        room = aligned
        # one entry more: the kernels look at the edge that follows
        self.edge_j, self.edge_n = (aligned(n * capacity + 1, np.uint32) for _ in range(2))
        self.edge, self.pull = room(n * capacity * edges.GEOMETRY), room(n * capacity * edges.PULL)
        self.active, self.kind = np.zeros((n, 2), np.int64), np.zeros(padded, np.int64)
        w = padded * WIDTH
        layers = n_middle + 1
        self.x, self.qkv = [room(w) for _ in range(layers)], [room(3 * w) for _ in range(layers)]
        self.U = [room(9 * w) for _ in range(n_middle)] + [room(6 * w)]
        self.o = [room(3 * w) for _ in range(n_middle)] + [room(2 * w)]
        self.m, self.M, self.V, self.gM, self.gV = room(w), room(3 * w), room(3 * w), room(3 * w), room(3 * w)
        self.z1, self.z2, self.gx, self.gm = room(w), room(w), room(w), room(w)
        self.sums, self.graw = room((threads, 3 * w)), room(padded)
        # float64: energies and raw charges of atoms, and what the threads add up
        self.energy, self.raw, self.dispersion = (np.zeros(padded) for _ in range(3))
        self.field, self.force = np.zeros((threads, padded)), np.zeros((threads, padded, 3))
        self.virial, self.half_virial = np.zeros((threads, 9)), np.zeros((threads, 9))


class Network:
    """Weights of a model (given in float64) in the kernels' order, the tables of the distance, and both passes."""

    def __init__(self, model: ForceField, team: Team) -> None:
        network = model.network
        self.team, self.cutoff = team, network.cutoff
        self.envelope, self.table = _edge_tables(network)
        self.embedding = network.embedding.weight.detach().numpy()
        self.n_middle = len(network.middle)
        layers: list[Any] = [network.first, *network.middle, network.last]
        self.attention: list[_Attention] = [_Attention(layer.attention) for layer in layers]
        self.mix = [_dense(layer.mix.weight) for layer in layers[1:]]
        self.mix_t = [single(w.T) for w in self.mix]
        self.none = aligned(3 * WIDTH)
        self.head = _Head(model)

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
        self.pair_attention = single(t / (1.0 + np.exp(-t))).ravel()
        self.value = single(v).ravel()
        self.kind_x = single(x[:, _PERMUTED]).ravel()
        return kind

    def measure(self, lists: SkinList, s: Workspace) -> None:
        """Distances, directions and places in the tables of all edges."""
        rows = (lists.near, lists.n_near, lists.n_front, lists.itself, lists.position, lists.owner, self.cutoff)
        made = (s.edge_j, s.edge_n, s.edge, s.pull, s.active)
        self.team.over(s.n, edges.measure, *rows, self.envelope, *made)

    def forward(self, s: Workspace) -> None:
        """Messages and updates of all layers up to energies and raw charges."""
        head = self.head
        rows = (s.capacity, s.active, s.edge_j, s.edge_n, s.edge, self.table)
        first, last, kinds = self.attention[0], self.attention[-1], (s.kind, self.n_kinds)
        self.team.over(s.n, edges.messages_first, *kinds, *rows, self.pair_attention, self.value, s.m, s.V)
        made: tuple[Any, ...] = (s.x[0], s.qkv[0], s.U[0])
        mine: tuple[Any, ...] = (s.kind, self.kind_x, first.out, first.b_out, s.m, s.V)
        self._blocks(s, atoms.nodes_first, *mine, *self._next(0), *made)
        for k in range(self.n_middle):
            here = self.attention[k + 1]
            self.team.over(s.n, edges.messages_middle, *rows, s.qkv[k], s.m, s.M)
            mine = (here.out, here.b_out, s.m, s.M, s.U[k], s.x[k], s.V)
            made = (s.o[k], s.x[k + 1], s.qkv[k + 1], s.U[k + 1])
            self._blocks(s, atoms.nodes_middle, *mine, *self._next(k + 1), *made)
        self.team.over(s.n, edges.messages_last, *rows, s.qkv[-1], s.m)
        mine = (last.out, last.b_out, s.m, s.U[-1], s.x[-1])
        read_out = (head.w1, head.b1, head.w2, head.b2, head.w3, head.b3)
        self._blocks(s, atoms.nodes_last, *mine, *read_out, s.o[-1], s.z1, s.z2, s.energy, s.raw)

    def backward(self, s: Workspace) -> None:
        """Derivatives of the energy, with `graw` by the raw charges, into forces and virial of each thread."""
        head, last, first = self.head, self.attention[-1], self.attention[0]
        rows = (s.capacity, s.active, s.edge_j, s.edge_n, s.edge, self.table)
        sums = Each(s.sums)
        seen, made = (s.graw, s.o[-1], s.U[-1], s.z1, s.z2, self.none), (s.gx, s.gm, s.gV)
        read_out = (head.w1_t, head.w2_t, head.w3)
        self._blocks(s, atoms.nodes_last_back, *read_out, last.out_t, self.mix_t[-1], *seen, *made)
        self.team.over(s.n, edges.pairs_last, *rows, s.qkv[-1], s.gm, sums, s.pull)
        for k in reversed(range(self.n_middle)):
            here, after = self.attention[k + 1], self.attention[k + 2]
            behind = (s.x[k + 1], after.gain, after.qkv_t, s.sums)
            mine = (here.out_t, self.mix_t[k], s.o[k], s.U[k], self.none)
            self._blocks(s, atoms.nodes_middle_back, *behind, *mine, s.gx, s.gm, s.gM, s.gV)
            self.team.over(s.n, edges.pairs_middle, *rows, s.qkv[k], s.gm, s.gM, sums, s.pull)
        behind = (s.x[0], self.attention[1].gain, self.attention[1].qkv_t, s.sums)
        self._blocks(s, atoms.nodes_first_back, *behind, first.out_t, self.none, s.gx, s.gm)
        constants = (self.pair_attention, self.value, s.gm, s.gV, s.pull)
        self.team.over(s.n, edges.pairs_first, s.kind, self.n_kinds, *rows, *constants, Each(s.force), Each(s.virial))

    def _blocks(self, s: Workspace, kernel: Any, *arguments: Any) -> None:
        self.team.over(s.padded, kernel, *arguments, block=atoms.BLOCK)

    def _next(self, k: int) -> tuple[Any, ...]:
        """What a layer needs to prepare the attention of layer `k + 1`."""
        a, mix = self.attention[k + 1], self.mix[k]
        return a.gain, a.shift, a.qkv, a.b_qkv, mix, mix.shape[1], self.none


def _order(blocks: int) -> NDArray[np.int64]:
    return np.concatenate([b * WIDTH + _PERMUTED for b in range(blocks)])


def _dense(weight: torch.Tensor) -> NDArray[np.float32]:
    """A linear layer as the kernels want it: `(in, out)`, both permuted."""
    w = weight.detach().numpy()
    return single(w[_order(len(w) // WIDTH)][:, _PERMUTED].T)


class _Attention:
    """Weights of one attention layer; `..._64` in float64 for the constants of the first layer."""

    def __init__(self, a: Attention) -> None:
        self.out, self.b_out = _dense(a.out.weight), single(a.out.bias[_order(len(a.out.bias) // WIDTH)])
        self.out_t = single(self.out.T)
        self.qkv_64, self.b_qkv_64 = a.qkv.weight.detach().numpy()[_QKV], a.qkv.bias.detach().numpy()[_QKV]
        self.gain_64, self.shift_64 = a.norm.weight.detach().numpy(), a.norm.bias.detach().numpy()
        self.qkv = single(self.qkv_64[:, _PERMUTED].T)
        self.qkv_t = single(self.qkv.T)
        self.b_qkv = single(self.b_qkv_64)
        self.gain, self.shift = (single(v[_PERMUTED]) for v in (self.gain_64, self.shift_64))


class _Head:
    """Read-outs of energy and charge side by side: lanes 0..31 and 32..63 of one network."""

    def __init__(self, model: ForceField) -> None:
        parts = [model.energy] + ([model.charge.charge] if model.charge is not None else [])
        self.w1, self.w2 = (aligned((WIDTH, WIDTH)) for _ in range(2))
        self.b1, self.b2, self.w3 = (aligned(WIDTH) for _ in range(3))
        self.b3 = np.zeros(2)
        for k, part in enumerate(parts):
            a, b, c = [m for m in part if isinstance(m, torch.nn.Linear)]
            hidden = slice(32 * k, 32 * k + a.out_features)
            self.w1[:, hidden], self.b1[hidden] = single(a.weight)[:, _PERMUTED].T, single(a.bias)
            self.w2[hidden, hidden], self.b2[hidden] = single(b.weight).T, single(b.bias)
            self.w3[hidden], self.b3[k] = single(c.weight)[0], c.bias.item()
        self.w1_t, self.w2_t = single(self.w1.T), single(self.w2.T)


def _edge_tables(network: GraphTransformer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Polynomials of f_c `(INTERVALS, DEGREE + 1)` and of the edge features, which meet them at Chebyshev's points."""
    nodes = np.cos((np.arange(edges.DEGREE + 1) + 0.5) * np.pi / (edges.DEGREE + 1))
    near, far = (1.0 / (d + edges.WARP_A) for d in (0.0, network.cutoff))
    place = (np.arange(edges.INTERVALS)[:, None] + 0.5 * (nodes + 1.0)) / edges.INTERVALS
    r = torch.from_numpy(1.0 / (near + (far - near) * place.ravel()) - edges.WARP_A)
    with torch.no_grad():
        envelope = cosine_cutoff(r, network.cutoff)
        values = torch.cat([envelope[:, None], network.edge_features(r, envelope)[:, _PERMUTED]], dim=1)
    to_powers = np.linalg.inv(np.vander(nodes, increasing=True))
    powers = to_powers @ values.numpy().reshape(edges.INTERVALS, edges.DEGREE + 1, WIDTH + 1)
    return single(powers[:, :, 0]), single(powers[:, :, 1:]).ravel()
