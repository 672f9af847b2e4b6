"""Ids of our own, and what is kept of the caller's."""

import uuid
from time import time

import pytest

from middlewares import Exchange, RequestIDMiddleware
from middlewares.asgi import Receive, Scope, Send
from middlewares.request_id import uuid7
from tests.asgi import request


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    exchange = Exchange.of(scope)
    body = f"{exchange.request_id}|{exchange.client_request_id}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
    await send({"type": "http.response.body", "body": body})


def test_an_id_is_a_uuid_of_version_7_and_says_when() -> None:
    before = int(time() * 1000)
    read = uuid.UUID(uuid7())
    after = int(time() * 1000)
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert before <= read.int >> 80 <= after


def test_ids_differ_in_all_their_random_bits_and_keep_their_form() -> None:
    ids = [uuid7() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    ever = never = 0
    for text in ids:
        value = uuid.UUID(text).int
        assert str(uuid.UUID(text)) == text
        ever |= value
        never |= ~value
    random_bits = (0xFFF << 64) | ((1 << 62) - 1)
    assert ever & random_bits == random_bits
    assert never & random_bits == random_bits


async def test_the_id_is_stamped_and_on_the_exchange() -> None:
    answer = await request(RequestIDMiddleware(app, make=lambda: "r-1"))
    assert answer.header("x-request-id") == "r-1"
    assert answer.header("x-app") == "1"
    assert answer.text == "r-1|"


async def test_another_header_or_none() -> None:
    named = await request(RequestIDMiddleware(app, header=b"request-id", make=lambda: "r-1"))
    assert (named.header("request-id"), named.header("x-request-id")) == ("r-1", None)
    silent = await request(RequestIDMiddleware(app, header=None, make=lambda: "r-1"))
    assert (silent.header("x-request-id"), silent.text) == (None, "r-1|")


@pytest.mark.parametrize(
    ("theirs", "kept"),
    [
        ("abc-1", True),
        ("with space", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("caf\xe9", False),
        ("a\x1b[31m", False),
        ("a\x00b", False),
        ("a\tb", False),
    ],
)
async def test_the_callers_id_is_kept_for_the_log_only_and_only_if_harmless(
    theirs: str, kept: bool
) -> None:
    middleware = RequestIDMiddleware(app, make=lambda: "r-1")
    answer = await request(middleware, headers={"x-request-id": theirs})
    assert answer.text == f"r-1|{theirs if kept else ''}"
    assert answer.header("x-request-id") == "r-1"


def test_a_header_name_in_upper_case_is_refused() -> None:
    with pytest.raises(ValueError, match="X-Request-ID"):
        RequestIDMiddleware(app, header=b"X-Request-ID")
