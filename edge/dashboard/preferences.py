"""Theme and time zone of a browser, in a cookie that holds nothing else."""

import re
from typing import Literal, get_args

import msgspec

from middlewares.asgi import Scope

from .sessions.cookies import cookie

COOKIE = "penstock-preferences"
_YEAR = 365 * 86400
Theme = Literal["system", "light", "dark"]
Times = Literal["local", "utc"]
_VALUE = re.compile(r"(system|light|dark)\.(local|utc)").fullmatch


class Preferences(msgspec.Struct, frozen=True):
    """What a browser wants. times: the zone in which moments are shown."""

    theme: Theme = "system"
    times: Times = "local"

    @property
    def set_cookie(self) -> str:
        """The value of a `set-cookie` header."""
        return (
            f"{COOKIE}={self.theme}.{self.times}; Path=/; Max-Age={_YEAR}; HttpOnly; SameSite=Lax"
        )


def preferences_of(scope: Scope) -> Preferences:
    """The preferences in the request; the defaults where they cannot be read."""
    match = _VALUE(cookie(scope, COOKIE) or "")
    return Preferences() if match is None else read_preferences(match[1], match[2])


def read_preferences(theme: str, times: str) -> Preferences:
    """Preferences from texts; anything unknown is the default."""
    default = Preferences()
    return Preferences(
        next((one for one in get_args(Theme) if one == theme), default.theme),
        next((one for one in get_args(Times) if one == times), default.times),
    )
