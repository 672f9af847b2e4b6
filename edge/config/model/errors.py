"""Tables of error answers."""

from typing import Annotated

from msgspec import Meta, Struct

_Word = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        extra={"expected": 'a word such as "validation_error", at most 64 characters'},
    ),
]


class ErrorKindConfig(Struct, frozen=True, kw_only=True):
    """What this gateway answers in place of the table's, for one kind of error."""

    status: Annotated[
        Annotated[int, Meta(ge=400, le=599)] | None,
        Meta(
            description="HTTP status, in every dialect. Clients retry 408, 409, 429 and all from "
            "500."
        ),
    ] = None
    type: Annotated[
        _Word | None,
        Meta(description="`type` of the error, in every dialect."),
    ] = None
    code: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z0-9_.-]{0,64}$",
                extra={"expected": 'a word such as "bad_request", or "" for null'},
            ),
        ]
        | None,
        Meta(description='`code` of the error in the OpenAI dialects; "" for null.'),
    ] = None
    message: Annotated[
        Annotated[str, Meta(min_length=1, max_length=1000)] | None,
        Meta(
            description="Text of the error. It may name `{brand}` and `{retry_after}`, in seconds. "
            "Where a case has a text of its own, which names the field or the limit, that stays."
        ),
    ] = None


class ErrorsConfig(Struct, frozen=True, kw_only=True):
    """What error answers show."""

    details: Annotated[
        bool,
        Meta(
            description="Add `details` with `field` (null where none is at fault) and `issue` to "
            "each error."
        ),
    ] = False
    branded: Annotated[
        bool,
        Meta(
            description="Begin each error message with the brand, unless the message has it "
            "already."
        ),
    ] = False
    openai_members: Annotated[
        bool,
        Meta(
            description="Add `param` and `code` to errors in the Anthropic dialect, so that all "
            "errors have the members of OpenAI's."
        ),
    ] = False
    kinds: Annotated[
        dict[str, ErrorKindConfig],
        Meta(
            description="Changes of the table of errors, by kind. Log, metrics and the management "
            "API keep the table's own."
        ),
    ] = {}
