"""The table of endpoints: one row for each, which all layers read.

To add an endpoint, add a row. It is then routed, limited, billed, retried at other targets,
measured, simulated and documented as the row says. Code is needed only for a `handler` or a `codec`
that no row has yet.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from middlewares.exchange import Dialect

Body = Literal["json", "multipart", "streamed", "none"]
"""How a request body is read. Intake refuses a table with a kind that it has no reader for."""
Billed = Literal["free", "tokens"]
"""What a request pays for. "tokens": by the prices of its model, at the usage of its answer."""
Handler = Literal["forward", "count", "models", "account", "responses"]
"""The app that answers (`edge.api.handlers`). "forward": the targets of the model that is asked
for, one after the other until one answers."""
Codec = Literal[
    "chat", "completions", "responses", "messages", "compaction", "embeddings", "object"
]
"""How forwarded bodies are read and written (`edge.proxy.translate`). "object": any JSON object
in, any JSON object out; `model` and `usage` are all that is read of it."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One row. Its defaults are the careful ones; what it is billed by has none."""

    name: str
    """As metrics, the ledger, the log and the allow-lists of keys call it. Rows may share one."""
    methods: tuple[str, ...]
    path: str
    """One that ends in `/*` is for everything below it."""
    dialect: Dialect | None
    """Of its callers. None: Anthropic's with an `anthropic-version` header, else OpenAI's."""
    body: Body
    billed: Billed
    handler: Handler
    documented: str
    """What it does, for docs/reference.md."""
    codec: Codec | None = None
    required: tuple[str, ...] = ()
    """Members of the body of which one must be there and not be empty, the usual one first."""
    streams: bool = False
    """Whether `"stream": true` asks for a stream, and `models` for other models."""
    conversation: tuple[str, ...] = ()
    """Members that may hold a conversation, the usual one first."""
    bounds: frozenset[str] = frozenset()
    """Members that bound the output tokens. None: its answers have no output tokens."""
    upstream_path: bytes = b""
    """Below the base URL of an upstream of the same dialect; b"" where it is never asked as is."""
    translated: bool = False
    """Whether upstreams of other dialects can answer it."""
    downgradable: bool = False
    """Whether another model may serve once a limit has refused the one asked for."""
    limited: bool = True
    """Whether it counts against the rate and concurrency limits of its caller."""

    def __post_init__(self) -> None:
        for kind, value in (
            (Body, self.body),
            (Billed, self.billed),
            (Handler, self.handler),
            (Codec, self.codec),
        ):
            if value is not None and value not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ValueError(f"endpoint {self.name}: {value!r} is none of {known}")


_POST = ("POST",)
_GET = ("GET", "HEAD")

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        name="chat.completions",
        methods=_POST,
        path="/v1/chat/completions",
        dialect="openai",
        body="json",
        billed="tokens",
        handler="forward",
        codec="chat",
        required=("messages", "input"),
        streams=True,
        conversation=("messages", "input"),  # Cursor sends the body of Responses there
        bounds=frozenset(("max_completion_tokens", "max_tokens")),  # servers read either
        upstream_path=b"/chat/completions",
        translated=True,
        downgradable=True,
        documented="OpenAI Chat, plain or streamed, on an upstream of any dialect",
    ),
    Endpoint(
        name="completions",
        methods=_POST,
        path="/v1/completions",
        dialect="openai",
        body="json",
        billed="tokens",
        handler="forward",
        codec="completions",
        required=("prompt",),
        streams=True,
        bounds=frozenset(("max_tokens",)),
        translated=True,
        downgradable=True,
        documented="OpenAI's legacy completions, one prompt, on an upstream of any dialect",
    ),
    Endpoint(
        name="responses",
        methods=_POST,
        path="/v1/responses",
        dialect="responses",
        body="json",
        billed="tokens",
        handler="forward",
        codec="responses",
        required=("input", "previous_response_id"),
        streams=True,
        conversation=("input",),
        bounds=frozenset(("max_output_tokens",)),
        upstream_path=b"/responses",
        translated=True,
        downgradable=True,
        documented="OpenAI Responses, plain or streamed, on an upstream of any dialect; `store` "
        "and `previous_response_id` are kept here",
    ),
    Endpoint(
        name="responses.compact",
        methods=_POST,
        path="/v1/responses/compact",
        dialect="responses",
        body="json",
        billed="tokens",
        handler="forward",
        codec="compaction",
        required=("input", "previous_response_id"),
        conversation=("input",),
        bounds=frozenset(("max_output_tokens",)),
        upstream_path=b"/responses/compact",
        translated=True,
        downgradable=True,
        documented="a conversation made shorter: by the upstream, else a summary that only this "
        "gateway opens",
    ),
    Endpoint(
        name="responses.input_tokens",
        methods=_POST,
        path="/v1/responses/input_tokens",
        dialect="responses",
        body="json",
        billed="free",
        handler="count",
        required=("input", "previous_response_id"),
        conversation=("input",),
        upstream_path=b"/responses/input_tokens",
        documented="the count of a Responses request: the upstream's own, else an estimate that "
        "errs high",
    ),
    Endpoint(
        name="responses",
        methods=(*_GET, "DELETE"),
        path="/v1/responses/*",
        dialect="responses",
        body="none",
        billed="free",
        handler="responses",
        documented="a stored response of this key, also `/v1/responses/{id}/input_items`",
    ),
    Endpoint(
        name="messages",
        methods=_POST,
        path="/v1/messages",
        dialect="anthropic",
        body="json",
        billed="tokens",
        handler="forward",
        codec="messages",
        required=("messages",),
        streams=True,
        conversation=("messages",),
        bounds=frozenset(("max_tokens",)),
        upstream_path=b"/messages",
        translated=True,
        downgradable=True,
        documented="Anthropic Messages, plain or streamed, on an upstream of any dialect",
    ),
    Endpoint(
        name="messages.count_tokens",
        methods=_POST,
        path="/v1/messages/count_tokens",
        dialect="anthropic",
        body="json",
        billed="free",
        handler="count",
        required=("messages",),
        conversation=("messages",),
        upstream_path=b"/messages/count_tokens",
        documented="the count of a Messages request: the upstream's own, else an estimate that "
        "errs high",
    ),
    Endpoint(
        name="embeddings",
        methods=_POST,
        path="/v1/embeddings",
        dialect="openai",
        body="json",
        billed="tokens",
        handler="forward",
        codec="embeddings",
        required=("input",),
        upstream_path=b"/embeddings",
        documented="OpenAI embeddings",
    ),
    Endpoint(
        name="models",
        methods=_GET,
        path="/v1/models",
        dialect=None,
        body="none",
        billed="free",
        handler="models",
        documented="the models this key may use; OpenAI's shape, or Anthropic's when "
        "`anthropic-version` is sent",
    ),
    Endpoint(
        name="models",
        methods=_GET,
        path="/v1/models/*",
        dialect=None,
        body="none",
        billed="free",
        handler="models",
        documented="one of them",
    ),
    Endpoint(
        name="usage",
        methods=_GET,
        path="/v1/usage",
        dialect=None,
        body="none",
        billed="free",
        handler="account",
        limited=False,  # a caller that is over its limits may ask why
        documented="use of this key by day and model: `start`, `end` or `days`, 30 unless given, "
        "366 at most",
    ),
    Endpoint(
        name="limits",
        methods=_GET,
        path="/v1/limits",
        dialect=None,
        body="none",
        billed="free",
        handler="account",
        limited=False,
        documented="windows, credits, rates and concurrency of this key",
    ),
    Endpoint(
        name="requests",
        methods=_GET,
        path="/v1/requests/*",
        dialect=None,
        body="none",
        billed="free",
        handler="account",
        limited=False,
        documented="the usage of a finished request of this key, by its `x-request-id`",
    ),
)
"""Every endpoint that needs a key."""

NAMES: Final[frozenset[str]] = frozenset(row.name for row in ENDPOINTS)
"""What the allow-list of a key may hold."""

BY_NAME: Final[Mapping[str, Endpoint]] = {row.name: row for row in reversed(ENDPOINTS)}
"""The first row of each name."""


TAILS: Final[Mapping[str, str]] = {
    row.path.removeprefix("/v1"): row.name
    for row in ENDPOINTS
    if row.handler != "account" and not row.path.endswith("*")
}
"""What a configuration may offer at other paths: how the path ends, and the name."""

CONVERSATIONS: Final[Mapping[Dialect, Endpoint]] = {
    row.dialect: row
    for row in ENDPOINTS
    if row.dialect is not None and row.conversation and row.streams
}
"""By dialect, the endpoint of its conversations. Other dialects are translated to it."""

SERVED_BY: Final[Mapping[Dialect, frozenset[Dialect]]] = {
    "openai": frozenset(("openai", "responses")),
    "responses": frozenset(("responses",)),
    "anthropic": frozenset(("anthropic",)),
}
"""By dialect of an endpoint that is not translated: what upstreams speak that have it. Those of
OpenAI Responses have the other endpoints of OpenAI too."""
