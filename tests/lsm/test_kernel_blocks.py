"""Rows that are cut into blocks of targets, as in large liquids, change the order of work but no bit of the result."""

import numpy as np
import pytest

from lsm import kernel
from lsm.encode import Rates
from lsm.liquid import Liquid, build_liquid
from lsm.parameters import LiquidParameters
from lsm.protocol import InitState, initialise, spike_counts
from lsm.streams import stream


def _case(learning: str) -> tuple[Liquid, LiquidParameters, Rates]:
    parameters = LiquidParameters(
        n_neurons=100, input_density=0.5, init_snippets=40, run_ms=80, learning=learning, w_start=1.5
    )
    pixels = np.random.default_rng(0).integers(0, 255, (12, 64)).astype(np.uint8)
    return build_liquid(parameters, 64, stream(1, "wiring")), parameters, Rates(pixels, np.full(12, 0.0015, np.float32))


@pytest.mark.parametrize("learning", ["none", "astro_stdp"])
def test_blocks_of_targets_change_no_bit(learning: str, monkeypatch: pytest.MonkeyPatch) -> None:
    liquid, parameters, inputs = _case(learning)
    results = []
    for size, blocks in ((2048, 1), (16, 7)):
        monkeypatch.setattr(kernel, "_BLOCK", size)
        assert kernel.net_of(liquid).blocks == blocks
        weights = initialise(liquid, parameters, inputs, 0, InitState.fresh(liquid)).weights
        results.append((weights, spike_counts(liquid, parameters, weights, inputs, 0, "test").counts))
    assert results[0][1].any() and (learning == "none" or not np.array_equal(results[0][0], liquid.w_start))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_parts_cover_each_row_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    liquid, _, _ = _case("none")
    monkeypatch.setattr(kernel, "_BLOCK", 16)
    net = kernel.net_of(liquid)
    np.testing.assert_array_equal(net.part_ptr[:: net.blocks], net.row_ptr)
    for part in range(len(net.part_ptr) - 1):
        targets = net.col[int(net.part_ptr[part]) : int(net.part_ptr[part + 1])]
        assert (targets // 16 == part % net.blocks).all()
