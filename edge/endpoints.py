"""Table of endpoints, one row each, which all layers read.

To add an endpoint, add a row. It is then routed, limited, billed, retried at other targets,
measured, simulated and documented as the row says. Code is needed only for a `handler` or a `codec`
that no row has yet.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, get_args

import msgspec

from middlewares.exchange import Dialect

Body = Literal["json", "multipart", "streamed", "none"]
"""How a request body is read. Intake rejects a table with an unsupported kind."""
Billed = Literal["free", "tokens", "images", "characters", "audio", "job"]
"""How a request is billed, by the prices of its model. "tokens": the usage of the answer. "images",
"characters", "audio": that too, or what was made, read out or heard
(`edge.billing.media_units`). "job": the job that it creates is (`edge.media.jobs`)."""
FileSize = Literal["audio", "image"]
"""The bound on each file of a form: `audio.max_size`, or the usual one of vendors for images."""
Answer = Literal["json", "media", "bytes", "transcript"]
"""How an unstreamed answer is passed on. "json": read whole. "media": JSON whose long strings are
kept in temporary files. "bytes": as they come, after the first one. "transcript": read whole, and
encoded in the form that was requested."""
Handler = Literal[
    "forward", "count", "models", "account", "responses", "files", "uploads", "links", "jobs"
]
"""The app that answers (`edge.api.handlers`). "forward": the targets of the requested model, one
after the other until one answers."""
Codec = Literal[
    "chat",
    "completions",
    "responses",
    "messages",
    "compaction",
    "embeddings",
    "object",
    "images",
    "speech",
    "transcription",
]
"""How forwarded bodies are read and written (`edge.proxy.translate`). "object": any JSON object, of
which only `model` and `usage` are read."""


class FormRules(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How a `multipart` body is read."""

    files: Mapping[str, int]
    """Most files of each name, which is written without `[]`. A part of that name is a file even
    without a filename."""
    size: FileSize
    most: int = 1
    """Most files of all names together."""
    types: Mapping[str, type] = {}
    """Members that are not strings in JSON: `bool`, `int`, `float` or `list`."""
    json: bool = False
    """Whether a JSON body is read too."""


class PathRules(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a configured path adds to the endpoints there.

    rows: the endpoint of each dialect that the path speaks. With several, the shape of a request
        decides (`edge.requests.dialect_signs`); the layer that reads the body replaces the row.
        Empty for endpoints that answer every dialect themselves.
    entries: the same rows with these rules: those of a request whose body is not read yet.
    prefer: the dialect of a request whose shape does not decide.
    max_tokens: of requests in Anthropic's dialect that have none; None: they are refused.
    """

    rows: "Mapping[Dialect, Endpoint]" = {}
    entries: "Mapping[Dialect, Endpoint]" = {}
    prefer: Dialect = "openai"
    max_tokens: int | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One endpoint. The defaults are the careful ones; `billed` has none."""

    name: str
    """Name in metrics, ledger, log and allow-lists of keys. Rows may share one."""
    methods: tuple[str, ...]
    path: str
    """A path that ends in `/*` matches everything below it; `*` elsewhere, what is between."""
    dialect: Dialect | None
    """The caller's dialect. None: Anthropic with an `anthropic-version` header, else OpenAI."""
    body: Body
    billed: Billed
    handler: Handler
    documented: str
    """What it does, for docs/reference.md."""
    codec: Codec | None = None
    required: tuple[str, ...] = ()
    """Members of the body, or files of the form, of which one must be present and not empty, the
    usual one first."""
    streams: bool = False
    """Whether `"stream": true` requests a stream, and `models` fallback models."""
    streams_format: bool = False
    """Whether `"stream_format": "sse"` requests a stream."""
    answer: Answer = "json"
    form: FormRules | None = None
    """Rules of a `multipart` body."""
    conversation: tuple[str, ...] = ()
    """Members that may hold a conversation, the usual one first."""
    bounds: frozenset[str] = frozenset()
    """Members that limit the output tokens. Empty: its answers have no output tokens."""
    upstream_path: bytes = b""
    """Path below the base URL of an upstream of the same dialect; b"" if always translated."""
    translated: bool = False
    """Whether upstreams of other dialects can answer it."""
    downgradable: bool = False
    """Whether another model may serve when a limit refuses the requested one."""
    limited: bool = True
    """Whether it counts against the rate and concurrency limits of its caller."""
    open: bool = False
    """Whether it needs no key: its app checks something else, and no layer inside auth is passed.
    `Parts.open_apps` has the app by the name of the row."""
    serves: frozenset[str] = frozenset()
    """Endpoints whose answers lead to an open row: it is offered with any of them."""
    rules: PathRules | None = None
    """Rules of the configured path; None at most paths, and once the body is read."""

    def __post_init__(self) -> None:
        for kind, value in (
            (Body, self.body),
            (Billed, self.billed),
            (Handler, self.handler),
            (Codec, self.codec),
            (Answer, self.answer),
        ):
            if value is not None and value not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ValueError(f"endpoint {self.name}: expected one of {known}, got {value!r}")
        if (self.body == "multipart") != (self.form is not None):
            raise ValueError(f"endpoint {self.name}: `form` and a multipart body need each other")


_POST = ("POST",)
_GET = ("GET", "HEAD")

_TRANSCRIPTION = FormRules(
    files={"file": 1},
    size="audio",
    types={
        "stream": bool,
        "temperature": float,
        "languages": list,
        "keywords": list,
        "include": list,
        "timestamp_granularities": list,
        "known_speaker_names": list,
        "known_speaker_references": list,
    },
    json=True,
)

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
        documented="OpenAI Chat, plain or streamed, with any model",
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
        documented="OpenAI's legacy completions, one prompt, with any model",
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
        documented="OpenAI Responses, plain or streamed, with any model; `store` "
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
        documented="Anthropic Messages, plain or streamed, with any model",
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
        name="images.generations",
        methods=_POST,
        path="/v1/images/generations",
        dialect="openai",
        body="json",
        billed="images",
        handler="forward",
        codec="images",
        required=("prompt",),
        streams=True,
        answer="media",
        upstream_path=b"/images/generations",
        documented="images from a text, plain or streamed: base64, or links of ours for an hour",
    ),
    Endpoint(
        name="images.edits",
        methods=_POST,
        path="/v1/images/edits",
        dialect="openai",
        body="multipart",
        form=FormRules(
            files={"image": 16, "mask": 1, "markup": 1},
            size="image",
            most=18,
            types={
                "n": int,
                "stream": bool,
                "partial_images": int,
                "output_compression": int,
                "frame_count": int,
                "frame_duration_ms": int,
            },
            json=True,
        ),
        billed="images",
        handler="forward",
        codec="images",
        required=("image",),
        streams=True,
        answer="media",
        upstream_path=b"/images/edits",
        documented="images from images and a text, as a form or as JSON with data URLs, links or "
        "ids of files",
    ),
    Endpoint(
        name="audio.speech",
        methods=_POST,
        path="/v1/audio/speech",
        dialect="openai",
        body="json",
        billed="characters",
        handler="forward",
        codec="speech",
        required=("input",),
        streams_format=True,
        answer="bytes",
        upstream_path=b"/audio/speech",
        documented="speech from a text: the bytes of the audio as they are made, or events with "
        '`stream_format = "sse"`',
    ),
    Endpoint(
        name="audio.transcriptions",
        methods=_POST,
        path="/v1/audio/transcriptions",
        dialect="openai",
        body="multipart",
        billed="audio",
        handler="forward",
        codec="transcription",
        required=("file", "audio", "file_id", "url"),
        streams=True,
        answer="transcript",
        form=_TRANSCRIPTION,
        upstream_path=b"/audio/transcriptions",
        documented="the words of an audio file in six formats, plain or streamed; a form, or JSON "
        "with the file in base64",
    ),
    Endpoint(
        name="audio.translations",
        methods=_POST,
        path="/v1/audio/translations",
        dialect="openai",
        body="multipart",
        billed="audio",
        handler="forward",
        codec="transcription",
        required=("file", "audio", "file_id", "url"),
        answer="transcript",
        form=_TRANSCRIPTION,
        upstream_path=b"/audio/translations",
        documented="the words of an audio file in English, in the same formats without speakers",
    ),
    Endpoint(
        name="videos.generations",
        methods=_POST,
        path="/v1/videos/generations",
        dialect="openai",
        body="json",
        billed="job",
        handler="jobs",
        required=("prompt", "image"),
        documented="create a video job; 202 with its `job_id`",
    ),
    Endpoint(
        name="videos.jobs",
        methods=(*_GET, "DELETE", "POST"),
        path="/v1/videos/generations/*",
        dialect="openai",
        body="streamed",
        billed="free",
        handler="jobs",
        limited=False,  # `jobs.polls` limits it
        documented="a video job of this key: state, `/cancel`, `/content`",
    ),
    Endpoint(
        name="videos",
        methods=(*_GET, "POST"),
        path="/v1/videos",
        dialect="openai",
        body="multipart",
        billed="job",
        handler="jobs",
        form=FormRules(
            files={"input_reference": 1},
            size="image",
            types={"seed": int, "n": int, "fps": int, "generate_audio": bool},
            json=True,
        ),
        required=("prompt", "input_reference"),
        documented="the same jobs in the shape of OpenAI's videos: create one, list them",
    ),
    Endpoint(
        name="videos",
        methods=_POST,
        path="/v1/videos/*/remix",
        dialect="openai",
        body="streamed",
        billed="job",
        handler="jobs",
        documented="create a video job that changes the video of another one",
    ),
    Endpoint(
        name="videos.jobs",
        methods=(*_GET, "DELETE", "POST"),
        path="/v1/videos/*",
        dialect="openai",
        body="streamed",
        billed="free",
        handler="jobs",
        limited=False,
        documented="one of them: state, `/content`",
    ),
    Endpoint(
        name="music.generations",
        methods=_POST,
        path="/v1/music/generations",
        dialect="openai",
        body="json",
        billed="job",
        handler="jobs",
        required=("prompt", "lyrics", "composition_plan"),
        documented="create a music job; 202 with its `job_id`",
    ),
    Endpoint(
        name="music.jobs",
        methods=(*_GET, "DELETE", "POST"),
        path="/v1/music/generations/*",
        dialect="openai",
        body="streamed",
        billed="free",
        handler="jobs",
        limited=False,
        documented="a music job of this key: state, `/cancel`, `/content`",
    ),
    Endpoint(
        name="webhooks.secret",
        methods=_GET,
        path="/v1/webhooks/secret",
        dialect="openai",
        body="none",
        billed="free",
        handler="jobs",
        documented="the secret by which webhooks to this key's `callback_url` are verified",
    ),
    Endpoint(
        name="audio.voices",
        methods=_GET,
        path="/v1/audio/voices",
        dialect="openai",
        body="none",
        billed="free",
        handler="models",
        documented="the voices of the speech models that this key may use",
    ),
    Endpoint(
        name="audio.models",
        methods=_GET,
        path="/v1/audio/models",
        dialect="openai",
        body="none",
        billed="free",
        handler="models",
        documented="the speech models that this key may use",
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
        documented="use of this key, and of its team, by day and model: `start`, `end` or `days`, "
        "30 unless given, 366 at most; or of the key by [groups](usage.md): `group_by`",
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
        documented="windows, credits, rates and concurrency of this key, and of its team",
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
    Endpoint(
        name="files",
        methods=(*_GET, "POST"),
        path="/v1/files",
        dialect=None,
        body="streamed",
        billed="free",
        handler="files",
        documented="upload a file (a form, streamed), or list those of this key; OpenAI's shape, "
        "or Anthropic's when `anthropic-version` is sent",
    ),
    Endpoint(
        name="files",
        methods=(*_GET, "DELETE"),
        path="/v1/files/*",
        dialect=None,
        body="none",
        billed="free",
        handler="files",
        documented="a file of this key, also its bytes at `/v1/files/{id}/content`, whole or by "
        "`range`",
    ),
    Endpoint(
        name="uploads",
        methods=_POST,
        path="/v1/uploads",
        dialect="openai",
        body="streamed",
        billed="free",
        handler="uploads",
        documented="begin a file that comes in parts",
    ),
    Endpoint(
        name="uploads",
        methods=_POST,
        path="/v1/uploads/*",
        dialect="openai",
        body="streamed",
        billed="free",
        handler="uploads",
        documented="`/v1/uploads/{id}/parts`, `/complete` and `/cancel`: its parts, and its end",
    ),
    Endpoint(
        name="links",
        methods=_GET,
        path="/v1/links/*",
        dialect=None,
        body="none",
        billed="free",
        handler="links",
        limited=False,
        open=True,
        serves=frozenset(("files", "images.generations", "images.edits")),
        documented="a file by a signed link of this gateway: `exp` and `sig`",
    ),
)
"""Every endpoint that needs a key."""

NAMES: Final[frozenset[str]] = frozenset(row.name for row in ENDPOINTS if not row.open)
"""Names that the allow-list of a key may contain."""


def offered_rows(names: Collection[str], endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The rows of `endpoints` that a gateway with these names offers; all of them without names."""
    return [
        row
        for row in endpoints
        if not names or not row.serves.isdisjoint(names) or (row.name in names and not row.open)
    ]


BY_NAME: Final[Mapping[str, Endpoint]] = {row.name: row for row in reversed(ENDPOINTS)}
"""The first row of each name."""


TAILS: Final[Mapping[str, str]] = {
    row.path.removeprefix("/v1"): row.name
    for row in ENDPOINTS
    if row.handler != "account" and "*" not in row.path
}
"""Endpoints that a configuration may map to other paths: end of the path, and name."""

CONVERSATIONS: Final[Mapping[Dialect, Endpoint]] = {
    row.dialect: row
    for row in ENDPOINTS
    if row.dialect is not None and row.conversation and row.streams
}
"""Conversation endpoint of each dialect. Other dialects are translated to it."""

CONVERSATION_NAMES: Final = frozenset(row.name for row in CONVERSATIONS.values())

SERVED_BY: Final[Mapping[Dialect, frozenset[Dialect]]] = {
    "openai": frozenset(("openai", "responses")),
    "responses": frozenset(("responses",)),
    "anthropic": frozenset(("anthropic",)),
}
"""Upstream dialects that serve an untranslated endpoint, by the endpoint's dialect. Upstreams of
OpenAI Responses also have the other endpoints of OpenAI."""
