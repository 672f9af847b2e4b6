"""Table of the dashboard: where it is, who may open it and how they sign in."""

from typing import Annotated

from msgspec import Meta, Struct

from edge.config.secrets import HttpUrl, PasswordHash
from edge.config.units import Network

from .oidc import OidcConfig
from .server import PRIVATE_NETWORKS


class DashboardConfig(Struct, frozen=True, kw_only=True):
    """The pages below /app."""

    enabled: Annotated[
        bool,
        Meta(
            description="Serve the dashboard below /app. Holders of keys sign in with their key; "
            "the page at / is served in any case."
        ),
    ] = True
    public_url: Annotated[
        HttpUrl | None,
        Meta(
            description='URL at which browsers reach the dashboard: "https://llm.example.com". '
            "`server.public_url` unless given, else the `x-forwarded-host` and "
            "`x-forwarded-proto` of a proxy in `server.trusted_proxies`. Only localhost needs none."
        ),
    ] = None
    networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks that may open the dashboard; for others there is nothing at "
            "/app. All unless given."
        ),
    ] = ()
    admin_networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks from which administrators may sign in and work. Loopback, "
            "private, shared and link-local ranges unless given. Behind a reverse proxy name it in "
            "`server.trusted_proxies`, or no administrator can sign in."
        ),
    ] = PRIVATE_NETWORKS
    insecure_http: Annotated[
        bool,
        Meta(
            description="Let people sign in over plain http from other machines. Their key and "
            "session can then be read on the way. Needs `public_url`."
        ),
    ] = False
    self_service: Annotated[
        bool,
        Meta(
            description="Let the holder of a key see the other keys of its owner, and create keys "
            "for this owner that may do no more than the key that was signed in with."
        ),
    ] = False
    admin_password: Annotated[
        PasswordHash | None,
        Meta(
            description="Hash of the administrators' password, made by `penstock admin-password`: "
            '"env:PENSTOCK_ADMIN_PASSWORD" or "file:/run/secrets/admin-password". Unless given '
            "no password opens the pages of administrators."
        ),
    ] = None
    oidc: Annotated[
        OidcConfig | None,
        Meta(description="Sign-in by a provider of OpenID Connect."),
    ] = None
