"""Ridge and logistic regression by scikit-learn on the globally scaled counts; strength chosen on validation data.

Both need all features as one array: 8 (ridge) or 4 bytes (logistic) for each sample and neuron.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lsm.readout.contract import Features, OnEpoch, Progress
from lsm.readout.features import Standard
from lsm.readout.linear import LinearScorer, accuracy

Grid = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, strict=False)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Ridge:
    """Least squares on targets +1 and -1 with penalty `lambda |W|^2`; raises `ValidationError` on a bad value.

    `lambdas` is the grid from which validation accuracy chooses, the first of equals; features have unit variance.
    """

    lambdas: Grid = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

    def fit(
        self,
        train: Features,
        valid: Features,
        n_classes: int,
        seed: int,
        *,
        on_epoch: OnEpoch | None = None,
        progress: Progress | None = None,
    ) -> LinearScorer:
        """Solve for each lambda and keep the best; `on_epoch` counts the lambdas. Nothing is random."""
        from sklearn.linear_model import Ridge as Solver

        standard = Standard.of(train.counts)
        features = standard.standardised(train.counts)
        targets = 2.0 * np.eye(n_classes)[train.labels] - 1
        bias = targets.mean(axis=0)  # the features have no mean, so this is the intercept

        def candidates() -> Iterable[tuple[float, LinearScorer]]:
            for penalty in self.lambdas:
                solver = Solver(alpha=penalty, fit_intercept=False, solver="cholesky").fit(features, targets - bias)
                yield penalty, LinearScorer.folded(solver.coef_.reshape(n_classes, -1).T, bias, standard)

        return choose(candidates(), len(self.lambdas), "readout/lambda", train, valid, on_epoch, progress)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> LinearScorer:
        """The fitted layer whose `arrays()` these are."""
        return LinearScorer.from_arrays(arrays)


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Logistic:
    """Multinomial logistic regression (L-BFGS, one-hot targets); raises `ValidationError` on a bad value.

    `inverse_strengths` is the grid of scikit-learn's C, ascending; each solution starts from the one before.
    """

    inverse_strengths: Grid = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    max_iterations: Annotated[int, Field(ge=1, description="L-BFGS iterations for each C")] = 200

    def fit(
        self,
        train: Features,
        valid: Features,
        n_classes: int,
        seed: int,
        *,
        on_epoch: OnEpoch | None = None,
        progress: Progress | None = None,
    ) -> LinearScorer:
        """Solve for each C and keep the best; `on_epoch` counts the C. Nothing is random."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        present = np.unique(train.labels)
        if len(present) < 2:
            raise ValueError(f"logistic regression needs two classes, all training labels are {present[0]}")
        standard = Standard.of(train.counts)
        features = standard.standardised(train.counts, np.float32)
        solver = LogisticRegression(max_iter=self.max_iterations, warm_start=True)

        def candidates() -> Iterable[tuple[float, LinearScorer]]:
            for c in sorted(self.inverse_strengths):
                solver.set_params(C=c)
                with warnings.catch_warnings():
                    # The grid ends where regularisation no longer matters; validation judges what came of it.
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    solver.fit(features, train.labels)
                yield c, LinearScorer.folded(*_all_classes(solver, present, n_classes), standard)

        total = len(self.inverse_strengths)
        return choose(candidates(), total, "readout/inverse_strength", train, valid, on_epoch, progress)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> LinearScorer:
        """The fitted layer whose `arrays()` these are."""
        return LinearScorer.from_arrays(arrays)


def _all_classes(solver: Any, present: NDArray[np.int64], n_classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights `(n_features, n_classes)` and bias, where classes without training samples never win."""
    coefficients, intercept = solver.coef_, solver.intercept_
    if len(coefficients) == 1:  # scikit-learn stores one row for two classes
        coefficients, intercept = np.vstack([-coefficients, coefficients]), np.concatenate([-intercept, intercept])
    weights = np.zeros((coefficients.shape[1], n_classes))
    bias = np.full(n_classes, -1e6)
    weights[:, present] = coefficients.T
    bias[present] = intercept
    return weights, bias


def choose(
    candidates: Iterable[tuple[float, LinearScorer]],
    total: int,
    name: str,
    train: Features,
    valid: Features,
    on_epoch: OnEpoch | None,
    progress: Progress | None,
) -> LinearScorer:
    """The candidate with the best validation accuracy, the first of equals; each is reported under metric `name`."""
    best: tuple[float, LinearScorer | None] = (-1.0, None)
    for number, (value, scorer) in enumerate(candidates, start=1):
        valid_accuracy = accuracy(scorer.scores(valid.counts), valid.labels)
        if valid_accuracy > best[0]:
            best = (valid_accuracy, scorer)
        if on_epoch:
            train_accuracy = accuracy(scorer.scores(train.counts), train.labels)
            on_epoch(number, {name: value, "train/accuracy": train_accuracy, "valid/accuracy": valid_accuracy})
        if progress:
            progress(number, total)
    assert best[1] is not None, "the grid is never empty"
    return best[1]
