"""Multipart requests for the tests of the simulator."""

from collections.abc import Iterable, Mapping
from typing import Any

from edge.upstreams import Request

BOUNDARY = b"----a-boundary-of-the-tests"

FormFile = tuple[str, str, str | None, bytes]
"""Name of the part, filename, content type, content."""


def form(target: bytes, fields: Mapping[str, Any], files: Iterable[FormFile]) -> Request:
    """A POST of a form: fields first, a list as several parts of one name."""
    parts = []
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            head = f'content-disposition: form-data; name="{name}"\r\n\r\n'
            parts.append(head.encode() + str(each).encode())
    for name, filename, kind, data in files:
        head = f'content-disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        head += f"content-type: {kind}\r\n\r\n" if kind else "\r\n"
        parts.append(head.encode() + data)
    body = b"".join(b"--%s\r\n%s\r\n" % (BOUNDARY, part) for part in parts)
    kind_header = (b"content-type", b"multipart/form-data; boundary=" + BOUNDARY)
    return Request(b"POST", target, (kind_header,), body + b"--%s--\r\n" % BOUNDARY)
