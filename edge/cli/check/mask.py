"""Secrets of a configuration, masked in every text that a check prints."""

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import msgspec

from edge.config.load import Settings
from edge.config.secrets import Location, Secret
from edge.observability.log_text import shown
from edge.vendors.errors.redact import redacted

LONGEST = 400
"""Characters of a detail or a hint."""
_MASKED = "***"
_SHORTEST = 4
_SHORTEST_OF_MANY = 8
"""Characters of a value of a mapping, such as a header, which may be a plain word."""
_KEPT_PARAMETERS = frozenset(("sslmode", "db", "host", "port", "dbname", "ssl_cert_reqs"))
_VARIABLE = re.compile(r"HEADERS|SECRET|ACCESS_KEY|_KEY$|TOKEN|PASSWORD", re.IGNORECASE)
"""Variables from which clients of buckets and of the collector read credentials."""


class Mask:
    """Replaces every secret of `settings`, in each form that a text may hold it, by `***`.

    Other texts that look like a key are shortened too, control characters are escaped, and a text
    is at most `LONGEST` characters.
    """

    def __init__(self, settings: Settings, env: Mapping[str, str] = os.environ) -> None:
        found = {form for secret in _secrets(settings, env) for form in _forms(secret)}
        # The longest first, since one may be the beginning of another.
        self._secrets = sorted((one for one in found if len(one) >= _SHORTEST), key=len)[::-1]

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _MASKED)
        return shown(redacted(" ".join(text.split())), LONGEST)


def _secrets(value: object, env: Mapping[str, str]) -> Iterator[str]:
    yield from _of(value)
    for name, text in env.items():
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "OTEL_")) and _VARIABLE.search(name):
            yield text
            yield from (one for one in _of_pairs(text) if len(one) >= _SHORTEST_OF_MANY)


def _of(value: object) -> Iterator[str]:
    if isinstance(value, Secret):
        text = value.reveal()
        yield text
        yield from _of_url(text)
        yield text.rpartition(" ")[2]
    elif isinstance(value, Location):
        yield from _of_url(value)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _of(getattr(value, name))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from (text for text in _of(one) if len(text) >= _SHORTEST_OF_MANY)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _of(one)


def _of_pairs(text: str) -> Iterator[str]:
    """The values of `name=value,name=value`, the form of headers in the environment."""
    for pair in text.split(","):
        value = pair.partition("=")[2].strip()
        for form in (value, unquote(value)):
            yield from (form, form.rpartition(" ")[2])


def _of_url(text: str) -> Iterator[str]:
    """The password and the parameters of a URL."""
    rest = text.partition("://")[2]
    if not rest:
        return
    before = rest.rpartition("@")[0]
    yield from filter(None, (before.partition(":")[2], unquote(before.partition(":")[2])))
    try:
        query = urlsplit(text).query
    except ValueError:
        return
    for name, value in parse_qsl(query):
        if name not in _KEPT_PARAMETERS:
            yield value


def _forms(secret: str) -> Iterator[str]:
    yield secret
    quoted = msgspec.json.encode(secret).decode()[1:-1]
    yield from (quoted, quoted.replace("/", "\\/"), repr(secret)[1:-1])
    yield from (quote(secret), quote(secret, safe=""), quote_plus(secret))
