"""Every `lsmrun` command that README.md and docs/running.md print, with sizes cut down and nothing else changed.

What the other pages of `docs/` print is read and composed, not run.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runners.cli import _parse
from runners.compose import Source, implied, let_open, parse, quoted
from runners.options import find_groups
from tests.command_line import Run
from tests.staged import DATA

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"mnist": "mnist", "fashion_mnist": "fashion-mnist", "nmnist": "n-mnist"}
LIQUID = ("model.n_neurons=60", "model.init_snippets=300", "model.run_ms=40")
SAMPLES = {"data.n_train": 120, "data.n_valid": 40, "data.n_test": 40}
BOX = (
    *("system.n_atoms=96", "system.density_g_cm3=0.9", "runner.relaxation.steps=5"),
    *("runner.relaxation.soft_start_ps=0", "runner.relaxation.limit_eV_A=1000"),
)
CUT = {
    "model=mlff": ("training.epochs=1", "data.n_train=4", "data.test=[]", "runner.pictures=false"),
    "runner=md": (*BOX, "md.time_step_fs=0.1", "md.length_ps=0.001"),
    "runner=properties": (
        *(*BOX, "system.n_atoms=400", "properties.replicas=1"),
        *("properties.density.time_step_fs=0.1", "properties.density.length_ps=0.005"),
    ),
    "model=rram_lsm": (
        *(f"{key}={value}" for key, value in SAMPLES.items()),
        *("model.steps=20", "readout.epochs=20", "runner.branching_samples=2", "runner.pictures=false"),
    ),
    "experiment=rram/zero_shot_synthetic_pairs": (
        *("data.n_train=12", "data.n_valid=4", "data.n_test=6", "model.steps=25", "runner.seeds=2"),
        *("runner.contrastive.epochs=12", "runner.contrastive.dim=16", "runner.pictures=false"),
    ),
}
"""What makes commands of other than astrocyte liquids short."""


def _commands() -> list[str]:
    found: dict[str, None] = {}
    for page in ("README.md", "docs/running.md"):
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
            found |= dict.fromkeys(line for line in block.splitlines() if line.startswith("lsmrun"))
    return list(found)


def _shown() -> list[str]:
    """Commands of all pages without what stands beside them; those with places to fill in are left out."""
    found: dict[str, None] = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for block in re.findall(r"```(?:sh|text)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found |= dict.fromkeys(re.split(r"\s{2,}|\s#", line)[0] for line in lines if line.startswith("lsmrun "))
    return [command for command in found if not re.search(r"\.\.\.|<", command)]


def _assignments() -> list[str]:
    """`system.file_species=[F6P=-1]` and the like in the text of all pages."""
    pages = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
    text = "\n".join(re.sub("```.*?```", "", p.read_text(encoding="utf-8"), flags=re.DOTALL) for p in pages)
    spans = dict.fromkeys(re.findall(r"`'?([a-z_]+(?:\.[A-Za-z0-9_]+)+=[^`' ]*(?:'[^`']*'[^`' ]*)?)'?`", text))
    return [span for span in spans if not re.search(r"\.\.\.|<|\$", span)]


@pytest.mark.parametrize("command", _shown())
def test_a_command_of_the_pages_is_understood(command: str) -> None:
    arguments = _parse(shlex.split(command)[1:])
    overrides = [let_open(quoted(o)) for o in arguments.overrides]
    if arguments.multirun:
        assert all(parse(o, find_groups()) for o in overrides)
    else:
        assert Source().compose([*overrides, *implied(overrides)])


def test_keys_in_the_text_of_the_pages_can_be_typed_as_they_stand() -> None:
    assert len(_assignments()) > 30
    assert all(parse(quoted(typed), find_groups()) for typed in _assignments())


def test_the_readme_shows_commands() -> None:
    assert len(_commands()) >= 10


@pytest.fixture
def belongings(tmp_path: Path, lsmrun: Run) -> dict[str, str]:
    """What the README's user has: pictures in folders by class, a configuration folder of their own."""
    rng = np.random.default_rng(0)
    for name in ("my_pictures/cat", "my_pictures/dog", "new_digits"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for k in range(12):
            Image.fromarray(rng.integers(0, 255, (28, 28)).astype(np.uint8)).save(folder / f"{k}.png")
    (tmp_path / "my_conf" / "readout").mkdir(parents=True)
    (tmp_path / "my_conf" / "readout" / "mine.yaml").write_text("# Mine.\n_target_: lsm.readout.Ridge\n")
    return {name: f"{tmp_path / name}" for name in ("my_pictures/", "new_digits/", "my_conf", "labels.csv")}


@pytest.mark.parametrize("command", _commands())
def test_command_works(command: str, lsmrun: Run, belongings: dict[str, str]) -> None:
    words = shlex.split(command)[1:]
    for word in words:
        data = FOLDERS.get(word.removeprefix("data="), "mnist" if "mnist" in word and "=" in word else None)
        if data and word.startswith(("data=", "experiment=")) and not (DATA / data).is_dir():
            pytest.skip(f"data folder {data} is missing: set LSMRUN_DATA to the folder that holds it")
    if "RUN_ID" in command:
        status, out, _ = lsmrun(*LIQUID, *(f"{k}={v}" for k, v in SAMPLES.items()), "runner.pictures=false")
        assert status == 0
        run_id = re.findall(r"MLflow run ([0-9a-f]{32})", out)[-1]
        words = [word.replace("RUN_ID", run_id) for word in words]
    for name, path in belongings.items():
        words = [word.replace(name, path) for word in words]
    cut = next((options for word, options in CUT.items() if word in words), None)
    if cut is not None:
        words += cut
    elif not any(word.startswith(("--help", "runner=predict", "runner=evaluate")) for word in words):
        sizes = {} if "data=files" in words else SAMPLES
        words = [word for word in words if word.partition("=")[0] not in sizes]
        words += [*LIQUID, *(f"{key}={value}" for key, value in sizes.items()), "runner.pictures=false"]
    status, _, err = lsmrun(*words, *(() if "--help" in words else (f"paths.data={DATA}",)))
    assert status == 0, err
