"""Prototypical networks of two senses: one linear map for each, classes as the mean of what belongs to them.

    z = W_sense f        prototype_k = mean of z over all support samples of class k, both senses
    score of query q and class k = -|z_q - prototype_k|^2            loss: cross-entropy, mean over the queries

The published variant takes its seen-class queries, and so gradients, from the test part. By default half of the training
samples of each class, drawn anew in each epoch, are queries and the other half is the support. A search uses the cosine of
embeddings, no prototypes, and the galleries of every other model.
Source: Snell et al. 2017 for the method; Lin et al. 2025 (Nat. Comput. Sci. 5:37) and its code for this use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from lsm.descent import Best, Callbacks, Descent, Scores, Variables
from lsm.retrieval import Similarity
from lsm.sources import SENSES, Score, Source, Task, embed_all
from lsm.streams import generator

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Halves = tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]
Groups = list[NDArray[np.int64]]


@dataclass(frozen=True, config=STRICT)
class Prototypes:
    """Maps, distance and training; raises pydantic's `ValidationError` on a bad value."""

    dim: Annotated[int, Field(ge=1, le=65_536, description="width of the common space")] = 64
    distance: Literal["squared_euclidean", "euclidean"] = "squared_euclidean"
    similarity: Annotated[Similarity, Field(description="of a search")] = "cosine"
    standardise: Annotated[bool, Field(description="centre and scale features; false as published")] = True
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    batch: Annotated[int | None, Field(ge=2, description="samples of each sense a step; null = all")] = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3

    def variables(self, n_features: tuple[int, int], seeds: Sequence[int]) -> Variables:
        """Fresh maps of both senses, stacked over the seeds: uniform in +-1/sqrt(fan in), as torch's Linear."""
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for seed in seeds:
            rng = generator(seed, "heads")
            for sense, width in zip(SENSES, n_features, strict=True):
                bound = width**-0.5
                weights, bias = rng.uniform(-bound, bound, (width, self.dim)), rng.uniform(-bound, bound, (1, self.dim))
                parts.setdefault(f"{sense}/w0", []).append(weights.astype(np.float32))
                parts.setdefault(f"{sense}/b0", []).append(bias.astype(np.float32))
        return {name: torch.from_numpy(np.stack(arrays)) for name, arrays in parts.items()}

    def project(self, variables: Mapping[str, Tensor], sense: str, features: Tensor) -> Tensor:
        """Embeddings `(s, n, dim)` of features `(s, n, n_features)`."""
        return torch.baddbmm(variables[f"{sense}/b0"], features, variables[f"{sense}/w0"])

    def embed(
        self, variables: Mapping[str, Tensor], sense: str, source: Source, n_replicas: int
    ) -> NDArray[np.float32]:
        """Embeddings `(n_replicas, n_samples, dim)` of all samples of a source."""
        return embed_all(lambda f: self.project(variables, sense, f), source, variables, n_replicas)

    def loss_of(self, support: Tensor, support_labels: Tensor, queries: Tensor, query_labels: Tensor) -> Tensor:
        """Loss `(s,)` of embedded support and queries `(s, n, dim)` of both senses, classes `(s, n)`."""
        classes, means = prototypes(support, support_labels)
        wanted = torch.searchsorted(classes, query_labels)
        scores = -distances(queries, means, self.distance)
        return F.cross_entropy(scores.mT, wanted, reduction="none").mean(dim=1)

    def fit(
        self,
        task: Task,
        score: Score,
        callbacks: Callbacks | None = None,
        latest: bool = False,
        queries: Task | None = None,
    ) -> dict[str, Best]:
        """Train the maps, and whatever variables the sources bring; the best epoch of each rule of `score`.

        `queries` (the published variant) are samples apart from the support, only their sources and labels are used;
        without them halves of the training samples of each class take turns. `score` as for `Contrastive.fit`.
        Raises `ValueError` where a class has a single sample in one sense, or a query class no support.
        """
        for labels, other in zip(task.labels, queries.labels if queries else (None, None), strict=True):
            _check(labels, other)
        n = len(task.seeds)
        variables = self.variables(task.n_features, task.seeds)
        for _, source in task.sources():
            variables |= source.variables

        def embedded(of: Task, index: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
            parts = zip(of.sources(), of.labels, index, strict=True)
            z, c = [], []
            for (sense, source), labels, rows in parts:
                z.append(self.project(variables, sense, source.features(variables, rows)))
                c.append(torch.from_numpy(labels[rows]))
            return torch.cat(z, dim=1), torch.cat(c, dim=1)

        def loss(halves: Halves) -> Tensor:
            return self.loss_of(*embedded(task, halves[0]), *embedded(queries or task, halves[1]))

        def scores(epoch: int) -> Scores:
            return score(lambda sense, source: self.embed(variables, sense, source, n))

        def batches(epoch: int) -> Iterator[Halves]:
            return self._batches(task, queries, epoch)

        return Descent(variables, n, self.epochs, self.learning_rate, batches, loss, scores, latest).run(callbacks)

    def _batches(self, task: Task, queries: Task | None, epoch: int) -> Iterator[Halves]:
        """Support and queries of each sense `(n_replicas, n)`; those of a seed do not depend on the other seeds."""
        groups: dict[int, list[list[Groups]]] = {0: [], 1: []}  # support and queries: sense, replica, class
        for k, labels in enumerate(task.labels):
            if queries is not None:
                for half, of in enumerate((labels, queries.labels[k])):
                    groups[half].append([by_class(of)] * len(task.seeds))
            else:
                drawn = [halves(labels, generator(s, f"halves {k} {epoch}")) for s in task.seeds]
                for half in (0, 1):
                    groups[half].append([pair[half] for pair in drawn])
        for step in range(self._steps(groups)):
            support, asked = ([_step(sense, step, self._steps(groups)) for sense in groups[half]] for half in (0, 1))
            yield support, asked

    def _steps(self, groups: dict[int, list[list[Groups]]]) -> int:
        """Steps of an epoch: as many as `batch` asks for, as long as each has every class."""
        first = [sense[0] for half in groups.values() for sense in half]
        largest = max(sum(map(len, of)) for of in first)
        wanted = 1 if self.batch is None else -(-largest // self.batch)
        return min(wanted, *(len(members) for of in first for members in of))


def prototypes(support: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Classes `(k,)`, ascending, and the mean `(s, k, dim)` of the support `(s, n, dim)` of each; labels `(s, n)`."""
    classes = torch.unique(labels)
    member = (labels[:, None, :] == classes[None, :, None]).to(support.dtype)
    return classes, torch.bmm(member, support) / member.sum(dim=2, keepdim=True)


def distances(queries: Tensor, means: Tensor, kind: str) -> Tensor:
    """`(s, n, k)` distances of queries `(s, n, dim)` from means `(s, k, dim)`, squared unless `kind` is "euclidean"."""
    square = (queries**2).sum(dim=2)[:, :, None] - 2 * torch.bmm(queries, means.mT) + (means**2).sum(dim=2)[:, None, :]
    return square.clamp_min(1e-12).sqrt() if kind == "euclidean" else square


def _check(labels: NDArray[np.int64], queries: NDArray[np.int64] | None) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    if queries is not None:
        if strange := set(np.unique(queries).tolist()) - set(classes.tolist()):
            raise ValueError(f"class {min(strange)} of the queries has no support")
    elif not len(classes) or counts.min() < 2:
        short = classes[counts.argmin()] if len(classes) else "?"
        raise ValueError(f"class {short} needs two training samples or more: one for the support, one to ask for")


def by_class(labels: NDArray[np.int64]) -> Groups:
    """Positions of the samples of each class."""
    return [np.flatnonzero(labels == c) for c in np.unique(labels)]


def halves(labels: NDArray[np.int64], rng: np.random.Generator) -> tuple[Groups, Groups]:
    """Two halves of the samples of each class, by chance; the first one is larger where their number is odd."""
    mixed = [rng.permutation(members) for members in by_class(labels)]
    return [m[: -(-len(m) // 2)] for m in mixed], [m[-(-len(m) // 2) :] for m in mixed]


def _step(replicas: list[Groups], step: int, steps: int) -> NDArray[np.int64]:
    """The share of one step in the samples of every class, for each replica."""
    return np.stack([np.concatenate([np.array_split(m, steps)[step] for m in groups]) for groups in replicas])
