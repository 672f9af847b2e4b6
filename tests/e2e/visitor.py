"""A browser without scripts, signed in to the dashboard of a gateway by a key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from .program import DEADLINE, Gateway

_COOKIE = "__Host-penstock"


class BrowserVisitor(httpx.Client):
    """Sends what browsers send with forms of our own pages."""

    def ask(self, dialect: str, user: str, **fields: Any) -> httpx.Response:
        """The page that answers the playground's form."""
        return self.post("/app/playground", data=prompt(dialect, user, **fields))

    def asking(self, dialect: str, user: str, **fields: Any) -> Any:
        """The stream that the playground's script reads; a context manager."""
        headers = {"accept": "text/event-stream", "hx-request": "true"}
        data = prompt(dialect, user, **fields)
        return self.stream("POST", "/app/playground", data=data, headers=headers)


@contextmanager
def signed_in(gateway: Gateway, secret: str) -> Iterator[BrowserVisitor]:
    """A new session of the key."""
    with BrowserVisitor(
        base_url=gateway.url,
        headers={"sec-fetch-site": "same-origin"},
        trust_env=False,
        timeout=DEADLINE,
    ) as visitor:
        answer = visitor.post("/app/sign-in", data={"key": secret})
        assert answer.status_code == 303, answer.text
        session = answer.headers["set-cookie"].partition(";")[0]
        assert session.startswith(f"{_COOKIE}="), session
        visitor.headers["cookie"] = session  # over http, cookies that are `Secure` are not sent
        yield visitor


def prompt(dialect: str, user: str, **fields: Any) -> dict[str, Any]:
    """The fields of the form."""
    return {"model": "chat", "dialect": dialect, "system": "", "user": user, **fields}
