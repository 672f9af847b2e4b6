"""One request to the dashboard: what handlers read from it, and the answers they make."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.responses import RedirectResponse, Response

from edge.management.audit import Audit
from edge.management.self_service import excess
from middlewares.asgi import Receive, Scope, header
from middlewares.auth import refusal
from middlewares.body import read_body
from middlewares.exchange import Exchange, Principal, exchange_of
from middlewares.problem import Problem, expected
from middlewares.stores.keys.base import Key, KeysWanted

from .formats import instant
from .page import Page
from .parts import DashboardParts
from .preferences import Preferences, preferences_of
from .public_url import dashboard_url
from .sessions.sessions import Sessions
from .sign_in_ways import sign_in_ways
from .templating import rendered
from .visitor import Visitor

LARGEST_FORM = 64 << 10
"""Bytes of a form."""
_IDLE = 10.0
_LONGEST_UPLOAD = 30.0
"""Seconds."""
_FIELDS = 100
_MOST_KEYS = 50
_KEY_ID = re.compile(r"[A-Za-z0-9_]{1,64}").fullmatch

HTML = "text/html; charset=utf-8"


class DashboardRequest:
    """One request.

    params: the named parts of the path. visitor: who is signed in; None on pages for anyone.
    sessions: begins and ends sessions. nav: the pages that the visitor may open, for the
        navigation. notes: messages by their code.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        parts: DashboardParts,
        *,
        params: Mapping[str, str],
        visitor: Visitor | None,
        nav: Sequence[Page] = (),
        notes: Mapping[str, str] = {},
        sessions: Sessions,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.parts = parts
        self.params = params
        self.nav = nav
        self.sessions = sessions
        self._notes = notes
        self._visitor = visitor

    # Who asks

    @property
    def visitor(self) -> Visitor:
        """The signed-in visitor. Raises RuntimeError on a page for anyone without one."""
        if self._visitor is None:
            raise RuntimeError("the page is for anyone; expected a role in its row")
        return self._visitor

    @property
    def signed_in(self) -> bool:
        """Whether there is a visitor."""
        return self._visitor is not None

    @property
    def exchange(self) -> Exchange:
        """The exchange of this request."""
        return exchange_of(self.scope)

    @property
    def client(self) -> str:
        """The address of the browser; "" where the server knows none."""
        return self.exchange.client

    @property
    def now(self) -> float:
        """Unix seconds."""
        return self.parts.clock()

    # What is asked

    @property
    def path(self) -> str:
        """The path."""
        return str(self.scope["path"])

    @property
    def method(self) -> str:
        """The method; GET for HEAD."""
        method = str(self.scope["method"])
        return "GET" if method == "HEAD" else method

    @property
    def fragment(self) -> bool:
        """Whether htmx asks, which puts the answer into the page that is shown."""
        return header(self.scope, b"hx-request") == b"true"

    @cached_property
    def query(self) -> dict[str, str]:
        """The query, of each name the last value. Raises Problem for one that cannot be read."""
        return _read_fields(self.scope["query_string"], "query")

    async def form(self, *, limit: int = LARGEST_FORM) -> dict[str, list[str]]:
        """The fields of the form in the body, of at most `limit` bytes. Raises Problem."""
        if self._form is None:
            text = await self.body(limit, b"application/x-www-form-urlencoded")
            self._form = _read_all(text, "form")
        return self._form

    _form: dict[str, list[str]] | None = None

    async def field(self, name: str, *, longest: int = 500) -> str:
        """One field of the form without spaces around it; "" if it is missing. Raises Problem."""
        value = (await self.form()).get(name, [""])[-1].strip()
        if len(value) > longest:
            raise expected(name, f"at most {longest} characters")
        return value

    async def body(self, limit: int, media_type: bytes) -> bytes:
        """The body, of at most `limit` bytes and this type. Raises Problem."""
        given = header(self.scope, b"content-type") or b""
        if given.split(b";", 1)[0].strip().lower() != media_type:
            said = f"expected a body of type {media_type.decode()}"
            raise Problem("unsupported_media_type", message=said, param="content-type")
        return await read_body(
            self.scope, self.receive, limit=limit, idle=_IDLE, longest=_LONGEST_UPLOAD
        )

    # Keys

    async def key(self, key_id: str | None = None) -> Key:
        """The key with this id, or that the query names as `key`; else the visitor's own.

        Raises Problem `not_found`, the same for keys that do not exist and for those of others.
        """
        key_id = self.query.get("key", "") if key_id is None else key_id
        if not key_id:
            choices = await self.keys()
            if not choices:
                raise Problem("not_found", message="You have no key that could be shown here.")
            return choices[0]
        key = await self.parts.keys.get(key_id) if _KEY_ID(key_id) else None
        if key is None or not self.visitor.may_see(key):
            raise Problem("not_found", message="There is no such key.")
        return key

    def may_work_with(self, key: Key) -> bool:
        """Whether the visitor may do what a key may do, and change it. Someone who signed in with
        a key works with keys of the owner that may do no more than this one."""
        own = self.visitor.key
        return own is None or own.id == key.id or not excess(key, own, self.parts.plans)

    async def key_to_work_with(self) -> Key:
        """The same as `key`, for what spends its money or changes what it has. Raises Problem
        also for a key that may do more than the one that was signed in with."""
        key = await self.key()
        if not self.may_work_with(key):
            message = "This key may do more than the one that you signed in with. Sign in with it."
            raise Problem("endpoint_not_allowed", message=message, reason="self-service")
        return key

    async def note_use(self, action: str, key: Key, **detail: str) -> None:
        """Write an audit row where an administrator works with the key of someone else. Raises
        StoreUnavailable; then nothing may be done."""
        if not self.visitor.holds(key):
            audit = Audit(self.parts.audit, self.visitor.actor, clock=self.parts.clock)
            await audit.note(action, key.id, detail)

    async def key_or_none(self) -> Key | None:
        """The same; None where neither the query nor the sign-in names a key."""
        if self.visitor.key is None and not self.query.get("key"):
            return None
        return await self.key()

    @property
    def holds_no_key(self) -> bool:
        """Whether an administrator asks who neither holds a key nor names one, and has a page of
        all keys."""
        visitor = self.visitor
        named = visitor.key is not None or visitor.owner or self.query.get("key")
        return not named and any(page.path == "/app/admin" for page in self.nav)

    async def keys(self) -> list[Key]:
        """The keys that the visitor holds: the own one, then others of the same owner that are
        active, newest first, 50 at most. None for administrators who hold no key."""
        visitor = self.visitor
        found = [] if visitor.key is None else [visitor.key]
        if visitor.owner:
            wanted = KeysWanted(owner=visitor.owner, state="active")
            page = await self.parts.keys.search(wanted, now=self.now, limit=_MOST_KEYS)
            found += [key for key in page.keys if key.id not in {one.id for one in found}]
        return found[:_MOST_KEYS]

    async def principal(self, key: Key, endpoint: str | None = None) -> Principal:
        """The principal of a key, as requests with it get it; see `InnerChain`.

        endpoint: name of the endpoint that is called, checked against those of the key.
        Raises Problem: expired, revoked, disabled, used from another network or endpoint.
        Raises StoreUnavailable.
        """
        directory = self.parts.directory
        if directory is None or not self.visitor.may_see(key):
            raise Problem("not_found", message="There is no such key.")
        grant = await directory.find(key.digest)
        if grant is None:
            raise Problem("invalid_key", reason="no such key")
        refused = refusal(grant, key.digest, self.client, endpoint, self.now)
        if refused is not None:
            raise refused
        return grant.principal

    # Answers

    @property
    def base_url(self) -> str | None:
        """URL of the dashboard, such as "https://llm.example.com"; None if unknown."""
        return dashboard_url(self.scope, self.parts.settings)

    @cached_property
    def preferences(self) -> Preferences:
        """Theme and zone that the browser wants."""
        return preferences_of(self.scope)

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page or a fragment. Templates know `brand`, `ways` to sign in, `visitor`, `nav`,
        `path`, `now`, `note`, `preferences`, `key_id` and `values`."""
        common = {
            "brand": self.parts.settings.brand,
            "ways": sign_in_ways(self.parts, self.sessions, self.scope),
            "visitor": self._visitor,
            "nav": self.nav,
            "path": self.path,
            "now": self.now,
            "now_text": instant(self.now),
            "note": self._notes.get(self._query_or_nothing("note")),
            "preferences": self.preferences,
            "key_id": self._query_or_nothing("key"),
        }
        return Response(rendered(template, {**common, **values}), status, media_type=HTML)

    def _query_or_nothing(self, name: str) -> str:
        try:
            return self.query.get(name, "")
        except Problem:
            return ""

    def redirect(self, path: str, *, note: str = "", **query: str) -> Response:
        """Go on to a page of ours, by GET. note: code of a message that the page then shows, from
        `NOTES` of its module. Raises ValueError for a path of others."""
        if path != "/app" and not path.startswith(("/app/", "/app?")):
            raise ValueError(f"path {path!r}: expected one below /app")
        given = {**query, **({"note": note} if note else {})}
        if note and note not in self._notes:
            raise ValueError(f"note {note!r}: expected one of {', '.join(self._notes)}")
        if given:
            path += ("&" if "?" in path else "?") + urlencode(given, quote_via=quote)
        if self.fragment:
            return Response(status_code=200, headers={"hx-redirect": path})
        return RedirectResponse(path, 303)


def _read_all(text: bytes, what: str) -> dict[str, list[str]]:
    try:
        return parse_qs(
            text.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict"
        )
    except ValueError:
        raise Problem("invalid_request", message=f"The {what} cannot be read.") from None


def _read_fields(text: bytes, what: str) -> dict[str, str]:
    return {name: values[-1] for name, values in _read_all(text, what).items()}
