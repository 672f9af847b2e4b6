"""Checks, holds and accounts in the form that the scripts of Redis take and give."""

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from middlewares.limits import Budget, Level, tightest
from middlewares.stores.redis_client import Part, bulk, script_call
from middlewares.stores.redis_scripts import ADMIT, CHARGE, PUT_HOLDS, RESERVE

from .balance import Balance
from .base import LIFETIME, Check, Hold, Source, TeamAccount, TeamClaim, Verdict, Whose
from .memory_rates import level_of

_CHECK = Struct(">dddd")
HEAD = Struct(">dddd")
"""Before the levels in an answer to `admit`: what lacks, for how long, slots in use, and whose
limits lack (`lua/admit.lua`)."""
_LEVEL = Struct(">dd")
_BOTH = 3
_HOLD = Struct(">dddBB")
START = Struct(">d")


# Keys


@lru_cache(4096)
def rates_key(who: str) -> bytes:
    return b"penstock:{%b}:rates" % who.encode()


@lru_cache(4096)
def slots_key(who: str) -> bytes:
    return b"penstock:{%b}:slots" % who.encode()


@lru_cache(4096)
def money_key(account: str) -> bytes:
    return b"penstock:{%b}:money" % account.encode()


# What each request asks, as it is written: a third of what packing the parts takes.

_LIFETIME = bulk(str(LIFETIME).encode())
_ONE, _TWO = bulk(b"1"), bulk(b"2")
_EMPTY = bulk(b"")


@lru_cache(4096)
def _admit_head(who: str) -> bytes:
    return script_call(ADMIT) + _TWO + bulk(rates_key(who)) + bulk(slots_key(who))


@lru_cache(4096)
def _admit_head_of_both(who: str, team: str) -> bytes:
    keys = rates_key(who), slots_key(who), rates_key(team), slots_key(team)
    return script_call(ADMIT) + bulk(b"4") + b"".join(map(bulk, keys))


@lru_cache(4096)
def _charge_head(who: str) -> bytes:
    return script_call(CHARGE) + _ONE + bulk(rates_key(who))


@lru_cache(4096)
def _put_head(account: str) -> bytes:
    return script_call(PUT_HOLDS) + _ONE + bulk(money_key(account))


@lru_cache(4096)
def _reserve_head(account: str) -> bytes:
    return script_call(RESERVE) + _ONE + bulk(money_key(account))


@lru_cache(4096)
def _reserve_head_of_both(account: str, team: str) -> bytes:
    return script_call(RESERVE) + _TWO + bulk(money_key(account)) + bulk(money_key(team))


@lru_cache(4096)
def _release_head(who: str) -> bytes:
    return bulk(b"ZREM") + bulk(slots_key(who))


@lru_cache(4096, typed=True)
def _text(value: Part) -> bytes:
    """For values of which there are few: names, limits."""
    return bulk(value if isinstance(value, bytes) else str(value).encode())


@lru_cache(4096, typed=True)
def _texts(*values: Part) -> bytes:
    return b"".join(map(_text, values))


def _moment(time: float | None) -> bytes:
    """Unix seconds, or what makes Redis take its own."""
    return _EMPTY if time is None else bulk(str(time).encode())


def admit_command(
    who: str,
    checks: Sequence[Check],
    slots: int,
    lease: str,
    time: float | None,
    team: TeamClaim | None,
    *,
    take: bool,
) -> bytes:
    """A call of `lua/admit.lua`."""
    count = 11 + 2 * len(checks)
    head, theirs = b"", b""
    if team is None:
        head = _admit_head(who)
    else:
        head = _admit_head_of_both(who, team.who)
        theirs = _claim(team.slots, team.checks)
        count += 4 + 2 * len(team.checks)
    return b"*%d\r\n%b%b%b%b%b%b%b" % (
        count,
        head,
        _moment(time),
        _LIFETIME,
        bulk(lease.encode()),
        _ONE if take else bulk(b"0"),
        _claim(slots, checks),
        theirs,
    )


def _claim(slots: int, checks: Sequence[Check]) -> bytes:
    packed = _texts(slots, len(checks))
    for check in checks:
        packed += _check(check)
    return packed


def _check(check: Check) -> bytes:
    rate = check.rate
    numbers = _CHECK.pack(rate.count, rate.seconds, rate.burst, check.cost)
    return b"%b$32\r\n%b\r\n" % (_text(check.name), numbers)


def charge_command(who: str, check: Check, time: float | None) -> bytes:
    """A call of `lua/charge.lua`."""
    return b"*7\r\n%b%b%b" % (_charge_head(who), _moment(time), _check(check))


def release_command(who: str, lease: str) -> bytes:
    """Gives a slot back."""
    return b"*3\r\n%b%b" % (_release_head(who), bulk(lease.encode()))


def reserve_command(
    account: str,
    hold: str,
    amount: int,
    least: int,
    budget: Budget,
    now: float,
    team: TeamAccount | None,
    *,
    time: float | None,
    epoch: bytes,
) -> bytes:
    """A call of `lua/reserve.lua`."""
    count = 13 + 4 * len(budget.windows)
    if team is None:
        head, theirs = _reserve_head(account), b""
    else:
        head, theirs = _reserve_head_of_both(account, team.account), _limits(team.budget, now)
        count += 3 + 4 * len(team.budget.windows)
    return b"*%d\r\n%b%b%b%b%b%b%b%b%b%b" % (
        count,
        head,
        _moment(time),
        _LIFETIME,
        bulk(str(now).encode()),
        bulk(hold.encode()),
        bulk(str(amount).encode()),
        bulk(str(least).encode()),
        bulk(epoch),
        _limits(budget, now),
        theirs,
    )


def _limits(budget: Budget, now: float) -> bytes:
    """A budget as `lua/reserve.lua` takes it."""
    packed = _texts(1 if budget.credits else 0, len(budget.windows))
    for window in budget.windows:
        begins = window.boundary(now)
        start = b"" if begins is None else begins
        packed += _texts(window.name, window.cap, start, window.seconds or 0)
    return packed


def ended_command(hold: Hold, time: float | None) -> bytes:
    """A call of `lua/put_holds.lua` for a request that has ended."""
    return b"*9\r\n%b%b%b%b%b%b" % (
        _put_head(hold.account),
        _moment(time),
        _LIFETIME,
        _ONE,
        bulk(hold.id.encode()),
        bulk(record(hold)),
    )


# Answers and accounts


def verdict_of(checks: Sequence[Check], team: TeamClaim | None, answer: bytes) -> Verdict:
    number, wait, _, lack = HEAD.unpack_from(answer)
    levels = levels_of(checks, answer)
    if team is not None:
        after = HEAD.size + len(checks) * _LEVEL.size
        levels = tightest(levels, levels_of(team.checks, answer, after))
    if not number:
        return Verdict(True, levels)
    own = len(checks)
    whose: Whose
    if number < 0:
        whose, name = "key" if number == -1 else "team", "concurrency"
    elif number <= own or team is None:
        whose, name = "key", checks[int(number) - 1].name
    else:
        whose, name = "team", team.checks[int(number) - own - 1].name
    return Verdict(False, levels, wait, name, whose, lack == _BOTH)


def levels_of(checks: Sequence[Check], answer: bytes, at: int = HEAD.size) -> tuple[Level, ...]:
    levels = []
    for check in checks:
        level, since = _LEVEL.unpack_from(answer, at)
        levels.append(level_of(check.name, check.rate, level, since))
        at += _LEVEL.size
    return tuple(levels)


class StoredAccount(Balance):
    """An account as Redis has it; see `lua/prelude_money.lua`."""

    __slots__ = ("born", "holds", "known", "version", "whole")

    def __init__(self, answer: list[bytes]) -> None:
        super().__init__()
        fields = dict(zip(answer[::2], answer[1::2], strict=True))
        self.known = fields.get(b"known")
        self.whole = fields.get(b"whole")
        self.born = fields.get(b"born", b"")
        self.version = int(fields.get(b"version", 0))
        self.credits = int(fields.get(b"credits", 0))
        self.held = {
            "windows": int(fields.get(b"held:windows", 0)),
            "credits": int(fields.get(b"held:credits", 0)),
        }
        self.tight = fields.get(b"tight", b"").decode()
        self.holds = [field[2:].decode() for field in fields if field.startswith(b"h:")]
        for field, value in fields.items():
            if field.startswith(b"s:"):
                spent = int(fields.get(b"w:" + field[2:], 0))
                self.windows[field[2:].decode()] = (START.unpack(value)[0], spent)


def record(hold: Hold) -> bytes:
    """A hold as the scripts keep it."""
    source = hold.source == "credits"
    packed = _HOLD.pack(0.0, hold.amount, hold.at, source, hold.tight)
    return packed + _packed(*hold.starts.items()) if hold.starts else packed


@lru_cache(1024)
def _packed(*starts: tuple[str, float]) -> bytes:
    """Most holds of an account are of the same periods."""
    return b"".join([name.encode() + b"\0" + START.pack(start) for name, start in starts])


@lru_cache(1024)
def _unpacked(packed: bytes) -> dict[str, float]:
    """Shared by all holds of these periods, and never changed."""
    starts = {}
    at = 0
    while at < len(packed):
        end = packed.index(0, at)
        starts[packed[at:end].decode()] = START.unpack_from(packed, end + 1)[0]
        at = end + 1 + START.size
    return starts


def records(holds: Sequence[Hold]) -> list[Part]:
    parts: list[Part] = []
    for hold in holds:
        parts += (hold.id, record(hold))
    return parts


def read(account: str, hold: str, packed: bytes) -> Hold:
    _, amount, when, prepaid, tight = _HOLD.unpack_from(packed)
    source: Source = "credits" if prepaid else "windows"
    starts = _unpacked(packed[_HOLD.size :])
    return Hold(account, hold, int(amount), source, when, starts, tight == 1)
