"""Rounds of alignment: what each one asks for, what it kept and moved, and whether its first one went the right way."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from runners.checkpoint import Cache, Throttle, cache_key, code_digest, fingerprint, read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mlff.alignment.aligner import Aligner
    from mlff.alignment.pressure import Measured, Moved
    from mlff.alignment.terms import Alignment, Effect, Liquid
    from mlff.datasets import LabelSet
    from mlff.dynamics.trajectory import Thermo
    from mlff.model import ForceField
    from mlff.training.batches import ReadyFrame
    from runners.context import Context
    from runners.densities import Densities, Run
    from runners.systems import Target

UNSURE = 0.3
"""Half of a 95 % interval of what a change of pressure does, as a share of what is expected of it."""


@dataclass(frozen=True, eq=False)
class Round:
    """A model, the liquids it was simulated with, and the mean density error of those that are aligned."""

    index: int
    model: ForceField
    runs: Mapping[str, Run]
    believed: Mapping[str, Measured]
    """Densities by all rounds up to this one, of the liquids that are aligned."""
    error_g_cm3: float
    asked_atm: Mapping[str, float]
    """Change of pressure that led here, by liquid."""


class Rounds:
    """Makes one round after another; what is finished is found again by a job that goes on."""

    def __init__(self, context: Context, alignment: Alignment, labels: LabelSet, runs: Densities) -> None:
        self.context, self.alignment, self.labels, self.runs = context, alignment, labels, runs
        self.asked: dict[str, float] = {}
        self.shares: dict[str, float] = {}
        """Part of the change that the last alignment has made, by liquid."""
        self.last: Mapping[str, Measured] = {}
        self.caches: list[Cache] = []

    def close(self, index: int, model: ForceField, found: Mapping[str, Run], targets: Sequence[Target]) -> Round:
        """Tell the densities of a round and keep it."""
        believed = {t.name: self._believed(t, found[t.name].measured) for t in targets}
        for t in targets:
            m, known = found[t.name].measured, believed[t.name]
            away = known.density_g_cm3 - t.density_g_cm3
            earlier = (
                "" if known is m else f" ({known.density_g_cm3:.4f} ± {known.error_g_cm3:.4f} with earlier rounds)"
            )
            self.context.progress.say(
                f"round {index}: {t.name} {m.density_g_cm3:.4f} ± {m.error_g_cm3:.4f} g/cm3{earlier}, {away:+.4f} from "
                f"{t.density_g_cm3:.4f}; compressibility {m.compressibility_per_atm:.2g} per atm"
            )
            values = {"density_g_cm3": m.density_g_cm3, "error_g_cm3": m.error_g_cm3, "away_g_cm3": away}
            self.context.tracker.metrics({f"rounds/{t.name}_{k}": v for k, v in values.items()}, step=index)
        mean = sum(abs(believed[t.name].density_g_cm3 - t.density_g_cm3) for t in targets) / len(targets)
        self.context.progress.say(f"round {index}: mean density error {mean:.4f} g/cm3")
        self.context.tracker.metrics({"rounds/mae_g_cm3": mean}, step=index)
        self.last = believed
        return Round(index, model, found, believed, mean, dict(self.asked))

    def _believed(self, t: Target, found: Measured) -> Measured:
        """A density of this round with what the one before and the change since lead to expect."""
        from mlff.alignment.pressure import pooled

        if t.name not in self.last:
            return found
        last = self.last[t.name]
        moved = self._expected(t, last)
        error = math.hypot(last.error_g_cm3, UNSURE * moved)
        return pooled(replace(last, density_g_cm3=last.density_g_cm3 + moved, error_g_cm3=error), found)

    def align(self, index: int, last: Round, before: Round | None, targets: Sequence[Target]) -> ForceField:
        """The model with other pressures, from the densities of the last round."""
        from mlff.alignment.pressure import wanted_change_atm
        from mlff.alignment.terms import Liquid

        liquids = []
        self.asked = {}
        for t in targets:
            run = last.runs[t.name]
            m = last.believed[t.name] if before is None else self._shown(t, before, last)
            change = wanted_change_atm(
                m, t.density_g_cm3, self.alignment.most_atm
            )  # within its bar as well: the best guess
            self.asked[t.name] = change
            liquids.append(Liquid(t.name, run.frames(self.alignment.frames), change))
        told = ", ".join(f"{name} {change:+.0f} atm" for name, change in self.asked.items())
        self.context.progress.say(f"round {index}: pressure changes asked for: {told}")
        return self._aligned(index, last.model, liquids)

    def check_sign(self, targets: Sequence[Target], first: Round, model: ForceField, length_ps: float) -> bool:
        """Short runs of old and new model from the same start; raises `ValueError` if densities went the wrong way.

        False for runs too short to tell, by the noise of the two or by how fast a volume follows, which is told with the
        length that would decide.
        """
        changed = [t for t in targets if self.asked[t.name]]
        if not changed:
            return True
        slowest = max(self._slowest_ps(first.runs[t.name], t.temperature_K) for t in changed)
        moves = self._moved(changed, first, model, length_ps, slowest)
        self.context.tracker.metrics({f"sign/{m.name}_moved_g_cm3": m.moved for m in moves})
        self.context.tracker.metrics({f"sign/{m.name}_expected_g_cm3": m.expected for m in moves})
        self.context.tracker.metrics({f"sign/{m.name}_error_g_cm3": m.error for m in moves})
        decides_ps = self._judged(moves, length_ps, slowest, f"in {length_ps:g} ps")
        if decides_ps is None:
            return True
        way = f"runner.check_ps={decides_ps:.2g} would decide" if decides_ps < 1e6 else "nothing was moved"
        told = "; ".join(map(str, moves))
        self.context.progress.warn(
            f"sign and unit are not decided in so short a run: in {length_ps:g} ps {told}; {way}; round 1 itself is judged"
        )
        return False

    def check_round(self, targets: Sequence[Target], first: Round, found: Mapping[str, Run]) -> None:
        """The same by the runs of the first round, where the short ones could not tell.

        They do not start from one state, so shorter ones than a volume needs to settle say nothing either.
        """
        from mlff.alignment.pressure import SETTLED, Moved

        changed, moves = [t for t in targets if self.asked[t.name]], []
        for t in changed:
            old, new = first.runs[t.name].measured, found[t.name].measured
            error = math.hypot(old.error_g_cm3, new.error_g_cm3)
            moves.append(
                Moved(t.name, self.asked[t.name], self._expected(t, old), new.density_g_cm3 - old.density_g_cm3, error)
            )
        slowest = max(self._slowest_ps(first.runs[t.name], t.temperature_K) for t in changed)
        length = self.runs.md.length_ps
        if length < SETTLED * slowest or self._judged(moves, length, slowest, "by round 1") is not None:
            told = "; ".join(map(str, moves))
            self.context.progress.warn(f"sign and unit are not decided by round 1 either: {told}")

    def _judged(self, moves: Sequence[Moved], length_ps: float, slowest_ps: float, how: str) -> float | None:
        """Tell that all is right; else the length in ps that would decide. Raises `ValueError` for what is wrong."""
        from mlff.alignment.pressure import verdict

        found, told = verdict(moves, length_ps, slowest_ps), "; ".join(map(str, moves))
        if found.right is False:
            raise ValueError(
                f"the pressure change has the wrong sign or unit ({told}): more pressure must lower a density, by about "
                "what the compressibility says"
            )
        if not found.right:
            return found.decides_ps
        self.context.progress.say(f"sign and unit are right: {how} {told}")
        return None

    def _expected(self, t: Target, m: Measured) -> float:
        """Change of density, g/cm3, that the compressibility says of the pressure that the alignment has made."""
        taken = self.asked[t.name] * self.shares.get(t.name, 1.0)
        return m.density_g_cm3 * math.expm1(-m.compressibility_per_atm * taken)

    def _moved(
        self, targets: Sequence[Target], first: Round, model: ForceField, length_ps: float, slowest_ps: float
    ) -> list[Moved]:
        """Liquids with the old and the new model, beside what their compressibilities expect of the aligned pressures."""
        from mlff.alignment.pressure import Moved, moved_by
        from runners.densities import Ask

        pair = (("before", first.model), ("after", model))
        asks = [Ask(t, m, f"sign {which}", first.runs[t.name], length_ps) for t in targets for which, m in pair]
        runs = self.runs.all(asks)
        moves = []
        for t, old, new in zip(targets, runs[::2], runs[1::2], strict=True):
            pairs = [(a.thermo(), b.thermo()) for a, b in zip(old.parts, new.parts, strict=True)]
            found = [moved_by(_densities(a), _densities(b), _step_ps(a), slowest_ps) for a, b in pairs]
            moved = sum(m for m, _ in found) / len(found)
            error = math.hypot(*(e for _, e in found)) / len(found)
            expected = self._expected(t, first.runs[t.name].measured)
            moves.append(Moved(t.name, self.asked[t.name], expected, moved, error))
        return moves

    def _slowest_ps(self, run: Run, temperature_K: float) -> float:
        """Of the volume's own fluctuations and of the barostat."""
        from mlff.alignment.pressure import correlation_time_ps
        from mlff.dynamics.simulation import conditions_of

        barostat = conditions_of(self.runs.md, temperature_K).pressure_damping_fs / 1000
        thermos = [part.thermo() for part in run.parts]
        return max(barostat, *(correlation_time_ps(t.density_g_cm3, _step_ps(t)) for t in thermos))

    def errors(self, before: ForceField, after: ForceField) -> dict[str, float]:
        """What became of the errors of labelled clusters that were not fitted."""
        from mlff.scores import compare

        frames = self.labels.test or self.labels.valid or self.labels.train
        results = compare(after, frames, self.labels.dispersion).errors()
        old = compare(before, frames, self.labels.dispersion).errors()
        return results | {f"before/{name.replace('/', '_')}": value for name, value in old.items()}

    def clear(self) -> None:
        """Forget what was kept on disk for a job that goes on."""
        self.runs.clear()
        for cache in self.caches:
            for path in cache.folder.glob("*.npz"):
                path.unlink()

    def _shown(self, t: Target, before: Round, last: Round) -> Measured:
        """The last density with the compressibility that the last change has shown."""
        from mlff.alignment.pressure import corrected

        found = before.runs[t.name].measured, last.runs[t.name].measured
        shown = corrected(*found, last.asked_atm.get(t.name, 0.0)).compressibility_per_atm
        return replace(last.believed[t.name], compressibility_per_atm=shown)

    def _aligned(self, index: int, model: ForceField, liquids: list[Liquid]) -> ForceField:
        from mlff.alignment.aligner import Aligner

        context = self.context
        weights = [v.detach().cpu().numpy() for v in model.state_dict().values()]
        about = {
            "alignment": asdict(self.alignment),
            "model": fingerprint(*weights, *(f.positions for one in liquids for f in one.frames)),
            "changes": self.asked,
            "labels": dict(self.labels.checksums),
            "seed": context.seed,
            "code": code_digest("mlff/**/*"),
        }
        cache = Cache(context.home, cache_key("alignment", about), about)
        self.caches.append(cache)
        path, throttle = cache.folder / "state.npz", Throttle()
        with cache.alone(context.progress.say):
            with context.phase(f"round {index}: frames"):
                clusters = self._clusters(model)
                aligner = Aligner(model, liquids, clusters, self.alignment, context.seed, context.threads)
            saved = read_arrays(path) if context.resume else None
            if saved is not None:
                aligner.restore(saved)

            def save(state: Any) -> None:
                if throttle.ready():
                    write_arrays(path, state())

            with context.phase(f"round {index}: alignment", total=self.alignment.steps, unit="steps") as advance:
                aligned = aligner.run(progress=advance, save=save)
            write_arrays(path, aligner.state())
        self._tell(index, aligner)
        return aligned

    def _clusters(self, model: ForceField) -> list[ReadyFrame]:
        from mlff.alignment.liquid_pass import network_alone
        from mlff.alignment.terms import taken
        from mlff.read_out import ready_for_read_out

        frames = taken(self.labels.train, self.alignment.clusters or len(self.labels.train))
        return ready_for_read_out(frames, model, network_alone(model), self.labels.dispersion)

    def _tell(self, index: int, aligner: Aligner) -> None:
        for e in aligner.effects():
            self.context.progress.say(_effect(e))
            self.shares[e.name] = max(0.0, e.whole_atm / e.wanted_atm) if e.wanted_atm else 0.0
            values = {k: v for k, v in asdict(e).items() if k != "name"}
            self.context.tracker.metrics({f"rounds/{e.name}_{k}": v for k, v in values.items()}, step=index)


def _effect(e: Effect) -> str:
    return (
        f"{e.name}: pressure between molecules {e.between_atm:+.0f} ± {e.between_spread_atm:.0f} atm of {e.wanted_atm:+.0f} "
        f"on held-out frames, as a whole {e.whole_atm:+.0f} atm; forces moved by {e.forces_rms_kcal_mol_A:.3g} kcal/mol/Å"
    )


def _densities(thermo: Thermo) -> NDArray[np.float64]:
    """From volumes, which are recorded in double precision."""
    volume = thermo.volume_A3
    densities: NDArray[np.float64] = float(thermo.density_g_cm3[0]) * float(volume[0]) / volume
    return densities


def _step_ps(thermo: Thermo) -> float:
    return float(thermo.time_ps[-1] - thermo.time_ps[0]) / max(1, len(thermo.time_ps) - 1)
