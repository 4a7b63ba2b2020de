"""Spoken digits from file to result, and what is told where a set does not fit."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import Run, runs_in

TINY = ("model=lsm", "model.n_neurons=60", "model.run_ms=40", "readout.epochs=4", "runner.branching_samples=0",
        "runner.pictures=false")  # fmt: skip


@pytest.fixture
def spoken(tmp_path: Path) -> tuple[str, ...]:
    """The choice of a small FSDD: 12 recordings of each digit by one voice, a tone of the digit."""
    rng, t = np.random.default_rng(0), np.arange(400) / 8000
    for digit in range(10):
        for k in range(12):
            with wave.open(str(tmp_path / f"{digit}_anna_{k}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                tone = np.sin(2 * np.pi * 200 * 1.4**digit * t) + 0.1 * rng.standard_normal(len(t))
                file.writeframes((8000 * tone).astype("<i2").tobytes())
    return ("data=fsdd", f"data.path={tmp_path}", "data.verify=false", "data.keep=false")


def test_spoken_digits_go_from_sound_to_result(lsmrun: Run, spoken: tuple[str, ...]) -> None:
    status, out, err = lsmrun(*TINY, *spoken)
    assert status == 0, err
    assert "test/accuracy" in out


def test_without_a_validation_part_no_run_begins(lsmrun: Run, spoken: tuple[str, ...]) -> None:
    status, out, err = lsmrun(*TINY, *spoken, "data.validate=false")
    assert status == 2 and "data=fsdd: there is no validation part" in err and "MLflow" not in out


def test_the_published_choice_needs_no_validation_part(lsmrun: Run, home: Path, spoken: tuple[str, ...]) -> None:
    small = (
        "model=rram_lsm",
        "model.n_neurons=30",
        "readout.epochs=4",
        "runner.pictures=false",
        "runner=classify_published",
    )
    for given in (("data.validate=false",), ()):
        status, _, err = lsmrun(*small, *spoken, *given)
        assert status == 0, err
    for run in runs_in(home):
        used = {i.tags[0].value: i.dataset.profile for i in run.inputs.dataset_inputs}
        assert set(used) == {"training", "testing"} and used["training"].startswith("70 samples")
        assert "published/test_accuracy" in run.data.metrics


def test_networks_are_trained_without_a_validation_part_as_published_alone(
    lsmrun: Run, home: Path, spoken: tuple[str, ...]
) -> None:
    command = ("model=srnn_ann", "model.n_neurons=20", "model.epochs=2", "runner.pictures=false", *spoken)
    status, _, err = lsmrun(*command, "data.validate=false")
    assert status == 2 and "data=fsdd: there is no validation part" in err and not runs_in(home)
    for given in (("data.validate=false",), ()):
        status, _, err = lsmrun(*command, *given, "runner.protocol=published")
        assert status == 0, err
    for run in runs_in(home):
        used = {i.tags[0].value: i.dataset.profile for i in run.inputs.dataset_inputs}
        assert set(used) == {"training", "testing"} and used["training"].startswith("70 samples")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("data=synthetic_pairs",), "lsm takes images or events and synthetic_pairs has pairs"),
        (("data=fsdd", "data.split=voice"), "data.split=voice: must be one of index, speaker"),
        (("data=mnist_fsdd", "data.unseen=[7,8]"), "digit 7 is also in seen"),
        (("data=fsdd", "data.path=/nowhere"), "/nowhere: no such file or folder"),
        (("data=handwriting", "data.path=/nowhere"), "singleLetters.mat is missing there"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(lsmrun: Run, arguments: tuple[str, ...], told: str) -> None:
    status, _, err = lsmrun(*TINY, *arguments)
    assert status == 2 and told in err and len(err.strip().splitlines()) == 1
