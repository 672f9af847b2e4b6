"""Sends alerts to the operator's URL, until it takes them.

The rows are the outbox: a process takes the ones that are due for a time, sends them and says so.
One that dies in between leaves them to another. So a row is sent at least once, each time with the
same `webhook-id`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from secrets import token_hex
from typing import Any, Literal, Protocol

import httpx
import msgspec
import structlog

from edge.upstreams.tls import tls_context
from middlewares.stores.alerts.base import Alert, AlertStore
from middlewares.stores.periodic_sweep import PeriodicSweep
from middlewares.stores.secret import SecretStore
from middlewares.webhooks import event, signed_headers

SECRET = "alerts"  # noqa: S105  the name of one
MAX_AGE = 86400.0
"""Seconds after which an alert that was not taken is given up."""
PAUSES = (5.0, 30.0, 120.0, 600.0, 1800.0)
"""Seconds after each of the first failed tries; later ones are `LAST_PAUSE` apart."""
LAST_PAUSE = 3600.0
TIMEOUT = 10.0
"""Seconds for one try, all in all."""
_LEASE = 60.0
"""Seconds for which a process takes an alert; more than a try lasts."""
_AT_ONCE = 8

Result = Literal["sent", "failed", "given_up"]

_log = structlog.get_logger()


class NotDelivered(Exception):
    """A try without a 2xx answer. The message names no address."""


class Poster(Protocol):
    """Sends a POST to the operator's URL."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Raises NotDelivered."""
        ...


class HttpPoster:
    """A `Poster` by HTTP. It follows no redirect, uses no proxy and reads no body.

    The URL is the operator's, so it may be of a private network, unlike those of callers.
    """

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                client = await self._opened()
                async with client.stream("POST", url, headers=headers, content=body) as response:
                    status = response.status_code
        except TimeoutError:
            raise NotDelivered("no answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NotDelivered(type(error).__name__) from None
        if not 200 <= status < 300:
            raise NotDelivered(f"status {status}")

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            # The authorities of a TLS context take long to read.
            context = await asyncio.to_thread(tls_context)
            self._client = httpx.AsyncClient(
                verify=context,
                trust_env=False,
                timeout=TIMEOUT,
                limits=httpx.Limits(max_connections=_AT_ONCE),
            )
        return self._client


class Receiver(msgspec.Struct, frozen=True):
    """Where alerts go. url: may contain a secret, so it is not logged. key: signs them; None: the
    secret of the store."""

    url: str
    key: bytes | None = None


async def send_test_event(url: str, key: bytes) -> None:
    """Send an event of type "alerts.test", once. Raises NotDelivered."""
    poster, at = HttpPoster(), int(time.time())
    message = f"evt_{token_hex(12)}"
    body = event(message, "alerts.test", at, {})
    try:
        await poster.post(url, signed_headers(key, message, at, body), body)
    finally:
        await poster.aclose()


class AlertSender(PeriodicSweep):
    """Sends the alerts that are due. Any number may share a store: each alert is sent by the one
    that takes it.

    receiver: None sends nothing, and can be changed at any time. count: called with the result of
    each try.
    """

    def __init__(
        self,
        store: AlertStore,
        secrets: SecretStore,
        poster: Poster,
        *,
        count: Callable[[Result], object] = lambda result: None,
        period: float = 2.0,
        clock: Callable[[], float] = time.time,
        **timing: Any,
    ) -> None:
        super().__init__("send alerts", "alerts are sent again", period=period, **timing)
        self._store = store
        self._secrets = secrets
        self._poster = poster
        self._count = count
        self._clock = clock
        self.receiver: Receiver | None = None

    async def sweep(self) -> None:
        """Send what is due, until a receiver takes nothing of it. Raises StoreUnavailable."""
        while (receiver := self.receiver) is not None:
            now = self._clock()
            alerts = await self._store.take(now, now + _LEASE, _AT_ONCE)
            if not alerts:
                return
            key = receiver.key or await self._secrets.secret(SECRET)
            sending = [self._send(one, receiver, key) for one in alerts]
            taken = await asyncio.gather(*sending, return_exceptions=True)
            for one in taken:
                if isinstance(one, BaseException):
                    raise one
            if not any(taken):
                return

    async def _send(self, alert: Alert, receiver: Receiver, key: bytes) -> bool:
        """Whether it was taken."""
        headers = signed_headers(key, alert.id, int(self._clock()), alert.body)
        tries = alert.tries + 1
        try:
            await self._poster.post(receiver.url, headers, alert.body)
        except NotDelivered as error:
            await self._failed(alert, tries, str(error))
            return False
        await self._store.end(alert.id, tries)
        self._count("sent")
        return True

    async def _failed(self, alert: Alert, tries: int, reason: str) -> None:
        now = self._clock()
        pause = PAUSES[tries - 1] if tries <= len(PAUSES) else LAST_PAUSE
        self._count("failed")
        if now + pause < alert.created_at + MAX_AGE:
            await self._store.later(alert.id, now + pause, tries)
            _log.info("alert not taken", alert=alert.id, tries=tries, reason=reason)
        else:
            await self._store.end(alert.id, tries)
            self._count("given_up")
            _log.warning("alert given up", alert=alert.id, tries=tries, reason=reason)
