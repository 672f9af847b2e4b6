"""Operations on money: add and remove credits, show plans, credits and rows of the ledger.

Each takes stores and the time as Unix seconds, and prints nothing.
"""

import re
from collections.abc import Iterator
from typing import Any

from msgspec.structs import asdict

from edge.billing.period import moment
from edge.config.model import PlanConfig
from edge.config.units import plain
from middlewares.exchange import Principal
from middlewares.pricing import decimal, nano
from middlewares.request_id import uuid7
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.base import Entry, LedgerStore
from middlewares.stores.teams.base import TeamRecord, team_of

from .audit import Audit
from .fields import Refused, text

_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_MOST = 10**18
"""Most nano-credits of an account: sums of the ledger stay well within 64 bits."""
_MARK = "credit_"
"""Prefix of the ids of credits. No id of a request has it."""


class MoneyRefused(Refused):
    """A refused operation on money."""


def amount(value: object) -> int:
    """Nano-credits of a decimal string such as "5.00" or "-0.50". Raises MoneyRefused."""
    try:
        read = nano(value) if isinstance(value, str) else 0
    except ValueError as raised:
        raise MoneyRefused("amount", f"{raised}, not {value!r:.40}") from None
    if not isinstance(value, str) or not read:
        raise MoneyRefused("amount", 'expected credits as text such as "5.00", and not 0')
    return read


async def credit(
    ledger: LedgerStore,
    audit: Audit,
    holder: Key | TeamRecord,
    granted: int,
    *,
    now: float,
    note: str = "",
    credit_id: str | None = None,
) -> Entry:
    """Add credits to a key or a team, or remove them where `granted`, in nano-credits, is negative.

    credit_id: makes the call idempotent: the same id, holder and amount change nothing again.
    Raises Refused, StoreUnavailable.
    """
    kind = kind_of(holder)
    if granted > 0 and isinstance(holder, Key) and holder.revoked_at is not None:
        raise MoneyRefused("key", f"{holder.id} is revoked and can never use them")
    if credit_id is not None and not _ID.fullmatch(credit_id):
        raise MoneyRefused("id", "expected 1 to 100 letters, digits or any of . _ : -")
    entry = Entry(
        id=_MARK + (credit_id.removeprefix(_MARK) if credit_id else uuid7()),
        kind="credit",
        account=holder.id,
        owner=holder.owner if isinstance(holder, Key) else "",
        plan=holder.plan or "",
        at=now,
        ended_at=now,
        granted=granted,
        note=text("note", note),
    )
    kept = await ledger.get(None, entry.id)
    if kept is None:
        if abs(await balance(ledger, holder.id, now) + granted) > _MOST:
            most = decimal(_MOST)
            raise MoneyRefused("amount", f"the {kind} would have more than {most} credits")

        async def append() -> Entry | None:
            await ledger.append([entry])
            # Another request may have been first with this id.
            return await ledger.get(None, entry.id)

        action = "credits.add" if granted > 0 else "credits.remove"
        detail = {"id": entry.id, "amount": decimal(granted), "note": entry.note}
        kept = await audit.around(action, holder.id, detail, append)
    if kept is None or (kept.account, kept.granted) != (holder.id, granted):
        said = f"{credit_id} is the id of a credit of another {kind} or amount; use a new id"
        raise MoneyRefused("id", said)
    return kept


async def balance(ledger: LedgerStore, account: str, now: float) -> int:
    """Nano-credits of a key or a team by the ledger: granted less used. account: its id."""
    spent, _ = await ledger.spent(account, now, ())
    return spent.credits


def principal(key: Key, team: TeamRecord | None) -> Principal:
    """The principal of the requests of this key of `team`, with what its money depends on."""
    return Principal(
        id=key.id,
        owner=key.owner,
        name=key.name,
        plan=key.plan,
        limits=key.limits,
        team=None if team is None else team_of(team),
    )


def described_plan(plan: PlanConfig) -> dict[str, Any]:
    """A plan as it would be written, with every key."""
    return dict(_written(plan))


def _written(struct: Any) -> Iterator[tuple[str, Any]]:
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if name == "windows":
            yield name, [dict(_written(window)) for window in value]
        else:
            yield name, plain(value)


def kind_of(holder: Key | TeamRecord) -> str:
    """The word for a holder of credits: "key" or "team"."""
    return "key" if isinstance(holder, Key) else "team"


def described_credit(entry: Entry, holder: Key | TeamRecord) -> dict[str, Any]:
    """A row of kind credit of `holder`."""
    return {
        "id": entry.id,
        kind_of(holder): entry.account,
        "amount": decimal(entry.granted),
        "note": entry.note,
        "at": moment(entry.at),
    }


def described_entry(entry: Entry) -> dict[str, Any]:
    """A row of the ledger with all its fields. For operators: it names upstreams."""
    return {
        "id": entry.id,
        "kind": entry.kind,
        "account": entry.account,
        "key_name": entry.key_name,
        "owner": entry.owner,
        "team": entry.team or None,
        "tags": [*filter(None, entry.tags.split(","))],
        "plan": entry.plan or None,
        "at": moment(entry.at),
        "ended_at": moment(entry.ended_at),
        "endpoint": entry.endpoint,
        "model": entry.model,
        "asked": entry.asked,
        "stream": entry.stream,
        "status": entry.status,
        "ended": entry.ended,
        "on_hangup": entry.on_hangup,
        "measured": entry.measured,
        "input_tokens": entry.input,
        "output_tokens": entry.output,
        "cache_read_tokens": entry.cache_read,
        "cache_write_tokens": entry.cache_write,
        "reasoning_tokens": entry.reasoning,
        "images": entry.images,
        "audio_ms": entry.audio_ms,
        "jobs": entry.jobs,
        "characters": entry.characters,
        "video_ms": entry.video_ms,
        "cost": decimal(entry.cost),
        "from_credits": decimal(entry.from_credits),
        "reserved": decimal(entry.reserved),
        "periods": {name: moment(start) for name, start in entry.starts.items()},
        "attempts": [asdict(tried) for tried in entry.attempts],
        "fallback_from": entry.fallback_from or None,
        "first_content_ms": entry.first_content_ms,
        "upstream_ms": entry.upstream_ms,
        "duration_ms": entry.duration_ms,
        "granted": decimal(entry.granted),
        "note": entry.note,
    }
