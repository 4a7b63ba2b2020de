"""Fixtures of all tests: a home of one's own for runs, and a user's own folder of choices with toy classes."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.cli import main
from runners.store import create, open_store

TOY_LAB = '''
"""A user's own classes: plain Python, no pydantic, no import from lsmrun."""

import logging
import os
import signal
import time


class Images:
    kind = "images"

    def __init__(self, n=4):
        if n < 1:
            raise ValueError(f"n={n}: must be 1 or more")
        self.n = n


class Molecules:
    kind = "molecules"


class Model:
    kinds = ("images", "events")

    def __init__(self, gain=1.0):
        self.gain = gain


class Runner:
    needs = ("model", "data")

    def __init__(self, epochs=3, stop="never"):
        self.epochs, self.stop = epochs, stop

    def prepare(self, context):
        if self.stop == "prepare":
            raise FileNotFoundError("toy.bin: no such file")
        return context.data.n * 10

    def run(self, context):
        tracker = context.tracker
        tracker.input("toy", "0123abcd", "made up", context="training")
        with context.phase("INIT", total=self.epochs, unit="epochs") as advance:
            for epoch in range(self.epochs):
                tracker.metrics({"valid/accuracy": epoch / 10 * context.model.gain}, step=epoch)
                advance(epoch + 1)
                if self.stop == "error" and context.model.gain > 1:
                    logging.getLogger("toy").warning("wears out")
                    raise RuntimeError("the toy\\nbroke")
                if self.stop == "sleep" and context.seed > 0:
                    tracker.flush()
                    time.sleep(120)
                if self.stop == "interrupt" and epoch == 1:
                    raise KeyboardInterrupt
                if self.stop == "sigterm":
                    os.kill(os.getpid(), signal.SIGTERM)
                if self.stop == "kill" and epoch == 1:
                    tracker.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
        result = {"test/accuracy": 0.5 * context.model.gain, "prepared": context.prepared}
        tracker.metrics(result)
        return result


class Silent:
    needs = ()
    tracked = False

    def run(self, context):
        context.progress.say(f"silent {context.model} {context.threads}")
'''

TOY_CONF = {
    "model/toy.yaml": """
        # @package _global_
        # A toy that needs no time.
        defaults:
          - /data: toy
          - /runner: toy
          - _self_
        model:
          _target_: toy_lab.Model
          gain: 1.0
    """,
    "data/toy.yaml": "# Four toys.\n_target_: toy_lab.Images\nn: 4\n",
    "data/molecules.yaml": "_target_: toy_lab.Molecules\n",
    "runner/toy.yaml": "_target_: toy_lab.Runner\nepochs: 3\nstop: never\n",
    "runner/silent.yaml": "_target_: toy_lab.Silent\n",
    "experiment/toy/sweep.yaml": """
        # @package _global_
        defaults:
          - override /model: toy
          - override /data: toy
        hydra:
          sweeper:
            params:
              model.gain: 0.5,1.0
    """,
}


@pytest.fixture(scope="session")
def toy_conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's `--config-dir`, with the classes that it names beside the YAML files."""
    folder = tmp_path_factory.mktemp("toy_conf")
    (folder / "toy_lab.py").write_text(TOY_LAB)
    for name, text in TOY_CONF.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip())
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs; making one takes seconds, so that tests copy it."""
    home = tmp_path_factory.mktemp("empty_store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        create(open_store(home))
    return home / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LSMRUN_HOME with a store in it; the working folder is empty too."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.setenv("LSMRUN_HOME", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def lsmrun(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit status, standard output, standard error)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def toy(lsmrun: Callable[..., tuple[int, str, str]], toy_conf: Path) -> Callable[..., tuple[int, str, str]]:
    """The command line with the user's folder and its toy model chosen."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return lsmrun("--config-dir", str(toy_conf), "model=toy", *arguments)

    return run


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
