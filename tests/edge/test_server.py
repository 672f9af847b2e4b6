"""The parent process's own loop, as far as it can be looked at without one."""

import signal
import threading
from types import FrameType

from edge.server import _Wakeful


def test_set_by_a_handler_inside_of_the_event_does_not_wait_for_itself() -> None:
    """A second signal comes while the first one's handler, or the waiter, has the event's lock."""
    event = _Wakeful(lambda: None)
    done = threading.Event()

    def interrupted() -> None:
        with event._cond:  # as inside of `set` and of `wait`
            event.set()
        done.set()

    threading.Thread(target=interrupted, daemon=True).start()
    assert done.wait(60)
    assert event.is_set()
    assert event.wait()


def test_a_signal_wakes_the_waiter() -> None:
    event = _Wakeful(lambda: None)

    def handler(_number: int, _frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert event.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
