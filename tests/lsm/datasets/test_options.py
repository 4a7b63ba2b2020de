"""The YAML of each data set of liquids names every option of its class, with the default of the class, and nothing else."""

import dataclasses
import importlib
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[3] / "conf" / "data"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if "_target_: lsm." in path.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_and_the_class_agree(name):
    text = (CONF / f"{name}.yaml").read_text()
    options = yaml.safe_load(text)
    module, _, target = options.pop("_target_").rpartition(".")
    source = getattr(importlib.import_module(module), target)
    assert {k: _plain(v) for k, v in options.items()} == {f.name: _default(f) for f in dataclasses.fields(source)}
    assert options["name"] == name
    assert text.startswith("# ")
    assert source.kind in ("images", "events", "images or events", "pairs")
    source(**(options | ({"path": "x"} if name == "files" else {})))


def _default(field):
    default = field.default
    return _plain(getattr(default, "default", default))


def _plain(value):
    return tuple(value) if isinstance(value, list) else value
