"""Contrastive learning of two senses: a projection head for each, so that what belongs together comes to lie together.

    p = linear(f)        h = linear(act(p))        out = layer_norm(dropout(h) + p)             head "simple_clip"
    out = act(linear(f))                                                                        head "linear"

The losses compare a batch of embeddings A of the first sense with B of the second; row i of both is one pair:

| loss | scores | target of query i |
|---|---|---|
| soft | A B^T / tau | softmax((A A^T + B B^T) tau / 2): who is alike within the senses |
| info_nce | A B^T / tau | its own partner alone |
| multi_positive | cos(A, B) / tau | uniform over all partners of its class |

each the mean cross-entropy of rows and columns. Heads of several replicas are trained at once (see `descent`).
Source: Lin et al. 2025 (Nat. Comput. Sci. 5:37) after "Simple CLIP"; its loss and head modules are not public, so these
are their most likely forms, with the alternatives beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from lsm.descent import Best, Callbacks, Descent, Scores, Variables, shuffled
from lsm.retrieval import Similarity
from lsm.sources import SENSES, Score, Source, Task, embed_all
from lsm.streams import generator

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh
}  # fmt: skip
Batch = tuple[NDArray[np.int64], list[Tensor]]


@dataclass(frozen=True, config=STRICT)
class Contrastive:
    """Heads, loss and training; raises pydantic's `ValidationError` on a bad value."""

    dim: Annotated[int, Field(ge=1, le=65_536, description="width of the common space")] = 64
    head: Annotated[Literal["simple_clip", "linear"], Field(description="form of the projection head")] = "simple_clip"
    layers: Annotated[int, Field(ge=1, le=3, description="hidden maps of simple_clip, maps of linear")] = 1
    activation: Literal["gelu", "relu", "sigmoid", "tanh"] = "gelu"
    dropout: Annotated[float, Field(ge=0, lt=1, description="in the head simple_clip")] = 0.1
    loss: Literal["soft", "info_nce", "multi_positive"] = "soft"
    temperature: Annotated[float, Field(gt=0, description="tau; where it is learned its first value")] = 1.0
    learn_temperature: Annotated[bool | None, Field(description="null = with multi_positive")] = None
    similarity: Annotated[Similarity, Field(description="of a search")] = "dot"
    standardise: Annotated[bool, Field(description="centre and scale features; false as published")] = True
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    batch: Annotated[int, Field(ge=2, description="pairs a step")] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3

    @property
    def learns_temperature(self) -> bool:
        """Whether tau is a variable."""
        return self.loss == "multi_positive" if self.learn_temperature is None else self.learn_temperature

    # --- variables and their use

    def variables(self, n_features: tuple[int, int], seeds: Sequence[int]) -> Variables:
        """Fresh heads for both senses, stacked over the seeds: uniform in +-1/sqrt(fan in), as torch's Linear."""
        parts: dict[str, list[NDArray[np.float32]]] = {}
        for seed in seeds:
            rng = generator(seed, "heads")
            for sense, width in zip(SENSES, n_features, strict=True):
                fans = [width] + [self.dim] * (self.layers if self.head == "simple_clip" else self.layers - 1)
                for k, fan in enumerate(fans):
                    bound = fan**-0.5
                    weights = rng.uniform(-bound, bound, (fan, self.dim))
                    parts.setdefault(f"{sense}/w{k}", []).append(weights.astype(np.float32))
                    bias = rng.uniform(-bound, bound, (1, self.dim))
                    parts.setdefault(f"{sense}/b{k}", []).append(bias.astype(np.float32))
                if self.head == "simple_clip":
                    parts.setdefault(f"{sense}/gain", []).append(np.ones((1, self.dim), np.float32))
                    parts.setdefault(f"{sense}/shift", []).append(np.zeros((1, self.dim), np.float32))
            if self.learns_temperature:
                parts.setdefault("log_scale", []).append(np.full((1, 1), -np.log(self.temperature), np.float32))
        return {name: torch.from_numpy(np.stack(arrays)) for name, arrays in parts.items()}

    def project(
        self, variables: Mapping[str, Tensor], sense: str, features: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Embeddings `(s, n, dim)` of features `(s, n, n_features)`; `kept` `(s, n, dim)` is what dropout leaves."""
        act = ACTIVATIONS[self.activation]

        def linear(k: int, x: Tensor) -> Tensor:
            return torch.baddbmm(variables[f"{sense}/b{k}"], x, variables[f"{sense}/w{k}"])

        out = linear(0, features)
        if self.head == "linear":
            out = act(out)
            for k in range(1, self.layers):
                out = act(linear(k, out))
            return out
        hidden = out
        for k in range(1, self.layers + 1):
            hidden = linear(k, act(hidden))
        if kept is not None:
            hidden = hidden * kept
        normal = F.layer_norm(hidden + out, (self.dim,))
        return normal * variables[f"{sense}/gain"] + variables[f"{sense}/shift"]

    def embed(
        self, variables: Mapping[str, Tensor], sense: str, source: Source, n_replicas: int
    ) -> NDArray[np.float32]:
        """Embeddings `(n_replicas, n_samples, dim)` of all samples of a source, without dropout."""
        return embed_all(lambda f: self.project(variables, sense, f), source, variables, n_replicas)

    def loss_of(self, variables: Mapping[str, Tensor], a: Tensor, b: Tensor, labels: Tensor) -> Tensor:
        """Loss `(s,)` of embeddings `(s, n, dim)` of n pairs with classes `labels` `(s, n)`."""
        inverse = variables["log_scale"].exp() if self.learns_temperature else 1 / self.temperature
        if self.loss == "soft":
            return soft_loss(a, b, inverse)
        return info_nce_loss(a, b, inverse) if self.loss == "info_nce" else multi_positive_loss(a, b, labels, inverse)

    # --- training

    def fit(
        self,
        task: Task,
        score: Score,
        callbacks: Callbacks | None = None,
        latest: bool = False,
        queries: Task | None = None,
    ) -> dict[str, Best]:
        """Train the heads, and whatever variables the sources bring; the best epoch of each rule of `score`.

        `score(embed)` is called after each epoch; `embed(sense, source)` gives it embeddings `(s, n, dim)`. `queries` has
        no meaning here. Raises `ValueError` without pairs, or where a saved state does not fit.
        """
        if not len(task.pairs):
            raise ValueError("there are no training pairs")
        n = len(task.seeds)
        variables = self.variables(task.n_features, task.seeds)
        for _, source in task.sources():
            variables |= source.variables

        def loss(batch: Batch) -> Tensor:
            index, kept = batch
            out = [
                self.project(
                    variables, sense, source.features(variables, task.pairs[index, k]), kept[k] if kept else None
                )
                for k, (sense, source) in enumerate(task.sources())
            ]
            labels = torch.from_numpy(task.labels[0][task.pairs[index, 0]])
            return self.loss_of(variables, out[0], out[1], labels)

        def scores(epoch: int) -> Scores:
            return score(lambda sense, source: self.embed(variables, sense, source, n))

        descent = Descent(
            variables,
            n,
            self.epochs,
            self.learning_rate,
            lambda epoch: self._batches(task, epoch),
            loss,
            scores,
            latest,
        )
        return descent.run(callbacks)

    def _batches(self, task: Task, epoch: int) -> Iterator[Batch]:
        """Pairs and dropout masks of an epoch; those of a seed do not depend on the other seeds."""
        n, drops = len(task.pairs), self.dropout if self.head == "simple_clip" else 0.0
        orders = [list(shuffled(n, self.batch, generator(s, f"pair order {epoch}"))) for s in task.seeds]
        streams = [generator(s, f"dropout {epoch}") for s in task.seeds]
        for rows in zip(*orders, strict=True):
            kept = []
            if drops:
                shape = (2, len(rows[0]), self.dim)
                drawn = np.stack([rng.random(shape, np.float32) >= drops for rng in streams], axis=1)
                kept = list(torch.from_numpy(drawn).float() / (1 - drops))
            yield np.stack(rows), kept


def soft_loss(a: Tensor, b: Tensor, inverse_tau: Tensor | float = 1.0) -> Tensor:
    """Soft-target loss `(s,)` of `(s, n, d)` embeddings.

    As in the model of the original, gradients pass through the targets, and columns are compared with the transposed
    targets, which do not add up to 1: the two senses do not play quite the same part.
    """
    alike = torch.bmm(a, a.mT) + torch.bmm(b, b.mT)
    return _two_way(torch.bmm(a, b.mT) * inverse_tau, F.softmax(alike / (2 * inverse_tau), dim=-1))


def info_nce_loss(a: Tensor, b: Tensor, inverse_tau: Tensor | float = 1.0) -> Tensor:
    """Symmetric InfoNCE `(s,)` of `(s, n, d)` embeddings: every other pair of the batch is a negative."""
    targets = torch.eye(a.shape[1], dtype=a.dtype).expand(a.shape[0], -1, -1)
    return _two_way(torch.bmm(a, b.mT) * inverse_tau, targets)


def multi_positive_loss(a: Tensor, b: Tensor, labels: Tensor, inverse_tau: Tensor | float = 1.0) -> Tensor:
    """Supervised contrastive loss `(s,)` between senses, cosine scores; positives of a query: all of its class."""
    same = (labels[:, :, None] == labels[:, None, :]).to(a.dtype)
    scores = torch.bmm(F.normalize(a, dim=-1), F.normalize(b, dim=-1).mT) * inverse_tau
    return _two_way(scores, same / same.sum(dim=-1, keepdim=True))


def _two_way(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the rows of `(s, n, n)` scores against targets, and of their columns, averaged."""
    rows = -(targets * F.log_softmax(scores, dim=2)).sum(dim=2)
    columns = -(targets * F.log_softmax(scores, dim=1)).sum(dim=1)
    return (rows + columns).mean(dim=1) / 2
