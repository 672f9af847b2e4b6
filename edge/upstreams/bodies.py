"""Read the body of an upstream response within a size limit, without a byte order mark."""

from collections.abc import Awaitable, Callable

from edge.upstreams import Malformed, Response, UpstreamFailure

BOM = b"\xef\xbb\xbf"
"""UTF-8's byte order mark. Some servers send it; JSON does not allow it."""


class BodyTooLarge(Malformed):
    """A response body larger than its limit."""


async def read_all(
    response: Response, limit: int, grown: Callable[[int], Awaitable[None]] | None = None
) -> bytes:
    """The whole body. Raises UpstreamFailure, and BodyTooLarge for more than `limit` bytes.

    grown: awaited after each piece but the first, with the number of bytes read so far.
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
    """At most `limit` bytes of an error body; a failure ends it early, as only its text is lost."""
    body = b""
    try:
        while len(body) < limit and (more := await response.read()):
            body += more
    except UpstreamFailure:
        pass
    return body[:limit].removeprefix(BOM)
