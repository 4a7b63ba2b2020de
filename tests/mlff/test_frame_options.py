"""The YAML of each label set names every option of its class, what units and keys it has, and can be built."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from mlff.datasets import FrameFiles
from mlff.labelled import LabelKeys, LabelUnits
from runners.check import build

CONF = Path(__file__).parents[2] / "conf" / "data"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if "_target_: mlff." in path.read_text())


def test_there_are_label_sets() -> None:
    assert {"carbonates", "frames", "water"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_names_every_option(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    options = yaml.safe_load(text)
    assert text.startswith("# ") and options["name"] == name
    for part, kind in ((options, FrameFiles), (options["keys"], LabelKeys), (options["units"], LabelUnits)):
        assert set(part) == {"_target_"} | {f.name for f in dataclasses.fields(kind)}
    made = build(options | {k: v for k, v in ASKED.items() if options[k] == "???"}, "data")
    assert isinstance(made, FrameFiles) and made.dispersion in ("included", "none", "stated")


ASKED = {"train": "mine.xyz", "dispersion": "none"}
"""What only the user can say."""
