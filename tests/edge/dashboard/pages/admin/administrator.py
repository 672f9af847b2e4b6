"""An administrator's browser, and what its forms hold."""

import re
from hashlib import sha256
from itertools import count
from typing import Any

import msgspec

from edge.dashboard.app import DashboardApp
from middlewares.stores.sessions.base import Session
from tests.asgi import Recorded
from tests.edge.dashboard.visits import Browser, Site

_numbers = count(1)

ACTOR = "dashboard:admin-of-tests"


async def administrator(site: Site, **options: Any) -> Browser:
    """A browser with the session of an administrator."""
    value, now = f"session-{next(_numbers)}", site.clock()
    hashed = site.parts.settings.dashboard.admin_password
    session = Session(
        digest=sha256(value.encode()).digest(),
        how="password",
        role="admin",
        bound_to=b"" if hashed is None else sha256(hashed.reveal().encode()).digest(),
        subject="admin-of-tests",
        name="Admin",
        created_at=now,
        seen_at=now,
        expires_at=now + 3600,
    )
    await site.sessions.insert(session)
    browser = site.browser(**options)
    browser.cookies["__Host-penstock"] = value
    return browser


def value(page: Recorded, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found is not None, f"no field {name} in {page.text}"
    return found[1]


def secret_of(page: Recorded) -> str:
    """The secret that a page shows."""
    found = re.search(r'<code id="secret"[^>]*>([^<]+)<', page.text)
    assert found is not None, page.text
    return found[1]


def with_parts(site: Site, **changes: Any) -> None:
    """Give the dashboard of a site other parts."""
    site.parts = msgspec.structs.replace(site.parts, **changes)
    dashboard = DashboardApp(site.parts)
    app = site.app
    while hasattr(app, "app"):
        if isinstance(app.app, DashboardApp):
            app.app = dashboard
            return
        app = app.app
