"""Customers of Capio, and what they ask."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import httpx

from tests.e2e.program import DEADLINE, Gateway, until
from tests.e2e.visitor import signed_in

from .system import ADMIN_TOKEN

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


class Customer(NamedTuple):
    """A team that has credits, and its first key. id: of the key."""

    id: str
    secret: str
    team: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    url = f"{gateway.url}/admin/v1/{path}"
    answer = httpx.request(method, url, json=body, headers=ADMIN, trust_env=False, timeout=DEADLINE)
    assert answer.is_success, answer.text
    return answer.json()


def customer(gateway: Gateway, name: str, credits_: str = "5.00", **fields: Any) -> Customer:
    """Set up a customer as the profile's file says."""
    team = gateway.new_team(name, plan="payg")
    if credits_:
        admin(gateway, "POST", f"teams/{team}/credits", {"amount": credits_})
    key = admin(gateway, "POST", "keys", {"name": name, "owner": name, "team": team, **fields})
    return Customer(key["id"], key["secret"], team)


def chat(model: str, text: str = "ping", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def ask(
    gateway: Gateway, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """A request on a connection of its own, so that either worker may get it. None: a GET."""
    return httpx.request(
        "GET" if body is None else "POST",
        f"{gateway.url}{path}",
        json=body,
        headers=headers,
        trust_env=False,
        timeout=DEADLINE,
    )


def asked(
    gateway: Gateway, name: str, wanted: Iterable[tuple[str, str, str]]
) -> Sequence[tuple[str, str, str]]:
    """Path, model as written and model that served, of all requests of a key's name, once those
    that are wanted have their lines: these come some time after the answer."""

    def lines() -> list[tuple[str, str, str]]:
        found = [line for line in gateway.log if line.get("key_name") == name]
        return [(line["path"], line.get("model", ""), line.get("served", "")) for line in found]

    all_of_them = Counter(wanted)
    until(lambda: Counter(lines()) >= all_of_them, what=f"{all_of_them} of {name}")
    return lines()


def made_at_the_dashboard(gateway: Gateway, secret: str, name: str) -> httpx.Response:
    """The page that shows a new key, made by the holder of another one at /app/api-keys."""
    with signed_in(gateway, secret) as visitor:
        form = visitor.get("/app/api-keys/new").text
        return visitor.post("/app/api-keys", data={"name": name, **hidden_fields(form)})


def hidden_fields(form: str) -> dict[str, str]:
    return {
        name: re.findall(rf'name="{name}" value="([^"]*)"', form)[0] for name in ("form", "parent")
    }


def refusal(gateway: Gateway, path: str, headers: Mapping[str, str]) -> httpx.Response:
    """The 401 that a key gets, once the worker that is asked knows of its end."""

    def refused() -> httpx.Response | None:
        answer = ask(gateway, path, chat("gpt-5.5", max_tokens=9), headers)
        return answer if answer.status_code == 401 else None

    return until(refused, what="the key to be refused")
