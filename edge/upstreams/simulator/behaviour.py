"""The provider's endpoints: turn a request into a `SimulatedAnswer`. No I/O.

The end of the path selects the endpoint, so base URLs with and without `/v1` work. An answer is
derived from its request alone: equal requests get equal bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

import msgspec

from edge.endpoints import ENDPOINTS, Codec, Endpoint
from edge.upstreams import Header
from middlewares.exchange import Dialect

from . import chat, embeddings, messages, models, objects, responses, strictness
from .answer import FaultFrames, SimulatedAnswer, plain, seconds_for, stream
from .chat import Frame
from .controls import Controls
from .prompt import Prompt, PromptRejected
from .read_chat import read_chat
from .read_messages import read_messages
from .read_responses import read_responses
from .refusals import error_body, error_event, overflow_body
from .reply import SimulatedReply, reply_to
from .stats import Used

STEERING = (b"x-sim", b"anthropic-version", b"anthropic-beta")
"""The request headers that change an answer."""

_encode = msgspec.json.Encoder().encode


class SimulatorRequest(msgspec.Struct, frozen=True):
    """A request to the provider. identity: its digest in hexadecimal.

    version, betas: of the Anthropic API, from its headers.
    """

    path: str
    body: bytes
    dialect: Dialect
    identity: str
    controls: Controls
    version: str = ""
    betas: bool = False


Handler = Callable[[SimulatorRequest], SimulatedAnswer]


def answer(
    method: bytes,
    target: bytes,
    headers: tuple[Header, ...],
    body: bytes,
    defaults: Controls,
) -> SimulatedAnswer:
    """The answer to one request. Never raises: an invalid request gets an error answer."""
    path = target.partition(b"?")[0].decode("latin-1").rstrip("/")
    given = dict(headers)
    dialect: Dialect = "openai"
    if "/messages" in path or b"anthropic-version" in given:
        dialect = "anthropic"
    elif "/responses" in path:
        dialect = "responses"
    digest = blake2b(target + b"\0" + body, digest_size=24).hexdigest()
    version = given.get(b"anthropic-version", b"").decode("latin-1")
    betas = bool(given.get(b"anthropic-beta"))
    request = SimulatorRequest(path, body, dialect, digest, defaults, version, betas)
    try:
        if words := given.get(b"x-sim"):
            request = _controlled(request, words.decode("latin-1"))
        allowed, handler = _route(path)
        if handler is None:
            raise PromptRejected(404, f"Invalid URL ({method.decode('latin-1')} {path})")
        if method != allowed:
            raise PromptRejected(405, f"Not allowed to {method.decode('latin-1')} on {path}")
        return handler(request)
    except RecursionError:
        refusal = error_body(dialect, 400, digest, "The request is nested too deeply.")
        return plain(refusal, Controls(), headers=_headers(request), status=400)
    except PromptRejected as rejection:
        refusal = error_body(
            dialect, rejection.status, digest, rejection.message, rejection.param, rejection.code
        )
        return plain(refusal, Controls(), headers=_headers(request), status=rejection.status)


def _route(path: str) -> tuple[bytes, Handler | None]:
    for tail, handler in _HANDLERS.items():
        if path.endswith(tail):
            return b"POST", handler
    if path.endswith("/models") or "/models/" in path:
        return b"GET", _models
    return b"", None


def _controlled(request: SimulatorRequest, words: str) -> SimulatorRequest:
    try:
        return msgspec.structs.replace(request, controls=request.controls.with_words(words))
    except ValueError as error:
        raise PromptRejected(400, str(error)) from None


def _directed(request: SimulatorRequest, words: str) -> SimulatorRequest:
    """Apply the directive of the prompt, and drop the faults outside of their `share`."""
    request = _controlled(request, words)
    if int(request.identity[:8], 16) % 100 < request.controls.share:
        return request
    spared = msgspec.structs.replace(request.controls, fault={})
    return msgspec.structs.replace(request, controls=spared)


def _refused(request: SimulatorRequest, tokens: int = 0) -> SimulatedAnswer | None:
    """The error answer selected by the faults, or None."""
    controls = request.controls
    slow = Controls(
        fault={name: n for name, n in controls.fault.items() if name.startswith("slow-")}
    )
    headers = _headers(request)
    if controls.retry_after is not None:
        headers += ((b"retry-after", b"%d" % controls.retry_after),)
    if status := int(controls.fault.get("status", 0)):
        body = error_body(request.dialect, status, request.identity)
        return plain(body, slow, headers=headers, status=status)
    if "overflow" in controls.fault:
        body = overflow_body(request.dialect, request.identity, tokens)
        return plain(body, slow, headers=headers, status=400)
    return None


def _chat(request: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(request, read_chat(request.body))


def _messages(request: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(request, read_messages(request.body))


def _responses(request: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(request, read_responses(request.body))


def _prompted(request: SimulatorRequest, prompt: Prompt) -> SimulatedAnswer:
    return msgspec.structs.replace(_answered(request, prompt), model=prompt.model)


def _answered(request: SimulatorRequest, prompt: Prompt) -> SimulatedAnswer:
    request = _directed(request, prompt.directive)
    if refused := _refused(request, prompt.tokens):
        return refused
    controls, dialect = request.controls, request.dialect
    if controls.strict:
        strictness.check(dialect, request.body, version=request.version, betas=request.betas)
    try:
        reply = reply_to(prompt, controls, request.identity)
    except ValueError as error:
        raise PromptRejected(400, f"Invalid schema: {error}", "tools") from None
    headers = _headers(request)
    used = reply.used(prompt.model)
    if not prompt.stream:
        if "error-event" in controls.fault:
            status = 529 if dialect == "anthropic" else 503
            body = error_body(dialect, status, request.identity)
            return plain(body, controls, headers=headers, status=status)
        seconds = seconds_for(reply.output_tokens, controls)
        body = _body(prompt, reply)
        return plain(body, controls, headers=headers, seconds=seconds, used=used)
    frames, fault_frames = _events(request, prompt, reply)
    return stream(frames, controls, fault_frames, headers=headers, used=used)


def _body(prompt: Prompt, reply: SimulatedReply) -> bytes:
    if prompt.dialect == "responses":
        return responses.body(prompt, reply)
    return messages.body(reply) if prompt.dialect == "anthropic" else chat.body(reply)


def _events(
    request: SimulatorRequest, prompt: Prompt, reply: SimulatedReply
) -> tuple[Iterable[Frame], FaultFrames]:
    fault = request.controls.fault
    pings = int(fault.get("pings", 0))
    if prompt.dialect == "responses":
        events = responses.Events(prompt, reply, pings)
        failing = events.failing(int(fault["error-event"])) if "error-event" in fault else b""
        return events.frames, FaultFrames(responses.GARBAGE, failing, events.waiting)
    error = error_event(prompt.dialect, request.identity)
    if prompt.dialect == "anthropic":
        return messages.frames(reply), FaultFrames(messages.GARBAGE, error, [messages.PING] * pings)
    waiting = chat.waiting(prompt, reply, pings)
    return chat.frames(prompt, reply), FaultFrames(chat.GARBAGE, error, waiting)


def _compact(request: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_responses(request.body)
    request = _directed(request, prompt.directive)
    if refused := _refused(request, prompt.tokens):
        return refused
    plain_prompt = msgspec.structs.replace(prompt, tools=(), choice="none", schema=None)
    reply = reply_to(plain_prompt, request.controls, request.identity)
    body = responses.compacted(prompt, reply)
    seconds = seconds_for(reply.output_tokens, request.controls)
    used = reply.used(prompt.model)
    return plain(body, request.controls, headers=_headers(request), seconds=seconds, used=used)


def _count_input(request: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_responses(request.body)
    request = _directed(request, prompt.directive)
    body = responses.count(prompt)
    return _refused(request, prompt.tokens) or plain(
        body, request.controls, headers=_headers(request)
    )


def _count_tokens(request: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_messages(request.body, counting=True)
    request = _directed(request, prompt.directive)
    counted = _encode({"input_tokens": prompt.tokens})
    return _refused(request) or plain(counted, request.controls, headers=_headers(request))


def _embeddings(request: SimulatorRequest) -> SimulatedAnswer:
    wanted = embeddings.read(request.body)
    request = _directed(request, wanted.directive)
    return _refused(request, wanted.tokens) or plain(
        embeddings.body(wanted),
        request.controls,
        headers=_headers(request),
        used=Used(wanted.model, wanted.tokens),
    )


def _object(request: SimulatorRequest) -> SimulatedAnswer:
    wanted = objects.read(request.body)
    request = _directed(request, wanted.directive)
    return _refused(request, wanted.tokens) or plain(
        objects.body(wanted, request.identity),
        request.controls,
        headers=_headers(request),
        used=Used(wanted.model, wanted.tokens),
    )


def _models(request: SimulatorRequest) -> SimulatedAnswer:
    body = models.body(request.path, request.dialect)
    return _refused(request) or plain(body, request.controls, headers=_headers(request))


_BY_CODEC: Mapping[Codec, Handler] = {
    "chat": _chat,
    "messages": _messages,
    "responses": _responses,
    "compaction": _compact,
    "embeddings": _embeddings,
    "object": _object,
}
_COUNTS: Mapping[Dialect, Handler] = {"anthropic": _count_tokens, "responses": _count_input}


def handlers_by_tail(endpoints: Iterable[Endpoint]) -> dict[str, Handler]:
    """Handlers by the end of the path. Raises LookupError for an endpoint without a handler."""
    table = {}
    for row in endpoints:
        if row.upstream_path and row.dialect is not None:
            codec = row.codec
            handler = _COUNTS[row.dialect] if codec is None else _BY_CODEC[codec]
            table[row.upstream_path.decode()] = handler
    return table


_HANDLERS = handlers_by_tail(ENDPOINTS)


def _headers(request: SimulatorRequest) -> tuple[Header, ...]:
    """The headers a vendor adds; a gateway must let none of them through."""
    request_id = f"req_{request.identity[:24]}".encode()
    if request.dialect == "anthropic":
        return (
            (b"request-id", request_id),
            (b"anthropic-organization-id", b"org-simsecret77"),
            (b"anthropic-ratelimit-requests-limit", b"4000"),
            (b"anthropic-ratelimit-requests-remaining", b"3999"),
            (b"anthropic-ratelimit-requests-reset", b"2026-01-01T00:00:01Z"),
            (b"server", b"SimProvider"),
        )
    return (
        (b"x-request-id", request_id),
        (b"openai-organization", b"org-simsecret77"),
        (b"openai-processing-ms", b"7"),
        (b"openai-version", b"2020-10-01"),
        (b"x-ratelimit-limit-requests", b"10000"),
        (b"x-ratelimit-remaining-requests", b"9999"),
        (b"x-ratelimit-reset-requests", b"6ms"),
        (b"server", b"SimProvider"),
    )
