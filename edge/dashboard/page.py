"""Rows of the page table."""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from starlette.responses import Response

if TYPE_CHECKING:
    from .request import DashboardRequest

JOBS = ("videos", "videos.generations", "music.generations")
"""Endpoints that make jobs."""
FILES = ("files", "uploads", "images.generations", "images.edits", *JOBS)
"""Endpoints that take or make files."""

Allowed = Literal["anyone", "holder", "admin"]
Handler = Callable[["DashboardRequest"], Awaitable[Response]]

ANYONE: tuple[Allowed, ...] = ("anyone",)
HOLDERS: tuple[Allowed, ...] = ("holder",)
ADMINS: tuple[Allowed, ...] = ("admin",)
EVERYONE: tuple[Allowed, ...] = ("anyone", "holder", "admin")
SIGNED_IN: tuple[Allowed, ...] = ("holder", "admin")


class Page(NamedTuple):
    """One page, or one action of a page.

    path: `{name}` stands for one part, which the handler finds in `request.params`.
    methods: without HEAD, which is answered wherever GET is. GET changes nothing.
    roles: who may open it; for others that are signed in there is nothing at this path.
    nav: its name in the navigation; "" for a page that is reached from others.
    endpoints: it is about what one of these makes or takes: where the gateway offers none of them,
        the navigation leaves it out.
    """

    path: str
    methods: tuple[str, ...]
    roles: tuple[Allowed, ...]
    handler: Handler
    nav: str = ""
    endpoints: Collection[str] = ()


_PART = re.compile(r"\{(\w+)\}")


class PageTable:
    """Finds pages by path. Raises ValueError for two rows with the same path and method."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.pages = tuple(pages)
        self._exact: dict[str, list[Page]] = {}
        self._patterns: list[tuple[re.Pattern[str], list[Page]]] = []
        by_path: dict[str, list[Page]] = {}
        for page in self.pages:
            others = by_path.setdefault(page.path, [])
            taken = {method for other in others for method in other.methods}
            if twice := taken.intersection(page.methods):
                raise ValueError(f"{page.path}: two rows for {', '.join(sorted(twice))}")
            others.append(page)
        for path, rows in by_path.items():
            if "{" in path:
                parts = (re.escape(text) for text in _PART.split(path)[::2])
                names = _PART.findall(path)
                pattern = next(parts)
                for name, rest in zip(names, parts, strict=True):
                    pattern += rf"(?P<{name}>[^/]{{1,200}}){rest}"
                self._patterns.append((re.compile(pattern), rows))
            else:
                self._exact[path] = rows

    def find(self, path: str) -> tuple[Sequence[Page], dict[str, str]]:
        """The rows of a path, one for each set of methods, and the named parts of the path."""
        rows = self._exact.get(path)
        if rows is not None:
            return rows, {}
        for pattern, patterned in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return patterned, match.groupdict()
        return (), {}
