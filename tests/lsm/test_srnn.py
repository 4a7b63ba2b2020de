"""Trainable recurrent networks: steps and gradients against plain ones, what they learn, published values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from lsm.descent import Callbacks
from lsm.encode import Events
from lsm.recurrent import Network, RecurrentParameters
from lsm.srnn import LifLayer, RecurrentNetwork, class_loss, dense
from lsm.supervised import Labelled, TrainedSource, fit_network, scores_of

SMALL = Network(n_neurons=24, const=0.03, learning_rate=5e-3, batch=20, epochs=12)
KINDS = {
    "srnn_ann": SMALL,
    "srnn_snn": dataclasses.replace(SMALL, readout="lif", start="uniform", const=1.0),
    "rnn": dataclasses.replace(SMALL, cell="tanh", loss="cross_entropy"),
}


def _events(rasters: np.ndarray) -> Events:
    """Rasters `(n, T, n_in)` of 0 and 1 in packed form."""
    where = [np.nonzero(raster) for raster in rasters]
    return Events.from_lists([w[0] for w in where], [w[1] for w in where], rasters.shape[2], rasters.shape[1])


def _toy(n: int = 100, classes: int = 4) -> tuple[Labelled, Labelled]:
    """Rasters of 15 steps and 20 channels whose channels fire at rates of their class; train and validation."""
    rng = np.random.default_rng(0)
    rates, labels = rng.uniform(0, 0.5, (classes, 20)), np.arange(n) % classes
    events = _events(rng.random((n, 15, 20)) < rates[labels][:, None])
    cut = 3 * n // 4
    return Labelled(events.take(np.arange(cut)), labels[:cut]), Labelled(events.take(np.arange(cut, n)), labels[cut:])


def test_a_layer_follows_its_equations_step_by_step() -> None:
    torch.manual_seed(0)
    drive, w = torch.randn(12, 3, 5, dtype=torch.float64), torch.randn(5, 5, dtype=torch.float64)
    spikes = LifLayer.apply(drive, w, 0.8, 0.4, 0.25, False).numpy()
    v, s = np.zeros((3, 5)), np.zeros((3, 5))
    for t in range(12):
        v = 0.8 * v * (1 - s) + drive[t].numpy() + s @ w.numpy()
        s = (v > 0.4).astype(float)
        assert np.array_equal(spikes[t], s)
    assert 0.2 < spikes.mean() < 0.8


@pytest.mark.parametrize("recurrent", [True, False])
def test_the_gradient_of_the_smoothed_network_is_that_of_finite_differences(recurrent: bool) -> None:
    torch.manual_seed(1)
    drive = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 4, dtype=torch.float64, requires_grad=True) if recurrent else None
    assert torch.autograd.gradcheck(lambda d, m: LifLayer.apply(d, m, 0.9, 0.5, 0.8, True), (drive, w))


class _Rectangle(torch.autograd.Function):
    """A spike with the rectangular derivative, for a network left to autograd."""

    @staticmethod
    def forward(ctx: object, v: Tensor, threshold: float, lens: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.threshold, ctx.lens = threshold, lens
        return (v > threshold).to(v.dtype)

    @staticmethod
    def backward(ctx: object, slope: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        return slope * ((v - ctx.threshold).abs() < ctx.lens) / (2 * ctx.lens), None, None


def test_the_surrogate_gradient_is_that_of_autograd_on_the_same_equations() -> None:
    torch.manual_seed(2)
    drive = torch.randn(9, 3, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    mix = torch.randn(9, 3, 5, dtype=torch.float64)
    ours = torch.autograd.grad((LifLayer.apply(drive, w, 0.9, 0.3, 0.25, False) * mix).sum(), (drive, w))
    v = s = torch.zeros(3, 5, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for t in range(9):
        v = 0.9 * v * (1 - s) + drive[t] + s @ w
        s = _Rectangle.apply(v, 0.3, 0.25)
        total = total + (s * mix[t]).sum()
    plain = torch.autograd.grad(total, (drive, w))
    assert all(torch.allclose(a, b) for a, b in zip(ours, plain, strict=True))
    assert ours[1].abs().sum() > 0


@pytest.mark.parametrize("kind", ["srnn_ann", "srnn_snn"])
def test_whole_smoothed_networks_have_exact_gradients(kind: str) -> None:
    form = dataclasses.replace(KINDS[kind], n_neurons=5, lens=0.8, start="uniform", const=1.0)
    network = RecurrentNetwork(form, 3, 2)
    names = sorted(network.variables(0))
    values = tuple(network.variables(0)[name].double().requires_grad_(True) for name in names)
    x = (torch.rand(6, 4, 3, generator=torch.Generator().manual_seed(0)) < 0.4).double()
    labels = torch.tensor([0, 1, 1, 0])

    def loss(*tensors: Tensor) -> Tensor:
        return class_loss(network.scores(dict(zip(names, tensors, strict=True)), x, smooth=True), labels, "mse")

    assert torch.autograd.gradcheck(loss, values)


def test_rasters_become_dense_and_may_be_cut() -> None:
    rasters = np.random.default_rng(0).random((5, 7, 3)) < 0.4
    events, index = _events(rasters), np.array([4, 0, 0])
    assert np.array_equal(dense(events, index).numpy(), rasters[index].transpose(1, 0, 2))
    assert np.array_equal(dense(events, index, 3).numpy(), rasters[index, :3].transpose(1, 0, 2))
    assert dense(events, index, 99).shape == (7, 3, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns(kind: str) -> None:
    train, valid = _toy()
    network = RecurrentNetwork(KINDS[kind], 20, 4)
    losses: list[float] = []
    calls = Callbacks(on_epoch=lambda epoch, loss, score: losses.append(float(loss[0])))
    best = fit_network(network, {"train": train, "valid": valid}, 0, calls)["valid/accuracy"]
    assert best.score[0] > 0.75 and losses[-1] < 0.7 * losses[0]  # chance: 1/4
    predicted = scores_of(network, best.variables, valid.events).argmax(axis=1)
    assert np.mean(predicted == valid.labels) == best.score[0]


def test_a_killed_training_goes_on_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsm.descent.SAVE_EVERY_S", 0.0)
    train, valid = _toy()
    network = RecurrentNetwork(dataclasses.replace(SMALL, epochs=5), 20, 4)
    saved: list[dict[str, np.ndarray]] = []
    parts = {"train": train, "valid": valid}
    save = Callbacks(save=lambda a: saved.append({k: v.copy() for k, v in a.items()}))
    whole = fit_network(network, parts, 0, save)["valid/accuracy"]
    rest = fit_network(network, parts, 0, Callbacks(state=saved[2]))["valid/accuracy"]
    assert all(torch.equal(rest.variables[name], whole.variables[name]) for name in whole.variables)


def test_weights_follow_the_seed_and_the_chosen_start() -> None:
    big = dataclasses.replace(SMALL, n_neurons=200, const=0.5)
    network = RecurrentNetwork(big, 256, 10)
    v, same, other = (network.variables(seed) for seed in (0, 0, 1))
    assert all(torch.equal(v[name], same[name]) and not torch.equal(v[name], other[name]) for name in v)
    assert v["w_in"].std().item() == pytest.approx(0.5 * 6.61329, rel=0.02)
    assert v["w_rec"].std().item() == pytest.approx(0.5 * 6.67268, rel=0.02)
    u = RecurrentNetwork(dataclasses.replace(big, start="uniform"), 256, 10).variables(0)
    assert u["w_rec"].abs().max().item() == pytest.approx(0.5 / 200**0.5, rel=0.01)
    state = torch.random.get_rng_state()
    RecurrentNetwork(KINDS["rnn"], 20, 4).variables(0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_as_a_source_gives_its_features_and_gradients() -> None:
    train, _ = _toy(n=12)
    network = RecurrentNetwork(SMALL, 20, 0, "first/network/")
    source = TrainedSource(network, train.events, seed=3)
    variables = {name: tensor.requires_grad_(True) for name, tensor in source.variables.items()}
    index = np.array([[1, 4]])
    out = source.features(variables, index)
    direct = network.features(network.variables(3), dense(train.events, index[0]))
    assert out.shape == (1, 2, 24) and torch.equal(out[0], direct)
    out.sum().backward()
    assert set(variables) == {"first/network/w_in", "first/network/w_rec"}
    assert all(tensor.grad.abs().sum() > 0 for tensor in variables.values())
    assert torch.equal(source.take(np.array([4])).features(variables, np.array([[0]]))[0, 0], out[0, 1])


NMNIST = {"kind": "events", "height": 34, "width": 34, "polarities": 2}
SOUND = {"kind": "ntidigits", "n_channels": 64}


def test_open_values_are_the_published_ones() -> None:
    network, view = RecurrentParameters().for_data(NMNIST)
    assert (network.v_threshold, network.const, network.decay, network.batch) == (0.3, 0.03, 0.9, 80)
    assert (network.loss, network.learning_rate, view.steps, view.n_neurons) == ("mse", 1e-4, 50, 200)
    network, view = RecurrentParameters(readout="lif").for_data(SOUND)
    assert (network.readout_decay, network.batch, network.learning_rate, view.steps) == (0.99, 128, 2e-4, 70)
    network, view = RecurrentParameters(cell="tanh").for_data(SOUND)
    assert (network.steps_used, view.steps, network.learning_rate) == (30, 50, 9e-4)
    network, view = RecurrentParameters().for_data(SOUND, "contrastive")
    assert (network.v_threshold, network.const, network.decay, view.steps) == (5.3, 0.5, 0.97, 129)
    network, view = RecurrentParameters(v_threshold=1.0, steps=7).for_data({"kind": "handwriting"}, "prototypes")
    assert (network.v_threshold, network.n_neurons, view.steps) == (1.0, 2048, 7)


def test_each_sense_may_have_a_const_of_its_own() -> None:
    both = RecurrentParameters(const=[0.5, 0.1])
    assert [both.of_sense(k).for_data(SOUND, "contrastive")[0].const for k in (0, 1)] == [0.5, 0.1]
    assert RecurrentParameters(const=0.2).of_sense(1).const == 0.2
    with pytest.raises(ValueError, match=r"model.const=\[0.5,0.1\]: two are for the two senses"):
        both.for_data(SOUND)


def test_fewer_steps_of_training_have_larger_ones_unless_given() -> None:
    network, _ = RecurrentParameters().for_data(NMNIST)
    assert network.rate(60_000) == pytest.approx(1e-4)
    assert network.rate(6_000) == pytest.approx(1e-3)
    assert network.rate(100) == pytest.approx(3e-3)
    given, _ = RecurrentParameters(learning_rate=2e-4).for_data(NMNIST)
    assert given.rate(100) == 2e-4


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cell": "tanh", "readout": "lif"}, "readout=lif needs spikes"),
        ({"n_layers": 2}, "n_layers=2: cell=lif has one layer"),
        ({"decay": 1.0}, "decay"),
        ({"lens": 0.0}, "lens"),
    ],
)
def test_impossible_networks_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RecurrentParameters(**values)


def test_training_without_samples_is_refused() -> None:
    train, valid = _toy(n=8)
    nothing = Labelled(train.events.take(np.arange(0)), train.labels[:0])
    with pytest.raises(ValueError, match="there are no training samples"):
        fit_network(RecurrentNetwork(SMALL, 20, 4), {"train": nothing, "valid": valid}, 0)
