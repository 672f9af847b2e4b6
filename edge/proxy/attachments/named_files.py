"""The check of a body whose parts may name files of the caller by their ids."""

import msgspec

from edge.endpoints import Endpoint
from edge.media.parts import find_media, replace_media
from edge.requests.content_names import check_contents
from middlewares.problem import Problem

_RESOLVED = msgspec.Raw(b'{"type":"text","text":""}')
"""Stands for a part while the rest of a body is checked."""
_CONTAINER = "container_upload"
"""A part that puts a file into a container of the vendor, as only its own files can be."""

_JOB_IMAGES = frozenset(("image", "last_image", "reference_images", "input_reference"))
"""Members of a job that hold images; `edge.api.jobs` reads them."""


def check_with_files(row: Endpoint, fields: dict[str, msgspec.Raw]) -> bool:
    """See `check_contents`. Conversations that are forwarded may have ids in their media parts:
    each attempt resolves those (`edge.proxy.attachments`). Jobs may have them in their images.
    Every other id is refused."""
    try:
        return check_contents(fields)
    except Problem as problem:
        named = (problem.param or "").endswith("file_id")
        if named and row.handler == "jobs":
            return check_contents({name: fields[name] for name in fields.keys() - _JOB_IMAGES})
        if not named or row.handler != "forward" or not row.conversation:
            raise
    parts = [
        part
        for part in find_media(fields)
        if part.param.endswith("file_id") and part.form != _CONTAINER
    ]
    check_contents(replace_media(fields, dict.fromkeys(parts, _RESOLVED)))
    return check_contents(fields, files=True)
