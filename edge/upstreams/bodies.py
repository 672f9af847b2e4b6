"""Whole bodies of upstream responses, read within a bound and without a byte order mark."""

from . import Malformed, Response, UpstreamFailure

BOM = b"\xef\xbb\xbf"
"""UTF-8's byte order mark, which some servers put in front and JSON does not allow."""


async def read_all(response: Response, limit: int) -> bytes:
    """The whole body. Raises UpstreamFailure, also for one over `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    while more := await response.read():
        parts.append(more)
        size += len(more)
        if size > limit:
            raise Malformed(f"the answer is larger than {limit} bytes", sent=True)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
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
