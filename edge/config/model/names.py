"""Types of names and numbers that several tables use."""

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from edge.endpoints import NAMES, TAILS

UpstreamDialect = Literal[
    "openai", "responses", "anthropic", "claude-cli", "local-media", "simulator"
]
Modality = Literal["text", "image", "audio", "video", "file", "embedding"]
if TYPE_CHECKING:
    EndpointName = str
    OfferedName = str
else:
    OfferedName = Literal[tuple(sorted(NAMES))]
    EndpointName = Literal[tuple(TAILS.values())]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
_WORD = r"!#-)+-\[\]-~"  # visible ASCII less the quote, the backslash and the star
Slug = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        extra={"expected": "lower-case letters, digits, - and _, at most 63"},
    ),
]
ModelName = Annotated[
    str,
    Meta(
        pattern=f"^[{_WORD}]+$",
        max_length=200,
        extra={"expected": "a name without spaces, quotes or *, at most 200 characters"},
    ),
]
ModelPattern = Annotated[
    str,
    Meta(
        pattern=f"^[{_WORD}]*[{_WORD}*]$",
        max_length=200,
        extra={"expected": "a name without spaces or quotes, with * only at its end"},
    ),
]
TargetName = Annotated[
    str,
    Meta(
        pattern=f"^[a-z0-9_-]+/[{_WORD}]*[{_WORD}*]$",
        max_length=400,
        extra={"expected": '"upstream/its-model-name", with * only at the end'},
    ),
]
RoutePath = Annotated[
    str,
    Meta(
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        extra={"expected": 'an exact path such as "/openai/v1/chat/completions"'},
    ),
]
