"""Conductances of a random resistive-memory array: how they are drawn, and what happens to single devices.

A weight is a differential pair, W = weight_per_uS * (G+ - G-). Order of effects: draw, stuck devices, drift, quantised
levels; what happens while an array is read (noise, IR drop, ADC) is in `lsm.rram.array`. Every effect is off by default.

Sources: [S1] first author's later code, class SNN_LSM_Model of MrLinNing/RMAdaptiveMachine; [S2] measured cells of the same
group and node, wangsc1912/ESGNN (Nat. Mach. Intell. 2023), statistics recomputed from its spreadsheets; [us] chosen by us.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from lsm.rram.conductance import Pairs, load_map, on_grid
from lsm.streams import generator

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

SENSE = "{sense}"
"""Stands for the branch in the names of conductance maps."""
EFFECTS = (
    "stuck_off", "stuck_on", "drift_time_s", "levels", "read_noise", "read_noise_uS", "row_ohm", "column_ohm", "adc_bits",
    "simulator",
)  # fmt: skip
"""Settings that switch an effect on; at their defaults all are off."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Device:
    """Everything about the cells and the reading of an array; raises pydantic's `ValidationError` on a bad value."""

    draw: Annotated[
        Literal["gaussian", "breakdown", "map"],
        Field(description="gaussian pairs, breakdown (broken-down cells or nothing), or map (from files)"),
    ] = "gaussian"

    # --- gaussian: the difference of a pair, as in the authors' simulation [S1]
    input_mean_uS: Annotated[float, Field(description="mean of G+ - G- of input weights")] = 0.00156
    input_std_uS: Annotated[Positive, Field(description="standard deviation of G+ - G- of input weights")] = 6.61329
    recurrent_mean_uS: Annotated[float, Field(description="as input_mean_uS, recurrent weights")] = 0.00606
    recurrent_std_uS: Annotated[Positive, Field(description="as input_std_uS, recurrent weights")] = 6.67268
    common_mode_uS: Annotated[
        Positive, Field(description="mean of a single device; matters to effects on single devices and to energy")
    ] = 20.0  # [us] 4.3 standard deviations of a single device above 0

    # --- breakdown: G is 0 with probability 1 - p, else of mean m and standard deviation s [S2]
    breakdown_probability: Annotated[Probability, Field(description="share p of broken-down cells")] = 0.855
    breakdown_mean_uS: Annotated[Positive, Field(description="mean m of a broken-down cell")] = 12.35
    breakdown_std_uS: Annotated[NotNegative, Field(description="standard deviation s of a broken-down cell")] = 1.86
    breakdown_skew: Annotated[float, Field(ge=0, le=2, description="skewness of a broken-down cell")] = 0.0

    # --- map: a user's own conductances, the same for every seed; "{sense}" in a name stands for the branch
    map_input: Annotated[str | None, Field(description="CSV or npy of input pairs, (n_in, 2 n) or (2, n_in, n)")] = None
    map_recurrent: Annotated[str | None, Field(description="as map_input, recurrent pairs, (n, 2 n) or (2, n, n)")] = (
        None
    )
    map_unit: Annotated[Literal["S", "mS", "uS", "nS"], Field(description="unit of the numbers in the files")] = "uS"

    # --- single devices
    stuck_off: Annotated[Probability, Field(description="share of devices that conduct nothing")] = 0.0
    stuck_on: Annotated[Probability, Field(description="share of devices at g_max_uS")] = 0.0
    g_max_uS: Annotated[Positive, Field(description="largest conductance: of stuck devices and of levels")] = 40.0
    drift_time_s: Annotated[NotNegative, Field(description="age at which the array is read; 0 = no drift")] = 0.0
    drift_start_s: Annotated[Positive, Field(description="age t0 at which the conductances were drawn")] = 1.0
    drift_nu: Annotated[float, Field(description="mean exponent nu of G(t) = G0 (t/t0)^-nu")] = 0.05
    drift_nu_std: Annotated[NotNegative, Field(description="spread of nu from device to device")] = 0.02
    levels: Annotated[
        int | None, Field(ge=2, le=1 << 24, description="equidistant levels from 0 to g_max_uS; null = continuous")
    ] = None

    # --- reading
    read_noise: Annotated[NotNegative, Field(description="standard deviation eps of G (1 + eps N(0,1)), each read")] = (
        0.0
    )
    read_noise_uS: Annotated[NotNegative, Field(description="standard deviation added to each device, each read")] = 0.0
    row_ohm: Annotated[NotNegative, Field(description="wire resistance of a row between two columns")] = 0.0
    column_ohm: Annotated[NotNegative, Field(description="wire resistance of a column between two rows")] = 0.0
    adc_bits: Annotated[int | None, Field(ge=1, le=24, description="resolution of a reading; null = no ADC")] = None
    adc_full_scale_uS: Annotated[
        float | None, Field(gt=0, description="largest reading of either sign; null = calibrated column by column")
    ] = None
    adc_samples: Annotated[int, Field(ge=1, description="training samples that calibrate the ADC")] = 200
    simulator: Annotated[
        str | None, Field(description="class that reads the array instead, as package.Class; see lsm.rram.array")
    ] = None
    tile_rows: Annotated[int, Field(ge=1, le=65_536, description="rows of one array")] = 512
    tile_columns: Annotated[int, Field(ge=2, le=65_536, description="columns of one array, two for each pair")] = 512

    @model_validator(mode="after")
    def _consistent(self) -> Device:
        if self.stuck_off + self.stuck_on > 1:
            raise ValueError(f"stuck_off={self.stuck_off:g} and stuck_on={self.stuck_on:g}: together above 1")
        given = self.map_input is not None and self.map_recurrent is not None
        if self.draw == "map" and not given:
            raise ValueError("draw=map needs map_input and map_recurrent")
        if self.draw != "map" and (self.map_input is not None or self.map_recurrent is not None):
            raise ValueError(f"map_input and map_recurrent need draw=map, not draw={self.draw}")
        return self

    @property
    def without_effects(self) -> Device:
        """The same draw with every effect off: what noise, faults and readings are compared with."""
        off = {name: Device.__dataclass_fields__[name].default for name in EFFECTS}
        return dataclasses.replace(self, **off)

    @property
    def has_effects(self) -> bool:
        """Whether anything but the draw is on."""
        return self != self.without_effects

    @property
    def is_noisy(self) -> bool:
        """Whether two reads of the same array can differ."""
        return self.read_noise > 0 or self.read_noise_uS > 0

    @property
    def has_map_per_sense(self) -> bool:
        """Whether each sense has conductances of its own in files of its own."""
        return all(SENSE in (path or "") for path in (self.map_input, self.map_recurrent))


def draw_pairs(device: Device, matrix: str, rows: int, n: int, seed: int, branch: str = "") -> Pairs:
    """The pairs of one weight matrix, `matrix` "input" or "recurrent", with everything that happens to single devices.

    Streams are named after branch, matrix and effect: one effect more or less changes no number of another, and a higher
    share of stuck devices contains those of a lower one. Raises `ValueError` for a bad conductance map.
    """
    where = f"{branch} {matrix}"
    pairs = (
        _mapped(device, matrix, rows, n, branch)
        if device.draw == "map"
        else _drawn(device, matrix, rows, n, generator(seed, f"devices {where}"))
    )
    pairs = stick(pairs, device, generator(seed, f"stuck devices {where}"))
    pairs = drift(pairs, device, generator(seed, f"drift {where}"))
    return quantise(pairs, device)


def _mapped(device: Device, matrix: str, rows: int, n: int, branch: str) -> Pairs:
    path = device.map_input if matrix == "input" else device.map_recurrent
    assert path is not None, "checked by Device"
    return load_map(path.replace(SENSE, branch), device.map_unit, rows, n, f"device.map_{matrix}")


def _drawn(device: Device, matrix: str, rows: int, n: int, rng: np.random.Generator) -> Pairs:
    if device.draw == "breakdown":
        return breakdown_pairs(device, rows, n, rng)
    is_input = matrix == "input"
    mean, std = (
        (device.input_mean_uS, device.input_std_uS) if is_input else (device.recurrent_mean_uS, device.recurrent_std_uS)
    )
    return gaussian_pairs(mean, std, device.common_mode_uS, rows, n, rng)


def gaussian_pairs(
    mean_uS: float, std_uS: float, common_mode_uS: float, rows: int, n: int, rng: np.random.Generator
) -> Pairs:
    """Pairs whose difference is normal: two independent normal devices of standard deviation `std_uS / sqrt(2)`.

    Difference and mean of two such devices are independent, so the difference is drawn first, as in the authors'
    simulation, and the mean of the pair after it. A pair with a negative device is lifted as a whole, which leaves its
    difference exactly as it was.
    """
    half = on_grid(rng.normal(mean_uS, std_uS, (rows, n)) / 2)
    middle = on_grid(rng.normal(common_mode_uS, std_uS / 2, (rows, n)))
    middle = np.maximum(middle, np.abs(half))
    return Pairs(middle + half, middle - half)


def breakdown_pairs(device: Device, rows: int, n: int, rng: np.random.Generator) -> Pairs:
    """Pairs of cells that are broken down with probability p and pristine, hence without conductance, otherwise.

    Variance of a difference: 2 (p (m^2 + s^2) - p^2 m^2). A skewed cell follows a shifted gamma distribution.
    """

    def cells() -> NDArray[np.float64]:
        broken = rng.random((rows, n)) < device.breakdown_probability
        if device.breakdown_skew > 0:
            shape = 4 / device.breakdown_skew**2
            standard = (rng.gamma(shape, size=(rows, n)) - shape) / np.sqrt(shape)
        else:
            standard = rng.standard_normal((rows, n))
        grown = np.maximum(device.breakdown_mean_uS + device.breakdown_std_uS * standard, 0)
        return np.where(broken, on_grid(grown), 0.0)

    return Pairs(cells(), cells())


def stick(pairs: Pairs, device: Device, rng: np.random.Generator) -> Pairs:
    """Devices stuck at 0 with probability `stuck_off` and at `g_max_uS` with probability `stuck_on`."""
    if device.stuck_off == 0 and device.stuck_on == 0:
        return pairs
    stuck = []
    for values in pairs:
        draw = rng.random(values.shape)
        kept = np.where(draw < device.stuck_off, 0.0, values)
        stuck.append(np.where(draw >= 1 - device.stuck_on, on_grid(np.array(device.g_max_uS)), kept))
    return Pairs(*stuck)


def drift(pairs: Pairs, device: Device, rng: np.random.Generator) -> Pairs:
    """Devices at age `drift_time_s`: G0 (t / t0)^-nu, nu normal from device to device, so the factor is lognormal."""
    if device.drift_time_s == 0 or (device.drift_nu == 0 and device.drift_nu_std == 0):
        return pairs
    elapsed = np.log(device.drift_time_s / device.drift_start_s)
    aged = []
    for values in pairs:
        nu = rng.normal(device.drift_nu, device.drift_nu_std, values.shape)
        aged.append(on_grid(values * np.exp(-nu * elapsed)))
    return Pairs(*aged)


def quantise(pairs: Pairs, device: Device) -> Pairs:
    """Conductances rounded to `levels` equidistant ones from 0 to `g_max_uS`; larger ones become the largest."""
    if device.levels is None:
        return pairs
    step = device.g_max_uS / (device.levels - 1)
    return Pairs(*(on_grid(np.minimum(np.rint(values / step), device.levels - 1) * step) for values in pairs))
