"""One answer while it is made, and everybody who waits for it.

Theory of operation. The app that makes the answer never sends to a client: it sends to a
`Recording`. Each client is a `Follower` with a task of its own, which takes from the recording what
it has not had yet. So a client that comes late gets all of it, a client that leaves is missed by
nobody, and a slow one does not hold up the others.

That holds while the recording is no larger than it may be. From there on it is a pipe: what every
follower has had is forgotten, the app waits for the slowest, nobody may join any more, and when the
last follower leaves the app hears of it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf

from middlewares.asgi import Header, Message, Receive, Send
from middlewares.disconnects import hear

_BLOCK = 16 << 10


class Follower:
    """One client that waits, and whether it is still there.

    It owns `receive` until `close`. Only its own task may wait on it.
    """

    __slots__ = ("_recording", "_waiter", "_watcher", "left", "taken")

    def __init__(self, receive: Receive) -> None:
        self.left = False
        self.taken = 0
        self._recording: Recording | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watcher = asyncio.get_running_loop().create_task(self._watch(receive))

    async def _watch(self, receive: Receive) -> None:
        with suppress(Exception):  # a server that fails to tell will not tell any more
            while (await hear(receive))["type"] != "http.disconnect":
                pass
        self.leave()

    def leave(self) -> None:
        """The client has gone."""
        self.left = True
        self.ring()
        if self._recording is not None:
            self._recording.make_room()

    def follow(self, recording: "Recording | None") -> None:
        """Join `recording`, from its beginning; None: follow nothing any more."""
        before, self._recording = self._recording, recording
        if before is not None:
            before.followers.discard(self)
            before.make_room()
        self.taken = 0
        if recording is not None:
            recording.joined(self)

    def ring(self) -> None:
        """Something has changed."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for what `ring` tells of."""
        while not true():
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        self.follow(None)
        self._watcher.cancel()


class RecordingMemory:
    """Bytes that recordings may still take together."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class Recording:
    """What an app has sent so far. largest: bytes of body that are recorded, if `space` has them.
    They are given back when it has ended and nobody follows it.

    alone: seconds after which the app hears of a hang-up, where nothing has been answered yet and
    every client has left; then `abandoned` is true, and nobody can join any more.
    """

    __slots__ = (
        "_alone",
        "_blocks",
        "_forgotten",
        "_held",
        "_largest",
        "_over",
        "_room",
        "_size",
        "_space",
        "_timer",
        "abandoned",
        "became_large",
        "ended",
        "followers",
        "start",
        "whole",
    )

    def __init__(self, largest: int, space: RecordingMemory, alone: float = inf) -> None:
        self.start: Message | None = None
        self.abandoned = False
        self._alone = alone
        self._timer: asyncio.TimerHandle | None = None
        self.whole = False
        self.ended = False
        self.became_large = asyncio.Event()
        self.followers: set[Follower] = set()
        self._largest = largest
        self._blocks: list[bytes] = []
        self._forgotten = 0
        self._size = 0
        self._space = space
        self._held = 0
        self._room = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def large(self) -> bool:
        """Whether it is larger than what is recorded."""
        return self.became_large.is_set()

    @property
    def listening(self) -> bool:
        """Whether a client is left that waits for it."""
        return any(not follower.left for follower in self.followers)

    @property
    def _count(self) -> int:
        return self._forgotten + len(self._blocks)

    # The app's side

    def receive(self, body: list[Message]) -> Receive:
        """What the app receives: these messages, and a disconnect once there is nothing to do.

        That is after the last of the answer; or when nobody waits for it and nobody can join.
        """

        async def receive() -> Message:
            if body:
                return body.pop(0)
            await self._over.wait()
            return {"type": "http.disconnect"}

        return receive

    async def send(self, message: Message) -> None:
        """What the app sends to. Raises RuntimeError for what ASGI forbids.

        Nothing of a message is referred to afterwards: an app may use it again.
        """
        kind = message["type"]
        if kind == "http.response.start" and self.start is None:
            self.start = {**message, "headers": [(n, v) for n, v in message.get("headers", ())]}
            return self.ring()
        if kind != "http.response.body" or self.start is None or self.whole:
            raise RuntimeError(f"unexpected message {kind!r}")
        body = bytes(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if body or self.whole:
            self._blocks.append(body)
        self._size += len(body)
        if not self.large:
            if self._size > self._largest or len(body) > self._space.left:
                self.became_large.set()
                self._hold(-self._held)
            else:
                self._hold(len(body))
        if self.whole:
            self._over.set()
        self.ring()
        if self.large:
            await self._everybody_has_it()

    async def _everybody_has_it(self) -> None:
        while any(one.taken < self._count and not one.left for one in self.followers):
            self._room.clear()
            await self._room.wait()
        self._forgotten += len(self._blocks)
        self._blocks.clear()
        self.make_room()

    def make_room(self) -> None:
        """A follower has taken something, or left."""
        self._room.set()
        if self.ended and not self.followers:
            self._hold(-self._held)
        if self.listening:
            return
        if self.large:
            self._over.set()
        elif self.start is None and not self.ended and self._timer is None and self._alone != inf:
            self._timer = asyncio.get_running_loop().call_later(self._alone, self._abandon)

    def joined(self, follower: Follower) -> None:
        """Somebody follows it from now on."""
        self.followers.add(follower)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abandon(self) -> None:
        """The time that it may go on alone is over, unless somebody has come back."""
        self._timer = None
        if self.start is None and not (self.ended or self.listening):
            self.abandoned = True
            self._over.set()

    def end(self) -> None:
        """Nothing more will come, whether it is whole or not."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._over.set()
        self.make_room()
        self.ring()

    def ring(self) -> None:
        """Tell all followers that something has changed."""
        for follower in self.followers:
            follower.ring()

    # The clients' side

    async def pass_on(self, follower: Follower, send: Send, extra: tuple[Header, ...] = ()) -> bool:
        """Send what there is and what comes, with `extra` headers; whether that was all of it.

        False when it broke off, or when the client left.
        """
        await follower.until(lambda: self.start is not None or self.ended or follower.left)
        if self.start is None or follower.left:
            return False
        await send({**self.start, "headers": [*self.start["headers"], *extra]})
        while True:
            await follower.until(
                lambda: follower.taken < self._count or self.ended or follower.left
            )
            if follower.left or follower.taken == self._count:
                return False
            block = self._blocks[follower.taken - self._forgotten]
            more = not self.whole or follower.taken + 1 < self._count
            await send({"type": "http.response.body", "body": block, "more_body": more})
            follower.taken += 1
            self.make_room()
            if not more:
                return True

    # The store's side

    def fill(self, status: int, headers: tuple[Header, ...], blocks: tuple[bytes, ...]) -> None:
        """Make it what was recorded before."""
        self.start = {"type": "http.response.start", "status": status, "headers": list(headers)}
        self._blocks = list(blocks) or [b""]
        self._hold(sum(map(len, self._blocks)))
        self.whole = True

    def _hold(self, more: int) -> None:
        self._held += more
        self._space.left -= more

    def blocks(self) -> tuple[bytes, ...]:
        """The body in fewer pieces, none of which ends where none ended before."""
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
