"""Train a force field on labelled frames: loop with checkpoints, errors on held-out frames, pictures, saved model."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.checkpoint import Cache, Throttle, cache_key, code_digest, read_arrays, write_arrays
from runners.force_fields import (
    KEY_RESULTS,
    load_labels,
    log_labels,
    open_force_field,
    record_errors,
    write_force_field,
)

if TYPE_CHECKING:
    from mlff.datasets import LabelSet
    from mlff.training.parallel import Ranks
    from mlff.training.trainable import Start
    from mlff.training.trainer import Trained, Trainer
    from runners.context import Context


@plain_dataclass(frozen=True)
class _Prepared:
    labels: LabelSet
    start: Start
    ranks: Ranks
    irreducible_D: float | None


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Train:
    """Settings of the runner; what is learned and how stands in `model`, `data` and `training`."""

    test: Annotated[bool, Field(description="predict the test part at the end")] = True
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True

    needs: ClassVar[tuple[str, ...]] = ("model", "data", "training")
    parallel: ClassVar[bool] = True

    def prepare(self, context: Context) -> _Prepared:
        """Load the labels and make the model ready before a run exists."""
        import torch

        from mlff.training.batches import dipole_left_by_charges
        from mlff.training.parallel import Ranks
        from mlff.training.trainable import start

        # one thread inside each operation: sums then never depend on how many there are
        torch.set_num_threads(1)
        training = context.training
        model, learned = None, {}
        if context.checkpoint:
            saved = open_force_field(context)
            typed = [o for o in context.overrides if o.lstrip("+").startswith("model.")]
            if typed:
                raise UserError(
                    f"{typed[0]}: training goes on from checkpoint={context.checkpoint}, whose model is fixed"
                )
            model = saved.model.train()
            learned["checkpoint"] = saved.dispersion
        labels = load_labels(context, context.data, learned)
        with context.phase("frames"):
            made = start(context.model, training, labels, context.seed, model)
        return _Prepared(labels, made, Ranks.from_environment(), dipole_left_by_charges(labels.train))

    def run(self, context: Context) -> dict[str, float]:
        """Do everything and return the key results."""
        from mlff.scores import compare
        from mlff.training.trainable import finished

        p: _Prepared = context.prepared
        log_labels(context, p.labels)
        _tell(context, p)
        trainer, trained = _trained(context, p)
        model = finished(p.start, context.training, p.labels)
        if p.ranks.rank > 0:
            return {}
        write_force_field(context.output_dir / "model", model, p.labels, context.config, context.choices)
        context.tracker.artifact(context.output_dir / "model", "model")
        results = _own_results(trainer, trained, p)
        context.tracker.metrics(results)
        part = "test" if self.test and p.labels.test else "valid" if p.labels.valid else "train"
        frames = getattr(p.labels, part)
        with context.phase(f"errors on {part}", total=len(frames), unit="frames") as advance:
            compared = compare(model, frames, p.labels.dispersion, advance)
        context.tracker.tags({"lsmrun.scored_on": part})
        context.progress.say(f"errors of the {len(frames)} {part} frames:")
        results |= record_errors(context, compared, part, pictures=self.pictures)
        if self.pictures:
            from runners.plots.frames import training_course

            context.tracker.figure(training_course(trained.history, trained.epoch), "pictures/training.png")
        return {name: results[name] for name in (*KEY_RESULTS, *SHOWN) if name in results}


SHOWN = (
    "valid/energy_mae_meV_per_atom", "valid/forces_mae_meV_per_A", "labels/dipole_from_charges_rms_D",
    "cost/training_cpu_s",
)  # fmt: skip


def _tell(context: Context, p: _Prepared) -> None:
    """What is learned from what, and what cannot be learned."""
    weights = ", ".join(f"{k} {w:g}" for k, w in p.start.weights.items() if w)
    sizes = f"{len(p.labels.train)} frames for training, {len(p.labels.valid)} for validation, {len(p.labels.test)} for test"
    model = p.start.model
    count = sum(w.numel() for w in model.parameters())
    context.progress.say(f"{p.labels.name}: {sizes}; {count:,} weights; loss: {weights}")
    if p.start.weights["virial"] and "virial" not in p.labels.labels:
        context.progress.say("virials: made from the forces of the clusters, sum of r F, which is exact without a box")
    if model.dispersion is not None:
        how = "part of training" if p.labels.dispersion == "included" else "added after training only"
        context.progress.say(f"dispersion: labels {p.labels.dispersion}; the model's own term is {how}")
    if p.irreducible_D is not None:
        context.progress.say(
            f"the charge labels give the dipole labels to {p.irreducible_D:.2f} D rms by component: "
            "no charges can meet both any better"
        )


def _own_results(trainer: Trainer, trained: Trained, p: _Prepared) -> dict[str, float]:
    """Validation errors of the epoch that was kept, and facts of the labels."""
    kept = trained.history[trained.epoch - 1]
    results = {name: value for name, value in kept.items() if name != "learning_rate"}
    results |= {"training/epoch": float(trained.epoch), "training/steps": float(trainer.n_steps)}
    results |= {"cost/training_s": trainer.clock.wall_s, "cost/training_cpu_s": trainer.clock.cpu_s}
    if p.irreducible_D is not None:
        results["labels/dipole_from_charges_rms_D"] = p.irreducible_D
    return results


def _trained(context: Context, p: _Prepared) -> tuple[Trainer, Trained]:
    """Train to the end, from the last checkpoint of the same work where there is one."""
    from mlff.training.trainer import Trainer, train

    options = context.training
    trainer = Trainer(
        p.start.model,
        p.start.train,
        p.start.valid,
        options,
        p.start.weights,
        p.start.scale,
        context.seed,
        p.ranks,
        threads=1 if p.ranks.size > 1 else context.threads,
    )
    with _Checkpoint(context, p) as checkpoint:
        checkpoint.restore(trainer)

        def on_epoch(epoch: int, values: dict[str, float]) -> None:
            context.tracker.metrics({f"epoch/{name}": value for name, value in values.items()}, step=epoch)

        for epoch, values in enumerate(trainer.history):
            on_epoch(epoch + 1, values)
        with context.phase("training", total=trainer.n_steps, unit="steps") as advance:
            advance(trainer.at.step)
            trained = train(trainer, on_epoch=on_epoch, progress=advance, save=checkpoint.save)
        checkpoint.remove()
    return trainer, trained


class _Checkpoint:
    """The state of a training run on disk; of several processes the first writes and hands out what it reads."""

    def __init__(self, context: Context, p: _Prepared) -> None:
        self.context, self.ranks = context, p.ranks
        sections = {k: context.config.get(k) for k in ("model", "data", "training", "checkpoint")}
        about = {**sections, "seed": context.seed, "labels": dict(p.labels.checksums), "code": code_digest("mlff/**/*")}
        self.cache = Cache(context.home, cache_key("training", about), about)
        self.path = self.cache.folder / "state.npz"
        self.throttle = Throttle()
        self._lock: Any = None

    def __enter__(self) -> _Checkpoint:
        if self.ranks.rank == 0:
            self._lock = self.cache.alone(self.context.progress.say)
            self._lock.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.__exit__(*error)

    def restore(self, trainer: Trainer) -> None:
        """Go back to where a killed run was."""
        import torch

        saved = [read_arrays(self.path) if self.context.resume and self.ranks.rank == 0 else None]
        if self.ranks.size > 1:
            torch.distributed.broadcast_object_list(saved)
        if saved[0] is not None:
            trainer.restore(saved[0])

    def save(self, state: Any) -> None:
        """Write `state()` if the last time was a while ago."""
        if self.ranks.rank == 0 and self.throttle.ready():
            self.context.tracker.flush()
            write_arrays(self.path, state())

    def remove(self) -> None:
        """The run has come to its end: the next one starts afresh."""
        if self.ranks.rank == 0:
            self.path.unlink(missing_ok=True)
