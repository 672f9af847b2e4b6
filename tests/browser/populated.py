"""A gateway with keys, prices, plans and a month of use, as an operator's may look."""

import asyncio
import math
import random
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from middlewares.limits import Window
from middlewares.stores.ledger.base import AttemptRecord, Ended, Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql.database import Database
from tests.e2e.program import Gateway

DAY = 86_400.0
NANO = 10**9

SECRETS = {
    "ADMIN_TOKEN": "admin-canary-8d20c4e177",
    "UPSTREAM_KEY": "up-canary-93b1f0aa2c",
}

PRICES = {
    "claude-opus-5": ("5.00", "25.00"),
    "gpt-5.5": ("1.75", "14.00"),
    "claude-haiku-5": ("1.00", "5.00"),
    "gpt-5.5-mini": ("0.25", "2.00"),
}
"""Credits for a million tokens of input and of output."""

WINDOWS = (("5h", "12.00"), ("7d", "90.00"), ("calendar month", "300.00"))

KEYS: Mapping[str, Mapping[str, Any]] = {
    "checkout-assistant": {"owner": "payments@example.com", "plan": "pro"},
    "nightly-evals": {"owner": "research@example.com", "plan": "pro"},
    "ana-laptop": {"owner": "ana@example.com", "plan": "pro"},
    "intern-sandbox": {"owner": "sam@example.com", "plan": "small"},
    "unused": {"owner": "ana@example.com"},
}
"""Fields by name, as the management API takes them."""


def document(simulator: str) -> dict[str, Any]:
    """The configuration: models of two vendors, each with the other's as its fallback."""
    upstreams = [
        {
            "name": name,
            "dialect": name,
            "base_url": f"{simulator}/v1",
            "api_key": "env:UPSTREAM_KEY",
        }
        for name in ("openai", "anthropic")
    ]
    models = [
        {
            "id": name,
            "targets": [f"{'anthropic' if name.startswith('claude') else 'openai'}/{name}"],
            "context": 400_000,
            "price": {
                "input": given,
                "output": made,
                "cache_read": str(float(given) / 10),
                "cache_write": str(float(given) * 1.25),
            },
        }
        for name, (given, made) in PRICES.items()
    ]
    plans = [
        {
            "id": "pro",
            "requests": "120/min",
            "tokens": "2M/min",
            "concurrency": 20,
            "overflow": "credits",
            "windows": [{"length": length, "credits": cap} for length, cap in WINDOWS],
        },
        {"id": "small", "requests": "10/min", "windows": [{"length": "1d", "credits": "0.50"}]},
    ]
    return {
        "brand": "Acme AI",
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": upstreams,
        "models": models,
        "plans": plans,
    }


class Populated(Gateway):
    """The gateway. secrets, ids: of its keys, by name."""

    def __init__(self, folder: Path, simulator: str) -> None:
        super().__init__(folder, document(simulator), env=SECRETS)
        self.secrets = {name: self.new_key(name, **fields) for name, fields in KEYS.items()}
        listed = self.admin("GET", "/admin/v1/keys")["data"]
        self.ids = {key["name"]: key["id"] for key in listed}

    def admin(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that the management API answers."""
        bearer = {"authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"}
        answer = self._client.request(method, path, headers=bearer, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def keep(self, rows: list[Entry]) -> None:
        """Write rows into its ledger."""
        with ThreadPoolExecutor(1) as pool:  # a thread without the loop that Playwright runs
            pool.submit(asyncio.run, self._append(rows)).result()

    async def _append(self, rows: list[Entry]) -> None:
        database = await Database.open(self.sql)
        try:
            for start in range(0, len(rows), 200):
                await SqlLedgerStore(database).append(rows[start : start + 200])
        finally:
            await database.aclose()


def populated(folder: Path, simulator: str) -> Populated:
    """Start it, and write its month."""
    gateway = Populated(folder, simulator)
    now = time.time()
    rows = [
        *month(gateway.ids["checkout-assistant"], now, daily=36, scale=1.0, seed=1),
        *month(gateway.ids["nightly-evals"], now, daily=14, scale=2.2, seed=2),
        *month(gateway.ids["ana-laptop"], now, daily=9, scale=0.4, seed=3),
    ]
    rows.append(
        Entry(
            id="crd_00000000000000000001",
            account=gateway.ids["checkout-assistant"],
            at=now - 9 * DAY,
            ended_at=now - 9 * DAY,
            kind="credit",
            granted=50 * NANO,
            note="Order 1182",
        )
    )
    gateway.keep(rows)
    return gateway


def month(account: str, now: float, *, daily: int, scale: float, seed: int) -> Iterator[Entry]:
    """Rows of 30 days up to `now`, oldest first; fewer on weekends."""
    choose = random.Random(seed)
    first = math.floor(now / DAY) - 29
    for day in range(30):
        weekend = (first + day + 3) % 7 >= 5  # 1970-01-01 was a Thursday
        count = round(daily * (0.3 if weekend else 1.0) * choose.uniform(0.7, 1.3))
        times = sorted((first + day + choose.betavariate(4, 3)) * DAY for _ in range(count))
        for at in times:
            if at < now - 60:
                yield _row(account, at, now, scale, choose)


def _row(account: str, at: float, now: float, scale: float, choose: random.Random) -> Entry:
    model = choose.choices(list(PRICES), weights=[3, 4, 2, 3])[0]
    read = int(choose.lognormvariate(8.2, 1.0) * scale)
    cached = int(read * choose.choice([0, 0, 0.5, 0.8]))
    wrote = int(choose.lognormvariate(6.6, 0.8) * scale)
    given, made = (float(price) * 1000 for price in PRICES[model])  # nano-credits for a token
    ended: Ended = choose.choices(("completed", "hung_up", "cut", "failed"), (90, 5, 2, 3))[0]
    fallback = choose.random() < 0.05
    cost = round((read - cached) * given + cached * given / 10 + wrote * made)
    attempts = [AttemptRecord("openai", model, 200, model, "", choose.uniform(500, 4000))]
    if fallback:
        other = choose.choice([name for name in PRICES if name != model])
        failed = AttemptRecord("anthropic", other, 529, other, "overloaded", 180.0, "overloaded")
        attempts.insert(0, failed)
    if ended == "failed":
        cost, wrote = 0, 0
        attempts = [AttemptRecord("openai", model, 503, model, "upstream_error", 90.0, "refused")]
    duration = sum(attempt.ms for attempt in attempts) + choose.uniform(100, 9000)
    return Entry(
        id=f"req_{choose.getrandbits(96):024x}",
        account=account,
        at=at,
        ended_at=at + duration / 1000,
        owner="",
        plan="pro",
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
        first_content_ms=None if ended == "failed" else choose.uniform(180, 2400),
        upstream_ms=duration - 3,
        duration_ms=duration,
        stream=choose.random() < 0.8,
        measured=ended == "completed",
        starts=_starts(at, now),
        attempts=attempts,
        fallback_from=attempts[0].served if fallback and ended != "failed" else "",
    )


def _starts(at: float, now: float) -> dict[str, float]:
    """The periods in which a row counts: those of today began 4 hours and 5 days ago."""
    starts = {"calendar month": Window("calendar month", None, 0).boundary(at) or 0.0}
    for name, seconds, ago in (("5h", 5 * 3600.0, 4 * 3600.0), ("7d", 7 * DAY, 5 * DAY)):
        periods = math.floor((at - (now - ago)) / seconds)
        starts[name] = now - ago + periods * seconds
    return starts
