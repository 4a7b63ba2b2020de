"""Energy of measured spikes: formulae by hand, the GPU figures of the specification, sources of all constants."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from lsm.rram.constants import EnergyConstants
from lsm.rram.cost import Branch, encoder_macs, projection_macs
from lsm.rram.device import Device
from lsm.rram.encoder import STATS, build_encoder, encode
from lsm.rram.energy import Work, energy_pJ, measured_work, neurobench
from lsm.rram.parameters import RramParameters
from tests.lsm.rram.bernoulli import bernoulli

YAML = Path(__file__).parents[3] / "conf" / "energy" / "suggested.yaml"
NAMES = [f.name for f in dataclasses.fields(EnergyConstants) if f.name != "sources"]


def _suggested() -> dict[str, Any]:
    values = yaml.safe_load(YAML.read_text())
    assert values.pop("_target_") == "lsm.rram.constants.EnergyConstants"
    return values


def _only(**values: float) -> EnergyConstants:
    """All constants 0 but those given."""
    return EnergyConstants(**{name: values.get(name, 0.0) for name in NAMES}, sources=dict.fromkeys(NAMES, "test"))


WORK = Work(
    read_conductance_uS=5000.0, driven_rows=30.0, synaptic_operations=900.0, conversions=60.0, neuron_steps=50.0,
    encoder_macs=1000.0, projection_macs=40.0, bytes_out=8.0,
)  # fmt: skip


def test_energy_of_the_array_is_ohmic_heat_of_driven_rows() -> None:
    """(0.2 V)^2 x 5,000 uS x 50 ns = 10 pJ."""
    assert energy_pJ(WORK, _only(v_read_V=0.2, t_read_ns=50.0))["array"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        ("e_adc_pJ", {"adc": 60, "hybrid": 60}),
        ("e_row_pJ", {"row": 30, "hybrid": 30}),
        ("e_lif_pJ", {"neuron": 50, "hybrid": 50, "digital_event": 50}),
        ("e_dig_pJ", {"projection": 80, "hybrid": 80}),
        ("e_mem_pJ", {"io": 8, "hybrid": 8}),
        ("e_gpu_pJ", {"digital_dense": 2080}),
        ("e_add_pJ", {"digital_event": 900}),
        ("e_mac_pJ", {"digital_event": 40}),
    ],
)
def test_every_constant_prices_its_own_operations(constant: str, expected: dict[str, float]) -> None:
    found = energy_pJ(WORK, _only(**{constant: 1.0}))
    assert {name: value for name, value in found.items() if value} == expected


def test_the_hybrid_is_the_sum_of_its_parts_and_work_adds_up() -> None:
    constants = EnergyConstants(**_suggested())
    found = energy_pJ(WORK, constants)
    parts = ("array", "adc", "row", "neuron", "projection", "io")
    assert found["hybrid"] == pytest.approx(sum(found[name] for name in parts))
    both = energy_pJ(WORK + WORK, constants)
    assert all(both[name] == pytest.approx(2 * value) for name, value in found.items())


@pytest.mark.parametrize(
    ("branches", "one", "two"),
    [((Branch(256, 200, 50), Branch(64, 200, 129)), 5.47, 10.9),
     ((Branch(192, 2048, 201), Branch(784, 2048, 50)), 583, 1165)],
)  # fmt: skip
def test_the_gpu_energy_of_both_tasks(branches: tuple, one: float, two: float) -> None:
    """In uJ a pair, with one or two operations for each multiply-accumulate of the encoders."""
    constant = EnergyConstants(**_suggested()).e_gpu_pJ
    assert constant == 0.48077 == round(300 / 624, 5)
    macs = encoder_macs(branches)
    assert macs * constant * 1e-6 == pytest.approx(one, rel=2e-3)
    work = dataclasses.replace(WORK, encoder_macs=macs, projection_macs=0)
    assert energy_pJ(work, _only(e_gpu_pJ=constant))["digital_dense"] * 1e-6 == pytest.approx(two, rel=4e-3)
    assert projection_macs(branches, 64) < 0.01 * macs


def _case() -> tuple[Any, Any]:
    parameters = RramParameters(
        n_neurons=30, steps=25, decay=0.9, v_threshold=5.0, weight_per_uS=0.15, window=25,
        device=Device(draw="breakdown", breakdown_probability=0.5, tile_rows=32),
    )  # fmt: skip
    encoder = build_encoder(parameters, 40, 0)
    return encoder, encode(encoder, bernoulli(20, 40, 25, 0.15))


def test_work_is_what_the_encoder_measured() -> None:
    encoder, (_, stats) = _case()
    work = measured_work(encoder, stats, d=7)
    mean = dict(zip(STATS, stats.mean(axis=0), strict=True))
    assert work.read_conductance_uS == pytest.approx(mean["read_conductance_uS"]) and work.driven_rows > 0
    assert work.synaptic_operations == pytest.approx(30 * work.driven_rows)
    assert work.conversions == 25 * 30 * 3 and work.neuron_steps == 25 * 30  # 70 rows are three tiles of 32
    assert work.encoder_macs == 25 * 30 * 70 and work.projection_macs == 30 * 7 and work.bytes_out == 60


def test_neurobench_numbers() -> None:
    encoder, (counts, stats) = _case()
    found = neurobench(encoder, stats, d=7)
    assert found["footprint_bytes"] == 4 * (70 * 30 + 30 + 31 * 7)
    assert found["connection_sparsity"] == pytest.approx(0.25, abs=0.04)  # (1 - p)^2
    assert found["activation_sparsity"] == pytest.approx(1 - counts.mean() / 25)
    assert found["synaptic_operations"] < found["synaptic_operations_dense"] == 25 * 70 * 30
    assert found["cells"] == 2 * 70 * 30 and found["tiles"] == 3
    silent = neurobench(encoder, np.zeros_like(stats), d=7)
    assert silent["activation_sparsity"] == 1 and silent["synaptic_operations"] == 0


def test_every_suggested_constant_has_a_source() -> None:
    values = _suggested()
    assert set(values["sources"]) == set(NAMES) and EnergyConstants(**values)
    for name in NAMES:
        less = {**values, "sources": {k: v for k, v in values["sources"].items() if k != name}}
        with pytest.raises(ValidationError, match=f"sources.{name}: every constant needs a source"):
            EnergyConstants(**less)
    with pytest.raises(ValidationError):
        EnergyConstants(**values | {"e_adc_pJ": -1.0})
