"""Embeddings, passed through."""

import json
from typing import Any

import msgspec
import pytest

from edge.dialects.openai_embeddings import DIALECT, finish_body
from edge.dialects.passthrough import UpstreamError
from middlewares.exchange import Usage

Json = dict[str, Any]
USAGE: Json = {"prompt_tokens": 5, "total_tokens": 5}
ANSWER: Json = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -1.25e-7]}],
    "model": "up",
    "usage": USAGE,
}


def finished(body: Json, **terms: Any) -> tuple[Json, Usage | None]:
    out, usage = finish_body(json.dumps(body).encode(), "ours", **terms)
    return json.loads(out), usage


def test_prepare_changes_the_model_only() -> None:
    fields = {"model": msgspec.Raw(b'"m"'), "input": msgspec.Raw(b'["a", 1.0]')}
    assert DIALECT.prepare(fields, "up", False) == b'{"model":"up","input":["a", 1.0]}'


def test_embeddings_are_not_streamed() -> None:
    with pytest.raises(NotImplementedError):
        DIALECT.relay({}, "ours", {})


def test_finish_body_passes_the_bytes_but_for_the_model() -> None:
    body = b'{ "data":[{"embedding":"AACAPw=="}], "model" : "up", "novel":1.0}'
    out, usage = finish_body(body, "ours")
    assert (out, usage) == (body.replace(b'"up"', b'"ours"'), None)
    assert DIALECT.output_size(out) == 0


def test_finish_body_counts_the_input() -> None:
    assert finished(ANSWER) == ({**ANSWER, "model": "ours"}, Usage(input=5))


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "vendor-secret"},
        {"data": []},
        {"data": None, "usage": USAGE},
        {"data": {}},
        {"data": [{"embedding": None}]},
        {"data": [{"embedding": []}]},
        {"data": [{"object": "embedding"}]},
        {"data": ["x"]},
        {"error": {"message": "vendor-secret"}, **ANSWER},
        {"object": "error", "message": "vendor-secret"},
        {"base_resp": {"status_code": 1004}, **ANSWER},
    ],
)
def test_finish_body_refuses_what_holds_no_embeddings(body: Json) -> None:
    with pytest.raises(UpstreamError):
        finished(body)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"data":'])
def test_finish_body_refuses_what_is_no_object(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        finish_body(body, "ours")


TELLING: Json = {"system_fingerprint": "vendor-secret", "provider": "vendor-secret"}


def test_finish_body_does_not_name_the_upstream() -> None:
    actual = {
        **ANSWER,
        **TELLING,
        "usage": {**USAGE, "cost": 0.1},
        "by": {"model": "vendor-secret"},
    }
    out, _ = finished(actual)
    expected = {**ANSWER, "model": "ours", "system_fingerprint": None, "by": {"model": "ours"}}
    assert out == expected
    assert finished(actual, disclose=True)[0] == {**actual, "model": "ours"}


@pytest.mark.parametrize("disclose", [False, True])
def test_finish_body_odd_members_do_no_harm(disclose: bool) -> None:
    odd: Json = {**ANSWER, "error": "", "model": "up", "object": 7, "usage": "n/a"}
    out, usage = finished(odd, disclose=disclose)
    assert out == {**ANSWER, "model": "ours", "object": 7, "usage": "n/a"}
    assert usage is None


def test_finish_body_nan_is_null() -> None:
    out, _ = finish_body(b'\xef\xbb\xbf{"data":[{"embedding":[NaN,1]}]}', "ours")
    assert json.loads(out) == {"data": [{"embedding": [None, 1]}]}


def test_model_of_another_type_names_no_model() -> None:
    out, _ = finished({**ANSWER, "model": {"name": "vendor-secret"}})
    assert out == {**ANSWER, "model": "ours"}
