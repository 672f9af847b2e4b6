"""An upstream in process whose answers a test scripts, and jobs that it gets."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from edge.upstreams import Header, Request, UpstreamFailure
from edge.upstreams.provider import Provider

JSON = (b"content-type", b"application/json")


class Reply:
    """One answer: JSON, or bytes; or a failure, raised in place of it, or while it is read."""

    def __init__(
        self,
        content: Any = None,
        *,
        status: int = 200,
        headers: tuple[Header, ...] = (JSON,),
        failure: UpstreamFailure | None = None,
        broken: UpstreamFailure | None = None,
    ) -> None:
        self.body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        self.status = status
        self.headers = list(headers)
        self.failure = failure
        self._broken = broken

    async def read(self) -> bytes:
        if self._broken is not None:
            raise self._broken
        body, self.body = self.body, b""
        return body

    def close(self) -> None:
        pass


class ScriptedVendor:
    """Answers each request by the first script whose method and path fit; keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.traces: list[str] = []
        """`traceparent` of each request, "" where there is none."""
        self.scripts: list[tuple[str, str, Callable[[], Reply]]] = []

    def on(self, method: str, path: str, *replies: Reply | Callable[[], Reply]) -> None:
        """Answer these in turn; the last one stays."""
        queue = list(replies)

        def take() -> Reply:
            reply = queue.pop(0) if len(queue) > 1 else queue[0]
            return reply() if callable(reply) else reply

        self.scripts.insert(0, (method, path, take))

    async def open(self, request: Request) -> Reply:
        body = request.body
        data = body if isinstance(body, bytes) else b""
        if isinstance(body, AsyncIterator):
            data = b"".join([piece async for piece in body])
        path = request.target.decode().partition("?")[0]
        self.traces.append(dict(request.headers).get(b"traceparent", b"").decode())
        content = msgspec.json.decode(data) if data else None
        self.asked.append((request.method.decode(), path, content))
        for method, fits, take in self.scripts:
            if method == request.method.decode() and fits == path:
                reply = take()
                if reply.failure is not None:
                    raise reply.failure
                return reply
        return Reply({"error": {"message": "no such route"}}, status=404)

    def count(self, method: str, path: str) -> int:
        return sum((method, path) == (m, p) for m, p, _ in self.asked)

    async def aclose(self) -> None:
        pass


def provider_of(vendor: ScriptedVendor, name: str = "v") -> Provider:
    return Provider(
        name=name,
        upstream=vendor,
        dialects=frozenset(("openai",)),
        base_url="http://vendor.example/v1",
        base_path=b"/v1",
    )
