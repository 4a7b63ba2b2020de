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

FLOAT = ir.FloatType()
FAST = ("contract", "reassoc", "nsz", "arcp")
WIDTH, HEADS = 64, 16


class Lanes(types.Type):
    """A fixed number of float32 side by side."""

    def __init__(self, n: int) -> None:
        self.n = n
        super().__init__(name=f"Lanes({n})")


heads, feature = Lanes(HEADS), Lanes(WIDTH)


@register_default(Lanes)
class LanesModel(PrimitiveModel):
    """An LLVM vector."""

    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(FLOAT, fe_type.n))


def _arithmetic(op: Any, instruction: str) -> None:
    @type_callable(op)
    def typer(context: Any) -> Any:
        return lambda a, b: a if isinstance(a, Lanes) and a == b else None

    for kind in (heads, feature):

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


load16, load64 = _loader(heads), _loader(feature)


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


fill16, fill64 = _filler(heads), _filler(feature)


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
    """Sum of all 16 lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = args[0].type
        kind = ir.FunctionType(FLOAT, [FLOAT, vector])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{HEADS}f32")
        return builder.call(reduce, [FLOAT(0.0), args[0]], fastmath=FAST)

    return types.float32(heads), codegen


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
