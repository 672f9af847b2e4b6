"""The session cookie."""

from middlewares.asgi import Scope

SECURE = "__Host-penstock"
"""Name where browsers keep `Secure` cookies. The prefix binds it to this host and to https."""
PLAIN = "penstock"
"""Name over plain http from other machines, which `dashboard.insecure_http` allows."""


def cookie(scope: Scope, name: str) -> str | None:
    """The value of a cookie; None if it is missing, or there more than once."""
    found = []
    for header, value in scope["headers"]:
        if header == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, equals, text = pair.strip().partition("=")
                if equals and key == name:
                    found.append(text)
    return found[0] if len(found) == 1 else None


def session_cookie(value: str, *, secure: bool) -> str:
    """The `set-cookie` header of a session; an empty value removes the cookie."""
    name = f"{SECURE}={value}; Secure" if secure else f"{PLAIN}={value}"
    ends = "" if value else "; Max-Age=0"
    return f"{name}; HttpOnly; SameSite=Lax; Path=/{ends}"
