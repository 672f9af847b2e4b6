"""Pass OpenAI Chat Completions through.

Streams pass through `chat_relay`.

Usage is always requested from the upstream. If the client did not request it, `usage: null` members
are cut out, the closing chunk that only carries usage is dropped, and usage is removed from chunks
with choices.
"""

from functools import lru_cache

import msgspec

from edge.dialects.disclosure import tells
from edge.dialects.errors import failed_by, says_error
from edge.dialects.output_size import size_of_events
from edge.dialects.passthrough import (
    KEEP_ALIVE,
    NO_ECHO,
    NO_FIELDS,
    UNREADABLE,
    Echo,
    Fields,
    PassthroughCodec,
    UpstreamError,
    decode_fields,
    encode,
    rename,
)
from edge.dialects.stop_reasons import stop_of
from edge.requests.known_turns import TurnMarks
from edge.vendors.openai_models import is_openai
from middlewares.exchange import Usage
from middlewares.problem import invalid_value

from .answer_members import (
    NAMED,
    NO_OPTIONS,
    Answer,
    Choice,
    decode_answer,
    decode_options,
    decode_repaired,
    interruption,
    is_filled,
)
from .chat_relay import ChatRelay
from .editing import OWN, ChatEditor, asks_for_several, is_odd
from .failures import failure_of
from .model_families import refuses_unknown
from .read_answer import read
from .signatures import without_packed_thinking, without_thinking
from .standard_answer import finish_standard
from .wire import NULL, usage_in

_MARKED, _UNMARKED = b'"system_fingerprint":', b'"system_fingerprint":null'
_TRUE = msgspec.Raw(b"true")


def prepare(
    fields: Fields,
    model: str,
    stream: bool,
    *,
    family: str = "",
    marks: TurnMarks | None = None,
) -> bytes:
    """The upstream's body: the client's members, the upstream's model, and usage requested.

    Packed thinking is removed; so is plain-text thinking, for models that refuse the member
    (`signatures`). Raises Problem for invalid `stream_options`.
    """
    out = {**fields, "model": msgspec.Raw(encode(model))}
    if "messages" in out:
        out["messages"] = without_packed_thinking(out["messages"], marks)
        if _refuses_thinking(family or model):
            out["messages"] = without_thinking(out["messages"], marks)
    if stream:
        options = fields.get("stream_options", NO_OPTIONS)
        try:
            requested_model = decode_fields(options) if decode_options(options) is not None else {}
        except UNREADABLE:
            why = "expected an object in which `include_usage` is true or false"
            raise invalid_value("stream_options", why) from None
        out["stream_options"] = msgspec.Raw(encode({**requested_model, "include_usage": _TRUE}))
    return encode(out)


@lru_cache(1024)
def _refuses_thinking(model: str) -> bool:
    """Whether the server of `model` refuses plain-text thinking in a history."""
    return is_openai(model) or refuses_unknown(model)


def finish_body(
    body: bytes,
    requested_model: str,
    echo: Echo = NO_ECHO,
    *,
    fields: Fields = NO_FIELDS,
    disclose: bool = False,
) -> tuple[bytes, Usage | None]:
    """The client's body and the usage of an unstreamed answer. Raises UpstreamError.

    fields: of the request. disclose: the answer may name its vendor.
    """
    standard = None if disclose else finish_standard(body, requested_model)
    if standard is not None:
        return standard
    try:
        answer = decode_answer(body)
    except UNREADABLE as error:
        answer, body = decode_repaired(body, f"the answer is not a chat completion: {error}")
    changed = not _is_ordinary(answer) and _changes(answer, body)
    mark = bytes(answer.system_fingerprint)
    if not disclose and mark != b"null":  # the usual case
        body = body.replace(_MARKED + mark, _UNMARKED)
    drop = () if answer.error is NULL or bytes(answer.error) == b"null" else ("error",)
    known = int(answer.model is not None)
    named = not disclose and (body.count(NAMED) > known or tells(body, bytes(answer.usage)))
    if changed or drop or named:
        editor = ChatEditor(
            "message", requested_model, several=asks_for_several(fields), disclose=disclose
        )
        try:
            body = editor.edit(body, choices=changed, drop=drop)
        except UNREADABLE as error:
            raise UpstreamError(f"the answer is not a chat completion: {error}") from None
    elif answer.model is not None:
        body = rename(body, answer.model, requested_model)
    return body, usage_in(answer)


def _is_ordinary(answer: Answer) -> bool:
    """Whether a body holds the one requested answer and nothing else."""
    choices = answer.choices
    if choices is None or len(choices) != 1 or answer.error is not NULL:
        return False
    choice = choices[0]
    return (
        choice.finish_reason in OWN
        and choice.error is NULL
        and not choice.index
        and bytes(choice.message).startswith(b"{")
        and answer.base_resp is NULL
        and answer.object != "error"
    )


def _changes(answer: Answer, body: bytes) -> bool:
    """Whether the choices of a body that is not ordinary need editing.

    Raises UpstreamError if the body is no answer.
    """
    failed = failure_of(answer, body)
    if failed is not None:
        raise UpstreamError.by(failed)
    choices = answer.choices or []
    odd = [choice for choice in choices if not _is_plain(choice)]
    if len(odd) == len(choices) and not any(map(_answers, odd)):
        raise UpstreamError.by(failed_by(body))
    for choice in odd:
        if says_error(choice.error) or stop_of(choice.finish_reason) == "failed":
            raise UpstreamError.by(interruption(choice))
    several = len(choices) > 1 or bool(choices[0].index)
    return several or any(is_odd(choice.finish_reason) for choice in odd)


def _is_plain(choice: Choice) -> bool:
    """Whether `choice` is an answer with one of the dialect's own finish reasons."""
    return (
        choice.finish_reason in OWN
        and choice.error is NULL
        and bytes(choice.message).startswith(b"{")
    )


def _answers(choice: Choice) -> bool:
    """Whether `choice` holds an answer; an empty one counts if it has a finish reason."""
    if says_error(choice.error):
        return True  # distinguished below
    message = bytes(choice.message)
    if not message.startswith(b"{") and choice.text is None:
        return False
    if stop_of(choice.finish_reason) is not None:
        return True
    return bool(choice.text) or is_filled(decode_fields(message))


class _Choices(msgspec.Struct):
    choices: list[dict[str, msgspec.Raw]] = []


_decode_choices = msgspec.json.Decoder(_Choices).decode


def output_size(body: bytes) -> int:
    """Bytes of generated text in all choices of an unstreamed answer."""
    try:
        choices = _decode_choices(body).choices
    except UNREADABLE:
        return 0
    total = 0
    for choice in choices:
        choice.pop("index", None)
        total += size_of_events(read(encode({"choices": [choice]})))
    return total


DIALECT = PassthroughCodec(
    prepare=prepare,
    relay=ChatRelay,
    finish_body=finish_body,
    output_size=output_size,
    ping=KEEP_ALIVE,
)
