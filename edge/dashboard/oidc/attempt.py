"""One attempt to sign in: what the browser keeps, sealed in a cookie, until it comes back.

Nothing is stored for people who are not signed in. A state is used once: the cookie goes at the
callback, and the provider takes a code once.
"""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from secrets import token_urlsafe

import msgspec

from edge.dialects.sealing import Seal

SECURE = "__Host-penstock-oidc"
PLAIN = "penstock-oidc"
"""Names of the cookie, as of the session's."""
LIFETIME = 600
"""Seconds from the start to the callback."""
LONGEST_COOKIE = 4000
_PURPOSE = "oidc sign-in"


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """state, nonce, verifier: random texts. next: path to go on to. until: Unix seconds."""

    state: str
    nonce: str
    verifier: str
    next: str
    until: float

    @classmethod
    def begin(cls, next_: str, now: float) -> "Attempt":
        """A new attempt."""
        return cls(token_urlsafe(32), token_urlsafe(32), token_urlsafe(48), next_, now + LIFETIME)

    @property
    def challenge(self) -> str:
        """The verifier as PKCE sends it (RFC 7636, S256)."""
        return urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def has_state(self, state: str) -> bool:
        """Whether the callback answers this attempt."""
        return hmac.compare_digest(self.state.encode(), state.encode("utf-8", "replace"))


_decode = msgspec.json.Decoder(Attempt).decode


def sealed(attempt: Attempt, seal: Seal, issuer: str) -> str:
    """The value of the cookie, for one issuer."""
    return seal.seal(_PURPOSE, issuer, msgspec.json.encode(attempt))


def opened(value: str, seal: Seal, issuer: str, now: float) -> Attempt | None:
    """The attempt in a cookie; None if it is over or not ours."""
    if len(value) > LONGEST_COOKIE:
        return None
    payload = seal.open(_PURPOSE, issuer, value)
    if payload is None:
        return None
    attempt = _decode(payload)
    return attempt if now < attempt.until else None


def attempt_cookie(value: str, *, secure: bool) -> str:
    """The `set-cookie` header; an empty value removes the cookie."""
    name = f"{SECURE}={value}; Secure" if secure else f"{PLAIN}={value}"
    return f"{name}; HttpOnly; SameSite=Lax; Path=/; Max-Age={LIFETIME if value else 0}"
