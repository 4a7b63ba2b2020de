"""The linear probe: torch's Adam and AdamW step by step, rates instead of shares, its learning rate on small sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lsm.readout import Features, LinearProbe, Softmax, fit_readout, restore_readout

RNG = np.random.default_rng(0)
N_FEATURES, N_CLASSES = 12, 3
CENTRES = RNG.uniform(0, 20, (N_CLASSES, N_FEATURES))


def _features(n: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_CLASSES, n)
    return Features(rng.poisson(CENTRES[labels]).astype(np.uint16), labels)


TRAIN, VALID = _features(60, 1), _features(40, 2)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_torch(decay: float) -> None:
    """Same start, same batches in order: the weights after 20 epochs agree to single precision."""
    probe = LinearProbe(epochs=20, batch=25, learning_rate=3e-3, weight_decay=decay, shuffle=False)
    states: list[dict] = []
    one = LinearProbe(epochs=1, batch=25, learning_rate=1e-30, shuffle=False)
    start = one.fit(TRAIN, VALID, N_CLASSES, 7, window=50.0)  # so slow that it is still at its start
    layer = torch.nn.Linear(N_FEATURES, N_CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy((start.weights * 50).T.copy()))
        layer.bias.copy_(torch.from_numpy(start.bias))
    optimiser = torch.optim.AdamW(layer.parameters(), lr=3e-3, weight_decay=decay)
    rates = torch.from_numpy(TRAIN.counts.astype(np.float32) / 50)
    labels = torch.from_numpy(TRAIN.labels)
    losses = []
    for _ in range(20):
        total = 0.0
        for first in range(0, 60, 25):
            part = slice(first, first + 25)
            loss = torch.nn.functional.cross_entropy(layer(rates[part]), labels[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(labels[part])
        losses.append(total / 60)
    fitted = probe.fit(
        TRAIN, VALID, N_CLASSES, 7, window=50.0, on_epoch=lambda e, values: states.append({"epoch": e, **values})
    )
    np.testing.assert_allclose([s["train/loss"] for s in states], losses, rtol=1e-4)
    assert fitted.epoch == 1 + int(np.argmax([s["valid/accuracy"] for s in states]))


def test_a_score_follows_the_rate_not_the_share() -> None:
    fitted = fit_readout(LinearProbe(epochs=5), TRAIN, VALID, N_CLASSES, 0, window=50.0)
    counts = VALID.counts[:5]
    bias = fitted.scores(np.zeros((1, N_FEATURES)))
    np.testing.assert_allclose(
        fitted.scores(3 * counts) - bias, 3 * (fitted.scores(counts) - bias), rtol=1e-5, atol=1e-6
    )
    shares = fit_readout(Softmax(epochs=5), TRAIN, VALID, N_CLASSES, 0)
    np.testing.assert_allclose(shares.scores(3 * counts), shares.scores(counts), rtol=1e-5, atol=1e-6)


def test_the_window_scales_what_is_learnt_and_not_what_is_said() -> None:
    """Twice the counts over twice the window are the same rates."""
    double = [Features(2 * f.counts, f.labels) for f in (TRAIN, VALID)]
    ours = fit_readout(LinearProbe(epochs=8), TRAIN, VALID, N_CLASSES, 0, window=50.0)
    same = fit_readout(LinearProbe(epochs=8), *double, N_CLASSES, 0, window=100.0)
    np.testing.assert_allclose(ours.scores(VALID.counts), same.scores(double[1].counts), rtol=1e-4, atol=1e-5)


def test_a_small_set_gets_a_larger_learning_rate_and_the_whole_set_the_published_one() -> None:
    probe = LinearProbe()
    assert probe.rate(50_000) == 1e-4 and probe.rate(60_000) == 1e-4
    assert probe.rate(5_000) == pytest.approx(1e-3) and probe.rate(60) == pytest.approx(1e-2)
    assert LinearProbe(learning_rate=6e-4).rate(60) == 6e-4


def test_it_learns_what_can_be_learnt_and_is_stored_whole() -> None:
    fitted = fit_readout(LinearProbe(), TRAIN, VALID, N_CLASSES, 0, window=50.0)
    assert fitted.valid_accuracy > 0.9
    again = restore_readout(LinearProbe(), fitted.arrays())
    np.testing.assert_array_equal(again.scores(VALID.counts), fitted.scores(VALID.counts))


def test_an_interrupted_fit_ends_with_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import lsm.readout.linear

    monkeypatch.setattr(lsm.readout.linear, "SAVE_EVERY_S", 0.0)
    kept: list[dict] = []
    probe = LinearProbe(epochs=9, batch=13)
    whole = probe.fit(TRAIN, VALID, N_CLASSES, 3, window=50.0, save=kept.append)
    resumed = probe.fit(TRAIN, VALID, N_CLASSES, 3, window=50.0, state=kept[3])
    assert int(kept[3]["epoch"]) == 4
    np.testing.assert_array_equal(resumed.weights, whole.weights)
