"""A request to the simulator in one form for all dialects."""

import re
from base64 import b64encode
from hashlib import blake2b
from typing import Any

import msgspec

from middlewares.exchange import Dialect


class PromptRejected(Exception):
    """An invalid request, answered with status, message, path of the field and code."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


class PromptTool(msgspec.Struct, frozen=True):
    """A tool the model may call, and the JSON Schema of its arguments; `custom`: it takes text."""

    name: str
    schema: Any
    custom: bool = False
    namespace: str | None = None


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an answer.

    text: of the last user message that has any, without its directives.
    directive: the words of the directives that apply to this request.
    results: texts of the tool results that the request ends with.
    since: texts of all tool results since a tool script. over: whether the script has ended.
    choice: `auto`, `none`, `any`, or `only`, when `tools` holds just the one to be called.
    limit: most tokens of the answer. thinks, shows: whether to think, and to show it.
    schema: of a structured answer. tokens: of the prompt, of which `cached` and `written`.
    asked: the decoded body, where the answer repeats it.
    """

    dialect: Dialect
    model: str
    stream: bool
    include_usage: bool = True
    text: str
    directive: str
    results: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    over: bool = False
    tools: tuple[PromptTool, ...] = ()
    choice: str = "auto"
    parallel: bool = True
    limit: int | None = None
    stops: tuple[str, ...] = ()
    thinks: bool = False
    shows: bool = True
    schema: Any = None
    tokens: int = 0
    cached: int = 0
    written: int = 0
    asked: dict[str, Any] = {}


_CACHEABLE = 1024
_CACHE_STEP = 128
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_PATH = re.compile(r" - at `\$\.?(.*)`")


def rejected(error: Exception) -> PromptRejected:
    """A 400 for a body that is not JSON or has a wrong type."""
    path = _PATH.search(str(error))
    return PromptRejected(400, _PATH.sub("", str(error)), path[1] or None if path else None)


def automatic_cache(tokens: int, before: int) -> int:
    """Tokens that OpenAI reads from its cache, if `before` were sent earlier."""
    return before // _CACHE_STEP * _CACHE_STEP if tokens >= _CACHEABLE else 0


def sign(thinking: str) -> str:
    """The signature of a thinking block, which must be sent back unchanged."""
    return b64encode(b"sim\x01" + blake2b(thinking.encode(), digest_size=62).digest()).decode()


def schema_of(wanted: dict[str, Any] | None) -> Any:
    """The JSON Schema of a structured answer, None for text."""
    if not wanted or wanted.get("type") not in ("json_schema", "json_object"):
        return None
    if isinstance(wanted.get("schema"), dict):
        return wanted["schema"]
    inner = wanted.get("json_schema")
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
        return inner["schema"]
    return {"type": "object", "properties": {"answer": {"type": "string"}}}
