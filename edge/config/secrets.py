"""Secrets, locations of stores, provider URLs and files of a configuration.

Each of them may contain a credential: messages do not repeat the value, and what is shown of it
hides the credential. `References` resolves `env:NAME` and `file:PATH`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import ClassVar, Self
from urllib.parse import urlsplit

from .units import Schema

_VISIBLE = re.compile(r"[!-~]+")
_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{1,9}),t=([1-9]\d{0,9}),p=([1-9]\d{0,7})"
    r"\$[A-Za-z0-9+/]{11,128}\$[A-Za-z0-9+/]{16,128}",
    re.ASCII,
)

MEMORY, TIME, LANES = 19_456, 2, 1
"""KiB, passes and lanes of argon2id, as OWASP's Password Storage Cheat Sheet has them."""
_MOST_WORK = (1 << 20, 64, 16)
"""The most of each that a hash may take."""


class Secret:
    """A text that shows itself as `***` everywhere but in `reveal()`.

    It is `***` in repr, str, format, logs, JSON and pickles, so that a configuration that is
    dumped, logged or sent to another process does not contain it.
    """

    __slots__ = ("_text",)
    expected: ClassVar[str] = '"env:NAME", "file:PATH" or the text itself'
    schema: ClassVar[Schema] = {"type": "string", "minLength": 1}

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, value: object) -> Self:
        """A secret given literally; `References.resolve` reads the `env:` and `file:` forms."""
        if not isinstance(value, str) or not value:
            raise ValueError(f"expected {cls.expected}")
        return cls(value)

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret('***')"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> tuple[type["Secret"], tuple[str]]:
        return (Secret, ("***",))

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)


class PasswordHash(Secret):
    """An argon2id hash of a password, in the PHC string format. Never given literally: a hash in a
    configuration file would be read, copied and attacked along with it."""

    __slots__ = ()
    expected: ClassVar[str] = (
        '"env:NAME" or "file:PATH" of a hash that `penstock admin-password` printed'
    )
    schema: ClassVar[Schema] = {"type": "string", "pattern": "^(env|file):."}

    @classmethod
    def parse(cls, value: object) -> Self:
        """A hash that a reference was resolved to. A plain text password is refused."""
        found = _ARGON2ID.fullmatch(value) if isinstance(value, str) else None
        if not isinstance(value, str) or found is None:
            raise ValueError(
                "must be an argon2id hash, not a password; make it with `penstock admin-password`"
            )
        if any(int(given) > most for given, most in zip(found.groups(), _MOST_WORK, strict=True)):
            raise ValueError("takes more than 1 GiB, 64 passes or 16 lanes for each attempt")
        return cls(value)

    @property
    def weak(self) -> bool:
        """Whether it takes less work to guess than a hash that `penstock admin-password` makes."""
        found = _ARGON2ID.fullmatch(self.reveal())
        return found is None or int(found[1]) < MEMORY or int(found[2]) < TIME


class Location(str):
    """The URL of a store. A plain string whose repr hides a password."""

    __slots__ = ()
    expected: ClassVar[str] = 'a location, or "env:NAME" for the variable that holds it'
    schema: ClassVar[Schema] = {"type": "string", "minLength": 1}

    @classmethod
    def parse(cls, value: object) -> Self:
        """A non-empty line of visible text."""
        if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
            raise ValueError(f"expected {cls.expected}")
        return cls(value)

    def under(self, directory: Path) -> Self:
        """The location with a relative path, after `sqlite:///` or `file:`, resolved against
        `directory`. Other locations are returned unchanged."""
        for scheme in ("sqlite:///", "file:"):
            path = self.removeprefix(scheme)
            if path != self and path and path != ":memory:":
                return type(self)(f"{scheme}{directory / Path(path).expanduser()}")
        return self

    @property
    def shown(self) -> str:
        """The URL with `***` for its password and without its query, for people and logs.

        Everything before the last @ is hidden, since a password may have any characters.
        """
        scheme, found, rest = str(self).partition("://")
        if not found:
            scheme, rest = "", scheme
        _, at, rest = rest.rpartition("@")
        rest = rest.partition("?")[0].partition("#")[0]
        return f"{scheme}{found}{'***@' if at else ''}{rest}"

    def __repr__(self) -> str:
        return f"Location({self.shown!r})"


class HttpUrl(str):
    """Base URL of an HTTP API: scheme, host, optional port and path, without a slash at its end."""

    __slots__ = ()
    expected: ClassVar[str] = 'a URL such as "https://api.example.com/v1"'
    schema: ClassVar[Schema] = {"type": "string", "pattern": r"^https?://[^\s?#@]+$"}

    @classmethod
    def parse(cls, value: object) -> Self:
        """An http or https URL without credentials, query or fragment. Nothing of it is echoed."""
        if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
            raise ValueError(f"expected {cls.expected}")
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError(f"expected {cls.expected}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected {cls.expected}, with http or https and a host")
        if "@" in parts.netloc:
            raise ValueError("must not carry credentials; upstreams have api_key and headers")
        if "?" in value or "#" in value:
            raise ValueError("must not carry a query or a fragment; upstreams have query")
        return cls(value.rstrip("/"))


class References:
    """Resolves references of a configuration to environment variables and files.

    Relative paths are relative to `directory`, the folder of the configuration file.
    """

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        self._env = env
        self._directory = directory

    def resolve(self, value: object) -> object:
        """The text that `env:NAME` or `file:PATH` refers to. Other values are returned unchanged.

        Raises ValueError that names the variable or file, never its content.
        """
        if not isinstance(value, str):
            return value
        scheme, _, name = value.partition(":")
        if scheme == "env":
            if not self._env.get(name):
                state = "is empty" if name in self._env else "is not set"
                raise ValueError(f"environment variable {name} {state}")
            return self._env[name]
        if scheme == "file":
            try:
                text = self.path(name).read_text("utf-8").rstrip("\r\n")
            except OSError as error:
                raise ValueError(f"file {name} cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ValueError(f"file {name} is not UTF-8 text") from None
            if not text:
                raise ValueError(f"file {name} is empty")
            return text
        return value

    def secret(self, value: object) -> Secret:
        """A secret, given literally or as a reference."""
        return Secret.parse(self.resolve(value))

    def password(self, value: object) -> PasswordHash:
        """A hash of a password, given as a reference."""
        if not isinstance(value, str) or not value.startswith(("env:", "file:")):
            raise ValueError(f"expected {PasswordHash.expected}")
        return PasswordHash.parse(self.resolve(value))

    def location(self, value: object) -> Location:
        """A location, given literally or as `env:NAME`. `file:` is a location, no reference."""
        by_name = isinstance(value, str) and value.startswith("env:")
        return Location.parse(self.resolve(value) if by_name else value)

    def path(self, value: object) -> Path:
        """A path relative to the configuration file. It need not exist."""
        if not isinstance(value, str) or not value:
            raise ValueError("expected the path of a file")
        return self._directory / Path(value).expanduser()

    def existing(self, value: object) -> Path:
        """A path that is a readable file."""
        path = self.path(value)
        if reason := unreadable(path):
            raise ValueError(f"file {path} cannot be read: {reason}")
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path


def unreadable(path: Path) -> str | None:
    """Why an existing file cannot be read, such as "Permission denied". None when it can be read,
    does not exist or is not a file. Never blocks: a pipe is not opened."""
    try:
        if S_ISREG(path.stat().st_mode):
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a path may have a null in it
        return None
    except OSError as error:
        return error.strerror
    return None
