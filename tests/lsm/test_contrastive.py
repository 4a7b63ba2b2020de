"""Contrastive heads: losses against closed forms and gradients, what they learn, and going on after a kill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lsm import descent
from lsm.contrastive import Contrastive, info_nce_loss, multi_positive_loss, soft_loss
from lsm.descent import Best, Callbacks
from lsm.retrieval import Sense, chance, search_both, top1
from lsm.sources import Embed
from tests.lsm.two_senses import SEEN, UNSEEN, Problem, problem

LABELS = torch.tensor([[0, 1, 1, 2], [2, 2, 0, 0]])


def _orthogonal(n: int, length: float) -> Tensor:
    """`n` orthogonal vectors, as one replica."""
    return length * torch.eye(n, dtype=torch.float64)[None]


@pytest.mark.parametrize(("n", "length", "tau"), [(4, 1.0, 1.0), (8, 1.7, 0.5)])
def test_losses_of_orthogonal_pairs_have_closed_forms(n: int, length: float, tau: float) -> None:
    a = _orthogonal(n, length)
    z = np.exp(length**2 / tau)
    p, q = z / (z + n - 1), 1 / (z + n - 1)  # what the scores say
    assert info_nce_loss(a, a, 1 / tau).item() == pytest.approx(-np.log(p))
    s = np.exp(length**2 * tau)
    t, u = s / (s + n - 1), 1 / (s + n - 1)  # what the similarities within the senses say
    assert soft_loss(a, a, 1 / tau).item() == pytest.approx(-(t * np.log(p) + (n - 1) * u * np.log(q)))


def test_the_multi_positive_loss_spreads_its_target_over_the_class() -> None:
    # two classes of two, orthogonal: cosines 1 within and 0 between
    a = _orthogonal(2, 3.0).repeat_interleave(2, dim=1)
    labels = torch.tensor([[5, 5, 7, 7]])
    s = np.exp(1 / 0.3)
    assert multi_positive_loss(a, a, labels, 1 / 0.3).item() == pytest.approx(-np.log(s / (2 * s + 2)))
    one_class = torch.zeros(1, 4, dtype=torch.long)
    alike = torch.ones(1, 4, 6, dtype=torch.float64)
    assert multi_positive_loss(alike, alike, one_class).item() == pytest.approx(np.log(4))


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "soft": lambda a, b, s: soft_loss(a, b, s),
    "info_nce": lambda a, b, s: info_nce_loss(a, b, s),
    "multi_positive": lambda a, b, s: multi_positive_loss(a, b, LABELS, s),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.full((2, 1, 1), 1.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LOSSES[name], (a, b, scale))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_does_not_depend_on_order_senses_or_neighbours(name: str) -> None:
    torch.manual_seed(1)
    a, b = (torch.randn(2, 4, 3, dtype=torch.float64) for _ in range(2))
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    both = LOSSES[name](a, b, one)
    if name != "soft":  # its transposed targets are not normalised, so the senses do not play the same part
        assert torch.allclose(LOSSES[name](b, a, one), both)
    order = torch.tensor([2, 0, 3, 1])
    mixed = {
        "soft": soft_loss(a[:, order], b[:, order]),
        "info_nce": info_nce_loss(a[:, order], b[:, order]),
        "multi_positive": multi_positive_loss(a[:, order], b[:, order], LABELS[:, order]),
    }
    assert torch.allclose(mixed[name], both)
    alone = (
        multi_positive_loss(a[1:], b[1:], LABELS[1:])
        if name == "multi_positive"
        else LOSSES[name](a[1:], b[1:], one[1:])
    )
    assert torch.allclose(alone, both[1:])


def _head(a: Contrastive, variables: dict[str, Tensor], x: np.ndarray) -> np.ndarray:
    """The head "simple_clip" of one replica, in NumPy."""
    from scipy.special import erf

    v = {name.partition("/")[2]: t[0].double().numpy() for name, t in variables.items() if name.startswith("first/")}
    p = x @ v["w0"] + v["b0"]
    out = (0.5 * p * (1 + erf(p / 2**0.5))) @ v["w1"] + v["b1"] + p
    centred = out - out.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * v["gain"] + v["shift"]


def test_the_head_is_the_one_of_simple_clip() -> None:
    settings = Contrastive(dim=5)
    variables = settings.variables((7, 7), [0, 1])
    x = np.random.default_rng(0).standard_normal((4, 7))
    features = torch.from_numpy(x).float().expand(2, -1, -1)
    out = settings.project(variables, "first", features)
    assert np.allclose(out[0].numpy(), _head(settings, variables, x), atol=1e-5)
    assert not torch.allclose(out[0], out[1])
    linear = dataclasses.replace(settings, head="linear", activation="relu")
    v = linear.variables((7, 7), [0])
    plain = np.maximum(x @ v["first/w0"][0].numpy() + v["first/b0"][0].numpy(), 0)
    assert np.allclose(linear.project(v, "first", features[:1])[0].numpy(), plain, atol=1e-5)


def _score(p: Problem, settings: Contrastive, classes: tuple[int, ...] = SEEN) -> Callable[[Embed], dict[str, Any]]:
    def score(embed: Embed) -> dict[str, np.ndarray]:
        a, b = (embed(sense, source) for sense, source in zip(("first", "second"), p.test, strict=True))
        parts = [
            (Sense("a", x, p.labels).of(classes), Sense("b", y, p.labels).of(classes))
            for x, y in zip(a, b, strict=True)
        ]
        return {"seen": np.array([top1(x, y, settings.similarity) for x, y in parts])}

    return score


def _accuracies(p: Problem, settings: Contrastive, best: Best) -> np.ndarray:
    """`(n_replicas, 4)`: seen and unseen in both directions."""
    n = len(p.task.seeds)
    a = settings.embed(best.variables, "first", p.test[0], n)
    b = settings.embed(best.variables, "second", p.test[1], n)
    rows = []
    for x, y in zip(a, b, strict=True):
        both = search_both(Sense("a", x, p.labels), Sense("b", y, p.labels), SEEN, UNSEEN, settings.similarity)
        rows.append([found.accuracy.value for d in both for found in (d.seen, d.unseen)])
    return np.array(rows)


VARIANTS = {
    "soft": Contrastive(dim=16, epochs=25, batch=16, learning_rate=3e-3),
    "info_nce": Contrastive(dim=16, epochs=25, batch=16, learning_rate=3e-3, loss="info_nce", head="linear", layers=2),
    "multi_positive": Contrastive(
        dim=16, epochs=30, batch=32, learning_rate=3e-3, loss="multi_positive", temperature=0.3, similarity="cosine"
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_senses_with_shared_factors_are_found_seen_and_unseen(name: str) -> None:
    p, settings = problem(), VARIANTS[name]
    best = settings.fit(p.task, _score(p, settings))["seen"]
    assert _accuracies(p, settings, best).min() > 0.6  # chance: 1/6 and 1/3


def test_without_shared_factors_only_seen_classes_are_found() -> None:
    p, settings = problem(seeds=(0, 1, 2, 3), shared=False), VARIANTS["soft"]
    found = _accuracies(p, settings, settings.fit(p.task, _score(p, settings))["seen"])
    assert found[:, ::2].min() > 0.6
    assert abs(found[:, 1::2].mean() - 1 / 3) < 0.2


def test_untrained_heads_find_by_chance() -> None:
    seeds = tuple(range(12))
    p, settings = problem(seeds), Contrastive(dim=16)
    variables = settings.variables(p.task.n_features, seeds)
    best = Best(variables, np.zeros(12, np.int64), np.zeros(12))
    found = _accuracies(p, settings, best).mean(axis=0)
    assert found == pytest.approx([1 / 6, 1 / 3, 1 / 6, 1 / 3], abs=0.1)
    assert chance(np.array(SEEN), np.array(SEEN)) == pytest.approx(1 / 6)


def test_a_learned_temperature_moves_and_a_given_one_stays() -> None:
    p, settings = problem(seeds=(0,)), dataclasses.replace(VARIANTS["multi_positive"], epochs=3)
    best = settings.fit(p.task, _score(p, settings))["seen"]
    assert best.variables["log_scale"].shape == (1, 1, 1)
    assert abs(best.variables["log_scale"].item() + np.log(0.3)) > 1e-3
    fixed = dataclasses.replace(settings, learn_temperature=False)
    assert "log_scale" not in fixed.fit(p.task, _score(p, fixed))["seen"].variables


def test_a_seed_learns_the_same_alone_and_in_company() -> None:
    together, settings = problem(seeds=(3, 5)), dataclasses.replace(VARIANTS["soft"], epochs=2)
    both = settings.fit(together.task, _score(together, settings))["seen"]
    first, second = (
        dataclasses.replace(source, counts=source.counts[1:], offset=source.offset[1:], factor=source.factor[1:])
        for source in (together.task.first, together.task.second)
    )
    task = dataclasses.replace(together.task, first=first, second=second, seeds=[5])
    test = tuple(
        dataclasses.replace(t, counts=t.counts[1:], offset=t.offset[1:], factor=t.factor[1:]) for t in together.test
    )
    alone = settings.fit(task, _score(Problem(task, (test[0], test[1]), together.labels), settings))["seen"]
    for name, value in alone.variables.items():
        assert torch.allclose(value[0], both.variables[name][1], atol=1e-5), name


class Killed(Exception):
    """Stands for a kill."""


def test_a_killed_training_goes_on_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "SAVE_EVERY_S", 0.0)
    p = problem()
    settings = dataclasses.replace(VARIANTS["multi_positive"], epochs=6)
    whole = settings.fit(p.task, _score(p, settings))["seen"]
    saved: list[dict[str, np.ndarray]] = []

    def save(arrays: dict[str, np.ndarray]) -> None:
        saved.append({name: value.copy() for name, value in arrays.items()})
        if len(saved) == 3:
            raise Killed

    with pytest.raises(Killed):
        settings.fit(p.task, _score(p, settings), Callbacks(save=save))
    epochs: list[int] = []
    calls = Callbacks(on_epoch=lambda epoch, losses, scores: epochs.append(epoch), state=saved[-1])
    rest = settings.fit(p.task, _score(p, settings), calls)["seen"]
    assert epochs == [4, 5, 6]
    assert np.array_equal(rest.epoch, whole.epoch) and np.array_equal(rest.score, whole.score)
    assert all(torch.equal(rest.variables[name], whole.variables[name]) for name in whole.variables)
    with pytest.raises(ValueError, match="the saved state has no value/first/w0"):
        other = dataclasses.replace(settings, dim=8)
        other.fit(p.task, _score(p, other), Callbacks(state=saved[-1]))


def test_the_first_or_the_last_of_equal_epochs_is_kept() -> None:
    p, settings = problem(seeds=(0, 1)), Contrastive(dim=4, epochs=4, batch=60)
    given = iter([0.1, 0.5, 0.5, 0.2] * 2)

    def score(embed: Embed) -> dict[str, np.ndarray]:
        return {"rule": np.full(2, next(given))}

    assert settings.fit(p.task, score)["rule"].epoch.tolist() == [2, 2]
    assert settings.fit(p.task, score, latest=True)["rule"].epoch.tolist() == [3, 3]


def test_training_without_pairs_is_refused() -> None:
    p = problem(seeds=(0,))
    with pytest.raises(ValueError, match="there are no training pairs"):
        Contrastive().fit(dataclasses.replace(p.task, pairs=np.zeros((0, 2), np.int64)), _score(p, Contrastive()))


def test_a_loss_that_is_not_finite_is_told() -> None:
    p = problem(seeds=(0,))
    settings = Contrastive(dim=4, epochs=2, temperature=1e-42, head="linear")
    with pytest.raises(FloatingPointError, match="not finite in epoch 1"):
        settings.fit(p.task, _score(p, settings))
