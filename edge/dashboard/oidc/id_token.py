"""Verification of ID tokens (OpenID Connect Core 1.0, 3.1.3.7)."""

import asyncio
import hmac
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import msgspec

from .provider import IdentityProvider

LEEWAY = 60.0
"""Seconds by which clocks may differ."""
OLDEST = 600.0
"""Seconds since a token was issued; it is fetched at once."""
LONGEST = 64 << 10
_LONGEST_SUBJECT = 255

_TYPES = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
"""Key type by algorithm. All are signatures by a private key: none, and no HS*, for which anyone
who has the public key could sign."""


class TokenRefused(Exception):
    """An ID token that proves nothing. The message is for the log."""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None


_decode_header = msgspec.json.Decoder(_Header).decode


async def verified(
    token: str, provider: IdentityProvider, *, nonce: str, now: float
) -> Mapping[str, Any]:
    """The claims of an ID token. now: Unix seconds.

    Raises TokenRefused, and ProviderUnavailable if the keys cannot be fetched.
    """
    header = _header(token)
    key_type = _TYPES.get(header.alg)
    if key_type is None:
        raise TokenRefused(f"algorithm {header.alg[:20]!r}")

    def fits(key: Mapping[str, Any]) -> bool:
        return (
            key.get("kty") == key_type
            and key.get("use", "sig") == "sig"
            and key.get("alg", header.alg) == header.alg
            and (header.kid is None or key.get("kid") == header.kid)
        )

    keys = await provider.keys(fits)
    if len(keys) != 1:
        raise TokenRefused(f"{len(keys)} keys of the provider fit")
    # It takes long to load, and most gateways never need it.
    signatures = await asyncio.to_thread(import_module, f"{__package__}.signatures")
    try:
        claims: Mapping[str, Any] = signatures.claims_of(token, keys[0], header.alg)
    except ValueError as error:
        raise TokenRefused(f"signature: {error}") from None
    _check(claims, provider, nonce, now)
    return claims


def _header(token: str) -> _Header:
    parts = token.split(".")
    if len(token) > LONGEST or len(parts) != 3 or not token.isascii():
        raise TokenRefused("not a signed token")
    try:
        text = urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4))
        return _decode_header(text)
    except (msgspec.DecodeError, ValueError):
        raise TokenRefused("its header cannot be read") from None


def _check(claims: Mapping[str, Any], provider: IdentityProvider, nonce: str, now: float) -> None:
    """Raises TokenRefused."""
    config = provider.config
    if claims.get("iss") != config.issuer:
        raise TokenRefused("iss")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if config.client_id not in audiences:
        raise TokenRefused("aud")
    if claims.get("azp", config.client_id) != config.client_id:
        raise TokenRefused("azp")
    if len(audiences) > 1 and "azp" not in claims:
        raise TokenRefused("several audiences, and no azp")
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if now >= expires + LEEWAY:
        raise TokenRefused("exp: it has expired")
    if not now - OLDEST - LEEWAY <= issued <= now + LEEWAY:
        raise TokenRefused("iat: it was not issued just now")
    if "nbf" in claims and _time(claims, "nbf") > now + LEEWAY:
        raise TokenRefused("nbf: it is not valid yet")
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise TokenRefused("nonce")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
        raise TokenRefused("sub")
    if not subject.isprintable():
        raise TokenRefused("sub")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(f"{name}: not a time")
    return value
