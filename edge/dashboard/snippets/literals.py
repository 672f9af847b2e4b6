"""Values as literals of the syntaxes that set-up text is written in."""

import json
from collections.abc import Mapping
from shlex import quote
from typing import Any


def string(value: str) -> str:
    """A string of JSON, JavaScript, Python and TOML, in double quotes.

    DEL is escaped for TOML, and the two line separators for JavaScript.
    """
    text = json.dumps(value, ensure_ascii=False)
    for character in "\x7f\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def document(value: Mapping[str, Any]) -> str:
    """A JSON file."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def word(value: str) -> str:
    """One word of a POSIX shell."""
    return quote(value)


def body(value: Mapping[str, Any]) -> str:
    """JSON on one line, as one word of a POSIX shell."""
    return quote(json.dumps(value, ensure_ascii=False))
