"""Training cost and mapping: the specification's table, integer by integer."""

from __future__ import annotations

import pytest

from lsm.rram.cost import (
    MACRO_CELLS,
    PUBLISHED_TRAINING_RATIOS,
    Branch,
    encoder_macs,
    mappings,
    projection_macs,
    training_cost,
)  # fmt: skip

IMAGE, AUDIO = Branch(256, 200, 50), Branch(64, 200, 129)
ATV = (IMAGE, AUDIO)
BTV = (Branch(192, 2048, 201), Branch(784, 2048, 50))


@pytest.mark.parametrize(
    ("branches", "d", "e", "p", "fwd", "bwd"),
    [
        (ATV, 64, 11_371_200, 25_600, 11_396_800, 18_582_400),
        (BTV, 256, 1_212_088_320, 1_048_576, 1_213_136_896, 2_266_955_776),
    ],
)
def test_operations_of_both_tasks(branches: tuple, d: int, e: int, p: int, fwd: int, bwd: int) -> None:
    assert (encoder_macs(branches), projection_macs(branches, d)) == (e, p)
    cost = training_cost(branches, d, 100)
    assert (cost["fwd_macs"], cost["bwd_macs_srnn"], cost["bwd_macs_lsm"]) == (fwd, bwd, p)
    assert all(isinstance(cost[name], int) for name in ("fwd_macs", "bwd_macs_srnn", "bwd_macs_lsm"))


@pytest.mark.parametrize(
    ("branches", "d", "ratios"),
    [
        (ATV, 64, {"bwd_ratio": 725.9, "published_kind_ratio": 148.4, "epoch_ratio": 2.99, "cached_ratio": 179.5,
                   "parameter_ratio": 6.6}),
        (BTV, 256, {"bwd_ratio": 2161.9, "published_kind_ratio": 385.6, "epoch_ratio": 2.995, "cached_ratio": 238.4,
                    "parameter_ratio": 10.9}),
    ],
)  # fmt: skip
def test_ratios_of_both_tasks(branches: tuple, d: int, ratios: dict[str, float]) -> None:
    cost = training_cost(branches, d, 100)
    for name, value in ratios.items():
        digits = len(str(value).partition(".")[2])
        assert round(cost[name], digits) == value, name


def test_the_published_ratios_are_near_but_not_ours() -> None:
    for (task, published), branches, d in zip(PUBLISHED_TRAINING_RATIOS.items(), (ATV, BTV), (64, 256), strict=True):
        ours = training_cost(branches, d, 100)["published_kind_ratio"]
        assert 0.01 < abs(ours / published - 1) < 0.03, task


def test_cells_and_macros() -> None:
    assert (IMAGE.weights, AUDIO.weights) == (91_200, 52_800)
    assert (IMAGE.cells, AUDIO.cells) == (182_400, 105_600)
    atv, btv = mappings(ATV), mappings(BTV)
    assert atv["pairs"].cells == 288_000 and atv["single_ended"].cells == 144_000
    assert atv["time_shared"].cells == 182_400 and atv["shared_recurrent"].cells == 288_000 - 80_000
    assert {name: m.macros <= 1 for name, m in atv.items()} == {
        "pairs": False, "time_shared": True, "shared_recurrent": True, "single_ended": True,
    }  # fmt: skip
    assert btv["pairs"].cells == 2 * 10_387_456 and round(btv["pairs"].macros) == 79
    assert MACRO_CELLS == 262_144
    assert mappings((IMAGE, Branch(64, 100, 129)))["shared_recurrent"].cells == IMAGE.cells + Branch(64, 100, 129).cells
