"""The check of a body whose parts may name files of the caller by their ids."""

from collections.abc import Mapping

import msgspec

from edge.endpoints import Endpoint
from edge.media.parts import find_media, replace_media
from edge.requests.content_names import check_contents
from middlewares.problem import Problem

MOST_FILES = 100
"""Parts of one request that name files, and links that are fetched for one attempt."""
_RESOLVED = msgspec.Raw(b'{"type":"text","text":""}')
"""Stands for a part while the rest of a body is checked."""
_CONTAINER = "container_upload"
"""A part that puts a file into a container of the vendor, as only its own files can be."""

_JOB_IMAGES = frozenset(("image", "last_image", "reference_images", "input_reference"))
"""Members of a job that hold images; `edge.api.jobs` reads them."""


def too_many(param: str) -> Problem:
    """The refusal of more files or links than one request may have."""
    issue = f"expected at most {MOST_FILES} files and links to be read in one request"
    message = f"There are too many files at `{param}`: {issue}."
    return Problem("invalid_request", message=message, param=param, issue=issue)


def check_with_files(
    row: Endpoint, fields: dict[str, msgspec.Raw], common: Mapping[str, bool] = {}
) -> bool:
    """See `check_contents`. Conversations that are forwarded may have ids in their media parts:
    each attempt resolves those (`edge.proxy.attachments`), and a count asks no upstream about them
    (`edge.api.count_tokens`). Jobs may have them in their images.
    Every other id is refused."""
    try:
        return check_contents(fields, common=common)
    except Problem as problem:
        named = (problem.param or "").endswith("file_id")
        if named and row.handler == "jobs":
            return check_contents({name: fields[name] for name in fields.keys() - _JOB_IMAGES})
        if not named or row.handler not in ("forward", "count") or not row.conversation:
            raise
    parts = [
        part
        for part in find_media(fields)
        if part.param.endswith("file_id") and part.form != _CONTAINER
    ]
    if len(parts) > MOST_FILES:
        raise too_many(parts[MOST_FILES].param)
    check_contents(replace_media(fields, dict.fromkeys(parts, _RESOLVED)))
    return check_contents(fields, files=True)
