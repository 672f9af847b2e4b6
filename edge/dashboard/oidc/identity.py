"""Who signed in: role, owner and name, from the claims of a verified ID token."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from edge.config.load import Settings
from edge.config.model import AutoCreateConfig, OidcConfig
from edge.dashboard.visitor import Visitor
from middlewares.stores.sessions.base import Role

_LONGEST = 512
"""Characters of an owner, as of a key's."""
_LONGEST_NAME = 100


class NotAdmitted(Exception):
    """Someone whom the configuration does not let in. The message is for the log."""


class Identity(msgspec.Struct, frozen=True):
    """subject: issuer and subject, which name one person for ever. owner: of whose keys the person
    is the holder. role: what the groups give, wherever the person is."""

    subject: str
    owner: str
    name: str
    role: Role


def identity_of(claims: Mapping[str, Any], config: OidcConfig) -> Identity:
    """Raises NotAdmitted."""
    if config.allowed_domains:
        domain = (_email(claims) or "").rpartition("@")[2].lower()
        if domain not in config.allowed_domains:
            raise NotAdmitted("no verified e-mail address in dashboard.oidc.allowed_domains")
    subject = f"{config.issuer}|{claims['sub']}"
    admin = not _groups(claims, config.groups_claim).isdisjoint(config.admin_groups)
    return Identity(
        subject=subject,
        owner=_owner(claims, config.owner_claim, subject),
        name=_name(claims),
        role="admin" if admin else "holder",
    )


def rules_digest(config: OidcConfig) -> bytes:
    """SHA-256 of who may sign in and as what. Sessions opened by other rules end."""
    rules = (
        config.issuer,
        config.client_id,
        config.groups_claim,
        sorted(config.admin_groups),
        config.owner_claim,
        sorted(config.allowed_domains),
    )
    return sha256(msgspec.json.encode(rules)).digest()


def allowed_for(visitor: Visitor, settings: Settings) -> AutoCreateConfig | None:
    """The keys that a visitor may create for themselves; None: none."""
    oidc = settings.dashboard.oidc
    by_oidc = visitor.how == "oidc" and bool(visitor.owner)
    return oidc.auto_create if oidc is not None and by_oidc else None


def _owner(claims: Mapping[str, Any], claim: str, subject: str) -> str:
    if claim == "sub":
        owner: Any = subject
    elif claim == "email":
        owner = _email(claims)
    else:
        owner = _claim(claims, claim)
    if not isinstance(owner, str) or not owner.strip() or not owner.isprintable():
        raise NotAdmitted(f"no text in the claim {claim}, or an address that is not verified")
    if len(owner) > _LONGEST:
        raise NotAdmitted(f"more than {_LONGEST} characters in the claim {claim}")
    return owner


def _email(claims: Mapping[str, Any]) -> str | None:
    """The address, if the provider says that it is the person's."""
    email = claims.get("email")
    verified = claims.get("email_verified") is True
    return email if verified and isinstance(email, str) and "@" in email else None


def _groups(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    found = _claim(claims, claim)
    given = found if isinstance(found, list) else [found]
    return frozenset(one for one in given if isinstance(one, str))


def _claim(claims: Mapping[str, Any], claim: str) -> Any:
    """A claim by its name, which may contain points, or by a path of names."""
    if claim in claims:
        return claims[claim]
    value: Any = claims
    for part in claim.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _name(claims: Mapping[str, Any]) -> str:
    for claim in ("name", "preferred_username", "email", "sub"):
        text = claims.get(claim)
        if isinstance(text, str) and (shown := "".join(c for c in text if c.isprintable()).strip()):
            return shown[:_LONGEST_NAME]
    return ""
