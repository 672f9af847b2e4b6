"""Errors of the system in plain words."""

import pytest

from edge.cli.check.system_errors import plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x: [Errno 111] Connect call failed ('127.0.0.1', 5999)", "x: Connection refused"),
        (
            "ConnectionRefusedError: [Errno 113] Connect call failed ('::1', 1, 0, 0)",
            "No route to host",
        ),
        ("ConnectError: [Errno -2] Name or service not known", "Name or service not known"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "wrong version number"),
        ("store.sql: is an Error", "store.sql: is an Error"),
        ("error: plain", "error: plain"),
    ],
)
def test_plain(text: str, said: str) -> None:
    assert plain(text) == said
