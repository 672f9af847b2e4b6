"""Refusals whose status does not say what they mean."""

import json
from collections.abc import Iterator
from typing import Any

from tests.e2e.answers import HIDDEN, answer
from tests.e2e.scripted_upstream import Answer

from .oddity import HELLO, TEXT, Oddity, body, stream


def refusals() -> Iterator[Oddity]:
    """As every surface hears them; `tests/edge/upstreams/test_refusal.py` has more wordings."""

    def refusal(name: str, said: Any, status: int, **rest: Any) -> Oddity:
        headers = rest.pop("headers", {})
        said = body(said, status=status, **headers)
        return Oddity(name=name, wire="chat", plain=said, stream=said, **rest)

    bad_key = {
        "error": {
            "code": 400,
            "message": f"API key not valid for {HIDDEN}.",
            "status": "INVALID_ARGUMENT",
            "details": [{"reason": "API_KEY_INVALID"}],
        }
    }
    yield refusal("a bad key as 400, in a list", [bad_key], 400, fails="upstream_error")
    xai = {"code": "Client specified an invalid argument", "error": f"Incorrect API key: {HIDDEN}"}
    yield refusal("a bad key as 400, as text", xai, 400, fails="upstream_error")
    region = {"error": {"message": "User location is not supported for the API use."}}
    yield refusal("a region that is not served", region, 400, fails="upstream_error")
    tokens = {
        "error": {
            "message": f"Request too large for {HIDDEN} on tokens per minute (TPM): Limit 8000, "
            "Requested 42084, please reduce your message size and try again.",
            "type": "tokens",
            "code": "rate_limit_exceeded",
        }
    }
    yield refusal(
        "a rate of tokens as 413",
        tokens,
        413,
        fails="rate_limited",
        retry_after=12,
        headers={"retry_after": "12"},
    )
    raw = {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}
    wrapped = {
        "error": {
            "message": "Provider returned error",
            "code": 400,
            "metadata": {"raw": json.dumps(raw), "provider_name": HIDDEN},
        }
    }
    yield refusal(
        "an overflow that a reseller wraps",
        wrapped,
        400,
        refuses="context_length_exceeded",
        says="200000",
    )
    wait = {
        "error": {
            "code": 429,
            "message": "You exceeded your current rate.",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "21s"}],
        }
    }
    yield refusal("a wait in the body", [wait], 429, fails="rate_limited", retry_after=21)
    yield refusal(
        "a wait in milliseconds",
        {"error": {"message": "slow down"}},
        429,
        fails="rate_limited",
        retry_after=8,
        headers={"retry_after_ms": "7500"},
    )
    inspected = {
        "error": {
            "message": "Input data may contain inappropriate content.",
            "code": "data_inspection_failed",
        }
    }
    yield refusal("an inspection that failed", inspected, 400, refuses="content_filtered")
    own = {"error": {"message": "temperature must be at most 2", "param": "temperature"}}
    yield refusal("a request that is wrong", own, 400, refuses="invalid_request")
    arrears = {"code": "Arrearage", "message": f"Access denied by {HIDDEN}."}
    yield refusal("an account in arrears", arrears, 400, fails="upstream_error")
    name = {"error": {"message": f"The model `{HIDDEN}` does not exist.", "param": "model"}}
    yield refusal("a model that is unknown, as 400", name, 400, fails="upstream_error")
    yield refusal("the page of a firewall", b"<html>10.0.0.5</html>", 403, fails="upstream_error")
    large = {"error": {"message": "The body is too large."}}
    yield refusal("413 without a rate", large, 413, refuses="request_too_large")


def corrections() -> Iterator[Oddity]:
    """Members that an upstream refuses, and without which it answers."""
    detail = [
        {
            "type": "extra_forbidden",
            "loc": ["body", "stream_options", "include_usage"],
            "msg": f"Extra inputs are not permitted by {HIDDEN}",
        }
    ]
    for name, said in {
        "in a list": {"object": "error", "message": {"detail": detail}, "param": None},
        "in words": {"message": "stream_options: Extra inputs are not permitted"},
    }.items():
        yield Oddity(
            name=f"stream_options that are refused, {name}",
            wire="chat",
            whole=TEXT,
            first=Answer(
                status=422, if_member="stream_options", pieces=[json.dumps(said).encode()]
            ),
            stream=stream("chat", *answer("chat", *HELLO).events),
        )
