"""A JSON request body: its content type, and its members, whose values stay as they are."""

import msgspec

from middlewares.asgi import Scope
from middlewares.problem import Problem

from .tags import TAGS, read_tags

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

MAX_MEMBERS = 1000
"""No dialect has a hundred; a body of many members takes twenty times its size in memory."""

_READ_HEADERS = frozenset((b"content-type", b"content-encoding", TAGS))


def read_json_headers(scope: Scope) -> tuple[str, ...]:
    """The tags of a request with a JSON body, read in one pass with its content type and encoding.

    Raises Problem for a content type that is not JSON, for an encoding, and for an invalid tag.
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
    if kind is not None and kind != b"application/json":
        essence = kind.split(b";", 1)[0].strip().lower()
        if essence != b"application/json" and not essence.endswith(b"+json"):
            raise Problem(
                "unsupported_media_type",
                message="The body must be JSON: send `content-type: application/json`.",
                param="content-type",
            )
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise Problem(
            "unsupported_media_type",
            message="The body must not be compressed: leave `content-encoding` out.",
            param="content-encoding",
        )
    return read_tags(tags) if tags else ()


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
