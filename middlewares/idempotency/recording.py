"""The recording of one answer while it is made, and the clients that follow it.

Theory of operation. The app sends to a `Recording`, never to a client. Each client is a `Follower`
with its own task, which takes from the recording the messages it has not sent yet. So a late client
gets the whole answer, a client that disconnects does not disturb the others, and a slow client does
not hold them up.

This holds up to the largest size that is recorded. Beyond it the recording is a pipe: messages that
every follower has taken are dropped, the app waits for the slowest follower, no client may join,
and the app gets the disconnect of the last follower.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf

from middlewares.asgi import Header, Message, Receive, Send
from middlewares.disconnects import receive_or_disconnect

_BLOCK = 16 << 10


class Follower:
    """One client that follows a recording, and whether it is connected.

    It owns `receive` until `close`. Only its own task may wait on it.
    """

    __slots__ = ("_recording", "_waiter", "_watcher", "disconnected", "taken")

    def __init__(self, receive: Receive) -> None:
        self.disconnected = False
        self.taken = 0
        self._recording: Recording | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watcher = asyncio.get_running_loop().create_task(self._watch(receive))

    async def _watch(self, receive: Receive) -> None:
        with suppress(Exception):  # after an error `receive` reports nothing more
            while (await receive_or_disconnect(receive))["type"] != "http.disconnect":
                pass
        self.disconnect()

    def disconnect(self) -> None:
        """Mark the client as disconnected."""
        self.disconnected = True
        self.notify()
        if self._recording is not None:
            self._recording.follower_changed()

    def follow(self, recording: "Recording | None") -> None:
        """Join `recording` from its beginning; None: leave the one that is followed."""
        before, self._recording = self._recording, recording
        if before is not None:
            before.followers.discard(self)
            before.follower_changed()
        self.taken = 0
        if recording is not None:
            recording.joined(self)

    def notify(self) -> None:
        """Wake the follower to check its condition again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait_until(self, true: Callable[[], bool]) -> None:
        """Wait until `true()`, checked at each `notify`."""
        while not true():
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """Follow nothing and stop watching the client."""
        self.follow(None)
        self._watcher.cancel()


class RecordingMemory:
    """Bytes that recordings may still hold together."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class Recording:
    """What an app has sent so far.

    max_answer: bytes of body that are recorded, if `memory` has room for them. They are given back
        when the recording has ended and has no follower.
    detached_timeout: seconds after which the app gets a disconnect if no answer has begun and every
        client has disconnected. Then `abandoned` is true, and no client may join.
    """

    __slots__ = (
        "_blocks",
        "_detached_timeout",
        "_done",
        "_forgotten",
        "_held",
        "_max_answer",
        "_memory",
        "_size",
        "_taken",
        "_timer",
        "abandoned",
        "became_large",
        "ended",
        "followers",
        "start",
        "whole",
    )

    def __init__(
        self, max_answer: int, memory: RecordingMemory, detached_timeout: float = inf
    ) -> None:
        self.start: Message | None = None
        self.abandoned = False
        self._detached_timeout = detached_timeout
        self._timer: asyncio.TimerHandle | None = None
        self.whole = False
        self.ended = False
        self.became_large = asyncio.Event()
        self.followers: set[Follower] = set()
        self._max_answer = max_answer
        self._blocks: list[bytes] = []
        self._forgotten = 0
        self._size = 0
        self._memory = memory
        self._held = 0
        self._taken = asyncio.Event()
        self._done = asyncio.Event()

    @property
    def large(self) -> bool:
        """Whether the answer is too large to be recorded."""
        return self.became_large.is_set()

    @property
    def listening(self) -> bool:
        """Whether a connected client follows it."""
        return any(not follower.disconnected for follower in self.followers)

    @property
    def _count(self) -> int:
        return self._forgotten + len(self._blocks)

    # The app's side

    def receive(self, body: list[Message]) -> Receive:
        """The app's `receive`: these messages, then a disconnect when there is nothing left to do.

        That is after the last message of the answer, or when no client follows and none may join.
        """

        async def receive() -> Message:
            if body:
                return body.pop(0)
            await self._done.wait()
            return {"type": "http.disconnect"}

        return receive

    async def send(self, message: Message) -> None:
        """The app's `send`. Raises RuntimeError for a message that ASGI forbids here.

        It keeps no reference to the message: an app may reuse it.
        """
        kind = message["type"]
        if kind == "http.response.start" and self.start is None:
            self.start = {**message, "headers": [(n, v) for n, v in message.get("headers", ())]}
            return self.notify()
        if kind != "http.response.body" or self.start is None or self.whole:
            raise RuntimeError(f"unexpected message {kind!r}")
        body = bytes(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if body or self.whole:
            self._blocks.append(body)
        self._size += len(body)
        if not self.large:
            if self._size > self._max_answer or len(body) > self._memory.left:
                self.became_large.set()
                self._hold(-self._held)
            else:
                self._hold(len(body))
        if self.whole:
            self._done.set()
        self.notify()
        if self.large:
            await self._wait_for_followers()

    async def _wait_for_followers(self) -> None:
        while any(one.taken < self._count and not one.disconnected for one in self.followers):
            self._taken.clear()
            await self._taken.wait()
        self._forgotten += len(self._blocks)
        self._blocks.clear()
        self.follower_changed()

    def follower_changed(self) -> None:
        """React to a follower that took a message, disconnected or left."""
        self._taken.set()
        if self.ended and not self.followers:
            self._hold(-self._held)
        if self.listening:
            return
        if self.large:
            self._done.set()
        elif (
            self.start is None
            and not self.ended
            and self._timer is None
            and self._detached_timeout != inf
        ):
            self._timer = asyncio.get_running_loop().call_later(
                self._detached_timeout, self._abandon
            )

    def joined(self, follower: Follower) -> None:
        """Add a follower."""
        self.followers.add(follower)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abandon(self) -> None:
        """End a run whose clients have all disconnected before it answered."""
        self._timer = None
        if self.start is None and not (self.ended or self.listening):
            self.abandoned = True
            self._done.set()

    def end(self) -> None:
        """End the recording, complete or not."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._done.set()
        self.follower_changed()
        self.notify()

    def notify(self) -> None:
        """Wake all followers."""
        for follower in self.followers:
            follower.notify()

    # The clients' side

    async def stream_to(
        self, follower: Follower, send: Send, extra: tuple[Header, ...] = ()
    ) -> bool:
        """Send the whole answer to a follower, with `extra` headers, as it is made.

        False if the answer broke off or the client disconnected.
        """
        await follower.wait_until(
            lambda: self.start is not None or self.ended or follower.disconnected
        )
        if self.start is None or follower.disconnected:
            return False
        await send({**self.start, "headers": [*self.start["headers"], *extra]})
        while True:
            await follower.wait_until(
                lambda: follower.taken < self._count or self.ended or follower.disconnected
            )
            if follower.disconnected or follower.taken == self._count:
                return False
            block = self._blocks[follower.taken - self._forgotten]
            more = not self.whole or follower.taken + 1 < self._count
            await send({"type": "http.response.body", "body": block, "more_body": more})
            follower.taken += 1
            self.follower_changed()
            if not more:
                return True

    # The store's side

    def fill(self, status: int, headers: tuple[Header, ...], blocks: tuple[bytes, ...]) -> None:
        """Load a stored answer."""
        self.start = {"type": "http.response.start", "status": status, "headers": list(headers)}
        self._blocks = list(blocks) or [b""]
        self._hold(sum(map(len, self._blocks)))
        self.whole = True

    def _hold(self, more: int) -> None:
        self._held += more
        self._memory.left -= more

    def blocks(self) -> tuple[bytes, ...]:
        """The body in fewer blocks, each a run of whole blocks that the app sent."""
        gathered: list[bytes] = []
        parts: list[bytes] = []
        size = 0
        for block in self._blocks:
            if size and size + len(block) > _BLOCK:
                gathered.append(b"".join(parts))
                parts, size = [], 0
            parts.append(block)
            size += len(block)
        gathered.append(b"".join(parts))
        return tuple(gathered)
