"""How a section becomes an object, and what is said when it cannot."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from lsm.parameters import LiquidParameters
from runners.check import UserError, build, check_kinds, construct, read_options
from runners.options import CONF, describe_file, nearest, suggest

NEEDED = {
    "files": {"path": "my_images"},
    "box": {"file": "mine.pdb"},
    "custom": {"solvents": ["EC"], "solvent_amounts": [1.0]},
    "frames": {"train": "mine.xyz", "dispersion": "none"},
    "labelled": {"train": "mine.xyz"},
}
"""What has no default, by option."""
LIQUID = {"_target_": "lsm.parameters.LiquidParameters"}


def message(section: object, key: str = "model") -> str:
    with pytest.raises(UserError) as caught:
        build(section, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"w_astro": -1}, "model.w_astro=-1: must be a number >= 0 (gain from (liquid - input) spikes"),
        ({"w_astro": "abc"}, "model.w_astro=abc: must be a number >= 0"),
        ({"w_astro": math.inf}, "model.w_astro=inf: must be a finite number >= 0 (gain from"),
        ({"astro_bias": math.nan}, "model.astro_bias=nan: must be a finite number (resting level"),
        ({"c_ee": 2}, "model.c_ee=2: must be a number >= 0 and <= 1 (connection constant E->E)"),
        ({"init_ms": 0}, "model.init_ms=0: must be a whole number >= 1 and <= 10000 (length of a snippet)"),
        ({"n_neurons": 10.5}, "model.n_neurons=10.5: must be a whole number >= 2 and <= 65535"),
        ({"run_plastic": "maybe"}, "model.run_plastic=maybe: must be true or false"),
        ({"learning": "astro"}, "must be one of none, stdp, astro_stdp, ap_stdp; did you mean astro_stdp?"),
        ({"lattice": [1, 2]}, "model.lattice=[1,2]: must be a list of 3 values, each a whole number or null"),
        ({"lattice": [10, 10, 11]}, "model: lattice [10, 10, 11] has 1100 sites for n_neurons=1000"),
        ({"w_astr": 1}, "model.w_astr=1: unknown key; did you mean model.w_astro? (allowed: "),
        ({"n_neurons": "???"}, "model.n_neurons: has no value; give model.n_neurons=..."),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(values: dict, said: str) -> None:
    assert said in message(LIQUID | values)


def test_what_is_right_is_built_nested_ones_and_lists_too() -> None:
    built = build({"_target_": "builtins.dict", "liquids": [LIQUID | {"n_neurons": 8}], "plain": {"a": 1}}, "x")
    assert built == {"liquids": [LiquidParameters(n_neurons=8)], "plain": {"a": 1}}
    assert build(LIQUID | {"lattice": [2, 2, 2], "n_neurons": 8}, "model").lattice_shape == (2, 2, 2)


def test_a_class_that_a_field_is_declared_with_needs_no_target() -> None:
    liquid = {"_target_": "mlff.system.System", "name": "x", "solvents": ["EC"], "solvent_amounts": [1.0]}
    built = build(liquid | {"measured": [{"source": "me", "density_g_cm3": 1.3}]}, "system")
    assert built.measured[0].density_g_cm3 == 1.3
    said = message(liquid | {"measured": [{"source": "me", "densty_g_cm3": 1.3}]}, "system")
    assert said.startswith("system.measured.0.densty_g_cm3=1.3: unknown key; did you mean system.measured.0.density_g")


def test_an_error_deep_inside_is_told_with_its_full_key() -> None:
    nested = {"_target_": "builtins.dict", "liquids": [LIQUID, LIQUID | {"eta": -1}]}
    assert message(nested, "x").startswith("x.liquids.1.eta=-1: must be a number >= 0")


def test_plain_classes_are_checked_by_their_signature() -> None:
    fraction = {"_target_": "pathlib.PurePosixPath"}
    assert build(fraction, "x") is not None
    queue = {"_target_": "textwrap.TextWrapper"}
    assert message(queue | {"widht": 7}, "x").startswith("x.widht=7: unknown key; did you mean x.width?")
    assert message({"_target_": "random.choice"}, "x") == "x.seq: has no value; give x.seq=..."
    assert message({"_target_": "fractions.Fraction", "numerator": "a"}, "x").startswith("x: Invalid literal")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "lsm.parameters.LiquidParameter",
            "lsm.parameters has no class LiquidParameter; did you mean LiquidParameters?",
        ),
        ("lsm.nowhere.Thing", "cannot be imported (No module named 'lsm.nowhere')"),
        ("Thing", "cannot be imported"),
    ],
)
def test_a_target_that_is_not_there_is_told(target: str, said: str) -> None:
    assert said in message({"_target_": target})


def test_top_level_keys_have_types_and_ranges() -> None:
    config = {"paths": {"data": "d", "home": "h"}, "tracking": {}, "seed": 3, "model": {}}
    assert read_options(config, ["model"]).seed == 3
    for wrong, said in [
        ({"seed": 2**32}, "seed=4294967296: must be a whole number >= 0 and <= 4294967295"),
        ({"sed": 1}, "sed=1: unknown key; did you mean seed?"),
        ({"tracking": {"tags": [1]}}, "tracking.tags=[1]: must be a mapping"),
        ({"paths": {"data": "d"}}, "paths.home: has no value"),
        ({"checkpoint": 3}, "checkpoint=3: must be text or a list, each text or null"),
    ]:
        with pytest.raises(UserError, match=said.replace("[", r"\[")):
            read_options(config | wrong, ["model"])


def test_only_data_of_a_kind_that_the_model_takes_passes() -> None:
    takes = SimpleNamespace(kinds=("images",))
    images, events, plain = (SimpleNamespace(kind=k) for k in ("images", "events", None))
    choices = {"model": "a", "data": "b"}
    check_kinds(takes, images, choices, dict)
    check_kinds(takes, plain, choices, dict)
    check_kinds(object(), events, choices, dict)
    check_kinds(takes, SimpleNamespace(kind="images or events"), choices, dict)
    with pytest.raises(UserError, match="model=a data=b: a takes images and b has events; data that fit: none"):
        check_kinds(takes, events, choices, dict)


def test_an_error_of_the_constructor_itself_is_told_with_the_section() -> None:
    def picky(n: int) -> None:
        raise ValueError(f"n={n}\nis odd")

    with pytest.raises(UserError, match=r"^data: n=3 is odd$"):
        construct(picky, {"n": 3}, "data")


@pytest.mark.parametrize(
    "path", sorted(CONF.glob("*/**/*.yaml")), ids=lambda p: str(p.relative_to(CONF).with_suffix(""))
)
def test_every_built_in_section_can_be_built_and_shows_every_key(path: Path) -> None:
    loaded = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(loaded, dict) and describe_file(path)
    for other in loaded.pop("defaults", []) if "_target_" in loaded else ():
        if other != "_self_":  # an option that differs from another in little
            loaded = {**OmegaConf.to_container(OmegaConf.load(path.with_stem(other))), **loaded}
    if "_target_" in loaded:
        built = build(loaded | NEEDED.get(path.stem, {}), path.parent.name)
        if dataclasses.is_dataclass(built):
            assert {f.name for f in dataclasses.fields(built)} == set(loaded) - {"_target_"}


def test_the_full_model_shows_every_parameter_with_its_default() -> None:
    section = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "nalsm.yaml"))["model"]
    assert build(section, "model") == LiquidParameters()
    assert set(section) - {"_target_"} == {f.name for f in dataclasses.fields(LiquidParameters)}


def test_the_nearest_name_is_found_by_spelling_and_by_the_last_part() -> None:
    keys = ["model.w_astro", "model.w_start", "data.n_train", "seed"]
    assert nearest("w_astro", keys) == "model.w_astro"
    assert nearest("model.w_astr", keys) == "model.w_astro"
    assert nearest("n_trian", keys) == "data.n_train"
    assert nearest("zzz", keys) is None
    assert suggest("x", [f"k{i:02d}" for i in range(30)]).count("k") == 12
