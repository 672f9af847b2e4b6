"""Tags of a request: the words in `x-request-tags` by which its caller groups spend."""

import re
from collections.abc import Iterable

from middlewares.asgi import Scope
from middlewares.problem import expected

TAGS = b"x-request-tags"
MAX_TAGS = 8
LONGEST_TAG = 64
_TAG = re.compile(rf"[A-Za-z0-9_.:/-]{{1,{LONGEST_TAG}}}")


def read_tags(values: Iterable[bytes]) -> tuple[str, ...]:
    """The tags in the values of these headers, each once, in order. Raises Problem."""
    tags: dict[str, None] = {}
    for value in values:
        for word in value.decode("latin-1").split(","):
            tag = word.strip(" \t")
            if not tag:  # empty elements of a list mean nothing (RFC 9110, 5.6.1)
                continue
            if not _TAG.fullmatch(tag):
                raise expected(
                    TAGS.decode(),
                    f"tags of 1 to {LONGEST_TAG} letters, digits or any of _ . : / -,"
                    " with commas between them",
                )
            tags[tag] = None
    if len(tags) > MAX_TAGS:
        raise expected(TAGS.decode(), f"at most {MAX_TAGS} tags")
    return tuple(tags)


def tags_of(scope: Scope) -> tuple[str, ...]:
    """The tags of a request. Raises Problem."""
    return read_tags([value for name, value in scope["headers"] if name == TAGS])
