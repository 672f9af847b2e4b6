"""Redact an upstream's messages: for the log, and for callers if disclosed."""

import re

from middlewares.secret_form import SECRET_RUN

_SECRET = re.compile(
    r"(\b(?:sk|pk|rk|gsk|xai)[-_]|\bAIza|\bBearer\s+"
    r"|key\b(?:\W{1,3}[a-z]+){0,2}\W{1,3}(?=[\w.*-]*[\d*]))[\w.*-]{6,}",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"\b[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>),;]+"
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"
    r"|\[[0-9a-f:.]{0,45}:[0-9a-f:.]{0,45}\](?::\d+)?"
    r"|(?<![\w.-])(?:[a-z0-9-]{1,63}\.){1,8}"
    r"(?:com|net|org|io|ai|dev|app|cloud|cn|eu|internal|local|lan|svc)\b"
    r"(?::\d+)?(?:/[^\s\"'<>),;]*)?"
    r"|\blocalhost(?::\d+)?\b"
    r"|\b(?:org|proj|acct|user|team|req|request)[-_](?=[\w-]{0,64}\d)[\w-]{4,}",
    re.IGNORECASE,
)
_MOST = 1000


def redacted(text: str) -> str:
    """`text` for the log, without anything like a credential: upstreams echo them. Keys of callers
    are known by their form, whatever they begin with."""
    return SECRET_RUN.sub("***", _SECRET.sub(r"\1***", text))


def disclosed(text: str) -> str:
    """`text` for callers of an upstream with `disclose`, as one line of at most 1000 characters.

    Credentials, addresses and account ids are removed.
    """
    line = " ".join(text[: 2 * _MOST].split())
    return _ADDRESS.sub("***", redacted(line))[:_MOST]
