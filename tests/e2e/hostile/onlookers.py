"""Innocent clients beside a hostile one: slow streams and `/livez`, in a process of their own.

`python -m tests.e2e.hostile.onlookers URL KEY STREAMS` opens the streams, says `ready`, and then
answers each line on standard input with what was seen since the last one, as JSON:

streams: longest gap between two events of one stream. livez: longest time for an answer.
noise: longest time by which a timer of this process was late. All in seconds. events: how many.
"""

import asyncio
import json
import sys
from time import perf_counter
from urllib.parse import urlsplit

PACE = 0.2
"""Seconds between two events of a stream."""
_HOLD = 3600


class Seen:
    """The longest of each since it was last asked for."""

    def __init__(self) -> None:
        self.streams = self.livez = self.noise = 0.0
        self.events = 0
        self.ended = 0

    def line(self) -> str:
        return json.dumps(vars(self))


class Crowd:
    """All onlookers of one gateway."""

    def __init__(self, url: str, key: str, streams: int) -> None:
        place = urlsplit(url)
        self.host, self.port = place.hostname, place.port
        self.key = key
        self.number = streams
        self.seen = Seen()
        self.flowing = 0

    async def stream(self) -> None:
        text = f"[[sim tokens={round(_HOLD / PACE)} rate={1 / PACE:g}]]"
        body = json.dumps(
            {"model": "slow", "messages": [{"role": "user", "content": text}], "stream": True}
        ).encode()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (self.key.encode(), len(body), body)
        )
        last = 0.0
        while await reader.read(1 << 16):
            now = perf_counter()
            if last:
                self.seen.streams = max(self.seen.streams, now - last)
            else:
                self.flowing += 1
            last = now
            self.seen.events += 1
        self.seen.ended += 1

    async def livez(self) -> None:
        """Ask again and again. A server that stood still for long closes the connection instead of
        answering: then on another, and the time counts as one."""
        started = 0.0
        while True:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                while True:
                    started = started or perf_counter()
                    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    self.seen.livez = max(self.seen.livez, perf_counter() - started)
                    started = 0.0
                    await asyncio.sleep(0.01)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

    async def noise(self) -> None:
        while True:
            started = perf_counter()
            await asyncio.sleep(0.01)
            self.seen.noise = max(self.seen.noise, perf_counter() - started - 0.01)

    async def run(self) -> None:
        tasks = [asyncio.create_task(self.stream()) for _ in range(self.number)]
        while self.flowing < self.number:
            assert not self.seen.ended, "a stream ended at once"
            await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(self.livez()), asyncio.create_task(self.noise())]
        loop = asyncio.get_running_loop()
        stdin = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        print("ready", flush=True)
        while await stdin.readline():
            print(self.seen.line(), flush=True)
            self.seen = Seen()


if __name__ == "__main__":
    asyncio.run(Crowd(sys.argv[1], sys.argv[2], int(sys.argv[3])).run())
