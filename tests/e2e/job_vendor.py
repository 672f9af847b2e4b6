"""A vendor of videos and music with jobs, as a server in a thread of the test's process.

It keeps what it was asked, so that a test can count. A prompt says how a job lives:

    [polls=N]     running for so many questions; 1 unless given
    [fail]        ends as failed, [filter]: by a content filter
    [drop]        accepted, and the connection closed before an answer
    [refuse=S]    answered with this status
    [answer=S]    accepted, and answered after so many seconds
    [hold]        the submission is answered once `release` is called
    [broken]      the content is an error page at first
    [slow=S]      the content comes after so many seconds
    [cost=X]      reported as `usage.cost`
    [cancelled]   ends as cancelled
    [link]        offers its content at a URL of another host's name

It also takes webhooks, at `/hook`.
"""

import asyncio
import json
import re
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

_WORD = re.compile(r"\[(\w+)(?:=([^\]]*))?\]")

MP4 = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp42") + b"\0" * 1000
"""The beginning of an MP4, by which its type is known."""
MP3 = b"ID3\x04\0\0\0\0\0\0" + b"\xff\xfb\x90\x64" + b"\0" * 1000


def words(prompt: str) -> dict[str, str]:
    """What a prompt says of the life of its job."""
    return dict(_WORD.findall(prompt))


class Job:
    """One job of the vendor."""

    def __init__(self, job_id: str, body: dict[str, Any]) -> None:
        self.id = job_id
        self.body = body
        self.prompt = str(body.get("prompt", ""))
        self.words = words(self.prompt)
        self.created = time.time()
        self.polls = 0
        self.contents = 0
        self.cancelled = False

    @property
    def status(self) -> str:
        if self.cancelled:
            return "cancelled"
        if self.polls < int(self.words.get("polls", "1")):
            return "in_progress"
        if "fail" in self.words or "filter" in self.words:
            return "failed"
        if "cancelled" in self.words:
            return "cancelled"
        return "completed"

    def shown(self) -> dict[str, Any]:
        error = None
        if self.status == "failed":
            code = "moderation_blocked" if "filter" in self.words else "server_error"
            error = {"code": code, "message": "secret-vendor-text"}
        return {
            "id": self.id,
            "object": "video",
            "status": self.status,
            "prompt": self.prompt,
            "seconds": self.body.get("seconds", "4"),
            "progress": min(100, 10 * self.polls),
            "created_at": int(self.created),
            "error": error,
            **({"usage": {"cost": float(self.words["cost"])}} if "cost" in self.words else {}),
        }


class JobVendor:
    """The server. jobs: by id. counts: of requests by method and path form."""

    def __init__(self, *, lists: bool = True) -> None:
        self.jobs: dict[str, Job] = {}
        self.counts: Counter[str] = Counter()
        self.lists = lists
        self.hooks: list[tuple[dict[str, str], bytes]] = []
        self.keys: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def release(self) -> None:
        """Answer what is held."""
        self._loop.call_soon_threadsafe(self._released.set)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._released, self._ended = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._ended.wait()
        server.close()

    def times(self, prompt: str) -> int:
        """How many jobs were begun with this prompt."""
        return sum(job.prompt == prompt for job in self.jobs.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                lines = head.decode().split("\r\n")[1:]
                headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                if path.endswith("/hook"):
                    kept = dict(line.split(": ", 1) for line in lines if ": " in line)
                    self.hooks.append((kept, body))
                if path.startswith("/linked/"):
                    self.keys.append(headers.get("authorization", ""))
                answer = await self._answer(method, path.partition("?")[0], body)
                if answer is None:
                    break
                status, kind, content = answer
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n"
                    f"content-length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await writer.drain()

    async def _answer(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes] | None:
        if path == "/hook":
            return _json(200, {})
        if path.startswith("/linked/"):
            return 200, "video/mp4", MP4 + path.encode()
        path = path.removeprefix("/v1")
        form = re.sub(r"vid_\w+", "ID", path)
        self.counts[f"{method} {form}"] += 1
        if method == "POST" and form in ("/videos", "/videos/ID/remix", "/music"):
            return await self._submit(json.loads(body), music=form == "/music")
        if method == "GET" and form == "/videos":
            if not self.lists:
                return _json(404, {"error": {"message": "no such route"}})
            newest = sorted(self.jobs.values(), key=lambda job: -job.created)
            return _json(200, {"object": "list", "data": [job.shown() for job in newest]})
        job = self.jobs.get(path.split("/")[2]) if path.count("/") >= 2 else None
        if job is None:
            return _json(404, {"error": {"message": "no such video"}})
        if form == "/videos/ID" and method == "GET":
            job.polls += 1
            shown = job.shown()
            if "link" in job.words and job.status == "completed":
                port = self.url.rpartition(":")[2]
                shown["unsigned_urls"] = [f"http://localhost:{port}/linked/{job.id}"]
            return _json(200, shown)
        if form == "/videos/ID/content":
            job.contents += 1
            await asyncio.sleep(float(job.words.get("slow", "0")))
            if "broken" in job.words and job.contents == 1:
                return 200, "text/html", b"<html>busy</html>"
            return 200, "video/mp4", MP4 + job.id.encode()
        return _json(404, {"error": {"message": "no such route"}})

    async def _submit(self, body: dict[str, Any], *, music: bool) -> tuple[int, str, bytes] | None:
        wanted = words(str(body.get("prompt", "")))
        if "refuse" in wanted:
            status = int(wanted["refuse"])
            return _json(status, {"error": {"message": "not now", "code": "refused"}})
        job = Job(f"vid_{len(self.jobs):06d}", body)
        self.jobs[job.id] = job
        await asyncio.sleep(float(wanted.get("answer", "0")))
        if "hold" in wanted:
            await self._released.wait()
        if "drop" in wanted:
            return None
        if music:
            return 200, "audio/mpeg", MP3 + job.id.encode()
        return _json(200, job.shown())


def _json(status: int, content: Any) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(content).encode()


@contextmanager
def job_vendor(**options: Any) -> Iterator[JobVendor]:
    """A running vendor."""
    vendor = JobVendor(**options)
    vendor.start()
    try:
        yield vendor
    finally:
        vendor.close()
