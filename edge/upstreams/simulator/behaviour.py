"""The provider's endpoints: turn a request into a `SimulatedAnswer`. No I/O.

The end of the path selects the endpoint, so base URLs with and without `/v1` work. An answer is
derived from its request alone: equal requests get equal bytes. Only files and jobs have a state,
which is the account's.
"""

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from urllib.parse import parse_qsl

import msgspec

from edge.endpoints import ENDPOINTS, Codec, Endpoint
from edge.untyped_json import decode_object
from edge.upstreams import Header
from middlewares.exchange import Dialect

from . import chat, embeddings, media, messages, models, objects, responses, strictness
from .account import Account
from .answer import FaultFrames, SimulatedAnswer, plain, seconds_for, stream
from .chat import Frame
from .controls import Controls
from .form import FormReader, SimulatedForm, boundary_of
from .prompt import Prompt, PromptRejected
from .read_chat import read_chat
from .read_messages import read_messages
from .read_responses import read_responses
from .refusals import error_body, error_event
from .reply import SimulatedReply, reply_to
from .request import SimulatorRequest, controlled, directed, refused, vendor_headers
from .stats import Used

STEERING = (b"x-sim", b"anthropic-version", b"anthropic-beta", b"content-type")
"""The request headers that change an answer."""

_encode = msgspec.json.Encoder().encode


Handler = Callable[[SimulatorRequest], SimulatedAnswer]


def answer(
    method: bytes,
    target: bytes,
    headers: tuple[Header, ...],
    body: bytes | SimulatedForm,
    defaults: Controls,
    account: Account | None = None,
) -> SimulatedAnswer:
    """The answer to one request. Never raises: an invalid request gets an error answer.

    account: whose files and jobs the request may use; a new one unless given.
    """
    path, _, query = target.decode("latin-1").partition("?")
    path = path.rstrip("/")
    given = dict(headers)
    dialect: Dialect = "openai"
    if "/messages" in path or b"anthropic-version" in given:
        dialect = "anthropic"
    elif "/responses" in path:
        dialect = "responses"
    content = body if isinstance(body, bytes) else body.digest
    digest = blake2b(target + b"\0" + content, digest_size=24).hexdigest()
    request = SimulatorRequest(
        path=path,
        body=body if isinstance(body, bytes) else b"",
        dialect=dialect,
        identity=digest,
        controls=defaults,
        version=given.get(b"anthropic-version", b"").decode("latin-1"),
        betas=bool(given.get(b"anthropic-beta")),
        method=method.decode("latin-1"),
        query=dict(parse_qsl(query)) if query else {},
        headers=given,
        form=None if isinstance(body, bytes) else body,
        account=account or Account(),
    )
    try:
        if words := given.get(b"x-sim"):
            request = controlled(request, words.decode("latin-1"))
        return _handler(request)(_with_form(request))
    except RecursionError:
        refusal = error_body(dialect, 400, digest, "The request is nested too deeply.")
        return plain(refusal, Controls(), headers=vendor_headers(request), status=400)
    except PromptRejected as rejection:
        refusal = error_body(
            dialect, rejection.status, digest, rejection.message, rejection.param, rejection.code
        )
        return plain(refusal, Controls(), headers=vendor_headers(request), status=rejection.status)


def _handler(request: SimulatorRequest) -> Handler:
    """Raises PromptRejected for an unknown path, and for another method."""
    methods = _methods(request.path)
    if not methods:
        raise PromptRejected(404, f"Invalid URL ({request.method} {request.path})")
    if request.method not in methods:
        raise PromptRejected(405, f"Not allowed to {request.method} on {request.path}")
    return methods[request.method]


def _methods(path: str) -> Mapping[str, Handler]:
    for tail, handler in _HANDLERS.items():
        if path.endswith(tail):
            return {"POST": handler}
    if path.endswith("/models") or "/models/" in path:
        return {"GET": _models}
    return media.find_media(path) or {}


def _with_form(request: SimulatorRequest) -> SimulatorRequest:
    """The request with its multipart body read. Raises PromptRejected."""
    boundary = boundary_of(request.content_type) if request.body else None
    if boundary is None:
        return request
    reader = FormReader(boundary)
    reader.feed(request.body)
    form = reader.close()
    digest = blake2b(request.path.encode() + b"\0" + form.digest, digest_size=24).hexdigest()
    return msgspec.structs.replace(request, form=form, body=b"", identity=digest)


def is_cacheable(target: bytes, body: bytes) -> bool:
    """Whether equal requests get equal answers: those without files and jobs."""
    path = target.partition(b"?")[0].decode("latin-1").rstrip("/")
    return b'"file_id"' not in body and not media.is_stateful(path)


def _chat(request: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(request, read_chat(request.body))


def _messages(request: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(request, read_messages(request.body))


def _responses(request: SimulatorRequest) -> SimulatedAnswer:
    return _prompted(request, read_responses(request.body))


def _prompted(request: SimulatorRequest, prompt: Prompt) -> SimulatedAnswer:
    return msgspec.structs.replace(_answered(request, prompt), model=prompt.model)


def _answered(request: SimulatorRequest, prompt: Prompt) -> SimulatedAnswer:
    if prompt.model.startswith(models.SEEING):
        request = controlled(request, "see=1")
    request = directed(request, prompt.directive)
    if refusal := refused(request, prompt.tokens):
        return refusal
    controls, dialect = request.controls, request.dialect
    if controls.strict:
        strictness.check(dialect, request.body, version=request.version, betas=request.betas)
    seen = ""
    if b'"file_id"' in request.body:
        media.check_files(decode_object(request.body), request.account)
    if controls.see:
        seen = media.describe_media(decode_object(request.body), request.account)
    try:
        reply = reply_to(prompt, controls, request.identity, seen)
    except ValueError as error:
        raise PromptRejected(400, f"Invalid schema: {error}", "tools") from None
    headers = vendor_headers(request)
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
    request = directed(request, prompt.directive)
    if refusal := refused(request, prompt.tokens):
        return refusal
    plain_prompt = msgspec.structs.replace(prompt, tools=(), choice="none", schema=None)
    reply = reply_to(plain_prompt, request.controls, request.identity)
    body = responses.compacted(prompt, reply)
    seconds = seconds_for(reply.output_tokens, request.controls)
    used = reply.used(prompt.model)
    return plain(
        body, request.controls, headers=vendor_headers(request), seconds=seconds, used=used
    )


def _count_input(request: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_responses(request.body)
    request = directed(request, prompt.directive)
    body = responses.count(prompt)
    return refused(request, prompt.tokens) or plain(
        body, request.controls, headers=vendor_headers(request)
    )


def _count_tokens(request: SimulatorRequest) -> SimulatedAnswer:
    prompt = read_messages(request.body, counting=True)
    request = directed(request, prompt.directive)
    counted = _encode({"input_tokens": prompt.tokens})
    return refused(request) or plain(counted, request.controls, headers=vendor_headers(request))


def _embeddings(request: SimulatorRequest) -> SimulatedAnswer:
    wanted = embeddings.read(request.body)
    request = directed(request, wanted.directive)
    return refused(request, wanted.tokens) or plain(
        embeddings.body(wanted),
        request.controls,
        headers=vendor_headers(request),
        used=Used(wanted.model, wanted.tokens),
    )


def _object(request: SimulatorRequest) -> SimulatedAnswer:
    wanted = objects.read(request.body)
    request = directed(request, wanted.directive)
    return refused(request, wanted.tokens) or plain(
        objects.body(wanted, request.identity),
        request.controls,
        headers=vendor_headers(request),
        used=Used(wanted.model, wanted.tokens),
    )


def _models(request: SimulatorRequest) -> SimulatedAnswer:
    body = models.body(request.path, request.dialect)
    return refused(request) or plain(body, request.controls, headers=vendor_headers(request))


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
            if media.find_media(row.path):
                continue
            codec = row.codec
            handler = _COUNTS[row.dialect] if codec is None else _BY_CODEC[codec]
            table[row.upstream_path.decode()] = handler
    return table


_HANDLERS = handlers_by_tail(ENDPOINTS)
