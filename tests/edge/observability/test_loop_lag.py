"""How late an event loop is, on a clock that the test turns."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from edge.observability.loop_lag import LoopLag


class Timer:
    """A timer of `Loop`."""

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self._at = at
        self.call = call
        self.cancelled = False

    def when(self) -> float:
        return self._at

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A loop with one timer, whose clock the test turns."""

    def __init__(self) -> None:
        self.now = 50.0
        self.timer: Timer | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[..., None], *args: Any) -> Timer:
        self.timer = Timer(self.now + delay, partial(call, *args))
        return self.timer

    def pass_for(self, seconds: float, *, stopped: float = 0.0) -> None:
        """Let time pass, at its start with a step that takes `stopped` seconds."""
        end = self.now + seconds
        self.now += stopped
        while self.timer and not self.timer.cancelled and self.timer.when() <= end:
            self.now = max(self.now, self.timer.when())
            self.timer.call()
        self.now = max(self.now, end)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    found = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: found)
    return found


def test_longest_is_the_largest_of_ten_seconds(loop: Loop) -> None:
    lag = LoopLag()
    assert lag.longest() == 0
    lag.start()
    loop.pass_for(1.0)
    assert lag.longest() == pytest.approx(0.0, abs=1e-6)
    loop.pass_for(1.0, stopped=0.7)
    assert 0.6 <= lag.longest() <= 0.7
    loop.pass_for(5.0, stopped=0.3)
    assert 0.6 <= lag.longest() <= 0.7
    loop.pass_for(4.9)  # the first is over ten seconds ago, the second not
    assert 0.2 <= lag.longest() <= 0.3
    loop.pass_for(6.0)
    assert lag.longest() == pytest.approx(0.0, abs=1e-6)
    lag.stop()


def test_longest_shows_a_step_that_still_stops_the_loop(loop: Loop) -> None:
    """Its scrape comes before the timer has its turn."""
    lag = LoopLag()
    lag.start()
    loop.now += 2.0
    assert lag.longest() == pytest.approx(1.9)


def test_stop_ends_the_timer(loop: Loop) -> None:
    lag = LoopLag()
    lag.start()
    lag.stop()
    lag.stop()
    loop.pass_for(5.0, stopped=3.0)
    assert lag.longest() == 0
    assert loop.timer is not None
    assert loop.timer.cancelled


async def test_timer_runs_on_a_real_loop() -> None:
    lag = LoopLag()
    lag.start()
    try:
        await asyncio.sleep(0.25)
        assert lag.longest() >= 0
    finally:
        lag.stop()
