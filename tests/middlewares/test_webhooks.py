"""Signatures of webhooks, verified by a library of another's."""

import json
import time

import openai
import pytest

from middlewares.webhooks import event, secret_key, secret_text, signed_headers

KEY = bytes(range(32))


def test_signed_event_is_verified_by_the_openai_sdk() -> None:
    body = event("evt_1", "budget.threshold", 1000, {"share": 80})
    headers = signed_headers(KEY, "evt_1", int(time.time()), body)
    sdk = openai.OpenAI(api_key="x")
    sdk.webhooks.verify_signature(body, headers, secret=secret_text(KEY))
    assert json.loads(body) == {
        "id": "evt_1",
        "object": "event",
        "type": "budget.threshold",
        "created_at": 1000,
        "data": {"share": 80},
    }
    with pytest.raises(openai.InvalidWebhookSignatureError):
        sdk.webhooks.verify_signature(body + b" ", headers, secret=secret_text(KEY))


def test_secret_key_is_read_from_its_text() -> None:
    assert secret_key(secret_text(KEY)) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        secret_text(bytes(23)),
        secret_text(bytes(65)),
        secret_text(KEY).removeprefix("whsec_"),
        "whsec_" + "!" * 44,
        secret_text(KEY) + "é",
    ],
)
def test_secret_key_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='expected "whsec_" and 24 to 64 bytes in base64'):
        secret_key(text)
