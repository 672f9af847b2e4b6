"""What an operator changes while the real program runs, and what its callers then see."""

import json
from typing import Any

from .conftest import ADMIN_TOKEN, Start
from .program import Gateway, until

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "plans": [
        {
            "id": "pro",
            "requests": "60/min",
            "burst": 10,
            "concurrency": 5,
            "windows": [{"length": "5h", "credits": "5.00"}],
        },
        {"id": "prepaid", "overflow": "credits"},
    ],
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [
        {"id": "sim", "targets": ["near/sim"], "price": {"input": "1000", "output": "2000"}}
    ],
}
CHAT = {"model": "sim", "messages": [{"role": "user", "content": "[[sim tokens=3]] hi"}]}


def ask(gateway: Gateway, secret: str, path: str, body: Any = None) -> Any:
    """A caller's request; None for the body is a GET."""
    headers = {"authorization": f"Bearer {secret}"}
    if body is None:
        return gateway.get(path, headers=headers)
    return gateway.post(path, body, **headers)


def test_a_caller_sees_what_its_request_did(start: Start) -> None:
    gateway = start(DOCUMENT)
    secret = gateway.make_key("ann", "--plan", "pro")
    answer = ask(gateway, secret, "/v1/chat/completions", CHAT)
    assert answer.status_code == 200, answer.text
    usage = answer.json()["usage"]
    cost = usage["prompt_tokens"] * 0.001 + usage["completion_tokens"] * 0.002

    one = ask(gateway, secret, f"/v1/requests/{answer.headers['x-request-id']}").json()
    assert (one["model"], one["ended"], one["measured"]) == ("sim", "completed", True)
    assert one["usage"]["input_tokens"] == usage["prompt_tokens"]
    assert float(one["credits"]) == round(cost, 9)
    other = gateway.make_key("bob")
    path = f"/v1/requests/{one['id']}"
    assert ask(gateway, other, path).status_code == 404

    total = ask(gateway, secret, "/v1/usage").json()["total"]
    assert (total["requests"], total["credits"]) == (1, one["credits"])
    limits = ask(gateway, secret, "/v1/limits").json()
    (window,) = limits["windows"]
    assert (window["used"], window["reserved"]) == (one["credits"], "0.00")
    assert window["resets_at"] is not None
    (rate,) = limits["rates"]
    assert (rate["limit"], rate["burst"], limits["concurrency"]) == (
        *(60, 10),
        {"limit": 5, "in_use": 0},
    )
    assert rate["remaining"] in (59, 60)  # a second gives one back

    shown = json.loads(gateway.run("usage", "ann", "--json"))
    assert shown["total"] == total
    asked = gateway.get(f"/admin/v1/ledger/{one['id']}", headers=ADMIN).json()
    assert (asked["cost"], asked["attempts"][0]["upstream"]) == (one["credits"], "near")


def test_an_operator_makes_a_key_and_gives_it_credits(start: Start) -> None:
    gateway = start(DOCUMENT)

    def admin(path: str, body: Any = None) -> Any:
        below = f"/admin/v1{path}"
        if body is None:
            answer = gateway.get(below, headers=ADMIN)
        else:
            answer = gateway.post(below, body, **ADMIN)
        assert answer.status_code in (200, 201), answer.text
        assert answer.headers["x-request-id"]
        return answer.json()

    made = admin("/keys", {"name": "ann", "plan": "prepaid"})
    secret, path = made["secret"], f"/keys/{made['id']}"

    def chat() -> int:
        status: int = ask(gateway, secret, "/v1/chat/completions", CHAT).status_code
        return status

    assert chat() == 429
    assert admin(f"{path}/credits", {"amount": "5.00"})["balance"] == "5.00"
    until(lambda: chat() == 200, what="credits to be in force")
    assert gateway.run("credits", "remove", "ann", "5").endswith("credits")
    until(lambda: chat() == 429, what="credits to be gone")
    assert admin(f"{path}/limits")["credits"]["balance"].startswith("-")

    admin(f"{path}/revoke", {})
    until(lambda: chat() == 401, what="the key to be revoked")
    actions = [
        (row["actor"], row["action"]) for row in admin(f"/audit?subject={made['id']}")["data"]
    ]
    assert actions == [
        ("admin", "key.revoke"),
        ("cli", "credits.remove"),
        ("admin", "credits.add"),
        ("admin", "key.create"),
    ]
    for wrong in ({}, {"authorization": f"Bearer {secret}"}, {**ADMIN, "origin": "null"}):
        assert gateway.get("/admin/v1/keys", headers=wrong).status_code in (401, 403)
    said = gateway.whole_log() + gateway.stdout
    assert secret not in said and ADMIN_TOKEN not in said
    assert secret.encode() not in gateway.database.read_bytes()
