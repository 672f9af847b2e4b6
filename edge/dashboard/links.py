"""Links to a page with other values in its query."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode


def link(path: str, query: Mapping[str, str], **changes: str | None) -> str:
    """`path` with `query` changed. A value that is None or "" is left out, in `query` too."""
    values = {name: value for name, value in {**query, **changes}.items() if value}
    return f"{path}?{urlencode(values, quote_via=quote)}" if values else path
