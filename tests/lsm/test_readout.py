"""Readouts: the published recipe, choice by validation only, silent samples, resumption, a user's own class."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from threadpoolctl import threadpool_info

from lsm import readout
from lsm.readout import Adadelta, Features, Logistic, Ridge, Softmax, fit_readout, linear, restore_readout
from lsm.readout.features import Standard, batch_maximum_scales
from lsm.readout.linear import LinearScorer, class_targets, cross_entropy
from tests.reference import FOLDER

ROOT = Path(__file__).parents[2]
ALL = [Softmax(epochs=8, batch=50), Adadelta(epochs=30, batch=50, learning_rate=1.0), Ridge(), Logistic()]
BY_EPOCH = ALL[:2]


def liquid_counts(n: int, seed: int, n_features: int = 60, n_classes: int = 4) -> Features:
    """Poisson counts around class profiles that all parts of one data set share."""
    profile = np.random.default_rng(99).gamma(2.0, 3.0, (n_classes, n_features))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % n_classes)
    return Features(rng.poisson(profile[labels]).astype(np.uint16), labels)


TRAIN, VALID, TEST = liquid_counts(400, 1), liquid_counts(203, 2), liquid_counts(200, 3)


def name(settings):
    return type(settings).__name__


def test_soft_targets_are_those_of_the_published_code():
    soft = class_targets(10, one_hot=False)
    assert np.diag(soft) == pytest.approx(0.4509, abs=5e-5)
    assert soft[0, 1] == pytest.approx(0.0610, abs=5e-5)
    np.testing.assert_array_equal(class_targets(3, one_hot=True), np.eye(3))


def test_adadelta_follows_the_recorded_run_of_the_published_code():
    path = FOLDER / "nalsm" / "readout_adadelta.npz"
    if not path.exists():
        pytest.skip(f"{path.name} of the published code is not at {path.parent}")
    recorded = np.load(path)
    mine = readout.adadelta_trajectory(recorded["counts"], recorded["labels"], passes=10)
    np.testing.assert_allclose(mine["W_after_step"], recorded["W_after_step"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(mine["b_after_step"], recorded["b_after_step"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(mine["acc_per_epoch_batch"], recorded["acc_per_epoch_batch"], rtol=0, atol=1e-12)


def test_fitting_with_batch_maximum_takes_the_same_steps_as_the_trajectory():
    settings = Adadelta(epochs=3, batch=100, batch_maximum=True, precision="float64")
    at_each_epoch = readout.adadelta_trajectory(
        TRAIN.counts.reshape(4, 100, -1), TRAIN.labels.reshape(4, 100), passes=3, n_classes=4
    )
    epochs = []
    fitted = fit_readout(settings, TRAIN, VALID, 4, seed=0, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2, 3]
    np.testing.assert_allclose(
        fitted.scorer.weights, at_each_epoch["W_after_step"][4 * fitted.epoch - 1], rtol=0, atol=1e-14
    )


def test_one_adadelta_step_is_the_textbook_formula():
    variables_after = readout.adadelta_trajectory(TRAIN.counts[None], TRAIN.labels[None], passes=1, n_classes=4)
    x = TRAIN.counts * batch_maximum_scales(TRAIN.counts, 400)[:, None]
    assert x.max() == pytest.approx(1.0)
    slope = x.T @ (0.25 - class_targets(4, False)[TRAIN.labels]) / 400
    change = np.sqrt(1e-8) / np.sqrt(0.05 * slope**2 + 1e-8) * slope
    np.testing.assert_allclose(variables_after["W_after_step"][0], -0.1 * change, rtol=1e-12)


def test_loss_gradient_agrees_with_finite_differences():
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(5, 4)), class_targets(4, False)[rng.integers(0, 4, 5)]
    _, slope = cross_entropy(scores, targets)
    for i, j in np.ndindex(scores.shape):
        nudge = np.zeros_like(scores)
        nudge[i, j] = 1e-5
        change = cross_entropy(scores + nudge, targets)[0] - cross_entropy(scores - nudge, targets)[0]
        assert slope[i, j] == pytest.approx(change / 2e-5, abs=1e-9)


def test_softmax_trains_on_standardised_features(monkeypatch):
    """The folded arithmetic of the fit against the same steps written out on explicit float64 features."""
    settings = Softmax(epochs=2, batch=150, l2=0.01)
    standard = Standard.of(TRAIN.counts)
    x = standard.standardised(TRAIN.counts)
    assert x.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert x.std() == pytest.approx(1)
    assert x.std(axis=0).std() > 0.05  # one global deviation, not one for each feature
    value, mean, square = [np.zeros(4), np.zeros((60, 4))], [0, 0], [0, 0]
    step, losses = 0, []
    for epoch in (1, 2):
        order = np.random.default_rng([7, epoch]).permutation(400)
        for index in (order[:150], order[150:300], order[300:]):
            loss, slope = cross_entropy(x[index] @ value[1] + value[0], class_targets(4, False)[TRAIN.labels[index]])
            losses.append(loss * len(index) / 400)
            rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * step / 6))
            step += 1
            for k, g in enumerate((slope.sum(0), x[index].T @ slope + 0.01 * value[1])):
                mean[k] = 0.9 * mean[k] + 0.1 * g
                square[k] = 0.999 * square[k] + 0.001 * g**2
                change = mean[k] / (1 - 0.9**step) / (np.sqrt(square[k] / (1 - 0.999**step)) + 1e-8)
                value[k] = value[k] - rate * change
    monkeypatch.setattr(linear, "SAVE_EVERY_S", 0.0)
    seen, saved = [], []
    fit_readout(settings, TRAIN, VALID, 4, 7, on_epoch=lambda _, metrics: seen.append(metrics), save=saved.append)
    assert seen[0]["train/loss"] == pytest.approx(sum(losses[:3]), abs=1e-6)
    assert seen[1]["train/loss"] == pytest.approx(sum(losses[3:]), abs=1e-6)
    np.testing.assert_allclose(saved[-1]["value_weights"], value[1], atol=1e-6)
    np.testing.assert_allclose(saved[-1]["value_bias"], value[0], atol=1e-6)


def test_folding_keeps_the_scores_of_standardised_features():
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(60, 4)), rng.normal(size=4)
    standard = Standard.of(TRAIN.counts)
    folded = LinearScorer.folded(weights, bias, standard)
    np.testing.assert_allclose(folded.scores(TEST.counts), standard.standardised(TEST.counts) @ weights + bias)


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_every_readout_learns_and_says_how_well(settings):
    seen = []
    fitted = fit_readout(settings, TRAIN, VALID, 4, seed=0, on_epoch=lambda epoch, metrics: seen.append(metrics))
    assert fitted.accuracy(TEST) > 0.9
    assert fitted.valid_accuracy == fitted.accuracy(VALID) == max(m["valid/accuracy"] for m in seen)


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_same_seed_same_readout(settings):
    first, again = (fit_readout(settings, TRAIN, VALID, 4, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.scores(TEST.counts), again.scores(TEST.counts))


@pytest.mark.parametrize("settings", BY_EPOCH, ids=name)
def test_epochs_run_on_one_blas_thread_whatever_is_allowed(settings):
    def blas():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    seen = []
    fit_readout(settings, TRAIN, VALID, 4, seed=5, threads=2, on_epoch=lambda *_: seen.extend(blas()))
    assert set(seen) == {1}


def test_threads_limit_the_solvers_of_scikit_learn():
    seen = []

    class Watches(Ridge):
        def fit(self, *data):
            seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return super().fit(*data)

    fit_readout(Watches(), TRAIN, VALID, 4, seed=5, threads=1)
    assert set(seen) == {1}


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_a_saved_readout_scores_as_the_fitted_one(settings):
    fitted = fit_readout(settings, TRAIN, VALID, 4, seed=0)
    restored = restore_readout(settings, fitted.arrays())
    np.testing.assert_array_equal(restored.scores(TEST.counts), fitted.scores(TEST.counts))
    assert (restored.epoch, restored.valid_accuracy) == (fitted.epoch, fitted.valid_accuracy)


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_silent_liquid_gives_chance_and_no_nan(settings):
    silent = Features(np.zeros_like(TRAIN.counts), TRAIN.labels)
    fitted = fit_readout(settings, silent, silent, 4, seed=0)
    assert np.isfinite(fitted.scores(silent.counts)).all()
    assert fitted.accuracy(silent) == 0.25
    assert readout.silent_samples(silent.counts) == 400


@pytest.mark.parametrize("settings", [*ALL, Adadelta(epochs=3, batch=50, batch_maximum=True)], ids=name)
def test_some_silent_samples_leave_the_others_as_good(settings):
    counts = TRAIN.counts.copy()
    counts[50:100] = 0  # a whole batch of the fixed order, and so a batch maximum of zero
    fitted = fit_readout(settings, Features(counts, TRAIN.labels), VALID, 4, seed=0)
    assert readout.silent_samples(counts) == 50
    assert fitted.accuracy(TEST) > 0.85


def test_batch_maximum_makes_a_score_depend_on_its_neighbours_and_the_default_does_not():
    for batch_maximum in (True, False):
        settings = Adadelta(epochs=3, batch=50, batch_maximum=batch_maximum)
        fitted = fit_readout(settings, TRAIN, VALID, 4, seed=0)
        alone, together = fitted.scores(TEST.counts[:1]), fitted.scores(TEST.counts)[:1]
        assert np.allclose(alone, together, rtol=1e-5, atol=1e-6) != batch_maximum


class Killed(Exception):
    """Stands for kill -9 right after a state was saved."""


@pytest.mark.parametrize("settings", BY_EPOCH, ids=name)
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(settings, monkeypatch):
    monkeypatch.setattr(linear, "SAVE_EVERY_S", 0.0)
    unbroken, resumed = [], []
    whole = fit_readout(settings, TRAIN, VALID, 4, seed=3, on_epoch=lambda *row: unbroken.append(row))
    saved = []

    def save(arrays):
        saved.append(arrays)
        if len(saved) == 4:
            raise Killed

    with pytest.raises(Killed):
        fit_readout(settings, TRAIN, VALID, 4, seed=3, save=save)
    fitted = fit_readout(settings, TRAIN, VALID, 4, seed=3, state=saved[-1], on_epoch=lambda *row: resumed.append(row))
    assert resumed == unbroken[4:]
    assert fitted.epoch == whole.epoch
    np.testing.assert_array_equal(fitted.scores(TEST.counts), whole.scores(TEST.counts))


def test_a_saved_state_does_not_change_while_training_goes_on(monkeypatch):
    monkeypatch.setattr(linear, "SAVE_EVERY_S", 0.0)
    saved = []
    fit_readout(BY_EPOCH[0], TRAIN, VALID, 4, seed=3, save=saved.append)
    assert not np.array_equal(saved[0]["value_weights"], saved[-1]["value_weights"])


def test_the_state_of_another_network_is_refused(monkeypatch):
    monkeypatch.setattr(linear, "SAVE_EVERY_S", 0.0)
    saved = []
    fit_readout(BY_EPOCH[0], TRAIN, VALID, 4, seed=3, save=saved.append)
    smaller = [Features(f.counts[:, :50], f.labels) for f in (TRAIN, VALID)]
    with pytest.raises(ValueError, match=r"no value_weights of shape \(50, 4\) float32"):
        fit_readout(BY_EPOCH[0], *smaller, 4, seed=3, state=saved[-1])


def scripted_epochs(accuracies):
    """A loop whose epoch k has validation accuracy accuracies[k - 1]; the scorer's bias tells which epoch it is."""
    valid = Features(np.ones((10, 1), np.uint16), np.zeros(10, np.int64))

    class Scripted(LinearScorer):
        def scores(self, counts):
            right = round(10 * accuracies[self.epoch - 1])
            return np.eye(2)[np.r_[np.zeros(right, int), np.ones(10 - right, int)]]

    def snapshot(epoch):
        return Scripted(np.zeros((1, 2)), np.full(2, float(epoch)), epoch=epoch)

    return linear.Epochs(len(accuracies), {}, lambda _: (0.0, 0.0), snapshot, np.eye(2)).run(valid)


def test_the_first_of_equally_good_epochs_is_chosen():
    assert scripted_epochs([0.5, 0.9, 0.9, 0.8]).epoch == 2


def test_the_last_epoch_takes_part_in_the_choice():
    assert scripted_epochs([0.5, 0.6, 0.9]).epoch == 3


def test_counts_may_be_a_read_only_memory_map(tmp_path):
    np.save(tmp_path / "counts.npy", TRAIN.counts)
    mapped = Features(np.load(tmp_path / "counts.npy", mmap_mode="r"), TRAIN.labels)
    for settings in ALL:
        expected = fit_readout(settings, TRAIN, VALID, 4, seed=0)
        assert np.array_equal(fit_readout(settings, mapped, VALID, 4, seed=0).predict(TEST.counts),
                              expected.predict(TEST.counts))  # fmt: skip


@pytest.mark.parametrize("settings", [Logistic(), Ridge()], ids=name)
def test_a_class_without_training_samples_is_never_predicted(settings):
    keep = TRAIN.labels != 2
    fitted = fit_readout(settings, Features(TRAIN.counts[keep], TRAIN.labels[keep]), VALID, 4, seed=0)
    assert set(fitted.predict(TEST.counts)) == {0, 1, 3}


def test_logistic_regression_of_two_classes_keeps_their_order():
    keep = [Features(f.counts[f.labels < 2], f.labels[f.labels < 2]) for f in (TRAIN, VALID)]
    assert fit_readout(Logistic(), *keep, 2, seed=0).valid_accuracy > 0.9


class NearestMean:
    """The least that a user's own readout must have."""

    def fit(self, train, valid, n_classes, seed):
        self.means = np.array([train.counts[train.labels == k].mean(axis=0) for k in range(n_classes)])
        return self

    def scores(self, counts):
        return -np.square(counts[:, None, :] - self.means).sum(axis=2)


def test_a_users_minimal_class_is_enough():
    fitted = fit_readout(NearestMean(), TRAIN, VALID, 4, seed=0, on_epoch=print, progress=print, state=None, save=print)
    assert fitted.valid_accuracy > 0.9
    assert fitted.epoch == 0
    with pytest.raises(ValueError, match=r"NearestMean has no arrays\(\) method"):
        fitted.arrays()
    with pytest.raises(ValueError, match=r"NearestMean has no restore\(arrays\) method"):
        restore_readout(NearestMean(), {})


def test_optional_keywords_reach_only_a_signature_that_names_them():
    class Asks(NearestMean):
        def fit(self, train, valid, n_classes, seed, *, progress):
            progress(1, 1)
            return super().fit(train, valid, n_classes, seed)

    calls = []
    fit_readout(Asks(), TRAIN, VALID, 4, seed=0, on_epoch=print, progress=lambda *done: calls.append(done))
    assert calls == [(1, 1)]


def test_scores_of_a_wrong_shape_or_not_finite_are_named():
    class Wrong(NearestMean):
        def scores(self, counts):
            return np.zeros(len(counts))

    class NotFinite(NearestMean):
        def scores(self, counts):
            return np.full((len(counts), 4), np.nan)

    with pytest.raises(ValueError, match=r"Wrong\.scores returned shape \(203,\), expected \(203, 4\)"):
        fit_readout(Wrong(), TRAIN, VALID, 4, seed=0)
    with pytest.raises(ValueError, match=r"NotFinite\.scores returned values that are not finite"):
        fit_readout(NotFinite(), TRAIN, VALID, 4, seed=0)


@pytest.mark.parametrize("settings", [Softmax(epochs=1), Adadelta(epochs=1, batch=250)], ids=name)
def test_memory_stays_flat_with_the_number_of_samples(settings, tmp_path):
    peaks = []
    for n in (4_000, 40_000):
        counts = np.lib.format.open_memmap(tmp_path / f"{n}.npy", "w+", np.uint16, (n, 100))
        counts[:] = np.random.default_rng(0).poisson(3, (n, 100))
        labels = np.arange(n) % 4
        tracemalloc.start()
        fit_readout(
            settings, Features(counts, labels), VALID._replace(counts=counts[:200], labels=labels[:200]), 4, seed=0
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 36_000 * 100 * 4 / 4  # a quarter of what single-precision features would take


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        (Features(VALID.counts[:0], VALID.labels[:0]), "there are no validation samples"),
        (Features(VALID.counts, VALID.labels + 1), r"validation labels span 1\.\.4, allowed 0\.\.3"),
        (Features(VALID.counts[:, :9], VALID.labels), "training samples have 60 features, validation samples 9"),
        (Features(VALID.counts[:9], VALID.labels), r"shape \(9, 60\) with labels of shape \(203,\)"),
        (Features(VALID.counts - 5.0, VALID.labels), "validation counts contain values that are negative"),
        (Features(VALID.counts * np.nan, VALID.labels), "negative or not a number"),
    ],
)
def test_features_that_do_not_fit_are_refused_in_one_line(valid, message):
    with pytest.raises(ValueError, match=message):
        fit_readout(Softmax(), TRAIN, valid, 4, seed=0)


def test_the_options_in_conf_are_the_defaults_of_their_classes():
    for path in sorted((ROOT / "conf/readout").glob("*.yaml")):
        text = path.read_text()
        assert text.startswith("# ")
        values = yaml.safe_load(text)
        if "defaults" in values:  # a variant of another option
            continue
        cls = getattr(readout, values.pop("_target_").removeprefix("lsm.readout."))
        assert set(values) == set(cls.__dataclass_fields__)
        assert cls(**values) == cls()


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": -1.0}, {"batch": "250"}, {"targets": "hard"}])
def test_values_out_of_range_are_refused(wrong):
    for cls in (Softmax, Adadelta):
        with pytest.raises(ValidationError):
            cls(**wrong)
