"""Read the client's output lines: the events of one message, or the reason of a failure. No I/O.

The client forwards the events of the Messages API. When a stream breaks it invents the ends of the
blocks and of the message, but no stop reason, so a message is complete only with a stop reason.
"""

import re
from email.utils import formatdate
from typing import Any

import msgspec
from msgspec import Raw, Struct

from edge.untyped_json import decode_any, number
from edge.upstreams import ConnectFailed, Disconnected, Header, Malformed, SignedOut

from .input import callers_tool_name

MIN_VERSION = (2, 1, 329)
"""The first version tested to leave composed texts unchanged."""

_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_OVERFLOW = re.compile(r"~(\d{1,15}) tokens \(limit (\d{1,15})\)", re.ASCII)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_SIGNED_OUT = ("authentication_failed", "oauth_org_not_allowed", "verification_required")
_REASON_CHARS = 500
_MAX_TIME = 1 << 33
"""Unix seconds, in the year 2242: a greater number is not a time."""


class VendorRefusal(Exception):
    """An error response of the model's vendor: any status but 200."""

    def __init__(self, status: int, body: bytes, headers: list[Header]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body
        self.headers = headers


def refusal(status: int, message: str, *, type_: str = "", retry_at: float = 0.0) -> VendorRefusal:
    """An error in Anthropic's format. retry_at: Unix seconds, 0 if unknown."""
    kind = type_ or _ERROR_TYPES.get(status, "api_error")
    body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})
    headers = [(b"content-type", b"application/json")]
    if retry_at:
        headers.append((b"retry-after", formatdate(retry_at, usegmt=True).encode()))
    return VendorRefusal(status, body, headers)


class _Kind(Struct):
    type: str = ""
    subtype: Any = None


class _Event(Struct):
    event: Raw


class _Type(Struct):
    type: str


class _Delta(Struct):
    delta: dict[str, Any] = {}


class _Started(Struct):
    content_block: dict[str, Any] = {}


class _Content(Struct):
    content: Any = None


class _Assistant(Struct):
    error: Any = None
    api_error: Any = None
    api_error_status: int | None = None
    api_error_type: Any = None
    message: _Content = msgspec.field(default_factory=_Content)


class _Result(Struct):
    is_error: bool = False
    num_turns: int = 0
    api_error_status: int | None = None
    result: Any = None


class _Acknowledged(Struct):
    command_uuid: str = ""
    state: str = ""


class _Answer(Struct):
    subtype: str = ""
    request_id: str = ""
    response: Any = None
    error: Any = None


class _ControlResponse(Struct):
    response: _Answer


class _ControlRequest(Struct):
    request: Any = None


class _Init(Struct):
    tools: list[str] = []


class _RateLimit(Struct):
    rate_limit_info: Any = None


def _decoder(type_: Any) -> Any:
    return msgspec.json.Decoder(type_, float_hook=number).decode


_kind = _decoder(_Kind)
_event = _decoder(_Event)
_type = _decoder(_Type)
_delta = _decoder(_Delta)
_started = _decoder(_Started)
_assistant = _decoder(_Assistant)
_result = _decoder(_Result)
_acknowledged = _decoder(_Acknowledged)
_control = _decoder(_ControlResponse)
_control_request = _decoder(_ControlRequest)
_init = _decoder(_Init)
_rate_limit = _decoder(_RateLimit)


class OutputReader:
    """Reads the client's output line by line.

    tools: names that the client must list before it calls the model.
    answered: ids of acknowledged controls and assistant turns. taken: number of acknowledged user
        messages. complete: whether the message has ended.
    """

    __slots__ = (
        "_begun",
        "_retry_at",
        "_stopped",
        "_tools",
        "answered",
        "complete",
        "taken",
    )

    def __init__(self, tools: frozenset[str] = frozenset()) -> None:
        self._tools = tools
        self._begun = False
        self._retry_at = 0.0
        self._stopped = False
        self.answered: set[str] = set()
        self.taken = 0
        self.complete = False

    def read_line(self, line: bytes) -> Raw | None:
        """The event of the Messages API in `line`, or None.

        Raises VendorRefusal, and UpstreamFailure for a failure of the client.
        """
        if not line or self.complete:
            return None
        try:
            return self._read(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            said = line[:200].decode("utf-8", "replace")
            raise Malformed(f"it wrote an unreadable line: {said!r} ({error})", sent=True) from None

    def _read(self, line: bytes) -> Raw | None:
        kind = _kind(line)
        match kind.type:
            case "stream_event":
                return self._on_event(_event(line).event)
            case "assistant":
                self._on_error(_assistant(line))
            case "result":
                self._on_result(_result(line))
            case "control_response":
                self._on_control_response(_control(line).response)
            case "control_request":
                self._control_requested(_control_request(line).request)
            case "command_lifecycle":
                acknowledged = _acknowledged(line)
                if acknowledged.state == "completed":
                    self.answered.add(acknowledged.command_uuid)
            case "system" if kind.subtype == "init":
                self._check_tools(frozenset(_init(line).tools))
            case "rate_limit_event":
                self._on_rate_limit(_rate_limit(line).rate_limit_info)
        return None

    def _on_rate_limit(self, window: Any) -> None:
        """Remember when an exhausted rate limit window of the account resets."""
        if isinstance(window, dict) and window.get("status") == "rejected":
            until = window.get("resetsAt")
            if isinstance(until, int | float) and 0 < until < _MAX_TIME:
                self._retry_at = until

    def _on_event(self, event: Raw) -> Raw | None:
        kind = _type(event).type
        if kind == "message_start":
            if self._begun:
                raise Disconnected("it began a second message", sent=True)
            self._begun = True
        elif kind == "message_delta":
            self._stopped = _delta(event).delta.get("stop_reason") is not None
        elif kind == "message_stop":
            if not self._stopped:
                return None  # invented by the client; the error follows
            self.complete = True
        elif kind == "content_block_start":
            return _with_callers_tool_name(event)
        return event

    def _on_error(self, said: _Assistant) -> None:
        if said.error is None:
            return
        text = _text(said.message.content)
        reason = f"{said.error}: {text[:_REASON_CHARS]}"
        if said.error in _SIGNED_OUT:
            raise SignedOut(f"it is not signed in; {reason}")
        if said.api_error_status is None:
            if said.api_error == "connection_failed" and not self._begun:
                raise ConnectFailed(f"it cannot reach its own upstream; {reason}", sent=True)
            if said.error == "invalid_request":
                raise refusal(400, _as_api_overflow(text))
            raise Disconnected(reason, sent=True)
        raise refusal(
            said.api_error_status,
            _as_api_overflow(text),
            type_=str(said.api_error_type or ""),
            retry_at=self._retry_at,
        )

    def _on_result(self, result: _Result) -> None:
        if not result.is_error and result.num_turns == 0:
            self.taken += 1
            return
        text = str(result.result or "")[:_REASON_CHARS]
        if result.api_error_status is not None:
            raise refusal(result.api_error_status, _as_api_overflow(text), retry_at=self._retry_at)
        raise Disconnected(f"it ended the turn without a complete message; {text}", sent=True)

    def _on_control_response(self, answer: _Answer) -> None:
        if answer.subtype != "success":
            raise Malformed(f"it refused {answer.request_id}: {str(answer.error)[:_REASON_CHARS]}")
        self.answered.add(answer.request_id)
        if isinstance(answer.response, dict):
            version = answer.response.get("claude_code_version")
            if version is not None or "commands" in answer.response:
                _check_version(str(version))

    def _control_requested(self, wish: Any) -> None:
        """Refuse a request for the tools, which it has already received.

        It asks again when it cannot read a schema, and would then wait forever.
        """
        message = wish.get("message") if isinstance(wish, dict) else None
        if isinstance(message, dict) and message.get("method") in ("initialize", "tools/list"):
            raise refusal(400, "tools: the schema of a tool cannot be read by this model's client")

    def _check_tools(self, tools: frozenset[str]) -> None:
        if missing := sorted(self._tools - tools):
            raise Malformed(
                f"it did not take the tools {', '.join(missing)[:_REASON_CHARS]}", sent=True
            )


def _check_version(version: str) -> None:
    found = _VERSION.match(version)
    if found is None or tuple(map(int, found.groups())) < MIN_VERSION:
        oldest = ".".join(map(str, MIN_VERSION))
        raise ConnectFailed(f"needs version {oldest} or newer, found {version[:50]}")


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(one.get("text", "")) for one in content if isinstance(one, dict))
    return str(content or "")


def _as_api_overflow(text: str) -> str:
    """A context overflow in the API's wording, which clients recognize; other text unchanged."""
    if found := _OVERFLOW.search(text):
        return f"prompt is too long: {found[1]} tokens > {found[2]} maximum"
    return text


def _with_callers_tool_name(event: Raw) -> Raw:
    block = _started(event).content_block
    name = block.get("name")
    if (
        block.get("type") != "tool_use"
        or not isinstance(name, str)
        or callers_tool_name(name) == name
    ):
        return event
    whole = decode_any(event)
    whole["content_block"]["name"] = callers_tool_name(name)
    return Raw(msgspec.json.encode(whole))


def encode_event(event: Raw) -> bytes:
    """`event` as a server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (_type(event).type.encode(), bytes(event))
