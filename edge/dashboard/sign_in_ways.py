"""How visitors can sign in from where they are."""

from typing import NamedTuple

from edge.config.model import OidcConfig
from edge.routing.router import allowed_from
from middlewares.asgi import Scope
from middlewares.exchange import exchange_of

from .parts import DashboardParts
from .sessions.sessions import Sessions


class SignInWays(NamedTuple):
    """key: with an API key. password: as administrator, from this address."""

    key: bool
    password: bool
    oidc: OidcConfig | None

    @property
    def some(self) -> bool:
        """Whether there is a way at all."""
        return self.key or self.password or self.oidc is not None


NOWHERE = SignInWays(False, False, None)


def has_dashboard(parts: DashboardParts, scope: Scope) -> bool:
    """Whether there are pages below /app for the client of a request."""
    dashboard = parts.settings.dashboard
    client = exchange_of(scope).client
    return dashboard.enabled and (
        not dashboard.networks or allowed_from(client, dashboard.networks)
    )


def sign_in_ways(parts: DashboardParts, sessions: Sessions, scope: Scope) -> SignInWays:
    """The ways of the client of a request."""
    if not has_dashboard(parts, scope):
        return NOWHERE
    dashboard = parts.settings.dashboard
    by_password = dashboard.admin_password is not None and sessions.admin_allowed(scope)
    return SignInWays(parts.directory is not None, by_password, dashboard.oidc)
