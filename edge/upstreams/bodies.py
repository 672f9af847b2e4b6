"""Whole bodies of upstream responses, read within a bound and without a byte order mark."""

from collections.abc import Awaitable, Callable

from edge.upstreams import Malformed, Response, UpstreamFailure

BOM = b"\xef\xbb\xbf"
"""UTF-8's byte order mark, which some servers put in front and JSON does not allow."""


class BodyTooLarge(Malformed):
    """An answer over its bound."""


async def read_all(
    response: Response, limit: int, grown: Callable[[int], Awaitable[None]] | None = None
) -> bytes:
    """The whole body. Raises UpstreamFailure, TooLarge for one over `limit` bytes.

    grown: awaited after each piece but the first, with the bytes that are there.
    """
    body = await response.read()  # most come in one piece
    size = len(body)
    parts: list[bytes] = []
    while body and size <= limit and (more := await response.read()):
        parts.append(more)
        size += len(more)
        if grown is not None:
            await grown(size)
    if size > limit:
        raise BodyTooLarge(f"the answer is larger than {limit} bytes", sent=True)
    if parts:
        parts.insert(0, body)
        del body
        body = b"".join(parts)
    return body.removeprefix(BOM)


async def read_some(response: Response, limit: int) -> bytes:
    """At most `limit` bytes of a body that only explains a refusal: its loss does not matter."""
    body = b""
    try:
        while len(body) < limit and (more := await response.read()):
            body += more
    except UpstreamFailure:
        pass
    return body[:limit].removeprefix(BOM)
