"""Signed webhooks by Standard Webhooks (standardwebhooks.com), without I/O.

Its libraries verify them, and so does `openai.webhooks.unwrap`.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error
from typing import Any

import msgspec

PREFIX = "whsec_"
EXPECTED_SECRET = f'"{PREFIX}" and 24 to 64 bytes in base64'


def secret_text(key: bytes) -> str:
    """A secret as text, the form that libraries take."""
    return PREFIX + b64encode(key).decode()


def secret_key(text: str) -> bytes:
    """The bytes of a secret. Raises ValueError."""
    try:
        key = b64decode(text.removeprefix(PREFIX), validate=True)
    except (Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(f"expected {EXPECTED_SECRET}")
    return key


def event(message: str, kind: str, created_at: int, data: dict[str, Any]) -> bytes:
    """The body of a webhook. message: its id. kind: for example "video.succeeded". created_at:
    Unix seconds."""
    return msgspec.json.encode(
        {"id": message, "object": "event", "type": kind, "created_at": created_at, "data": data}
    )


def signed_headers(key: bytes, message: str, at: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook. message: its id, the same at each try. at: Unix seconds."""
    signed = b"%s.%d.%s" % (message.encode(), at, body)
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode(),
    }
