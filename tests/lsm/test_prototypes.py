"""Prototypical networks: their parts against closed forms, where gradients come from, what they learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lsm.descent import Callbacks
from lsm.prototypes import Prototypes, by_class, distances, halves, prototypes
from lsm.retrieval import Sense, search_both, top1
from lsm.sources import Embed
from tests.lsm.two_senses import SEEN, UNSEEN, Problem, problem

SETTINGS = Prototypes(dim=16, epochs=60, learning_rate=2e-2)


def _score(p: Problem) -> object:
    def score(embed: Embed) -> dict[str, np.ndarray]:
        a, b = (embed(sense, source) for sense, source in zip(("first", "second"), p.test, strict=True))
        parts = [
            (Sense("a", x, p.labels).of(SEEN), Sense("b", y, p.labels).of(SEEN)) for x, y in zip(a, b, strict=True)
        ]
        return {"seen": np.array([top1(x, y, "cosine") for x, y in parts])}

    return score


def test_a_prototype_is_the_mean_of_its_class_and_the_loss_follows() -> None:
    support = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [5.0, 1.0]]], dtype=torch.float64)
    classes, means = prototypes(support, torch.tensor([[4, 4, 9]]))
    assert classes.tolist() == [4, 9] and means.tolist() == [[[1.0, 0.0], [5.0, 1.0]]]
    queries = torch.tensor([[[1.0, 1.0], [5.0, 3.0]]], dtype=torch.float64)
    assert distances(queries, means, "squared_euclidean").tolist() == [[[1.0, 16.0], [25.0, 4.0]]]
    assert distances(queries, means, "euclidean")[0].numpy() == pytest.approx(np.array([[1, 4], [5, 2]]))
    loss = Prototypes().loss_of(support, torch.tensor([[4, 4, 9]]), queries, torch.tensor([[4, 4]]))
    wanted = np.mean([np.log(1 + np.exp(1 - 16)), np.log(1 + np.exp(25 - 4))])
    assert loss.item() == pytest.approx(wanted)


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    support, queries = (torch.randn(2, n, 3, dtype=torch.float64, requires_grad=True) for n in (6, 4))
    labels, asked = torch.tensor([[0, 0, 1, 1, 2, 2]] * 2), torch.tensor([[0, 1, 2, 2]] * 2)
    for distance in ("squared_euclidean", "euclidean"):
        settings = Prototypes(distance=distance)
        assert torch.autograd.gradcheck(lambda s, q, p=settings: p.loss_of(s, labels, q, asked), (support, queries))


def test_halves_share_out_every_class() -> None:
    labels = np.array([3, 1, 3, 3, 1, 1, 1, 3, 3])
    first, second = halves(labels, np.random.default_rng(0))
    assert sorted(np.concatenate([*first, *second]).tolist()) == list(range(9))
    assert [(len(a), len(b)) for a, b in zip(first, second, strict=True)] == [(2, 2), (3, 2)]
    for half in (first, second):
        assert [set(labels[m].tolist()) for m in half] == [{1}, {3}]
    assert [m.tolist() for m in by_class(labels)] == [[1, 4, 5, 6], [0, 2, 3, 7, 8]]


@pytest.mark.parametrize("batch", [None, 30])
def test_prototypes_find_seen_and_unseen_classes(batch: int | None) -> None:
    p, settings = problem(), dataclasses.replace(SETTINGS, batch=batch, epochs=60 if batch is None else 15)
    best = settings.fit(p.task, _score(p))["seen"]
    a, b = (settings.embed(best.variables, s, t, 2) for s, t in zip(("first", "second"), p.test, strict=True))
    for x, y in zip(a, b, strict=True):
        for d in search_both(Sense("a", x, p.labels), Sense("b", y, p.labels), SEEN, UNSEEN, "cosine"):
            assert d.seen.accuracy.value > 0.6 and d.unseen.accuracy.value > 0.55  # chance: 1/6 and 1/3


def test_queries_from_elsewhere_give_gradients_only_where_asked_for() -> None:
    p = problem(seeds=(0,))
    few = np.flatnonzero(np.isin(p.labels, SEEN))
    queries = dataclasses.replace(
        p.task, first=p.test[0].take(few), second=p.test[1].take(few), labels=(p.labels[few], p.labels[few])
    )
    settings = dataclasses.replace(SETTINGS, epochs=2)
    own, published, again = (settings.fit(p.task, _score(p), queries=q)["seen"] for q in (None, queries, None))
    assert torch.equal(own.variables["first/w0"], again.variables["first/w0"])
    assert not torch.equal(own.variables["first/w0"], published.variables["first/w0"])


def test_a_killed_training_goes_on_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsm.descent.SAVE_EVERY_S", 0.0)
    p, settings = problem(), dataclasses.replace(SETTINGS, epochs=5)
    saved: list[dict[str, np.ndarray]] = []
    whole = settings.fit(p.task, _score(p), Callbacks(save=lambda a: saved.append({k: v.copy() for k, v in a.items()})))
    rest = settings.fit(p.task, _score(p), Callbacks(state=saved[1]))
    assert torch.equal(rest["seen"].variables["second/w0"], whole["seen"].variables["second/w0"])
    assert np.array_equal(rest["seen"].score, whole["seen"].score)


def test_a_class_of_one_sample_or_without_support_is_refused() -> None:
    p = problem(seeds=(0,))
    single = p.task.labels[0].copy()
    single[0] = 77
    with pytest.raises(ValueError, match="class 77 needs two training samples or more"):
        SETTINGS.fit(dataclasses.replace(p.task, labels=(single, p.task.labels[1])), _score(p))
    strange = dataclasses.replace(p.task, labels=(single, p.task.labels[1]))
    with pytest.raises(ValueError, match="class 77 of the queries has no support"):
        SETTINGS.fit(p.task, _score(p), queries=strange)
