"""Densities of several liquids with one model after another: boxes that are relaxed once and go on from run to run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff.streams import replica_seeds
from runners.checkpoint import fingerprint
from runners.side_by_side import pays, side_by_side
from runners.simulation import Stretch

if TYPE_CHECKING:
    from ase import Atoms

    from mlff.alignment.pressure import Measured
    from mlff.dynamics.relaxation import Relaxation
    from mlff.dynamics.simulation import Dynamics
    from mlff.dynamics.trajectory import Thermo, Trajectory
    from mlff.frames import Configuration
    from mlff.model import ForceField
    from runners.context import Context
    from runners.systems import Target


@dataclass(frozen=True, eq=False)
class Part:
    """One simulated box: its trajectory's file and the box at its end."""

    path: Path
    end: Atoms

    def trajectory(self) -> Trajectory:
        """All frames."""
        from mlff.dynamics.trajectory import read_trajectory

        return read_trajectory(self.path)

    def thermo(self) -> Thermo:
        """Every step."""
        from mlff.dynamics.trajectory import read_thermo

        return read_thermo(self.path)

    def frames(self, n: int) -> list[Configuration]:
        """At most `n` equilibrated frames; of a run that never settles those of its second half."""
        from mlff.alignment.liquid_frames import configurations
        from mlff.alignment.pressure import equilibrium_from

        thermo = self.thermo()
        start = min(equilibrium_from(thermo.density_g_cm3), len(thermo.time_ps) // 2)
        return configurations(self.trajectory(), n, float(thermo.time_ps[start] - thermo.time_ps[0]))


@dataclass(frozen=True, eq=False)
class Run:
    """One simulated liquid: its boxes, and what was measured of them together."""

    parts: tuple[Part, ...]
    measured: Measured

    def frames(self, n: int) -> list[Configuration]:
        """Some `n` equilibrated frames, the same number of every box."""
        return [frame for part in self.parts for frame in part.frames(math.ceil(n / len(self.parts)))]


@dataclass(frozen=True, eq=False)
class Ask:
    """One liquid that is wanted: packed and relaxed boxes or, `before` given, on from the ends of others, with
    another model; exactly `length_ps` where that is given.
    """

    target: Target
    model: ForceField
    label: str
    before: Run | None = None
    length_ps: float | None = None


@dataclass(frozen=True)
class Precision:
    """Runs go on until half the 95 % interval of their blocks is `g_cm3`, at most `longest` times as long as `md` says."""

    g_cm3: float = math.inf
    longest: int = 1


@dataclass(frozen=True, eq=False)
class _Piece:
    """One box of what is asked for, and for how many lengths of `md` it is to run."""

    ask: Ask
    replica: int
    lengths: int


class Densities:
    """Runs liquids at constant pressure, `replicas` boxes of each, packed independently.

    Every run is kept on disk until `clear`, so that a killed job finds it again.
    """

    def __init__(
        self, context: Context, md: Dynamics, relaxation: Relaxation, precision: Precision, replicas: int = 1
    ) -> None:
        self.context, self.md, self.relaxation, self.precision = context, md, relaxation, precision
        self.seeds = [context.seed, *replica_seeds(context.seed, replicas)[1:]]
        self.stretches: list[Stretch] = []

    def all(self, asks: Sequence[Ask]) -> list[Run]:
        """What is asked for, in that order; boxes side by side where there are several and they take long.

        Liquids whose blocks do not say enough go on together, a length of `md` at a time.
        """
        n = len(self.seeds)
        places = [[self._opened(ask, r) for r in range(n)] for ask in asks]
        self.stretches += [place for mine in places for place in mine]
        lengths = [self._begun(ask, mine) for ask, mine in zip(asks, places, strict=True)]
        runs: dict[int, Run] = {}
        while len(runs) < len(asks):
            todo = [i for i in range(len(asks)) if i not in runs]
            pieces = [_Piece(asks[i], r, lengths[i]) for i in todo for r in range(n)]
            parts = self._simulated(pieces, [place for i in todo for place in places[i]])
            for k, i in enumerate(todo):
                mine = tuple(parts[k * n : (k + 1) * n])
                run = Run(mine, _measured(mine, asks[i].target))
                if run.measured.error_g_cm3 <= self.precision.g_cm3 or lengths[i] == self._longest(asks[i]):
                    runs[i] = run
                else:
                    lengths[i] += 1
                    self._tell_longer(asks[i], run.measured.error_g_cm3, lengths[i])
        return self._with_spread([runs[i] for i in range(len(asks))])

    def part(self, piece: _Piece, stretch: Stretch | None = None) -> Part:
        """One box, in this process, from wherever it is on disk."""
        from mlff.dynamics.stability import calculator
        from mlff.system.liquid import pack

        context, ask, seed = self.context, piece.ask, self.seeds[piece.replica]
        target, md = ask.target, self._md(ask)
        stretch = stretch or self._opened(ask, piece.replica)
        models = calculator(ask.model, context.threads)
        box = None if ask.before else pack(target.system, seed)
        with stretch.cache.alone(context.progress.say):
            if box is not None:
                atoms, names = stretch.relaxed(box, models, self.relaxation, target.temperature_K, seed), box.names
            else:
                assert ask.before is not None
                before = ask.before.parts[piece.replica]
                atoms, names = before.end, before.trajectory().names
            whole = replace(md, length_ps=piece.lengths * md.length_ps)
            path, end = stretch.run(atoms, names, models, whole, target.temperature_K, seed)
        return Part(path, end.put_on(atoms))

    def clear(self) -> None:
        """Forget what was kept on disk."""
        for stretch in self.stretches:
            stretch.clear()

    def _simulated(self, pieces: Sequence[_Piece], places: Sequence[Stretch]) -> list[Part]:
        left = sum(
            max(0, p.lengths * self._md(p.ask).n_steps - s.reached()) for p, s in zip(pieces, places, strict=True)
        )
        if not pays(self.context, len(pieces), max(p.ask.target.system.n_atoms for p in pieces), left):
            return [self.part(piece, place) for piece, place in zip(pieces, places, strict=True)]
        given = self.md, self.relaxation, self.precision, len(self.seeds)
        return side_by_side(self.context, [partial(_apart, *given, piece) for piece in pieces])

    def _begun(self, ask: Ask, places: Sequence[Stretch]) -> int:
        """Lengths of `md` that a resumed job was in: it has found fewer not to be enough."""
        reached = max(place.reached() for place in places)
        return min(max(1, math.ceil(reached / self._md(ask).n_steps)), self._longest(ask))

    def _opened(self, ask: Ask, replica: int) -> Stretch:
        """The place on disk of a box, named by all that its result depends on."""
        weights = [v.detach().cpu().numpy() for v in ask.model.state_dict().values()]
        about: dict[str, Any] = {
            "system": asdict(ask.target.system),
            "temperature_K": ask.target.temperature_K,
            "md": asdict(self.md),
            "model": fingerprint(*weights) + repr(ask.model.parameters_of),
            "label": ask.label,
            "seed": self.seeds[replica],
        }
        if ask.before is None:
            about |= {"relaxation": asdict(self.relaxation)}
        else:
            about |= {"start": fingerprint(ask.before.parts[replica].end.positions), "length_ps": ask.length_ps}
        return Stretch(self.context, self._name(ask, replica), about)

    def _name(self, ask: Ask, replica: int) -> str:
        name = f"{ask.target.name} {ask.label}"
        return name if len(self.seeds) == 1 else f"{name} box {replica + 1}"

    def _md(self, ask: Ask) -> Dynamics:
        return self.md if ask.length_ps is None else replace(self.md, length_ps=ask.length_ps)

    def _longest(self, ask: Ask) -> int:
        return self.precision.longest if ask.length_ps is None else 1

    def _tell_longer(self, ask: Ask, error_g_cm3: float, lengths: int) -> None:
        length = self._md(ask).length_ps
        self.context.progress.say(
            f"{ask.target.name} {ask.label}: ± {error_g_cm3:.4f} g/cm3 after {(lengths - 1) * length:g} ps, "
            f"{self.precision.g_cm3:g} is wanted; on to {lengths * length:g} ps"
        )

    def _with_spread(self, runs: list[Run]) -> list[Run]:
        """The same with error bars that hold what boxes of one liquid differ by, pooled over the liquids."""
        from mlff.alignment.pressure import Spread

        spread = Spread.of([run.measured.runs_g_cm3 for run in runs])
        if spread is None:
            return runs
        self.context.progress.say(
            f"boxes of one liquid differ by {100 * spread.share:.2g} % in density ({spread.freedom} degrees of freedom)"
        )
        return [replace(run, measured=spread.on(run.measured)) for run in runs]


def _apart(
    md: Dynamics, relaxation: Relaxation, precision: Precision, replicas: int, piece: _Piece, context: Context
) -> Part:
    """One box in a process that was made for it."""
    kept = replace(context, resume=True)  # the parent has cleared what was not to be used
    return Densities(kept, md, relaxation, precision, replicas).part(piece)


def _measured(parts: Sequence[Part], target: Target) -> Measured:
    from mlff.alignment.pressure import measured

    thermos = [part.thermo() for part in parts]
    return measured([t.density_g_cm3 for t in thermos], [t.volume_A3 for t in thermos], target.temperature_K)
