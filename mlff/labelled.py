"""Configurations with what quantum chemistry says of them, read from extended XYZ files.

| label | shape | unit | meaning |
|---|---|---|---|
| `energy` | float | kcal/mol | total energy |
| `forces` | `(n_atoms, 3)` | kcal/mol/Å | |
| `virial` | `(3, 3)` | kcal/mol | -dE/d(strain), positive pushes outwards |
| `charges` | `(n_atoms,)` | e | partial charges, of any scheme |
| `dipole` | `(3,)` | Debye | in the frame of the positions |
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.units import DEBYE_EA, HARTREE_KCAL, KCAL_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

    from mlff.frames import Configuration

LABELS = ("energy", "forces", "virial", "charges", "dipole")
ENERGY_UNITS = {"eV": KCAL_PER_EV, "kcal/mol": 1.0, "Hartree": HARTREE_KCAL}
DIPOLE_UNITS = {"e_A": 1.0 / DEBYE_EA, "Debye": 1.0}

Key = Annotated[str | list[str] | None, Field(description="name in the file; of several the first that is there")]


@plain_dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A configuration and its labels; those that it has not are None. `name` says where it was read, `keys` what else
    was there under which names, `dispersion` what the file says of it (included, none), if anything."""

    configuration: Configuration
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    virial: NDArray[np.float64] | None = None
    charges: NDArray[np.float64] | None = None
    dipole: NDArray[np.float64] | None = None
    composition: str = ""
    name: str = ""
    keys: tuple[str, ...] = ()
    dispersion: str = ""

    def __post_init__(self) -> None:
        n = len(self.configuration.numbers)
        shapes = {"energy": (), "forces": (n, 3), "virial": (3, 3), "charges": (n,), "dipole": (3,)}
        for label, shape in shapes.items():
            value = getattr(self, label)
            if value is None:
                continue
            if np.shape(value) != shape:
                raise ValueError(f"{self.name}: {label} of shape {np.shape(value)}, expected {shape}")
            if not np.isfinite(value).all():
                raise ValueError(f"{self.name}: {label} is not finite")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that the frame has."""
        return tuple(name for name in LABELS if getattr(self, name) is not None)


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class LabelKeys:
    """How a file calls its labels, as ASE shows them (a column `charge` is `charges`); null = it has no such label."""

    energy: Key = "energy"
    forces: Key = "forces"
    virial: Key = None
    stress: Annotated[Key, Field(description="instead of a virial: virial = -volume x stress")] = None
    charges: Key = None
    dipole: Key = None
    total_charge: Annotated[Key, Field(description="in e; a frame without it may say charge, else it is neutral")] = (
        "total_charge"
    )
    fragments: Annotated[Key, Field(description="index of each atom's molecule, which keeps its own charge")] = None
    fragment_charges: Annotated[
        Key, Field(description="of each fragment, e; null = the whole number nearest to its charge labels' sum")
    ] = None
    composition: Annotated[Key, Field(description="what a frame is made of; null = its formula")] = None

    @property
    def listed(self) -> tuple[str, ...]:
        """Labels that the set is said to have."""
        given = {name for name in LABELS if getattr(self, name) is not None}
        return tuple(name for name in LABELS if name in given or (name == "virial" and self.stress is not None))


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class LabelUnits:
    """Units of a file; lengths are in Å."""

    energy: Annotated[Literal["eV", "kcal/mol", "Hartree"], Field(description="also of forces x Å and virials")] = "eV"
    dipole: Literal["e_A", "Debye"] = "e_A"


@plain_dataclass(frozen=True)
class Source:
    """How a file is to be read; labels in `optional` may be missing."""

    keys: LabelKeys = field(default_factory=LabelKeys)
    units: LabelUnits = field(default_factory=LabelUnits)
    optional: frozenset[str] = frozenset()


def read_atoms(path: Path) -> list[Atoms]:
    """All frames of an extended XYZ file, compressed or not; raises `ValueError` for one that cannot be read."""
    import ase.io
    from ase.io.formats import open_with_compression

    try:
        with open_with_compression(str(path)) as file:
            # ASE jumps from frame to frame: in a compressed file each jump would unpack it from its start
            return list(ase.io.read(io.StringIO(file.read()), ":", format="extxyz"))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: not a readable extended XYZ file ({error})") from error


def read_extxyz(path: Path, source: Source) -> tuple[list[LabelledFrame], dict[int, float]]:
    """Frames of an extended XYZ file, and the energies of isolated atoms by atomic number (kcal/mol) among them.

    A neutral frame of one atom without periodicity is taken for an isolated atom. Raises `ValueError` that names the
    frame and, where a label is missing, the keys that are present; so too for a key of charge, fragments or composition
    that was named and that no frame has.
    """
    frames: list[LabelledFrame] = []
    isolated: dict[int, float] = {}
    factor = ENERGY_UNITS[source.units.energy]
    for index, atoms in enumerate(read_atoms(path)):
        name = f"{path.name}[{index}]"
        values = _values(atoms)
        charge = _charge(atoms.info, source.keys, name)
        if len(atoms) == 1 and not atoms.pbc.any() and not charge:
            energy = _find(values, source.keys.energy)
            if energy is not None:
                isolated[int(atoms.numbers[0])] = float(energy) * factor
            continue
        frames.append(_labelled(atoms, values, charge, source, name))
    _check_named(frames, source.keys, path.name)
    return frames, isolated


def _charge(info: Mapping[str, Any], keys: LabelKeys, name: str) -> float:
    """Total charge of a frame, e: under the key that was named, else as any frame may tell it."""
    from mlff.frames import stated_charge

    if keys.total_charge is None:
        return 0.0
    try:
        found = None if keys.total_charge == "total_charge" else _find(info, keys.total_charge)
        return float(stated_charge(info) or 0.0) if found is None else float(found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def _check_named(frames: Sequence[LabelledFrame], keys: LabelKeys, file: str) -> None:
    """Raise `ValueError` for a key without which frames would be read as others, where it was named and none has it.

    A key is named if it is not the label's own name, which stands in configurations for what may be missing.
    """
    present = sorted({key for frame in frames for key in frame.keys})
    for label in ("total_charge", "fragments", "fragment_charges", "composition"):
        key = getattr(keys, label)
        names = [key] if isinstance(key, str) else key or [label]
        if frames and label not in names and not set(names) & set(present):
            raise ValueError(
                f"{file}: no frame has {' or '.join(map(repr, names))} for {label} (keys present: {', '.join(present)})"
            )


def _values(atoms: Any) -> dict[str, Any]:
    """Everything that a frame holds, by name."""
    computed = atoms.calc.results if atoms.calc is not None else {}
    own = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    return {**atoms.info, **own, **computed}


def _find(values: Mapping[str, Any], key: str | Sequence[str] | None) -> Any:
    names = [key] if isinstance(key, str) else (key or [])
    return next((values[name] for name in names if name in values), None)


def _labelled(atoms: Any, values: Mapping[str, Any], total: float, source: Source, name: str) -> LabelledFrame:
    from mlff.frames import Configuration

    keys, factor = source.keys, ENERGY_UNITS[source.units.energy]
    found = {label: _find(values, getattr(keys, label)) for label in LABELS}
    if found["virial"] is None and keys.stress is not None:
        found["virial"] = _virial_of_stress(_find(values, keys.stress), float(atoms.cell.volume))
    for label in keys.listed:
        if found[label] is None and label not in source.optional:
            present = ", ".join(sorted(values)) or "none"
            raise ValueError(
                f"{name}: no {getattr(keys, label) or keys.stress!r} for {label} (keys present: {present})"
            )
    arrays = {k: None if v is None else np.asarray(v, np.float64) for k, v in found.items() if k != "energy"}
    charges = arrays["charges"]
    fragments, told = _find(values, keys.fragments), _find(values, keys.fragment_charges)
    try:
        groups = {} if fragments is None else _fragments(np.asarray(fragments), told, charges, total)
        configuration = Configuration.of(
            atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, total_charge=total, **groups
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return LabelledFrame(
        configuration=configuration,
        energy=None if found["energy"] is None else float(found["energy"]) * factor,
        forces=_scaled(arrays["forces"], factor),
        virial=_scaled(arrays["virial"], factor, (3, 3)),
        charges=charges,
        dipole=_scaled(arrays["dipole"], DIPOLE_UNITS[source.units.dipole]),
        composition=str(_find(values, keys.composition) or atoms.get_chemical_formula()),
        name=name,
        keys=tuple(sorted(values)),
        dispersion=str(values.get("dispersion", "")),
    )


def _scaled(
    value: NDArray[np.float64] | None, factor: float, shape: tuple[int, ...] | None = None
) -> NDArray[np.float64] | None:
    if value is None:
        return None
    return value * factor if shape is None else value.reshape(shape) * factor


def _virial_of_stress(stress: Any, volume: float) -> NDArray[np.float64] | None:
    if stress is None:
        return None
    s = np.asarray(stress, np.float64).reshape(-1)
    full = s.reshape(3, 3) if s.size == 9 else s[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    return -volume * full


def _fragments(label: NDArray[Any], told: Any, charges: NDArray[np.float64] | None, total: float) -> dict[str, Any]:
    """Fragments numbered from 0 and their charges: what the file says, else the whole number nearest to the sum of their
    charge labels."""
    index = np.unique(label, return_inverse=True)[1]
    if told is not None:
        return {"fragments": index, "fragment_charges": np.atleast_1d(np.asarray(told, np.float64))}
    if charges is None:
        if total != 0.0:
            raise ValueError(f"fragments of a frame with total_charge={total:g} need charge labels to tell whose it is")
        return {"fragments": index, "fragment_charges": np.zeros(index.max() + 1)}
    return {"fragments": index, "fragment_charges": np.round(np.bincount(index, weights=charges))}


def all_labels(frames: Iterable[LabelledFrame]) -> tuple[str, ...]:
    """Labels that every frame has; raises `ValueError` where some have what others lack."""
    sets = {frame.labels: frame.name for frame in reversed(list(frames))}
    if len(sets) > 1:
        (some, first), (others, second) = list(sets.items())[:2]
        missing = sorted(set(some) ^ set(others))
        raise ValueError(f"mixed label sets: of {first} and {second} only one has {', '.join(missing)}")
    return next(iter(sets), ())
