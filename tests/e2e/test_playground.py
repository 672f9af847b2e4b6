"""The playground's requests pass the chain of the signed-in key: streams, limits, ledger."""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ADMIN_TOKEN, UPSTREAM_KEY, over_http
from .program import Gateway, Program, quiet, release, stats, until
from .visitor import signed_in

DIALECTS = {"chat": "chat.completions", "messages": "messages", "responses": "responses"}
SAID = "This answer was made by the simulator."


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A simulator that no other module lets go on."""
    program = Program("simulate", "--port", "0", folder=tmp_path_factory.mktemp("provider"))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory, provider: Program) -> Iterator[Gateway]:
    document = over_http(provider.url)
    for model in document["models"]:
        model["price"] = {"input": "1.00", "output": "2.00"}
    document["plans"] = [
        {"id": "open"},
        {"id": "spent", "windows": [{"length": "5h", "credits": "0.000001"}]},
        {"id": "slow", "requests": "1/min", "burst": 1},
    ]
    env = {"UPSTREAM_KEY": UPSTREAM_KEY, "ADMIN_TOKEN": ADMIN_TOKEN}
    program = Gateway(tmp_path_factory.mktemp("playground"), document, env=env)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


def row(gateway: Gateway, secret: str, request_id: str) -> dict[str, Any]:
    """What the ledger has for a request of the key."""
    bearer = {"authorization": f"Bearer {secret}"}

    def found() -> dict[str, Any] | None:
        answer = gateway.get(f"/v1/requests/{request_id}", headers=bearer)
        kept: dict[str, Any] = answer.json()
        return kept if answer.status_code == 200 else None

    return until(found, what=f"the row of {request_id}")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_stream_arrives_before_the_upstream_ends_and_is_charged_to_the_key(
    dialect: str, playground: Gateway, provider: Program
) -> None:
    secret = playground.new_key(f"holder-{dialect}", plan="open")
    with signed_in(playground, secret) as visitor:
        asked = visitor.asking(dialect, "Hello [[sim fault=hold:6]]", system="Be brief.")
        with asked as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            early = [next(lines) for _ in range(4)]
            assert any(line.startswith("data:") for line in early)
            assert stats(provider)["running"] == 1
            release(provider)
            rest = list(lines)
    assert any(line.startswith(": x-credits-used ") for line in rest)
    kept = row(playground, secret, answer.headers["x-request-id"])
    assert kept["endpoint"] == DIALECTS[dialect]
    assert float(kept["credits"]) > 0


def test_stop_reaches_the_upstream(playground: Gateway, provider: Program) -> None:
    secret = playground.new_key("stopper", plan="open")
    with signed_in(playground, secret) as visitor:
        with visitor.asking("chat", "Hello [[sim fault=stall:6]]") as answer:
            assert next(answer.iter_lines())
            assert stats(provider)["running"] == 1
        until(lambda: quiet(playground, provider), what="the upstream without the request")
    kept = row(playground, secret, answer.headers["x-request-id"])
    assert kept["status"] == 200
    assert playground.request_line(answer.headers["x-request-id"])["outcome"] == "hung_up"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_page_without_a_script_has_the_answer_as_text(
    dialect: str, playground: Gateway, provider: Program
) -> None:
    secret = playground.new_key(f"plain-{dialect}", plan="open")
    markup = "<img src=x onerror=alert(1)>"
    with signed_in(playground, secret) as visitor:
        answer = visitor.ask(dialect, f"{markup} there", max_tokens="300", temperature="0.5")
    assert answer.status_code == 200
    assert markup not in answer.text
    shown = html.unescape(answer.text)
    assert f"{markup} there" in shown and SAID in shown
    assert "tokens</dt>" in shown
    kept = row(playground, secret, answer.headers["x-request-id"])
    assert answer.headers["x-request-id"] in answer.text
    assert f"<dd>{kept['credits']} credits</dd>" in answer.text
    assert secret not in answer.text


def test_budget_refusal_is_shown_and_no_upstream_is_asked(
    playground: Gateway, provider: Program
) -> None:
    visiting = signed_in(playground, playground.new_key("spent", plan="spent"))
    before = stats(provider)["requests"]
    with visiting as visitor:
        page = visitor.ask("chat", "Hello")
        with visitor.asking("chat", "Hello") as stream:
            error = json.loads(stream.read())["error"]
    assert page.status_code == stream.status_code == 429
    assert error["code"] == "budget_exceeded"
    said = "The 5h spend limit of 0.000001 credits is reached"
    assert said in error["message"] and said in page.text
    assert stats(provider)["requests"] == before


def test_rate_of_the_key_holds(playground: Gateway) -> None:
    visiting = signed_in(playground, playground.new_key("slow", plan="slow"))
    with visiting as visitor:
        statuses = [visitor.ask("chat", "Hello").status_code for _ in range(4)]
        page = visitor.get("/app/playground")
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert page.status_code == 200


def test_endpoints_and_models_of_the_key_hold(playground: Gateway) -> None:
    only = {"endpoints": ["chat.completions"], "models": ["chat"]}
    visiting = signed_in(playground, playground.new_key("narrow", **only))
    with visiting as visitor:
        assert visitor.ask("chat", "Hello").status_code == 200
        assert visitor.ask("messages", "Hello").status_code == 403
        with visitor.asking("responses", "Hello") as stream:
            assert stream.status_code == 403
        assert visitor.ask("chat", "Hello", model="claude").status_code == 403


def test_revoked_key_asks_nothing(playground: Gateway, provider: Program, tmp_path: Path) -> None:
    secret = playground.new_key("revoked")
    with signed_in(playground, secret) as visitor:
        assert visitor.ask("chat", "Hello").status_code == 200
        playground.run("keys", "revoke", "revoked")
        until(lambda: visitor.get("/app/playground").status_code == 303, what="the end of it")
        before = stats(provider)["requests"]
        with visitor.asking("chat", "Hello") as stream:
            assert stream.status_code == 401
            assert stream.headers["hx-redirect"] == "/app/sign-in"
    assert stats(provider)["requests"] == before
