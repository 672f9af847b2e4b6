"""The type of a file, read from its first bytes and never believed from its sender."""

import codecs

OTHER = "application/octet-stream"
HEAD = 4096
"""First bytes of a file from which its type is read."""

_SAME = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
    "video/x-m4v": "video/mp4",
}
"""Other names of a type, and its usual one."""
_SERVED = ("image/", "audio/", "video/")
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\b\x1b")
_PLAIN = "text/plain"
_JSON = "application/json"


def kind_of(head: bytes, declared: str = "") -> str:
    """The type of a file that begins with `head`: an image, audio, video, PDF, JSON or plain text,
    else `OTHER`.

    declared: the type its sender named, which only distinguishes JSON from other text. Markup, such
    as HTML and SVG, is plain text: no browser may run it.
    """
    import filetype  # type: ignore[import-untyped]

    found = filetype.guess_mime(head)
    if found is not None:
        found = _SAME.get(found, found)
        return found if found.startswith(_SERVED) or found == "application/pdf" else OTHER
    if not _is_text(head):
        return OTHER
    named = declared.partition(";")[0].strip().lower()
    return _JSON if named == _JSON or named.endswith("+json") else _PLAIN


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters; a character may be cut at its end."""
    if not head or any(each < 32 and each not in _TEXT_CONTROLS for each in head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
