"""Checks, holds and accounts in the form that the scripts of Redis take and give."""

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from middlewares.limits import Budget, Level, tightest
from middlewares.stores.redis_client import Part

from .balance import Balance
from .base import Check, Hold, Source, TeamClaim, Verdict, Whose
from .memory_rates import level_of

_CHECK = Struct(">dddd")
HEAD = Struct(">dddd")
"""Before the levels in an answer to `admit`: what lacks, for how long, slots in use, and whose
limits lack (`lua/admit.lua`)."""
_LEVEL = Struct(">dd")
_BOTH = 3
_HOLD = Struct(">dddBB")
START = Struct(">d")


def numbers(check: Check) -> bytes:
    """A check as the scripts take it, after its name."""
    rate = check.rate
    return _CHECK.pack(rate.count, rate.seconds, rate.burst, check.cost)


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


def limits(budget: Budget, now: float) -> list[Part]:
    """A budget as `lua/reserve.lua` takes it."""
    parts: list[Part] = [b"1" if budget.credits else b"0", len(budget.windows)]
    for window in budget.windows:
        begins = window.boundary(now)
        parts += (
            window.name,
            window.cap,
            b"" if begins is None else begins,
            window.seconds or 0,
        )
    return parts


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
