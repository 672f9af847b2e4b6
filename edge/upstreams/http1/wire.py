"""Encode request heads for HTTP/1.1 (RFC 9112). No I/O; the only state is a cache of header names.

No value in a request can add a header, a second request or a second framing: every name, value,
target and method is checked here, and only the transport sets the framing headers.
"""

import re
from collections.abc import AsyncIterator

import httpx
import msgspec

from edge.upstreams import RepeatableBody, Request

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_TARGET = re.compile(rb"[/*][\x21-\x7e\x80-\xff]*").fullmatch
_FORBIDDEN = (b"\r", b"\n", b"\0")
_OURS = frozenset((b"host", b"content-length", b"transfer-encoding"))
_BODY_EXPECTED = frozenset((b"POST", b"PUT", b"PATCH"))

_PLAIN, _EXPECT, _CONNECTION = 0, 1, 2
_ZONE = re.compile(rb"%[^\]]*")
_kinds: dict[bytes, int] = {b"expect": _EXPECT, b"connection": _CONNECTION}
_KINDS_BOUND = 1024


def host_of(url: httpx.URL) -> str:
    """The host to connect to: a name, or an address, with its zone as the system writes it."""
    host = url.raw_host.decode()
    return host.replace("%25", "%", 1) if ":" in host else host


def netloc_of(url: httpx.URL) -> bytes:
    """Host and port for the `host` header, without the zone of an address (RFC 6874)."""
    return _ZONE.sub(b"", url.netloc)


class SizedBody:
    """A streamed body whose length is known, sent with `content-length` instead of chunked.

    length: bytes. A source that yields more or less fails the request with ValueError.
    """

    __slots__ = ("_source", "length")

    def __init__(self, source: AsyncIterator[bytes], length: int) -> None:
        if length < 0:
            raise ValueError(f"length must not be negative, got {length}")
        self._source = source
        self.length = length

    def __aiter__(self) -> "SizedBody":
        return self

    async def __anext__(self) -> bytes:
        return await self._source.__anext__()

    async def aclose(self) -> None:
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


class RequestHead(msgspec.Struct, gc=False):
    """An encoded request head, and what the connection needs to know about it."""

    block: bytes
    expect: bool  # `expect: 100-continue`
    close: bool  # `connection: close`
    bodiless_response: bool  # a response to HEAD: its headers describe a body that is not sent


def _kind(name: bytes) -> int:
    """Check a header name that is not in the cache, and add it while there is room."""
    if not _TOKEN(name):
        raise ValueError(f"not a header name: {name!r}")
    if name in _OURS:
        raise ValueError(f"header {name.decode()!r} is set by the transport")
    if name != name.lower():
        raise ValueError(f"header names must be lower case, got {name!r}")
    if len(_kinds) < _KINDS_BOUND:
        _kinds[name] = _PLAIN
    return _PLAIN


def encode_head(request: Request, host_line: bytes) -> RequestHead:
    """The head of `request`; `host_line` is `host: …` and its CRLF.

    Raises ValueError for anything that could break the framing of the request.
    """
    method, body = request.method, request.body
    parts = [method, b" ", request.target, b" HTTP/1.1\r\n", host_line]
    expect = close = False
    for name, value in request.headers:
        kind = _kinds.get(name)
        if kind is None:
            kind = _kind(name)
        if kind:
            if kind == _EXPECT:
                expect = value.lower() == b"100-continue" and body is not None
            else:
                close = b"close" in value.lower()
        parts += (name, b": ", value, b"\r\n")
    if isinstance(body, bytes):
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
    elif body is None:
        parts.append(b"content-length: 0\r\n\r\n" if method in _BODY_EXPECTED else b"\r\n")
    elif isinstance(body, (SizedBody, RepeatableBody)):
        parts.append(b"content-length: %d\r\n\r\n" % body.length)
    else:
        parts.append(b"transfer-encoding: chunked\r\n\r\n")
    block = b"".join(parts)
    # Names are tokens and the framing is ours, so an extra line or a NUL comes from a value, the
    # target or the method. One count over the joined block is cheaper than a check of each.
    lines = len(request.headers) + (4 if len(parts[-1]) > 2 else 3)
    if block.count(b"\n") != lines or block.count(b"\r") != lines or b"\0" in block:
        raise ValueError("CR, LF or NUL in the method, target or a header value of a request")
    if not _TARGET(request.target):
        raise ValueError(f"not a request target: {request.target!r}")
    if not _TOKEN(method) or method == b"CONNECT":
        raise ValueError(f"not a method this client can send: {method!r}")
    return RequestHead(block, expect, close, method == b"HEAD")


class HeadEncoder:
    """Encodes the heads of requests to one host, and remembers the last one.

    Most requests to an upstream have the same target and the very same headers, and differ in the
    length of their body only.
    """

    __slots__ = ("_block", "_head", "_headers", "_host_line", "_method", "_target")

    def __init__(self, host_line: bytes) -> None:
        self._host_line = host_line
        self._method = self._target = self._block = b""
        self._headers: object = None
        self._head: RequestHead | None = None

    def encode(self, request: Request) -> RequestHead:
        """See `encode_head`."""
        body = request.body
        if not isinstance(body, bytes):
            return encode_head(request, self._host_line)
        last = self._head
        if (
            last is not None
            and request.headers is self._headers
            and request.target == self._target
            and request.method == self._method
        ):
            block = self._block + b"content-length: %d\r\n\r\n" % len(body)
            return RequestHead(block, last.expect, last.close, last.bodiless_response)
        head = encode_head(request, self._host_line)
        if type(request.headers) is tuple:  # which cannot change
            self._head, self._headers = head, request.headers
            self._method, self._target = request.method, request.target
            self._block = head.block[: head.block.rindex(b"content-length: ")]
        return head
