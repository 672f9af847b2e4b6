"""An upstream's refusal, for tests of what it becomes."""

import json
from typing import Any

from msgspec import Raw

from edge.upstreams.refusal import problem_of
from middlewares.exchange import Dialect, Exchange
from middlewares.problem import Problem

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic")
CANARY = "canary-host.internal"
NOW = 1_700_000_000.0
FIELDS = {
    "model": Raw(b'"m"'),
    "messages": Raw(b'[{"role":"user","content":[{"type":"text","text":"Hi"}]}]'),
    "max_tokens": Raw(b"100"),
    "tools": Raw(b'[{"name":"n","defer_loading":true}]'),
    "thinking": Raw(b'{"type":"adaptive"}'),
    "temperature": Raw(b"1"),
    "seed": Raw(b"7"),
}


def refuse(
    status: int,
    message: str = "",
    *,
    dialect: Dialect = "openai",
    headers: list[tuple[bytes, bytes]] | None = None,
    raw: bytes | None = None,
    spelled: dict[str, str] | None = None,
    disclose: bool = False,
    **detail: Any,
) -> Problem:
    body = (
        raw if raw is not None else json.dumps({"error": {"message": message, **detail}}).encode()
    )
    return problem_of(
        status,
        headers or [],
        body,
        dialect=dialect,
        fields=FIELDS,
        spelled=spelled,
        disclosing=disclose,
        now=NOW,
    )


def said(problem: Problem, dialect: Dialect) -> str:
    """All the client can read."""
    content = json.dumps(problem.content(Exchange(dialect=dialect, request_id="r")))
    return content + repr(problem.headers)


GOOGLE = "type.googleapis.com/google.rpc."
