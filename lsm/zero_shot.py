"""What is asked of two senses that have learned to find each other, and by what an epoch of their training is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsm.datasets.pairs import PairedDataset
from lsm.retrieval import Direction, Sense, Similarity, search_both, top1
from lsm.sources import SENSES, Embed, Score, Source, Task

VALID = "valid/accuracy"
PARTS = ("train", "valid", "test")
Sources = Mapping[str, tuple[Source, Source]]
Thresholds = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Trial:
    """The samples of a pair and how they are searched."""

    pair: PairedDataset
    similarity: Similarity

    def labels(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Classes of a part, of the first and of the second sense."""
        return getattr(self.pair.first, part).labels, getattr(self.pair.second, part).labels

    @property
    def published_rules(self) -> tuple[str, str]:
        """Names of the choices of the published protocol: one for each direction."""
        a, b = self.pair.modalities
        return f"published/{a}_to_{b}", f"published/{b}_to_{a}"

    def training(self, sources: Sources, seeds: list[int]) -> Task:
        """The training part as a learner wants it."""
        first, second = sources["train"]
        return Task(first, second, self.labels("train"), self.pair.train_pairs, seeds)

    def published_queries(self, sources: Sources, seeds: list[int]) -> Task:
        """Seen test samples, as many of a class as there are training samples: the published queries of prototypes."""
        taken, labels = [], []
        for source, train, test in zip(sources["test"], self.labels("train"), self.labels("test"), strict=True):
            index = np.concatenate([np.flatnonzero(test == c)[: np.sum(train == c)] for c in self.pair.seen])
            taken.append(source.take(index))
            labels.append(test[index])
        return Task(taken[0], taken[1], (labels[0], labels[1]), np.zeros((0, 2), np.int64), seeds)

    def embedded(self, part: str, sources: Sources, embed: Embed) -> list[tuple[Sense, Sense]]:
        """Both senses of a part as every replica sees them."""
        (a, b), (of_a, of_b) = self.pair.modalities, self.labels(part)
        vectors = [embed(sense, source) for sense, source in zip(SENSES, sources[part], strict=True)]
        return [(Sense(a, x, of_a), Sense(b, y, of_b)) for x, y in zip(vectors[0], vectors[1], strict=True)]

    def by_validation(self, sources: Sources) -> Score:
        """The honest choice: share of right finds among validation samples of seen classes, mean of both directions."""

        def score(embed: Embed) -> dict[str, NDArray[np.float64]]:
            senses = self.embedded("valid", sources, embed)
            return {VALID: np.array([self._both_ways(a, b) for a, b in senses])}

        return score

    def _both_ways(self, a: Sense, b: Sense) -> float:
        return (top1(a, b, self.similarity) + top1(b, a, self.similarity)) / 2

    def as_published(self, sources: Sources, thresholds: Thresholds) -> Score:
        """The published choice, on the test part: for each direction its share on seen classes.

        Epochs whose shares on seen and unseen classes reach the two thresholds of the direction get 1 more, so that they
        come before all others.
        """

        def share(query: Sense, gallery: Sense, least: tuple[float, float]) -> float:
            groups = (self.pair.seen, self.pair.unseen)
            seen, unseen = (top1(query.of(c), gallery.of(c), self.similarity) for c in groups)
            return seen + float(seen >= least[0] and unseen >= least[1])

        def score(embed: Embed) -> dict[str, NDArray[np.float64]]:
            senses = self.embedded("test", sources, embed)
            there = np.array([share(a, b, thresholds[0]) for a, b in senses])
            back = np.array([share(b, a, thresholds[1]) for a, b in senses])
            return dict(zip(self.published_rules, (there, back), strict=True))

        return score

    def searched(self, a: Sense, b: Sense) -> tuple[Direction, Direction]:
        """All searches among the test samples, in both directions."""
        return search_both(a, b, self.pair.seen, self.pair.unseen, self.similarity)
