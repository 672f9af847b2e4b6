"""Requests of a job to its upstream.

A submission has a body that can be read only once. So no transport sends it a second time once a
byte of it may have left, whatever `fallback.retry_unanswered` says.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from edge.untyped_json import decode_any
from edge.upstreams import Header, Request, Response
from edge.upstreams.bodies import read_all
from edge.upstreams.http1.wire import SizedBody
from edge.upstreams.provider import Provider

from .vendors.base import Call

_LARGEST = 32 << 20
"""Bytes of an answer that is JSON."""


class Reply(msgspec.Struct, frozen=True):
    """The whole answer to a call."""

    status: int
    headers: list[Header]
    body: bytes

    def json(self) -> Any:
        """The body, decoded; None if it is no JSON."""
        try:
            return decode_any(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


async def read(response: Response) -> Reply:
    """The whole of an answer that has begun. Raises UpstreamFailure."""
    try:
        return Reply(response.status, response.headers, await read_all(response, _LARGEST))
    finally:
        response.close()


async def open_call(provider: Provider, call: Call, context: tuple[Header, ...] = ()) -> Response:
    """Send a call; return when the head of the answer has arrived. Raises UpstreamFailure.
    context: headers of its trace."""
    headers = {**dict(provider.headers), **dict(context)}
    headers |= {name.encode(): value.encode("latin-1") for name, value in call.headers.items()}
    body = None
    if call.body is not None:
        encoded = provider.with_body_settings(msgspec.json.encode(call.body), [])
        body = SizedBody(_once(encoded), len(encoded))
    else:
        headers.pop(b"content-type", None)
    target = provider.target(call.path.encode(), call.query.encode())
    return await provider.open(Request(call.method.encode(), target, tuple(headers.items()), body))


async def open_url(provider: Provider, target: str) -> Response:
    """GET a path and query of the upstream's own origin, with its key. Raises UpstreamFailure."""
    headers = {name: value for name, value in provider.headers if name != b"content-type"}
    return await provider.open(Request(b"GET", target.encode(), tuple(headers.items())))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
