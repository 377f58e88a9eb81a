"""What a person sees of long work, on a terminal and off it."""

import io

import pytest
from rich.console import Console

from models.workbench import Standing
from pipelines import console


@pytest.fixture
def screen(monkeypatch):
    """Puts standard error on a made-up terminal, or elsewhere."""

    def put(*, terminal):
        written = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
        monkeypatch.setattr(console, "err", written)
        return written.file

    return put


def test_off_a_terminal_a_line_now_and_then_says_how_far_it_is(screen, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    written = screen(terminal=False)
    with console.watched("cross") as report:
        report(Standing(100, 400, "loss 0.90"))  # gone on from an earlier process
        for now[0], done in ((4.0, 110), (20.0, 200), (25.0, 210), (5000.0, 399)):
            report(Standing(done, 400, f"loss 0.{done}"))
        now[0] = 7265.0
    assert written.getvalue().splitlines() == [
        # 100 steps in 20 s, so 200 more in 40 s
        "cross: 200 of 400, loss 0.200, about 40 s left",
        "cross: 399 of 400, loss 0.399, about 17 s left",
        "cross: done in 2 h 01 min",
    ]


@pytest.mark.parametrize("steps", [400, 9000])  # fewer than there were tokens, or as many
def test_each_phase_of_the_work_is_timed_by_itself(screen, monkeypatch, steps):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    written = screen(terminal=False)
    with console.watched("cross") as report:
        for now[0], done, total in (
            (0.0, 0, 9000),
            (20.0, 8999, 9000),
            (100.0, 0, steps),
            (120.0, 100, steps),
        ):
            report(Standing(done, total, ""))
    assert written.getvalue().splitlines() == [
        "cross: 8,999 of 9,000, about 0 s left",
        f"cross: 0 of {steps:,}",
        # 100 steps in 20 s
        f"cross: 100 of {steps:,}, about {'1 min 00 s' if steps == 400 else '29 min 40 s'} left",
        "cross: done in 2 min 00 s",
    ]


def test_on_a_terminal_there_is_a_bar_with_the_note(screen):
    written = screen(terminal=True)
    with console.watched("cross [x]") as report:
        report(Standing(3, 8, "loss [0.5]"))
        report(Standing(4, 8, "loss [0.25]"))
    assert "cross [x]" in written.getvalue()
    assert "4/8" in written.getvalue()
    assert "loss [0.25]" in written.getvalue()


def test_work_that_reports_nothing_is_shown_all_the_same(screen):
    for terminal in (True, False):
        written = screen(terminal=terminal)
        with console.watched("lexical"):
            pass
        assert "lexical: done in 0 s" in written.getvalue()


def test_nothing_is_said_of_work_that_failed(screen):
    written = screen(terminal=False)
    with pytest.raises(KeyError), console.watched("cross"):
        raise KeyError
    assert "done" not in written.getvalue()
