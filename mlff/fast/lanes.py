"""Vectors of 16 and 64 float32 as numba values: arithmetic on them becomes SIMD instructions of the machine at hand.

A feature of width 64 is stored as component x 16 + head. In this order the 16 heads fill one vector: one number for
each head takes 16 lanes (`heads`), a feature 64 (`feature`); `fold` sums the components of each head and `spread` hands
one number for each head to all its components. LLVM lowers the operations to AVX-512, AVX2 or NEON.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel, register_default
from numba.extending import intrinsic, lower_builtin, type_callable
from numpy.typing import NDArray

FLOAT = ir.FloatType()
FAST = ("contract", "reassoc", "nsz", "arcp")
WIDTH, HEADS = 64, 16


def aligned(shape: int | tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
    """Zeros that start with a cache line: 64 bytes that lie in two lines take twice as long to load."""
    n = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(n + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + n].view(dtype).reshape(shape)


def single(values: Any) -> NDArray[np.float32]:
    """A copy as aligned, contiguous float32."""
    values = np.asarray(values)
    copy = aligned(values.shape)
    copy[...] = values
    return copy


class Lanes(types.Type):
    """A fixed number of float32 side by side."""

    def __init__(self, n: int) -> None:
        self.n = n
        super().__init__(name=f"Lanes({n})")


quad, row, heads, feature = Lanes(4), Lanes(8), Lanes(HEADS), Lanes(WIDTH)


@register_default(Lanes)
class LanesModel(PrimitiveModel):
    """An LLVM vector."""

    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(FLOAT, fe_type.n))


def _arithmetic(op: Any, instruction: str) -> None:
    @type_callable(op)
    def typer(context: Any) -> Any:
        return lambda a, b: a if isinstance(a, Lanes) and a == b else None

    for kind in (quad, row, heads, feature):

        @lower_builtin(op, kind, kind)
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=FAST)


for _op, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_op, _instruction)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, n: int) -> Any:
    data = context.make_array(array_type)(context, builder, value=array).data
    place = builder.gep(data, [index])
    return builder.bitcast(place, ir.PointerType(ir.VectorType(FLOAT, n)))


def _loader(kind: Lanes) -> Any:
    @intrinsic
    def load(typingctx: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            at = _address(context, builder, sig.args[0], args[0], args[1], kind.n)
            return builder.load(at, align=4)

        return kind(array, types.intp), codegen

    return load


load4, load8, load16, load64 = (_loader(kind) for kind in (quad, row, heads, feature))


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to a flat array of float32, from `index` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = _address(context, builder, sig.args[0], args[0], args[1], sig.args[2].n)
        builder.store(args[2], at, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


def _shuffle(builder: Any, value: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)


def _filler(kind: Lanes) -> Any:
    @intrinsic
    def fill(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vector = ir.VectorType(FLOAT, kind.n)
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), args[0], ir.IntType(32)(0))
            return _shuffle(builder, first, [0] * kind.n)

        return kind(types.float32), codegen

    return fill


fill8, fill16, fill64 = (_filler(kind) for kind in (row, heads, feature))


@intrinsic
def spread(typingctx: Any, value: Any) -> Any:
    """One number for each head, given to all components of the head."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shuffle(builder, args[0], [lane % HEADS for lane in range(WIDTH)])

    return feature(heads), codegen


@intrinsic
def fold(typingctx: Any, value: Any) -> Any:
    """Sum over the components of each head."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [_shuffle(builder, args[0], list(range(s, s + HEADS))) for s in range(0, WIDTH, HEADS)]
        low = builder.fadd(parts[0], parts[1], flags=FAST)
        return builder.fadd(low, builder.fadd(parts[2], parts[3], flags=FAST), flags=FAST)

    return heads(feature), codegen


@intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """Sum of all lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = args[0].type
        kind = ir.FunctionType(FLOAT, [FLOAT, vector])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{vector.count}f32")
        return builder.call(reduce, [FLOAT(0.0), args[0]], fastmath=FAST)

    return types.float32(value), codegen


@intrinsic
def totals(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sums of all lanes of four vectors, side by side: a third of the steps of four single sums."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def halve(x: Any, y: Any, groups: int) -> Any:
            # each of x and y holds `groups` runs of lanes still to be summed: fold every run in half
            size = HEADS // groups
            low = [g * size + k for g in range(groups) for k in range(size // 2)]
            low += [HEADS + lane for lane in low]
            parts = [ir.Constant(ir.VectorType(ir.IntType(32), HEADS), m) for m in (low, [m + size // 2 for m in low])]
            return builder.fadd(*(builder.shuffle_vector(x, y, m) for m in parts), flags=FAST)

        ab, cd = halve(args[0], args[1], 1), halve(args[2], args[3], 1)
        four = halve(ab, cd, 2)
        for size in (4, 2):
            lanes = [g * size + k for g in range(4) for k in range(size // 2)]
            high = [m + size // 2 for m in lanes]
            four = builder.fadd(_shuffle(builder, four, lanes), _shuffle(builder, four, high), flags=FAST)
        return four

    return quad(heads, heads, heads, heads), codegen


@intrinsic(prefer_literal=True)
def prefetch(typingctx: Any, array: Any, index: Any, n: Any) -> Any:
    """Ask for the cache lines of `n` (a constant) numbers from `index` on, without waiting for them."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    count = n.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = ir.IntType(32)
        data = context.make_array(sig.args[0])(context, builder, value=args[0]).data
        byte = ir.PointerType(ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [byte, whole, whole, whole])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        for offset in range(0, count, 16):
            place = builder.bitcast(builder.gep(data, [builder.add(args[1], ir.IntType(64)(offset))]), byte)
            # to read, to be kept, data
            builder.call(function, [place, whole(0), whole(3), whole(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, n), codegen


_LOG2E, _LN2_HIGH, _LN2_LOW = 1.44269504088896341, 0.693359375, -2.12194440e-4
# minimax coefficients of (exp(f) - 1 - f) / f^2 on |f| < ln 2 / 2, highest power first (Moshier's Cephes library)
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def _exponential(kind: Lanes) -> Any:
    @intrinsic
    def exponential(typingctx: Any, value: Any) -> Any:
        return kind(kind), _exponential_code

    return exponential


def _exponential_code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """exp of each lane, clipped to |x| < 87, relative error 1e-7: 2^n exp(f) with a polynomial for exp(f)."""
    vector, n_lanes = args[0].type, sig.return_type.n
    whole = ir.VectorType(ir.IntType(32), n_lanes)

    def constant(c: float) -> Any:
        return ir.Constant(vector, [_single(c)] * n_lanes)

    def call(name: str, *operands: Any) -> Any:
        kind = ir.FunctionType(vector, [vector] * len(operands))
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{n_lanes}f32")
        return builder.call(function, operands, fastmath=("nnan", "nsz"))

    x = call("minnum", call("maxnum", args[0], constant(-87.0)), constant(87.0))
    n = call("rint", builder.fmul(x, constant(_LOG2E)))
    f = builder.fsub(x, builder.fmul(n, constant(_LN2_HIGH)), flags=("contract",))
    f = builder.fsub(f, builder.fmul(n, constant(_LN2_LOW)), flags=("contract",))
    p = constant(_EXP[0])
    for c in _EXP[1:]:
        p = builder.fadd(builder.fmul(p, f, flags=FAST), constant(c), flags=FAST)
    p = builder.fadd(builder.fmul(builder.fmul(p, f, flags=FAST), f, flags=FAST), f, flags=FAST)
    p = builder.fadd(p, constant(1.0), flags=FAST)
    exponent = builder.shl(builder.fptosi(n, whole), ir.Constant(whole, [23] * n_lanes))
    return builder.bitcast(builder.add(builder.bitcast(p, whole), exponent), vector)


exp16, exp64 = _exponential(heads), _exponential(feature)


def _single(value: float) -> float:
    return float(np.float32(value))
