"""Tables of the dashboard's sign-in by OpenID Connect."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from edge.config.secrets import Secret


class AutoCreateConfig(Struct, frozen=True, kw_only=True):
    """Keys that people who sign in by OpenID Connect may create for themselves."""

    plan: Annotated[str, Meta(description="Plan of these keys.")]
    team: Annotated[
        str | None,
        Meta(
            pattern="^team_[A-Za-z0-9]{20}$",
            description="Id of the team of these keys. Unless given they have none.",
            extra={"expected": 'the id of a team, such as "team_8Zq1mB0xkQ3vT7uLw2Rc"'},
        ),
    ] = None
    keys: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Most keys of one person. A revoked key does not count, unless it was "
            "disabled.",
        ),
    ] = 3


class OidcConfig(Struct, frozen=True, kw_only=True):
    """Sign-in to the dashboard by a provider of OpenID Connect."""

    issuer: Annotated[
        str,
        Meta(
            description='Issuer of the provider, exactly as it names itself: "https://login.'
            'example.com/realms/staff". Its discovery document has to be there.'
        ),
    ]
    name: Annotated[
        str,
        Meta(min_length=1, max_length=40, description="Name of the provider on the sign-in page."),
    ] = "single sign-on"
    client_id: Annotated[str, Meta(min_length=1, description="Id of this gateway there.")]
    client_secret: Annotated[
        Secret | None,
        Meta(
            description='Secret of this gateway there: "env:OIDC_SECRET" or "file:/run/secrets/'
            'oidc". Unless given it is a public client, which PKCE alone protects.'
        ),
    ] = None
    scopes: Annotated[
        tuple[str, ...],
        Meta(description='Scopes that are asked for; "openid" is one of them.'),
    ] = ("openid", "profile", "email")
    groups_claim: Annotated[
        str,
        Meta(
            min_length=1,
            description='Claim of the ID token with the groups of a person: "groups", or a path '
            'such as "realm_access.roles".',
        ),
    ] = "groups"
    admin_groups: Annotated[
        tuple[str, ...],
        Meta(
            description="Groups whose members are administrators, from `dashboard.admin_networks`. "
            "None unless given."
        ),
    ] = ()
    owner_claim: Annotated[
        str,
        Meta(
            min_length=1,
            description="Claim that says whose keys a person sees: those whose owner is its value. "
            'With "sub" the owner is `ISSUER|SUB`, which no other person has. Name another claim '
            'only if people cannot change it themselves; "email" counts only if it is verified.',
        ),
    ] = "sub"
    allowed_domains: Annotated[
        tuple[str, ...],
        Meta(
            description="Domains of e-mail addresses that may sign in; the provider has to say "
            "that the address is verified. All unless given."
        ),
    ] = ()
    auto_create: Annotated[
        AutoCreateConfig | None,
        Meta(
            description="Let people create keys of a plan for themselves. Unless given an operator "
            "makes keys for them."
        ),
    ] = None
    ca: Annotated[
        Path | None,
        Meta(
            description="PEM file of the only authorities to trust for the provider, in place of "
            "the system's."
        ),
    ] = None
