"""State notices to the service manager (systemd), as of sd_notify(3).

Theory of operation. `NOTIFY_SOCKET` names a Unix datagram socket, in the abstract namespace when it
begins with `@`. Each notice is one datagram of `NAME=value` lines, sent over a socket of its own,
so that no process forked later inherits one. The variables are removed from the environment: a
worker, a `claude` client and the decoders of media must not speak for the gateway.

`READY=1` is sent once, when workers accept connections. Around a reload go `RELOADING=1`, with the
time that `Type=notify-reload` compares with its own, and `READY=1`. After `STOPPING=1` comes no
other state. With `WatchdogSec=` set, `alive` says twice in each interval that the parent runs.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from enum import Enum, auto

_log = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds that a notice may wait for a service manager whose queue is full."""


class _State(Enum):
    STARTING = auto()
    READY = auto()
    RELOADING = auto()
    STOPPING = auto()


class ServiceManager:
    """The service manager that waits for this process. Without an address, nothing is sent.

    address: of its socket, as `socket.connect` takes it. watchdog: seconds within which it expects
    a sign of life; None for no watchdog. clock: monotonic nanoseconds.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        watchdog: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = address
        self._interval = None if watchdog is None else int(watchdog * 5e8)  # half, in nanoseconds
        self._clock = clock
        self._next_sign = 0
        self._state = _State.STARTING
        self._text = ""
        self._lock = threading.Lock()
        """The configuration watcher reloads in its own thread."""

    @classmethod
    def from_environment(
        cls,
        environ: MutableMapping[str, str] = os.environ,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> "ServiceManager":
        """The one that `NOTIFY_SOCKET` names. Removes what it reads from the environment."""
        name = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        for_process = environ.pop("WATCHDOG_PID", "")
        if not name:
            return cls()
        if name[0] not in "/@":
            _log.warning("NOTIFY_SOCKET: expected a path or an abstract name, not %s", name)
            return cls()
        ours = for_process in ("", str(os.getpid())) and microseconds.isdecimal()
        return cls(
            f"\0{name[1:]}" if name[0] == "@" else name,
            watchdog=int(microseconds) / 1e6 if ours and int(microseconds) else None,
            clock=clock,
        )

    def describe(self, text: str) -> None:
        """Set the line that `systemctl status` shows from the next notice on."""
        self._text = text.replace("\n", " ")

    def ready(self) -> None:
        """Workers accept connections. Raises OSError when the notice cannot be sent."""
        with self._lock:
            if self._state is _State.STARTING:
                self._send("READY=1")
                self._state = _State.READY

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is loaded again inside. A lost notice does not prevent that."""
        self._move(_State.READY, _State.RELOADING)
        try:
            yield
        finally:
            self._move(_State.RELOADING, _State.READY)

    def stopping(self) -> None:
        """A stop has begun. Raises OSError when the notice cannot be sent."""
        with self._lock:
            first = self._state is not _State.STOPPING
            self._state = _State.STOPPING
            if first:
                self._text = "Stopping; running requests may end"
                self._send("STOPPING=1")

    def alive(self) -> None:
        """The parent's loop runs: a sign of life when one is due. Raises OSError."""
        if self._interval is None or self._clock() < self._next_sign:
            return
        self._next_sign = self._clock() + self._interval
        self._send_lines("WATCHDOG=1")

    def _move(self, before: _State, after: _State) -> None:
        with self._lock:
            if self._state is not before:
                return
            self._state = after
            try:
                if after is _State.RELOADING:
                    self._send("RELOADING=1", f"MONOTONIC_USEC={self._clock() // 1000}")
                else:
                    self._send("READY=1")
            except OSError as error:
                _log.warning("the service manager takes no notice of a reload: %s", error)

    def _send(self, *lines: str) -> None:
        self._send_lines(*lines, *([f"STATUS={self._text}"] if self._text else []))

    def _send_lines(self, *lines: str) -> None:
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_PATIENCE)
            sender.connect(self._address)
            sender.send("\n".join(lines).encode())
