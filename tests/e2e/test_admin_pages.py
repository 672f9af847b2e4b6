"""Administrators at work in the real program: what they do by form holds on every worker."""

import re
import time
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher

from tests.middlewares.stores.redis_server import RedisServer

from .conftest import SECRETS
from .program import Gateway

PASSWORD = "a-fine-long-password"
DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "dashboard": {"admin_password": "env:ADMIN_PASSWORD"},
    "server": {"workers": 2},
    "plans": [{"id": "prepaid", "overflow": "credits"}],
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["sim/sim-1"], "price": {"input": "1", "output": "2"}}],
}


class Office:
    """The browser of an administrator, without script. Each request is a connection of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self.url = gateway.url
        signed_in = self.post("/app/sign-in/password", password=PASSWORD)
        assert signed_in.status_code == 303, signed_in.text
        # httpx sends no `Secure` cookie over plain http, as browsers do to loopback.
        self.cookie = "; ".join(f"{name}={one}" for name, one in signed_in.cookies.items())

    cookie = ""

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"cookie": self.cookie}, trust_env=False)

    def post(self, path: str, **fields: str) -> httpx.Response:
        headers = {"sec-fetch-site": "same-origin", "cookie": self.cookie}
        return httpx.post(f"{self.url}{path}", data=fields, headers=headers, trust_env=False)

    def hidden(self, path: str, name: str) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', self.get(path).text)
        assert found is not None
        return found[1]


def served(gateway: Gateway, secret: str) -> set[int]:
    """The statuses of eight requests, each on a connection of its own."""
    body = {"model": "sim-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
    return {
        httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {secret}"},
            trust_env=False,
        ).status_code
        for _ in range(8)
    }


def until_served(gateway: Gateway, secret: str, status: int, promised: float) -> None:
    end = time.monotonic() + promised
    while served(gateway, secret) != {status}:
        assert time.monotonic() < end, f"not {status} on every worker"


def test_what_an_administrator_does_holds_on_every_worker(
    tmp_path: Path, redis_server: RedisServer, promised: float
) -> None:
    hashed = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash(PASSWORD)
    document = {**DOCUMENT, "store": {"counters": redis_server.url()}}
    gateway = Gateway(tmp_path, document, env={**SECRETS, "ADMIN_PASSWORD": hashed})
    try:
        office = Office(gateway)
        made = office.post("/app/admin/teams", name="red", plan="prepaid")
        team = made.headers["location"].partition("?")[0]
        page = office.post(
            "/app/admin/keys",
            name="ci",
            team="red",
            form=office.hidden("/app/admin/keys/new", "form"),
        )
        found = re.search(r'<code id="secret"[^>]*>([^<]+)<', page.text)
        assert found is not None, page.text
        secret = found[1]
        assert served(gateway, secret) == {429}  # the team has no credits
        credited = office.post(f"{team}/credits", amount="5", form=office.hidden(team, "form"))
        assert credited.status_code == 303
        until_served(gateway, secret, 200, promised)
        (path,) = set(re.findall(r'"(/app/admin/keys/key_\w+)"', office.get(team).text))
        key = office.get(path).text
        assert "sim-1" in key and secret not in key
        office.post(f"{team}/disable", disabled="yes")
        until_served(gateway, secret, 401, promised)
        office.post(f"{team}/disable", disabled="no")
        until_served(gateway, secret, 200, promised)
        office.post(f"{path}/revoke", confirm="ci")
        until_served(gateway, secret, 401, promised)
        audit = office.get("/app/admin/audit").text
        for action in ("team.create", "key.create", "credits.add", "team.edit", "key.revoke"):
            assert action in audit
        assert "dashboard:admin" in audit
        probed = office.post("/app/admin/upstreams/sim/probe")
        assert probed.status_code == 200 and "It answered with status" in probed.text
        config = office.get("/app/admin/config")
        assert config.status_code == 200
        for word in (secret, hashed, PASSWORD, *SECRETS.values()):
            assert word not in config.text + audit + key
    finally:
        assert gateway.stop() == 0, gateway.stderr
