"""Pass plain JSON answers through: only `model` and `usage` of the object are read."""

from typing import Any

import msgspec

from edge.dialects.openai_chat.failures import failure_of
from edge.dialects.openai_chat.wire import NULL, usage_in
from edge.requests.known_turns import TurnMarks
from edge.untyped_json import number
from middlewares.exchange import Usage

from .disclosure import tells, undisclosed
from .events import Failed
from .lenient_json import decode_leniently, repaired_json
from .passthrough import (
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Echo,
    Fields,
    PassthroughCodec,
    Relay,
    UpstreamError,
    decode_fields,
    encode,
    rename,
)


class Answer(msgspec.Struct):
    """The members of an answer that are read."""

    model: str | None = None
    usage: msgspec.Raw = NULL
    service_tier: Any = None
    error: msgspec.Raw = NULL
    base_resp: msgspec.Raw = NULL
    object: str | None = None


_decode = msgspec.json.Decoder(Answer, float_hook=number).decode


def prepare(
    fields: Fields,
    model: str,
    stream: bool,
    *,
    family: str = "",
    marks: TurnMarks | None = None,
) -> bytes:
    """The upstream's body: the client's members unchanged, with the upstream's model."""
    return encode({**fields, "model": msgspec.Raw(encode(model))})


def relay(fields: Fields, requested_model: str, echo: Echo, *, disclose: bool = False) -> Relay:
    """Such answers are never streamed."""
    raise NotImplementedError("objects are not streamed")


def finish_body(
    body: bytes,
    requested_model: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The client's body and the usage. Raises UpstreamError if the body is no answer."""
    try:
        answer = _decode(body)
    except UNREADABLE as error:
        try:
            body = repaired_json(body)
            answer = decode_leniently(_decode, body, ())
        except UNREADABLE:
            raise UpstreamError(f"the answer is no JSON object: {error}") from None
    return finished(answer, body, requested_model, failure_of(answer, body), disclose=disclose)


def finished(
    answer: Any, body: bytes, requested_model: str, failed: Failed | None, *, disclose: bool
) -> tuple[bytes, Usage | None]:
    """The client's body and the usage, from the decoded `answer`.

    requested_model: the name that the client reads as `model`. Raises UpstreamError if `failed`.
    """
    if failed is not None:
        raise UpstreamError.by(failed)
    empty = bytes(answer.error) != b"null"
    known = int(answer.model is not None)
    if empty or (not disclose and (tells(body) or body.count(b'"model"') > known)):
        try:
            members = decode_fields(body)
            members.pop("error", None)
            if not disclose:
                members = undisclosed(members, requested_model)
            elif "model" in members:
                members["model"] = msgspec.Raw(encode(requested_model))
            body = encode(members)
        except UNREADABLE as error:
            raise UpstreamError(f"the answer cannot be read: {error}") from None
    elif answer.model is not None:
        body = rename(body, answer.model, requested_model)
    return body, usage_in(answer, only_input=True)


def output_size(body: bytes) -> int:
    """0: there is no generated text."""
    return 0


DIALECT = PassthroughCodec(
    prepare=prepare, relay=relay, finish_body=finish_body, output_size=output_size, ping=b""
)
