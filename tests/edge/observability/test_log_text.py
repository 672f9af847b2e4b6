"""Untrusted text in log lines."""

import json

import pytest

from edge.observability.log_text import (
    LONGEST_EXCEPTION,
    LONGEST_NAME,
    LONGEST_REASON,
    shown,
    shown_traceback,
)
from tests.asgi import request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

CONTROLS = "\r\n\x00\x1b[31m\u2028\u202e\u200b\ud800\x85"


@pytest.mark.parametrize("most", [LONGEST_NAME, LONGEST_REASON])
def test_shown_long_text_is_cut_and_marked(most: int) -> None:
    assert shown("x" * most, most) == "x" * most
    cut = shown("x" * (most + 1), most)
    assert len(cut) == most
    assert cut.endswith("…")
    assert len(shown(CONTROLS * most, most)) == most


def test_shown_escapes_control_characters_and_hides_keys() -> None:
    text = shown(f"a{CONTROLS}b")
    assert text.isprintable()
    assert text.startswith("a\\u000d\\u000a\\u0000\\u001b[31m\\u2028\\u202e")
    assert "secret" not in shown("sk-live-secretsecret")


def test_shown_traceback_keeps_lines_and_both_ends() -> None:
    text = shown_traceback(f"first\n{'x' * 200_000}\x1b\nlast sk-live-secretsecret")
    assert text.startswith("first\n")
    assert text.endswith("last sk-***")
    assert "\x1b" not in text
    assert len(text) <= LONGEST_EXCEPTION + 20


async def test_request_line_of_long_untrusted_text_is_short() -> None:
    """140 kB of line came of a path of 24 kB of control characters."""
    said = json.dumps({"error": {"message": CONTROLS.replace("\ud800", "") * 20_000}}).encode()
    gateway = ScriptedGateway(Scripted(Answer([said], status=500, headers=[JSON])))
    turns = [{"role": "user", "content": "x"}]
    await request(gateway.app, "GET", "/v1/" + "%00%1b" * 12_000)
    await request(gateway.app, "GET", "/v1/models/" + "%0a" * 24_000)
    await request(gateway.app, "POST", "/v1/chat/completions", json={"model": "x" * 256})
    await request(
        gateway.app, "POST", "/v1/chat/completions", json={"model": "m1", "messages": turns}
    )
    assert len(gateway.log) == 4
    for line in gateway.log:
        assert len(json.dumps(line)) < 8000, line
        assert all(text.isprintable() for text in line.values() if isinstance(text, str)), line
    assert len(gateway.log[0]["path"]) == LONGEST_NAME
