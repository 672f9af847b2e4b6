"""Copies of callers' files at upstreams that keep files (`upstreams[].files`).

A file is uploaded once for each account of an upstream, when a request names it. The row of the
copy is in SQL, so that every worker and replica uses the same one. The vendor's id is sent to the
vendor only. Copies end with their files: a sweep deletes them at the vendor. Their own expiry at
the vendor is for copies that no sweep reaches any more. A vendor may lose a copy, and each request
with it would fail: so each worker asks for it every ten minutes while it is used.
"""

import logging
from collections.abc import Callable, Mapping
from time import time

import msgspec

from edge.media.fetch.downloads import Download
from edge.media.forms import FormBody, FormField, FormFile
from edge.media.library import Files
from edge.upstreams import Header, Request, UpstreamFailure
from edge.upstreams.bodies import read_all
from edge.upstreams.provider import Provider
from middlewares.bounded_map import ExpiringMap
from middlewares.exchange import Dialect
from middlewares.problem import Problem
from middlewares.shared import Shared
from middlewares.single_flight import FlightRefused, SingleFlight
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.files.base import FileRecord
from middlewares.stores.vendor_files.base import VendorFile, VendorFileStore

_log = logging.getLogger(__name__)

KEPT = 30 * 86400
"""Seconds after which a vendor may delete a copy. It is uploaded again if it is needed later."""
_EARLIER = 3600.0
"""Seconds before a copy expires at the vendor from which it is not used any more."""
_BELIEVED = 600.0
"""Seconds for which a copy that was there is not asked for again."""
_LARGEST_ANSWER = 64 << 10
_ANTHROPIC: tuple[Header, ...] = (
    (b"anthropic-version", b"2023-06-01"),
    (b"anthropic-beta", b"files-api-2025-04-14"),
)


class _Uploaded(msgspec.Struct):
    id: str


_decode = msgspec.json.Decoder(_Uploaded).decode


class VendorFiles(Shared):
    """Copies of files. files: reads them. store: of the rows. clock: Unix seconds.

    count: takes the name of an upstream and the outcome of a copy, for the metric.
    """

    def __init__(
        self,
        files: Files,
        store: VendorFileStore,
        *,
        count: Callable[[str, str], None] = lambda _upstream, _outcome: None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._count = count
        self._files = files
        self._store = store
        self._clock = clock
        self._there: ExpiringMap[str, bool] = ExpiringMap(4096, _BELIEVED, clock)
        self._flights: SingleFlight[tuple[str, str], str] = SingleFlight()

    async def aclose(self) -> None:
        """Cancel the uploads under way."""
        await self._flights.aclose()

    async def copy_of(self, record: FileRecord, provider: Provider, dialect: Dialect) -> str:
        """The vendor's id of a copy, uploaded now if there is none; "" if that fails."""
        account = provider.account
        try:
            found = await self._store.find(account, record.id, self._clock())
            if found is not None and await self._is_lost(found, record, provider, dialect):
                found = None
            if found is None:
                found = await self._flights.do(
                    (account, record.id), lambda: self._upload(record, provider, dialect)
                )
        except (StoreUnavailable, UpstreamFailure, FlightRefused, _NotTaken, Problem) as raised:
            reason = provider.without_secrets(str(raised))
            self._count(provider.name, "refused")
            _log.warning("upstream %s took no copy of a file: %s", provider.name, reason)
            return ""
        return found

    async def _is_lost(
        self, vendor_id: str, record: FileRecord, provider: Provider, dialect: Dialect
    ) -> bool:
        """Whether the vendor says that it has no such file. Its row is then removed."""
        if self._there.get(vendor_id):
            return False
        if await _status(provider, dialect, b"GET", vendor_id) == 404:
            self._count(provider.name, "lost")
            await self._store.remove(
                VendorFile(
                    account=provider.account,
                    file_id=record.id,
                    vendor_id=vendor_id,
                    expires_at=0.0,
                )
            )
            return True
        self._there.put(vendor_id, True)
        return False

    async def _upload(self, record: FileRecord, provider: Provider, dialect: Dialect) -> str:
        # Another upload may have ended between this caller's first look and now.
        found = await self._store.find(provider.account, record.id, self._clock())
        if found is not None:
            return found
        spool = Download()
        async for piece in self._files.read(record):
            await spool.write(piece)
        await spool.finish()
        body = FormBody((*_fields(dialect), FormFile("file", record.filename, record.mime, spool)))
        vendor_id = await _post(provider, dialect, body)
        self._count(provider.name, "uploaded")
        now = self._clock()
        copy = VendorFile(
            account=provider.account,
            file_id=record.id,
            vendor_id=vendor_id,
            expires_at=now + KEPT - _EARLIER,
        )
        kept = await self._store.add(copy, now)
        self._there.put(kept, True)
        if kept != vendor_id:  # another worker was faster
            await _delete(provider, dialect, vendor_id)
        return kept

    async def sweep(self, providers: Mapping[str, Provider], most: int = 100) -> int:
        """Delete the copies whose files are gone, at these providers. Returns how many.

        Raises StoreUnavailable.
        """
        now = self._clock()
        by_account = {one.account: one for one in providers.values() if one.files}
        deleted = 0
        due = await self._store.due(list(by_account), now, most) if by_account else []
        for copy in due:
            provider = by_account[copy.account]
            dialect: Dialect = "anthropic" if "anthropic" in provider.dialects else "openai"
            if await _delete(provider, dialect, copy.vendor_id):
                await self._store.remove(copy)
                self._count(provider.name, "deleted")
                deleted += 1
        await self._store.forget(now - KEPT)
        return deleted


class _NotTaken(Exception):
    """The upstream did not take a file."""


def _fields(dialect: Dialect) -> tuple[FormField, ...]:
    if dialect == "anthropic":
        return (FormField("expires_in_seconds", str(KEPT)),)
    return (
        FormField("purpose", "user_data"),
        FormField("expires_after[anchor]", "created_at"),
        FormField("expires_after[seconds]", str(KEPT)),
    )


def _headers(provider: Provider, dialect: Dialect) -> tuple[Header, ...]:
    """The headers of the provider, without the content type of its requests."""
    kept = tuple(pair for pair in provider.headers if pair[0] != b"content-type")
    given = {name for name, _ in kept}
    more = _ANTHROPIC if dialect == "anthropic" else ()
    return (*kept, *(pair for pair in more if pair[0] not in given))


async def _post(provider: Provider, dialect: Dialect, body: FormBody) -> str:
    request = Request(
        b"POST",
        provider.target(b"/files"),
        (*_headers(provider, dialect), (b"content-type", body.content_type)),
        body,
    )
    response = await provider.open(request)
    try:
        answer = await read_all(response, _LARGEST_ANSWER)
        if not 200 <= response.status < 300:
            raise _NotTaken(f"status {response.status}")
        uploaded = _decode(answer)
    except msgspec.DecodeError:
        raise _NotTaken("an answer without an id") from None
    finally:
        response.close()
    if not uploaded.id:
        raise _NotTaken("an answer without an id")
    return uploaded.id


async def _delete(provider: Provider, dialect: Dialect, vendor_id: str) -> bool:
    """Whether the vendor does not have the file any more."""
    status = await _status(provider, dialect, b"DELETE", vendor_id)
    return 200 <= status < 300 or status == 404


async def _status(provider: Provider, dialect: Dialect, method: bytes, vendor_id: str) -> int:
    """The status of a request for one file; 0 without an answer."""
    target = provider.target(b"/files/" + vendor_id.encode("ascii", "replace"))
    try:
        response = await provider.open(Request(method, target, _headers(provider, dialect)))
        response.close()
    except (UpstreamFailure, ValueError):
        return 0
    return response.status
