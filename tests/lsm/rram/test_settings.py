"""Published hyper-parameters: what is left open is filled in by the data set, what is given stays."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lsm.rram.parameters import OPEN, RramParameters
from lsm.rram.settings import PUBLISHED, family_of, published

NMNIST = {"kind": "events", "height": 34, "width": 34, "polarities": 2}


@pytest.mark.parametrize(
    ("encoding", "task", "row"),
    [
        (NMNIST, "supervised", (200, 50, 0.9, 5.0, 0.07, 50)),
        (NMNIST, "contrastive", (200, 50, 0.9, 5.0, 0.3, 50)),
        (NMNIST, "prototypes", (200, 50, 0.9, 5.0, 0.35, 50)),
        ({"kind": "ntidigits"}, "supervised", (200, 129, 0.97, 5.3, 0.08, 129)),
        ({"kind": "ntidigits"}, "contrastive", (200, 129, 0.97, 5.3, 0.1, 129)),
        ({"kind": "ntidigits"}, "prototypes", (200, 129, 0.97, 5.3, 0.6, 129)),
        ({"kind": "handwriting"}, "contrastive", (2048, 201, 0.95, 0.1, 0.0005, 201)),
        ({"kind": "emnist"}, "contrastive", (2048, 50, 0.95, 0.1, 0.0005, 49)),
    ],
)
def test_open_values_are_the_published_ones(encoding: dict, task: Any, row: tuple) -> None:
    complete = RramParameters().for_data(encoding, task)
    assert tuple(getattr(complete, name) for name in OPEN) == row


def test_given_values_stay_and_the_window_follows_the_steps() -> None:
    given = RramParameters(n_neurons=33, weight_per_uS=0.5, steps=7).for_data(NMNIST)
    assert (given.n_neurons, given.weight_per_uS, given.steps, given.window) == (33, 0.5, 7, 7)
    assert (given.decay, given.v_threshold) == (0.9, 5.0)
    assert RramParameters(window=3).for_data({"kind": "emnist"}).window == 3


def test_data_that_the_authors_did_not_use_take_the_row_of_nmnist() -> None:
    for encoding in ({"kind": "images", "height": 28, "width": 28}, {"kind": "events", "height": 128, "width": 128}):
        assert published(family_of(encoding), "supervised") == PUBLISHED["nmnist", "supervised"]


def test_a_task_without_a_row_takes_the_one_there_is() -> None:
    for family in ("handwriting", "emnist"):
        for task in ("supervised", "prototypes"):
            assert published(family, task) == PUBLISHED[family, "contrastive"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"n_neurons": 0}, {"decay": 1.5}, {"weight_per_uS": -1.0}, {"polarity": 2}, {"time": "squeezed"}, {"x": 1}],
)
def test_values_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        RramParameters(**wrong)
