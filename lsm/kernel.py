"""The time step: leaky integrate-and-fire neurons, latest-spike synapses, STDP and the astrocyte, driven by events.

One step of 1 ms, in the order of the published code (S spikes, V potential, u time since the last spike of a sender,
W weight, x spike trace, A astrocyte, eta learning rate):

    S_i = [V_i >= threshold and not refractory];     V_i <- 0 where S_i
    V_i <- V_i - V_i / tau_m + I_i,                  I_i = sum_j W_ij exp(-u_j / tau_syn) / tau_syn
    W   <- clip(W + dW)   with   dW = +eta x_j S_i - A x_i S_j      (excitatory and input senders)
                                 dW = -A x_j S_i + eta x_i S_j      (inhibitory senders)
    x   <- decay (x + increment S)
    A   <- A + (w_astro (liquid spikes - input spikes) + b - A) / tau_astro
    RUN only: eta, A, w_astro, b  shrink by one common factor

What makes it cheap: only rows of spiking senders and columns of spiking targets are touched. The current needs no list of
recent senders, because it follows exactly from its own past: with c_j = exp(-u_j / tau_syn),

    I_i(t) = e (I_i(t-1) + D_i(t-1)) + sum over j spiking now of W_ij (1 - c_j),      e = exp(-1 / tau_syn),

where D_i = sum_j dW_ij c_j collects what plasticity changed in the step. Work per step grows with
(spikes) x (synapses of a neuron); memory with synapses.

Everything that calls each other lives in this one module, since a cached caller does not notice a changed callee elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lsm.liquid import Liquid
from lsm.parameters import LiquidParameters

# No infinities or NaN arise here, so a clip may compile to plain minimum and maximum instructions: a branch on a value
# as unpredictable as "did this weight hit its bound" costs more than the arithmetic around it.
_jit = njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "contract"})

STATS = (
    "liquid_spikes",
    "input_spikes",
    "propagations",
    "plastic_updates",
    "astrocyte_end",
    "astrocyte_negative_steps",
)
"""Columns of the per-sample statistics, in order; spikes and operations are totals over the sample."""

_NO_LEARNING, _STDP, _ASTRO, _CALCIUM = 0, 1, 2, 3
_MODES = {"none": _NO_LEARNING, "stdp": _STDP, "astro_stdp": _ASTRO, "ap_stdp": _CALCIUM}
_BLOCK = 2048  # targets whose traces, currents and changes fit the first cache level together
_INPUT_CHARGE = np.float32(100)  # five thresholds: one event always makes an input neuron spike
_FLUSH = np.float32(
    1e-12
)  # below this a trace or a tail is set to 0: denormal numbers are slow, and it changes nothing


class Net(NamedTuple):
    """Wiring as the kernel takes it; see `lsm.liquid`."""

    n: int
    n_exc: int
    n_in: int
    row_ptr: NDArray[np.uint64]
    blocks: int
    part_ptr: NDArray[np.uint64]  # like row_ptr, but with each row cut at every _BLOCK targets into `blocks` parts
    col: NDArray[np.uint16]
    col_ptr: NDArray[np.uint64]
    senders: NDArray[np.uint64]  # of each target: sending neuron << 32 | place of the weight
    col_exc: NDArray[np.uint64]
    col_liquid: NDArray[np.uint64]
    sensed: NDArray[np.float32]


class Constants(NamedTuple):
    """Numbers of the model; float32 where they meet arrays, float64 where they are scalars of state."""

    threshold: np.float32
    leak: np.float32
    refractory: int
    tail_decay: np.float32
    inverse_tau_syn: np.float32
    trace_decay: np.float32
    trace_increment: np.float32
    w_max: np.float32
    eta: float
    w_astro: float
    astro_bias: float
    tau_astro: float
    astro_floor: float
    calcium_decay: np.float32
    ltp_low: np.float32
    ltp_high: np.float32
    ltd_low: np.float32
    ltd_high: np.float32


class Drive(NamedTuple):
    """Encoded inputs: either rates (`pixels`, `scale`) or events (`packed`, `offsets`); the other pair is empty."""

    is_events: bool
    pixels: NDArray[np.uint8]
    scale: NDArray[np.float32]
    packed: NDArray[np.uint32]
    offsets: NDArray[np.int64]


class Recorder(NamedTuple):
    """What to write down, step by step; arrays of length 0 are not written (all but `weights` have one row a step)."""

    spikes: NDArray[np.uint8]
    inputs: NDArray[np.uint8]
    potential: NDArray[np.float32]
    trace: NDArray[np.float32]
    refractory: NDArray[np.int16]
    calcium: NDArray[np.float32]
    scalars: NDArray[np.float64]  # A after its update, then A, w_astro, b, eta at the end of the step
    weights: NDArray[np.float32]
    weight_steps: NDArray[np.int64]


class Scratch(NamedTuple):
    """Working memory of one thread, allocated once a block so that the time loop allocates nothing."""

    v: NDArray[np.float32]
    current: NDArray[np.float32]
    change: NDArray[np.float32]
    tail: NDArray[np.float32]
    spiking: NDArray[np.float32]
    trace: NDArray[np.float32]
    target_pos: NDArray[np.float32]
    target_neg: NDArray[np.float32]
    gate_pos: NDArray[np.float32]
    gate_neg: NDArray[np.float32]
    free_at: NDArray[np.int32]
    flags: NDArray[np.uint8]
    liquid_spikes: NDArray[np.uint32]
    input_spikes: NDArray[np.uint32]
    gains: NDArray[np.float32]
    v_in: NDArray[np.float32]
    free_in: NDArray[np.int32]
    waiting: NDArray[np.uint32]
    active: NDArray[np.uint32]
    is_active: NDArray[np.uint8]
    chance: NDArray[np.uint64]
    hits: NDArray[np.uint8]
    events: NDArray[np.uint32]
    list_end: NDArray[np.uint64]
    senders: NDArray[np.uint64]
    saved: NDArray[np.float32]


def net_of(liquid: Liquid) -> Net:
    """The kernel's view of a liquid."""
    blocks = -(-liquid.n // _BLOCK)
    parts = liquid.pre * blocks + liquid.col // _BLOCK
    part_ptr = np.concatenate([[0], np.cumsum(np.bincount(parts, minlength=(liquid.n + liquid.n_in) * blocks))])
    senders = liquid.csc_pre.astype(np.uint64) << np.uint64(32) | liquid.csc_pos
    fields: dict[str, Any] = {"blocks": blocks, "part_ptr": part_ptr.astype(np.uint64), "senders": senders}
    fields |= {name: getattr(liquid, name) for name in Net._fields if name not in fields}
    for name, value in fields.items():
        if isinstance(value, np.ndarray):  # numba compiles anew for read-only arrays, so hand it writeable ones only
            fields[name] = np.require(value, requirements=["C", "W"])
    return Net(**fields)


def constants_of(p: LiquidParameters) -> Constants:
    """The kernel's view of the parameters."""
    f = np.float32
    return Constants(
        threshold=f(p.v_threshold),
        leak=f(1 / p.tau_m_ms),
        refractory=p.t_ref_ms,
        tail_decay=f(np.exp(-1 / p.tau_syn_ms)),
        inverse_tau_syn=f(1 / p.tau_syn_ms),
        trace_decay=f(p.trace_decay),
        trace_increment=f(p.trace_increment),
        w_max=f(p.w_max),
        eta=float(p.eta),
        w_astro=float(p.w_astro),
        astro_bias=float(p.astro_bias),
        tau_astro=float(p.tau_astro_ms),
        astro_floor=0.0 if p.astro_floor else -np.inf,
        calcium_decay=f(1 / p.tau_calcium_ms),
        ltp_low=f(p.calcium_threshold),
        ltp_high=f(p.calcium_threshold + p.calcium_width),
        ltd_low=f(p.calcium_threshold - p.calcium_width),
        ltd_high=f(p.calcium_threshold),
    )


def mode_of(p: LiquidParameters) -> int:
    """The kernel's number for `parameters.learning`."""
    return _MODES[p.learning]


def recorder(
    net: Net, steps: int = 0, *, details: bool = False, weight_steps: NDArray[np.integer] | None = None
) -> Recorder:
    """Room for `steps` steps of spikes and scalars; with `details` also potentials, traces and calcium."""
    n_all = net.n + net.n_in
    fine = steps if details else 0
    at = np.zeros(0, np.int64) if weight_steps is None else np.asarray(weight_steps, np.int64)
    return Recorder(
        spikes=np.zeros((steps, net.n), np.uint8),
        inputs=np.zeros((steps, net.n_in), np.uint8),
        potential=np.zeros((fine, n_all), np.float32),
        trace=np.zeros((fine, n_all), np.float32),
        refractory=np.zeros((fine, n_all), np.int16),
        calcium=np.zeros((fine, net.n), np.float32),
        scalars=np.zeros((steps, 5), np.float64),
        weights=np.zeros((len(at), len(net.col)), np.float32),
        weight_steps=at,
    )


@njit(cache=True, nogil=True)
def _mix(z: np.uint64) -> np.uint64:
    """One 64-bit mix (the finaliser of SplitMix64): a counter in, a random number out."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True, nogil=True)
def _sample_key(seed: np.uint64, sample: int) -> np.uint64:
    return _mix(seed + np.uint64(sample + 1) * np.uint64(0x9E3779B97F4A7C15))


@njit(cache=True, nogil=True)
def _draw(key: np.uint64, step: int, active: Any, chance: Any, n_active: int, hits: Any) -> None:
    """Bernoulli draws of one step: each depends on key, step and channel alone, never on the order of evaluation."""
    base = key + np.uint64(step) * np.uint64(0xD1342543DE82EF95)
    for a in range(n_active):
        z = base + np.uint64(active[a] + np.uint32(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        hits[a] = (z >> np.uint64(32)) < chance[a]


@njit(cache=True, nogil=True)
def make_scratch(net: Net) -> Scratch:
    """Working memory for one thread."""
    n, n_all = net.n, net.n + net.n_in
    f = np.float32
    scratch = Scratch(
        np.zeros(n, f),
        np.zeros(n, f),
        np.zeros(n, f),
        np.zeros(n_all, f),
        np.zeros(n_all, f),
        np.zeros(n_all, f),
        np.zeros(n, f),
        np.zeros(n, f),
        np.zeros(n, f),
        np.zeros(n, f),
        np.zeros(n, np.int32),
        np.zeros((n + 7) // 8 * 8, np.uint8),
        np.zeros(n + 8, np.uint32),
        np.zeros(net.n_in, np.uint32),
        np.zeros(net.n_in, f),
        np.zeros(net.n_in, f),
        np.zeros(net.n_in, np.int32),
        np.zeros(net.n_in, np.uint32),
        np.zeros(net.n_in, np.uint32),
        np.zeros(net.n_in, np.uint8),
        np.zeros(net.n_in, np.uint64),
        np.zeros(net.n_in, np.uint8),
        np.zeros(net.n_in + 1, np.uint32),
        np.zeros(n, np.uint64),
        np.zeros(len(net.col), np.uint64),
        np.zeros(n, f),
    )
    for i in range(n):  # liquid senders head every list; active inputs are appended sample by sample
        for q in range(net.col_ptr[i], net.col_liquid[i]):
            scratch.senders[q] = net.senders[q]
    return scratch


@_jit
def _row(
    w: Any,
    col: Any,
    first: Any,
    last: Any,
    gain: Any,
    rate: Any,
    x: Any,
    low: Any,
    high: Any,
    current: Any,
    change: Any,
) -> None:
    """A spike travels along its row: add to the targets' currents and apply the pre-synaptic half of STDP."""
    for k in range(first, last):
        i = col[k]
        old = w[k]
        current[i] += old * gain
        new = min(max(old + rate * x[i], low), high)
        change[i] += new - old
        w[k] = new


@_jit
def _column(
    w: Any,
    senders: Any,
    first: Any,
    last: Any,
    x: Any,
    spiking: Any,
    tail: Any,
    by_trace: Any,
    by_spike: Any,
    low: Any,
    high: Any,
) -> Any:
    """A target spiked: change all its synapses whose sender has a trace or spikes too; returns the sum of dW c_j."""
    total = np.float32(0)
    for q in range(first, last):
        j = senders[q] >> np.uint64(32)
        k = senders[q] & np.uint64(0xFFFFFFFF)
        old = w[k]
        new = min(max(old + by_trace * x[j] + by_spike * spiking[j], low), high)
        total += (new - old) * tail[j]
        w[k] = new
    return total


@_jit
def _present(
    net: Net,
    c: Constants,
    s: Scratch,
    w: Any,
    x: Any,
    calcium: Any,
    is_events: bool,
    packed: Any,
    first_event: int,
    last_event: int,
    first_step: int,
    n_active: int,
    key: Any,
    steps: int,
    mode: int,
    decay: float,
    listed: bool,
    rec: Recorder,
    counts: Any,
    stats: Any,
) -> None:
    """Present one sample for `steps` ms from rest; `w`, `x` and `calcium` are changed in place.

    `s.active[:n_active]` are the channels with a rate (`s.chance`), or events `packed[first_event:last_event]` with
    bin `first_step` as step 0. `listed`: only inputs in the compact lists can have a trace.
    """
    n, n_in, n_all = net.n, net.n_in, net.n + net.n_in
    # Bound to names once: an array taken out of a tuple inside the loop is counted as a reference each time.
    potential, current, change, free_at, flags = s.v, s.current, s.change, s.free_at, s.flags
    tail, spiking, saved = s.tail, s.spiking, s.saved
    target_pos, target_neg, gate_pos, gate_neg = s.target_pos, s.target_neg, s.gate_pos, s.gate_neg
    liquid_spikes, input_spikes = s.liquid_spikes, s.input_spikes
    v_in, free_in, waiting, events = s.v_in, s.free_in, s.waiting, s.events
    active, chance, hits, list_end = s.active, s.chance, s.hits, s.list_end
    row_ptr, part_ptr, col, sensed_by = net.row_ptr, net.part_ptr, net.col, net.sensed
    blocks, n_exc, gains = np.uint64(net.blocks), np.uint32(net.n_exc), s.gains
    col_ptr, col_exc, col_liquid = net.col_ptr, net.col_exc, net.col_liquid
    zero, one = np.float32(0), np.float32(1)
    windows = len(counts) // n
    plastic = mode != 0
    gated = mode == 3
    senders = s.senders if listed else net.senders
    flag_words = flags.view(np.uint64)

    potential[:] = zero
    current[:] = zero
    change[:] = zero
    tail[:] = zero
    spiking[:] = zero
    free_at[:] = 0
    flags[:] = 0
    v_in[:] = zero
    free_in[:] = 0
    eta, astro, w_astro, bias = c.eta, c.eta, c.w_astro, c.astro_bias
    n_waiting = 0
    event = first_event
    total_liquid = 0
    total_input = 0
    propagations = 0
    updates = 0
    negative = 0
    next_weights = 0

    for t in range(steps):
        # --- currents decay; what plasticity changed in the last step acts from now on
        for i in range(n):
            current[i] = (current[i] + change[i]) * c.tail_decay
            change[i] = zero
        for j in range(n_all):
            faded = tail[j] * c.tail_decay
            tail[j] = faded if faded > _FLUSH else zero

        # --- who spikes: liquid neurons flagged at the end of the last step, inputs whose potential waits above threshold
        n_liquid = 0
        for word in range(len(flag_words)):
            if flag_words[word] != 0:
                for i in range(8 * word, 8 * word + 8):  # without a branch: which of the eight it was is unpredictable
                    liquid_spikes[n_liquid] = i
                    n_liquid += flags[i]
        n_input = 0
        kept = 0
        for a in range(n_waiting):
            j = waiting[a]
            if v_in[j] >= c.threshold and free_in[j] <= t:
                input_spikes[n_input] = j
                n_input += 1
                v_in[j] = zero
                free_in[j] = t + 1 + c.refractory
            else:
                v_in[j] -= v_in[j] * c.leak
                if v_in[j] >= c.threshold:
                    waiting[kept] = j
                    kept += 1
        n_waiting = kept

        # --- input events of this step charge the input neurons, which spike one step later at the earliest
        n_events = 0
        if is_events:
            while event < last_event and np.int64(packed[event] >> np.uint32(16)) == t + first_step:
                events[n_events] = packed[event] & np.uint32(0xFFFF)
                n_events += 1
                event += 1
        else:
            _draw(key, t, active, chance, n_active, hits)
            for a in range(n_active):
                events[n_events] = active[a]
                n_events += hits[a]
        for a in range(n_events):
            j = events[a]
            if v_in[j] < c.threshold:
                waiting[n_waiting] = j
                n_waiting += 1
            v_in[j] += _INPUT_CHARGE

        sensed = 0.0
        window = np.uint32(t * windows // steps * n)
        for a in range(n_liquid):
            i = liquid_spikes[a]
            potential[i] = zero
            free_at[i] = t + 1 + c.refractory
            spiking[i] = one
            counts[window + i] += 1
            sensed += sensed_by[i]
        for a in range(n_input):
            j = input_spikes[a] + np.uint32(n)
            spiking[j] = one
            sensed -= sensed_by[j]
        total_liquid += n_liquid
        total_input += n_input

        if gated:  # calcium decides, per target, which sign of change may pass; both windows are open intervals
            for i in range(n):
                level = calcium[i] - calcium[i] * c.calcium_decay + spiking[i]
                calcium[i] = level
                gate_pos[i] = one if (level > c.ltp_low) & (level < c.ltp_high) else zero
                gate_neg[i] = one if (level > c.ltd_low) & (level < c.ltd_high) else zero
                target_pos[i] = x[i] * gate_pos[i]
                target_neg[i] = x[i] * gate_neg[i]

        # --- rows: propagation, and the pre-synaptic half of STDP in the same pass. A target that spikes itself is left to
        # the column pass, which applies both halves before the one clip; its trace is hidden meanwhile.
        grow, shrink = np.float32(eta), np.float32(-astro)
        x_pos = target_pos if gated else x
        x_neg = target_neg if gated else x
        if plastic:
            for a in range(n_liquid):
                i = liquid_spikes[a]
                saved[a] = x[i]
                x[i] = zero
                if gated:
                    target_pos[i] = zero
                    target_neg[i] = zero
        for a in range(n_liquid):
            j = liquid_spikes[a]
            first, last = row_ptr[j], row_ptr[j + np.uint32(1)]
            gain = one - tail[j]
            tail[j] = one
            propagations += np.int64(last - first)  # type: ignore[assignment]
            if not plastic:
                for k in range(first, last):
                    current[col[k]] += w[k] * gain
            elif j < n_exc:
                _row(w, col, first, last, gain, shrink, x_neg, zero, c.w_max, current, change)
            else:
                _row(w, col, first, last, gain, grow, x_pos, -c.w_max, zero, current, change)
        for a in range(n_input):
            j = input_spikes[a] + np.uint32(n)
            gains[a] = one - tail[j]
            tail[j] = one
            propagations += np.int64(row_ptr[j + np.uint32(1)] - row_ptr[j])  # type: ignore[assignment]
        for block in range(net.blocks):  # rows of inputs are long: all of them pass one block of targets, then the next
            for a in range(n_input):
                part = np.uint64(input_spikes[a] + np.uint32(n)) * blocks + np.uint64(block)
                first, last, gain = part_ptr[part], part_ptr[part + np.uint64(1)], gains[a]
                if plastic:
                    _row(w, col, first, last, gain, shrink, x_neg, -c.w_max, c.w_max, current, change)
                else:
                    for k in range(first, last):
                        current[col[k]] += w[k] * gain

        # --- columns: the post-synaptic half for each target that spiked
        if plastic:
            for a in range(n_liquid):
                x[liquid_spikes[a]] = saved[a]
            for a in range(n_liquid):
                i = liquid_spikes[a]
                up = grow * gate_pos[i] if gated else grow
                down = shrink * gate_neg[i] if gated else shrink
                start, exc, liquid = col_ptr[i], col_exc[i], col_liquid[i]
                end = list_end[i] if listed else col_ptr[i + np.uint32(1)]
                own = x[i]
                moved = _column(w, senders, start, exc, x, spiking, tail, up, down * own, zero, c.w_max)
                moved += _column(w, senders, exc, liquid, x, spiking, tail, down, up * own, -c.w_max, zero)
                moved += _column(w, senders, liquid, end, x, spiking, tail, up, down * own, -c.w_max, c.w_max)
                change[i] += moved
                updates += np.int64(end - start)  # type: ignore[assignment]

        # --- potentials, and who is above threshold and free at the next step
        for i in range(n):
            level = potential[i] - potential[i] * c.leak + current[i] * c.inverse_tau_syn
            potential[i] = level
            flags[i] = (level >= c.threshold) & (free_at[i] <= t + 1)

        if len(rec.calcium) > 0 and gated:
            rec.calcium[t, :] = calcium
        for a in range(n_liquid):
            i = liquid_spikes[a]
            spiking[i] = zero
            if plastic:
                x[i] += c.trace_increment
        for a in range(n_input):
            j = input_spikes[a] + np.uint32(n)
            spiking[j] = zero
            if plastic:
                x[j] += c.trace_increment
        if plastic:
            for j in range(n_all):
                trace = x[j] * c.trace_decay
                x[j] = trace if trace > _FLUSH else zero

        # --- the astrocyte sets the rate of depression of the next step
        if mode == 2:
            astro = astro + (w_astro * sensed + bias - astro) / c.tau_astro
            if astro < c.astro_floor:
                astro = c.astro_floor
            negative += astro < 0
        updated = astro
        eta *= decay
        astro *= decay
        w_astro *= decay
        bias *= decay

        if len(rec.scalars) > 0:
            for a in range(n_liquid):
                rec.spikes[t, liquid_spikes[a]] = 1
            for a in range(n_input):
                rec.inputs[t, input_spikes[a]] = 1
            rec.scalars[t, 0] = updated
            rec.scalars[t, 1] = astro
            rec.scalars[t, 2] = w_astro
            rec.scalars[t, 3] = bias
            rec.scalars[t, 4] = eta
        if len(rec.potential) > 0:
            rec.potential[t, :n] = potential
            rec.potential[t, n:] = v_in
            rec.trace[t, :] = x
            for i in range(n):
                rec.refractory[t, i] = free_at[i] - (t + 1)
            for j in range(n_in):
                rec.refractory[t, n + j] = free_in[j] - (t + 1)
        if next_weights < len(rec.weight_steps) and rec.weight_steps[next_weights] == t:
            rec.weights[next_weights, :] = w
            next_weights += 1

    stats[0] = total_liquid
    stats[1] = total_input
    stats[2] = propagations
    stats[3] = updates + (propagations if plastic else 0)
    stats[4] = astro
    stats[5] = negative


@_jit
def _activate(
    active: Any, chance: Any, is_active: Any, drive: Drive, sample: int, first_step: int, steps: int
) -> tuple[int, int, int]:
    """Find the channels that can spike in this sample; returns their number and the range of events in the window."""
    n_active = 0
    if drive.is_events:
        low, high = drive.offsets[sample], drive.offsets[sample + 1]
        while low < high and np.int64(drive.packed[low] >> np.uint32(16)) < first_step:
            low += 1
        stop = low
        while stop < high and np.int64(drive.packed[stop] >> np.uint32(16)) < first_step + steps:
            j = drive.packed[stop] & np.uint32(0xFFFF)
            if is_active[j] == 0:
                is_active[j] = 1
                active[n_active] = j
                n_active += 1
            stop += 1
        for a in range(n_active):
            is_active[active[a]] = 0
        return n_active, low, stop
    scale = np.float64(drive.scale[sample])
    for j in range(drive.pixels.shape[1]):
        p = min(drive.pixels[sample, j] * scale, 1.0)
        if p > 0.0:
            active[n_active] = j
            chance[n_active] = np.uint64(p * 4294967296.0)
            n_active += 1
    return n_active, 0, 0


@_jit
def run_block(
    net: Net,
    c: Constants,
    mode: int,
    decay: float,
    steps: int,
    drive: Drive,
    seed: Any,
    samples: Any,
    keys: Any,
    w_init: Any,
    w: Any,
    carried: Any,
    carry: bool,
    rec: Recorder,
    counts: Any,
    stats: Any,
) -> None:
    """RUN: present `samples` of `drive`, each from the weights `w_init`, and count spikes.

    `keys` numbers the samples for the random streams; `w` is private working memory that equals `w_init` on entry and on
    return. `carried` `(len(samples), n + n_in)` holds the spike traces of the batch slots when `carry` is set.
    Writes `stats` `(len(samples), len(STATS))` and `counts` `(len(samples), windows * n)`: as many equal parts of the
    sample as there is room for, one after another.
    """
    s = make_scratch(net)
    calcium = np.zeros(net.n, np.float32)
    plastic = mode != 0
    listed = plastic and not carry
    for b in range(len(samples)):
        n_active, low, high = _activate(s.active, s.chance, s.is_active, drive, samples[b], 0, steps)
        if listed:
            for i in range(net.n):
                s.list_end[i] = net.col_liquid[i]
            for a in range(n_active):
                j = s.active[a] + np.uint32(net.n)
                for k in range(net.row_ptr[j], net.row_ptr[j + np.uint32(1)]):
                    i = net.col[k]
                    q = s.list_end[i]
                    s.senders[q] = np.uint64(j) << np.uint64(32) | k
                    s.list_end[i] = q + np.uint64(1)
        if carry:
            x = carried[b]
        else:
            x = s.trace
            x[:] = np.float32(0)
        counts[b, :] = 0
        _present(
            net, c, s, w, x, calcium, drive.is_events, drive.packed, low, high, 0, n_active,
            _sample_key(seed, keys[b]), steps, mode, decay, listed, rec, counts[b], stats[b],
        )  # fmt: skip
        if listed:
            for k in range(net.row_ptr[net.n]):
                w[k] = w_init[k]
            for a in range(n_active):
                j = s.active[a] + np.uint32(net.n)
                for k in range(net.row_ptr[j], net.row_ptr[j + np.uint32(1)]):
                    w[k] = w_init[k]
        elif plastic:
            w[:] = w_init


@_jit
def init_block(
    net: Net,
    c: Constants,
    mode: int,
    steps: int,
    drive: Drive,
    seed: Any,
    samples: Any,
    first_steps: Any,
    keys: Any,
    w: Any,
    x: Any,
    calcium: Any,
    carry: bool,
    rec: Recorder,
    stats: Any,
) -> None:
    """INIT: present snippets one after another; weights `w` and calcium go from each to the next, traces with `carry`.

    Snippet `b` shows sample `samples[b]` from bin `first_steps[b]` on, with random numbers of stream `keys[b]`.
    Writes `stats` `(len(samples), len(STATS))`.
    """
    s = make_scratch(net)
    ignored = np.zeros(net.n, np.uint32)
    for b in range(len(samples)):
        n_active, low, high = _activate(s.active, s.chance, s.is_active, drive, samples[b], first_steps[b], steps)
        if not carry:
            x[:] = np.float32(0)
        _present(
            net, c, s, w, x, calcium, drive.is_events, drive.packed, low, high, first_steps[b], n_active,
            _sample_key(seed, keys[b]), steps, mode, 1.0, False, rec, ignored, stats[b],
        )  # fmt: skip


@_jit
def count_events(drive: Drive, steps: int, seed: Any, samples: Any, counts: Any) -> None:
    """Count the input events of `samples` over `steps` ms, with the random numbers that `run_block` draws for them."""
    n_in = counts.shape[1]
    active, chance = np.zeros(n_in, np.uint32), np.zeros(n_in, np.uint64)
    is_active, hits = np.zeros(n_in, np.uint8), np.zeros(n_in, np.uint8)
    for b in range(len(samples)):
        n_active, low, high = _activate(active, chance, is_active, drive, samples[b], 0, steps)
        if drive.is_events:
            for event in range(low, high):
                counts[b, drive.packed[event] & np.uint32(0xFFFF)] += 1
            continue
        key = _sample_key(seed, samples[b])
        for t in range(steps):
            _draw(key, t, active, chance, n_active, hits)
            for a in range(n_active):
                counts[b, active[a]] += hits[a]
