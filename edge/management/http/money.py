"""/admin/v1: plans, limits and credits of keys and teams, usage, the ledger and the audit."""

from collections.abc import Callable
from typing import Any, cast, get_args

import msgspec

from edge.billing.grouped_usage import (
    Grouping,
    grouped_usage,
    read_after,
    read_by,
    read_limit,
    usage_csv,
)
from edge.billing.period import moment, read_period
from edge.billing.usage_report import UsageReport
from edge.config.load import Settings
from edge.management import money
from edge.management.audit import Audit
from edge.management.fields import looks_secret
from middlewares.pricing import decimal
from middlewares.problem import Problem, expected
from middlewares.stores.audit.base import AuditStore
from middlewares.stores.keys.base import Key, KeyStore
from middlewares.stores.ledger.base import Ended, Entry, Kind, StatusClass, Wanted
from middlewares.stores.ledger.spend import DAY, GROUPS, Filters, day_text
from middlewares.stores.teams.base import TeamRecord, TeamStore, team_of

from .admin_request import AdminRequest, cursor, limit_of, moment_of, page, place_of, text_of
from .csv_file import CsvFile
from .keys import Answer, key_of
from .teams import team_of_path

_FILTERS = ("key", "team", "owner", "model", "endpoint", "tag")


class NewCredit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a POST to /credits. amount: decimal string, negative to remove credits. id: makes the
    request idempotent."""

    amount: str
    note: str = ""
    id: str | None = None


class Money:
    """Handlers of everything that is not a key or a team."""

    def __init__(
        self,
        settings: Settings,
        keys: KeyStore,
        teams: TeamStore,
        audit: AuditStore,
        usage_report: UsageReport,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._teams = teams
        self._rows = audit
        self._audit = Audit(audit, "admin", clock=clock)
        self._usage_report = usage_report
        self._ledger = usage_report.ledger
        self._clock = clock

    async def plans(self, request: AdminRequest) -> Answer:
        request.query()
        rows = [money.described_plan(plan) for plan in self._settings.plans]
        return 200, page(rows, len(rows), None)

    async def limits(self, request: AdminRequest) -> Answer:
        request.query()
        key = await key_of(self._keys, request)
        team = None if key.team is None else await self._teams.get(key.team)
        return 200, await self._usage_report.limits(money.principal(key, team))

    async def team_limits(self, request: AdminRequest) -> Answer:
        request.query()
        team = await team_of_path(self._teams, request)
        return 200, await self._usage_report.team_limits(team_of(team))

    async def credits(self, request: AdminRequest) -> Answer:
        return await self._credits_of(await key_of(self._keys, request), request)

    async def credit(self, request: AdminRequest) -> Answer:
        return await self._credit(await key_of(self._keys, request), request)

    async def team_credits(self, request: AdminRequest) -> Answer:
        return await self._credits_of(await team_of_path(self._teams, request), request)

    async def team_credit(self, request: AdminRequest) -> Answer:
        return await self._credit(await team_of_path(self._teams, request), request)

    async def _credits_of(self, holder: Key | TeamRecord, request: AdminRequest) -> Answer:
        query = request.query("limit", "after")
        limit, before = limit_of(query), place_of(query)
        found = await self._ledger.page(
            account=holder.id, kind="credit", before=before, limit=limit + 1
        )
        left = await money.balance(self._ledger, holder.id, self._clock())
        rows = [money.described_credit(entry, holder) for entry in found]
        return 200, {**page(rows, limit, _next(found, limit)), "balance": decimal(left)}

    async def _credit(self, holder: Key | TeamRecord, request: AdminRequest) -> Answer:
        body = await request.body(NewCredit)
        now = self._clock()
        entry = await money.credit(
            self._ledger,
            self._audit,
            holder,
            money.amount(body.amount),
            now=now,
            note=body.note,
            credit_id=body.id,
        )
        left = await money.balance(self._ledger, holder.id, now)
        return 201, {**money.described_credit(entry, holder), "balance": decimal(left)}

    async def usage(self, request: AdminRequest) -> tuple[int, dict[str, Any] | CsvFile]:
        if request.asks("group_by"):
            return await self._grouped(request)
        query = request.query("account", "start", "end", "days")
        period = read_period(query, self._clock())
        account = text_of(query, "account")
        if account is not None and not await self._is_known(account):
            raise Problem("not_found", message="No key has this id, and no row of the ledger.")
        return 200, await self._usage_report.usage(account, period)

    async def _grouped(self, request: AdminRequest) -> tuple[int, dict[str, Any] | CsvFile]:
        """Usage by groups, of rows that all filters choose; an empty one chooses rows without."""
        query = request.query(
            *("group_by", "start", "end", "days", "format", "limit", "after", *_FILTERS)
        )
        period = read_period(query, self._clock())
        by = read_by(query["group_by"][0])
        filters = Filters(**{name: _filter_of(query, name) for name in _FILTERS})
        grouping = Grouping(by, period, filters)
        if text_of(query, "format", ("json", "csv")) == "csv":
            for name in ("limit", "after"):
                if name in query:
                    raise expected(name, "to be left out: a CSV file has all groups")
            name = f"usage-{day_text(int(period.since // DAY))}.csv"
            return 200, CsvFile(name, usage_csv(self._ledger, grouping))
        return 200, await grouped_usage(
            self._ledger,
            grouping,
            after=read_after(query["after"][0], by) if "after" in query else None,
            limit=read_limit(query["limit"][0]) if "limit" in query else GROUPS,
        )

    async def _is_known(self, account: str) -> bool:
        """Whether a key has this id, or the ledger such an account: with no keys, an address."""
        if not account.isprintable() or looks_secret(account):
            return False
        if await self._keys.get(account) is not None:
            return True
        return bool(await self._ledger.page(account=account, limit=1))

    async def ledger(self, request: AdminRequest) -> Answer:
        query = request.query(
            *("account", "kind", "since", "until", "limit", "after", "ended", "status"),
            *(name for name in _FILTERS if name != "key"),
        )
        status = text_of(query, "status", ("1xx", "2xx", "3xx", "4xx", "5xx"))
        found = await self._ledger.search(
            Wanted(
                account=text_of(query, "account"),
                **{name: _filter_of(query, name) for name in _FILTERS if name != "key"},
                ended=cast(Ended | None, text_of(query, "ended", get_args(Ended))),
                status=None if status is None else cast(StatusClass, int(status[0])),
                kind=cast(Kind | None, text_of(query, "kind", ("use", "credit"))),
                since=moment_of(query, "since"),
                until=moment_of(query, "until", end=True),
            ),
            before=place_of(query),
            limit=(limit := limit_of(query)),
        )
        rows = [money.described_entry(entry) for entry in found.rows]
        return 200, page(rows, limit, None if found.next is None else cursor(*found.next))

    async def entry(self, request: AdminRequest) -> Answer:
        request.query()
        askable = request.id.isprintable() and not looks_secret(request.id)
        found = await self._ledger.get(None, request.id) if askable else None
        if found is None:
            raise Problem("not_found", message="No row of the ledger has this id.")
        return 200, money.described_entry(found)

    async def audit(self, request: AdminRequest) -> Answer:
        query = request.query("subject", "limit", "after")
        limit, after = limit_of(query), text_of(query, "after")
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise expected("after", "the `next` of a page")
        found = await self._rows.page(
            subject=text_of(query, "subject"),
            before=None if after is None else int(after),
            limit=limit + 1,
        )
        rows: list[dict[str, Any]] = [
            {**msgspec.structs.asdict(change), "at": moment(change.at)} for change in found
        ]
        more = len(rows) > limit
        return 200, page(rows, limit, str(rows[limit - 1]["id"]) if more else None)


def _filter_of(query: dict[str, list[str]], name: str) -> str | None:
    return "" if query.get(name) == [""] else text_of(query, name)


def _next(found: list[Entry], limit: int) -> str | None:
    """Cursor of the next page; None when this is the last."""
    if len(found) <= limit:
        return None
    return cursor(found[limit - 1].at, found[limit - 1].id)
