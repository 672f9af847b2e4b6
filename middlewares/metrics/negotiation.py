"""The form of a scrape that a client accepts: text or OpenMetrics, compressed or not."""

from collections.abc import Iterator
from typing import NamedTuple

_OPENMETRICS = "application/openmetrics-text"
_VERSIONS = ("1.0.0", "0.0.1")
"""Versions of OpenMetrics, the preferred one first. What is written is valid in both."""
_TEXT_VERSIONS = ("", "0.0.4", "1.0.0")


class Form(NamedTuple):
    """openmetrics: the version, "" for the text format of Prometheus."""

    openmetrics: str = ""
    gzip: bool = False

    @property
    def content_type(self) -> str:
        if self.openmetrics:
            return f"{_OPENMETRICS}; version={self.openmetrics}; charset=utf-8"
        return "text/plain; version=0.0.4; charset=utf-8"


def negotiate(accept: str, accept_encoding: str = "") -> Form:
    """The form for these headers (RFC 9110, 12.5), with several of a name joined by commas.

    OpenMetrics only for those who name it; text for all who accept neither, as Prometheus does.
    """
    openmetrics: dict[str, float] = {}
    text = 0.0
    for name, parameters, quality in _choices(accept):
        version = parameters.get("version", "")
        if name == _OPENMETRICS:
            if version in ("", *_VERSIONS):
                version = version or _VERSIONS[0]
                openmetrics[version] = max(quality, openmetrics.get(version, 0.0))
        elif name == "text/plain":
            if version in _TEXT_VERSIONS:
                text = max(text, quality)
        elif name in ("text/*", "*/*"):
            text = max(text, quality)
    best = max(_VERSIONS, key=lambda version: openmetrics.get(version, 0.0))
    quality = openmetrics.get(best, 0.0)
    return Form(best if quality and quality >= text else "", _accepts_gzip(accept_encoding))


def _accepts_gzip(accept_encoding: str) -> bool:
    given = {name: quality for name, _, quality in _choices(accept_encoding)}
    return given.get("gzip", given.get("*", 0.0)) > 0


def _choices(value: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, parameters and quality of each element of a header, in lower case."""
    for element in value.lower().split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        if name:
            pairs = (part.partition("=") for part in rest)
            parameters = {key.strip(): text.strip().strip('"') for key, _, text in pairs}
            yield name, parameters, _quality(parameters.get("q", "1"))


def _quality(text: str) -> float:
    """A quality from 0 to 1; 0 for what is none."""
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
