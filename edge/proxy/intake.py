"""Request intake: read the body once, decode the members that the gateway uses, find the model."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from time import perf_counter

import msgspec

from edge.billing.token_estimate import Estimator
from edge.endpoints import ENDPOINTS, Codec, Endpoint, FileSize, PathRules
from edge.media.audio_length import AudioLength, AudioMeter
from edge.media.forms import Form
from edge.media.parts import has_media
from edge.proxy.attachments.named_files import check_with_files
from edge.requests.body_limits import FEW, SMALL, check_few, is_large
from edge.requests.default_max_tokens import add_max_tokens
from edge.requests.dialect_signs import row_of
from edge.requests.json_body import members_of, read_json_headers
from edge.requests.member_names import check_names
from edge.requests.tags import tags_of
from edge.routing.catalog import Catalog, Model
from edge.routing.unknown_model import not_allowed, not_found
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams.provider import check_forwarded_headers
from middlewares.asgi import BODILESS, ASGIApp, Receive, Scope, Send, subscriber
from middlewares.body import read_body, refuse
from middlewares.exchange import Dialect, Exchange, exchange_of
from middlewares.problem import Problem, expected
from middlewares.uploads import Upload, Uploads

from .form_intake import FileSource, FormIntake
from .long_body import LongBodies

_decode_str = msgspec.json.Decoder(str).decode
_decode_strs = msgspec.json.Decoder(list[str] | None).decode
_decode_bool = msgspec.json.Decoder(bool | None).decode

MAX_NAME = 256
MAX_MODELS = 16
_EMPTY_VALUES = (b"null", b"[]", b'""')
_MAX_EMPTY_LENGTH = max(map(len, _EMPTY_VALUES))


READABLE_BODIES = frozenset(("json", "multipart", "streamed", "none"))
"""Kinds of bodies that this layer reads, or that need no reader. Add a new kind here."""


def check_bodies(endpoints: Sequence[Endpoint]) -> None:
    """Raise NotImplementedError for an endpoint whose body would not be read."""
    for row in endpoints:
        if row.body not in READABLE_BODIES:
            raise NotImplementedError(f"endpoint {row.name}: no reader for {row.body} bodies")


check_bodies(ENDPOINTS)


class IntakeMiddleware:
    """Read the body within its bounds and find the model. A streamed body is left to its handler.

    limit: bytes of a JSON body. file_sizes: bytes of each file of a form, by kind. sources: make
    the form of a JSON body, by codec. audio_length: measures audio that is priced by time. idle,
    longest: seconds, see `read_body`. uploads: counts bytes held.
    endpoints: those whose requests pass this layer.

    Reads:   row, dialect, client, principal
    Writes:  row, dialect, endpoint, tags, body_read, fields, form, audio_ms, whole, upload, model,
             models, resolved, stream, large, size, estimate, media, turn_marks, upload_seconds
    Rejects: endpoint_not_allowed, invalid_request, model_not_allowed, model_not_found,
             rate_limited, request_headers_too_large, request_timeout, request_too_large,
             unsupported_media_type, upstream_unavailable
    Order:   inside auth, so that no stranger's body is read, and inside the limits that can be
             decided without it; outside all that acts on the model
    Cost:    one receive for most bodies; two msgspec decodes that leave values as they are, of the
             whole and of turns and tools; of a longer body only what its caller's last one did not
             have; a large body is read in a thread beside the loop
    """

    __slots__ = (
        *("_audio_length", "_catalog", "_estimator", "_forms", "_idle", "_limit", "_long"),
        *("_longest", "_uploads"),
        "app",
    )

    def __init__(
        self,
        app: ASGIApp,
        *,
        catalog: Catalog,
        estimator: Estimator | None = None,
        limit: int,
        idle: float,
        longest: float = inf,
        uploads: Uploads | None = None,
        endpoints: Sequence[Endpoint] = ENDPOINTS,
        file_sizes: Mapping[FileSize, int] = {},
        sources: Mapping[Codec, FileSource] = {},
        audio_length: AudioLength | None = None,
    ) -> None:
        check_bodies(endpoints)
        self.app = app
        self._catalog = catalog
        self._estimator = estimator or Estimator()
        self._long = LongBodies()
        self._limit = limit
        self._idle = idle
        self._longest = longest
        self._uploads = uploads or Uploads(total=limit << 4, each=limit << 4)
        self._audio_length = audio_length or AudioMeter()
        self._forms = FormIntake(
            limit=limit, idle=idle, longest=longest, file_sizes=file_sizes, sources=sources
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        row: Endpoint = exchange.row
        if row.body != "json":
            if row.body == "multipart" and scope["method"] not in BODILESS:
                return await self._with_form(scope, receive, send, exchange)
            return await self.app(scope, receive, send)
        principal = exchange.principal
        who = subscriber(exchange.client) if principal is None else principal.id
        upload = Upload(self._uploads, who)
        exchange.body_read = True
        try:
            try:
                tags = read_json_headers(scope)
                if tags:
                    exchange.tags = tags
                if exchange.dialect == "anthropic":
                    check_forwarded_headers(scope["headers"])
                began = perf_counter()
                body = await read_body(
                    scope,
                    receive,
                    limit=self._limit,
                    idle=self._idle,
                    longest=self._longest,
                    upload=upload,
                )
                exchange.upload_seconds = perf_counter() - began
            except Problem as problem:
                upload.close()
                return await refuse(problem, scope, receive, send)
            exchange.large = is_large(body)
            if len(body) >= SMALL:
                await self._read_long(scope, exchange, body)
            else:
                self._read(scope, exchange, body)
            exchange.upload = upload
            del body  # the exchange holds its members until they are sent
            await self.app(scope, receive, send)
        finally:
            if upload.size:
                upload.close()

    async def _with_form(
        self, scope: Scope, receive: Receive, send: Send, exchange: Exchange
    ) -> None:
        """Read the body of a multipart endpoint. Its files are deleted when the app returns."""
        principal = exchange.principal
        who = subscriber(exchange.client) if principal is None else principal.id
        upload = Upload(self._uploads, who)
        exchange.body_read = True
        form: Form | None = None
        try:
            try:
                exchange.tags = tags_of(scope)
                began = perf_counter()
                form, fields = await self._forms.read(scope, receive, exchange, upload)
                exchange.upload_seconds = perf_counter() - began
            except Problem as problem:
                upload.close()
                return await refuse(problem, scope, receive, send)
            exchange.form = form
            exchange.whole = True
            exchange.large = sum(map(len, fields.values())) >= SMALL
            entry = self._resolve(exchange, fields).entry
            who = "" if principal is None else principal.id
            estimating = partial(
                _estimate_fields, self._estimator.estimate_body, fields, entry, who
            )
            exchange.size, exchange.estimate, exchange.media = (
                await run_in_thread(estimating) if exchange.large else estimating()
            )
            if form is not None and (files := form.files()):
                exchange.media = True
                if exchange.row.billed == "audio":
                    priced = any(each.prices is not None for each in exchange.resolved)
                    length = self._audio_length
                    exchange.audio_ms = await length(files[0].spool, upload.subject, exact=priced)
            await self.app(scope, receive, send)
        finally:
            if form is not None:
                form.close()
            upload.close()

    def _read(self, scope: Scope, exchange: Exchange, body: bytes) -> None:
        """Set the members, the model and the estimate of the exchange. Raises Problem."""
        fields = members_of(body)
        row: Endpoint = exchange.row
        rules = row.rules
        if rules is not None:
            row = row_of(rules, scope["headers"], fields)
            _set_row(exchange, row)
        if not FEW.isdisjoint(fields):
            check_few(fields)
        check_names(fields, row.codec)
        exchange.whole = check_with_files(row, fields)
        model = self._resolve(exchange, fields)
        if rules is not None:
            _add_default(rules, exchange.dialect, fields, model)
        entry = model.entry
        principal = exchange.principal
        who = "" if principal is None else principal.id
        exchange.size, exchange.estimate, exchange.media = self._estimator.estimate_body(
            entry, body, who
        )
        if not exchange.whole and not exchange.media:  # small media, and media that are not here
            exchange.media = has_media(fields)

    async def _read_long(self, scope: Scope, exchange: Exchange, body: bytes) -> None:
        """The same for a longer body; of a large one, long steps run in a thread."""
        rules, large = exchange.row.rules, exchange.large
        principal = exchange.principal
        who = "" if principal is None else principal.id
        caller = f"key {who}" if principal is not None else f"address {exchange.client}"
        headers = scope["headers"]
        reading = partial(self._long.read, exchange.row, headers, body, caller, large=large)
        read = await run_in_thread(reading) if large else reading()
        exchange.whole = read.whole
        if rules is not None:
            _set_row(exchange, read.row)
        if read.problem is not None:
            raise read.problem
        fields = read.fields
        model = self._resolve(exchange, fields)
        if rules is not None:
            _add_default(rules, exchange.dialect, fields, model)
        entry = model.entry
        exchange.turn_marks = read.marks
        if read.weight is not None:
            size, tokens, media = self._estimator.estimate_weight(entry, read.weight, who)
        else:
            estimating = partial(self._estimator.estimate_body, entry, body, who)
            size, tokens, media = await run_in_thread(estimating) if large else estimating()
        if not exchange.whole and not media:
            if read.media is not None:
                media = read.media
            else:
                searching = partial(has_media, fields)
                media = await run_in_thread(searching) if large else searching()
        exchange.size, exchange.estimate, exchange.media = size, tokens, media

    def _resolve(self, exchange: Exchange, fields: dict[str, msgspec.Raw]) -> Model:
        """Find the model, and set the members of the exchange. Raises Problem."""
        row: Endpoint = exchange.row
        streamed = row.streams
        if "models" in fields:
            named = _models(fields)  # not sent to upstreams
            if streamed:
                exchange.models = named
        exchange.model = model = _string(fields, "model")
        if not model.isprintable():
            raise expected("model", "a printable name")
        exchange.fields = fields
        exchange.stream = (
            _flag(fields, "stream") if streamed else row.streams_format and _wants_events(fields)
        )
        for name in row.required:
            value = fields.get(name)
            if value is not None and (
                len(value) > _MAX_EMPTY_LENGTH or bytes(value) not in _EMPTY_VALUES
            ):
                break
        else:
            form = exchange.form
            if not isinstance(form, Form) or not any(map(form.files, row.required)):
                raise expected(row.required[0], "a value that is not empty")
        found = self._find_model(exchange, model, "model")
        if exchange.models:
            names = enumerate(exchange.models)
            others = [self._find_model(exchange, name, f"models[{n}]") for n, name in names]
            exchange.resolved = (found, *others)
        else:
            exchange.resolved = (found,)
        return found

    def _find_model(self, exchange: Exchange, name: str, param: str) -> Model:
        """The model of that name. Raises Problem if this principal has none."""
        model = self._catalog.find(name)
        principal = exchange.principal
        if model is None or model.internal:
            message = not_found(self._catalog, principal, name, exchange.dialect)
            raise Problem("model_not_found", message=message, param=param)
        if principal is not None and not self._catalog.allows(principal, model):
            raise Problem(
                "model_not_allowed", message=not_allowed(self._catalog, name), param=param
            )
        if model.embedder is not None and exchange.row.codec == "embeddings":
            return model.embedder
        return model


def _estimate_fields(
    estimate: Callable[[str, bytes, str], tuple[int, int, bool]],
    fields: dict[str, msgspec.Raw],
    entry: str,
    who: str,
) -> tuple[int, int, bool]:
    """The estimate of the members of a form, or of a JSON body in its place."""
    return estimate(entry, msgspec.json.encode(fields), who)


def _set_row(exchange: Exchange, row: Endpoint) -> None:
    """Make `row` the endpoint of the exchange. Raises Problem if its key may not use it."""
    assert row.dialect is not None
    exchange.dialect = row.dialect
    exchange.endpoint = row.name
    exchange.row = row
    principal = exchange.principal
    allowed = None if principal is None else principal.endpoints
    if allowed is not None and row.name not in allowed:
        raise Problem("endpoint_not_allowed", reason=f"the key may not use {row.name!r}")


def _add_default(
    rules: PathRules, dialect: Dialect, fields: dict[str, msgspec.Raw], model: Model
) -> None:
    """Add the `max_tokens` that the path gives to requests in Anthropic's dialect."""
    if rules.max_tokens is not None and dialect == "anthropic":
        add_max_tokens(fields, rules.max_tokens, model.max_output)


def _string(fields: dict[str, msgspec.Raw], name: str) -> str:
    raw = fields.get(name)
    if raw is None:
        raise expected(name, "a string; it is missing")
    try:
        text = _decode_str(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise expected(name, "a string") from None
    if not text or len(text) > MAX_NAME:
        raise expected(name, f"a string of 1 to {MAX_NAME} characters")
    return text


def _models(fields: dict[str, msgspec.Raw]) -> tuple[str, ...]:
    """Remove `models` from `fields`, since upstreams do not know it, and return its names."""
    raw = fields.pop("models")
    what = f"an array of up to {MAX_MODELS} names of models"
    try:
        names = _decode_strs(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise expected("models", what) from None
    if names is None:
        return ()
    if len(names) > MAX_MODELS:
        raise expected("models", what)
    for n, name in enumerate(names):
        if not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise expected(f"models[{n}]", f"a printable name of 1 to {MAX_NAME} characters")
    if names and "model" not in fields:
        fields["model"] = msgspec.Raw(msgspec.json.encode(names[0]))
    return tuple(names)


def _wants_events(fields: dict[str, msgspec.Raw]) -> bool:
    """Whether speech is requested as events."""
    raw = fields.get("stream_format")
    return raw is not None and bytes(raw) == b'"sse"'


def _flag(fields: dict[str, msgspec.Raw], name: str) -> bool:
    raw = fields.get(name)
    if raw is None:
        return False
    try:
        return bool(_decode_bool(raw))
    except msgspec.DecodeError:
        raise expected(name, "true or false") from None
