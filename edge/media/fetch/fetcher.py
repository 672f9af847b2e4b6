"""Fetch the file behind a URL that a caller or an upstream has given, and nothing else.

Theory of operation. A fetch is a chain of at most four hops. Each is checked from the start: the
URL (`links`), then every address of its host (`addresses`), and the connection goes to these very
addresses (`pinned`), so a name that changes its address in between is of no use. The file is read
into a `Spool` within its bound, and its kind is sniffed: neither the name nor the content type says
what it is.

A caller gets one message for everything that is refused or fails before the file is there, so that
it cannot scan a network with it. The reason and the host are logged, without path and query.

Slots. At most 4 fetches run for one request, 16 for one owner and 64 in one worker; others wait.
A result is used again for ten minutes by the same owner, and equal fetches at once are one.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from time import monotonic

import structlog

from edge.media.part import kind_of_type
from edge.observability.log_text import LONGEST_REASON, shown
from edge.upstreams.tls import tls_context
from middlewares.dns import Address, Lookup
from middlewares.problem import Problem
from middlewares.shared import Shared
from middlewares.single_flight import FlightRefused, SingleFlight

from .downloads import Download, Downloads
from .hop import deliver, hop
from .links import Link, Refused, read_link, redirected
from .pinned import Route, pin
from .rules import FetchLimits, FetchRules
from .slots import KeyedSlots

_log = structlog.get_logger()

_LONGEST_POST = 20.0
"""Seconds that a webhook may take."""
_MEMORY = 64 << 10
"""Bytes of a file that are held in memory; a larger one is on disk."""


def _straight(addresses: list[Address]) -> list[Address]:
    return addresses


class Fetcher(Shared):
    """Fetches for one worker. rules: replaced by `adopt`.

    count: takes the outcome of each fetch, for the metric.
    lookup: of host names; one of its own, so that names of callers cannot use up the lookups that
        upstreams need.
    context: makes the TLS context, once.
    route: where checked addresses are connected to. Tests put a server of their own behind a
        public address with it; nothing else passes it, and no setting does.
    """

    def __init__(
        self,
        rules: FetchRules,
        *,
        limits: FetchLimits | None = None,
        count: Callable[[str], None] = lambda _outcome: None,
        lookup: Lookup | None = None,
        context: Callable[[], ssl.SSLContext] = tls_context,
        route: Route = _straight,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._rules = rules
        self.limits = limits = limits or FetchLimits()
        self._count = count
        self._lookup = lookup or Lookup()
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        self._route = route
        self._worker = asyncio.Semaphore(limits.per_worker)
        self._owners = KeyedSlots(limits.per_owner)
        self._requests = KeyedSlots(limits.per_request)
        self._flights: SingleFlight[bytes, Download] = SingleFlight()
        self._downloads = Downloads(
            limits.entries, limits.cached, seconds=limits.fresh, clock=clock
        )

    def adopt(self, rules: FetchRules) -> None:
        """Take the rules of a new configuration. Results under other rules are dropped."""
        if rules != self._rules:
            self._rules = rules
            self._downloads.clear()

    async def aclose(self) -> None:
        """Cancel the fetches under way and drop the results."""
        await self._flights.aclose()
        self._downloads.clear()

    async def fetch(
        self,
        url: str,
        *,
        param: str,
        kinds: Collection[str],
        limit: int,
        owner: str,
        request: str = "",
    ) -> Download:
        """The file at `url`. Raises Problem with `param`.

        kinds: accepted kinds of media, such as "image". limit: bytes. owner: whose results are
        used again. request: id of the request that needs it, which bounds its fetches at once.
        """
        try:
            if request:
                async with self._requests.taken(request):
                    spool = await self._fetch(url, limit, owner)
            else:
                spool = await self._fetch(url, limit, owner)
            if spool.size > limit:  # from an earlier fetch
                raise Refused("too_large", f"{spool.size} bytes")
        except Refused as refused:
            self._count(refused.outcome)
            _log.info("fetch refused", param=param, reason=shown(refused.reason, LONGEST_REASON))
            raise problem_of(refused, param, limit) from None
        if not is_one_of(kinds, spool.kind):
            self._count("wrong_kind")
            raise wrong_kind(param, kinds, spool.kind)
        return spool

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, owner: str) -> int:
        """Send a webhook of `owner`; the status of the answer. Redirects are not followed.

        Raises Problem, with the reason where nothing was delivered.
        """
        limits, rules = self.limits, self._rules
        sent = tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())
        try:
            if not rules.enabled:
                raise Refused("off", "fetch.enabled is false")
            link = read_link(url, http=rules.http, ports=rules.ports)
            async with self._slot(link, owner), asyncio.timeout(_LONGEST_POST):
                async with asyncio.timeout(limits.connect):
                    pinned = await pin(link, rules, self._lookup, self._route)
                status = await deliver(
                    link,
                    pinned,
                    sent,
                    body,
                    user_agent=rules.user_agent,
                    limits=limits,
                    context=self._tls,
                )
        except TimeoutError:
            self._count("timeout")
            raise Problem("invalid_request", reason="the webhook timed out") from None
        except Refused as refused:
            self._count(refused.outcome)
            raise Problem("invalid_request", reason=f"webhook: {refused.reason}") from None
        self._count("posted")
        return status

    def check(self, url: str) -> None:
        """Raise Refused for a URL that is not asked whatever its host."""
        read_link(url, http=self._rules.http, ports=self._rules.ports)

    async def _fetch(self, url: str, limit: int, owner: str) -> Download:
        rules = self._rules
        if not rules.enabled:
            raise Refused("off", "fetch.enabled is false")
        link = read_link(url, http=rules.http, ports=rules.ports)
        key = sha256(f"{owner}\0{link.url}".encode()).digest()
        if (known := self._downloads.get(key)) is not None:
            self._count("cached")
            return known
        try:
            spool = await self._flights.do(
                key + limit.to_bytes(8), lambda: self._download(link, rules, limit, owner)
            )
        except FlightRefused:
            raise Refused("unreachable", f"{link.host}: the service stops") from None
        if rules is self._rules:
            self._downloads.put(key, spool)
        return spool

    async def _download(self, link: Link, rules: FetchRules, limit: int, owner: str) -> Download:
        """The file behind `link`, through its redirects. Raises Refused."""
        limits = self.limits
        try:
            async with self._slot(link, owner), asyncio.timeout(limits.total):
                first = link.host
                for _ in range(limits.redirects + 1):
                    link_or_spool = await self._hop(link, rules, limit)
                    if isinstance(link_or_spool, Link):
                        link = link_or_spool
                        continue
                    self._count("fetched")
                    return link_or_spool
                raise Refused("refused", f"{first}: more than {limits.redirects} redirects")
        except TimeoutError:
            reason = f"{link.host}: total limit of {limits.total:g} s passed"
            raise Refused("timeout", reason) from None

    async def _hop(self, link: Link, rules: FetchRules, limit: int) -> Link | Download:
        limits = self.limits
        try:
            async with asyncio.timeout(limits.connect):
                pinned = await pin(link, rules, self._lookup, self._route)
        except TimeoutError:
            raise Refused("unresolved", f"name lookup of {link.host} timed out") from None
        async with hop(
            link, pinned, user_agent=rules.user_agent, limits=limits, context=self._tls
        ) as answer:
            if answer.moved is not None:
                return redirected(link, answer.moved, http=rules.http, ports=rules.ports)
            spool = Download(memory=_MEMORY, name=link.name)
            async for data in answer.body(limit):
                await spool.write(data)
            await spool.finish()
            if not spool.size:
                raise Refused("status", f"{link.host}: an empty file")
            return spool

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._make_context()
        return self._context

    @asynccontextmanager
    async def _slot(self, link: Link, owner: str) -> AsyncIterator[None]:
        """A slot of the owner and one of the worker. Raises Refused after a long wait."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.limits.wait):
                    await stack.enter_async_context(self._owners.taken(owner))
                    await stack.enter_async_context(self._worker)
            except TimeoutError:
                raise Refused("busy", f"{link.host}: no slot in time") from None
            yield


def is_one_of(kinds: Collection[str], media_type: str) -> bool:
    """Whether a file of `media_type` is of one of these kinds. Containers of video may hold
    sound only."""
    kind = kind_of_type(media_type)
    return kind in kinds or (kind == "video" and "audio" in kinds)


def problem_of(refused: Refused, param: str, limit: int) -> Problem:
    """The problem for the caller: one message for all but a file that is too large."""
    if refused.outcome == "too_large":
        message = f"The file at `{param}` is larger than {limit:d} bytes."
        issue = f"expected at most {limit} bytes"
    else:
        issue = "expected an https URL of a public host that answers in time"
        message = f"The file at `{param}` could not be fetched: {issue}."
    return Problem(
        "invalid_request", message=message, param=param, issue=issue, reason=refused.reason
    )


def wrong_kind(param: str, kinds: Collection[str], found: str) -> Problem:
    """The problem of a file of another kind than its part says."""
    what = " or ".join(sorted(kinds))
    return Problem(
        "invalid_media",
        message=f"Invalid value for `{param}`: expected a file of kind {what}.",
        param=param,
        issue=f"expected a file of kind {what}",
        reason=f"the file at the URL is {found or 'unknown'}",
    )
