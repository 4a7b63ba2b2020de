"""What is shown while a run works."""

from __future__ import annotations

import io

import pytest

from runners.progress import Progress, format_rate, format_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_no_more_often_than_asked_and_at_the_end() -> None:
    stream = io.StringIO()
    with Progress(stream).phase("INIT", total=1000, unit="snippets") as advance:
        for done in range(1000):
            advance(done + 1)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().startswith("INIT: done in 0.0 s (") and "snippets/s)" in stream.getvalue()


def test_a_job_among_others_tells_its_name_in_plain_lines_even_on_a_terminal() -> None:
    progress = Progress(stream := Terminal(), name="[job 3]")
    with progress.phase("INIT", total=2) as advance:
        advance(2)
    progress.warn("the liquid is silent")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("[job 3] INIT: done in") and second == "[job 3] warning: the liquid is silent"


def test_a_plain_line_tells_amount_rate_and_time_left() -> None:
    stream = io.StringIO()
    with Progress(stream, interval_s=0).phase("RUN", unit="samples") as advance:
        advance(5)
        advance(10, 20)
    first, second, _ = stream.getvalue().splitlines()
    assert first == "RUN: 5 samples"
    assert second.startswith("RUN: 10/20 samples, ") and second.endswith(" left") and "/s, " in second


def test_a_terminal_shows_a_bar_with_rate_and_notes_above_it() -> None:
    stream = Terminal()
    progress = Progress(stream)
    with progress.phase("readout", total=60, unit="epochs") as advance:
        advance(30)
        progress.warn("the liquid [silent] is silent")
        advance(60)
    shown = stream.getvalue()
    assert "60/60" in shown and "epochs/s" in shown
    assert "warning: the liquid [silent] is silent" in shown


def test_what_an_earlier_start_had_done_is_not_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("runners.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress(stream, interval_s=1).phase("INIT", total=1000, unit="snippets") as advance:
        advance(900)
        now[0] = 10.0
        advance(950)
    line, last = stream.getvalue().splitlines()
    assert line == "INIT: 950/1000 snippets, 5/s, 10 s left"
    assert last == "INIT: done in 10 s (5 snippets/s)"


def test_a_phase_that_fails_is_not_called_done() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="broken"), Progress(stream).phase("INIT", total=3) as advance:
        advance(1)
        raise ValueError("broken")
    assert "done" not in stream.getvalue()


def test_rates_and_times_are_short() -> None:
    assert [format_seconds(s) for s in (0.44, 73.2, 725, 12000)] == ["0.4 s", "73 s", "12 min 5 s", "3 h 20 min"]
    assert [format_rate(n, 2.0, "x") for n in (0, 3, 5000)] == ["", "1.5 x/s", "2500 x/s"]
