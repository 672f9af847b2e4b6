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
from middlewares.stores import KeyPrefixes, mint
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


@pytest.mark.parametrize("begin", ["sk_cdx_", "acme-", "Key_Of_Acme_test_"])
@pytest.mark.parametrize("around", ["{}", "/v1/models/{}", "Bearer {}", "key={}&x=1", "a\n{}\nb"])
def test_shown_hides_keys_whatever_they_begin_with(begin: str, around: str) -> None:
    secret = mint(KeyPrefixes.of(begin))
    for padding in (0, *range(LONGEST_NAME - 70, LONGEST_NAME)):
        text = shown("é" * padding + " " + around.format(secret))
        assert not any(secret[n : n + 8] in text for n in range(len(begin), len(secret) - 8)), text
    assert secret[-43:] not in shown_traceback(around.format(secret))


def test_shown_keeps_digests_ids_and_names() -> None:
    for text in (
        "0123456789abcdef" * 4,
        "chatcmpl-9ssVH3gKcPYYRqOwKLk8d5Ux1mQ",
        "01890f3e-7b1c-7cc3-98c4-dc0c0c07398f",
        "claude-3-5-sonnet-20241022",
        "msg_01XFDUDYJgAACzvnptvVoYEL",
    ):
        assert shown(text) == text


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
