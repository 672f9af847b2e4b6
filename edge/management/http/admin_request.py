"""Requests to the management API, read strictly: body, query and page."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from edge.billing.period import PeriodRefused, read_moment
from edge.config.fields import fields_of
from edge.management.fields import looks_secret
from middlewares.asgi import Receive, Scope, header
from middlewares.body import read_body
from middlewares.problem import Problem, expected

T = TypeVar("T", bound=msgspec.Struct)

LARGEST = 1 << 20
_IDLE = 10.0
_LONGEST_UPLOAD = 60.0
"""Seconds."""
_USUAL = 100
_MOST = 500
_LONGEST = 300
_TIME = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,2})?")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
_MISSING = re.compile(r"Object missing required field `(.*?)`")
_PLACE = re.compile(r" - at `\$\.?(.*)`$")


class AdminRequest:
    """One request. Anything unknown or invalid in it raises a Problem that names it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive

    @property
    def id(self) -> str:
        """The id in the path."""
        return str(self._scope["path_params"]["id"])

    async def body(self, kind: type[T]) -> T:
        """The body as a `kind`. No body counts as an empty object."""
        media = header(self._scope, b"content-type")
        if media is not None and media.split(b";", 1)[0].strip().lower() != b"application/json":
            raise Problem(
                "unsupported_media_type",
                message="The body must be JSON: send `content-type: application/json`.",
                param="content-type",
            )
        text = await read_body(
            self._scope, self._receive, limit=LARGEST, idle=_IDLE, longest=_LONGEST_UPLOAD
        )
        try:
            return msgspec.json.decode(text or b"{}", type=kind)
        except msgspec.ValidationError as raised:
            raise _problem_of(str(raised), kind) from None
        except RecursionError:
            said = "The body is nested too deeply."
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = "The body is not valid JSON."
        raise Problem("invalid_request", message=said)

    def asks(self, name: str) -> bool:
        """Whether the query has this parameter."""
        text = self._scope["query_string"].decode("latin-1")
        return any(part.partition("=")[0] == name for part in text.split("&"))

    def query(self, *known: str) -> dict[str, list[str]]:
        """The query. Only `known` parameters are allowed, each once."""
        text = self._scope["query_string"].decode("latin-1")
        try:
            query = parse_qs(text, keep_blank_values=True, max_num_fields=50, errors="strict")
        except ValueError:
            raise Problem("invalid_request", message="The query cannot be read.") from None
        for name, values in query.items():
            if name not in known:
                said = f"Unknown parameter `{name[:60]}`; known here: {', '.join(known) or 'none'}."
                raise Problem("invalid_request", message=said, param=name[:60])
            if len(values) > 1:
                raise expected(name, "one value")
        return query


def limit_of(query: dict[str, list[str]]) -> int:
    """Most rows of the page."""
    text = query.get("limit", [str(_USUAL)])[0]
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= _MOST:
        raise expected("limit", f"a number from 1 to {_MOST}")
    return int(text)


def text_of(query: dict[str, list[str]], name: str, among: Collection[str] = ()) -> str | None:
    """A parameter as text; None when it is not given."""
    if name not in query:
        return None
    text = query[name][0]
    if among and text not in among:
        raise expected(name, " or ".join(among))
    if not text or len(text) > _LONGEST or not text.isprintable() or looks_secret(text):
        raise expected(name, f"1 to {_LONGEST} printable characters")
    return text


def moment_of(query: dict[str, list[str]], name: str, *, end: bool = False) -> float | None:
    """A moment as Unix seconds; None when it is not given. See `read_moment`."""
    if name not in query:
        return None
    try:
        return read_moment(name, query[name][0], end=end)
    except PeriodRefused as raised:
        raise expected(raised.field, raised.expected) from None


def place_of(query: dict[str, list[str]]) -> tuple[float, str] | None:
    """The place in the ledger after which the page begins, as `cursor` wrote it."""
    text = text_of(query, "after")
    if text is None:
        return None
    try:
        at, found, row = urlsafe_b64decode(text.encode()).decode().partition("_")
        if found and row.isprintable() and _TIME.fullmatch(at):
            return float(at), row
    except ValueError:
        pass
    raise expected("after", "the `next` of a page")


def cursor(at: float, row: str) -> str:
    """The place in the ledger after which the next page begins."""
    return urlsafe_b64encode(f"{at!r}_{row}".encode()).decode()


def _problem_of(text: str, kind: type[msgspec.Struct]) -> Problem:
    """The Problem for what msgspec says is wrong with a body."""
    place = _PLACE.search(text)
    path = place[1] if place else ""
    text = _PLACE.sub("", text)
    if unknown := _UNKNOWN.search(text):
        name, known = unknown[1][:60], ", ".join(kind.__struct_fields__) or "none"
        return Problem(
            "invalid_request",
            message=f"Unknown member `{name}`; known here: {known}.",
            param=name,
            issue=f"expected one of: {known}",
        )
    if missing := _MISSING.search(text):
        return expected(missing[1], "a value; it is missing")
    if not path:
        return Problem("invalid_request", message="The body must be a JSON object.")
    if "enum value" in text:
        return expected(path, " or ".join(fields_of(kind)[path].kind.choices))
    what = text.partition(", got ")[0].replace("`", "").replace(" | ", " or ")
    return expected(path, what.removeprefix("Expected "))


def page(rows: list[Any], limit: int, following: str | None) -> dict[str, Any]:
    """A page of at most `limit` rows. following: the `after` of the next page."""
    return {"object": "list", "data": rows[:limit], "next": following}
