"""The YAML of each data set names every option of its class, with the default of the class, and nothing else."""

import dataclasses
import importlib
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[3] / "conf" / "data"


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist", "nmnist", "nmnist_sim", "files"])
def test_the_yaml_and_the_class_agree(name):
    text = (CONF / f"{name}.yaml").read_text()
    options = yaml.safe_load(text)
    module, _, target = options.pop("_target_").rpartition(".")
    source = getattr(importlib.import_module(module), target)
    assert options == {f.name: _default(f) for f in dataclasses.fields(source)}
    assert options["name"] == name
    assert text.startswith("# ")
    assert source.kind in ("images", "events", "images or events")
    source(**(options | ({"path": "x"} if name == "files" else {})))


def _default(field):
    default = field.default
    return getattr(default, "default", default)
