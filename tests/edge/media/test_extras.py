"""Warnings about packages that are not installed."""

import sys
from typing import Any

import pytest

from edge.config.load import parse
from edge.media import extras
from edge.media.extras import missing_extras

MODEL = {"id": "eye", "targets": ["s/sim-eye"], "modalities": ["text", "image"]}
DOCUMENT: dict[str, Any] = {
    "upstreams": [{"name": "s", "dialect": "simulator"}, {"name": "l", "dialect": "local-media"}],
    "models": [MODEL],
    "media": {"image": "eye"},
}


def warnings(document: dict[str, Any] = DOCUMENT) -> list[str]:
    return list(missing_extras(parse(document, env={})))


def test_missing_extras_everything_installed_is_silent() -> None:
    assert warnings() == []


@pytest.mark.parametrize(
    ("library", "sentence"),
    [
        (
            "PIL",
            "media: images cannot be decoded without Pillow: pip install 'penstock[media]'",
        ),
        (
            "pypdfium2",
            "media: PDF files cannot be decoded without pypdfium2: pip install 'penstock[media]'",
        ),
        (
            "hibari",
            "upstreams[1].dialect: the local models need hibari: "
            "pip install 'penstock[media,local-media]'",
        ),
    ],
)
def test_missing_extras_names_what_to_install(
    library: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert warnings() == [sentence]


def test_missing_extras_old_ffmpeg_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "FFMPEG_CHECK", "raise SystemExit(1)")
    assert "FFmpeg has known security holes" in warnings()[0]


def test_missing_extras_without_media_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("PIL", "av", "hibari"):
        monkeypatch.setitem(sys.modules, library, None)
    assert warnings({"upstreams": DOCUMENT["upstreams"][:1], "models": [MODEL]}) == []
