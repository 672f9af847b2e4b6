"""A gateway with keys, prices, plans and a month of use, as an operator's may look."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher

from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql.database import Database
from tests.e2e.program import DEADLINE, Gateway

from .month import DAY, PRICES, month

NANO = 10**9

PASSWORD = "correct horse battery staple"

ADMIN_TOKEN = "admin-canary-8d20c4e177"
SECRETS = {
    "ADMIN_PASSWORD": PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash(PASSWORD),
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "UPSTREAM_KEY": "up-canary-93b1f0aa2c",
}

WINDOWS = (("5h", "5.00"), ("7d", "25.00"), ("calendar month", "150.00"))

KEYS: Mapping[str, Mapping[str, Any]] = {
    "checkout-assistant": {"owner": "payments@example.com", "plan": "pro", "team": "Payments"},
    "refund-bot": {"owner": "payments@example.com", "plan": "pro", "team": "Payments"},
    "nightly-evals": {"owner": "research@example.com", "plan": "pro"},
    "ana-laptop": {"owner": "ana@example.com", "plan": "pro"},
    "intern-sandbox": {"owner": "sam@example.com", "plan": "small"},
    "unused": {"owner": "ana@example.com"},
}
"""Fields by name, as the management API takes them, but for the team, which is named. The first is
the key of the holder."""

TEAMS: Mapping[str, Mapping[str, Any]] = {
    "Payments": {"plan": "team"},
    "Research": {"limits": {"concurrency": 50}},
}
"""Fields of teams by name."""

USE = (
    ("checkout-assistant", 36, 1.0),
    ("refund-bot", 12, 0.7),
    ("nightly-evals", 14, 2.2),
    ("ana-laptop", 9, 0.4),
)
"""Of a key by name: requests of a weekday, and how long they are."""


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
    film = {"id": "film", "targets": ["openai/film"], "output_modalities": ["video"]}
    models.append({**film, "price": {"job": "0.20"}})
    plans = [
        {
            "id": "pro",
            "requests": "120/min",
            "tokens": "2M/min",
            "concurrency": 20,
            "overflow": "credits",
            "windows": [{"length": length, "credits": cap} for length, cap in WINDOWS],
        },
        {"id": "team", "windows": [{"length": "7d", "credits": "20.00"}], "requests": "600/min"},
        {"id": "small", "requests": "10/min", "windows": [{"length": "1d", "credits": "0.50"}]},
    ]
    return {
        "brand": "Acme AI",
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "dashboard": {"admin_password": "env:ADMIN_PASSWORD", "self_service": True},
        "upstreams": upstreams,
        "models": models,
        "plans": plans,
    }


class Populated(Gateway):
    """A gateway with keys and teams.

    secrets, ids: of keys by name. teams: ids by name. holder: name of the key that holders sign in
    with, "" without keys. request_id, file_id: of one of its requests, and of its files.
    """

    def __init__(
        self,
        folder: Path,
        document: Mapping[str, Any],
        keys: Mapping[str, Mapping[str, Any]],
        teams: Mapping[str, Mapping[str, Any]],
    ) -> None:
        super().__init__(folder, document, env=SECRETS)
        self.teams = {
            name: self.admin("POST", "/admin/v1/teams", json={"name": name, **fields})["id"]
            for name, fields in teams.items()
        }
        self.secrets = {}
        for name, fields in keys.items():
            team = self.teams.get(fields.get("team", ""))
            self.secrets[name] = self.new_key(
                name, **{**fields, **({"team": team} if team else {})}
            )
        listed = self.admin("GET", "/admin/v1/keys")["data"]
        self.ids = {key["name"]: key["id"] for key in listed}
        self.holder = next(iter(keys), "")
        self.request_id = ""
        self.file_id = ""

    def admin(self, method: str, path: str, **options: Any) -> Any:
        """The JSON that the management API answers."""
        bearer = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        answer = self._client.request(method, path, headers=bearer, **options)
        assert answer.is_success, answer.text
        return answer.json()

    @cache  # noqa: B019
    def session(self, role: str) -> list[dict[str, Any]]:
        """The cookies of a visitor that has signed in as "holder" or "admin", for Playwright."""
        path, field, secret = {
            "holder": ("/app/sign-in", "key", self.secrets[self.holder]),
            "admin": ("/app/sign-in/password", "password", PASSWORD),
        }[role]
        answer = httpx.post(
            f"{self.url}{path}",
            data={field: secret, "next": "/app"},
            headers={"sec-fetch-site": "same-origin"},
            trust_env=False,
            timeout=DEADLINE,
        )
        assert answer.status_code == 303, answer.text
        return [
            {
                "name": cookie.name,
                "value": cookie.value,
                "domain": "127.0.0.1",
                "path": "/",
                "expires": -1,
                "httpOnly": True,
                "secure": True,
                "sameSite": "Lax",
            }
            for cookie in answer.cookies.jar
        ]

    def ask(self, path: str, **options: Any) -> Any:
        """The JSON that a POST with the key of the holder is answered with."""
        bearer = {"authorization": f"Bearer {self.secrets[self.holder]}"}
        answer = self._client.post(path, headers=bearer, **options)
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
    """Start a gateway, and write its month."""
    gateway = Populated(folder, document(simulator), KEYS, TEAMS)
    now = time.time()
    rows: list[Entry] = []
    for name, daily, scale in USE:
        key = Entry(
            id="",
            account=gateway.ids[name],
            at=0.0,
            ended_at=0.0,
            key_name=name,
            owner=KEYS[name]["owner"],
            plan=KEYS[name]["plan"],
            team=gateway.teams.get(KEYS[name].get("team", ""), ""),
        )
        rows += month(key, now, daily=daily, scale=scale, seed=daily)
    mine = [row for row in rows if row.account == gateway.ids[gateway.holder]]
    gateway.request_id = next(row.id for row in reversed(mine) if row.fallback_from)
    bought = now - 9 * DAY
    rows.append(
        Entry(
            id="crd_00000000000000000001",
            account=gateway.ids[gateway.holder],
            at=bought,
            ended_at=bought,
            kind="credit",
            granted=50 * NANO,
            note="Order 1182",
        )
    )
    gateway.keep(rows)
    for name, size in (("catalogue-2026.pdf", 2_400_000), ("a-name-" * 24 + "end.csv", 812)):
        file = {"file": (name, b"%PDF-1.7\n" + b"x" * size)}
        made = gateway.ask("/v1/files", data={"purpose": "user_data"}, files=file)
        gateway.file_id = made["id"]
    for prompt in ("A mill by a river", "A gate opens [[sim fault=429]]"):
        gateway.ask("/v1/videos/generations", json={"model": "film", "prompt": prompt})
    return gateway
