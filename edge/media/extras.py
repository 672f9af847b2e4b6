"""Packages that a configuration needs and this environment lacks."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from edge.config.load import Settings
from edge.upstreams.local_media.upstream import LocalMediaUnavailable, check_installed

from .decode.sandbox import INSTALL

FFMPEG_CHECK = "from edge.media.decode.tracks import check_version; check_version()"
"""Code that fails where FFmpeg has known holes."""
_DECODED = {"PIL": "images", "av": "audio and video", "pypdfium2": "PDF files"}


def missing_extras(settings: Settings) -> Iterator[str]:
    """Warnings about extras that are not installed, or whose FFmpeg has known security holes."""
    media = settings.media
    if any((media.image, media.audio, media.video, media.document)):
        for library, kinds in _DECODED.items():
            if find_spec(library) is None:
                yield f"media: {kinds} cannot be decoded without {INSTALL[library]}"
        if find_spec("av") is not None and not _ffmpeg_is_safe():
            yield (
                "media: audio and video are not decoded, as FFmpeg has known security holes: "
                "pip install --upgrade 'penstock[media]'"
            )
    for n, upstream in enumerate(settings.upstreams):
        if upstream.dialect == "local-media":
            try:
                check_installed()
            except LocalMediaUnavailable as error:
                yield f"upstreams[{n}].dialect: {error.reason}"


def _ffmpeg_is_safe() -> bool:
    """Asked in a process of its own: this one must not load FFmpeg."""
    command = (sys.executable, "-I", "-c", FFMPEG_CHECK)
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603
