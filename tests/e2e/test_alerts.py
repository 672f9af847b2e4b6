"""Alerts of real gateways to a real receiver."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.clients.programs import NODE, PACKAGES

from .alert_receiver import AlertReceiver
from .conftest import SECRETS, Start, shared_store
from .kill_points import arm, armed, environment_of
from .operator import change, status
from .program import DEADLINE, ROOT, Gateway, command, environment, until
from .wire import CHAT, ask, bearer, chat

CAPPED = {"id": "capped", "windows": [{"length": "1d", "credits": "1.00"}]}
COST = "[[sim tokens=10]]"
"""Makes an answer that costs 0.10."""


def document(**tables: Any) -> dict[str, Any]:
    price = {"input": "0", "output": "10000"}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [{"name": "near", "dialect": "simulator"}],
        "models": [{"id": "sim-1", "targets": ["near/sim-1"], "price": price}],
        "plans": [CAPPED],
        **tables,
    }


def spend(gateway: Gateway, key: str, times: int = 1) -> list[int]:
    """The statuses of so many requests, one after the other."""
    body = {**chat(f"Hello {COST}", "sim-1"), "max_tokens": 10}
    headers = {"authorization": f"Bearer {key}"}
    return [
        httpx.post(gateway.url + CHAT, json=body, headers=headers, trust_env=False).status_code
        for _ in range(times)
    ]


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    opened = AlertReceiver()
    yield opened
    opened.close()


async def test_two_replicas_send_each_share_once(
    request: pytest.FixtureRequest, start: Start, receiver: AlertReceiver
) -> None:
    store = await shared_store(request)
    made = document(
        server={"workers": 2}, store=store, alerts={"webhook": receiver.url, "at": [10, 50, 100]}
    )
    both = [await asyncio.to_thread(start, made) for _ in range(2)]
    team = await asyncio.to_thread(both[0].new_team, "research", plan="capped")
    owners = ({"plan": "capped"}, {"plan": "capped"}, {"team": team}, {"team": team})
    keys = [
        await asyncio.to_thread(both[0].new_key, f"k{n}", **fields)
        for n, fields in enumerate(owners)
    ]
    body = {**chat(f"Hello {COST}", "sim-1"), "max_tokens": 10}
    for some in (keys[:1], keys[1:2], keys[2:]):
        replies = await asyncio.gather(
            *[ask(both[n % 2].url, CHAT, body, bearer(some[n % len(some)])) for n in range(14)]
        )
        served = sum(reply.status == 200 for reply in replies)
        async with asyncio.timeout(DEADLINE):
            while served < 10:  # refused as long as the other replica holds more than was spent
                again = (await ask(both[0].url, CHAT, body, bearer(some[0]))).status == 200
                served += again
                await asyncio.sleep(0 if again else 0.05)
        assert served == 10
    names = ["k0", "k1", "research"]
    await asyncio.to_thread(
        until, lambda: all(100 in receiver.shares(name=name) for name in names), what="100 of each"
    )
    assert {event["data"]["name"] for event in receiver.events} == {*names}
    (one, *_) = [event["data"] for event in receiver.events if event["data"]["id"] == team]
    assert (one["whose"], one["owner"], one["plan"]) == ("team", None, "capped")
    for gateway in both:
        assert await asyncio.to_thread(gateway.stop) == 0
    for name in names:
        shares = receiver.shares(name=name)
        assert len(shares) == len(set(shares)), "each at most once"


def test_alert_is_verified_by_the_openai_sdk(start: Start, receiver: AlertReceiver) -> None:
    gateway = start(document(alerts={"webhook": receiver.url}))
    key = gateway.new_key("laptop", plan="capped", owner="alice")
    assert spend(gateway, key, 8) == [200] * 8
    until(lambda: receiver.got, what="an alert")
    headers, body = receiver.got[0]
    secret = gateway.run("alerts", "secret")
    openai.OpenAI(api_key="x").webhooks.verify_signature(body.decode(), headers, secret=secret)
    shown = httpx.get(
        f"{gateway.url}/v1/limits", headers={"authorization": f"Bearer {key}"}, trust_env=False
    ).json()
    (window,), data = shown["windows"], json.loads(body)["data"]
    assert (data["name"], data["owner"], data["plan"]) == ("laptop", "alice", "capped")
    assert {name: data[name] for name in ("used", "cap", "remaining", "resets_at")} == {
        name: window[name] for name in ("used", "cap", "remaining", "resets_at")
    }
    assert key not in body.decode()
    assert "canary-7f" not in gateway.whole_log()
    sent = ("penstock_alerts_total", (("result", "sent"),))
    until(lambda: gateway.metrics().get(sent), what="the count of what was sent")


def test_kill_between_row_and_alert_loses_nothing(tmp_path: Path, receiver: AlertReceiver) -> None:
    env = {**SECRETS, **environment_of(tmp_path)}
    gateway = Gateway(tmp_path, document(alerts={"webhook": receiver.url, "at": [100]}), env=env)
    try:
        for point in ("alert:before", "alert:after"):
            key = gateway.new_key(point, plan="capped")
            arm(tmp_path, point)
            assert spend(gateway, key, 10) == [200] * 10
            until(lambda: receiver.shares(name=point) == [100], what="the alert")  # noqa: B023
            assert not armed(tmp_path), "it died there"
        assert receiver.shares() == [100, 100]
    finally:
        assert gateway.stop() == 0, gateway.stderr


def test_receiver_that_hangs_or_fails_disturbs_no_request(
    start: Start, receiver: AlertReceiver
) -> None:
    receiver.hang = True
    gateway = start(document(alerts={"webhook": receiver.url}, server={"drain": "60s"}))
    key = gateway.new_key("k", plan="capped")
    spend(gateway, key, 8)
    until(lambda: receiver.got, what="a try")
    assert spend(gateway, gateway.new_key("free"), 30) == [200] * 30
    receiver.status = 500
    receiver.release.set()
    receiver.hang = False
    failed = ("penstock_alerts_total", (("result", "failed"),))
    until(lambda: gateway.metrics().get(failed), what="a failed try")
    receiver.status = 204
    until(lambda: len(receiver.got) > 1, what="another try")
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_settings_and_caps_are_taken_over_by_a_reload(
    start: Start, receiver: AlertReceiver
) -> None:
    gateway = start(document())
    key = gateway.new_key("k", plan="capped")
    assert spend(gateway, key, 5) == [200] * 5
    lower = {"id": "capped", "windows": [{"length": "1d", "credits": "0.70"}]}
    digest = change(gateway, alerts={"webhook": receiver.url, "at": [80]}, plans=[lower])
    until(
        lambda: [worker["digest"] for worker in status(gateway)["workers"]] == [digest],
        what="the new configuration",
    )
    assert spend(gateway, key) == [200]
    until(lambda: receiver.shares() == [80], what="an alert about the new cap")
    assert receiver.events[0]["data"]["cap"] == "0.70"


def _example(language: str) -> str:
    page = (ROOT / "docs/alerts.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("language", ["js", "python"])
def test_receiver_of_the_documentation_takes_what_is_signed(tmp_path: Path, language: str) -> None:
    """The JavaScript one verifies with the library of Standard Webhooks."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    secret = "whsec_" + "c2VjcmV0" * 5
    if language == "js":
        (tmp_path / "node_modules").symlink_to(PACKAGES)
        program = [str(NODE), str(tmp_path / "receiver.mjs")]
        (tmp_path / "receiver.mjs").write_text(_example("js"))
    else:
        program = [sys.executable, "-u", "-c", _example("python")]
    settings = tmp_path / "penstock.json"
    given = document(alerts={"webhook": f"http://127.0.0.1:{port}/", "secret": "env:SIGNS"})
    settings.write_text(json.dumps(given))

    def test_event(signed_by: str) -> int:
        return subprocess.run(
            command("alerts", "test", "--config", str(settings)),
            env=environment({**SECRETS, "SIGNS": signed_by}),
            cwd=ROOT,
            capture_output=True,
        ).returncode

    env = {"PATH": os.environ["PATH"], "PORT": str(port), "ALERTS_SECRET": secret}
    with subprocess.Popen(program, env=env, cwd=tmp_path, stdout=subprocess.PIPE) as receiver:
        try:
            until(lambda: test_event(secret) == 0, what="a receiver that takes it")
            assert receiver.stdout is not None
            assert b"alerts.test" in receiver.stdout.readline()
            assert test_event("whsec_" + "b3RoZXIh" * 5) == 1
        finally:
            receiver.kill()
