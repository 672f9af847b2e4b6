"""Ledger rows of a month of use, the same in every run but for their times."""

import math
import random
from collections.abc import Iterator, Mapping
from uuid import UUID

from msgspec.structs import replace

from middlewares.limits import Window
from middlewares.stores.ledger.base import AttemptRecord, Ended, Entry

DAY = 86_400.0

PRICES: Mapping[str, tuple[str, str]] = {
    "claude-opus-5": ("5.00", "25.00"),
    "gpt-5.5": ("1.75", "14.00"),
    "claude-haiku-5": ("1.00", "5.00"),
    "gpt-5.5-mini": ("0.25", "2.00"),
}
"""By model, credits for a million tokens of input and of output."""


def month(key: Entry, now: float, *, daily: int, scale: float, seed: int) -> Iterator[Entry]:
    """Rows of 30 days up to `now`, oldest first; fewer on weekends. key: a row of the key."""
    choose = random.Random(seed)
    first = math.floor(now / DAY) - 29
    for day in range(30):
        weekend = (first + day + 3) % 7 >= 5  # 1970-01-01 was a Thursday
        count = round(daily * (0.3 if weekend else 1.0) * choose.uniform(0.7, 1.3))
        times = sorted((first + day + choose.betavariate(4, 3)) * DAY for _ in range(count))
        for at in times:
            if at < now - 60:
                yield _row(key, at, now, scale, choose)


def _row(key: Entry, at: float, now: float, scale: float, choose: random.Random) -> Entry:
    model = choose.choices(list(PRICES), weights=[3, 4, 2, 3])[0]
    read = int(choose.lognormvariate(9.9, 1.0) * scale)
    cached = int(read * choose.choice([0, 0, 0.5, 0.8]))
    wrote = int(choose.lognormvariate(7.4, 0.8) * scale)
    given, made = (float(price) * 1000 for price in PRICES[model])  # nano-credits for a token
    ended: Ended = choose.choices(("completed", "hung_up", "cut", "failed"), (90, 5, 2, 3))[0]
    cost = round((read - cached) * given + cached * given / 10 + wrote * made)
    attempts = []
    if choose.random() < 0.05:
        other = choose.choice([one for one in PRICES if one != model])
        kind = choose.choice(["upstream_unavailable", "upstream_timeout", "upstream_error"])
        attempts.append(AttemptRecord("anthropic", other, 529, other, kind, 180.0, "overloaded"))
    last = AttemptRecord("openai", model, 200, model, "", choose.uniform(500, 4000))
    if ended == "failed":
        cost, read, cached, wrote = 0, 0, 0, 0
        last = AttemptRecord("openai", model, 503, model, "upstream_error", 90.0, "refused")
    attempts.append(last)
    first_content = sum(one.ms for one in attempts) * choose.uniform(0.6, 1.0)
    duration = sum(one.ms for one in attempts) + choose.uniform(100, 9000)
    return replace(
        key,
        id=str(UUID(int=choose.getrandbits(128), version=4)),
        at=at,
        ended_at=at + duration / 1000,
        endpoint=choose.choice(["chat.completions", "messages", "responses"]),
        model=model,
        asked=attempts[0].served,
        status=502 if ended == "failed" else 200,
        ended=ended,
        input=read - cached,
        output=wrote,
        cache_read=cached,
        reasoning=wrote // 4 if model.startswith("gpt") else 0,
        cost=cost,
        reserved=cost * 2,
        first_content_ms=None if ended == "failed" else first_content,
        upstream_ms=duration - 3,
        duration_ms=duration,
        stream=choose.random() < 0.8,
        measured=ended == "completed",
        starts=_starts(at, now) if key.plan else {},
        team_starts={"7d": _starts(at, now)["7d"]} if key.team else {},
        attempts=attempts,
        fallback_from=attempts[0].served if len(attempts) > 1 and ended != "failed" else "",
        tags=choose.choice(["", "", "prod", "prod,search", "evals"]),
    )


def _starts(at: float, now: float) -> dict[str, float]:
    """The periods in which a row counts: those of today began 4 hours and 5 days ago."""
    starts = {"calendar month": Window("calendar month", None, 0).boundary(at) or 0.0}
    for name, seconds, ago in (("5h", 5 * 3600.0, 4 * 3600.0), ("7d", 7 * DAY, 5 * DAY)):
        periods = math.floor((at - (now - ago)) / seconds)
        starts[name] = now - ago + periods * seconds
    return starts
