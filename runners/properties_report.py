"""What `runner=properties` tells: a table beside measured values, metrics, pictures, and the curves behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlff.properties import Transport
    from mlff.system.liquid import Measured, System
    from mlff.transport import Estimate
    from runners.context import Context
    from runners.properties_stages import Found


@dataclass(frozen=True)
class Line:
    """One quantity: its words, metric and unit, the estimate, why it is not resolved, and its key in `Values`."""

    label: str
    metric: str
    unit: str
    estimate: Estimate
    unresolved: str | None = None
    key: str | None = None
    digits: str = ".4g"
    factor: float = 1.0
    """From the metric's unit to the printed one."""

    def text(self, system: System) -> str:
        """`density: 1.053 ± 0.004 g/cm3 (measured 1.06 at 298 K, ...)`."""
        figure = _figure(self.estimate.scaled(self.factor), self.unresolved, self.digits, self.unit)
        known = [
            f"\n    {kind} {m.value:.5g}{f' at {m.temperature_K:g} K' if m.temperature_K else ''} ({m.source})"
            for kind, m in self.known(system).items()
        ]
        return f"{self.label}: {figure}{''.join(known)}"

    def known(self, system: System) -> dict[str, Measured]:
        """What was `measured`, and what was `published` of other simulations, at the system's temperature."""
        from mlff.system.liquid import measured_at

        if self.key is None:
            return {}
        found = {k: measured_at(getattr(system, k), self.key, system.temperature_K) for k in ("measured", "published")}
        return {kind: value for kind, value in found.items() if value is not None}

    def metrics(self) -> dict[str, float]:
        """The value and its 95 % error; under `unresolved/` where it is not resolved."""
        name, _, unit = self.metric.partition(":")
        unit = f"_{unit}" if unit else ""
        where = "unresolved" if self.unresolved else "md"
        found = {f"{where}/{name}{unit}": self.estimate.value}
        if self.estimate.has_error:
            found[f"{where}/{name}_error{unit}"] = self.estimate.error
        return found


def _figure(e: Estimate, unresolved: str | None, digits: str = ".4g", unit: str = "") -> str:
    """`1.053 ± 0.004 g/cm3`, or `not resolved (...); why`; an error that says nothing is not printed."""
    error = f" ± {e.error:.2g}" if e.has_error else ""
    figure = f"{e.value:{digits}}{error} {unit}".rstrip()
    return f"not resolved ({figure}); {unresolved}" if unresolved else figure


def report(context: Context, found: Found, *, pictures: bool) -> dict[str, float]:
    """Print, log and draw; returns the metrics of what is resolved."""
    lines = list(_lines(found))
    text = [line.text(context.system) for line in lines]
    transport = found.transport
    if transport is not None:
        text += [f"{name}: not resolved; {reason}" for name, reason in transport.missing.items()]
        text += _windows(transport) + _structure(transport, found.n_replicas)
        context.tracker.metrics({"md/temperature_K": transport.temperature_K, "md/volume_A3": transport.volume_A3})
        _check_temperature(context, transport)
    context.progress.say("properties; ± is half of the 95 % confidence interval")
    for row in "\n".join(text).splitlines():
        context.progress.say(f"  {row}")
    context.tracker.text("\n".join(text) + "\n", "properties.txt")
    metrics = {k: v for line in lines for k, v in line.metrics().items()}
    context.tracker.metrics(metrics)
    known = {f"{kind}/{line.key}": m.value for line in lines for kind, m in line.known(context.system).items()}
    context.tracker.metrics(known)
    _store_curves(context, found)
    if pictures:
        from runners.plots import properties as properties_plots

        for name, figure in properties_plots.figures(found, context.system).items():
            context.tracker.figure(figure, f"pictures/{name}.png")
    return {k: v for k, v in metrics.items() if k.startswith("md/") and "/share_" not in k and "/shell_" not in k}


def _lines(found: Found) -> Iterator[Line]:
    from mlff.transport.resolved import what_it_takes

    n = found.n_replicas
    if found.densities is not None:
        e = found.densities.mean.estimate
        yield Line("density", "density:g_cm3", "g/cm3", e, what_it_takes(e, n_replicas=n), "density_g_cm3", ".4f")
    t = found.transport
    if t is None:
        return
    unknown = None
    if t.viscosity is not None:
        e, short = t.viscosity.eta, t.viscosity.too_short
        unknown = what_it_takes(e, n_replicas=n, too_short=short)
        yield Line("viscosity", "viscosity:mPa_s", "mPa s", e, unknown, "viscosity_mPa_s")
    for d in t.diffusion:
        why = what_it_takes(d.in_box, n_replicas=n, diffusive=d.window.diffusive)
        name, unit = clean(d.name), "1e-10 m2/s"
        yield Line(
            f"self-diffusion of {d.name}, in this box", f"diffusion_box_{name}:m2_s", unit, d.in_box, why, factor=1e10
        )
        if d.corrected is not None:
            # a correction by a viscosity that is not known is none
            corrected = why or (unknown and f"viscosity: {unknown}") or what_it_takes(d.corrected, n_replicas=n)
            label = f"self-diffusion of {d.name}, Yeh-Hummer"
            yield Line(label, f"diffusion_{name}:m2_s", unit, d.corrected, corrected, factor=1e10)
    yield from _ion_lines(t, n)


def _ion_lines(t: Transport, n: int) -> Iterator[Line]:
    from mlff.transport.resolved import what_it_takes

    c = t.conductivity
    if c is not None:
        diffusive = c.window.diffusive

        def own(e: Estimate) -> str | None:
            return what_it_takes(e, n_replicas=n, diffusive=diffusive)

        sigma = what_it_takes(c.collective, n_replicas=n, ion_pairs=c.n_pairs, diffusive=diffusive)

        def collective(e: Estimate) -> str | None:
            return sigma or own(e)

        ne, all_ions = c.nernst_einstein.scaled(10), c.collective.scaled(10)  # S/m to mS/cm
        known = ("nernst_einstein_mS_cm", "conductivity_mS_cm")
        yield Line("conductivity, Nernst-Einstein", "conductivity_ne:mS_cm", "mS/cm", ne, own(ne), known[0])
        label = "conductivity, all ion correlations"
        yield Line(label, "conductivity:mS_cm", "mS/cm", all_ions, collective(all_ions), known[1])
        yield Line("Haven ratio (NE / collective)", "haven_ratio", "", c.haven_ratio, collective(c.haven_ratio))
        yield Line("apparent transport number t+ (NE)", "transport_number_ne", "", c.t_ne, own(c.t_ne))
        frames = [("barycentric", c.t_barycentric), ("solvent", c.t_solvent)]
        for frame, e in frames:
            if e is not None:
                label = f"transference number t+ (Onsager, {frame} frame)"
                yield Line(label, f"transference_{frame}", "", e, collective(e))
    for cation, shells in t.shells.items():
        for name, e in shells.shares.items():
            why = what_it_takes(e, n_replicas=n)
            yield Line(f"share of {cation} as {name}", f"share_{clean(cation)}_{name}", "", e, why)
        for name, e in shells.coordination.items():
            why = what_it_takes(e, n_replicas=n)
            yield Line(f"{name} in the shell of {cation}", f"shell_{clean(cation)}_{clean(name)}", "", e, why)


def _windows(t: Transport) -> list[str]:
    rows = []
    if t.viscosity is not None:
        v = t.viscosity
        rows.append(f"viscosity: fit to {v.window.end_ps:.3g} ps, slowest relaxation {v.slowest_ps:.3g} ps")
    for d in t.diffusion:
        rows.append(f"diffusion of {d.name}: fit from {d.window.start_ps:.3g} to {d.window.end_ps:.3g} ps")
    if t.conductivity is not None:
        w = t.conductivity.window
        rows.append(f"conductivity: fit from {w.start_ps:.3g} to {w.end_ps:.3g} ps")
    return rows


def _structure(t: Transport, n: int) -> list[str]:
    from mlff.transport.resolved import what_it_takes

    rows = []
    for pair, r in t.radial.items():
        if r.first_minimum_A is None or r.n_first_shell is None:
            rows.append(f"{pair}: no first shell that ends within {r.r_A[-1]:.1f} Å")
            continue
        number = _figure(r.n_first_shell, what_it_takes(r.n_first_shell, n_replicas=n))
        rows.append(f"{pair}: first shell to {r.first_minimum_A:.2f} Å, coordination number {number}")
    for cation, shells in t.shells.items():
        commonest = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shells.shells)
        rows.append(f"shells of {cation} within {shells.cutoff_A:g} Å, all frames: {commonest}")
    return rows


def _check_temperature(context: Context, t: Transport) -> None:
    p = context.properties
    target = (p.transport.temperature_K if p.transport else None) or context.system.temperature_K
    if abs(t.temperature_K - target) > 0.02 * target:
        context.progress.warn(
            f"transport ran at {t.temperature_K:.0f} K instead of {target:g} K; properties are those of that temperature"
        )


def _store_curves(context: Context, found: Found) -> None:
    """Every curve that a fit has seen, as one npz file."""
    curves: dict[str, Any] = {}
    if found.densities is not None:
        curves |= {f"density_{k}": s for k, s in enumerate(found.densities.series)}
        curves["density_dt_ps"] = np.array(found.densities.dt_ps)
    t = found.transport
    if t is not None and t.viscosity is not None:
        v = t.viscosity
        curves |= {f"viscosity_{k}": getattr(v, k) for k in ("time_ps", "running", "spread", "fitted")}
    if t is not None and t.curves is not None:
        c = t.curves
        curves |= {"lag_ps": c.time_ps, "charge_A2": c.charge}
        curves |= {f"msd_{clean(n)}_A2": c.self_msd[:, k] for k, n in enumerate(c.names)}
    for pair, r in t.radial.items() if t is not None else ():
        curves |= {f"g_{clean(pair)}": np.stack([r.r_A, r.g, r.coordination])}
    path = context.output_dir / "curves.npz"
    np.savez_compressed(path, allow_pickle=False, **curves)
    context.tracker.artifact(path)


def clean(name: str) -> str:
    """A name as part of a metric's: what is not a letter or digit becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
