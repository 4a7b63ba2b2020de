"""Several force fields at once on one GPU, in a given time, without Hydra and MLflow.

    python -m benchmarks.train_gpu --data conf/data/labelled.yaml --seeds 0 1 2 --seconds 300 --out OUT \
        data.train=frames.xyz training.batch=64

For a machine that you have for minutes and that has little installed: torch with CUDA, numba, pydantic, pyyaml, safetensors,
ase, vesin, tad-dftd3. Frames are made ready once, on all cores; then one process a seed measures its steps, takes as many
epochs as fit into the time, trains, and writes `OUT/seed<k>/model` (as `lsmrun` does), `history.csv` and `result.json`.
Initial weights and the order of frames follow the seed; all processes hold out the same frames.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from mlff.datasets import LabelSet
from mlff.labelled import LabelledFrame
from mlff.training.batches import ReadyFrame
from mlff.training.options import Training
from mlff.training.parallel import Ranks
from mlff.training.trainable import Start, finished, initialised, start
from mlff.training.trainer import Trainer, train
from mlff.weights import load
from runners.check import build
from runners.force_fields import write_force_field

ROOT = Path(__file__).resolve().parents[1]
WARM_UP, TIMED = 20, 60
"""Steps before the clock starts (kernels are compiled), and steps that are timed."""
CHUNK = 16
VALIDATIONS = 60
"""Times that the validation frames are predicted, at most, over a run."""
RESERVE_S = 10.0
"""Kept back of the time for writing the model."""


class TimeIsUp(Exception):
    """A run took longer than its steps had promised; what it has is kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, train all seeds side by side, print a line for each; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_gpu", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("overrides", nargs="*", help="training.batch=64, data.train=frames.xyz, model.forces=...")
    parser.add_argument("--data", type=Path, default=ROOT / "conf/data/carbonates.yaml", help="a YAML of conf/data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="wall time of training, preparation not counted")
    parser.add_argument("--checkpoint", type=Path, help="go on from the weights of this model.safetensors")
    parser.add_argument("--split-seed", type=int, default=0, help="which frames are held out")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="cuda")
    parser.add_argument("--plain", action="store_true", help="without Triton's kernels")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    # one thread here, or the processes forked from this one would inherit locks of a pool
    torch.set_num_threads(1)
    config = configuration(options.data, [*options.overrides, f"training.device={options.device}"])
    training, model_options = build(config["training"], "training"), build(config["model"], "model")
    began = time.perf_counter()
    root = Path(os.environ.get("LSMRUN_DATA") or "~/.cache/lsmrun/data").expanduser()
    labels: LabelSet = build(config["data"], "data").load(root, options.split_seed)
    read = time.perf_counter()
    model = load(options.checkpoint).train() if options.checkpoint else None
    fork = multiprocessing.get_context("fork")
    # the device is looked for in the processes that use it: CUDA does not survive a fork
    unplaced = replace(training, device="cpu")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=fork) as pool:
        made = start(model_options, unplaced, labels, options.seeds[0], model, partial(spread, pool))
    print(
        f"{len(made.train)} frames for training, {len(made.valid)} for validation; read in {read - began:.1f} s, made "
        f"ready in {time.perf_counter() - read:.1f} s",
        flush=True,
    )
    folders = {seed: options.out / f"seed{seed}" for seed in options.seeds}
    workers = [
        fork.Process(
            target=train_one,
            args=(made, training, labels, seed, model is None, options.plain, config, options.seconds, folder),
        )
        for seed, folder in folders.items()
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(abs(worker.exitcode or 0) for worker in workers)


def spread(
    pool: ProcessPoolExecutor, function: Callable[[LabelledFrame], ReadyFrame], frames: Iterable[LabelledFrame]
) -> Iterator[ReadyFrame]:
    """`map` over the pool's processes; arrays travel, since every tensor would take a file handle of its own."""
    for arrays in pool.map(partial(_arrays, function), frames, chunksize=CHUNK):
        yield ReadyFrame(**_tree(torch.from_numpy, arrays))


def _arrays(function: Callable[[LabelledFrame], ReadyFrame], frame: LabelledFrame) -> dict[str, Any]:
    torch.set_num_threads(1)
    made: dict[str, Any] = _tree(torch.Tensor.numpy, vars(function(frame)))
    return made


def _tree(change: Callable[[Any], Any], value: Any) -> Any:
    """`change` on everything in nested dictionaries that is not None."""
    if isinstance(value, dict):
        return {name: _tree(change, entry) for name, entry in value.items()}
    return None if value is None else change(value)


def configuration(data: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The sections that `lsmrun model=mlff` would have, with `section.key=value` put over them."""
    config = {
        "model": yaml.safe_load((ROOT / "conf/model/mlff.yaml").read_text())["model"],
        "data": yaml.safe_load(data.read_text()),
        "training": yaml.safe_load((ROOT / "conf/training/modern.yaml").read_text()),
    }
    for override in overrides:
        key, _, value = override.partition("=")
        *sections, last = key.split(".")
        place: Any = config
        for name in sections:
            place = place[name]
        if last not in place:
            raise SystemExit(f"{override}: unknown key; {key.rpartition('.')[0]} has {', '.join(place)}")
        place[last] = yaml.safe_load(value)
    return config


def train_one(
    made: Start,
    training: Training,
    labels: LabelSet,
    seed: int,
    fresh: bool,
    plain: bool,
    config: Mapping[str, Any],
    seconds: float,
    folder: Path,
) -> None:
    """Train one seed within `seconds` and write what it has become."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    trained_on = labels.train

    def trainer(how: Training) -> Trainer:
        model = made.model.changed()
        if fresh:
            model.load_state_dict(_fresh_weights(made, seed), strict=False)
        made_trainer = Trainer(model, made.train, made.valid, how, made.weights, made.scale, seed, Ranks())
        made_trainer.evaluate.fused &= not plain
        return made_trainer

    step_s, valid_s = measure(trainer(training))
    left = seconds - RESERVE_S - (time.perf_counter() - began)
    how = fitted(training, left, step_s, valid_s, len(trained_on))
    run = trainer(how)
    print(f"seed {seed}: {1e3 * step_s:.1f} ms a step of {how.batch} frames, {how.epochs} epochs", flush=True)
    limit = began + seconds

    def on_epoch(epoch: int, values: dict[str, float]) -> None:
        if time.perf_counter() > limit and epoch < how.epochs:
            raise TimeIsUp

    try:
        train(run, on_epoch=on_epoch)
    except TimeIsUp:
        run.flat.values.copy_(run.best)
    field = finished(replace(made, model=run.evaluate.model), how, labels)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**config, "training": {**config["training"], "epochs": how.epochs}, "seed": seed}
    write_force_field(folder / "model", field, labels, settings)
    kept = run.history[run.at.best_epoch - 1]
    result = {
        "seed": seed, "epochs_done": run.at.epoch, "epochs": how.epochs, "best_epoch": run.at.best_epoch,
        "steps": run.at.step, "step_ms": 1e3 * step_s, "training_s": run.clock.wall_s, "fused": run.evaluate.fused,
        "device": device_name(run.flat.values.device), "torch": torch.__version__, **kept,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, sorted({name for row in run.history for name in row}), lineterminator="\n")
        table.writeheader()
        table.writerows(run.history)
    print(json.dumps(result), flush=True)


def _fresh_weights(made: Start, seed: int) -> dict[str, Any]:
    """Weights that the seed draws; the tables that frames have filled in stay."""
    drawn = dict(initialised(made.model.parameters_of, seed).named_parameters())
    return {name: tensor.detach().to(made.model.dtype) for name, tensor in drawn.items()}


def fitted(training: Training, seconds: float, step_s: float, valid_s: float, n_frames: int) -> Training:
    """The same training with as many epochs as take `seconds`, and validation not too often."""
    epoch_s = step_s * -(-n_frames // training.batch)
    epochs = max(1, int((seconds - VALIDATIONS * valid_s) / epoch_s))
    if epochs <= VALIDATIONS:
        epochs = max(1, int(seconds / (epoch_s + valid_s)))
    return replace(training, epochs=epochs, validate_every=-(-epochs // VALIDATIONS))


def measure(run: Trainer) -> tuple[float, float]:
    """Wall time of a step, and of predicting the validation frames; spoils the weights."""
    batches = run.batches(0)

    def timed(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        if run.flat.values.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def steps(n: int) -> None:
        for k in range(n):
            run.step(batches[k % len(batches)])

    steps(WARM_UP)
    step_s = timed(lambda: steps(TIMED)) / TIMED
    if not run.valid:
        return step_s, 0.0
    run.score(run.valid)
    return step_s, timed(lambda: run.score(run.valid))


def device_name(device: torch.device) -> str:
    """What computed."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    sys.exit(main())
