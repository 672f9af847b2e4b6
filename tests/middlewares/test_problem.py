"""Every kind in every envelope."""

import json
from typing import Any

import pytest

from middlewares import KINDS, ErrorStyle, Exchange, KindChange, Problem
from middlewares.error_kinds import changed_kinds
from middlewares.exchange import Attempt, Dialect, Target
from tests.asgi import request

KIND = pytest.mark.parametrize("kind", sorted(KINDS))


def exchange(dialect: Dialect = "openai", **style: Any) -> Exchange:
    return Exchange(
        dialect=dialect, request_id="r-1", error_style=ErrorStyle(**{"brand": "Acme", **style})
    )


@KIND
def test_the_openai_envelope(kind: str) -> None:
    content = Problem(kind, param="model").content(exchange())
    assert set(content) == {"error"}
    assert set(content["error"]) == {"message", "type", "param", "code"}
    assert content["error"]["param"] == "model"
    assert isinstance(content["error"]["message"], str)


@KIND
def test_the_anthropic_envelope(kind: str) -> None:
    content = Problem(kind, param="model").content(exchange("anthropic"))
    assert content["type"] == "error"
    assert set(content["error"]) == {"type", "message"}
    assert content["request_id"] == "r-1"


@KIND
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_every_kind_answers(kind: str, dialect: Dialect) -> None:
    ours = exchange(dialect)
    answer = await request(Problem(kind, reason="canary"), state={"penstock.exchange": ours})
    row = KINDS[kind]
    overloaded = dialect == "anthropic" and kind in ("upstream_unavailable", "upstream_signed_out")
    assert answer.status == (529 if overloaded else row.status)
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.body))
    assert "canary" not in answer.text
    assert "{" not in answer.json()["error"]["message"]
    assert (ours.problem, ours.reason, ours.outcome) == (kind, "canary", "refused")
    if row.status in (429, 503):
        assert int(answer.header("retry-after") or 0) >= 1
    else:
        assert answer.header("retry-after") is None
    stops = kind in (
        *("missing_key", "invalid_key", "key_misconfigured"),
        *("budget_exceeded", "insufficient_credits", "submission_unknown"),
    )
    again = "true" if kind == "video_not_ready" else None
    assert answer.header("x-should-retry") == ("false" if stops else again)


@KIND
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_every_kind_is_an_event(kind: str, dialect: Dialect) -> None:
    ours = exchange(dialect)
    event = Problem(kind, message="two\nlines").event(ours)
    head = b"event: error\ndata: " if dialect == "anthropic" else b"data: "
    assert event.startswith(head) and event.endswith(b"\n\n") and event.count(b"\n\n") == 1
    assert json.loads(event.removeprefix(head)) == Problem(kind, message="two\nlines").content(ours)
    assert ours.outcome == "cut"


def test_public_messages_carry_the_brand_and_the_wait() -> None:
    reported = Problem("rate_limited", retry_after=17).content(exchange())["error"]
    assert "try again in 17s" in reported["message"]
    assert reported["code"] == "rate_limit_exceeded"
    assert "Acme" in Problem("upstream_error").content(exchange())["error"]["message"]
    assert Problem("rate_limited", retry_after=0).retry_after == 1
    assert Problem("method_not_allowed").content(exchange())["error"]["code"] is None


def test_braces_in_a_message_or_a_brand_are_only_braces() -> None:
    assert Problem("internal", message="{x}").content(exchange())["error"]["message"] == "{x}"
    reported = Problem("internal").content(exchange(brand="{x}"))["error"]["message"]
    assert reported.startswith("{x}")


def test_details_and_extras() -> None:
    problem = Problem(
        "budget_exceeded", param="model", issue="too dear", extra={"remaining": "0.00"}
    )
    assert problem.content(exchange())["error"]["remaining"] == "0.00"
    assert problem.content(exchange(dialect="anthropic"))["error"]["remaining"] == "0.00"
    reported = problem.content(exchange(details=True))["error"]
    assert reported["details"] == {"field": "model", "issue": "too dear"}
    bare = Problem("internal", message="m").content(exchange(details=True))["error"]
    assert bare["details"] == {"field": None, "issue": "m"}


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
def test_details_are_in_every_dialect_and_short_where_the_kind_is(dialect: Dialect) -> None:
    problem = Problem("model_not_found", message="The model `x` is not there.", param="model")
    error = problem.content(exchange(dialect, details=True))["error"]
    assert error["details"] == {"field": "model", "issue": "Model not found"}
    assert error["message"] == "The model `x` is not there."
    assert "details" not in problem.content(exchange(dialect))["error"]


@KIND
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
async def test_a_changed_kind_is_in_the_answer_and_in_the_event(
    kind: str, dialect: Dialect
) -> None:
    change = KindChange(status=499, type="own_type", code="own_code", message="{brand}!{{}}")
    kinds = changed_kinds({kind: change})
    ours = exchange(dialect, kinds=kinds)
    answer = await request(Problem(kind), state={"penstock.exchange": ours})
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["message"]) == (499, "own_type", "Acme!{}")
    assert error.get("code") == (None if dialect == "anthropic" else "own_code")
    assert ours.problem == kind  # for the log and the metrics
    event = Problem(kind).event(ours).partition(b"data: ")[2]
    assert json.loads(event)["error"] == error
    case = Problem(kind, message="This case.").content(ours)["error"]
    assert (case["message"], case["type"]) == ("This case.", "own_type")


def test_a_changed_kind_does_not_hold_for_endpoints_that_keep_the_table() -> None:
    kinds = changed_kinds({"not_found": KindChange(status=410, type="gone", code="")})
    ours = exchange(kinds=kinds, unchanged=frozenset(("admin",)))
    assert Problem("not_found").status(ours) == 410
    ours.endpoint = "admin"
    assert Problem("not_found").status(ours) == 404
    assert Problem("not_found").content(ours)["error"]["code"] == "not_found"


async def test_headers_of_its_own_and_none_of_the_body_for_head() -> None:
    problem = Problem("method_not_allowed", headers=((b"allow", b"POST"),))
    answer = await request(problem, "HEAD")
    assert (answer.header("allow"), answer.body) == ("POST", b"")
    assert int(answer.header("content-length") or 0) > 0


async def test_after_an_attempt_it_is_a_failure_and_no_refusal() -> None:
    ours = exchange()
    ours.attempts.append(Attempt(Target("a", "b"), 0.0))
    await request(Problem("upstream_error"), state={"penstock.exchange": ours})
    assert ours.outcome == "failed"


def test_an_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="teapot"):
        Problem("teapot")
