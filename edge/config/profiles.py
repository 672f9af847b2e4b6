"""The profiles that come with Penstock, and the tour that the demo gives of each.

A wheel has them as `edge/profiles`, a clone as `config/profiles`. The tour of a profile is in
`tours/NAME.toml` beside it.
"""

import tomllib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import msgspec

_CLONE = Path(__file__).parents[2] / "config/profiles"


class UnknownProfile(ValueError):
    """There is no profile with this name; the message names those that there are."""


class FirstCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The streamed call that the demo makes, of Chat Completions or Messages.

    shown: the headers of the answer that are printed.
    """

    says: str
    path: str
    model: str
    prompt: str
    members: dict[str, Any] = {}
    shown: tuple[str, ...] = ("x-request-id", "x-model-used", "server-timing")


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines for a POSIX shell; `{url}` and `{key}` stand for those of the demo."""

    says: str
    run: str


class Tour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the demo shows of a profile. owner, credits: of the key that it makes."""

    first: FirstCall
    commands: tuple[Command, ...]
    owner: str = ""
    credits: str = ""


def names() -> tuple[str, ...]:
    """All profiles, in alphabetical order."""
    found = (file.name for file in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def text(name: str) -> str:
    """The file of a profile. Raises UnknownProfile."""
    if name not in (known := names()):
        raise UnknownProfile(f"there is no profile {name!r}; expected one of {', '.join(known)}")
    return (_folder() / f"{name}.toml").read_text("utf-8")


def document(name: str) -> dict[str, Any]:
    """The content of a profile's file. Raises UnknownProfile."""
    return tomllib.loads(text(name))


def tour(name: str) -> Tour:
    """The tour of a profile that there is."""
    written = (_folder() / "tours" / f"{name}.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(written), Tour)


@cache
def _folder() -> Traversable:
    installed = files("edge") / "profiles"
    return installed if installed.is_dir() else _CLONE
