"""Events that say nothing, in the forms that servers give them."""

import pytest

from edge.dialects.heartbeats import is_heartbeat
from middlewares.sse import Event


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("", b""),
        ("", b"  "),
        ("message", b""),
        ("", b"{}"),
        ("", b"null"),
        ("ping", b"{}"),
        ("ping", b""),
        ("", b"ping"),
        ("", b"[PING]"),
        ("", b'"ping"'),
        ("", b": keep-alive"),
        ("", b'{"type":"ping"}'),
        ("ping", b'{"type":"ping","cost":"0"}'),
        ("", b'{"type":"heartbeat"}'),
        ("heartbeat", b'{"ts":1}'),
        ("", b'{"ping":1764460800}'),
        ("ping", b"still there"),
    ],
)
def test_is_heartbeat_true_for_what_says_nothing(name: str, data: bytes) -> None:
    assert is_heartbeat(Event(name, data))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("error", b"{}"),
        ("error", b""),
        ("message_stop", b"{}"),
        ("", b"[DONE]"),
        ("", b"pinging"),
        ("", b"not json"),
        ("", b'{"type":"error"}'),
        ("ping", b'{"type":"error"}'),
        ("", b'{"detail":"overloaded"}'),
        ("", b'{"ping":1,"error":{"message":"x"}}'),
        ("", b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"ping"}}'),
    ],
)
def test_is_heartbeat_false_for_what_says_something(name: str, data: bytes) -> None:
    assert not is_heartbeat(Event(name, data))
