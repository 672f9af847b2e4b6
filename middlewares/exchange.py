"""The one thing that travels up and down the chain.

Every request has one `Exchange`. It lives in `scope["state"]`, so it survives the copies that
servers and frameworks make of a scope. Each field names the one layer that writes it; every other
layer only reads. What has no field here does not travel: no other state in scopes, context
variables or globals.
"""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Literal, Protocol

import msgspec

from .asgi import Scope
from .limits import Level, OnHangup

Dialect = Literal["openai", "anthropic", "responses"]
"""Wire dialect of a caller or of an upstream."""

Outcome = Literal["", "completed", "refused", "failed", "cut", "hung_up"]
"""How an exchange ended: answered in full; refused before an upstream was asked; failed before its
first byte; broken by an error event after it; left by the client."""

_KEY = "penstock.exchange"

MOST_RUNS = 101
"""How often an upstream's model runs for one answer, at most: with tools that the vendor runs it
reads all again after each call. What is counted beyond that is not believed."""
MOST_OUTPUT = 1 << 53
"""Output tokens of an answer that nothing bounds."""


class ErrorStyle(msgspec.Struct, frozen=True):
    """How the operator wants refusals to look.

    `brand` stands in public messages; `details` adds `{"field", "issue"}` to the OpenAI envelope.
    """

    brand: str = "This service"
    details: bool = False


class Principal(msgspec.Struct, frozen=True):
    """Who is calling, as established by authentication.

    `models` and `endpoints` are allow-lists; None allows all. `plan` is the id of a plan or None;
    `limits` is what the key has of its own, for whoever knows the plans.
    """

    id: str
    owner: str = ""
    name: str = ""
    plan: str | None = None
    models: frozenset[str] | None = None
    endpoints: frozenset[str] | None = None
    limits: Mapping[str, Any] | None = None


class Target(msgspec.Struct, frozen=True):
    """One place a model can be served: a named upstream and the model's name there."""

    upstream: str
    model: str

    @property
    def name(self) -> str:
        """As it stands in a configuration: "upstream/model"."""
        return f"{self.upstream}/{self.model}"


class Usage(msgspec.Struct):
    """Tokens of one exchange, disjoint: the four figures add up to what was processed.

    OpenAI counts cached tokens inside `prompt_tokens`, Anthropic beside `input_tokens`; here
    `input` is always the uncached part. `reasoning` is a part of `output`, not an addition, and
    `cache_write_1h` one of `cache_write`: what was written for an hour.
    `images` and `jobs` made, and milliseconds of audio, where those are what is paid for.
    hosted: calls of tools that the vendor runs. passes: how often the model ran for it.
    tiers: service tier, speed and place as the upstream told them, each "" where it did not; ()
        where it told none.
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
    passes: int = 1
    tiers: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input + self.output + self.cache_read + self.cache_write

    def believed(self, given: int, made: int) -> "Usage":
        """Itself if both halves were told, else a copy with estimates for the one that was not.

        given: tokens of input, estimated; made: of output, 0 where the answer is empty.
        """
        told_input = self.input or self.cache_read or self.cache_write or not given
        if told_input and (self.output or not made):
            return self
        return msgspec.structs.replace(
            self,
            input=self.input if told_input else given,
            output=self.output or made,
        )

    def plus(self, other: "Usage") -> "Usage":
        """The sum of both; tiers are its own."""
        names = [name for name in self.__struct_fields__ if name != "tiers"]
        return msgspec.structs.replace(
            self, **{name: getattr(self, name) + getattr(other, name) for name in names}
        )


class Candidate(msgspec.Struct, frozen=True):
    """One try of an exchange, before it is made: where, and as which model.

    target: where; served: id of the model that would then have answered, for clients.
    instead_of: id of the model that was asked for, if that is another.
    foreign: how many of the conversation's messages, from its beginning, may hold what only another
        maker's models can read (thinking signatures, encrypted reasoning).
    """

    target: Target
    served: str = ""
    instead_of: str = ""
    foreign: int = 0


class Attempt(msgspec.Struct):
    """One try at one target. Times are `perf_counter` seconds; `error` is for logs only.

    served: id of the model that was tried. problem: kind of its failure, "" if there was none.
    unanswered: the request has left us, and no answer has begun to come.
    usage: what the upstream told of a try that failed; cost: of that, in nano-credits.
    corrections: refusals within it that were answered by a corrected request.
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


class UploadLease(Protocol):
    """Bytes of one request body, counted against what this process may hold."""

    def extend(self, more: int) -> None:
        """Count bytes that the body refers to. Raises Problem where there is no room for them."""
        ...

    def close(self) -> None:
        """Count nothing any more, since nothing holds the body. Idempotent."""
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
    """What the health of a target learns of one attempt."""

    def answered(self) -> None:
        """Its answer has begun."""
        ...


class FailureEncoder(Protocol):
    """The end of one stream that broke, in the caller's dialect."""

    def encode_failure(self, content: dict[str, Any]) -> bytes | None:
        """The last events, made from `Problem.content`; None for the dialect's usual one."""
        ...


class Exchange(msgspec.Struct, eq=False):
    """What is known of one request so far. The comment on each field names its one writer."""

    started: float = msgspec.field(default_factory=perf_counter)  # Exchange.of
    error_style: ErrorStyle = ErrorStyle()  # errors
    request_id: str = ""  # request_id
    client_request_id: str = ""  # request_id
    dialect: Dialect = "openai"  # the application's router
    endpoint: str = ""  # the application's router; a metric label, e.g. "chat.completions"
    row: Any = None  # the application's router: of its table of endpoints; not read here
    client: str = ""  # the application's router: address of the caller
    principal: Principal | None = None  # auth
    fields: dict[str, msgspec.Raw] = {}  # intake, responses, forward: body members until sent
    body_read: bool = False  # read_body, intake: whether somebody reads the body
    upload: UploadLease | None = None  # intake: of the body, closed when nothing holds it
    model: str = ""  # intake: as the caller wrote it
    models: tuple[str, ...] = ()  # intake: to try after it, as the caller wrote them
    resolved: tuple[Any, ...] = ()  # intake: what the catalog has for `model`, then for `models`
    stream: bool = False  # intake
    large: bool = False  # intake, responses: reading the body takes long enough to keep others out
    size: int = 0  # intake, responses: bytes of the body that are text
    estimate: int = 0  # intake, responses: input tokens, rather too many than too few
    media: bool = False  # intake, responses: whether there is more in the body than text
    whole: bool = False  # intake, responses: turns and tools are of kinds whose size is seen
    levels: tuple[Level, ...] = ()  # rate_limit: where the principal's rates stand
    on_hangup: OnHangup = "cancel"  # budget: what becomes of the upstream when the client leaves
    cut_off: int = 0  # budget: output tokens after which a stream ends; 0: none
    runs: int = MOST_RUNS  # budget: how often a model may run for it, tools and compaction included
    most_output: int = MOST_OUTPUT  # budget: output tokens that it asks for, and pays for, at most
    cost: int = 0  # budget: nano-credits charged, once it is over
    downgrade_to: str = ""  # downgrade: model to serve, since a limit refused the one asked for
    refused: str = ""  # downgrade: the kind of that refusal
    candidate: Candidate | None = None  # fallback: where to try now
    repeatable: bool = False  # fallback: whether another attempt may follow
    health_report: HealthReport | None = None  # fallback: of the attempt that is made
    fallback_from: str = ""  # fallback, downgrade: id of the model asked for, if another serves
    fallback_depth: int = 0  # fallback, downgrade: models tried before the one that serves
    replayed: bool = False  # idempotency: the answer was made before
    response_overrides: dict[str, Any] = {}  # responses: members that kept state decides
    answer_record: AnswerRecord | None = None  # responses: stores the answer before its end is sent
    served: str = ""  # forward, counting, idempotency: catalog id that answered, for clients
    catalog_id: str = ""  # forward, counting: the configured entry behind it; a metric label
    attempts: list[Attempt] = []  # forward, counting
    headers_sent_early: bool = False  # forward: the head has left before any content
    first_content: float = 0.0  # forward: perf_counter seconds of the first content byte
    upstream_seconds: float = 0.0  # forward, counting: waiting for its answer, or first content
    usage: Usage | None = None  # forward
    usage_reported: bool = False  # forward: whether the upstream counted that usage, all of it
    output_estimate: int = 0  # forward: output tokens passed on, by their text, up to `most_output`
    tariff: Tariff | None = None  # forward: of the model that served
    decoded: object = None  # forward: the request in neutral form, for attempts that may follow
    dropped: list[str] = []  # forward: what of the request had no place at the upstream
    failure_encoder: FailureEncoder | None = None  # forward: of the stream that is open
    outcome: Outcome = ""  # whoever answers, or sees the caller leave
    problem: str = ""  # Problem, idempotency: kind that was answered; downgrade, where it is not
    reason: str = ""  # Problem, idempotency: why, for the log only; downgrade, where it is not
    status: int = 0  # metrics: status that left
    bytes_out: int = 0  # metrics: body bytes that left

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """The exchange of this request, created on first use, whatever the server put in scope."""
        return exchange_of(scope)


def exchange_of(scope: Scope) -> Exchange:
    """`Exchange.of`, for layers that each request passes: a call of a function costs half."""
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
    """What an answer of `usage` costs with what was tried before it, in nano-credits; None where
    nothing had a price."""
    spent = 0
    for attempt in exchange.attempts:
        spent += attempt.cost
    if exchange.tariff is None:
        return spent or None
    return exchange.tariff.cost(usage) + spent
