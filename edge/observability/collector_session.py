"""HTTP for exports of spans, which reads little of what the collector answers.

requests reads, and unpacks, a whole answer before it returns, for as long as a byte comes now and
then. A collector, or what stands before it, could so fill the memory or hold the export for ever.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any

from requests import PreparedRequest, Response, Session, TooManyRedirects
from urllib3.exceptions import HTTPError

LONGEST = 64 << 10
"""Bytes of an answer that are read; answers of collectors have a few hundred at most."""


class CollectorSession(Session):
    """A session that reads at most `LONGEST` bytes of an answer, for at most `patience` seconds.

    The rest is not needed, as the status says all: the connection is closed instead. A redirect is
    not followed, since its target would get the headers with their keys: it raises
    TooManyRedirects.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._patience = patience
        self._clock = clock

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        """See `Session.send`."""
        end = self._clock() + self._patience
        response = super().send(request, **{**options, "stream": True})
        try:
            left = LONGEST
            while left > 0 and self._clock() < end:
                piece = response.raw.read1(left, decode_content=False)
                if not piece:
                    break
                left -= len(piece)
            else:
                response.close()
        except (HTTPError, OSError):  # it breaks off
            response.close()
        response._content = b""  # it counts as read
        if 300 <= response.status_code < 400:  # requests, and so the SDK, takes it for a success
            raise TooManyRedirects(f"the collector answers {response.status_code}")
        return response
