"""Sessions: open one, find the visitor of a request, end one."""

from hashlib import sha256
from urllib.parse import quote

import structlog

from edge.dashboard.oidc.identity import Identity, rules_digest
from edge.dashboard.parts import DashboardParts
from edge.dashboard.public_url import dashboard_url, is_secure
from edge.dashboard.visitor import Visitor
from edge.routing.router import allowed_from, from_unknown_proxy
from middlewares.asgi import Scope, header
from middlewares.auth import refusal
from middlewares.exchange import exchange_of
from middlewares.problem import Problem
from middlewares.stores.keys.base import LONGEST_SECRET
from middlewares.stores.keys.base import digest as digest_of
from middlewares.stores.keys.known_grants import Grant
from middlewares.stores.sessions.base import LONGEST, SEEN_EVERY, How, Role, Session, new_id

from .cookies import PLAIN, SECURE, cookie, session_cookie
from .passwords import PASSWORDS
from .throttle import give_back, take_attempt

_log = structlog.get_logger()

_LONGEST_ID = 64
_LONGEST_AGENT = 200


class Sessions:
    """The sessions of one configuration. Methods raise StoreUnavailable."""

    def __init__(self, parts: DashboardParts) -> None:
        self._parts = parts
        self._settings = parts.settings

    # Where people may sign in

    def fault(self, scope: Scope) -> str:
        """Why no session can be kept at this address, for people; "" where it can."""
        if self._secure(scope) or self._settings.dashboard.insecure_http:
            return ""
        return (
            "No one can sign in at this address: it is neither https nor localhost, or the "
            "gateway does not know it. The operator sets dashboard.public_url to an https URL; "
            "dashboard.insecure_http allows plain http."
        )

    def admin_allowed(self, scope: Scope) -> bool:
        """Whether an administrator may work from the address of this request."""
        trusted = self._settings.server.trusted_proxies
        networks = self._settings.dashboard.admin_networks
        client = exchange_of(scope).client
        return allowed_from(client, networks) and not from_unknown_proxy(scope, trusted)

    def _secure(self, scope: Scope) -> bool:
        return is_secure(dashboard_url(scope, self._settings))

    # The visitor of a request

    async def visitor(self, scope: Scope) -> Visitor | None:
        """Who sends the request; None without a session that is still good. One that is not is
        deleted."""
        digest = self._digest(scope)
        session = None if digest is None else await self._parts.sessions.find(digest)
        if session is None:
            return None
        now = self._parts.clock()
        grant = None
        if session.ended(now):
            good = False
        elif session.how == "key":
            grant = await self._grant(session.bound_to)
            good = grant is not None and grant.key.id == session.subject and grant.until > now
        else:
            good = session.bound_to == self._bound_now(session.how)
        if not good:
            await self._parts.sessions.delete(session.digest)
            return None
        if session.role == "admin" and not self.admin_allowed(scope):
            return None
        client = exchange_of(scope).client
        if grant is not None and refusal(grant, session.bound_to, client, None, now) is not None:
            return None  # from an address that the key may not be used from
        if now - session.seen_at >= SEEN_EVERY:
            await self._parts.sessions.seen(session.digest, now)
        return self._visitor_of(session, grant)

    def _visitor_of(self, session: Session, grant: Grant | None) -> Visitor:
        if grant is None:
            return Visitor(session, owner=session.owner)
        owner = grant.key.owner if self._settings.dashboard.self_service else ""
        return Visitor(session, grant.key, owner)

    def _digest(self, scope: Scope) -> bytes | None:
        value = cookie(scope, SECURE)
        if value is None and self._settings.dashboard.insecure_http:
            value = cookie(scope, PLAIN)
        if not value or len(value) > _LONGEST_ID:
            return None
        return sha256(value.encode()).digest()

    async def _grant(self, digest: bytes) -> Grant | None:
        """The grant of a key's current secret. One that was replaced opens no session."""
        directory = self._parts.directory
        grant = None if directory is None else await directory.find(digest)
        return grant if grant is not None and grant.key.digest == digest else None

    def _bound_now(self, how: How) -> bytes | None:
        """What sessions of a password or of OIDC are bound to now; None if there is no such way to
        sign in."""
        oidc = self._settings.dashboard.oidc
        if how == "oidc":
            return None if oidc is None else rules_digest(oidc)
        return self._password_digest() if how == "password" else None

    def _password_digest(self) -> bytes:
        hashed = self._settings.dashboard.admin_password
        return b"" if hashed is None else sha256(hashed.reveal().encode()).digest()

    # Begin

    async def with_key(self, scope: Scope, secret: str) -> str | None:
        """Sign in by API key. Returns the `set-cookie` header of the new session; None whatever is
        wrong with the key. Raises Problem after too many attempts, CountersUnavailable."""
        await self._attempt(scope, "key")
        grant = await self._grant_from(scope, secret)
        if grant is None:
            self._noted(scope, "key", "wrong")
            return None
        key = grant.key
        self._right(scope, "key", key.id)
        return await self.open(scope, "key", "holder", key.id, bound_to=key.digest)

    async def with_password(self, scope: Scope, password: str) -> str | None:
        """Sign in by the administrators' password, in the same way. Raises Problem `not_found`
        where there is none, or not for this address; such attempts are not counted."""
        hashed = self._settings.dashboard.admin_password
        if hashed is None or not self.admin_allowed(scope):
            raise Problem("not_found", reason="no password of administrators here")
        await self._attempt(scope, "password")
        if not await PASSWORDS.matches(hashed.reveal(), password):
            self._noted(scope, "password", "wrong")
            return None
        self._right(scope, "password", "admin")
        return await self.open(
            scope,
            "password",
            "admin",
            "admin",
            bound_to=self._password_digest(),
            name="Administrator",
        )

    async def begin_identity(self, scope: Scope) -> None:
        """Count an attempt to sign in by OpenID Connect, before the provider is asked. Raises
        Problem after too many attempts, CountersUnavailable."""
        await self._attempt(scope, "oidc")

    def identity_refused(self, scope: Scope) -> None:
        """Note that the provider, or a rule of ours, refused it."""
        self._noted(scope, "oidc", "wrong")

    async def with_identity(self, scope: Scope, identity: Identity, rules: bytes) -> str:
        """Sign in someone whom the provider names. rules: digest of those by which the role and
        the owner were found. Administrators elsewhere than they may work from are holders."""
        self._right(scope, "oidc", identity.subject)
        admin = identity.role == "admin" and self.admin_allowed(scope)
        return await self.open(
            scope,
            "oidc",
            "admin" if admin else "holder",
            identity.subject,
            bound_to=rules,
            owner=identity.owner,
            name=identity.name,
        )

    async def _attempt(self, scope: Scope, how: How) -> None:
        client = exchange_of(scope).client
        try:
            await take_attempt(self._parts.counters, how, client, self._parts.clock())
        except Problem:
            self._noted(scope, how, "throttled")
            raise

    def _right(self, scope: Scope, how: How, subject: str) -> None:
        client = exchange_of(scope).client
        give_back(self._parts.counters, how, client, self._parts.clock())
        self._noted(scope, how, "ok", subject)

    def _noted(self, scope: Scope, how: How, result: str, subject: str = "") -> None:
        """Count and log an attempt. subject: who signed in."""
        self._parts.metrics.sign_ins.labels(how, result).inc()
        exchange = exchange_of(scope)
        fields = {"subject": subject} if subject else {}
        say = _log.info if result == "ok" else _log.warning
        say(
            "sign-in",
            how=how,
            result=result,
            client=exchange.client,
            request_id=exchange.request_id,
            **fields,
        )

    async def _grant_from(self, scope: Scope, secret: str) -> Grant | None:
        if not secret.isascii() or not 0 < len(secret) <= LONGEST_SECRET:
            return None
        digest = digest_of(secret)
        grant = await self._grant(digest)
        if grant is None:
            return None
        client, now = exchange_of(scope).client, self._parts.clock()
        return None if refusal(grant, digest, client, None, now) is not None else grant

    async def open(
        self,
        scope: Scope,
        how: How,
        role: Role,
        subject: str,
        *,
        bound_to: bytes = b"",
        owner: str = "",
        name: str = "",
    ) -> str:
        """Open a session under a new id, and end the one that the browser had. Returns the
        `set-cookie` header."""
        await self.close(scope)
        value, now = new_id(), self._parts.clock()
        agent = (header(scope, b"user-agent") or b"").decode("latin-1")
        session = Session(
            digest=sha256(value.encode()).digest(),
            how=how,
            role=role,
            subject=subject,
            bound_to=bound_to,
            owner=owner,
            name=name,
            address=exchange_of(scope).client,
            agent="".join(c for c in agent if c.isprintable())[:_LONGEST_AGENT],
            created_at=now,
            seen_at=now,
            expires_at=now + LONGEST[role],
        )
        await self._parts.sessions.insert(session)
        return session_cookie(value, secure=self._secure(scope))

    # End

    async def close(self, scope: Scope) -> str:
        """Delete the session of a request; returns the `set-cookie` header that removes it."""
        digest = self._digest(scope)
        if digest is not None:
            await self._parts.sessions.delete(digest)
        return session_cookie("", secure=self._secure(scope))

    async def close_all(self, visitor: Visitor) -> int:
        """Delete all sessions of a visitor. Returns their number."""
        session = visitor.session
        return await self._parts.sessions.delete_of(session.how, session.subject)


def sign_in_path(asked: str) -> str:
    """The path of the sign-in page that goes on to `asked`."""
    return "/app/sign-in" if asked == "/app" else f"/app/sign-in?next={quote(asked, safe='')}"
