"""Certificates that servers showed to the clients of this process."""

import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from edge.upstreams.tls import tls_context

from .amounts import counted
from .finding import Finding

SOON_DAYS = 14
"""Days before the end of a certificate from which there is a warning."""
_DAY = 86400


class Certificate(NamedTuple):
    """ends: Unix seconds. version: of TLS, as "TLSv1.3"."""

    ends: float
    version: str


class Certificates:
    """Remembers the certificate of each host, by contexts that the clients use as any other.

    clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._of: dict[str, Certificate] = {}

    def context(self, **given: Any) -> ssl.SSLContext:
        """A context as of `tls_context`."""
        context = tls_context(**given)
        seen = self._of

        class Remembering(ssl.SSLObject):
            def do_handshake(self) -> None:
                super().do_handshake()
                found = self.getpeercert()
                if found and self.server_hostname and isinstance(end := found["notAfter"], str):
                    ends = ssl.cert_time_to_seconds(end)
                    seen[self.server_hostname] = Certificate(ends, self.version() or "")

        context.sslobject_class = Remembering
        return context

    def shown(self, host: str) -> str:
        """ "TLSv1.3, certificate valid for 61 days"; "" for a host that showed none."""
        found = self._of.get(host)
        if found is None:
            return ""
        return f"{found.version}, certificate valid for {_days(found.ends - self._clock())}"

    def ending(self, what: str, host: str) -> Finding | None:
        """A warning of a certificate that ends soon."""
        found = self._of.get(host)
        if found is None or found.ends - self._clock() > SOON_DAYS * _DAY:
            return None
        said = f"its certificate ends in {_days(found.ends - self._clock())}"
        return Finding("warning", what, said, "it has to be renewed there")


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return counted(days, "day") if days >= 1 else f"{max(0, int(seconds // 3600))} h"
