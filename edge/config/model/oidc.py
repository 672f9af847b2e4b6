"""Tables of the dashboard's sign-in by OpenID Connect."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from edge.config.secrets import Secret


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
    ca: Annotated[
        Path | None,
        Meta(
            description="PEM file of the only authorities to trust for the provider, in place of "
            "the system's."
        ),
    ] = None
