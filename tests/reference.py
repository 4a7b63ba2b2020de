"""Replay recordings of the original codes: how far our arrays are from theirs.

`replay(path)` recognises the kind of a file by its keys. The files stand in `$LSMRUN_REFERENCE`, else in
`../shared/reference` beside the repository; they are not part of the project.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lsm import kernel
from lsm.encode import Events
from lsm.liquid import assemble
from lsm.parameters import LiquidParameters
from lsm.protocol import drive_of
from lsm.readout.adadelta import adadelta_trajectory

FOLDER = Path(os.environ.get("LSMRUN_REFERENCE") or Path(__file__).resolve().parents[2] / "shared" / "reference")
EXACT = ("S", "spike_counts", "refr_state")  # counted as mismatches, not as a distance


def replay(path: str | Path) -> dict[str, float]:
    """Largest absolute deviation of each recorded array of the file from ours (spikes: number of mismatches)."""
    with np.load(path) as file:
        recorded = dict(file)
    if "W_after_step" in recorded:
        return _replay_readout(recorded)
    if "res_range" in recorded:
        return _replay_liquid(recorded)
    if "pos" in recorded or "dEdq" in recorded:
        from tests.mlff.reference import replay_bamboo

        return replay_bamboo(path)
    raise ValueError(f"{path}: not a recording that can be replayed; its arrays are {', '.join(sorted(recorded))}")


def _replay_readout(recorded: dict[str, Any]) -> dict[str, float]:
    passes = len(recorded["acc_per_epoch_batch"])
    ours = adadelta_trajectory(recorded["counts"], recorded["labels"], passes)
    return {name: float(np.abs(array - recorded[name]).max()) for name, array in ours.items()}


class _Network:
    """The recorded network without its inert output neuron, and the way back to the recorded order of synapses."""

    def __init__(self, recorded: dict[str, Any]) -> None:
        self.n, self.n_exc = int(recorded["res_range"][1]), int(recorded["res_exc_range"][1])
        self.n_in = int(np.diff(recorded["inp_range"])[0])
        self.kept = recorded["post"] < self.n
        pre, post = recorded["pre"][self.kept], recorded["post"][self.kept]
        self.order = np.lexsort((post, pre))
        positions = np.zeros((self.n, 3))
        self.liquid = assemble(self.n, self.n_exc, self.n_in, positions, pre, post, recorded["W_before_ini"][self.kept])
        self.net = kernel.net_of(self.liquid)
        self.parameters, self.constants = _parameters(recorded, self.n)
        self.mode = kernel.mode_of(self.parameters)

    def recorded_order(self, weights: np.ndarray) -> np.ndarray:
        """Weights `(..., n_syn)` of ours in the order of the file; the inert synapses are 0."""
        out = np.zeros((*weights.shape[:-1], len(self.kept)), np.float32)
        ordered = np.empty_like(weights)
        ordered[..., self.order] = weights
        out[..., self.kept] = ordered
        return out


def _parameters(recorded: dict[str, Any], n: int) -> tuple[LiquidParameters, kernel.Constants]:
    """The model that wrote the file: calcium windows, an astrocyte, plain STDP or nothing plastic."""
    if "ltp_c_range" in recorded:
        parameters = LiquidParameters(n_neurons=n, learning="ap_stdp")
        windows = [np.float32(v) for v in (*recorded["ltp_c_range"], *recorded["ltd_c_range"])]
        names = ("ltp_low", "ltp_high", "ltd_low", "ltd_high")
        return parameters, kernel.constants_of(parameters)._replace(**dict(zip(names, windows, strict=True)))
    learning = "astro_stdp" if "run0_A_end" in recorded else "stdp" if "ini_W" in recorded else "none"
    parameters = LiquidParameters(n_neurons=n, learning=learning)  # type: ignore[arg-type]
    return parameters, kernel.constants_of(parameters)


def _events(raster: np.ndarray) -> Events:
    """Recorded Bernoulli events `(sample, step, channel)` in our form."""
    found = [np.nonzero(sample) for sample in raster]
    return Events.from_lists([t for t, _ in found], [c for _, c in found], raster.shape[2], raster.shape[1])


def _replay_liquid(recorded: dict[str, Any]) -> dict[str, float]:
    network = _Network(recorded)
    ours: dict[str, np.ndarray] = {}
    weights = network.liquid.w_start.copy()
    if "ini_input_bernoulli" in recorded:
        _replay_init(network, recorded, weights, ours)
    if "W_INI" in recorded:
        ours["W_INI"] = network.recorded_order(weights)
    for run in ("run0", "run1"):
        if f"{run}_S" in recorded:
            _replay_run(network, recorded, run, weights, ours)
    if (
        "run0_trace" in ours and "run1_trace_at_start" in recorded
    ):  # the second presentation begins where the first ended
        ours["run1_trace_at_start"] = ours["run0_trace"][-1]
    return {name: _deviation(name, array, recorded[name]) for name, array in ours.items() if name in recorded}


def _deviation(name: str, ours: np.ndarray, theirs: np.ndarray) -> float:
    theirs = theirs.reshape(-1) if theirs.ndim == 1 else theirs
    if ours.shape != theirs.shape:  # the file has the inert output neuron as its last neuron
        theirs = theirs[..., : ours.shape[-1]] if ours.ndim == theirs.ndim else theirs.reshape(ours.shape)
    if ours.shape != theirs.shape:
        raise ValueError(f"{name}: recorded {theirs.shape}, ours {ours.shape}")
    if name.split("_", 1)[1] in EXACT:
        return float(np.sum(ours != theirs))
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def _replay_init(network: _Network, recorded: dict[str, Any], weights: np.ndarray, ours: dict[str, np.ndarray]) -> None:
    raster = recorded["ini_input_bernoulli"]
    drive, n_all = drive_of(_events(raster)), network.n + network.n_in
    trace, calcium = np.zeros(n_all, np.float32), np.zeros(network.n, np.float32)
    rows: list[dict[str, np.ndarray]] = []
    for k in range(len(raster)):
        rec = kernel.recorder(network.net, raster.shape[1], details=True)
        kernel.init_block(
            network.net, network.constants, network.mode, raster.shape[1], drive, np.uint64(0), np.array([k]),
            np.array([0]), np.array([k]), weights, trace, calcium, True, rec, np.zeros((1, len(kernel.STATS))),
        )  # fmt: skip
        rows.append({**_fields(rec), "W": network.recorded_order(weights), "C": rec.calcium})
    for name in rows[0]:
        ours[f"ini_{name}"] = np.stack([row[name] for row in rows])


def _fields(rec: kernel.Recorder) -> dict[str, np.ndarray]:
    """Our recorder under the names of the files."""
    scalars = dict(
        zip(("A_after_update", "A_end", "w_astro_end", "bias_end", "lr_pot_end"), rec.scalars.T, strict=True)
    )
    return {
        "S": np.concatenate([rec.spikes, rec.inputs], axis=1),
        "V_after_update": rec.potential,
        "refr_state": rec.refractory,
        "trace": rec.trace,
        **scalars,
    }


def _replay_run(
    network: _Network, recorded: dict[str, Any], run: str, w_init: np.ndarray, ours: dict[str, np.ndarray]
) -> None:
    raster = recorded[f"{run}_input_bernoulli"].transpose(1, 0, 2)
    batch, steps = raster.shape[:2]
    drive, decay = drive_of(_events(raster)), network.parameters.run_decay
    n_all = network.n + network.n_in
    carried = np.zeros((batch, n_all), np.float32)
    if f"{run}_trace_at_start" in recorded:
        carried[:] = recorded[f"{run}_trace_at_start"][:, :n_all]
    rows: list[dict[str, np.ndarray]] = []
    for k in range(batch):
        at = np.arange(steps) if k else recorded.get(f"{run}_W_steps", np.zeros(0, np.int64))
        if k or f"{run}_W_steps" not in recorded:
            at = np.array([steps - 1])
        rec = kernel.recorder(network.net, steps, details=True, weight_steps=at)
        counts = np.zeros((1, network.n), np.uint16)
        kernel.run_block(
            network.net, network.constants, network.mode, decay, steps, drive, np.uint64(0), np.array([k]),
            np.array([k]), w_init, w_init.copy(), carried[k : k + 1], True, rec, counts, np.zeros((1, len(kernel.STATS))),
        )  # fmt: skip
        weights = network.recorded_order(rec.weights)
        if not k and f"{run}_W_steps" in recorded:
            ours[f"{run}_W"] = weights
        rows.append({**_fields(rec), "W_end": weights[-1], "spike_counts": counts[0]})
    for name in rows[0]:
        per_sample = np.stack([row[name] for row in rows])
        ours[f"{run}_{name}"] = per_sample if name in ("W_end", "spike_counts") else per_sample.swapaxes(0, 1)
    ours[f"{run}_lr_pot_end"] = ours[f"{run}_lr_pot_end"][:, 0]
