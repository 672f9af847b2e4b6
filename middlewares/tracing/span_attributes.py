"""Attributes of a span that the `Exchange` and the scope of a request give."""

import re

from middlewares.asgi import Scope
from middlewares.exchange import Exchange, Usage
from middlewares.pricing import NANO
from middlewares.secret_form import may_hold_key

from . import genai
from .request_attributes import Attributes

_PATH = re.compile(r"[A-Za-z0-9._~/:\-]{1,256}")
_KEY_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
"""Ids of keys. A caller without a key has its address as its id, which is no attribute."""
LONGEST = 256
"""Characters of the name of a model."""

_OPERATIONS = {
    "chat.completions": "chat",
    "messages": "chat",
    "responses": "chat",
    "responses.compact": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "messages.count_tokens": "count_tokens",
    "responses.input_tokens": "count_tokens",
}
"""Operation of an endpoint; those of images and sound are "generate_content". Counts of tokens have
a word of their own, which the conventions allow: they are no answers of a model."""
_SESSION_HEADERS = (b"x-session-id", b"session-id", b"session_id")
_SESSION = re.compile(rb"[A-Za-z0-9_.:\-]{1,128}")


def operation_of(exchange: Exchange) -> str:
    """`gen_ai.operation.name` of the attempts of a request."""
    if exchange.parent:  # `endpoint` is the purpose then
        row = exchange.row
        return _OPERATIONS.get(getattr(row, "name", ""), "generate_content")
    return _OPERATIONS.get(exchange.endpoint, "generate_content")


def http_attributes(scope: Scope, method: str, route: str, status: int) -> Attributes:
    """The conventions of HTTP servers. The path is left out where no route knows it, or where it
    has more than the letters of ids: a stranger's words do not belong into traces."""
    attributes: Attributes = {
        "http.request.method": method,
        "url.scheme": scope.get("scheme") or "http",
    }
    path = scope["path"]
    if route:
        attributes["http.route"] = route
        if _PATH.fullmatch(path) and not may_hold_key(path):
            attributes["url.path"] = path
    if status:
        attributes["http.response.status_code"] = status
    server = scope.get("server")
    if server:
        attributes["server.address"] = str(server[0])
        if server[1] is not None:
            attributes["server.port"] = int(server[1])
    return attributes


def request_facts(exchange: Exchange) -> Attributes:
    """What only this gateway knows of a request."""
    facts: Attributes = {}
    if exchange.request_id:
        facts["penstock.request_id"] = exchange.request_id
    principal = exchange.principal
    if principal is not None and _KEY_ID.fullmatch(principal.id):
        facts["penstock.key_id"] = principal.id
    resolved = exchange.resolved
    asked = getattr(resolved[0], "id", "") if resolved else ""
    if asked:  # a name that the catalog knows
        facts["penstock.model"] = str(asked)[:LONGEST]
    if exchange.served:
        facts["penstock.served"] = exchange.served[:LONGEST]
    if exchange.outcome:
        facts["penstock.outcome"] = exchange.outcome
    if exchange.fallback_depth:
        facts["penstock.fallback_depth"] = exchange.fallback_depth
    if exchange.queue_seconds:
        facts["penstock.queue_seconds"] = exchange.queue_seconds
    if exchange.cost:
        facts["penstock.credits"] = exchange.cost / NANO
    return facts


def usage_attributes(usage: Usage) -> Attributes:
    """Token counts; input includes what the cache gave and took, as the conventions have it."""
    attributes: Attributes = {
        genai.USAGE_INPUT: usage.input + usage.cache_read + usage.cache_write,
        genai.USAGE_OUTPUT: usage.output,
    }
    if usage.cache_read:
        attributes[genai.USAGE_CACHE_READ] = usage.cache_read
    if usage.cache_write:
        attributes[genai.USAGE_CACHE_WRITE] = usage.cache_write
        attributes[genai.USAGE_CACHE_CREATION] = usage.cache_write
    if usage.reasoning:
        attributes[genai.USAGE_REASONING] = usage.reasoning
    return attributes


def session_of(scope: Scope) -> str:
    """The session that a client names in a header; "" if none."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name in _SESSION_HEADERS and _SESSION.fullmatch(value):
            return value.decode("ascii")
    return ""
