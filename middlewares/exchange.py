"""The state of one request, shared by all layers.

Each request has one `Exchange` in `scope["state"]`, so it survives the copies that servers and
frameworks make of a scope. Each field names the one layer that writes it; other layers only read
it. There is no other state in scopes, context variables or globals.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Literal, Protocol

import msgspec

from .asgi import Scope
from .error_kinds import KINDS, Kind
from .limits import Level, OnHangup

Dialect = Literal["openai", "anthropic", "responses"]
"""Wire dialect of a caller or of an upstream."""

Outcome = Literal["", "completed", "refused", "failed", "cut", "hung_up"]
"""How an exchange ended: answered in full; refused before an upstream was asked; failed before its
first byte; broken off by an error event after it; disconnected by the client."""

_KEY = "penstock.exchange"

MAX_RUNS = 101
"""Highest number of model runs for one answer: with tools that the vendor runs, each call reads the
whole input again. A higher count is not believed."""
MAX_OUTPUT = 1 << 53
"""Output tokens of an answer without a limit."""


class ErrorStyle(msgspec.Struct, frozen=True):
    """The operator's settings for error responses.

    brand: name in public messages. details: adds `{"field", "issue"}` to each error.
    kinds: the table of error kinds, with what the operator changed in it.
    unchanged: endpoints whose errors keep the table's own.
    branded: begins each message that does not name the brand with it.
    openai_members: adds `param` and `code` to the Anthropic envelope, as OpenAI's has them.
    """

    brand: str = "This service"
    details: bool = False
    kinds: Mapping[str, Kind] = KINDS
    unchanged: frozenset[str] = frozenset()
    branded: bool = False
    openai_members: bool = False

    def message(self, text: str) -> str:
        """A public message as clients get it."""
        return f"{self.brand}: {text}" if self.branded and self.brand not in text else text

    def kind(self, name: str, endpoint: str = "") -> Kind:
        """The row of a kind in the errors of an endpoint."""
        return KINDS[name] if endpoint in self.unchanged else self.kinds[name]


class Team(msgspec.Struct, frozen=True):
    """The team of a caller: its plan holds over all keys of the team together.

    plan: id of a plan, or None. limits: the team's own, as a principal's.
    """

    id: str
    name: str = ""
    plan: str | None = None
    limits: Mapping[str, Any] | None = None


class Principal(msgspec.Struct, frozen=True, gc=False):
    """The authenticated caller.

    models, endpoints: allow-lists; None allows all. plan: id of a plan, or None.
    limits: the key's own limits, read by the application that knows the plans.
    team: the team that the key belongs to, or None.
    """

    id: str
    owner: str = ""
    name: str = ""
    plan: str | None = None
    models: frozenset[str] | None = None
    endpoints: frozenset[str] | None = None
    limits: Mapping[str, Any] | None = None
    team: Team | None = None


class Target(msgspec.Struct, frozen=True):
    """An upstream and a model there: one configured way to serve a model."""

    upstream: str
    model: str

    @property
    def name(self) -> str:
        """The name in a configuration: "upstream/model"."""
        return f"{self.upstream}/{self.model}"


class Usage(msgspec.Struct):
    """Usage of one exchange. Its four token counts are disjoint; their sum was processed.

    OpenAI counts cached tokens inside `prompt_tokens`, Anthropic beside `input_tokens`; here
    `input` is always the uncached part. `reasoning` is a part of `output`, and `cache_write_1h`,
    written for an hour, a part of `cache_write`.
    images, jobs: number made. audio_ms: milliseconds of audio that was read. characters: code
        points that were spoken. video_ms: milliseconds of video or music that was made.
    hosted: calls of tools that the vendor runs. passes: model runs for the answer.
    tiers: service tier, speed and region that the upstream reported, "" for each it did not; () if
        it reported none.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    images: int = 0
    audio_ms: int = 0
    jobs: int = 0
    cache_write_1h: int = 0
    hosted: int = 0
    characters: int = 0
    video_ms: int = 0
    passes: int = 1
    tiers: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Sum of the four token counts."""
        return self.input + self.output + self.cache_read + self.cache_write

    def with_estimates(self, given: int, made: int) -> "Usage":
        """This usage, with estimates for input or output that was not reported.

        given: estimated tokens of input; made: of output, 0 if the answer is empty.
        """
        input_reported = self.input or self.cache_read or self.cache_write or not given
        if input_reported and (self.output or not made):
            return self
        return msgspec.structs.replace(
            self,
            input=self.input if input_reported else given,
            output=self.output or made,
        )

    def plus(self, other: "Usage") -> "Usage":
        """The sum of both, with this one's tiers."""
        names = [name for name in self.__struct_fields__ if name != "tiers"]
        return msgspec.structs.replace(
            self, **{name: getattr(self, name) + getattr(other, name) for name in names}
        )


class Candidate(msgspec.Struct, frozen=True):
    """A target that may be tried, and the model it stands for.

    served: id of the model that would then have answered, for clients.
    instead_of: id of the requested model, if that is another.
    foreign: number of the conversation's first messages that may hold content which only another
        vendor's models can read (thinking signatures, encrypted reasoning).
    """

    target: Target
    served: str = ""
    instead_of: str = ""
    foreign: int = 0


class Attempt(msgspec.Struct):
    """One attempt at one target. Times are `perf_counter` seconds; `error` is for logs only.

    served: id of the model that was tried. problem: kind of its failure, "" if there was none.
    unanswered: the request was sent, and no answer has begun.
    usage: reported by the upstream of an attempt that failed; cost: of that, in nano-credits.
    corrections: refusals within it that were answered by a corrected request.
    span_id: of its span, sent upstream as `traceparent`; 0 where tracing is off.
    notes: attributes of its span, gathered where the request is traced.
    """

    target: Target
    started: float
    status: int = 0
    ended: float = 0.0
    error: str = ""
    served: str = ""
    problem: str = ""
    unanswered: bool = False
    usage: Usage | None = None
    cost: int = 0
    corrections: int = 0
    span_id: int = 0
    notes: dict[str, Any] | None = None


class UploadLease(Protocol):
    """Bytes of one request body, counted against the memory bound of this process."""

    def extend(self, more: int) -> None:
        """Count bytes that the body refers to. Raises Problem where there is no room."""
        ...

    def close(self) -> None:
        """Count nothing any more: the body was dropped. Idempotent."""
        ...


class RequestForm(Protocol):
    """A multipart form."""

    def digest(self) -> bytes:
        """A digest of its files, for fingerprints; its fields are in `Exchange.fields`."""
        ...


class Tariff(Protocol):
    """The price of one answer."""

    def cost(self, usage: Usage) -> int:
        """Nano-credits for `usage`."""
        ...


class AnswerRecord(Protocol):
    """The stored form of one answer."""

    async def save(self, answer: bytes) -> None:
        """Store the finished answer, a JSON object. Never fails."""
        ...


class HealthReport(Protocol):
    """Reports one attempt to the health of its target."""

    def answered(self) -> None:
        """Report that the answer has begun."""
        ...


class FailureEncoder(Protocol):
    """Encodes the end of a broken stream in the caller's dialect."""

    def encode_failure(self, content: dict[str, Any]) -> bytes | None:
        """The last events, from `Problem.content`; None for the dialect's default event."""
        ...


class Exchange(msgspec.Struct, eq=False):
    """State of one request. The comment on each field names its one writer."""

    started: float = msgspec.field(default_factory=perf_counter)  # Exchange.of
    error_style: ErrorStyle = ErrorStyle()  # errors
    request_id: str = ""  # request_id
    client_request_id: str = ""  # request_id
    trace_id: int = 0  # tracing, subrequests, the application's router: 128 bits, or 0 for none
    span_id: int = 0  # tracing: 64 bits, of this request; 0 where it is not recorded
    parent_span_id: int = 0  # tracing, subrequests: of the caller; 0 if it sent none
    trace_state: bytes = b""  # tracing, subrequests: `tracestate` of the caller
    sampled: bool = False  # tracing, subrequests, the application's router: is the trace recorded
    parent: str = ""  # subrequests: id of the request that this one serves
    purpose: str = ""  # subrequests: what for, e.g. "describe"
    dialect: Dialect = "openai"  # the application's router, intake, dashboard
    endpoint: str = ""  # the application's router, intake, dashboard; metric label, as in "models"
    row: Any = None  # the application's router, intake, dashboard: endpoint; no middleware reads it
    client: str = ""  # the application's router: address of the caller
    principal: Principal | None = None  # auth, dashboard: of a signed-in visitor
    tags: tuple[str, ...] = ()  # intake, subrequests: words by which the caller groups spend
    fields: dict[str, msgspec.Raw] = {}  # intake, responses, forward: body members until sent
    turn_marks: Any = None  # intake, forward: what stands in its turns, until the body is sent
    body_read: bool = False  # read_body, intake: whether the body is being read
    form: RequestForm | None = None  # intake: the form of a multipart request, open until its end
    upload: UploadLease | None = None  # intake: lease of the body, closed when it is dropped
    model: str = ""  # intake: as the caller wrote it
    models: tuple[str, ...] = ()  # intake: fallbacks, as the caller wrote them
    resolved: tuple[Any, ...] = ()  # intake: catalog entries of `model`, then of `models`
    stream: bool = False  # intake
    large: bool = False  # intake, responses, forward: the body is parsed in a worker thread
    attached: int = 0  # forward: bytes of files written into the body, counted in `upload`
    size: int = 0  # intake, responses: bytes of text in the body
    estimate: int = 0  # intake, responses: estimated input tokens, rather too many
    media: bool = False  # intake, responses: whether the body has media
    audio_ms: int = 0  # intake: milliseconds of the audio of a form, rather too many
    whole: bool = False  # intake, responses: the size of all its input is known
    upload_seconds: float = 0.0  # intake: waited for the body
    queue_seconds: float = 0.0  # rate_limit: waited for a rate limit
    levels: tuple[Level, ...] = ()  # rate_limit: state of the principal's rates
    on_hangup: OnHangup = "cancel"  # budget: what to do with the upstream after a disconnect
    cut_off: int = 0  # budget: output tokens after which a stream ends; 0: no limit
    cut_off_extra: Mapping[str, Any] | None = None  # budget: members of the error that ends it so
    runs: int = MAX_RUNS  # budget: most model runs, with tools and compaction
    max_output: int = MAX_OUTPUT  # budget: most output tokens requested and paid
    cost: int = 0  # budget: nano-credits charged, at the end
    downgrade_to: str = ""  # downgrade: model to serve after a limit refused the requested one
    refused: str = ""  # downgrade: the kind of that refusal
    candidate: Candidate | None = None  # fallback: target of the current attempt
    repeatable: bool = False  # fallback: whether another attempt may follow
    health_report: HealthReport | None = None  # fallback: of the current attempt
    fallback_from: str = ""  # fallback, downgrade: id of the requested model, if another serves
    fallback_depth: int = 0  # fallback, downgrade: models tried before the one that serves
    replayed: bool = False  # idempotency: the answer is a replay
    response_overrides: dict[str, Any] = {}  # responses: members set from stored state
    answer_record: AnswerRecord | None = None  # responses: stores the answer before its end is sent
    served: str = ""  # forward, counting, idempotency: catalog id that answered, for clients
    catalog_id: str = ""  # forward, counting: catalog entry behind it; a metric label
    attempts: list[Attempt] = []  # forward, counting
    children_cost: int = 0  # subrequests: nano-credits of requests made to serve this one
    headers_sent_early: bool = False  # forward: the head was sent before any content
    first_content: float = 0.0  # forward: perf_counter seconds of the first content byte
    upstream_seconds: float = 0.0  # forward, counting: until its answer or first content
    usage: Usage | None = None  # forward
    usage_reported: bool = False  # forward: whether the upstream reported all of that usage
    output_estimate: int = 0  # forward: streamed output tokens, estimated, up to `max_output`
    tariff: Tariff | None = None  # forward: of the model that served
    decoded: object = None  # forward: the decoded request, for later attempts
    dropped: list[str] = []  # forward: parts of the request that the upstream does not accept
    failure_encoder: FailureEncoder | None = None  # forward: of the stream that is open
    outcome: Outcome = ""  # any layer: the one that answers or notices the disconnect
    problem: str = ""  # Problem, idempotency: kind of the answer; downgrade, which clears it
    reason: str = ""  # Problem, idempotency: why, for the log; downgrade, which clears it
    status: int = 0  # metrics: status sent
    bytes_out: int = 0  # metrics: body bytes sent

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """The exchange of this request, created on first use."""
        return exchange_of(scope)


def attach(exchange: Exchange, scope: Scope) -> None:
    """Make `exchange` the exchange of `scope`, a request that the application makes itself."""
    scope["state"] = {_KEY: exchange}


def exchange_of(scope: Scope) -> Exchange:
    """`Exchange.of` for the hot path: a plain function call costs half."""
    try:
        exchange: Exchange = scope["state"][_KEY]
    except (KeyError, TypeError):  # the first to ask, or a server that leaves `state` out
        state = scope.get("state")
        if state is None:
            state = scope["state"] = {}
        exchange = state[_KEY] = Exchange()
    return exchange


def client_of(exchange: Exchange, scope: Scope) -> str:
    """The address of the caller, as the router worked it out, else as the socket has it; "" where
    there is none."""
    if exchange.client:
        return exchange.client
    client = scope.get("client")
    return str(client[0]) if client else ""


def cost_of(exchange: Exchange, usage: Usage) -> int | None:
    """Cost of an answer of `usage`, of the attempts before it and of the requests made for it, in
    nano-credits; None if nothing had a price."""
    spent = exchange.children_cost
    for attempt in exchange.attempts:
        spent += attempt.cost
    if exchange.tariff is None:
        return spent or None
    return exchange.tariff.cost(usage) + spent
