"""Style sheets and scripts, under names that contain their hash."""

import gzip
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "static"
PREFIX = "/app/static/"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


class StaticFile(msgspec.Struct, frozen=True):
    """One file. name: with its hash, as in its URL."""

    name: str
    media_type: str
    body: bytes
    packed: bytes


@cache
def static_files() -> dict[str, StaticFile]:
    """All files by name with hash. Read once for each process."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            stem = path.relative_to(FOLDER).as_posix().removesuffix(path.suffix).replace("/", "-")
            name = f"{stem}.{sha256(body).hexdigest()[:16]}{path.suffix}"
            packed = gzip.compress(body, 6, mtime=0)
            found[name] = StaticFile(name, _TYPES[path.suffix], body, packed)
    return found


@cache
def static_url(name: str) -> str:
    """The URL of a file such as "app.css" or "vendor/htmx.min.js". Raises KeyError."""
    path = FOLDER / name
    stem = name.removesuffix(path.suffix).replace("/", "-")
    start = f"{stem}."
    for hashed in static_files():
        rest = hashed.removeprefix(start)
        if rest != hashed and rest[16:] == path.suffix:
            return PREFIX + hashed
    raise KeyError(name)
