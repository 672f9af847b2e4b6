"""Teams while the real program runs: what their keys see, and how soon a change is in force."""

import asyncio
import ssl
from typing import Any

import httpx
import pytest

from .conftest import ADMIN_TOKEN, Start, shared_store
from .program import DEADLINE, Gateway, until

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Certificates are not read for each connection, which takes longer than all the rest."""
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "plans": [
        {"id": "small", "concurrency": 5},
        {
            "id": "large",
            "requests": "600/min",
            "windows": [{"length": "5h", "credits": "50.00"}],
            "overflow": "credits",
        },
    ],
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [
        {"id": "sim", "targets": ["near/sim"], "price": {"input": "1000", "output": "2000"}}
    ],
}


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    answer = httpx.request(
        method,
        f"{gateway.url}/admin/v1{path}",
        json=body,
        headers=ADMIN,
        trust_env=False,
        verify=NO_TLS,
    )
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def limits(gateway: Gateway, secret: str) -> httpx.Response:
    """On a connection of its own, so of any of the workers."""
    return httpx.get(
        f"{gateway.url}/v1/limits",
        headers={"authorization": f"Bearer {secret}"},
        trust_env=False,
        verify=NO_TLS,
        timeout=DEADLINE,
    )


def team_of(gateway: Gateway, secret: str) -> Any:
    answer = limits(gateway, secret)
    assert answer.status_code == 200, answer.text
    return answer.json()["team"]


def test_key_sees_its_own_team_and_no_other(start: Start) -> None:
    gateway = start(DOCUMENT)
    search = gateway.run("teams", "create", "--name", "Search", "--plan", "large", "--quiet")
    ads = admin(gateway, "POST", "/teams", {"name": "Ads", "plan": "small"})["id"]
    ann = gateway.make_key("ann", "--team", "Search")
    bob = gateway.new_key("bob", team=ads)
    eve = gateway.new_key("eve")

    assert team_of(gateway, eve) is None
    seen = team_of(gateway, ann)
    assert (seen["id"], seen["name"], seen["plan"]) == (search, "Search", "large")
    (window,) = seen["windows"]
    assert (window["cap"], window["used"], window["remaining"]) == ("50.00", "0.00", "50.00")
    assert (seen["rates"][0]["limit"], seen["concurrency"]) == (600, None)
    for secret, hidden in ((ann, (ads, "Ads", "bob")), (bob, (search, "Search", "ann"))):
        text = limits(gateway, secret).text
        assert not [word for word in hidden if word in text]
        wrong = httpx.get(
            f"{gateway.url}/admin/v1/teams",
            headers={"authorization": f"Bearer {secret}"},
            trust_env=False,
        )
        assert wrong.status_code == 401

    assert admin(gateway, "POST", f"/teams/{search}/credits", {"amount": "5.00"})
    until(lambda: team_of(gateway, ann)["credits"]["balance"] == "5.00", what="credits in force")
    shown, seen = admin(gateway, "GET", f"/teams/{search}/limits"), team_of(gateway, ann)
    for one in (shown, seen):
        one["rates"][0].pop("resets_at")  # now, as nothing is taken
    assert shown == seen


def test_refusal_by_the_team_is_served_by_what_the_plan_of_the_key_names(start: Start) -> None:
    document = {
        **DOCUMENT,
        "plans": [
            {"id": "broke", "windows": [{"length": "5h", "credits": "0.00001"}]},
            {"id": "falls", "on_budget": "free"},
        ],
        "models": [*DOCUMENT["models"], {"id": "free", "targets": ["near/free"]}],
    }
    gateway = start(document)
    team = gateway.new_team("Search", plan="broke")

    def ask(secret: str) -> httpx.Response:
        return httpx.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "sim", "messages": [{"role": "user", "content": "Hello"}]},
            headers={"authorization": f"Bearer {secret}"},
            trust_env=False,
            timeout=DEADLINE,
        )

    served = ask(gateway.new_key("ann", plan="falls", team=team))
    assert (served.status_code, served.headers["x-fallback-from"]) == (200, "sim")
    refused = ask(gateway.new_key("bob", team=team))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["window"]) == (429, "budget_exceeded", "5h")
    assert error["message"].startswith("Your team's 5h spend limit of 0.00001 credits is reached")
    assert refused.headers["retry-after"]


async def test_changes_of_teams_are_in_force_on_every_worker_of_two_replicas(
    request: pytest.FixtureRequest, start: Start
) -> None:
    document = {
        **DOCUMENT,
        "store": await shared_store(request),
        "server": {"workers": 2},
    }
    await asyncio.to_thread(_change_teams, start, document)


def _change_teams(start: Start, document: dict[str, Any]) -> None:
    first, second = start(document), start(document)
    search = admin(first, "POST", "/teams", {"name": "Search", "plan": "small"})["id"]
    ads = admin(second, "POST", "/teams", {"name": "Ads"})["id"]
    made = admin(first, "POST", "/keys", {"name": "ann", "team": search})
    ann, key = made["secret"], f"/keys/{made['id']}"
    lone = admin(first, "POST", "/keys", {"name": "eve"})["secret"]

    def everywhere(true: Any) -> bool:
        """Ten connections reach all four workers, but for one in five hundred runs, which pass."""
        return all(true(limits(gateway, ann)) for _ in range(10) for gateway in (first, second))

    def has(**fields: Any) -> Any:
        def true(answer: httpx.Response) -> bool:
            team = answer.json().get("team") or {}
            return all(team.get(name) == value for name, value in fields.items())

        return true

    def refused(answer: httpx.Response) -> bool:
        return answer.status_code == 401

    assert everywhere(has(id=search, plan="small"))
    admin(second, "PATCH", f"/teams/{search}", {"plan": "large", "name": "Find"})
    until(lambda: everywhere(has(id=search, plan="large", name="Find")), what="the edit")
    first.run("keys", "edit", "ann", "--team", ads)
    until(lambda: everywhere(has(id=ads, name="Ads")), what="the move")
    admin(first, "PATCH", f"/teams/{search}", {"disabled": True})
    admin(second, "PATCH", f"/teams/{ads}", {"disabled": True})
    until(lambda: everywhere(refused), what="the disabled team")
    assert limits(first, lone).status_code == limits(second, lone).status_code == 200
    shown = limits(first, ann).json()["error"]
    assert shown["code"] == "invalid_key"
    assert ads not in str(shown) and "Ads" not in str(shown)
    said = f"{ads}, which is disabled"
    until(
        lambda: [line for line in first.log if line.get("reason", "").endswith(said)],
        what="the reason in the log",
    )
    admin(second, "PATCH", f"/teams/{ads}", {"disabled": False})
    until(lambda: everywhere(has(id=ads)), what="the team enabled again")
    admin(first, "PATCH", key, {"team": None})
    until(lambda: everywhere(has(id=None)), what="the key in no team")
