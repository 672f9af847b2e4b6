"""A JSON request body: its content type, and its members, whose values stay as they are."""

import msgspec

from middlewares.asgi import Scope, header
from middlewares.problem import Problem

from .tags import TAGS, read_tags

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

MAX_MEMBERS = 1000
"""No dialect has a hundred; a body of many members takes twenty times its size in memory."""

_READ_HEADERS = frozenset((b"content-type", b"content-encoding", TAGS))


def read_json_headers(scope: Scope) -> tuple[str, ...]:
    """The tags of a request with a JSON body, read in one pass with its content type and encoding.

    Raises Problem for a content type that is not JSON or is missing, for an encoding, and for an
    invalid tag. A browser lets a web page send a body without a content type to another origin
    without asking there first; so a missing one is not taken for JSON.
    """
    kind = encoding = None
    tags: list[bytes] = []
    for name, value in scope["headers"]:
        if name not in _READ_HEADERS:
            continue
        if name == b"content-type":
            kind = value if kind is None else kind
        elif name == TAGS:
            tags.append(value)
        else:
            encoding = value if encoding is None else encoding
    if kind != b"application/json":
        _check_kind(kind)
    if encoding is not None:
        _check_encoding(encoding)
    return read_tags(tags) if tags else ()


def check_json_headers(scope: Scope, body: bytes) -> None:
    """Check the content type and the encoding of `body`, which may be empty. Raises Problem."""
    kind, encoding = header(scope, b"content-type"), header(scope, b"content-encoding")
    if body or kind is not None:
        _check_kind(kind)
    if encoding is not None:
        _check_encoding(encoding)


def _check_kind(kind: bytes | None) -> None:
    essence = (kind or b"").split(b";", 1)[0].strip().lower()
    if essence != b"application/json" and not essence.endswith(b"+json"):
        raise Problem(
            "unsupported_media_type",
            message="The body must be JSON: send `content-type: application/json`.",
            param="content-type",
            issue="expected application/json",
        )


def _check_encoding(encoding: bytes) -> None:
    if encoding.strip().lower() not in (b"", b"identity"):
        raise Problem(
            "unsupported_media_type",
            message="The body must not be compressed: leave `content-encoding` out.",
            param="content-encoding",
            issue="expected to be left out",
        )


def members_of(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object. Raises Problem."""
    try:
        fields = _decode(body)
        if len(fields) <= MAX_MEMBERS:
            return fields
        message = f"The body has more than {MAX_MEMBERS} members."
    except msgspec.ValidationError:
        message = "The body must be a JSON object."
    except RecursionError:
        message = "The body is nested too deeply."
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"The body is not valid JSON: {error}."
    raise Problem("invalid_request", message=message)
