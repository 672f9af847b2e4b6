"""An upstream with a Files API, in memory."""

import re
from itertools import count

from edge.upstreams import Disconnected, Header, Request, RequestBody


class Answered:
    """A response that is there."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: list[Header] = []
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        pass


class Vendor:
    """An `Upstream`. files: by id. forms: bodies of uploads. refuses: status of every answer."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.forms: list[bytes] = []
        self.refuses = 0
        self.gone = False
        self._numbers = count(1)

    async def open(self, request: Request) -> Answered:
        self.requests.append(request)
        if self.gone:
            raise Disconnected("the vendor is away", sent=True)
        body = await _read(request.body)
        if self.refuses:
            return Answered(self.refuses, b'{"error":{"message":"no"}}')
        if request.method == b"DELETE":
            gone = self.files.pop(request.target.rpartition(b"/")[2].decode(), None)
            return Answered(404 if gone is None else 200, b"{}")
        if request.method == b"GET":
            there = request.target.rpartition(b"/")[2].decode() in self.files
            return Answered(200 if there else 404, b"{}")
        self.forms.append(body)
        id_ = f"vendor-{next(self._numbers)}"
        found = re.search(rb'name="file"[^\n]*\r\n[^\n]*\r\n\r\n(.*)\r\n--', body, re.DOTALL)
        assert found is not None
        self.files[id_] = found[1]
        return Answered(200, b'{"id":"%b","object":"file"}' % id_.encode())

    async def aclose(self) -> None:
        pass


async def _read(body: RequestBody) -> bytes:
    if body is None or isinstance(body, bytes):
        return body or b""
    return b"".join([piece async for piece in body])
