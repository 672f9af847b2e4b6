"""Streams that note the time between their events, in a process of their own.

`python -m bench.event_gaps URL KEY STREAMS MODEL` opens the streams, an event each 20 ms, prints
`ready`, and then answers each line on standard input with the gaps since the last one, in ms, as
JSON: gaps: all of them, sorted. ended: how many streams were cut or refused. A stream that is
complete is followed by another.
"""

import asyncio
import json
import sys
from time import perf_counter
from urllib.parse import urlsplit

PACE = 0.02
"""Seconds between two events of a stream."""
_EVENTS = 1500
"""Of the shortest stream; the simulator makes all of them at once."""
_MORE = 20
"""Events that each stream has more than the one before, so that they end one after another."""


class Streams:
    """All streams of one gateway.

    gaps: since they were last reported. flowing: how many have begun. ended: how many were cut or
    refused. refused: the answer, if it was no stream.
    """

    def __init__(self, url: str, key: str, model: str) -> None:
        place = urlsplit(url)
        self._address = place.hostname, place.port
        self._key = key
        self._model = model
        self.gaps: list[float] = []
        self.flowing = 0
        self.ended = 0
        self.refused = b""

    def _request(self, events: int) -> bytes:
        text = f"[[sim tokens={events} rate={1 / PACE:g}]]"
        messages = [{"role": "user", "content": text}]
        body = json.dumps({"model": self._model, "stream": True, "messages": messages}).encode()
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (self._key.encode(), len(body), body)
        )

    async def repeat(self, number: int) -> None:
        """Read a stream, the longer the higher its number, and then others like it."""
        request = self._request(_EVENTS + _MORE * number)
        while not self.ended:
            await self._one(request)

    async def _one(self, request: bytes) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(request)
        last = 0.0
        while data := await reader.read(1 << 16):
            now = perf_counter()
            if last:
                self.gaps.append(now - last)
            elif not data.startswith(b"HTTP/1.1 200"):
                self.refused = data
                break
            else:
                self.flowing += 1
            last = now
            if b"[DONE]" in data:
                writer.close()
                return
        self.ended += 1

    def line(self) -> str:
        """The gaps since the last line."""
        gaps, self.gaps = self.gaps, []
        return json.dumps(
            {"gaps": [round(gap * 1000, 2) for gap in sorted(gaps)], "ended": self.ended}
        )


async def run(url: str, key: str, number: int, model: str) -> None:
    """Open the streams, and report until standard input ends."""
    streams = Streams(url, key, model)
    tasks = [asyncio.create_task(streams.repeat(n)) for n in range(number)]
    while streams.flowing < number:
        assert not streams.ended, streams.refused or "a stream ended at once"
        await asyncio.sleep(0.05)
    stdin = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    print("ready", flush=True)
    while await stdin.readline():
        print(streams.line(), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
