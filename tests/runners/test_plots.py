"""Pictures show the numbers they were given, also the odd ones."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlff.system import Values
from runners.plots import networks as plots
from runners.plots.properties import draw_measured
from tests.figures import drawn

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # matplotlib's way to say that something does not fit


def test_raster_puts_a_dot_at_each_spike_and_separates_the_classes():
    spikes, inputs = np.zeros((20, 10), np.uint8), np.zeros((20, 30), np.uint8)
    spikes[3, 7] = spikes[5, 8] = spikes[6, 9] = 1
    inputs[2, 25] = inputs[4, 25] = inputs[4, 29] = 1
    liquid, active, rates = drawn(plots.spike_raster(spikes, inputs, 8, np.full(20, 0.2), np.full(20, 0.1)))
    excitatory, inhibitory = (line.get_xydata().tolist() for line in liquid.lines)
    assert excitatory == [[3, 7]]
    assert inhibitory == [[5, 8], [6, 9]]
    assert active.lines[0].get_xydata().tolist() == [[2, 0], [4, 0], [4, 1]]
    assert active.get_title(loc="left") == "2 of 30 inputs are active"
    assert [line.get_ydata()[0] for line in rates.lines] == [0.2, 0.1]
    assert liquid.get_shared_x_axes().joined(liquid, rates)


def test_raster_without_astrocyte_or_spikes_is_still_a_picture():
    silent = np.zeros((20, 10), np.uint8)
    assert len(drawn(plots.spike_raster(silent, silent, 8))) == 2


def test_raster_of_many_inputs_says_how_many_it_leaves_out():
    inputs = np.ones((3, 4000), np.uint8)
    axes = drawn(plots.spike_raster(np.ones((3, 10), np.uint8), inputs, 8))
    assert axes[1].get_title(loc="left") == "4000 of 4000 inputs are active, 1334 drawn"
    assert len(axes[1].lines[0].get_xdata()) == 3 * 1334


def test_a_negative_astrocyte_is_not_cut_off():
    spikes = np.ones((20, 10), np.uint8)
    axes = drawn(plots.spike_raster(spikes, spikes, 8, np.linspace(0.15, -0.4, 20), np.full(20, 0.1)))
    assert axes[2].get_ylim()[0] < -0.4


def test_histograms_hold_all_synapses_and_name_both_means():
    before = {"excitatory": np.full(50, 3.0), "inhibitory": np.zeros(0)}
    after = {"excitatory": np.linspace(0, 3, 50), "inhibitory": np.zeros(0)}
    axes = drawn(plots.weight_histograms(before, after))
    assert sum(bar.get_height() for bar in axes[0].patches if hasattr(bar, "get_height")) == pytest.approx(100)
    assert axes[0].get_title() == "excitatory: 50 synapses\nmean |w| 3.00 → 1.50"
    assert axes[1].get_title() == "inhibitory: 0 synapses\nmean |w| none"


def test_confusion_shows_the_true_class_down_and_skips_zeros():
    matrix = np.array([[5, 2], [0, 7]])
    axis = drawn(plots.confusion(matrix, ["cat", "dog"]))[0]
    shown = {text.get_position(): text.get_text() for text in axis.texts}
    assert shown == {(0, 0): "5", (1, 0): "2", (1, 1): "7"}
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("true class", "predicted class")
    assert axis.images[0].get_array()[0, 1] == pytest.approx(2 / 7)


def test_learning_curve_marks_the_chosen_epoch_in_percent():
    history = [{"train/accuracy": 0.5, "valid/accuracy": 0.4, "train/loss": 2.0, "valid/loss": 2.1}] * 3
    accuracy, loss = drawn(plots.learning_curve(history, chosen=2, chance=0.1))
    assert accuracy.get_title(loc="left") == "epoch 2 of 3 chosen; chance 10.0 %"
    train, valid, mark = accuracy.lines
    assert (train.get_xdata().tolist(), train.get_ydata()[0], valid.get_ydata()[0]) == ([1, 2, 3], 50, 40)
    assert mark.get_xdata() == [2, 2]
    assert loss.lines[1].get_ydata()[0] == 2.1


def test_learning_curve_without_losses_or_epochs_has_one_panel():
    assert len(drawn(plots.learning_curve([{"train/accuracy": 0.5, "valid/accuracy": 0.4}], 1))) == 1
    assert len(drawn(plots.learning_curve([], 0))) == 1


def test_course_of_init_draws_each_column():
    columns = ["w_excitatory", "w_inhibitory", "w_input_abs", "astrocyte", "liquid_per_ms", "input_per_ms"]
    course = {name: np.full(4, k + 1.0) for k, name in enumerate(columns)}
    axes = drawn(plots.init_course(course | {"snippets": np.arange(4) * 250}))
    levels = [line.get_ydata()[0] for axis in axes for line in axis.lines]
    assert levels == [1, 2, 3, 0, 4, 5, 6]


def test_matplotlib_is_not_loaded_before_a_picture_is_wanted():
    code = "import sys, runners.plots.networks; print(any(m.startswith('matplotlib') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_of_the_measured_values_the_one_at_the_temperature_of_the_run_is_drawn() -> None:
    known = ((290.0, 1.08), (300.0, 1.06), (310.0, 1.04))
    values = [Values("a table", temperature_K=kelvin, density_g_cm3=density) for kelvin, density in known]
    system = SimpleNamespace(measured=values, temperature_K=305.0)
    axis = Figure().subplots()
    draw_measured(axis, system, "density_g_cm3")
    (line,) = axis.lines
    assert list(line.get_ydata()) == [pytest.approx(1.05)] * 2 and line.get_label() == "measured: 1.05 (305 K)"
    draw_measured(axis, system, "viscosity_mPa_s")
    assert len(axis.lines) == 1
