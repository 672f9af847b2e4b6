"""From a request to an `SimulatedAnswer`: the provider's endpoints, without I/O.

The tail of the path decides, so a base URL with or without `/v1` both work. Everything is derived
from the request: the same request is answered with the same bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b

import msgspec

from edge.endpoints import ENDPOINTS, Codec, Endpoint
from edge.upstreams import Header
from middlewares.exchange import Dialect as DialectName

from . import chat, embeddings, messages, models, objects, responses, strictness
from .answer import Oddities, SimulatedAnswer, plain, seconds_for, stream
from .chat import Frame
from .controls import Controls
from .prompt import Dialect, Prompt, PromptRejected
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
    """A request as the endpoints see it. `identity`: a digest of it, in hexadecimal.

    version, betas: what its headers say of the Anthropic API.
    """

    path: str
    body: bytes
    dialect: Dialect
    identity: str
    controls: Controls
    version: str = ""
    betas: bool = False


Handle = Callable[[SimulatorRequest], SimulatedAnswer]


def answer(
    method: bytes,
    target: bytes,
    headers: tuple[Header, ...],
    body: bytes,
    defaults: Controls,
) -> SimulatedAnswer:
    """The answer to one request. Never raises: what is wrong with a request is answered."""
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
    asked = SimulatorRequest(path, body, dialect, digest, defaults, version, betas)
    try:
        if words := given.get(b"x-sim"):
            asked = _controlled(asked, words.decode("latin-1"))
        allowed, handle = _route(path)
        if handle is None:
            raise PromptRejected(404, f"Invalid URL ({method.decode('latin-1')} {path})")
        if method != allowed:
            raise PromptRejected(405, f"Not allowed to {method.decode('latin-1')} on {path}")
        return handle(asked)
    except RecursionError:
        refusal = error_body(dialect, 400, digest, "The request is nested too deeply.")
        return plain(refusal, Controls(), headers=_headers(asked), status=400)
    except PromptRejected as no:
        refusal = error_body(dialect, no.status, digest, no.message, no.param, no.code)
        return plain(refusal, Controls(), headers=_headers(asked), status=no.status)


def _route(path: str) -> tuple[bytes, Handle | None]:
    for tail, handle in _POSTS.items():
        if path.endswith(tail):
            return b"POST", handle
    if path.endswith("/models") or "/models/" in path:
        return b"GET", _models
    return b"", None


def _controlled(asked: SimulatorRequest, words: str) -> SimulatorRequest:
    try:
        return msgspec.structs.replace(asked, controls=asked.controls.with_words(words))
    except ValueError as error:
        raise PromptRejected(400, str(error)) from None


def _directed(asked: SimulatorRequest, words: str) -> SimulatorRequest:
    """By the directive of the prompt, which is the last word; less faults that others have."""
    asked = _controlled(asked, words)
    if int(asked.identity[:8], 16) % 100 < asked.controls.share:
        return asked
    spared = msgspec.structs.replace(asked.controls, fault={})
    return msgspec.structs.replace(asked, controls=spared)


def _refused(asked: SimulatorRequest, tokens: int = 0) -> SimulatedAnswer | None:
    """The error answer that the faults ask for, if they do."""
    controls = asked.controls
    slow = Controls(
        fault={name: n for name, n in controls.fault.items() if name.startswith("slow-")}
    )
    headers = _headers(asked)
    if controls.retry_after is not None:
        headers += ((b"retry-after", b"%d" % controls.retry_after),)
    if status := int(controls.fault.get("status", 0)):
        body = error_body(asked.dialect, status, asked.identity)
        return plain(body, slow, headers=headers, status=status)
    if "overflow" in controls.fault:
        body = overflow_body(asked.dialect, asked.identity, tokens)
        return plain(body, slow, headers=headers, status=400)
    return None


def _chat(asked: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(asked, read_chat(asked.body))


def _messages(asked: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(asked, read_messages(asked.body))


def _responses(asked: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(asked, read_responses(asked.body))


def _prompted(asked: SimulatorRequest, prompt: Prompt) -> SimulatedAnswer:
    return msgspec.structs.replace(_answered(asked, prompt), model=prompt.model)


def _answered(asked: SimulatorRequest, prompt: Prompt) -> SimulatedAnswer:
    asked = _directed(asked, prompt.directive)
    if no := _refused(asked, prompt.tokens):
        return no
    controls, dialect = asked.controls, asked.dialect
    if controls.strict:
        strictness.check(dialect, asked.body, version=asked.version, betas=asked.betas)
    try:
        reply = reply_to(prompt, controls, asked.identity)
    except ValueError as unfit:
        raise PromptRejected(400, f"Invalid schema: {unfit}", "tools") from None
    headers = _headers(asked)
    used = reply.used(prompt.model)
    if not prompt.stream:
        if "error-event" in controls.fault:
            status = 529 if dialect == "anthropic" else 503
            body = error_body(dialect, status, asked.identity)
            return plain(body, controls, headers=headers, status=status)
        seconds = seconds_for(reply.output_tokens, controls)
        body = _body(prompt, reply)
        return plain(body, controls, headers=headers, seconds=seconds, used=used)
    frames, oddities = _events(asked, prompt, reply)
    return stream(frames, controls, oddities, headers=headers, used=used)


def _body(prompt: Prompt, reply: SimulatedReply) -> bytes:
    if prompt.dialect == "responses":
        return responses.body(prompt, reply)
    return messages.body(reply) if prompt.dialect == "anthropic" else chat.body(reply)


def _events(
    asked: SimulatorRequest, prompt: Prompt, reply: SimulatedReply
) -> tuple[Iterable[Frame], Oddities]:
    fault = asked.controls.fault
    pings = int(fault.get("pings", 0))
    if prompt.dialect == "responses":
        events = responses.Events(prompt, reply, pings)
        failing = events.failing(int(fault["error-event"])) if "error-event" in fault else b""
        return events.frames, Oddities(responses.GARBAGE, failing, events.waiting)
    error = error_event(prompt.dialect, asked.identity)
    if prompt.dialect == "anthropic":
        return messages.frames(reply), Oddities(messages.GARBAGE, error, [messages.PING] * pings)
    waiting = chat.waiting(prompt, reply, pings)
    return chat.frames(prompt, reply), Oddities(chat.GARBAGE, error, waiting)


def _compact(asked: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_responses(asked.body)
    asked = _directed(asked, prompt.directive)
    if no := _refused(asked, prompt.tokens):
        return no
    told = msgspec.structs.replace(prompt, tools=(), choice="none", schema=None)
    reply = reply_to(told, asked.controls, asked.identity)
    body = responses.compacted(prompt, reply)
    seconds = seconds_for(reply.output_tokens, asked.controls)
    used = reply.used(prompt.model)
    return plain(body, asked.controls, headers=_headers(asked), seconds=seconds, used=used)


def _count_input(asked: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_responses(asked.body)
    asked = _directed(asked, prompt.directive)
    body = responses.count(prompt)
    return _refused(asked, prompt.tokens) or plain(body, asked.controls, headers=_headers(asked))


def _count_tokens(asked: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_messages(asked.body, counting=True)
    asked = _directed(asked, prompt.directive)
    counted = _encode({"input_tokens": prompt.tokens})
    return _refused(asked) or plain(counted, asked.controls, headers=_headers(asked))


def _embeddings(asked: SimulatorRequest) -> SimulatedAnswer:
    wanted = embeddings.read(asked.body)
    asked = _directed(asked, wanted.directive)
    return _refused(asked, wanted.tokens) or plain(
        embeddings.body(wanted),
        asked.controls,
        headers=_headers(asked),
        used=Used(wanted.model, wanted.tokens),
    )


def _object(asked: SimulatorRequest) -> SimulatedAnswer:
    wanted = objects.read(asked.body)
    asked = _directed(asked, wanted.directive)
    return _refused(asked, wanted.tokens) or plain(
        objects.body(wanted, asked.identity),
        asked.controls,
        headers=_headers(asked),
        used=Used(wanted.model, wanted.tokens),
    )


def _models(asked: SimulatorRequest) -> SimulatedAnswer:
    body = models.body(asked.path, asked.dialect)
    return _refused(asked) or plain(body, asked.controls, headers=_headers(asked))


_BY_CODEC: Mapping[Codec, Handle] = {
    "chat": _chat,
    "messages": _messages,
    "responses": _responses,
    "compaction": _compact,
    "embeddings": _embeddings,
    "object": _object,
}
_COUNTS: Mapping[DialectName, Handle] = {"anthropic": _count_tokens, "responses": _count_input}


def posts(endpoints: Iterable[Endpoint]) -> dict[str, Handle]:
    """What answers by the end of a path. Raises LookupError for an endpoint that nothing does."""
    table = {}
    for row in endpoints:
        if row.upstream_path and row.dialect is not None:
            codec = row.codec
            handle = _COUNTS[row.dialect] if codec is None else _BY_CODEC[codec]
            table[row.upstream_path.decode()] = handle
    return table


_POSTS = posts(ENDPOINTS)


def _headers(asked: SimulatorRequest) -> tuple[Header, ...]:
    """The headers a vendor adds; a gateway must let none of them through."""
    request_id = f"req_{asked.identity[:24]}".encode()
    if asked.dialect == "anthropic":
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
