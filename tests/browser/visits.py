"""Which pages there are, for whom, and where each has an example: from the table of pages."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edge.dashboard.page import Page
from edge.dashboard.pages import PAGES

from .populated import Populated

Example = Callable[[Populated], str]

EXAMPLES: Mapping[str, Example] = {
    "/app/requests/{id}": lambda gateway: f"/app/requests/{gateway.request_id}",
    "/app/api-keys/{id}": lambda gateway: f"/app/api-keys/{gateway.ids[gateway.holder]}",
    "/app/files/{id}/content": lambda gateway: f"/app/files/{gateway.file_id}/content",
    "/app/files/{id}/delete": lambda gateway: f"/app/files/{gateway.file_id}/delete",
    "/app/admin/keys/{id}": lambda gateway: f"/app/admin/keys/{gateway.ids[gateway.holder]}",
    "/app/admin/keys/{id}/edit": lambda gateway: (
        f"/app/admin/keys/{gateway.ids[gateway.holder]}/edit"
    ),
    "/app/admin/teams/{id}": lambda gateway: (
        f"/app/admin/teams/{next(iter(gateway.teams.values()))}"
    ),
    "/app/admin/teams/{id}/edit": lambda gateway: (
        f"/app/admin/teams/{next(iter(gateway.teams.values()))}/edit"
    ),
    "/app/admin/requests/{id}": lambda gateway: f"/app/admin/requests/{gateway.request_id}",
}
"""For each path with a part in braces, one that exists and that the holder may open."""

NO_PAGES = frozenset(
    (
        "/app/usage.csv",
        "/app/overview/live",
        "/app/admin/live",
        "/app/admin/usage.csv",
        "/app/files/{id}/content",
    )
)
"""Paths that answer GET with something else: files, and parts of a page that htmx asks for."""

ELSEWHERE = frozenset(("/app/oidc/start", "/app/oidc/callback"))
"""Paths that lead to an identity provider and back, which has tests of its own."""

NO_KEY = ("/app/admin", "/app/account")
"""Beginnings of paths that administrators open without the key whose page it is."""


class Visit(NamedTuple):
    """A page as one role opens it. pattern: its path in the table."""

    pattern: str
    role: str

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.role}-{self.pattern.strip('/').translate(_PLAIN) or 'home'}"

    def path(self, gateway: Populated) -> str:
        """Where it is. Raises KeyError for a pattern without an example."""
        path = EXAMPLES[self.pattern](gateway) if "{" in self.pattern else self.pattern
        if self.role == "admin" and not path.startswith(NO_KEY):
            path += f"?key={gateway.ids[gateway.holder]}"
        return path


_PLAIN = str.maketrans({"/": "-", "{": "", "}": "", ".": "-"})


def visits(pages: tuple[Page, ...] = PAGES) -> list[Visit]:
    """Every page for every role that may open it."""
    return [
        Visit(page.path, role)
        for page in pages
        if "GET" in page.methods and page.path not in NO_PAGES | ELSEWHERE
        for role in page.roles
    ]
