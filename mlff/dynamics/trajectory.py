"""Trajectories in H5MD (de Buyl et al., Comput. Phys. Commun. 185, 1546 (2014)): frames, and every step's thermodynamics.

| place | shape | unit |
|---|---|---|
| `particles/all/position/value` | `(f, n, 3)` float32 | Angstrom, unwrapped |
| `particles/all/velocity/value` | `(f, n, 3)` float32 | Angstrom ps-1 |
| `particles/all/charge/value` | `(f, n)` float32 | e, of the model |
| `particles/all/box/edges/value` | `(f, 3, 3)` | Angstrom, rows a, b, c |
| `particles/all/species`, `mass`, `fragment` | `(n,)` | atomic number, u, index of the molecule |
| `thermo/<name>` | `(s,)`, pressure `(s, 6)` | every step; see `Thermo` |
| `parameters` | attributes | ensemble, targets and damping, as in `integrators.Conditions`, without what has no effect |

`thermo` is our own group: readers of H5MD take what is in `observables` for values of frames.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlff.dynamics.integrators import Conditions
from mlff.dynamics.simulation import Frame, Step

Array = NDArray[Any]
UNITS = {"edges": "Angstrom", "position": "Angstrom", "velocity": "Angstrom ps-1", "charge": "e"}
THERMO_UNITS = {
    "step": "",
    "time_ps": "ps",
    "temperature_K": "K",
    "potential_kcal_mol": "kcal mol-1",
    "conserved_kcal_mol": "kcal mol-1",
    "density_g_cm3": "g cm-3",
    "volume_A3": "Angstrom3",
    "pressure_atm": "atm",
}
SINGLE = ("temperature_K", "density_g_cm3")
"""Columns of `thermo` for which seven digits are enough."""


@dataclass(frozen=True, eq=False)
class Origin:
    """What a run was made of and how: `numbers` `(n,)`, `names` of molecules, conditions (None in older files)."""

    numbers: Array
    names: tuple[str, ...]
    conditions: Conditions | None


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of a run: `time_ps` `(f,)`, `positions` `(f, n, 3)` unwrapped Å, `cells` `(f, 3, 3)` Å.

    `velocities` `(f, n, 3)` Å/ps, `charges` `(f, n)` e; `numbers` `(n,)`, `masses` `(n,)` u; `fragments` `(n,)` index
    of each atom's molecule, `names` the species of each molecule, `fragment_charges` their formal charges in e.
    """

    time_ps: Array
    positions: Array
    cells: Array
    velocities: Array | None
    charges: Array | None
    numbers: Array
    masses: Array
    fragments: Array | None
    names: tuple[str, ...]
    fragment_charges: Array | None
    conditions: Conditions | None = None
    """How the run was made; None where the file does not say."""


@dataclass(frozen=True, eq=False)
class Thermo:
    """Every step of a run, each `(s,)`; `pressure_atm` `(s, 6)` xx yy zz yz xz xy contains the kinetic part."""

    step: Array
    time_ps: Array
    temperature_K: Array
    potential_kcal_mol: Array
    conserved_kcal_mol: Array
    density_g_cm3: Array
    volume_A3: Array
    pressure_atm: Array


class Recorder:
    """Gathers steps and frames between two writes; its methods are callbacks of `simulate`."""

    def __init__(self, atoms: Atoms, names: Sequence[str] = (), conditions: Conditions | None = None) -> None:
        self.atoms, self.names, self.conditions = atoms, tuple(names), conditions
        self.steps: list[Step] = []
        self.frames: list[Frame] = []

    def on_step(self, step: Step) -> None:
        """Keep one step."""
        self.steps.append(step)

    def on_frame(self, frame: Frame) -> None:
        """Keep one frame."""
        self.frames.append(frame)

    def write(self, path: Path) -> None:
        """Write what was gathered as a file of its own, complete or not at all, and start afresh."""
        rows = {k: np.array([getattr(s, k) for s in self.steps]) for k in THERMO_UNITS}
        f = self.frames
        columns: dict[str, Array] = {
            "step": np.array([x.step for x in f], np.int64),
            "time": np.array([x.time_ps for x in f], np.float64),
            "edges": np.array([x.cell for x in f]).reshape(-1, 3, 3),
            "position": np.array([x.positions for x in f], np.float32).reshape(-1, len(self.atoms), 3),
            "velocity": np.array([x.velocities for x in f], np.float32).reshape(-1, len(self.atoms), 3),
        }
        if f and f[0].charges is not None:
            columns["charge"] = np.array([x.charges for x in f], np.float32)
        _write(path, _fixed(self.atoms, self.names), self.conditions, columns, rows)
        self.steps, self.frames = [], []


def merge(parts: Sequence[Path], path: Path) -> None:
    """Join files of one run, in order, to one that is complete or not there at all."""
    import h5py

    unfinished = path.with_name(f"{path.name}.part")
    with h5py.File(parts[0]) as first:
        fixed, conditions = _read_fixed(first), _read_conditions(first)
    with h5py.File(unfinished, "w") as out:
        _head(out, fixed, conditions)
        for part in parts:
            with h5py.File(part) as file:
                _append(out, *_read_varying(file))
    _settle(unfinished, path)


def read_trajectory(path: str | Path) -> Trajectory:
    """The frames of an H5MD file that this module wrote; raises `ValueError` if it is none."""
    with _opened(Path(path)) as file:
        group, fixed = file["particles/all"], _read_fixed(file)
        value = {k: group[k]["value"][()] for k in ("position", "velocity", "charge") if k in group}
        return Trajectory(
            time_ps=group["position/time"][()],
            positions=value["position"],
            cells=group["box/edges/value"][()],
            velocities=value.get("velocity"),
            charges=value.get("charge"),
            numbers=fixed["species"],
            masses=fixed["mass"],
            fragments=fixed.get("fragment"),
            names=_names(fixed),
            fragment_charges=fixed.get("fragment_charge"),
            conditions=_read_conditions(file),
        )


def read_origin(path: str | Path) -> Origin:
    """What an H5MD file says of its run, without its frames."""
    with _opened(Path(path)) as file:
        fixed = _read_fixed(file)
        return Origin(fixed["species"], _names(fixed), _read_conditions(file))


def read_thermo(path: str | Path) -> Thermo:
    """Every step's values of an H5MD file that this module wrote."""
    with _opened(Path(path)) as file:
        return Thermo(**{name: file["thermo"][name][()] for name in THERMO_UNITS})


def _opened(path: Path) -> Any:
    import h5py

    if not path.exists():
        raise ValueError(f"{path}: no such trajectory")
    try:
        file = h5py.File(path)
    except OSError as error:
        raise ValueError(f"{path}: not an HDF5 file ({error})") from None
    if "particles/all/position" not in file or "thermo" not in file:
        file.close()
        raise ValueError(f"{path}: not a trajectory of lsmrun runner=md")
    return file


def _fixed(atoms: Atoms, names: tuple[str, ...]) -> dict[str, Array]:
    """What does not change with time."""
    fixed: dict[str, Array] = {"species": atoms.numbers.astype(np.int64), "mass": atoms.get_masses()}
    if "fragments" in atoms.arrays:
        fixed["fragment"] = atoms.arrays["fragments"].astype(np.int64)
        fixed["fragment_charge"] = np.asarray(atoms.info["fragment_charges"], np.float64)
    if names:
        fixed["names"] = np.array([n.encode() for n in names])
    return fixed


def _write(
    path: Path,
    fixed: dict[str, Array],
    conditions: Conditions | None,
    columns: dict[str, Array],
    rows: dict[str, Array],
) -> None:
    import h5py

    unfinished = path.with_name(f"{path.name}.part")
    with h5py.File(unfinished, "w") as file:
        _head(file, fixed, conditions)
        _append(file, columns, rows)
    _settle(unfinished, path)


def _settle(unfinished: Path, path: Path) -> None:
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def _head(file: Any, fixed: dict[str, Array], conditions: Conditions | None) -> None:
    """What H5MD asks for at the root, and what does not change."""
    about = file.create_group("h5md")
    about.attrs["version"] = np.array([1, 1])
    about.create_group("author").attrs["name"] = "lsmrun"
    creator = about.create_group("creator")
    creator.attrs["name"], creator.attrs["version"] = "lsmrun", "1"
    group = file.create_group("particles/all")
    for name, values in fixed.items():
        group.create_dataset(name, data=values)
    group["mass"].attrs["unit"] = "u"
    box = group.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = np.array(["periodic"] * 3, dtype=_text())
    file.create_group("thermo")
    if conditions is not None:
        file.create_group("parameters").attrs.update(_with_effect(conditions))


def _text() -> Any:
    """HDF5's type of text."""
    import h5py

    return h5py.string_dtype()


def _append(file: Any, columns: dict[str, Array], rows: dict[str, Array]) -> None:
    """Add frames and steps at the end."""
    group = file["particles/all"]
    times = group.require_group("position")
    _grow(times, "step", columns["step"], "")
    _grow(times, "time", columns["time"], "ps")
    for name in (k for k in columns if k not in ("step", "time")):
        place = group.require_group("box/edges" if name == "edges" else name)
        _grow(place, "value", columns[name], UNITS[name])
        for shared in ("step", "time"):
            if shared not in place:
                place[shared] = times[shared]
    for name, values in rows.items():
        _grow(file["thermo"], name, values.astype(np.float32) if name in SINGLE else values, THERMO_UNITS[name])


def _grow(group: Any, name: str, values: Array, unit: str) -> None:
    if name not in group:
        rows = max(1, min(1024, 2**20 // max(1, values[:1].nbytes or values.itemsize * int(np.prod(values.shape[1:])))))
        made = group.create_dataset(
            name,
            data=values,
            maxshape=(None, *values.shape[1:]),
            chunks=(rows, *values.shape[1:]),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        if unit:
            made.attrs["unit"] = unit
        return
    old = len(group[name])
    group[name].resize(old + len(values), axis=0)
    group[name][old:] = values


def _read_fixed(file: Any) -> dict[str, Array]:
    group = file["particles/all"]
    names = ("species", "mass", "fragment", "fragment_charge", "names")
    return {name: group[name][()] for name in names if name in group}


def _names(fixed: dict[str, Array]) -> tuple[str, ...]:
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in fixed.get("names", ()))


def _with_effect(c: Conditions) -> dict[str, str | float]:
    idle = {"temperature_damping_fs"} if c.ensemble == "nve" else set()
    if c.ensemble not in ("npt", "npt_full"):
        idle |= {"pressure_atm", "pressure_damping_fs"}
    return {name: value for name, value in asdict(c).items() if name not in idle}


def _read_conditions(file: Any) -> Conditions | None:
    """What has no effect is nan; None from files of before conditions were recorded."""
    if "parameters" not in file:
        return None
    known = file["parameters"].attrs
    numbers = {f.name: float(known.get(f.name, np.nan)) for f in fields(Conditions) if f.name != "ensemble"}
    return Conditions(ensemble=known["ensemble"], **numbers)


def _read_varying(file: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    group = file["particles/all"]
    columns = {k: group[k]["value"][()] for k in ("position", "velocity", "charge") if k in group}
    columns |= {"edges": group["box/edges/value"][()]}
    columns |= {k: group[f"position/{k}"][()] for k in ("step", "time")}
    return columns, {k: file["thermo"][k][()] for k in THERMO_UNITS}


def topology(atoms: Atoms, names: Sequence[str]) -> str:
    """A PDB of one frame that tells programs the elements and molecules of a trajectory, which H5MD does not.

    Molecules are whole, with their middles in the cell: after a long run their unwrapped places would not fit in a PDB.
    """
    lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
    lines = ["CRYST1" + "".join(f"{v:9.3f}" for v in lengths) + "".join(f"{v:7.2f}" for v in angles) + " P 1"]
    fragments = atoms.arrays.get("fragments", np.zeros(len(atoms), np.int64))
    places = _in_cell(atoms.positions, atoms.cell.array, fragments)
    for i, (symbol, position, fragment) in enumerate(zip(atoms.symbols, places, fragments, strict=True)):
        name = (names[fragment] if names else "MOL")[:4]
        place = "".join(f"{x:8.3f}" for x in position)
        lines.append(
            f"HETATM{(i + 1) % 100000:5d} {symbol:<4s} {name:<4s}A{(fragment + 1) % 10000:4d}    "
            f"{place}  1.00  0.00          {symbol.upper():>2s}"
        )
    return "\n".join([*lines, "END", ""])


def _in_cell(positions: Array, cell: Array, fragments: Array) -> Array:
    """Positions with each molecule moved as it is to where its middle lies in the cell."""
    of = np.unique(fragments, return_inverse=True)[1]
    sums = np.zeros((of.max() + 1, 3))
    np.add.at(sums, of, positions)
    middles = sums / np.bincount(of)[:, None]
    moved: Array = positions - (np.floor(middles @ np.linalg.inv(cell)) @ cell)[of]
    return moved


def thermo_table(thermo: Thermo, rows: int = 1000) -> str:
    """CSV of means over equal stretches of a run, at most `rows` of them; the time is that of their ends."""
    group = -(-len(thermo.step) // rows)
    names = [n for n in THERMO_UNITS if n not in ("step", "pressure_atm")]
    columns = [getattr(thermo, n) for n in names] + [thermo.pressure_atm[:, k] for k in range(6)]
    names += [f"pressure_{k}_atm" for k in ("xx", "yy", "zz", "yz", "xz", "xy")]
    lines = [",".join(names)]
    for start in range(0, len(thermo.step), group):
        part = slice(start, start + group)
        values = [
            c[part][-1] if n == "time_ps" else c[part].mean(dtype=float) for n, c in zip(names, columns, strict=True)
        ]
        lines.append(",".join(f"{v:.8g}" for v in values))
    return "\n".join(lines) + "\n"
