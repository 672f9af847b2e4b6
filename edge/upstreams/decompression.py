"""Decompress response bodies that are compressed despite `accept-encoding: identity`.

Some proxies compress everything. gzip and deflate are decompressed as the bytes arrive, so the
events of a stream are not delayed; any other coding is a failure. An uncompressed response is not
wrapped and costs one scan of its headers.
"""

import asyncio
import zlib

from edge.upstreams import Header, Malformed, Response

_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate"))
_ANY_HEADER = zlib.MAX_WBITS | 32
"""Detect gzip or zlib from the first bytes."""
_MEMBER = b"\x1f"
"""First byte of a further gzip member (RFC 1952 section 2.3.1)."""
_ABOUT_BODY = frozenset((b"content-encoding", b"content-length"))
_PIECE = 256 << 10
"""Bytes decompressed at once, about a millisecond's work for the event loop."""
MAX_BYTES = 256 << 20
"""Bytes of a body once it is decompressed."""


def decompressed(response: Response, limit: int = MAX_BYTES) -> Response:
    """`response` with its body decompressed, or `response` itself when it is not compressed.

    limit: bytes the decompressed body may have. Reading raises Malformed beyond it, for a coding
    other than gzip and deflate, and for a damaged or truncated body.
    """
    codings = b""
    for name, value in response.headers:
        if name == b"content-encoding":
            codings += b"," + value
    if not codings:
        return response
    left = [coding.strip() for coding in codings.lower().split(b",")]
    left = [coding for coding in left if coding not in (b"", b"identity")]
    return DecompressedResponse(response, b", ".join(left), limit) if left else response


class DecompressedResponse:
    """A `Response` that decompresses its body while it is read."""

    def __init__(self, response: Response, coding: bytes, limit: int) -> None:
        self.status = response.status
        self.headers: list[Header] = [
            pair for pair in response.headers if pair[0] not in _ABOUT_BODY
        ]
        self._response = response
        self._coding = coding
        self._left = limit
        self._limit = limit
        self._inflate = zlib.decompressobj(_ANY_HEADER)
        self._begun = False
        self._waiting = b""
        self._full = False
        """Whether the last piece had the full size, so that zlib may hold more output."""

    async def read(self) -> bytes:
        """See `Response.read`."""
        if self._coding not in _CODINGS:
            said = self._coding[:40].decode("latin-1")
            raise Malformed(
                f"the body is compressed with {said!r}; identity was requested", sent=True
            )
        if self._waiting or self._full:
            await asyncio.sleep(0)
        while not (piece := self._piece()):
            self._waiting = await self._response.read()
            if not self._waiting:
                if self._begun and not self._inflate.eof:
                    raise Malformed("the compressed body is truncated", sent=True)
                return b""
            if not self._begun:
                self._begin(self._waiting[0])
        return piece

    def _begin(self, first: int) -> None:
        self._begun = True
        # Many servers send "deflate" without the zlib header, whose method is 8 (RFC 1950, 2.2).
        if self._coding == b"deflate" and first & 0x0F != 8:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def _piece(self) -> bytes:
        """The next decompressed piece; b"" when more input is needed."""
        while self._waiting or self._full:
            inflate = self._inflate
            if inflate.eof:
                if not self._waiting.startswith(_MEMBER):
                    self._waiting = b""  # padding after the last member
                    self._full = False
                    break
                self._inflate = inflate = zlib.decompressobj(_ANY_HEADER)
            try:
                piece = inflate.decompress(self._waiting, _PIECE)
            except zlib.error as error:
                raise Malformed(f"the compressed body is damaged: {error}", sent=True) from None
            self._waiting = inflate.unconsumed_tail or inflate.unused_data
            self._full = len(piece) == _PIECE
            self._left -= len(piece)
            if self._left < 0:
                raise Malformed(
                    f"the body exceeds {self._limit} bytes once decompressed", sent=True
                )
            if piece:
                return piece
        return b""

    def close(self) -> None:
        """See `Response.close`."""
        self._response.close()
