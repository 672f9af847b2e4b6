"""The commands that are written by hand are those that hiredis packs."""

from struct import pack

import pytest
from hiredis import pack_command

from middlewares.limits import Budget, Rate, Window
from middlewares.stores.counters.base import LIFETIME, Check, Hold, TeamAccount, TeamClaim
from middlewares.stores.counters.redis_form import (
    admit_command,
    charge_command,
    ended_command,
    money_key,
    rates_key,
    record,
    release_command,
    reserve_command,
    slots_key,
)
from middlewares.stores.redis_client import Part
from middlewares.stores.redis_scripts import ADMIT, CHARGE, PUT_HOLDS, RESERVE

_WHO, _TEAM, _ID = "key:é", "team:\U0001f600", "request 1"
_CHECKS = [Check("requests", Rate(60, 60.0, 5)), Check("tokens", Rate(1, 0.5), -7)]
_WINDOWS = (Window("5h", 18_000.0, 10**15), Window("day", 86_400, 7, aligned=True))
_DAY = 1_764_547_200.0


def _packed(*parts: Part) -> bytes:
    packed: bytes = pack_command(parts)  # type: ignore[arg-type]  # its stub allows one part
    return packed


def _claim(slots: int, checks: list[Check]) -> list[Part]:
    parts: list[Part] = [slots, len(checks)]
    for check in checks:
        rate = check.rate
        parts += (check.name, pack(">dddd", rate.count, rate.seconds, rate.burst, check.cost))
    return parts


@pytest.mark.parametrize("time", [None, 1.5])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_rates_commands_are_those_packed(count: int, time: float | None) -> None:
    checks, moment = _CHECKS[:count], b"" if time is None else time
    own, its = (rates_key(_WHO), slots_key(_WHO)), (rates_key(_TEAM), slots_key(_TEAM))
    start = (moment, LIFETIME, _ID)
    assert admit_command(_WHO, checks, 12, _ID, time, None, take=True) == _packed(
        b"EVALSHA", ADMIT, 2, *own, *start, 1, *_claim(12, checks)
    )
    team = TeamClaim(_TEAM, _CHECKS, 3)
    assert admit_command(_WHO, checks, 0, _ID, time, team, take=False) == _packed(
        b"EVALSHA", ADMIT, 4, *own, *its, *start, 0, *_claim(0, checks), *_claim(3, _CHECKS)
    )
    assert charge_command(_WHO, _CHECKS[1], time) == _packed(
        b"EVALSHA", CHARGE, 1, own[0], moment, *_claim(0, _CHECKS)[-2:]
    )
    assert release_command(_WHO, _ID) == _packed(b"ZREM", own[1], _ID)


@pytest.mark.parametrize("time", [None, 1.5])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_money_commands_are_those_packed(count: int, time: float | None) -> None:
    now, moment = _DAY + 3600.25, b"" if time is None else time
    ends: list[Part] = ["5h", 10**15, b"", 18_000.0, "day", 7, _DAY, 86_400]
    own, its = money_key(_WHO), money_key(_TEAM)
    start = (moment, LIFETIME, now, _ID, 10**12, 34, b"e\r\n")
    budget, all_ = Budget(_WINDOWS[:count], credits=True), Budget(_WINDOWS)
    limits = (1, count, *ends[: 4 * count])
    given = {"time": time, "epoch": b"e\r\n"}
    assert reserve_command(_WHO, _ID, 10**12, 34, budget, now, None, **given) == _packed(  # type: ignore[arg-type]
        b"EVALSHA", RESERVE, 1, own, *start, *limits
    )
    team = TeamAccount(_TEAM, all_)
    assert reserve_command(_WHO, _ID, 10**12, 34, budget, now, team, **given) == _packed(  # type: ignore[arg-type]
        b"EVALSHA", RESERVE, 2, own, its, *start, *limits, 0, 2, *ends
    )
    hold = Hold(_WHO, _ID, 7, "credits", now, {"5h": now})
    assert ended_command(hold, time) == _packed(
        b"EVALSHA", PUT_HOLDS, 1, own, moment, LIFETIME, 1, _ID, record(hold)
    )
