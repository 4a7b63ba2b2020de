"""What runners ask of a liquid with fixed weights, whatever it is made of, and the cache of its spike counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from runners.checkpoint import Cache, CountStore, fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from scipy import sparse

    from lsm.encode import Dataset, Inputs
    from lsm.protocol import Recording
    from runners.context import Context


class Block(Protocol):
    """Counts of consecutive samples as the simulations give them."""

    @property
    def counts(self) -> NDArray[np.uint16]:
        """`(m, n)` spikes."""

    @property
    def stats(self) -> NDArray[np.float64]:
        """`(m, n_stats)` numbers about each sample."""


class Clock(NamedTuple):
    """Time in a sample.

    `steps` of `step_ms` (None where a step has no fixed length), of which the `steady` ones are without onset and end;
    `bin_steps` together are one bin of the synchrony measures; `presented` 1-ms bins of a recording, None for all.
    """

    steps: int
    step_ms: float | None
    steady: tuple[int, int]
    bin_steps: int
    presented: int | None

    @property
    def unit(self) -> str:
        """What a step is called."""
        return "ms" if self.step_ms == 1 else "step"

    @property
    def seconds(self) -> float | None:
        """Length of a sample."""
        return None if self.step_ms is None else self.steps * self.step_ms / 1000


class Network(Protocol):
    """A liquid ready to be presented samples; `window` is what turns its counts into rates."""

    @property
    def seed(self) -> int:
        """Of everything random in it."""

    @property
    def init_s(self) -> float:
        """What making it cost in seconds, whenever that was."""

    @property
    def n_neurons(self) -> int:
        """Liquid neurons."""

    @property
    def n_excitatory(self) -> int | None:
        """The first so many neurons are excitatory; None where neurons are of one kind."""

    @property
    def n_in(self) -> int:
        """Channels of the data that it reads."""

    @property
    def window(self) -> float:
        """Steps or ms that counts cover."""

    @property
    def clock(self) -> Clock:
        """Time in a sample."""

    def counts(self, context: Context, part: str, inputs: Inputs, windows: int = 1) -> CountStore:
        """Spike counts of one part of the data, from the cache as far as it goes; `windows` counts equal parts apart."""

    def present(self, inputs: Inputs, part: str, threads: int, progress: Callable[[int], object]) -> NDArray[np.uint16]:
        """Spike counts without any cache."""

    def activity(self, store: CountStore) -> dict[str, float]:
        """What the liquid did per sample in one part: rates, spikes, operations, silent samples."""

    def complaints(self, values: Mapping[str, float]) -> Iterator[str]:
        """What is wrong with these activities, and what to change."""

    def record(self, inputs: Inputs, part: str, sample: int) -> Recording:
        """One sample once more, step by step: the spikes that were counted."""

    def connections(self) -> sparse.csr_matrix:
        """Liquid-to-liquid connections as a `(n, n)` 0/1 matrix, rows sending, columns receiving."""

    def measure(self, context: Context, dataset: Dataset, stores: Mapping[str, CountStore]) -> dict[str, float]:
        """Numbers of this kind of liquid alone."""

    def figures(self, recording: Recording, title: str) -> dict[str, Figure]:
        """Pictures of the liquid and of one recorded sample, by name."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that a saved model needs beside the configuration."""


def inputs_fingerprint(inputs: Inputs) -> str:
    """Digest of encoded inputs."""
    return fingerprint(*(v for v in vars(inputs).values() if isinstance(v, np.ndarray)))


def stored_counts(
    context: Context,
    key: str,
    about: Mapping[str, Any],
    part: str,
    shape: tuple[int, int],
    n_stats: int,
    blocks: Callable[[int], Iterator[tuple[slice, Block]]],
    *,
    in_one_go: bool = False,
    phase: str | None = None,
) -> CountStore:
    """Counts from the cache `key`, and by `blocks(first sample)` from where it ends; `in_one_go` begins anew if it is cut."""
    cache = Cache(context.home, key, about)
    with cache.alone(context.progress.say):
        store = CountStore(cache.folder, part, shape, n_stats, context.resume)
        if in_one_go and not store.complete:
            store = CountStore(cache.folder, part, shape, n_stats, resume=False)
        with context.phase(phase or f"RUN {part}", total=shape[0], unit="samples") as advance:
            advance(store.done)
            started = time.perf_counter()
            for block, out in blocks(store.done) if not store.complete else ():
                store.write(block, out.counts, out.stats, time.perf_counter() - started)
                advance(block.stop)
                started = time.perf_counter()
    return store


def stored_raw_counts(
    context: Context,
    key: str,
    about: Mapping[str, Any],
    part: str,
    shape: tuple[int, int],
    count: Callable[[], Iterable[NDArray[np.uint16]]],
) -> NDArray[np.uint16]:
    """Events per input channel from the cache `key`, else from the blocks of samples that `count()` gives."""
    cache = Cache(context.home, key, about)
    with cache.alone(context.progress.say):
        store = CountStore(cache.folder, part, shape, 1, context.resume)
        if not store.complete:
            store = CountStore(cache.folder, part, shape, 1, resume=False)  # quicker than going on
            for block in count():
                at = slice(store.done, store.done + len(block))
                store.write(at, block, np.zeros((len(block), 1)))
    counts_on_disk: NDArray[np.uint16] = store.counts
    return counts_on_disk
