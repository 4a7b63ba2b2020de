"""Search from one sense to the other, for classes that training has never seen: heads on liquids, or trained networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.checkpoint import fingerprint
from runners.descending import Trained, descend
from runners.encodings import all_steps
from runners.liquids import PARTS, check_networks, is_mapped, log_dataset, warn_of_map
from runners.rram_liquid import check_device
from runners.zero_shot_groups import Group, Prepared, Sources, fixed_group, raw_group, trained_costs, trained_groups
from runners.zero_shot_report import Outcome, by_network, key_results, metrics_of, table

if TYPE_CHECKING:
    from lsm.datasets.pairs import PairedDataset
    from lsm.descent import Best, Callbacks
    from lsm.zero_shot import Trial
    from runners.context import Context

SEEDS_FIXED, SEEDS_TRAINED = 10, 3
Count = Annotated[int, Field(ge=1, le=10_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[tuple[Share, Share], Field(strict=False)]
Weights = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False)]
Chosen = tuple[float | None, float | None]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class ZeroShot:
    """Settings of the runner. Network k of a run has the seed `seeds * seed + k`, so runs share no network.

    `protocol` honest chooses the epoch, and the weights of the liquids if several are given, by the search among
    validation samples of the seen classes. published chooses them by the test part, as the original does: among the epochs
    whose shares on seen and unseen classes reach `thresholds` the best one on seen classes, for each direction apart.
    """

    contrastive: Annotated[Any, Field(description="settings of method=contrastive")]
    prototypes: Annotated[Any, Field(description="settings of method=prototypes")]
    method: Annotated[Literal["contrastive", "prototypes"], Field(description="what brings the senses together")] = (
        "contrastive"
    )
    protocol: Annotated[Literal["honest", "published"] | None, Field(description="null = that of the data")] = None
    seeds: Annotated[
        Count | None, Field(description="networks; null = 10 fixed ones (1 on a map) or 3 trained ones")
    ] = None
    weights_first: Annotated[
        Weights, Field(description="weight_per_uS of the first sense to choose from; [] = the model's")
    ] = ()
    weights_second: Annotated[Weights, Field(description="as weights_first")] = ()
    thresholds: Annotated[
        tuple[Shares, Shares],
        Field(strict=False, description="published: seen and unseen share, first searches second and back"),
    ] = ((0.70, 0.60), (0.65, 0.85))
    raw_control: Annotated[bool, Field(description="train heads on raw input counts, too")] = True
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True
    examples: Annotated[Count, Field(description="queries of seen and of unseen classes in a picture")] = 4

    needs: ClassVar[tuple[str, ...]] = ("model", "data")
    reads_checkpoint: ClassVar[bool] = False

    @property
    def learner(self) -> Any:
        """Settings of the chosen method."""
        return self.contrastive if self.method == "contrastive" else self.prototypes

    def prepare(self, context: Context) -> Prepared:
        """Load both senses and bring them into steps, before a run exists."""
        name, model = context.choices.get("data", "the data"), context.model
        if getattr(context.data, "kind", None) != "pairs":
            raise UserError(f"data={name}: runner=zero_shot needs pairs of senses, such as data=synthetic_pairs")
        if not hasattr(model, "for_data"):
            raise UserError(f"model={context.choices.get('model')}: runner=zero_shot takes rram_lsm or srnn_ann")
        trained = hasattr(model, "cell")
        if trained and (self.weights_first or self.weights_second):
            raise UserError("runner.weights_first, runner.weights_second: for fixed liquids; give model.const=...")
        check_networks(context, "runner.seeds", self.seeds or 1)
        parts = str(getattr(context.data, "protocol", "honest"))
        protocol = self.protocol or parts
        if protocol == "honest" and parts != "honest":
            raise UserError(f"runner.protocol=honest: data={name} has no validation part; give data.protocol=honest")
        with context.phase("data") as advance:
            pair: PairedDataset = context.data.load(context.data_root, context.seed, progress=advance)
        models, steps = [], []
        with context.phase("steps"):
            for k, (sense, dataset) in enumerate(pair.senses()):
                made = (model.of_sense(k) if trained else model).for_data(dataset.encoding, self.method)
                model_of, view = made if trained else (made, made)
                models.append(model_of)
                steps.append(all_steps(dataset, view, context.seed))
                if not trained:
                    check_device(model_of, steps[-1]["train"].n_in, sense)
        warn_of_map(context)
        if is_mapped(model) and not model.device.has_map_per_sense:
            context.progress.warn(
                f"{' and '.join(pair.modalities)} read the same conductances; "
                "{sense} in device.map_input and device.map_recurrent names a map for each"
            )
        return Prepared(pair, (steps[0], steps[1]), (models[0], models[1]), trained, protocol)

    def run(self, context: Context) -> dict[str, float]:
        """Encode, train and search, for every network."""
        prepared: Prepared = context.prepared
        for _, dataset in prepared.pair.senses():
            log_dataset(context, dataset)
        context.tracker.tags({"lsmrun.protocol": prepared.protocol})
        n = self.seeds or (SEEDS_TRAINED if prepared.trained else 1 if is_mapped(context.model) else SEEDS_FIXED)
        seeds = [n * context.seed + k for k in range(n)]
        outcome, weights = self._best(context, prepared, seeds)
        prefix = "published" if prepared.protocol == "published" else "test"
        results = metrics_of(outcome, prefix)
        if prepared.protocol == "honest":
            results["valid/accuracy"] = float(np.mean(outcome.scores["valid/accuracy"]))
        for sense, weight in zip(prepared.pair.modalities, weights, strict=True):
            results |= {f"chosen/weight_per_uS_{sense}": weight} if weight is not None else {}
        for k, values in by_network(outcome):
            context.tracker.metrics(values, step=k)
        context.progress.say(table(outcome, self._heading(context, prepared, n)))
        if self.raw_control:
            results |= self._raw_control(context, prepared, seeds)
        context.tracker.metrics(results)
        if self.pictures:
            self._draw(context, prepared, outcome)
        return key_results(results, prefix)

    def _heading(self, context: Context, prepared: Prepared, n: int) -> str:
        how = "validation samples of seen classes" if prepared.protocol == "honest" else "the TEST part, as published"
        networks = f"{n} network{'s' if n > 1 else ''} (mean ± deviation)"
        model = context.choices.get("model", "model")
        return f"{model}, {self.method}, on {prepared.pair.name}: {networks}, epoch chosen on {how}"

    # --- training

    def _best(self, context: Context, prepared: Prepared, seeds: list[int]) -> tuple[Outcome, Chosen]:
        """What comes out with those weights of the liquids whose score, mean over networks, is best."""
        candidates: list[Chosen] = [
            (a, b) for a in self.weights_first or (None,) for b in self.weights_second or (None,)
        ]
        best: tuple[float, list[Group], list[Trained], Chosen] | None = None
        for k, weights in enumerate(candidates):
            log = "" if len(candidates) == 1 else None
            groups = list(self._groups(context, prepared, seeds, weights))
            fits = [
                self._fit(context, prepared, group, "heads", log if j == 0 else None) for j, group in enumerate(groups)
            ]
            score = float(np.mean([chosen.score.mean() for fit in fits for chosen in fit.best.values()]))
            if len(candidates) > 1:
                told = {
                    f"choice/{s}": w for s, w in zip(prepared.pair.modalities, weights, strict=True) if w is not None
                }
                context.progress.say(f"weights {k + 1} of {len(candidates)}, {told}: score {score:.4f}")
                context.tracker.metrics({**told, "choice/score": score}, step=k)
            if best is None or score > best[0]:
                best = (score, groups, fits, weights)
        assert best is not None
        if prepared.trained:
            context.tracker.metrics(trained_costs(prepared, best[1], best[2], self.learner.dim))
        return self._outcome(prepared, best[1], best[2]), best[3]

    def _groups(self, context: Context, prepared: Prepared, seeds: list[int], weights: Chosen) -> Iterator[Group]:
        if prepared.trained:
            yield from trained_groups(prepared, seeds)
            return
        both = zip(prepared.models, weights, strict=True)
        models = [m if w is None else dataclasses.replace(m, weight_per_uS=w) for m, w in both]
        yield fixed_group(context, prepared, seeds, models, self.learner.dim, self.learner.epochs)

    def _fit(self, context: Context, prepared: Prepared, group: Group, phase: str, log: str | None) -> Trained:
        """Train the heads of one group, and its networks if they are not fixed."""
        trial, sources, learner = self._trial(prepared), self._scaled(group.sources), self.learner
        published = prepared.protocol == "published"
        queries = None
        if published and self.method == "prototypes":
            queries = trial.published_queries(sources, group.seeds)

        def fit(callbacks: Callbacks) -> dict[str, Best]:
            score = trial.as_published(sources, self.thresholds) if published else trial.by_validation(sources)
            task = trial.training(sources, group.seeds)
            best: dict[str, Best] = learner.fit(task, score, callbacks, latest=published, queries=queries)
            return best

        pair = prepared.pair
        about = {
            "learner": [self.method, dataclasses.asdict(learner)],
            "protocol": [prepared.protocol, self.thresholds if published else None],
            "seeds": group.seeds,
            "labels": fingerprint(*(labels for part in PARTS for labels in trial.labels(part)), pair.train_pairs),
            "classes": [pair.seen, pair.unseen],
            **group.about,
        }
        return descend(context, phase, learner.epochs, about, fit, log)

    def _trial(self, prepared: Prepared) -> Trial:
        from lsm.zero_shot import Trial

        return Trial(prepared.pair, self.learner.similarity)

    def _scaled(self, sources: Sources) -> Sources:
        """Features as the learner wants them: centred and scaled like the training part, if so."""
        if not self.learner.standardise:
            return sources
        first, second = sources["train"]
        return {part: (a.standardised(first), b.standardised(second)) for part, (a, b) in sources.items()}

    # --- results

    def _outcome(self, prepared: Prepared, groups: list[Group], fits: list[Trained]) -> Outcome:
        """Search the test part with the chosen epoch of every network."""
        trial, outcome = self._trial(prepared), Outcome()
        honest = prepared.protocol == "honest"
        rules = ("valid/accuracy", "valid/accuracy") if honest else trial.published_rules
        for group, fit in zip(groups, fits, strict=True):
            sources, searched = self._scaled(group.sources), {}
            for rule, best in fit.best.items():
                senses = trial.embedded("test", sources, self._embed(best, len(group.seeds)))
                searched[rule] = (senses, [trial.searched(a, b) for a, b in senses])
                outcome.epochs.setdefault(rule, []).extend(best.epoch.tolist())
                outcome.scores.setdefault(rule, []).extend(best.score.tolist())
            for k in range(len(group.seeds)):
                outcome.directions.append((searched[rules[0]][1][k][0], searched[rules[1]][1][k][1]))
                outcome.senses.append(searched[rules[0]][0][k])
        return outcome

    def _embed(self, best: Best, n: int) -> Any:
        return lambda sense, source: self.learner.embed(best.variables, sense, source, n)

    def _raw_control(self, context: Context, prepared: Prepared, seeds: list[int]) -> dict[str, float]:
        """The same heads on the filled bins of each input channel, without any network."""
        group = raw_group(prepared, seeds)
        outcome = self._outcome(prepared, [group], [self._fit(context, prepared, group, "raw heads", None)])
        context.progress.say(table(outcome, "the same heads on raw input counts"))
        return metrics_of(outcome, "baseline/raw_counts")

    def _draw(self, context: Context, prepared: Prepared, outcome: Outcome) -> None:
        from runners.plots import zero_shot as plots

        with context.phase("pictures"):
            context.tracker.figure(plots.spread(outcome), "pictures/accuracy.png")
            trial, both = self._trial(prepared), outcome.senses[0]
            for name, figure in plots.retrievals(trial, both, self.examples):
                context.tracker.figure(figure, f"pictures/{name}.png")
